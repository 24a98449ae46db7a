//! `cargo bench --bench heal`: what healing costs, beside what it was asked to cost.
//!
//! # What is measured
//!
//! Three nodes, called a, b and c, each a process of the release build, linked all to all. Unless said otherwise
//! they hold 1,000,000 keys of 16 B with values of 100 B.
//!
//! | measure | what happens | figure |
//! |---|---|---|
//! | equal | nothing: every pair verifies every five seconds that it is equal | bytes of a verification |
//! | differ | c is cut off until the others take it for lost; 1, 100, 3,300, 10,000 or 100,000 keys are written to it, and 100 to a in the last case; the cut is mended | bytes of a pair's syncs; seconds from a pair's link until both hold the same |
//! | join | c is killed and started empty | bytes over payload; cells a second; seconds |
//! | latency | the same, under 2,000 reads a second on a and on c | p99 of the reads, beside that without a join |
//! | tombstones | 10,000 keys are deleted | seconds until no node keeps a tombstone |
//! | burst | 3,000,000 keys are loaded and deleted | members that lapsed: none |
//! | memory | b and c join a; c is cut off and comes back | resident bytes that come on top |
//! | stalled | a peer is stopped (SIGSTOP) as soon as it has asked for everything | resident bytes that come on top in the other |
//!
//! # How bytes are counted
//!
//! Every peer port has a proxy before it, through which the others dial, so that all that nodes say to each other
//! passes one. It counts whole frames, lengths included, by pair, by kind of message and by sync. TCP's own bytes
//! are not counted. Heartbeats go on whether anything differs or not, and are never counted as healing.
//!
//! * *A pair's syncs* are all messages of syncs between the two, and the pushes and acknowledgements: an empty push
//!   follows every sync, and nothing is written meanwhile. Of the two pairs that heal, the one that took more
//!   counts. This is what the asked figures are about.
//! * *Hellos of a pair* are what it takes to link anew.
//! * *All pairs, hellos too* is everything but heartbeats between all three: with three members the same keys go to two
//!   of them, over any of the links.
//! * *Payload* is what the differing keys take as cells in a frame. It is measured: the same keys are written while
//!   all are linked, and the cells in those pushes counted.
//!
//! # How to read it
//!
//! The proxies copy every byte once more, in threads of this process that compete with the nodes for cores. Times
//! of joins, reads and deletes are therefore taken without them; the times of `differ` through them, where they move
//! a few megabytes at most. A pair counts as equal when `SAPWOOD DIGEST` shows the same on both, asked every few
//! milliseconds.
//!
//! Reads of `latency` are sent on schedule whether or not the replies come, and each counts from the moment it was
//! due, so that a node that stands still is charged for every read that came meanwhile.
//!
//! Medians are shown with the smallest and the largest of all runs. The verdict is on the median: `ok`; `not always`,
//! where a single run took more bytes than were asked; `noise?`, a time up to a quarter above what was asked, as a
//! machine with other things to do produces; `MISSED`, and the bench ends with 1. Bytes have no such allowance.
//!
//! Not measured here: for how long a range is locked, and what the digests cost a write, as neither can be seen from
//! outside the process.

#[cfg(target_os = "linux")]
mod cluster;
#[cfg(target_os = "linux")]
mod frames;
#[cfg(target_os = "linux")]
mod measure;
#[cfg(target_os = "linux")]
mod open_loop;
#[cfg(target_os = "linux")]
mod options;
#[cfg(target_os = "linux")]
mod proxy;
#[cfg(target_os = "linux")]
mod report;
#[cfg(target_os = "linux")]
mod run;
#[cfg(target_os = "linux")]
#[path = "../support/mod.rs"]
mod support;
#[cfg(target_os = "linux")]
mod tally;

#[cfg(target_os = "linux")]
fn main() -> anyhow::Result<std::process::ExitCode> {
    let kept = run::run(&clap::Parser::parse())?;
    Ok(if kept { std::process::ExitCode::SUCCESS } else { std::process::ExitCode::FAILURE })
}

#[cfg(not(target_os = "linux"))]
fn main() {
    eprintln!("heal reads memory and CPU time from /proc and runs on Linux only; skipped");
}
