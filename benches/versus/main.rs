//! `cargo bench --bench versus`: Sapwood beside `redis-server`, in the same run, on the same machine.
//!
//! # What is compared
//!
//! | measure | what runs | figure |
//! |---|---|---|
//! | throughput | a Sapwood node with two linked peers; a Redis without replica or persistence | requests per CPU-second of the one measured server process |
//! | memory | one node; one Redis | resident bytes a key: `VmRSS` loaded less `VmRSS` empty |
//! | lag | two linked nodes; primary and replica | from before a `SET` is sent to one until a `GET` on the other returns it |
//! | catch-up | a fresh node joins a full one; a fresh replica attaches to a full primary | seconds from the start of its process, bytes received |
//!
//! # How to read it
//!
//! Requests per second say as much about the load generator, the cores and the neighbours as about the server. CPU
//! time of the server process a request is steadier, so that is the headline. It is read in nanoseconds from
//! `/proc/PID/task/*/schedstat`, while the server is idle, before and after each measurement.
//!
//! A Sapwood `SET` pays for more than Redis's does: it is sent to two peers. Its CPU is counted until both peers have
//! shown the same digest, so a server cannot look fast by leaving that work for later.
//!
//! The measured server has a core of its own, the load another. Sapwood's peers share the load's core when there are
//! only two, which costs requests per second, not CPU a request. Latencies are measured unpinned.
//!
//! By default the load generator is this program, not `redis-benchmark`: that one needs more CPU a request than the
//! servers from pipelines of 16 on, and hides every difference. Here requests are encoded once, only the keys are
//! overwritten, and replies, all of one size, are counted by their first bytes.
//!
//! With `--generator redis-benchmark` a node with peers looks worse at pipeline 1. This program's connections send
//! together, so a server executes dozens of requests in a turn, and what a turn costs, such as pushes to peers, is
//! shared. Those of `redis-benchmark` send when their reply has come: a turn has one to four requests.
//!
//! Servers start anew for every run, and runs alternate between the servers. Medians are quoted with the smallest
//! and the largest.

#[cfg(target_os = "linux")]
mod generator;
#[cfg(target_os = "linux")]
mod measure;
#[cfg(target_os = "linux")]
mod options;
#[cfg(target_os = "linux")]
mod report;
#[cfg(target_os = "linux")]
mod run;
#[cfg(target_os = "linux")]
mod server;
#[cfg(target_os = "linux")]
#[path = "../support/mod.rs"]
mod support;

#[cfg(target_os = "linux")]
fn main() -> anyhow::Result<()> {
    run::run(&clap::Parser::parse())
}

#[cfg(not(target_os = "linux"))]
fn main() {
    eprintln!("versus reads CPU time and memory from /proc and runs on Linux only; skipped");
}
