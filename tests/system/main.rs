//! The node as its users meet it: real processes, real clients, real signals, real files.
//!
//! Plain `cargo test` runs all that needs nothing but Rust. Tests that need another program, or minutes, are ignored;
//! `.ci/run` installs the programs and runs them in release. None of them passes where its program is missing.

#![cfg(unix)]
#![allow(clippy::unwrap_used, reason = "the lint takes the helpers of a test for production code")]

#[path = "../support/mod.rs"]
mod support;

mod bench;
mod clients;
mod clocks;
mod containers;
mod counters;
mod cuts;
mod deletes;
mod descriptors;
mod frameworks;
mod logs;
mod meeting;
mod members;
mod memory;
mod networks;
mod noise;
mod oracle;
mod page;
mod peer_tls;
mod refusals;
mod scale;
mod slow_peer;
mod stalls;
mod stopping;
mod tools;
mod walk;
mod watch;
mod wrong_ports;
