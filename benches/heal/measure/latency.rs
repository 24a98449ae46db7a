//! Reads while a fresh node joins.

use std::time::{Duration, Instant};

use anyhow::{Result, ensure};

use super::Bench;
use crate::cluster::Cluster;
use crate::open_loop::{OpenLoop, Sample};
use crate::options::Measure;
use crate::report::Asked;
use crate::support::ask::pause;
use crate::support::figures::{millis, quantile};

/// What a read may take during a join whatever it takes otherwise, in milliseconds.
const ALWAYS: f64 = 5.0;

/// The nodes that are read from: one that gives and the fresh one.
const SIDES: [(&str, usize); 2] = [("old node", 0), ("fresh node", 2)];

impl Bench<'_> {
    pub(super) fn latency(&mut self) -> Result<()> {
        let mut cluster = self.three_with_all(false)?;
        for run in 0..self.options.repeat() {
            eprintln!("    run {}", run + 1);
            let idle = self.reads_while(&mut cluster, |_| {
                let from = Instant::now();
                while from.elapsed() < self.options.idle() {
                    pause();
                }
                Ok((from, Instant::now()))
            })?;
            // Kept apart until the reads have begun, so that all of the join is under them.
            for node in &mut cluster.nodes[..2] {
                node.ask::<String>(&["SAPWOOD", "CUT", "c"])?;
            }
            cluster.nodes[2].kill();
            cluster.nodes[2].start()?;
            let busy = self.reads_while(&mut cluster, mend_and_join)?;
            cluster.until_linked()?;
            for (((side, _), idle), busy) in SIDES.iter().zip(idle).zip(busy) {
                self.add_latency(side, &idle, &busy);
            }
        }
        Ok(())
    }

    /// Reads from both sides while `work` runs; returns the sorted times of the reads that were due between the two
    /// moments that it returns.
    fn reads_while(
        &self,
        cluster: &mut Cluster,
        work: impl FnOnce(&mut Cluster) -> Result<(Instant, Instant)>,
    ) -> Result<[Vec<Duration>; 2]> {
        let [one, other] =
            SIDES.map(|(_, node)| OpenLoop::start(cluster.nodes[node].client, self.options.keys()));
        let (one, other) = (one?, other?);
        let (from, until) = work(cluster)?;
        let within = |samples: Vec<Sample>| {
            let within = samples.into_iter().filter(|(due, _)| (from..=until).contains(due));
            let mut took: Vec<Duration> = within.map(|(_, took)| took).collect();
            took.sort_unstable();
            took
        };
        let both = [within(one.finish()?), within(other.finish()?)];
        ensure!(both.iter().all(|took| !took.is_empty()), "no read was due during the join");
        Ok(both)
    }

    fn add_latency(&mut self, side: &str, idle: &[Duration], busy: &[Duration]) {
        let measure = Measure::Latency;
        let p99 = |took: &[Duration]| millis(quantile(took, 99));
        let name = |what: &str| format!("{side}: {what}");
        self.add(measure, &name("idle p99"), "ms", Asked::Nothing, p99(idle));
        self.add(measure, &name("joining p99"), "ms", Asked::Nothing, p99(busy));
        let allowed = (2.0 * p99(idle)).max(ALWAYS);
        self.add(measure, &name("joining p99"), "of what is allowed", Asked::Time(1.0), p99(busy) / allowed);
        self.add(measure, &name("joining p50"), "ms", Asked::Nothing, millis(quantile(busy, 50)));
        self.add(measure, &name("joining longest"), "ms", Asked::Nothing, millis(quantile(busy, 100)));
        self.add(measure, &name("reads while joining"), "reads", Asked::Nothing, busy.len() as f64);
    }
}

/// Lets c join; returns when it was linked and when it held everything.
fn mend_and_join(cluster: &mut Cluster) -> Result<(Instant, Instant)> {
    /// Steps between two looks at the digest, which are reads too.
    const STEPS: u32 = 5;
    let expected = cluster.nodes[0].digest()?;
    for node in &mut cluster.nodes[..2] {
        node.ask::<String>(&["SAPWOOD", "MEND", "c"])?;
    }
    let linked = cluster.nodes[2].until_link_logged()?;
    cluster.nodes[2].until("it holds everything", |node| {
        (0..STEPS).for_each(|_| pause());
        Ok(node.digest()? == expected)
    })?;
    Ok((linked, Instant::now()))
}
