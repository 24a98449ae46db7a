//! The command line.

use std::time::Duration;

use clap::Parser;

use crate::support::options::Common;

/// Measure what watchers cost who writes
#[derive(Parser, Debug)]
#[command(
    name = "watch",
    bin_name = "cargo bench --bench watch --",
    after_help = "\
Examples:
  Everything, some minutes:
    cargo bench --bench watch
  Does it still run, and does every watcher end with the final values? For CI:
    cargo bench --bench watch -- --quick

Ends with 1 if a watcher does not end with the final value of every key, or is reset.
Without cargo's own --bench flag, as under `cargo test --benches`, --quick is implied."
)]
pub(crate) struct Options {
    #[command(flatten)]
    pub(crate) common: Common,

    /// How many turns [default: 5, with --quick 1]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=100))]
    turns: Option<u32>,

    /// How long each measurement lasts, in milliseconds [default: 3000, with --quick 200]
    #[arg(long, value_name = "MS", value_parser = clap::value_parser!(u64).range(10..=60_000))]
    millis: Option<u64>,

    /// How many watchers [default: 1000, with --quick 50]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=20_000))]
    watchers: Option<u32>,

    /// How many watchers wait for the last values in the end; 0 for none [default: 10000, with --quick 0]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(0..=20_000))]
    crowd: Option<u32>,
}

impl Options {
    pub(crate) fn is_quick(&self) -> bool {
        self.common.is_quick()
    }

    pub(crate) fn turns(&self) -> u32 {
        self.turns.unwrap_or(if self.is_quick() { 1 } else { 5 })
    }

    pub(crate) fn duration(&self) -> Duration {
        Duration::from_millis(self.millis.unwrap_or(if self.is_quick() { 200 } else { 3_000 }))
    }

    pub(crate) fn watchers(&self) -> u32 {
        self.watchers.unwrap_or(if self.is_quick() { 50 } else { 1_000 })
    }

    pub(crate) fn crowd(&self) -> u32 {
        self.crowd.unwrap_or(if self.is_quick() { 0 } else { 10_000 })
    }
}
