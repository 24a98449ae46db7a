//! Reads and writes whole frames of a connection.

use std::collections::VecDeque;
use std::io::{self, IoSlice};

use bytes::{Buf as _, Bytes, BytesMut};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, ReadHalf, WriteHalf};

use super::codec::{self, MAX_HELLO_FRAME};
use super::link_error::LinkError;
use super::wrong_port::{Opening, OtherProtocol};
use crate::env::BoxStream;

/// How much is read from the socket at once.
const READ_AHEAD: usize = 64 << 10;

/// The receiving half of a connection.
pub(super) struct FrameReader {
    half: ReadHalf<BoxStream>,
    buffer: BytesMut,
    max_frame: usize,
}

impl FrameReader {
    /// Creates a reader with the small frame limit that holds until the peer has sent its hello.
    pub(super) fn new(half: ReadHalf<BoxStream>) -> Self {
        FrameReader { half, buffer: BytesMut::new(), max_frame: MAX_HELLO_FRAME }
    }

    /// Returns the half of the connection, and the bytes that were read from it and not taken.
    pub(super) fn into_parts(self) -> (ReadHalf<BoxStream>, Bytes) {
        (self.half, self.buffer.freeze())
    }

    /// Accepts frames of up to `max_frame` bytes from now on.
    pub(super) fn set_max_frame(&mut self, max_frame: usize) {
        self.max_frame = max_frame;
    }

    /// Waits for the first bytes of the connection. Returns their protocol if it is not the peer protocol.
    /// Cancel-safe.
    ///
    /// # Errors
    /// `Io` as the socket reports it.
    pub(super) async fn other_protocol(&mut self) -> Result<Option<OtherProtocol>, LinkError> {
        loop {
            match Opening::of(&self.buffer) {
                Opening::Frame => return Ok(None),
                Opening::Other(protocol) => return Ok(Some(protocol)),
                Opening::Unclear => {}
            }
            if self.read().await? == 0 {
                return Ok(None);
            }
        }
    }

    /// Discards received bytes until the other side has closed.
    pub(super) async fn discard(&mut self) {
        loop {
            self.buffer.clear();
            if !matches!(self.read().await, Ok(1..)) {
                return;
            }
        }
    }

    async fn read(&mut self) -> io::Result<usize> {
        self.buffer.reserve(READ_AHEAD);
        self.half.read_buf(&mut self.buffer).await
    }

    /// Returns the checked message of the next frame, or `None` when the peer has closed between two frames.
    /// Calls `on_bytes` whenever bytes arrive, because a large frame may take a while; the argument is whether
    /// they continue a frame. Cancel-safe.
    ///
    /// # Errors
    /// `Frame` for a damaged frame and one over the limit; `Io` as the socket reports it, with `UnexpectedEof` within a
    /// frame.
    pub(super) async fn next(&mut self, on_bytes: impl Fn(bool)) -> Result<Option<BytesMut>, LinkError> {
        loop {
            if let Some(message) = codec::take_frame(&mut self.buffer, self.max_frame)? {
                return Ok(Some(message));
            }
            let continues = !self.buffer.is_empty();
            let read = self.read().await?;
            on_bytes(continues);
            if read == 0 {
                return if self.buffer.is_empty() {
                    Ok(None)
                } else {
                    Err(io::Error::from(io::ErrorKind::UnexpectedEof).into())
                };
            }
        }
    }
}

/// The sending half of a connection.
pub(super) struct FrameWriter {
    half: WriteHalf<BoxStream>,
    /// Whether a frame may have been sent in part: the peer would take whatever is written next for its rest.
    in_frame: bool,
}

impl FrameWriter {
    pub(super) fn new(half: WriteHalf<BoxStream>) -> Self {
        FrameWriter { half, in_frame: false }
    }

    /// Writes all frames, without copying them together, and leaves `frames` empty. Whenever the connection has
    /// accepted only a part of them, calls `busy` with the size of the frames that have been sent whole.
    /// Cancel-safe: what was not sent stays in `frames`, to be written next.
    pub(super) async fn write(&mut self, frames: &mut VecDeque<Bytes>, busy: impl Fn(u64)) -> io::Result<()> {
        /// The most frames per system call.
        const SLICES: usize = 64;
        self.in_frame = true;
        while !frames.is_empty() {
            let mut slices = [IoSlice::new(&[]); SLICES];
            let count = frames.len().min(SLICES);
            for (slice, frame) in slices.iter_mut().zip(frames.iter()) {
                *slice = IoSlice::new(frame);
            }
            let mut written = self.half.write_vectored(&slices[..count]).await?;
            if written == 0 {
                return Err(io::ErrorKind::WriteZero.into());
            }
            let mut whole = 0;
            while let Some(front) = frames.front_mut() {
                if front.len() > written {
                    front.advance(written);
                    busy(whole);
                    break;
                }
                written -= front.len();
                whole += front.len() as u64;
                frames.pop_front();
            }
        }
        self.in_frame = false;
        self.half.flush().await
    }

    /// Whether the last write was cancelled midway, so that no further frame can follow it.
    pub(super) fn is_in_frame(&self) -> bool {
        self.in_frame
    }

    /// Writes one frame.
    pub(super) async fn write_one(&mut self, frame: Bytes) -> io::Result<()> {
        self.write(&mut VecDeque::from([frame]), |_| ()).await
    }

    /// Ends the connection in good order.
    pub(super) async fn close(&mut self) {
        let _ = self.half.shutdown().await;
    }
}
