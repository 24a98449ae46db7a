//! Finds the keys of the requests that wait in the input, to prefetch them.

use super::plain;

/// Finds the second argument, which usually is the key, of the complete requests at the start of `input`; returns how
/// many it found.
///
/// It validates nothing: it stops at the first request that is not a plain array of bulk strings, and leaves the rest
/// to the parser. The keys are only hints.
pub(super) fn keys<'a>(input: &'a [u8], keys: &mut [&'a [u8]]) -> usize {
    let mut rest = input;
    for (n, key) in keys.iter_mut().enumerate() {
        match request(rest) {
            Some((found, after)) => (*key, rest) = (found, after),
            None => return n,
        }
    }
    keys.len()
}

/// The second argument of one complete request, and the bytes after the request.
#[inline]
fn request(input: &[u8]) -> Option<(&[u8], &[u8])> {
    let (arguments, mut at) = plain::header(input, 0, b'*')?;
    let mut key = None;
    for n in 0..arguments {
        let (length, start) = plain::header(input, at, b'$')?;
        if n == 1 {
            key = Some(start..start + length);
        }
        at = start + length + 2;
    }
    let rest = input.get(at..)?;
    Some((&input[key?], rest))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(input: &[u8]) -> Vec<&[u8]> {
        let mut space = [&b""[..]; 4];
        let n = keys(input, &mut space);
        space[..n].to_vec()
    }

    #[test]
    fn keys_of_whole_requests_are_found_up_to_the_space_for_them() {
        let get = b"*2\r\n$3\r\nGET\r\n$1\r\na\r\n";
        let set = b"*3\r\n$3\r\nSET\r\n$2\r\nbb\r\n$0\r\n\r\n";
        assert_eq!(found(&[&get[..], set, get].concat()), [&b"a"[..], b"bb", b"a"]);
        assert_eq!(found(&get.repeat(9)).len(), 4);
    }

    #[test]
    fn a_glance_ends_at_whatever_is_not_plain() {
        let get = &b"*2\r\n$3\r\nGET\r\n$1\r\na\r\n"[..];
        let odd: [&[u8]; 8] = [
            b"",
            b"PING\r\n",
            b"*1\r\n$4\r\nPING\r\n",
            b"*2\r\n$3\r\nGET\r\n$1\r\n",
            b"*-1\r\n",
            b"*\r\n",
            b"*99999999999\r\n",
            b"$1\r\n",
        ];
        for odd in odd {
            assert_eq!(found(&[get, odd].concat()), [b"a"], "{:?}", odd.escape_ascii().to_string());
        }
    }
}
