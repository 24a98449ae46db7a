//! Encodes requests.

/// Appends the request `args`, the command's name first, to `out`.
///
/// ```
/// let mut out = Vec::new();
/// sapwood_client::resp::encode_request(&mut out, &[b"GET", b"tree"]);
/// assert_eq!(out, b"*2\r\n$3\r\nGET\r\n$4\r\ntree\r\n");
/// ```
pub fn encode_request(out: &mut Vec<u8>, args: &[&[u8]]) {
    header(out, b'*', args.len());
    for arg in args {
        header(out, b'$', arg.len());
        out.extend_from_slice(arg);
        out.extend_from_slice(b"\r\n");
    }
}

fn header(out: &mut Vec<u8>, kind: u8, len: usize) {
    out.push(kind);
    out.extend_from_slice(itoa::Buffer::new().format(len).as_bytes());
    out.extend_from_slice(b"\r\n");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_has_its_golden_bytes() {
        let mut out = Vec::new();
        encode_request(&mut out, &[b"SET", b"k", b""]);
        assert_eq!(out, b"*3\r\n$3\r\nSET\r\n$1\r\nk\r\n$0\r\n\r\n");
    }
}
