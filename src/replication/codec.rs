//! Encodes peer messages: bincode 2 inside length-delimited, checksummed frames.
//!
//! ```text
//!   length: u32 | CRC32C of the message: u32 | CRC32C of these 8 bytes: u32 | message
//! ```
//!
//! All three numbers are big-endian. The header has a checksum of its own because a damaged length would otherwise make
//! the receiver wait for, and store, up to [`MAX_FRAME`] bytes of later frames before it could check anything. CRC32C
//! detects every burst of up to 32 damaged bits, and misses one of 2^32 other patterns.
//!
//! Decoding borrows from the frame and never allocates by a length that the bytes claim: repeated items are one
//! byte string of items encoded back to back, read one at a time by [`Items`].

use bincode::Encode;
use bincode::config::{Configuration, Limit, LittleEndian, Varint};
use bincode::de::BorrowDecode;
use bytes::{Buf as _, Bytes, BytesMut};

/// The largest message in bytes: the largest value of any node in the cluster, whatever the limit for this
/// node's own clients. A larger length is refused before anything is read.
pub(super) const MAX_FRAME: usize = (512 << 20) + (1 << 20);

/// The largest frame in bytes before the peer has sent its hello.
pub(super) const MAX_HELLO_FRAME: usize = 4 << 10;

/// Bytes of the header before every message.
pub(super) const HEADER: usize = 12;

/// Bytes of the header that its own checksum covers.
const CHECKED: usize = 8;

const CONFIG: Configuration<LittleEndian, Varint, Limit<MAX_FRAME>> =
    bincode::config::standard().with_limit::<MAX_FRAME>();

/// Bytes that are not a message. Nothing was applied.
#[derive(Debug, thiserror::Error)]
pub(crate) enum CodecError {
    #[error("malformed message: {0}")]
    Malformed(#[from] bincode::error::DecodeError),
    #[error("malformed message: {0} bytes trail it")]
    Trailing(usize),
}

/// Bytes that are not a frame. Nothing was applied, and nothing after them can be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum FrameError {
    #[error("a frame of {length} bytes, more than {limit}")]
    TooLarge { length: usize, limit: usize },
    #[error("a frame arrived damaged (checksum mismatch)")]
    Damaged,
}

/// Appends the encoding of `item`, as [`Items`] reads it back.
pub(super) fn append<T: Encode>(item: &T, into: &mut Vec<u8>) {
    bincode::encode_into_std_write(item, into, CONFIG).expect("writing to memory does not fail");
}

/// Returns one whole frame: header and message.
///
/// # Panics
/// If the message is larger than [`MAX_FRAME`]; callers bound what they put into one.
pub(super) fn frame<T: Encode>(message: &T) -> Bytes {
    let mut bytes = vec![0; HEADER];
    append(message, &mut bytes);
    seal(bytes)
}

/// Fills in the header of a buffer that has [`HEADER`] bytes of room before a message.
///
/// # Panics
/// If there is no room for the header, or the message is larger than [`MAX_FRAME`].
pub(super) fn seal(mut bytes: Vec<u8>) -> Bytes {
    let (room, message) = bytes.split_at_mut(HEADER);
    assert!(message.len() <= MAX_FRAME, "a message of {} bytes is larger than any frame", message.len());
    let length = u32::try_from(message.len()).expect("MAX_FRAME fits 32 bits");
    room.copy_from_slice(&header(length, crc32c::crc32c(message)));
    bytes.into()
}

/// Returns the header of a message with this length and checksum.
pub(super) fn header(length: u32, checksum: u32) -> [u8; HEADER] {
    let mut header = [0; HEADER];
    header[..4].copy_from_slice(&length.to_be_bytes());
    header[4..CHECKED].copy_from_slice(&checksum.to_be_bytes());
    let own = crc32c::crc32c(&header[..CHECKED]);
    header[CHECKED..].copy_from_slice(&own.to_be_bytes());
    header
}

