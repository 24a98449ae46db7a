//! The one place that knows how peer messages become bytes: bincode 2 inside length-delimited frames.
//!
//! Decoding borrows from the frame and never allocates by a length that the bytes merely claim: whatever may
//! repeat travels as one byte string of items encoded back to back, read one at a time by [`Items`].

use bincode::Encode;
use bincode::config::{Configuration, Limit, LittleEndian, Varint};
use bincode::de::BorrowDecode;
use bytes::{Buf as _, Bytes, BytesMut};

/// The most a message may take, in bytes: the largest value of any daemon in the cluster, whatever the limit for
/// this one's own clients. A larger length is refused before anything is read.
pub(super) const MAX_FRAME: usize = (512 << 20) + (1 << 20);

/// The most a frame may take before the peer has said hello, in bytes.
pub(super) const MAX_HELLO_FRAME: usize = 4 << 10;

/// Bytes of the big-endian length before every message.
pub(super) const PREFIX: usize = 4;

const CONFIG: Configuration<LittleEndian, Varint, Limit<MAX_FRAME>> =
    bincode::config::standard().with_limit::<MAX_FRAME>();

/// Bytes that are not a message. Nothing of them was applied.
#[derive(Debug, thiserror::Error)]
pub(crate) enum CodecError {
    #[error("malformed message: {0}")]
    Malformed(#[from] bincode::error::DecodeError),
    #[error("malformed message: {0} bytes trail it")]
    Trailing(usize),
}

/// Appends the encoding of `item`, as [`Items`] reads it back.
pub(super) fn append<T: Encode>(item: &T, into: &mut Vec<u8>) {
    bincode::encode_into_std_write(item, into, CONFIG).expect("writing to memory does not fail");
}

/// One whole frame: length and message.
///
/// # Panics
/// If the message is larger than [`MAX_FRAME`]; callers bound what they put into one.
pub(super) fn frame<T: Encode>(message: &T) -> Bytes {
    let mut bytes = vec![0; PREFIX];
    append(message, &mut bytes);
    let length = bytes.len() - PREFIX;
    assert!(length <= MAX_FRAME, "a message of {length} bytes is larger than any frame");
    let length = u32::try_from(length).expect("MAX_FRAME fits 32 bits");
    bytes[..PREFIX].copy_from_slice(&length.to_be_bytes());
    bytes.into()
}

/// The bytes of a frame's message, without the length before it: what both ends of a round count.
pub(super) fn message_size(frame: &Bytes) -> u64 {
    (frame.len() - PREFIX) as u64
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

/// Takes the first frame off `buffer`, without its length; `None` if it has not arrived whole.
///
/// Not tokio-util's codec, which makes room for a frame as soon as its length has arrived: here memory follows
/// the bytes that really came.
///
/// # Errors
/// The claimed length, if it is above `max_frame`.
pub(super) fn take_frame(buffer: &mut BytesMut, max_frame: usize) -> Result<Option<BytesMut>, usize> {
    let Some(prefix) = buffer.first_chunk::<PREFIX>() else { return Ok(None) };
    let length = u32::from_be_bytes(*prefix) as usize;
    if length > max_frame {
        return Err(length);
    }
    if buffer.len() - PREFIX < length {
        return Ok(None);
    }
    buffer.advance(PREFIX);
    Ok(Some(buffer.split_to(length)))
}
