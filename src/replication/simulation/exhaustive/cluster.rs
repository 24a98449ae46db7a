//! A small cluster that the test steps by hand: real stores, sessions, queues and codec, on a clock that only
//! the steps move.

mod picture;
mod wires;

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, LazyLock};
use std::time::Duration;

use bytes::Bytes;
use tokio::time::Instant;

use super::action::{Action, ClientWrite, Grain, Limits, Scenario};
use super::adapter::{self, STEP};
use super::checker::Checker;
use crate::model::{Deadline, Time, timestamp};
use crate::replication::cells::CellsEncoder;
use crate::replication::local::Local;
use crate::replication::push;
use crate::replication::queue::Queue;
use crate::replication::session::Session;
use crate::store::{Batch, Write};

/// The keys that scenarios name by number.
const KEYS: [&[u8]; 2] = [b"k0", b"k1"];

/// How far every step moves the monotonic clock of the sessions: longer than the pause between two syncs, so
/// that a wanted sync begins. No history here lasts as long as a session waits for a permit.
const PAUSE: Duration = Duration::from_millis(1100);

/// The most frames that one sync of a few keys can take.
const MAX_FRAMES: usize = 1000;

/// The most frames after which a sync may be cut: no sync of two keys takes more.
const MAX_CUT: u8 = 8;

/// How many times all nodes sync, tick and let time pass before they must be equal and without tombstones.
const QUIESCE_LIMIT: usize = 12;

/// Instants are only compared with each other: all histories begin at the same one.
static BEGINNING: LazyLock<Instant> = LazyLock::new(Instant::now);

struct Node {
    local: Local,
    restarts: u8,
    links: BTreeMap<usize, Link>,
}

/// One end of a link.
struct Link {
    queue: Arc<Queue>,
    session: Session,
    /// A hash of everything that has happened to the session since it was last idle; 0 while it is idle.
    /// Determines its state.
    past: u64,
}

pub(super) struct Cluster<'s> {
    scenario: &'s Scenario,
    keys: &'static [&'static [u8]],
    nodes: Vec<Node>,
    /// Frames in flight, by sender and receiver.
    wires: Vec<VecDeque<Bytes>>,
    wall: Time,
    now: Instant,
    left: Limits,
    pub(super) checker: Checker,
}

impl<'s> Cluster<'s> {
    /// Creates the state that every history of a scenario begins with.
    pub(super) fn new(scenario: &'s Scenario) -> Self {
        let count = scenario.nodes;
        let wall = adapter::epoch();
        let keys = scenario.writes.iter().map(|write| write.key() + 1).max().unwrap_or(1);
        let node = |node| {
            let local = adapter::start(node, 0, scenario.max_memory, later_by(scenario, node, wall));
            Node { local, restarts: 0, links: BTreeMap::new() }
        };
        let keys = &KEYS[..keys];
        let mut cluster = Cluster {
            scenario,
            keys,
            nodes: (0..count).map(node).collect(),
            wires: vec![VecDeque::new(); count * count],
            wall,
            now: *BEGINNING,
            left: Limits::NONE,
            checker: Checker::new(scenario, keys),
        };
        if scenario.met {
            cluster.meet();
        }
        for &action in scenario.before {
            cluster.apply(action);
        }
        cluster.left = scenario.limits;
        cluster
    }

    /// Links all nodes and lets them exchange their members.
    fn meet(&mut self) {
        for (a, b) in self.pairs() {
            self.now += PAUSE;
            self.link(a, b);
            self.deliver_all();
        }
        // If not all are linked, some nodes receive the others' names only in the second sync.
        for _ in 0..=self.scenario.never_linked.len().min(1) {
            for (a, b) in self.pairs() {
                self.now += PAUSE;
                self.begin(a, b);
                self.deliver_all();
            }
            self.upkeep();
        }
    }

    fn pairs(&self) -> Vec<(usize, usize)> {
        let count = self.nodes.len();
        let pairs = (0..count).flat_map(|a| (a + 1..count).map(move |b| (a, b)));
        let is_never = |a: usize, b: usize| {
            self.scenario.never_linked.iter().any(|&(c, d)| (usize::from(c), usize::from(d)) == (a, b))
        };
        pairs.filter(|&(a, b)| !is_never(a, b)).collect()
    }

    /// The clock of a node.
    fn wall_of(&self, node: usize) -> Time {
        later_by(self.scenario, node, self.wall)
    }

    fn is_linked(&self, a: usize, b: usize) -> bool {
        self.nodes[a].links.contains_key(&b)
    }

