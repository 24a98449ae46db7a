//! The command line.

use clap::Parser;

use crate::support::options::Common;

/// Measure what a read of an embedded node costs, beside a bare lookup
#[derive(Parser, Debug)]
#[command(
    name = "embed",
    bin_name = "cargo bench --bench embed --",
    after_help = "\
Examples:
  Everything, about half a minute and 700 MB of memory:
    cargo bench --bench embed
  Does it still run? For CI:
    cargo bench --bench embed -- --quick

Ends with 1 if the promise is missed by more than the noise allowance; with --quick only if something fails.
Without cargo's own --bench flag, as under `cargo test --benches`, --quick is implied."
)]
pub(crate) struct Options {
    #[command(flatten)]
    pub(crate) common: Common,

    /// How many keys the node holds [default: 1000000, with --quick 20000]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1_000..=100_000_000))]
    keys: Option<u32>,

    /// How often each measurement is repeated [default: 9, with --quick 2]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=100))]
    repeat: Option<u32>,
}

impl Options {
    pub(crate) fn is_quick(&self) -> bool {
        self.common.is_quick()
    }

    pub(crate) fn keys(&self) -> u32 {
        self.keys.unwrap_or(if self.is_quick() { 20_000 } else { 1_000_000 })
    }

    pub(crate) fn repeat(&self) -> u32 {
        self.repeat.unwrap_or(if self.is_quick() { 2 } else { 9 })
    }
}
