//! The decimal numbers of request headers.

/// A whole, well-formed number of at most eight digits with its CR LF, and the length of both: nearly every header.
#[inline]
pub(super) fn short_number(line: &[u8]) -> Option<(i64, usize)> {
    let mut number = 0;
    for (i, &byte) in line.iter().take(9).enumerate() {
        let digit = byte.wrapping_sub(b'0');
        if digit > 9 {
            let leading_zero = line[0] == b'0' && i > 1;
            let whole = byte == b'\r' && line.get(i + 1) == Some(&b'\n') && i > 0 && !leading_zero;
            return whole.then_some((number, i + 2));
        }
        number = number * 10 + i64::from(digit);
    }
    None
}

/// A number as Redis's `string2ll` takes it: no sign but `-`, no leading zero, nothing around it.
pub(super) fn strict_number(text: &[u8]) -> Option<i64> {
    match text.strip_prefix(b"-").unwrap_or(text) {
        [b'1'..=b'9', ..] => str::from_utf8(text).ok()?.parse().ok(),
        _ => (text == b"0").then_some(0),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_short_number_is_whole_and_well_formed_or_left_to_the_careful_path() {
        assert_eq!(short_number(b"0\r\nx"), Some((0, 3)));
        assert_eq!(short_number(b"12345678\r\n"), Some((12_345_678, 10)));
        for other in
            [&b""[..], b"\r\n", b"1", b"1\r", b"1\rx", b"01\r\n", b"-1\r\n", b"1 \r\n", b"123456789\r\n"]
        {
            assert_eq!(short_number(other), None, "{}", other.escape_ascii());
        }
    }

    #[test]
    fn a_strict_number_is_what_string2ll_takes() {
        for (text, number) in
            [("0", 0), ("-1", -1), ("9223372036854775807", i64::MAX), ("-9223372036854775808", i64::MIN)]
        {
            assert_eq!(strict_number(text.as_bytes()), Some(number));
        }
        for other in ["", "-", "-0", "+1", "01", "1 ", " 1", "1a", "9223372036854775808", "--1"] {
            assert_eq!(strict_number(other.as_bytes()), None, "{other}");
        }
    }
}
