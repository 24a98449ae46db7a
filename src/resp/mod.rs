//! The Redis protocol (RESP2 and RESP3).
//!
//! **Purpose.** Turn bytes into requests and replies, and back; and, in the node, serve clients with them. Parsing and
//! encoding know no socket, lock or clock, so every line of them can be tested by feeding it bytes. The server around
//! them (`server`, `connection`, `command`, `session`, and under these `shared`: what connections share) is all that
//! touches sockets.
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
//! - Memory held is proportional to bytes that really arrived, never to a length that was merely announced.
//! - No byte is looked at more than a fixed number of times, however the stream is cut into reads.
//! - What comes out does not depend on how the stream was cut.
//! - What a peer sends is never a panic: it is an error, after which its connection closes.

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
