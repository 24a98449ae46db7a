//! `cargo bench --bench client`: the client beside the crates `redis` and `fred`, in the same run, against one node.
//!
//! # What is compared
//!
//! One connection that 64 tasks share, each with one request under way: what a service does with a client. The same
//! node, runtime, keys and values for all; a new connection for each measurement; the clients take turns. Beside them
//! `redis-benchmark -c 1 -P 64`, if there is one: no client that a program could use, but what the node gives a
//! connection that never has to match a reply to a task.
//!
//! # How to read it
//!
//! The node has a core of its own, the client another. Requests per second are the headline, as one connection is
//! limited by its latency as much as by the client; the client's CPU time a request is steadier, and says how much of a
//! core a service gives for it. A ratio is to the better of `redis` and `fred` for the same command.

#[cfg(target_os = "linux")]
mod contender;
#[cfg(target_os = "linux")]
mod options;
#[cfg(target_os = "linux")]
mod report;
#[cfg(target_os = "linux")]
mod run;
#[cfg(target_os = "linux")]
#[path = "../support/mod.rs"]
mod support;

#[cfg(target_os = "linux")]
fn main() -> anyhow::Result<()> {
    run::run(&clap::Parser::parse())
}

#[cfg(not(target_os = "linux"))]
fn main() {
    eprintln!("client reads CPU time from /proc and runs on Linux only; skipped");
}
