//! Deletes: tombstones go, and nobody is given up for their number.

use std::time::{Duration, Instant};

use anyhow::{Result, ensure};

use super::{Bench, MIB, bulk};
use crate::cluster::Cluster;
use crate::options::Measure;
use crate::report::Asked;
use crate::support::ask::pause;
use crate::support::load::Command;

/// How many keys are deleted at once, where it is no burst.
const SOME: u32 = 10_000;
/// What tombstones may take to go while all members are up, in seconds.
const ASKED: f64 = 40.0;
/// How long the bench waits for it.
const PATIENCE: Duration = Duration::from_secs(600);
/// Steps between two looks at the tombstones.
const STEPS: u32 = 25;

impl Bench<'_> {
    pub(super) fn tombstones(&mut self) -> Result<()> {
        let mut cluster = self.three_with_all(false)?;
        let keys = u64::from(self.options.keys());
        for run in 0..self.options.repeat() {
            eprintln!("    run {}", run + 1);
            cluster.nodes[0].apply(bulk(Command::Set, SOME), 0..SOME)?;
            cluster.until_equal(Some(keys))?;
            cluster.nodes[0].apply(bulk(Command::Del, SOME), 0..SOME)?;
            let deleted = Instant::now();
            ensure!(cluster.tombstones()?[0] == u64::from(SOME), "deletes left no tombstones");
            let seen = until_none_dead(&mut cluster)?;
            let took = deleted.elapsed().as_secs_f64();
            ensure!(seen.lapsed.is_empty(), "lapsed: {:?}", seen.lapsed);
            cluster.until_equal(Some(keys - u64::from(SOME)))?;
            self.add(Measure::Tombstones, "10 000 deletes until no tombstone", "s", Asked::Time(ASKED), took);
        }
        Ok(())
    }

    pub(super) fn burst(&mut self) -> Result<()> {
        let burst = self.options.burst();
        let mut cluster = Cluster::start(3, self.scratch, false)?;
        cluster.nodes[0].apply(bulk(Command::Set, burst), 0..burst)?;
        cluster.until_equal(Some(burst.into()))?;
        let full = cluster.nodes[0].process()?.resident()? as f64 / MIB;
        let done = cluster.nodes[0].apply(bulk(Command::Del, burst), 0..burst)?;
        let deleted = Instant::now();
        cluster.until_equal(Some(0))?;
        let equal = deleted.elapsed().as_secs_f64();
        let seen = until_none_dead(&mut cluster)?;
        let took = deleted.elapsed().as_secs_f64();
        cluster.until_equal(Some(0))?;
        let measure = Measure::Burst;
        let rate = f64::from(burst) / done.elapsed.as_secs_f64();
        self.add(measure, "deletes", "keys", Asked::Nothing, burst.into());
        self.add(measure, "deletes", "keys/s", Asked::Nothing, rate);
        self.add(measure, "members that lapsed", "", Asked::Count(0.0), seen.lapsed.len() as f64);
        self.add(measure, "last delete until all are equal", "s", Asked::Nothing, equal);
        self.add(measure, "last delete until no tombstone", "s", Asked::Nothing, took);
        self.add(measure, "most tombstones seen", "", Asked::Nothing, seen.most as f64);
        self.add(measure, "resident before the deletes", "MiB", Asked::Nothing, full);
        self.add(measure, "resident at most after them", "MiB", Asked::Nothing, seen.resident / MIB);
        Ok(())
    }
}

/// What was seen on the way.
#[derive(Default)]
struct Seen {
    /// Whom somebody called lapsed.
    lapsed: Vec<String>,
    most: u64,
    resident: f64,
}

/// Waits until no node keeps a tombstone.
fn until_none_dead(cluster: &mut Cluster) -> Result<Seen> {
    let mut seen = Seen::default();
    let deadline = Instant::now() + PATIENCE;
    loop {
        let dead = cluster.tombstones()?;
        seen.most = dead.iter().copied().fold(seen.most, u64::max);
        for node in &mut cluster.nodes {
            seen.resident = seen.resident.max(node.process()?.resident()? as f64);
            let lapsed = node.peers()?.into_iter().filter(|peer| peer.state == "lapsed");
            for peer in lapsed {
                if !seen.lapsed.contains(&peer.name) {
                    seen.lapsed.push(peer.name);
                }
            }
        }
        if dead.iter().all(|&dead| dead == 0) {
            return Ok(seen);
        }
        ensure!(Instant::now() < deadline, "tombstones are still there after {PATIENCE:?}: {dead:?}");
        (0..STEPS).for_each(|_| pause());
    }
}
