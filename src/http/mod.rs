//! The http port: the page, the JSON API behind it, metrics and health checks.
//!
//! **Purpose.** Show the state of a node to people, scrapers and health checks, and let people try things.
//! `docs/http.md` is the contract.
//!
//! **Place in the picture.** Beside `resp`: above the store, the cluster's traits and the counters. A [`Host`]
//! supplies the nodes to show: a single node, or the nodes of a demonstration in one process on one page.
//!
//! ```text
//!   connection ──► guard: host, origin, token, time limit ──► routes ──► NodeApi of a node: store, cluster, stats
//!   (server)                                                    │
//!                                            page, problem ◄────┘
//! ```
//!
//! **Invariants.**
//! - No input causes a panic or grows without a limit: connections, heads, bodies, responses and time are bounded.
//! - Writes are refused unless the operator has allowed them, and then accepted only from the page of this server: no
//!   other site's script can write.
//! - Nothing is sampled while there is no reader.

mod api;
mod guard;
mod health;
mod host;
mod metrics;
mod page;
mod problem;
mod server;
mod stall_limit;
mod state;
mod topics;

pub use host::{DemoControl, DemoError, Host, NodeApi};
pub(crate) use server::MAX_CONNECTIONS;
pub use server::serve;
pub use state::Options;
