//! The command line.

use std::time::Duration;

use clap::Parser;

use crate::support::options::Common;

/// Measure the client beside the crates redis and fred
#[derive(Parser, Debug)]
#[command(
    name = "client",
    bin_name = "cargo bench --bench client --",
    after_help = "\
Examples:
  Everything, about a minute and a half:
    cargo bench --bench client
  Does it still run? For CI:
    cargo bench --bench client -- --quick

Without cargo's own --bench flag, as under `cargo test --benches`, --quick is implied."
)]
pub(crate) struct Options {
    #[command(flatten)]
    pub(crate) common: Common,

    /// How many times each client is measured [default: 7, with --quick 1]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=100))]
    runs: Option<u32>,

    /// How long each measurement lasts, in milliseconds [default: 1500, with --quick 100]
    #[arg(long, value_name = "MS", value_parser = clap::value_parser!(u64).range(10..=60_000))]
    millis: Option<u64>,

    /// How many tasks share the connection
    #[arg(long, value_name = "N", default_value_t = 64, value_parser = clap::value_parser!(u32).range(1..=4096))]
    pub(crate) tasks: u32,

    /// How many threads the client's runtime has
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=64))]
    pub(crate) threads: u32,
}

impl Options {
    pub(crate) fn is_quick(&self) -> bool {
        self.common.is_quick()
    }

    pub(crate) fn runs(&self) -> u32 {
        self.runs.unwrap_or(if self.is_quick() { 1 } else { 7 })
    }

    pub(crate) fn duration(&self) -> Duration {
        Duration::from_millis(self.millis.unwrap_or(if self.is_quick() { 100 } else { 1_500 }))
    }
}
