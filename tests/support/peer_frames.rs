//! The frames of the peer protocol, for tests that write and read them by hand.

/// Bytes of the header before every message.
const HEADER: usize = 12;

/// The header of `message`, with a length that may be another than its own.
pub fn header(length: u32, message: &[u8]) -> [u8; HEADER] {
    let mut header = [0; HEADER];
    header[..4].copy_from_slice(&length.to_be_bytes());
    header[4..8].copy_from_slice(&crc32c::crc32c(message).to_be_bytes());
    let own = crc32c::crc32c(&header[..8]);
    header[8..].copy_from_slice(&own.to_be_bytes());
    header
}

/// A whole frame.
pub fn frame(message: &[u8]) -> Vec<u8> {
    [&header(u32::try_from(message.len()).unwrap(), message)[..], message].concat()
}

/// The message of the first frame, and what follows; `None` if it is not there whole.
pub fn split(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let (header, rest) = bytes.split_first_chunk::<HEADER>()?;
    rest.split_at_checked(u32::from_be_bytes(*header.first_chunk()?) as usize)
}