    fn wire(&mut self, from: usize, to: usize) -> &mut VecDeque<Bytes> {
        let count = self.nodes.len();
        &mut self.wires[from * count + to]
    }

    fn on_wire(&self, from: usize, to: usize) -> &VecDeque<Bytes> {
        &self.wires[from * self.nodes.len() + to]
    }

    /// Whether neither end of a link has anything under way.
    fn is_idle(&self, a: usize, b: usize) -> bool {
        let idle =
            |a: usize, b: usize| self.nodes[a].links.get(&b).is_some_and(|link| !link.session.has_work());
        idle(a, b) && idle(b, a)
    }

    /// Returns every step that may be possible now; only taking it shows whether it is.
    pub(super) fn actions(&self) -> Vec<Action> {
        let mut actions = Vec::new();
        let small = |node: usize| u8::try_from(node).expect("clusters are small");
        let grain = self.scenario.grain;
        for node in 0..self.nodes.len() {
            let node = small(node);
            if self.scenario.writers.is_empty() || self.scenario.writers.contains(&node) {
                actions.extend(self.scenario.writes.iter().map(|&write| Action::Write { node, write }));
            }
            actions.extend([Action::Restart { node }, Action::Lapse { node }]);
            if grain == Grain::Frames {
                actions.push(Action::Tick { node });
            }
        }
        actions.push(Action::Pass);
        if grain != Grain::Frames {
            actions.push(Action::Upkeep);
        }
        for (a, b) in self.pairs() {
            let pair = (small(a), small(b));
            if !self.is_linked(a, b) {
                actions.push(Action::Link { a: pair.0, b: pair.1 });
                continue;
            }
            actions.push(Action::Cut { a: pair.0, b: pair.1 });
            if grain == Grain::Whole {
                actions.push(Action::Sync { node: pair.0, peer: pair.1 });
            }
            for (from, to) in [pair, (pair.1, pair.0)] {
                let (a, b) = (usize::from(from), usize::from(to));
                let waits = !self.on_wire(a, b).is_empty();
                let idle = self.is_idle(a, b);
                if waits && (grain != Grain::Whole || idle) {
                    actions.push(Action::Deliver { from, to });
                }
                actions.extend(waits.then_some(Action::Lose { from, to }));
                if grain == Grain::Frames {
                    actions.push(Action::Heartbeat { from, to });
                }
                if grain != Grain::Whole && idle {
                    actions.push(Action::Begin { node: from, peer: to });
                }
                if grain == Grain::Whole {
                    actions.extend((1..=MAX_CUT).map(|frames| Action::Interrupt {
                        node: from,
                        peer: to,
                        frames,
                    }));
                }
            }
        }
        actions.retain(|action| self.left.clone().of(*action).is_none_or(|left| *left > 0));
        actions
    }

    /// Takes a step. Returns false if there was nothing to do.
    pub(super) fn apply(&mut self, action: Action) -> bool {
        self.now += PAUSE;
        if let Some(left) = self.left.of(action) {
            *left = left.saturating_sub(1);
        }
        let done = match action {
            Action::Write { node, write } => self.write(usize::from(node), write),
            Action::Deliver { from, to } => self.receive(usize::from(from), usize::from(to)),
            Action::Begin { node, peer } => self.begin(usize::from(node), usize::from(peer)),
            Action::Sync { node, peer } => self.sync(usize::from(node), usize::from(peer), MAX_FRAMES).0,
            Action::Interrupt { node, peer, frames } => {
                let (node, peer) = (usize::from(node), usize::from(peer));
                let (moved, ended) = self.sync(node, peer, usize::from(frames));
                self.cut(node, peer);
                moved && !ended
            }
            Action::Cut { a, b } => self.cut(usize::from(a), usize::from(b)),
            Action::Link { a, b } => self.link(usize::from(a), usize::from(b)),
            Action::Lose { from, to } => self.lose(usize::from(from), usize::from(to)),
            Action::Heartbeat { from, to } => self.heartbeat(usize::from(from), usize::from(to)),
            Action::Tick { node } => self.tick(usize::from(node)),
            Action::Upkeep => self.upkeep(),
            Action::Lapse { node } => {
                adapter::let_lapse(&self.nodes[usize::from(node)].local, self.wall_of(usize::from(node)))
            }
            Action::Restart { node } => self.restart(usize::from(node)),
            Action::Pass => {
                self.wall = timestamp::later(self.wall, STEP);
                true
            }
        };
        self.look_at_all();
        done
    }

    fn look_at_all(&mut self) {
        for (node, Node { local, .. }) in self.nodes.iter().enumerate() {
            self.checker.look(node, local, later_by(self.scenario, node, self.wall));
        }
    }

