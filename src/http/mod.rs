//! The http port: the page, the JSON API behind it, metrics and health checks.
//!
//! **Purpose.** Show people, scrapers and probes what a node knows, and let people try things. `docs/http.md` is the
//! contract.
//!
//! **Place in the picture.** Beside `resp`: above the store, the cluster's trait and the counters. It is handed the nodes
//! to show by a [`Host`]: a node hosts itself alone, a demonstration several nodes of one process on one page.
//!
//! ```text
//!   connection ──► guard: host, origin, token, time limit ──► routes ──► NodeApi of a node: store, cluster, stats
//!   (server)                                                    │
//!                                            page, problem ◄────┘
//! ```
//!
//! **Invariants.**
//! - Nothing that arrives is a panic or grows without a limit: connections, heads, bodies, answers and time are bounded.
//! - Nothing is written unless the operator has allowed it, and then only by the page that this server has served: no
//!   other site's script can.
//! - Nothing is sampled while nobody looks.

mod api;
mod guard;
mod health;
mod host;
mod metrics;
mod page;
mod patient;
mod problem;
mod server;

pub use host::{DemoControl, DemoError, Host, NodeApi};
pub(crate) use server::MAX_CONNECTIONS;
pub use server::{Options, serve};
