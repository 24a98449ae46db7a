//! The measures: each starts its nodes, takes its figures, and ends them.

mod bulk;
mod dead;
mod differ;
mod latency;
mod memory;

use std::path::Path;

use anyhow::{Context as _, Result, ensure};

use crate::cluster::Cluster;
use crate::options::{Measure, Options};
use crate::report::{Asked, Report};
use crate::support::load::{Command, Load};
use crate::tally::Counts;

/// A binary mebibyte.
const MIB: f64 = 1_048_576.0;

/// What every measure needs.
pub(crate) struct Bench<'a> {
    pub(crate) options: &'a Options,
    /// A folder for logs, gone afterwards.
    pub(crate) scratch: &'a Path,
    pub(crate) report: Report,
}

impl Bench<'_> {
    pub(crate) fn take(&mut self, measure: Measure) -> Result<()> {
        match measure {
            Measure::Equal => self.equal(),
            Measure::Differ => self.differ(),
            Measure::Join => self.join(),
            Measure::Latency => self.latency(),
            Measure::Tombstones => self.tombstones(),
            Measure::Burst => self.burst(),
            Measure::Memory => self.memory(),
            Measure::Stalled => self.stalled(),
        }
        .with_context(|| format!("{measure:?}"))
    }

    fn add(&mut self, measure: Measure, name: &str, unit: &'static str, asked: Asked, value: f64) {
        self.report.add(measure, name, unit, asked, value);
    }

    /// Three linked nodes that all hold every key.
    fn three_with_all(&self, proxied: bool) -> Result<Cluster> {
        let mut cluster = Cluster::start(3, self.scratch, proxied)?;
        cluster.nodes[0].apply(bulk(Command::Set, self.options.keys()), 0..self.options.keys())?;
        cluster.until_equal(Some(self.options.keys().into()))?;
        Ok(cluster)
    }
}

/// A load for many keys.
fn bulk(command: Command, keys: u32) -> Load {
    Load { command, pipeline: 100, connections: 4, keys }
}

/// What a cell of the bench takes in a frame: what as many as `keys` rewritten ones take in the pushes to two peers.
fn bytes_of_cell(cluster: &mut Cluster, keys: u32) -> Result<f64> {
    cluster.until_quiet()?;
    cluster.tally.reset();
    cluster.nodes[0].apply(Load { connections: 1, ..bulk(Command::Set, keys) }, 0..keys)?;
    cluster.until_equal(None)?;
    let counts = cluster.tally.read();
    check(&counts)?;
    let bytes = counts.pushed_cells as f64 / 2.0 / f64::from(keys);
    ensure!(bytes > 100.0, "the pushes of a cell take {bytes} bytes, less than its value");
    Ok(bytes)
}

/// Fails if the peers speak of what this bench does not know.
fn check(counts: &Counts) -> Result<()> {
    ensure!(counts.unknown() == 0, "unknown peer messages: benches/heal/frames.rs is behind the protocol");
    Ok(())
}