    fn write(&mut self, node: usize, write: ClientWrite) -> bool {
        let wall = self.wall_of(node);
        let Node { local, restarts, .. } = &self.nodes[node];
        let key = self.keys[write.key()];
        let before = adapter::view(local, key);
        let value = format!("{}{restarts}", node + 1);
        let deadline = Some(Deadline::after(wall, STEP / 2));
        let mut batch = Batch::default();
        local.store.begin(&mut batch, wall);
        let now = batch.now();
        let written = local.store.write(&mut batch, key, |live| {
            let value = value.as_bytes();
            let what = match write {
                ClientWrite::Set(_) => Write::Set { value, deadline: None },
                ClientWrite::SetFor(_) => Write::Set { value, deadline },
                ClientWrite::Del(_) => Write::Delete,
                ClientWrite::Expire(_) => Write::Deadline(deadline),
                ClientWrite::Persist(_) if live.is_none_or(|live| live.deadline().is_none()) => Write::Keep,
                ClientWrite::Persist(_) => Write::Deadline(None),
                ClientWrite::Incr(_) => Write::Add(1),
            };
            (what, ())
        });
        if written.is_err() || local.store.publish(&mut batch) == 0 {
            return false;
        }
        if let Some(after) = adapter::view(local, key) {
            self.checker.on_write(node, local, write, (before.as_ref(), &after), now);
        }
        // As the task does that takes from the feed.
        let mut cells = Vec::new();
        let taken = local.store.feed().take(&mut cells);
        let links = &self.nodes[node].links;
        push::encode(&local.store, &mut CellsEncoder::default(), cells, taken.through, |frame, through| {
            links.values().for_each(|link| link.queue.put(frame.clone(), through));
        });
        local.store.feed().handed_on();
        self.pump(node);
        self.deliver_answers();
        true
    }

    fn tick(&mut self, node: usize) -> bool {
        let wall = self.wall_of(node);
        let local = &self.nodes[node].local;
        adapter::tick(local, wall);
        self.checker.look(node, local, wall);
        true
    }

    fn upkeep(&mut self) -> bool {
        let count = self.nodes.len();
        for from in 0..count {
            for to in 0..count {
                if self.on_wire(from, to).is_empty() {
                    self.heartbeat(from, to);
                }
            }
        }
        for node in 0..count {
            self.tick(node);
        }
        true
    }

    fn restart(&mut self, node: usize) -> bool {
        for peer in 0..self.nodes.len() {
            self.cut(node, peer);
        }
        let restarts = self.nodes[node].restarts + 1;
        let local = adapter::start(node, restarts, self.scenario.max_memory, self.wall_of(node));
        self.nodes[node] = Node { local, restarts, links: BTreeMap::new() };
        self.checker.begin(node);
        true
    }

    /// Lets clients delete, at each node, all keys that it shows.
    fn delete_everything(&mut self) {
        for node in 0..self.nodes.len() {
            for key in (0..).take(self.keys.len()) {
                self.write(node, ClientWrite::Del(key));
            }
        }
    }

    /// Ends all faults, lets all nodes sync until they are equal and nothing is left to purge, and checks the
    /// end.
    pub(super) fn quiesce(&mut self) {
        for (a, b) in self.pairs() {
            self.cut(a, b);
        }
        if self.scenario.max_memory.is_some() {
            self.delete_everything();
        }
        let mut difference = None;
        for _ in 0..QUIESCE_LIMIT {
            for (a, b) in self.pairs() {
                self.now += PAUSE;
                if !self.link(a, b) {
                    self.begin(a, b);
                }
                self.deliver_all();
            }
            self.wall = timestamp::later(self.wall, STEP);
            // Twice, so that every node also receives the names of nodes that it has no link to.
            self.upkeep();
            self.upkeep();
            self.deliver_all();
            self.look_at_all();
            let locals: Vec<&Local> = self.nodes.iter().map(|node| &node.local).collect();
            difference = self.checker.difference(&locals, self.wall);
            if self.checker.violation.is_some() || difference.is_none() {
                break;
            }
        }
        if let Some(difference) = difference {
            self.checker.fail(|| format!("in the end {difference}"));
        }
        let locals: Vec<&Local> = self.nodes.iter().map(|node| &node.local).collect();
        self.checker.check_end(&locals, self.wall);
    }
}

/// The clock of a node when one that is not ahead shows `wall`.
fn later_by(scenario: &Scenario, node: usize, wall: Time) -> Time {
    timestamp::later(wall, Duration::from_millis(scenario.ahead.get(node).copied().unwrap_or_default()))
}
