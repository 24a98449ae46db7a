//! `cargo bench --bench instructions`: how many instructions of the processor an operation takes.
//!
//! # What is measured
//!
//! | figure | what runs on the counted thread |
//! |---|---|
//! | `set`, `get` | a whole node that serves one Redis client over TCP: read, parse, execute, reply; 16 requests are pipelined |
//! | `node-set`, `node-get` | the call of an embedded node, without the push to peers |
//! | `pushed-register`, `pushed-counter` | a whole node that receives a peer's writes in pushes of 64 cells: read, check, merge, acknowledge |
//!
//! Keys have 16 B, values 100 B; every operation is on a key that exists.
//!
//! # How it is measured
//!
//! This program runs itself under `valgrind --tool=callgrind`, which counts the instructions of each thread. The node
//! runs on the main thread, with a runtime of that one thread. Clients and peers run on other threads, which are not
//! counted. One process does N operations and another 2 N. The difference divided by N is the figure, so what the start
//! takes cancels out. The node's timers stand still: under valgrind an operation takes fifty times as long, so the
//! node's periodic work would count fifty times as much.
//!
//! # How to read it
//!
//! The load of the machine does not change the figures, and medians of three runs differ by less than 1%. So run it before and
//! after a change, the second time with `--against` and the first one's file. Fewer instructions are usually faster,
//! but not always: cache misses, branches, contended locks and the kernel's part are not in them. The compiler's
//! version, the profile and the processor's features change the figures.

#[cfg(target_os = "linux")]
mod count;
#[cfg(target_os = "linux")]
mod options;
#[cfg(target_os = "linux")]
mod report;
#[cfg(target_os = "linux")]
#[path = "../support/mod.rs"]
mod support;
#[cfg(target_os = "linux")]
mod work;

#[cfg(target_os = "linux")]
fn main() -> anyhow::Result<()> {
    let options: options::Options = clap::Parser::parse();
    match options.work {
        Some(figure) => work::run(figure, options.operations()),
        None => count::run(&options),
    }
}

#[cfg(not(target_os = "linux"))]
fn main() {
    eprintln!("the benches share what reads /proc and run on Linux only; skipped");
}
