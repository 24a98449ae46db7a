//! Requests typed by hand: one line, words separated by blanks, with the quoting rules of Redis (`sdssplitargs`).

use super::args::Span;

/// The line has a quote that does not close, or that closes inside a word.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct UnbalancedQuotes;

/// Splits `line` into words. Appends their bytes, with quotes and escapes resolved, to `text`, and their positions to
/// `spans`.
///
/// In double quotes `\n \r \t \b \a \xHH` are escapes, and a backslash before another byte yields that byte. In
/// single quotes only `\'` is an escape. A quote may open inside a word; a closed one must be followed by a blank or
/// the end of the line.
pub(super) fn split(line: &[u8], text: &mut Vec<u8>, spans: &mut Vec<Span>) -> Result<(), UnbalancedQuotes> {
    let mut rest = line;
    loop {
        let Some(begin) = rest.iter().position(|byte| !is_blank(*byte)) else { return Ok(()) };
        let start = text.len();
        rest = word(&rest[begin..], text)?;
        spans.push(Span::new(start, text.len() - start));
    }
}

/// Resolves the word at the start of `rest` and returns what follows it.
fn word<'a>(mut rest: &'a [u8], text: &mut Vec<u8>) -> Result<&'a [u8], UnbalancedQuotes> {
    while let [byte, after @ ..] = rest {
        match byte {
            b'"' => return closed(double_quoted(after, text)?),
            b'\'' => return closed(single_quoted(after, text)?),
            byte if is_blank(*byte) => break,
            byte => text.push(*byte),
        }
        rest = after;
    }
    Ok(rest)
}

/// Checks that a closing quote ends its word.
fn closed(rest: &[u8]) -> Result<&[u8], UnbalancedQuotes> {
    match rest.first() {
        Some(byte) if !is_blank(*byte) => Err(UnbalancedQuotes),
        _ => Ok(rest),
    }
}

fn double_quoted<'a>(mut rest: &'a [u8], text: &mut Vec<u8>) -> Result<&'a [u8], UnbalancedQuotes> {
    loop {
        let (byte, after) = match rest {
            [b'"', after @ ..] => return Ok(after),
            [b'\\', b'x', high, low, after @ ..] if high.is_ascii_hexdigit() && low.is_ascii_hexdigit() => {
                (hex(*high) << 4 | hex(*low), after)
            }
            [b'\\', escaped, after @ ..] => (unescape(*escaped), after),
            [byte, after @ ..] => (*byte, after),
            [] => return Err(UnbalancedQuotes),
        };
        text.push(byte);
        rest = after;
    }
}

fn single_quoted<'a>(mut rest: &'a [u8], text: &mut Vec<u8>) -> Result<&'a [u8], UnbalancedQuotes> {
    loop {
        let (byte, after) = match rest {
            [b'\'', after @ ..] => return Ok(after),
            [b'\\', b'\'', after @ ..] => (b'\'', after),
            [byte, after @ ..] => (*byte, after),
            [] => return Err(UnbalancedQuotes),
        };
        text.push(byte);
        rest = after;
    }
}

/// The blanks of C's `isspace`, which, unlike Rust's `is_ascii_whitespace`, include the vertical tab.
pub(super) fn is_blank(byte: u8) -> bool {
    matches!(byte, b' ' | b'\t'..=b'\r')
}

fn unescape(byte: u8) -> u8 {
    match byte {
        b'n' => b'\n',
        b'r' => b'\r',
        b't' => b'\t',
        b'b' => 0x08,
        b'a' => 0x07,
        other => other,
    }
}

/// The value of a hexadecimal digit.
fn hex(digit: u8) -> u8 {
    match digit {
        b'0'..=b'9' => digit - b'0',
        _ => (digit | 0x20) - b'a' + 10,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::resp::Args;

    fn words(line: &[u8]) -> Option<Vec<Vec<u8>>> {
        let (mut text, mut spans) = (Vec::new(), Vec::new());
        split(line, &mut text, &mut spans).ok()?;
        Some(Args::new(&text, &spans).iter().map(<[u8]>::to_vec).collect())
    }

    #[test]
    fn blanks_separate_words() {
        assert_eq!(words(b" \tSET  key\x0bvalue \r").unwrap(), [&b"SET"[..], b"key", b"value"]);
        assert!(words(b"").unwrap().is_empty());
        assert!(words(b" \t ").unwrap().is_empty());
    }

    #[test]
    fn double_quotes_resolve_escapes() {
        assert_eq!(
            words(br#"SET "a b" "\x41\xfF\n\r\t\b\a\"\\\q""#).unwrap()[1..],
            [&b"a b"[..], b"A\xff\n\r\t\x08\x07\"\\q"]
        );
        assert_eq!(words(br#""\x4g""#).unwrap(), [b"x4g"]);
        assert_eq!(words(br#""""#).unwrap(), [b""]);
    }

    #[test]
    fn single_quotes_keep_all_but_an_escaped_quote() {
        assert_eq!(words(br"'a\n\'b' ''").unwrap(), [&br"a\n'b"[..], b""]);
    }

    #[test]
    fn a_quote_may_open_inside_a_word_but_must_end_it() {
        assert_eq!(words(br#"foo"bar baz" x"#).unwrap(), [&b"foobar baz"[..], b"x"]);
        for unbalanced in [&br#""a"b"#[..], b"'a'b", b"\"a", b"'a", br#""a\""#, br#""a\"#, br#""a""b""#] {
            assert_eq!(words(unbalanced), None, "{}", unbalanced.escape_ascii());
        }
    }
}
