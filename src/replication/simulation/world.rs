//! The scheduler, and those parts of the driver that the tasks of a real node perform.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use rand::Rng as _;
use rand::rngs::StdRng;
use tokio::time::Instant;

use super::checker::Checker;
use super::network::Network;
use super::node::{Node, Process};
use super::plan::{Act, Plan};
use crate::model::timestamp;
use crate::replication::local::LocalEvent;
use crate::replication::members::Verdict;
use crate::replication::tombstones::TombstoneLimit;

pub(super) const SECOND: Duration = Duration::from_secs(1);

/// How long a node that leaves waits for a peer that holds everything.
pub(super) const DRAIN_LIMIT: Duration = Duration::from_secs(3);

/// How long goodbyes may take to leave.
pub(super) const GOODBYE_LIMIT: Duration = Duration::from_millis(500);

/// How long the other side may take for each message before the link is up.
pub(super) const HANDSHAKE_LIMIT: Duration = Duration::from_secs(5);

/// Every range sum is compared with the cells after this many steps.
const SCRUB_EVERY: u64 = 100;

/// A future event.
#[derive(Clone, Copy, Debug)]
pub(super) enum Due {
    Start(usize),
    /// The slow tasks of a process, by its number.
    Tick(usize, u64),
    Feed(usize, u64),
    Drained(usize, u64),
    Stop(usize, u64),
    Heartbeat(usize, u64),
    Wake(usize, u64),
    /// The timeout of a client that waits at a process.
    Waited(usize, u64),
    /// A frame reaches an end of a connection.
    Arrive(u64, usize),
    /// An end of a connection notices that it is broken.
    Break(u64, usize),
    Handshake(u64),
    Act(Act),
    NextAct,
}

pub(super) struct World {
    pub(super) rng: StdRng,
    pub(super) plan: Plan,
    pub(super) now: Duration,
    /// The instant at which the simulated time begins; only differences matter.
    pub(super) base: Instant,
    pub(super) agenda: BTreeMap<(Duration, u64), Due>,
    pub(super) sequence: u64,
    pub(super) nodes: Vec<Node>,
    pub(super) network: Network,
    pub(super) checker: Checker,
    pub(super) processes: u64,
    /// Links whose queue or session may have something to send: node and peer.
    pub(super) stirred: BTreeSet<(usize, usize)>,
    /// Whether clients and faults have ended.
    pub(super) calm: bool,
    /// The last reply of `WAIT`, by node and change.
    pub(super) replies: BTreeMap<(usize, u64), usize>,
    /// How long it took, once there was room, until all nodes held the same keys.
    pub(super) equal_after: Duration,
    pub(super) steps: u64,
}

impl World {
    pub(super) fn new(plan: Plan, rng: StdRng, traced: bool) -> Self {
        let mut world = World {
            rng,
            now: Duration::ZERO,
            base: Instant::now(),
            agenda: BTreeMap::new(),
            sequence: 0,
            nodes: (0..plan.nodes).map(|node| Node::new(node, &plan)).collect(),
            network: Network::new(plan.edges.clone()),
            checker: Checker::new(&plan, traced),
            processes: 0,
            stirred: BTreeSet::new(),
            calm: false,
            replies: BTreeMap::new(),
            equal_after: Duration::ZERO,
            steps: 0,
            plan,
        };
        for node in 0..world.plan.nodes {
            world.after(world.plan.starts_at[node], Due::Start(node));
        }
        world
    }

    /// Creates a world in which only the test acts.
    #[cfg(test)]
    pub(super) fn quiet(plan: Plan) -> Self {
        let mut world = World::new(plan, rand::SeedableRng::seed_from_u64(7), false);
        world.calm = true;
        world
    }

    pub(super) fn after(&mut self, delay: Duration, due: Due) {
        self.sequence += 1;
        self.agenda.insert((self.now + delay, self.sequence), due);
    }

    pub(super) fn instant(&self) -> Instant {
        self.base + self.now
    }

    pub(super) fn wall(&self, node: usize) -> crate::model::Time {
        self.nodes[node].wall(self.now)
    }

    pub(super) fn millis(&mut self, range: std::ops::Range<u64>) -> Duration {
        Duration::from_millis(self.rng.random_range(range))
    }

    /// Lets time pass until `until` or a violation.
    pub(super) fn run_until(&mut self, until: Duration) {
        while self.checker.violation.is_none()
            && let Some(next) = self.agenda.first_entry().filter(|next| next.key().0 <= until)
        {
            let ((at, _), due) = next.remove_entry();
            self.now = at;
            let node = self.step(due);
            self.run_links(node);
            if let Some(node) = node {
                self.reply_to_waits(node);
                self.run_links(Some(node));
                self.check(node);
            }
        }
        self.now = self.now.max(until);
    }

