//! The decimal numbers of request headers.

/// Parses a complete number with its CR LF, both within `LINE` bytes; returns it and the length. Nearly every header is one.
#[inline(always)]
pub(super) fn short_number<const LINE: usize>(line: &[u8]) -> Option<(u32, usize)> {
    let line: [u8; LINE] = line.first_chunk().copied().unwrap_or_else(|| padded(line));
    let (mut number, mut i) = (0, 0);
    while i < LINE - 1 {
        let digit = line[i].wrapping_sub(b'0');
        if digit > 9 {
            let leading_zero = line[0] == b'0' && i > 1;
            let whole = line[i] == b'\r' && line[i + 1] == b'\n' && i > 0 && !leading_zero;
            return whole.then_some((number, i + 2));
        }
        number = number * 10 + u32::from(digit);
        i += 1;
    }
    None
}

/// The end of the input, shorter than a whole line may be.
#[cold]
fn padded<const LINE: usize>(rest: &[u8]) -> [u8; LINE] {
    let mut line = [0; LINE];
    line[..rest.len()].copy_from_slice(rest);
    line
}

#[cfg(test)]
mod tests {
    use super::short_number as within;

    fn short_number(line: &[u8]) -> Option<(u32, usize)> {
        within::<10>(line)
    }

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
