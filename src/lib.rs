//! Sapwood: an eventually consistent, fully replicated, in-memory key-value store.
//!
//! One node runs on every host. Every node holds every key and serves reads and writes at any time, also without any
//! peer. Nodes that can reach each other link, push every write to each other, and sync their states when they link.
//! Of two writes to one key, the one with the larger timestamp wins on every node. Increments of a counter on several
//! nodes add up. Programs use a node through any Redis client or [`client`], or embed one.
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
//!             |  cluster   |     cluster: the traits through which both see the peers
//!             |            |     replication: hello, pushes, messages, syncs, members and their summary vectors,
//!             |            |                  write acknowledgements, dialling
//!           watch          |     watch: what a watcher receives: a snapshot, then every change, paced by the load
//!              \          /
//!                 store          every key: ranges, clock, expiry, admission of received cells; the feed to peers,
//!                   |            the recorded changes
//!                  |
//!                 model          pure: timestamps, the merge of registers and of counters, digests
//!
//!   beside them:  acl            pure: users of clients, their rights and hashes of passwords
//!                 config         the settings of a node, checked once
//!                 env            network, wall clock and randomness, so that tests can replace them
//!                 tls            TLS between peers: certificates, shared secrets, names
//!                 accept         accepts connections, and rests after an error
//!                 file_watch     notices that files which a node has read were replaced
//!                 stats          counts of commands, connections and latencies of clients
//!                 log_limit      limits how often one kind of log line is written
//!                 time_slice     how long a task runs before it yields to others
//!                 client         a crate of its own, in `client/`: talks to nodes from other programs and fails over:
//!                                requests, subscriptions, watches; the client's end of the Redis protocol
//! ```
//!
//! # Invariants
//!
//! * **Merging is a join**: commutative, associative and idempotent. So nodes converge whatever the order, repetition
//!   or path of what they receive (`model::Register::merge`, `model::counter::Slot::merge`).
//! * **What is absent and covered was removed.** A node's summary vector holds, for each incarnation, the timestamp
//!   up to which its writes are incorporated. A received write that is covered and absent is not admitted: the
//!   receiver sends a retraction, which removes it at the sender (`store::merge`). Only a finished sync raises the
//!   vector. A tombstone is purged below the stable time, the least entry of all members' vectors.
//! * **An increment counts once.** Each incarnation of a node adds to a slot of its own, in which larger totals
//!   replace smaller ones. So an increment that is received twice counts once.
//! * **A local write gets a timestamp above what it overwrites and above everything received**, under the lock of the
//!   range that holds the key. A timestamp is never issued twice, and timestamps rise even if the machine's clock
//!   goes back.
//! * **A range's sums describe exactly its cells**: both change under one lock. Nodes compare digests to find out if
//!   they hold the same.
//! * **A writer never waits for a peer.** Pushes wait in bounded queues. A queue that overflows is emptied, and the
//!   peer fetches the state in a sync instead.
//! * **A watcher never delays a writer.** A change is recorded in a bounded log, under the lock that makes it. A slow
//!   watcher receives the last change of each key; one that is too slow for the log starts again with a snapshot.
//! * **A received frame is merged only after all of it was checked** and the clock has moved past it. A bad peer
//!   closes its link, a bad client its connection; neither stops the node.
//! * **No lock is held across an `.await`**, and no task outlives the node's shutdown.
//!
//! # Where to start reading
//!
//! 1. `model::register`: the merge law of registers, in 60 lines. `model::counter` has that of counters.
//! 2. `store`: the few atomic operations that the rest of the program is made of; then `watch`, the events
//!    that watchers receive, over Redis's protocol or from an embedded node.
//! 3. `node`: which parts there are, and in which order they start and stop.
//! 4. `replication`, then `replication::replica`: which connections become links, and what follows from what happens on
//!    them; `replication::session`: the conversation with one peer; `replication::members` and
//!    `store::merge`: which members the stable time waits for, and which received cells are admitted.
//! 5. `resp`, then its command table: from bytes to a command. `resp::hub` and `resp::observer` send pushes to
//!    clients.
//! 6. `client/src/driver.rs`: the client's end of a connection.
//!
//! The files in `docs/` define the technical words (`glossary.md`) and what users can rely on (`consistency.md`), and
//! describe how nodes converge and deletes stay deleted (`healing.md`), the protocol between nodes
//! (`peer-protocol.md`), who may connect (`security.md`), the users of clients (`users.md`), the commands (`commands.md`), how
//! to run a node (`operations.md`) and how to measure one (`bench.md`).
//!
//! # Embedding a node
//!
//! ```
//! use sapwood::Node;
//!
//! # tokio::runtime::Runtime::new()?.block_on(async {
//! let any_port = "127.0.0.1:0".parse()?;
//! let node = Node::builder().name("a").peer(any_port).client(any_port).start().await?;
//! node.set("hello", "world")?;
//! assert_eq!(node.get("hello").unwrap(), "world");
//! node.shutdown().await;
//! # Ok::<(), Box<dyn std::error::Error>>(()) })?;
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! [`Node`] has an example with two nodes. [`config`] has its settings, [`status`] the types that describe the node and
//! its peers. All else is private. `internal` re-exports what the command, tests and benches of this repository need
//! beyond that; it may change at any time.
//!
//! # Features
//!
//! | Feature | Default | Brings |
//! |---|---|---|
//! | `cli` | yes | the `sapwood` command; a program that embeds a node leaves it out: `default-features = false` |
//! | `scripts` | no | scripts of clients (`EVAL`), by Luau; takes a C++ compiler |
//!
//! A program that only talks to nodes uses the crate `sapwood-client`, which this one shows as [`client`].

mod ablation;
mod accept;
mod acl;
mod cluster;
pub mod config;
mod env;
mod file_watch;
mod http;
#[doc(hidden)]
pub mod internal;
mod log_limit;
mod model;
mod node;
mod process;
#[cfg(test)]
mod random_cases;
mod replication;
mod resp;
mod stats;
pub mod status;
mod store;
mod time_slice;
mod tls;
mod watch;

pub use sapwood_client as client;

pub use acl::{AclError, Problem as AclProblem};
pub use model::{BadIncarnation, Deadline, Digest, Incarnation, Time, Timestamp};
pub use node::{JoinError, Node, NodeBuilder, NodeError, StartError, UsersError, Watch, WatchError};
pub use replication::ShutdownReport;
pub use store::{Cause, Value};
pub use tls::CredentialsError;
pub use watch::{BadCursor, Cursor, ResetReason, WatchEvent, WatchItem};
