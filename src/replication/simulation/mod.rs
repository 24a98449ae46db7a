//! Whole clusters in one process, on simulated time, under faults drawn from a seed.
//!
//! ```text
//!   seed -> plan (cluster, clients, faults) -> world: agenda of what is due
//!                                                |  real Replica, Session, Queue, codec
//!                                                v
//!                                             checker, after every step
//! ```
//!
//! Only the tasks and sockets of a node are simulated; its state, its decisions about connections and links, its
//! sessions and the bytes between them are the real ones: a [`Replica`](super::replica::Replica). A rerun of a seed is identical. If a rule of healing is left out (see `ablation`), a history
//! must fail: that is tested too.

mod checker;
mod claims;
#[cfg(test)]
mod exhaustive;
mod faults;
mod handshake;
mod harsh;
mod history;
mod links;
mod memory;
#[cfg(test)]
mod memory_tests;
mod network;
mod node;
mod plan;
#[cfg(test)]
mod tests;
mod topology;
mod waits;
mod world;

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use rand::SeedableRng as _;
use rand::rngs::StdRng;

use super::local::Counts;
use plan::Plan;
pub use plan::{HARSH_FROM, REJOIN_FROM};
use world::{Due, SECOND, World};

/// The longest that a cluster may take to converge once all its members are up and no client writes.
const CONVERGENCE_LIMIT: Duration = Duration::from_secs(150);

/// The outcome of a history that held.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Outcome {
    /// Simulated time from the last write until all nodes were equal and without tombstones.
    pub converged_after: Duration,
    /// Syncs that finished, at either side.
    pub syncs: u64,
    /// Cells that syncs brought.
    pub healed: u64,
    /// Retractions that processes received.
    pub retractions: u64,
    /// Writes that were given up.
    pub lost: u64,
    /// Whether a member lapsed or was removed.
    pub lapsed: bool,
    /// Clients' writes that were refused for want of memory.
    pub refused: u64,
    /// How often a link began to lack room for cells of its peer.
    pub withheld: u64,
    /// `WAIT`s, and those that as many peers acknowledged as was asked for.
    pub waits: u64,
    /// See [`waits`](Self::waits).
    pub fulfilled: u64,
    /// If memory was limited: simulated time from the last delete that made room until all nodes held the same
    /// keys.
    pub equal_after: Duration,
}

/// The failure of a history.
#[derive(Clone, Debug)]
pub struct Failure {
    /// The seed that reproduces it.
    pub seed: u64,
    /// The simulated time of the failure.
    pub at: Duration,
    /// What was violated.
    pub what: String,
    /// The events before it that concern the key and the cluster.
    pub trace: Vec<String>,
}

impl std::fmt::Display for Failure {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        /// Only the last events matter.
        const LINES: usize = 200;
        for line in &self.trace[self.trace.len().saturating_sub(LINES)..] {
            writeln!(f, "{line}")?;
        }
        write!(f, "seed {}, at {:.3} s: {}", self.seed, self.at.as_secs_f64(), self.what)
    }
}

/// Runs the history of one seed.
///
/// # Errors
/// [`Failure`] if a guarantee was violated.
pub fn run(seed: u64) -> Result<Outcome, Box<Failure>> {
    history_of(seed, false).or_else(|_| history_of(seed, true))
}

fn history_of(seed: u64, traced: bool) -> Result<Outcome, Box<Failure>> {
    let mut rng = StdRng::seed_from_u64(seed);
    let plan = Plan::draw(seed, &mut rng);
    let active = plan.active;
    let mut world = World::new(plan, rng, traced);
    let text = format!("{:?}", world.plan);
    world.checker.note(Duration::ZERO, None, || text);
    world.after(Duration::ZERO, Due::NextAct);
    if let Some(span) = world.plan.halves {
        let all = (0..world.plan.nodes).flat_map(|a| (0..world.plan.nodes).map(move |b| (a, b)));
        let apart: Vec<_> = all.filter(|&(a, b)| a % 2 != b % 2).collect();
        world.cut_for(span, &apart);
    }
    world.run_until(active);
    let converged_after = world.quiesce();
    let checker = &world.checker;
    if let Some(violation) = checker.violation.clone() {
        let trace = checker.trace(violation.key);
        return Err(Box::new(Failure { seed, at: violation.at, what: violation.what, trace }));
    }
    Ok(Outcome {
        converged_after,
        syncs: checker.syncs,
        healed: checker.healed,
        retractions: world.count(|counts| &counts.retractions),
        lost: world.count(|counts| &counts.lost),
        lapsed: checker.has_lapsed,
        refused: checker.refused,
        withheld: checker.withheld,
        waits: checker.waits,
        fulfilled: checker.fulfilled,
        equal_after: world.equal_after,
    })
}

