//! The Redis protocol (RESP2 and RESP3).
//!
//! **Purpose.** Decode requests, encode replies, and serve clients. Parsing and encoding use no socket, lock or clock,
//! so they can be tested with bytes alone. The server around them (`server`, `connection`, `command`, `session`, and
//! `shared`, the state that connections share) does the I/O. The client's end of the protocol is in the crate of the
//! client, `sapwood_client::resp`.
//!
//! **Place in the picture.**
//!
//! ```text
//!             bytes ──► RequestParser ──► Args ─┐
//!  any client                                   ├─ commands
//!             bytes ◄── Reply ◄─────────────────┘
//! ```
//!
//! **Invariants.**
//! - Memory held is proportional to the bytes that have arrived, never to a length that was announced.
//! - Each byte is visited at most a fixed number of times, however the stream is split into reads.
//! - The result does not depend on how the stream was split.
//! - Input from the other side never causes a panic: it causes an error, after which the connection closes.

mod args;
mod audit;
mod buffer;
mod call;
mod clients;
mod command;
mod connection;
mod encode;
mod events;
mod glob;
mod hub;
mod inline;
mod limits;
mod lookahead;
mod monitor;
mod number;
mod observer;
mod outbox;
mod plain;
mod publication;
mod rdb;
mod request;
#[cfg(feature = "scripts")]
mod scripts;
mod server;
mod session;
mod shared;
mod slowlog;
mod tracking;
mod transaction;
mod users;
mod waiting;
mod watch;

#[cfg(test)]
mod fuzz;
#[cfg(test)]
mod round_trip;

pub use args::{Args, ArgsIter};
pub(crate) use command::catalog as command_catalog;
pub(crate) use command::names as command_names;
pub use encode::{EMPTY_ARRAY, OK, ONE, PONG, Proto, Reply, ZERO};
pub use limits::{Limits, TooLarge};
pub use request::{ProtocolError, RequestParser, Step};
pub use server::Server;
pub use shared::Settings;
pub use users::{Users, UsersError};
