//! What healing takes in memory.

use std::time::Instant;

use anyhow::{Result, ensure};

use super::{Bench, MIB, bulk};
use crate::cluster::{Cluster, Node};
use crate::options::Measure;
use crate::report::Asked;
use crate::support::ask::pause;
use crate::support::load::Command;

/// What may come on top because a node heals, beside a byte a key.
const FIXED: f64 = MIB;
/// What a peer that does not take what it has asked for may cost.
const STALLED: f64 = 32.0 * MIB;

impl Bench<'_> {
    /// Of a node that held everything before any other was there, and when one comes back that holds the same.
    pub(super) fn memory(&mut self) -> Result<()> {
        let keys = self.options.keys();
        let (measure, limit) = (Measure::Memory, Asked::Count((f64::from(keys) + FIXED) / MIB));
        for run in 0..self.options.repeat() {
            eprintln!("    run {}", run + 1);
            let mut cluster = Cluster::prepare(3, self.scratch, false)?;
            cluster.nodes[0].start()?;
            cluster.nodes[0].apply(bulk(Command::Set, keys), 0..keys)?;
            let alone = resident(&cluster.nodes[0])?;
            cluster.nodes[1].start()?;
            cluster.nodes[2].start()?;
            cluster.until_linked()?;
            cluster.until_equal(Some(keys.into()))?;
            let given = resident(&cluster.nodes[0])?;
            self.add(measure, "alone", "MiB", Asked::Nothing, alone / MIB);
            let more = (given - alone) / MIB;
            self.add(measure, "more after giving all to two peers", "MiB", Asked::Nothing, more);

            let nodes = [("stayed", 0), ("was cut off", 2)];
            cluster.isolate(2)?;
            let before = nodes.map(|(_, node)| resident(&cluster.nodes[node]));
            cluster.mend(2)?;
            cluster.until_linked()?;
            for ((who, node), before) in nodes.into_iter().zip(before) {
                let more = (resident(&cluster.nodes[node])? - before?) / MIB;
                let name = format!("more after a link at equal state: {who}");
                self.add(measure, &name, "MiB", limit, more);
            }
        }
        Ok(())
    }

    /// Of a node whose peer is stopped while it takes everything.
    pub(super) fn stalled(&mut self) -> Result<()> {
        let keys = self.options.stalled_keys();
        let measure = Measure::Stalled;
        for run in 0..self.options.repeat() {
            eprintln!("    run {}", run + 1);
            // Anew each time: what an earlier exchange took, the allocator keeps at hand for the next.
            let mut cluster = Cluster::prepare(2, self.scratch, true)?;
            cluster.nodes[0].start()?;
            cluster.nodes[0].apply(bulk(Command::Set, keys), 0..keys)?;
            let before = resident(&cluster.nodes[0])?;
            cluster.nodes[1].spawn()?;
            let tally = cluster.tally.clone();
            cluster.nodes[1].until("the bulk load has begun", |_| Ok(tally.cells_in_syncs() > 0))?;
            cluster.nodes[1].process()?.pause(true)?;
            let (stopped, mut most) = (Instant::now(), before);
            while stopped.elapsed() < self.options.stall() {
                most = most.max(resident(&cluster.nodes[0])?);
                pause();
            }
            cluster.nodes[1].process()?.pause(false)?;
            let sent = tally.cells_in_syncs() as f64;
            cluster.nodes[1].until("it answers", |node| Ok(node.ask::<String>(&["PING"]).is_ok()))?;
            cluster.until_equal(Some(keys.into()))?;
            ensure!(most >= before, "memory cannot shrink below what it was");
            let share = sent / f64::from(keys);
            self.add(measure, "keys", "keys", Asked::Nothing, keys.into());
            self.add(measure, "resident before", "MiB", Asked::Nothing, before / MIB);
            let more = (most - before) / MIB;
            self.add(measure, "more while its peer is stopped", "MiB", Asked::Count(STALLED / MIB), more);
            self.add(measure, "sent when the peer went on", "B a key", Asked::Nothing, share);
        }
        Ok(())
    }
}

fn resident(node: &Node) -> Result<f64> {
    Ok(node.process()?.resident()? as f64)
}