    pub(super) fn check(&mut self, node: usize) {
        self.steps += 1;
        if let Some(process) = &self.nodes[node].process {
            self.checker.note_stable(process);
            if let Some(max_memory) = self.plan.max_memory {
                self.checker.check_memory(node, process, max_memory);
            }
        }
        let deep = self.steps.is_multiple_of(SCRUB_EVERY);
        // Looking at every range of a full-size store is not cheap.
        if self.plan.is_full_size() && !deep {
            return;
        }
        let wall = self.wall(node);
        if let Some(process) = &self.nodes[node].process {
            self.checker.look(node, process, wall, self.now);
            if deep {
                self.checker.recompute(node, process);
            }
        }
        self.check_held(node);
    }

    /// Handles a due event. Returns its node.
    pub(super) fn step(&mut self, due: Due) -> Option<usize> {
        match due {
            Due::Start(node) => self.start(node),
            Due::Tick(node, number) if self.runs(node, number) => self.tick(node),
            Due::Feed(node, number) if self.runs(node, number) => self.feed(node),
            Due::Drained(node, number) if self.runs(node, number) => self.leave_if_drained(node),
            Due::Stop(node, number) if self.runs(node, number) => self.stop(node),
            Due::Heartbeat(node, connection) => self.heartbeat(node, connection),
            Due::Waited(node, number) => return self.runs(node, number).then_some(node),
            Due::Wake(node, connection) => {
                let process = self.nodes[node].process.as_mut()?;
                let (peer, end) = process.link_over(connection)?;
                end.wake_at = None;
                self.stirred.insert((node, peer));
            }
            Due::Arrive(connection, side) => return self.arrive(connection, side),
            Due::Break(connection, side) => self.close(connection, side),
            Due::Handshake(connection) => self.end_handshake(connection),
            Due::Act(act) => return self.act(act),
            Due::NextAct => self.next_act(),
            _ => return None,
        }
        match due {
            Due::Start(node) | Due::Tick(node, _) | Due::Feed(node, _) | Due::Drained(node, _) => Some(node),
            Due::Wake(node, _) | Due::Heartbeat(node, _) => Some(node),
            _ => None,
        }
    }

    pub(super) fn runs(&self, node: usize, number: u64) -> bool {
        self.nodes[node].process.as_ref().is_some_and(|process| process.number == number)
    }

    pub(super) fn start(&mut self, node: usize) {
        if self.nodes[node].process.is_some() {
            return;
        }
        if self.plan.harsh && !self.calm && self.processes >= self.plan.nodes as u64 {
            self.move_node(node);
        }
        self.processes += 1;
        let number = self.processes;
        let incarnation = timestamp::incarnation(self.rng.random()).expect("a random id is not zero");
        let process = Process::new(number, &self.nodes[node], incarnation, &self.plan, self.base, self.now);
        self.checker.begin(node, &process, self.now);
        self.nodes[node].process = Some(process);
        self.nodes[node].starts_at = None;
        let phase = self.millis(1..200);
        self.after(phase, Due::Tick(node, number));
    }

    /// Does what a node's slow tasks do once a second.
    pub(super) fn tick(&mut self, node: usize) {
        let (wall, now) = (self.wall(node), self.now);
        let Some(process) = &mut self.nodes[node].process else { return };
        let number = process.number;
        let news = process.replica.local.tick(wall);
        let store = &process.replica.local.store;
        if store.totals().dead_cells > self.plan.tombstone_limit || !store.has_tombstone_room() {
            // What is about to be dropped may never have been checked.
            self.checker.look(node, process, wall, now);
        }
        if let Some(mut limit) = TombstoneLimit::begin(&process.replica.local) {
            while !limit.step(&process.replica.local) {}
        }
        let hlc = store.now(wall);
        if !self.plan.is_full_size() || now >= self.plan.active || self.rng.random_bool(0.2) {
            for range in 0..store.range_count() {
                store.sweep(range, hlc);
                process.replica.local.purge(range);
            }
        }
        for news in news {
            match news {
                LocalEvent::Lapsed(name) => self.checker.on_lapse(node, process, &name, now),
                LocalEvent::Verdict(Verdict::Superseded) => {
                    self.checker.fail(format!("n{node} was superseded although nobody else has its name"));
                }
            }
        }
        self.dial(node);
        self.check_drained(node);
        let again = self.millis(950..1050);
        self.after(again, Due::Tick(node, number));
    }

    pub(super) fn drop_links(&mut self, node: usize) {
        let Some(process) = &self.nodes[node].process else { return };
        let connections: Vec<_> = process.links.values().map(|end| (end.connection, end.side)).collect();
        for (connection, side) in connections {
            self.close(connection, side);
        }
    }
}
