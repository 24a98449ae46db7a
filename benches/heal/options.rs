//! The command line.

use std::time::Duration;

use clap::{Parser, ValueEnum};
use serde::Serialize;

use crate::support::options::Common;

/// Measure what healing costs, beside what it was asked to cost
#[derive(Parser, Debug)]
#[command(
    name = "heal",
    bin_name = "cargo bench --bench heal --",
    after_help = "\
Examples:
  Everything, about six minutes and 2 GB of memory:
    cargo bench --bench heal
  Does it still run, and heal? For CI, about a minute:
    cargo bench --bench heal -- --quick
  Only what a fresh node costs, five times:
    cargo bench --bench heal -- --only join --repeat 5

Ends with 1 if a promise is missed by more than the noise allowance; with --quick only if something does not heal.
Without cargo's own --bench flag, as under `cargo test --benches`, --quick is implied."
)]
pub(crate) struct Options {
    #[command(flatten)]
    pub(crate) common: Common,

    /// The node with a stalled peer holds 10,000,000 keys; takes 4 GB of memory
    #[arg(long)]
    full: bool,

    /// How many keys the nodes hold [default: 1000000, with --quick 20000]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(20_000..=100_000_000))]
    keys: Option<u32>,

    /// How often each measurement is repeated [default: 3, with --quick 1]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=100))]
    repeat: Option<u32>,

    /// Only these measures
    #[arg(long, value_name = "NAME", value_enum, value_delimiter = ',')]
    only: Vec<Measure>,
}

/// A group of figures.
#[derive(Clone, Copy, PartialEq, Eq, Debug, ValueEnum, Serialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Measure {
    /// Verifying that two nodes are equal
    Equal,
    /// Healing some differing keys
    Differ,
    /// A fresh node takes everything
    Join,
    /// Reads while a fresh node joins
    Latency,
    /// Tombstones return to none
    Tombstones,
    /// A burst of deletes lapses nobody
    Burst,
    /// Resident memory that linking takes
    Memory,
    /// Memory that a stalled peer takes
    Stalled,
}

impl Options {
    pub(crate) fn is_quick(&self) -> bool {
        self.common.is_quick()
    }

    pub(crate) fn keys(&self) -> u32 {
        self.keys.unwrap_or(if self.is_quick() { 20_000 } else { 1_000_000 })
    }

    pub(crate) fn repeat(&self) -> u32 {
        self.repeat.unwrap_or(if self.is_quick() { 1 } else { 3 })
    }

    /// Keys deleted at once.
    pub(crate) fn burst(&self) -> u32 {
        if self.is_quick() { 20_000 } else { 3_000_000 }
    }

    /// Keys of the node with a stalled peer.
    pub(crate) fn stalled_keys(&self) -> u32 {
        if self.full { 10_000_000 } else { self.keys() }
    }

    /// How long verifications are watched: each pair has one every five seconds.
    pub(crate) fn watch(&self) -> Duration {
        Duration::from_secs(if self.is_quick() { 7 } else { 16 })
    }

    /// How long reads are timed without a join.
    pub(crate) fn idle(&self) -> Duration {
        Duration::from_secs(if self.is_quick() { 1 } else { 5 })
    }

    /// How long a peer stays stopped: longer than it takes to be given up.
    pub(crate) fn stall(&self) -> Duration {
        Duration::from_secs(if self.is_quick() { 1 } else { 8 })
    }

    pub(crate) fn measures(&self) -> Vec<Measure> {
        if !self.only.is_empty() {
            return self.only.clone();
        }
        // The burst shows that tombstones go, too.
        let is_wanted = |measure: &Measure| !self.is_quick() || *measure != Measure::Tombstones;
        Measure::value_variants().iter().copied().filter(is_wanted).collect()
    }
}
