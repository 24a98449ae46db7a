//! The client's end of the Redis protocol: requests are encoded, replies and pushes decoded, in RESP2 and RESP3.
//!
//! Without socket, lock or clock, so it can be used and tested with bytes alone.
//!
//! ```text
//!  client bytes ◄── encode_request
//!         bytes ──► FrameDecoder ──► Frame
//! ```
//!
//! **Invariants.**
//! - Memory held is proportional to the bytes that have arrived, never to a length that was announced.
//! - Each byte is visited at most a fixed number of times, however the stream is split into reads.
//! - The result does not depend on how the stream was split.
//! - Input from the other side never causes a panic: it causes an error, after which the connection closes.

mod frame;
#[cfg(test)]
mod fuzz;
mod request;

pub use frame::{Decoded, Frame, FrameDecoder, FrameError, FrameLimits};
pub use request::encode_request;