impl World {
    /// Ends all faults, restarts all nodes, and waits until all are equal. Returns how long that took.
    fn quiesce(&mut self) -> Duration {
        self.calm = true;
        let nodes = self.plan.nodes;
        for from in 0..nodes {
            self.nodes[from].skew = self.plan.skew[from];
            for to in 0..nodes {
                while self.network.is_cut(from, to) {
                    self.mend(from, to);
                }
            }
            if self.nodes[from].process.is_none() {
                self.after(Duration::ZERO, Due::Start(from));
            }
        }
        if self.plan.harsh {
            self.join_all();
        }
        self.checker.note(self.now, None, || "all faults end".into());
        let running = self.nodes.iter().enumerate();
        let processes: Vec<_> = running.filter_map(|(n, node)| Some((n, node.process.as_ref()?))).collect();
        for (node, process) in &processes {
            self.checker.look(*node, process, self.nodes[*node].wall(self.now), self.now);
        }
        self.checker.quiesce(&processes);
        if self.plan.max_memory.is_some() {
            self.make_room();
        }
        let (began, mut left) = (self.now, None);
        while self.checker.violation.is_none() && self.now < began + CONVERGENCE_LIMIT {
            self.run_until(self.now + SECOND);
            left = self.unconverged();
            if left.is_none() {
                break;
            }
        }
        if let Some(left) = left {
            self.describe();
            let limit = CONVERGENCE_LIMIT;
            self.checker.fail(format!("not converged after {limit:?}: {left}"));
        }
        if self.checker.violation.is_none() {
            let processes: Vec<_> = self
                .nodes
                .iter()
                .enumerate()
                .filter_map(|(n, node)| Some((n, node.process.as_ref()?)))
                .collect();
            for (node, process) in &processes {
                self.checker.look(*node, process, self.nodes[*node].wall(self.now), self.now);
            }
            self.checker.check_end(&processes);
        }
        let converged_after = self.now - began;
        if self.plan.harsh && self.checker.violation.is_none() {
            self.write_again();
        }
        converged_after
    }

    /// Adds each node's view of the cluster to the trace.
    fn describe(&mut self) {
        for node in 0..self.plan.nodes {
            let wall = self.wall(node);
            let Some(process) = &self.nodes[node].process else { continue };
            let members = process.replica.local.members.lock();
            let hlc = process.replica.local.store.now(wall);
            let text = format!(
                "n{node}: {hlc:?}, {:?}, links {:?}, targets {:?}, {:?}, waits for {:?}, roster {:?}",
                members.place(),
                process.links.iter().map(|(peer, end)| (peer, end.link.incarnation)).collect::<Vec<_>>(),
                process.targets(),
                members.summary(process.replica.local.store.stable_time(), hlc),
                members.waits_for(hlc),
                members.roster().collect::<Vec<_>>(),
            );
            drop(members);
            self.checker.note(self.now, None, || text);
        }
    }

    /// Returns what keeps the cluster from being equal and without tombstones.
    fn unconverged(&self) -> Option<String> {
        let processes: Vec<_> =
            self.nodes.iter().enumerate().filter_map(|(n, node)| Some((n, node.process.as_ref()?))).collect();
        if processes.len() < self.plan.nodes {
            return Some("some nodes are down".into());
        }
        if let Some((n, _)) = processes.iter().find(|(_, process)| process.leaving.is_some()) {
            return Some(format!("n{n} is leaving"));
        }
        self.checker.unconverged(&processes)
    }

    /// Returns the sum of one count over the processes that run.
    fn count(&self, of: impl Fn(&Counts) -> &AtomicU64) -> u64 {
        let processes = self.nodes.iter().filter_map(|node| node.process.as_ref());
        processes.map(|process| of(&process.replica.local.counts).load(Ordering::Relaxed)).sum()
    }
}
