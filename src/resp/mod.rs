//! The Redis protocol (RESP2 and RESP3).
//!
//! **Purpose.** Decode and encode requests and replies; and, in the node, serve clients. Parsing and encoding use no
//! socket, lock or clock, so they can be tested with bytes alone. The server around them (`server`, `connection`,
//! `command`, `session`, and `shared`, the state that connections share) does the I/O.
//!
//! **Place in the picture.**
//!
//! ```text
//!             bytes ──► RequestParser ──► Args ─┐
//!  any client                                   ├─ commands (the node)
//!             bytes ◄── Reply ◄─────────────────┘
//!
//!  our client bytes ◄── encode_request
//!             bytes ──► FrameDecoder ──► Frame
//! ```
//!
//! **Invariants.**
//! - Memory held is proportional to the bytes that have arrived, never to a length that was announced.
//! - Each byte is visited at most a fixed number of times, however the stream is split into reads.
//! - The result does not depend on how the stream was split.
//! - Input from the other side never causes a panic: it causes an error, after which the connection closes.

mod encode;
mod frame;

#[cfg(feature = "daemon")]
mod args;
#[cfg(feature = "daemon")]
mod audit;
#[cfg(feature = "daemon")]
mod call;
#[cfg(feature = "daemon")]
mod clients;
#[cfg(feature = "daemon")]
mod command;
#[cfg(feature = "daemon")]
mod connection;
#[cfg(feature = "daemon")]
mod events;
#[cfg(feature = "daemon")]
mod glob;
#[cfg(feature = "daemon")]
mod hub;
#[cfg(feature = "daemon")]
mod inline;
#[cfg(feature = "daemon")]
mod limits;
#[cfg(feature = "daemon")]
mod lookahead;
#[cfg(feature = "daemon")]
mod monitor;
#[cfg(feature = "daemon")]
mod number;
#[cfg(feature = "daemon")]
mod observer;
#[cfg(feature = "daemon")]
mod outbox;
#[cfg(feature = "daemon")]
mod publication;
#[cfg(feature = "daemon")]
mod request;
#[cfg(feature = "daemon")]
mod server;
#[cfg(feature = "daemon")]
mod session;
#[cfg(feature = "daemon")]
mod shared;
#[cfg(feature = "daemon")]
mod tracking;
#[cfg(feature = "daemon")]
mod waiting;
#[cfg(feature = "daemon")]
mod watch;

#[cfg(all(test, feature = "daemon"))]
mod fuzz;

#[cfg(feature = "daemon")]
pub use args::{Args, ArgsIter};
#[cfg(feature = "daemon")]
pub(crate) use command::names as command_names;
pub use encode::{EMPTY_ARRAY, OK, ONE, PONG, Proto, Reply, ZERO, encode_request};
pub use frame::{Decoded, Frame, FrameDecoder, FrameError, FrameLimits};
#[cfg(feature = "daemon")]
pub use limits::{Limits, TooLarge};
#[cfg(feature = "daemon")]
pub use request::{ProtocolError, RequestParser, Step};
#[cfg(feature = "daemon")]
pub use server::Server;
#[cfg(feature = "daemon")]
pub use shared::Settings;
