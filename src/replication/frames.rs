//! Whole frames in and out of a connection.

use std::collections::VecDeque;
use std::io::{self, IoSlice};

use bytes::{Buf as _, Bytes, BytesMut};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, ReadHalf, WriteHalf};
use tokio_util::codec::{Decoder as _, LengthDelimitedCodec};

use super::codec::{self, MAX_HELLO_FRAME};
use crate::env::BoxStream;

/// How much is read from the socket at once.
const READ_AHEAD: usize = 64 << 10;

/// The receiving half of a connection.
pub(super) struct FrameReader {
    half: ReadHalf<BoxStream>,
    buffer: BytesMut,
    framing: LengthDelimitedCodec,
}

impl FrameReader {
    /// Starts with the small frame limit that holds until the peer has said hello.
    pub(super) fn new(half: ReadHalf<BoxStream>) -> Self {
        FrameReader { half, buffer: BytesMut::new(), framing: codec::framing(MAX_HELLO_FRAME) }
    }

    /// Accepts frames of up to `max_frame` bytes from now on.
    pub(super) fn set_max_frame(&mut self, max_frame: usize) {
        self.framing.set_max_frame_length(max_frame);
    }

    /// The next frame without its length; `None` when the peer has closed between two frames. Cancel-safe.
    ///
    /// # Errors
    /// As the socket reports them; `InvalidData` for a frame over the limit, `UnexpectedEof` within a frame.
    pub(super) async fn next(&mut self) -> io::Result<Option<BytesMut>> {
        loop {
            if let Some(frame) = self.framing.decode(&mut self.buffer)? {
                return Ok(Some(frame));
            }
            self.buffer.reserve(READ_AHEAD);
            if self.half.read_buf(&mut self.buffer).await? == 0 {
                return if self.buffer.is_empty() {
                    Ok(None)
                } else {
                    Err(io::ErrorKind::UnexpectedEof.into())
                };
            }
        }
    }
}

/// The sending half of a connection.
pub(super) struct FrameWriter {
    half: WriteHalf<BoxStream>,
}

impl FrameWriter {
    pub(super) fn new(half: WriteHalf<BoxStream>) -> Self {
        FrameWriter { half }
    }

    /// Writes all frames, without copying them together, and leaves `frames` empty.
    pub(super) async fn write(&mut self, frames: &mut VecDeque<Bytes>) -> io::Result<()> {
        /// How many frames go into one system call.
        const SLICES: usize = 64;
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
            while let Some(front) = frames.front_mut() {
                if front.len() > written {
                    front.advance(written);
                    break;
                }
                written -= front.len();
                frames.pop_front();
            }
        }
        self.half.flush().await
    }

    /// Writes one frame.
    pub(super) async fn write_one(&mut self, frame: Bytes) -> io::Result<()> {
        self.write(&mut VecDeque::from([frame])).await
    }

    /// Ends the connection in good order.
    pub(super) async fn close(&mut self) {
        let _ = self.half.shutdown().await;
    }
}
