//! The decimal numbers of request headers.

/// Parses a complete number of at most eight digits with its CR LF; returns it and the length. Nearly every header is
/// one.
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
}
