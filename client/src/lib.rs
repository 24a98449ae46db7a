//! The client of Sapwood, an eventually consistent, fully replicated, in-memory key-value store.
//!
//! **Purpose.** A [`Client`] that many tasks share, which pipelines their requests, reconnects and fails over; below
//! it a plain [`Connection`]: requests out, replies in, in order.
//!
//! **Place in the picture.** Everything here uses [`resp`], the frames of the Redis protocol, and nothing of a node.
//!
//! ```text
//!   Client (commands, Scan) ──► Exchange ──► Queue ◄── Driver ──► Connection, taken apart
//!   handles, cloned             a request    pure      one task    by Dialer: the next node that answers
//!
//!   Watch, Subscription ──► Pushes ──► a Connection each
//! ```
//!
//! **Invariants.**
//! - Every [`ClientError`] says what became of the request.
//! - A reply is never delivered to another request. On the shared connection every reply is matched in order, even if
//!   its caller is gone. A plain connection refuses further use once replies may be out of step, because a time limit
//!   passed or a call was dropped before its reply.
//! - A request that may have been applied is sent again only if that leaves the same state.
//! - Requests in flight are bounded in number and bytes; a caller that finds no room waits.
//!
//! With a node at its default address (`sapwood serve`):
//!
//! ```no_run
//! use std::time::Duration;
//! use sapwood_client::{Client, ClientError, SetOptions, Ttl};
//!
//! # async fn example() -> Result<(), ClientError> {
//! let client = Client::connect(["127.0.0.1:7171"]).await?;
//!
//! client.set("tree", "oak").await?;
//! assert_eq!(client.get_string("tree").await?.as_deref(), Some("oak"));
//!
//! // Two requests at once go out in one write.
//! let (tree, nothing) = tokio::join!(client.get("tree"), client.get("stone"));
//! assert!(tree?.is_some() && nothing?.is_none());
//!
//! let brief = SetOptions::new().ttl(Duration::from_secs(60)).if_absent();
//! assert!(client.set_with("session:1", "ada", brief).await?);
//! assert!(matches!(client.ttl("session:1").await?, Ttl::Left(_)));
//!
//! let mut keys = client.scan("session:*");
//! while let Some(key) = keys.next().await {
//!     assert!(client.delete(key?).await?);
//! }
//! # Ok(())
//! # }
//! ```
//!
//! How to handle an error:
//!
//! ```no_run
//! # async fn example(client: sapwood_client::Client) -> Result<(), sapwood_client::ClientError> {
//! match client.incr("visits").await {
//!     Ok(visits) => println!("{visits} visits"),
//!     // Counting again might count twice; not counting might miss one.
//!     Err(error) if error.may_be_applied() => eprintln!("perhaps counted: {error}"),
//!     Err(error) => eprintln!("not counted: {error}"),
//! }
//! # Ok(())
//! # }
//! ```
//!
//! # Features
//!
//! | Feature | Default | Brings |
//! |---|---|---|
//! | `blocking` | no | `blocking`: the same client for programs without a runtime; no further dependency |
//! | `serde` | no | `Client::get_json` and `Client::set_json`: values of any type that serde knows |

mod backoff;
#[cfg(feature = "blocking")]
pub mod blocking;
mod commands;
mod connection;
mod dial;
mod driver;
mod error;
mod exchange;
#[cfg(test)]
mod fake;
mod handle;
#[cfg(feature = "serde")]
mod json;
mod options;
mod pushes;
mod queue;
mod reply;
pub mod resp;
mod scan;
mod subscribe;
mod unconfirmed;
mod values;
mod watch;

pub use connection::{Connection, Options};
pub use error::ClientError;
pub use handle::Client;
pub use options::ClientOptions;
pub use scan::Scan;
pub use subscribe::{Message, Subscription};
pub use values::{Meta, SetOptions, Timestamp, Ttl};
pub use watch::{Cause, ResetReason, Watch, WatchEvent, WatchItem};

/// Compiles the example of the README.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
