//! `cargo bench --bench watch`: what watchers cost who writes, and how soon they know the last.
//!
//! # What is measured
//!
//! * **record**: what a `set` of an embedded node costs the thread that calls it, with and without a log of changes kept:
//!   somebody watched, and left a moment ago. Nobody receives anything.
//! * **deliver**: a node that takes pipelined `SET`s of 1,000 keys at random, alone, with a log kept, and with 1,000
//!   watchers of all the keys that read all that they receive. Then every key is written once more, and it is timed until the
//!   last watcher has the last value of every key. Once more with 10,000 watchers.
//!
//! Every watcher is checked: it must end with the final value of every key, and never be reset.
//!
//! # How to read it
//!
//! The node has a core of its own; load and watchers share another, so the watchers also take from the load what it could
//! send. The node's CPU time a `SET` shows what they cost the node itself. Measurements are made in turns, each with a
//! fresh node; a ratio is to the same turn without watchers.

#[cfg(target_os = "linux")]
mod deliver;
#[cfg(target_os = "linux")]
mod drain;
#[cfg(target_os = "linux")]
mod options;
#[cfg(target_os = "linux")]
mod record;
#[cfg(target_os = "linux")]
#[path = "../support/mod.rs"]
mod support;

#[cfg(target_os = "linux")]
fn main() -> anyhow::Result<()> {
    let options: options::Options = clap::Parser::parse();
    support::process::end_children_on_signals()?;
    println!("{}, load average {}", support::machine::machine(), support::machine::load_average());
    if options.is_quick() {
        println!("  quick: shows that the harness works; the figures mean nothing");
    }
    let record = record::run(&options)?;
    let deliver = deliver::run(&options)?;
    println!("load average after: {}", support::machine::load_average());
    let all = serde_json::json!({
        "machine": support::machine::machine(),
        "load_average_after": support::machine::load_average(),
        "quick": options.is_quick(),
        "record": record,
        "deliver": deliver,
    });
    options.common.write("watch", &all)
}

#[cfg(not(target_os = "linux"))]
fn main() {
    eprintln!("watch reads CPU time from /proc and runs on Linux only; skipped");
}
