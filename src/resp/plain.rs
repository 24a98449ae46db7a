//! The fast path for requests that have arrived whole and are plain: an array of a few bulk strings. Nearly all are.
//!
//! It reports nothing: whatever is unusual, incomplete or wrong is left to the careful path.

use super::args::Span;
use super::limits::Limits;
use super::number::short_number;

/// Most arguments of a plain request.
const MAX_ARGS: usize = 64;

/// Bytes of the number of a plain request's header, of five digits, with its line end.
const LINE: usize = 7;

/// Parses the number in the header line at `at`, which begins with `kind`; returns it and the end of the line.
#[inline(always)]
fn header(bytes: &[u8], at: usize, kind: u8) -> Option<(usize, usize)> {
    let (first, line) = bytes.get(at..)?.split_first()?;
    if *first != kind {
        return None;
    }
    let (number, length) = short_number::<LINE>(line)?;
    Some((number as usize, at + 1 + length))
}

/// Appends the arguments of the plain request at the start of `bytes` to `spans`; returns its length. If it is not plain,
/// the content of `spans` beyond what it held is unspecified.
#[inline]
pub(super) fn request(bytes: &[u8], limits: &Limits, spans: &mut Vec<Span>) -> Option<usize> {
    let (count, mut at) = header(bytes, 0, b'*')?;
    if count == 0 || count > MAX_ARGS.min(limits.max_args) {
        return None;
    }
    for _ in 0..count {
        let (len, start) = header(bytes, at, b'$')?;
        at = start + len + 2;
        if bytes.get(start + len..at)? != b"\r\n" || len > limits.max_bulk {
            return None;
        }
        spans.push(Span::new(start, len));
    }
    (at <= limits.max_command).then_some(at)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_short_header_is_well_formed_or_left_to_the_careful_path() {
        assert_eq!(header(b"$0\r\n", 0, b'$'), Some((0, 4)));
        assert_eq!(header(b"ab$12345\r\nrest", 2, b'$'), Some((12_345, 10)));
        let others: [&[u8]; 11] = [
            b"",
            b"$",
            b"$\r\n",
            b"$1",
            b"$1\r",
            b"$1\rx",
            b"$01\r\n",
            b"$-1\r\n",
            b"$1 \r\n",
            b"$123456\r\n",
            b"*1\r\n",
        ];
        for other in others {
            assert_eq!(header(other, 0, b'$'), None, "{}", other.escape_ascii());
        }
    }

    #[test]
    fn a_request_over_a_limit_or_without_arguments_is_left_to_the_careful_path() {
        let get = b"*2\r\n$3\r\nGET\r\n$4\r\nabcd\r\n";
        let parsed = |request: &[u8], limits: &Limits| super::request(request, limits, &mut Vec::new());
        let limits = Limits::default();
        assert_eq!(parsed(get, &limits), Some(get.len()));
        assert_eq!(parsed(&get[..get.len() - 1], &limits), None);
        assert_eq!(parsed(get, &Limits { max_args: 1, ..limits }), None);
        assert_eq!(parsed(get, &Limits { max_bulk: 3, ..limits }), None);
        assert_eq!(parsed(get, &Limits { max_command: get.len() - 1, ..limits }), None);
        assert_eq!(parsed(b"*0\r\n", &limits), None);
        assert_eq!(parsed(b"*1\r\n$1\r\naxx", &limits), None);
    }
}
