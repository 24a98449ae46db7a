//! Talking to a daemon.
//!
//! **Purpose.** One [`Connection`]: requests out, replies in, in order, pipelined when asked.
//!
//! **Place in the picture.** `client -> resp`, and nothing else of the crate: it builds with the feature `client` alone.
//!
//! **Invariants.**
//! - Every [`ClientError`] says what became of the request.
//! - A reply is never taken for the answer to another request: once replies may be out of step, because a time ran out
//!   or a call was dropped halfway, the connection refuses further use.

mod connection;
mod error;

pub use connection::{Connection, Options};
pub use error::ClientError;
