//! Sapwood: an eventually consistent, fully replicated, in-memory key-value store.
//!
//! One node runs on every host. Every node holds every key and takes reads and writes at any time, alone if it must.
//! Nodes that can reach each other link, push every write to each other, and sync their states when they meet; of two
//! writes to one key the one with the larger timestamp stands, everywhere, and what several nodes add to a counter adds
//! up. Programs talk to a node with any Redis client or with [`client`], or embed one.
//!
//! # The layers
//!
//! A folder is a layer. Arrows point down only.
//!
//! ```text
//!                 cli            the `sapwood` command: flags, tables, exit codes (in the binary)
//!                  |
//!                 node           starts, wires and stops one node; what an application embeds: keys, watches, events
//!               /   |   \
//!           resp  http   replication
//!             |   \ |  \   |     resp: the Redis protocol: parse, execute, reply; subscribers, tracking, watches, WAIT
//!             |    \|   \  |     http: the page, its JSON API, metrics, health checks
//!             |  cluster   |     the trait through which both see the peers
//!             |            |     replication: hello, pushes, messages, syncs, members and their summary vectors,
//!             |            |                  who holds what, dialling
//!              \          /
//!                 store          every key: ranges, clock, expiry, admission of what peers send; the feed to peers,
//!                   |            changes and watchers
//!                  |
//!                 model          pure: timestamps, the merge of registers and of counters, digests
//!
//!   beside them:  config         the settings of a node, checked once
//!                 env            network, wall clock and randomness, so that tests can replace them
//!                 stats          what a node counts of its clients
//!                 log_limit      how often one kind of log line is written
//!                 time_slice     how long a task works before others get a turn
//!                 client         talks to nodes from elsewhere, over fail-overs: requests, subscriptions, watches;
//!                                needs `resp`'s frames and nothing below
//! ```
//!
//! # Invariants
//!
//! * **Merging is a join**: commutative, associative and idempotent. So nodes agree whatever the order, repetition
//!   or path of what they receive (`model::Register::merge`, `model::counter::Slot::merge`).
//! * **What is absent and covered was removed.** A node's summary vector says up to which timestamp it has incorporated
//!   each incarnation's writes; a write that it covers and that is not held is never taken in, but retracted at its sender
//!   (`store::merge`). Only a finished sync raises the vector. A tombstone is purged below the stable time, the least entry
//!   of all members' vectors.
//! * **An increment counts once.** Each incarnation of a node adds to a slot of its own, in which larger totals replace
//!   smaller ones; so nothing that is sent again is counted again.
//! * **A local write gets a timestamp above what it overwrites and above everything received**, under the lock of the range
//!   that holds the key. A timestamp is never issued twice, and never goes back when the machine's clock does.
//! * **A range's sums describe exactly its cells**: both change under one lock. Equal digests are how nodes prove
//!   that they agree.
//! * **A writer never waits for a peer.** Pushes wait in bounded queues; one that overflows is emptied, and the peer
//!   fetches the state instead. The queue is a cache, the state is the truth.
//! * **Who watches never holds up who writes.** A change is recorded under the lock that makes it, in a log that is bounded;
//!   a watcher that is slow is told the last change of each key, one that is too slow begins anew with a snapshot.
//! * **Nothing received is merged before all of its frame was checked** and the clock has moved past it. A bad peer
//!   closes its link, a bad client its connection; neither stops the node.
//! * **No lock is held across an `.await`**, and no task outlives the node's shutdown.
//!
//! # Where to start reading
//!
//! 1. `model::register`: the law that everything else serves; 60 lines and their tests. `model::counter` is the second.
//! 2. `store`: the few atomic operations that the rest of the program is made of; then `store::watch`, all that watchers
//!    are told, whether over Redis's protocol or in an embedded node.
//! 3. `node`: which parts there are, and in which order they start and stop.
//! 4. `replication`, then `replication::link`: the conversation with one peer; `replication::members` and `store::merge`:
//!    who is waited for, and what of a peer's cells is news.
//! 5. `resp`, then its command table: from bytes to a command. `resp::hub` and `resp::observer` are what it says unasked.
//! 6. `client::driver`: the other end of a connection.
//!
//! The files in `docs/` define the technical words (`glossary.md`), say what users can rely on (`consistency.md`), how nodes
//! become equal and deletes stay deleted (`healing.md`), what nodes say to each other (`peer-protocol.md`), which commands there
//! are (`commands.md`) and how to run it (`operations.md`).
//!
//! # Embedding a node
//!
//! ```
//! # #[cfg(feature = "daemon")] {
//! use sapwood::Node;
//!
//! # tokio::runtime::Runtime::new()?.block_on(async {
//! let any_port = "127.0.0.1:0".parse()?;
//! let node = Node::builder().name("a").peer(any_port).client(any_port).start().await?;
//! node.set("hello", "world")?;
//! assert_eq!(node.get("hello").unwrap(), "world");
//! node.shutdown().await;
//! # Ok::<(), Box<dyn std::error::Error>>(()) })?;
//! # }
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! [`Node`] says more, with two of them.
//!
//! # Features
//!
//! | Feature | Default | Brings |
//! |---|---|---|
//! | `daemon` | yes | the daemon, the `sapwood` command and `Node`; includes `client` |
//! | `client` | with `daemon` | [`client`] and the frames of [`resp`] alone, with few dependencies: `default-features = false, features = ["client"]` |
//! | `client-blocking` | with `daemon` | `client::blocking`: the client without a runtime around it |
//! | `client-serde` | with `daemon` | the client's `get_json` and `set_json` |

#[cfg(feature = "daemon")]
mod ablation;
#[cfg(feature = "client")]
pub mod client;
#[cfg(feature = "daemon")]
pub mod cluster;
#[cfg(feature = "daemon")]
pub mod config;
#[cfg(feature = "daemon")]
pub mod env;
#[cfg(feature = "daemon")]
pub mod http;
#[cfg(feature = "daemon")]
mod log_limit;
#[cfg(feature = "daemon")]
pub mod model;
#[cfg(feature = "daemon")]
mod node;
#[cfg(feature = "daemon")]
#[doc(hidden)]
pub mod process;
#[cfg(feature = "daemon")]
mod replication;
#[cfg(feature = "client")]
pub mod resp;
#[cfg(feature = "daemon")]
pub mod stats;
#[cfg(feature = "daemon")]
pub mod store;
#[cfg(feature = "daemon")]
mod time_slice;

#[cfg(feature = "simulation")]
pub use replication::simulation;

#[cfg(feature = "daemon")]
pub use node::{JoinError, Node, NodeBuilder, NodeError, StartError, Watch, WatchError};
#[cfg(feature = "daemon")]
pub use replication::ShutdownReport;
#[cfg(feature = "daemon")]
pub use store::WatchEvent;
