//! The command line.

use std::path::PathBuf;

use clap::{Parser, ValueEnum};

use crate::support::options::Common;

/// Count the instructions that a node needs for an operation
#[derive(Parser, Debug)]
#[command(
    name = "instructions",
    bin_name = "cargo bench --bench instructions --",
    after_help = "\
Examples:
  Everything:
    cargo bench --bench instructions
  Before a change, and after it:
    cargo bench --bench instructions -- --json before.json
    cargo bench --bench instructions -- --against before.json
  Has anything become more than 5% slower than the figures in the repository say?
    cargo bench --bench instructions -- --runs 1 --against benches/instructions/baseline.json --limit 5
  Does it still run? For CI:
    cargo bench --bench instructions -- --quick

Needs valgrind (on Debian: apt install valgrind).
Without cargo's own --bench flag, as under `cargo test --benches`, --quick is implied."
)]
pub(crate) struct Options {
    #[command(flatten)]
    pub(crate) common: Common,

    /// How many operations are counted [default: 20000, with --quick 1000]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1_000..=10_000_000))]
    operations: Option<u32>,

    /// How often each figure is measured [default: 3, with --quick 1]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=100))]
    runs: Option<u32>,

    /// Only these figures
    #[arg(long, value_name = "NAME", value_enum, value_delimiter = ',')]
    only: Vec<Figure>,

    /// The figures of an earlier run, whose change is shown
    #[arg(long, value_name = "PATH")]
    pub(crate) against: Option<PathBuf>,

    /// Fail if a figure is more than so many per cent above that of --against, which the same rustc and valgrind have made
    #[arg(long, value_name = "PERCENT", requires = "against", value_parser = clap::value_parser!(u32).range(1..=100))]
    pub(crate) limit: Option<u32>,

    /// Does the operations of this figure: what this program runs under valgrind
    #[arg(long, value_enum, hide = true)]
    pub(crate) work: Option<Figure>,
}

/// What is counted.
#[derive(Clone, Copy, PartialEq, Eq, Debug, ValueEnum)]
pub(crate) enum Figure {
    /// A SET over the Redis protocol
    Set,
    /// A GET over the Redis protocol
    Get,
    /// A write of an embedded node
    NodeSet,
    /// A read of an embedded node
    NodeGet,
    /// A register that a peer pushes
    PushedRegister,
    /// A counter that a peer pushes
    PushedCounter,
}

impl Figure {
    /// Its name on the command line and in the JSON.
    pub(crate) fn name(self) -> String {
        self.to_possible_value().map_or_else(String::new, |value| value.get_name().to_owned())
    }

    /// What is counted of it.
    pub(crate) fn part(self) -> &'static str {
        match self {
            Figure::Set | Figure::Get => "request over the Redis protocol",
            Figure::NodeSet | Figure::NodeGet => "call of an embedded node",
            Figure::PushedRegister | Figure::PushedCounter => "cell received from a peer",
        }
    }
}

impl Options {
    pub(crate) fn operations(&self) -> u32 {
        self.operations.unwrap_or(if self.common.is_quick() { 1_000 } else { 20_000 })
    }

    pub(crate) fn runs(&self) -> u32 {
        self.runs.unwrap_or(if self.common.is_quick() { 1 } else { 3 })
    }

    pub(crate) fn figures(&self) -> Vec<Figure> {
        if self.only.is_empty() { Figure::value_variants().to_vec() } else { self.only.clone() }
    }
}