/// Checks a header. Returns the length and the checksum of its message.
fn read_header(header: &[u8; HEADER]) -> Result<(usize, u32), FrameError> {
    let number = |at: usize| u32::from_be_bytes(std::array::from_fn(|byte| header[at + byte]));
    if number(CHECKED) != crc32c::crc32c(&header[..CHECKED]) {
        return Err(FrameError::Damaged);
    }
    Ok((number(0) as usize, number(4)))
}

/// Checks a message against the checksum in its header.
fn check(message: &[u8], checksum: u32) -> Result<(), FrameError> {
    if crc32c::crc32c(message) == checksum { Ok(()) } else { Err(FrameError::Damaged) }
}

/// Returns the checked message of one whole frame.
///
/// For callers that receive frame by frame; [`take_frame`] does the same for a stream.
///
/// # Errors
/// [`FrameError::Damaged`], also if `frame` is shorter or longer than one frame.
#[cfg(any(test, feature = "simulation"))]
pub(super) fn open(frame: &[u8]) -> Result<&[u8], FrameError> {
    let (header, message) = frame.split_first_chunk().ok_or(FrameError::Damaged)?;
    let (length, checksum) = read_header(header)?;
    if message.len() != length {
        return Err(FrameError::Damaged);
    }
    check(message, checksum)?;
    Ok(message)
}

/// Returns the size of a frame's message in bytes, without its header: what both ends of a sync count.
pub(super) fn message_size(frame: &Bytes) -> u64 {
    (frame.len() - HEADER) as u64
}

/// Decodes one message that fills `bytes` exactly.
pub(super) fn decode<'a, T: BorrowDecode<'a, ()>>(bytes: &'a [u8]) -> Result<T, CodecError> {
    let (message, used) = bincode::borrow_decode_from_slice(bytes, CONFIG)?;
    if used != bytes.len() {
        return Err(CodecError::Trailing(bytes.len() - used));
    }
    Ok(message)
}

/// The items of a byte string of encodings laid back to back.
pub(super) struct Items<'a, T> {
    rest: &'a [u8],
    item: std::marker::PhantomData<T>,
}

/// A byte string of items that are encoded back to back.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Encode, bincode::BorrowDecode)]
pub(super) struct Packed<'a>(pub(super) &'a [u8]);

impl<'a> Packed<'a> {
    pub(super) fn items<T: BorrowDecode<'a, ()>>(self) -> Items<'a, T> {
        Items { rest: self.0, item: std::marker::PhantomData }
    }
}

impl<'a, T: BorrowDecode<'a, ()>> Iterator for Items<'a, T> {
    type Item = Result<T, CodecError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.rest.is_empty() {
            return None;
        }
        match bincode::borrow_decode_from_slice(self.rest, CONFIG) {
            Ok((item, used)) => {
                self.rest = &self.rest[used..];
                Some(Ok(item))
            }
            Err(error) => {
                self.rest = &[];
                Some(Err(error.into()))
            }
        }
    }
}

/// Takes the checked message of the first frame off `buffer`; `None` if the frame has not arrived whole.
///
/// Not tokio-util's codec, which allocates a whole frame as soon as its length has arrived: here memory grows
/// only with the bytes that arrive.
///
/// # Errors
/// [`FrameError`]: a checksum is wrong, or the message is longer than `max_frame`.
pub(super) fn take_frame(buffer: &mut BytesMut, max_frame: usize) -> Result<Option<BytesMut>, FrameError> {
    let Some(header) = buffer.first_chunk() else { return Ok(None) };
    let (length, checksum) = read_header(header)?;
    if length > max_frame {
        return Err(FrameError::TooLarge { length, limit: max_frame });
    }
    if buffer.len() - HEADER < length {
        return Ok(None);
    }
    check(&buffer[HEADER..HEADER + length], checksum)?;
    buffer.advance(HEADER);
    Ok(Some(buffer.split_to(length)))
}
