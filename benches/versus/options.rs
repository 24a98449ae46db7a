//! The command line.

use std::time::Duration;

use clap::{Parser, ValueEnum};
use serde::Serialize;

use crate::support::options::Common;

use crate::generator::Generator;
use crate::support::load::Command;

/// Measure Sapwood beside redis-server, and print the ratios
#[derive(Parser, Debug)]
#[command(
    name = "versus",
    bin_name = "cargo bench --bench versus --",
    after_help = "\
Examples:
  Everything, about ten minutes:
    cargo bench --bench versus
  Does it still run? For CI, some seconds a server:
    cargo bench --bench versus -- --quick
  As a user of redis-benchmark sees it, with the server free to use all cores:
    cargo bench --bench versus -- --only throughput --generator redis-benchmark --pinning never
  Only the memory a key costs, with another server beside:
    SAPWOOD_BENCH_PEERS=valkey=/usr/bin/valkey-server cargo bench --bench versus -- --only memory

SAPWOOD_BENCH_PEERS names more servers that take redis-server's flags: NAME=COMMAND,...
Without cargo's own --bench flag, as under `cargo test --benches`, --quick is implied."
)]
pub(crate) struct Options {
    #[command(flatten)]
    pub(crate) common: Common,

    /// How many keys the servers hold [default: 1000000, with --quick 20000]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1_000..=100_000_000))]
    keys: Option<u32>,

    /// How many times each server is measured [default: 3, with --quick 1]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=100))]
    runs: Option<u32>,

    /// How long each throughput measurement lasts, in seconds [default: 3, with --quick 0.2]
    #[arg(long, value_name = "SECONDS", value_parser = seconds)]
    seconds: Option<Duration>,

    /// Only these measures
    #[arg(long, value_name = "NAME", value_enum, value_delimiter = ',')]
    only: Vec<Measure>,

    /// Only these servers, by name: sapwood, redis, or those of SAPWOOD_BENCH_PEERS
    #[arg(long, value_name = "NAME", value_delimiter = ',')]
    pub(crate) servers: Vec<String>,

    /// Only these commands under throughput
    #[arg(long, value_name = "NAME", value_enum, value_delimiter = ',', default_value = "set,get")]
    pub(crate) commands: Vec<Command>,

    /// Requests sent before their replies are awaited, under throughput
    #[arg(long, value_name = "N", value_delimiter = ',', default_value = "1,16,100",
        value_parser = clap::value_parser!(u32).range(1..=1_000))]
    pub(crate) pipelines: Vec<u32>,

    /// What sends the requests, under throughput
    #[arg(long, value_name = "NAME", value_enum, default_value_t = Generator::Own)]
    pub(crate) generator: Generator,

    /// Which cores servers and load use, under throughput
    #[arg(long, value_name = "WHEN", value_enum, default_value_t = Pinning::Start)]
    pub(crate) pinning: Pinning,

    /// How many peers are linked to the measured Sapwood node under throughput
    #[arg(long, value_name = "N", default_value_t = 2, value_parser = clap::value_parser!(u32).range(0..=8))]
    pub(crate) linked: u32,
}

/// A group of figures.
#[derive(Clone, Copy, PartialEq, Eq, Debug, ValueEnum, Serialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Measure {
    /// Requests per CPU-second
    Throughput,
    /// Resident bytes a key
    Memory,
    /// Write on one server until visible on another
    Lag,
    /// A fresh server takes all keys
    CatchUp,
}

/// When the measured server is bound to one core, and load and peers to another.
#[derive(Clone, Copy, PartialEq, Eq, Debug, ValueEnum, Serialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Pinning {
    /// From its start, so that it has as many workers as cores: one
    Start,
    /// Once it runs: it has a worker for each core of the machine, and all of them share one
    Later,
    /// Never
    Never,
}

impl Options {
    pub(crate) fn is_quick(&self) -> bool {
        self.common.is_quick()
    }

    pub(crate) fn keys(&self) -> u32 {
        self.keys.unwrap_or(if self.is_quick() { 20_000 } else { 1_000_000 })
    }

    pub(crate) fn runs(&self) -> u32 {
        self.runs.unwrap_or(if self.is_quick() { 1 } else { 3 })
    }

    pub(crate) fn duration(&self) -> Duration {
        self.seconds.unwrap_or(Duration::from_millis(if self.is_quick() { 200 } else { 3_000 }))
    }

    /// Samples of one lag measurement: enough that its 99th percentile stands on 50 of them.
    pub(crate) fn lag_samples(&self) -> u32 {
        if self.is_quick() { 200 } else { 5_000 }
    }

    pub(crate) fn measures(&self) -> Vec<Measure> {
        if self.only.is_empty() { Measure::value_variants().to_vec() } else { self.only.clone() }
    }
}

fn seconds(text: &str) -> Result<Duration, String> {
    let seconds: f64 = text.parse().map_err(|_| "not a number".to_owned())?;
    if (0.05..=600.0).contains(&seconds) {
        Ok(Duration::from_secs_f64(seconds))
    } else {
        Err("between 0.05 and 600".into())
    }
}
