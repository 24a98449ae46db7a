//! The client of a node.
//!
//! **Purpose.** A [`Client`] that many tasks share, which pipelines their requests, reconnects and fails over; below
//! it a plain [`Connection`]: requests out, replies in, in order.
//!
//! **Place in the picture.** `client -> resp`, and no other module of the crate: it builds with the feature `client`
//! alone.
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
//! To try it, start a node in the same process (with the feature `daemon`):
//!
//! ```
//! # #[cfg(feature = "daemon")] {
//! use std::time::Duration;
//! use sapwood::client::{Client, SetOptions, Ttl};
//! use sapwood::Node;
//!
//! # tokio::runtime::Runtime::new()?.block_on(async {
//! let node = Node::builder().name("a").client("127.0.0.1:0".parse()?).start().await?;
//! let addr = node.client_addr().ok_or("it listens to clients")?;
//! let client = Client::connect([addr.to_string()]).await?;
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
//! # node.shutdown().await;
//! # Ok::<(), Box<dyn std::error::Error>>(()) })?;
//! # }
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! How to handle an error:
//!
//! ```no_run
//! # async fn example(client: sapwood::client::Client) -> Result<(), sapwood::client::ClientError> {
//! match client.incr("visits").await {
//!     Ok(visits) => println!("{visits} visits"),
//!     // Counting again might count twice; not counting might miss one.
//!     Err(error) if error.may_be_applied() => eprintln!("perhaps counted: {error}"),
//!     Err(error) => eprintln!("not counted: {error}"),
//! }
//! # Ok(())
//! # }
//! ```

mod backoff;
#[cfg(feature = "client-blocking")]
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
#[cfg(feature = "client-serde")]
mod json;
mod options;
mod pushes;
mod queue;
mod reply;
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
