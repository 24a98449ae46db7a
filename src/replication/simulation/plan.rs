//! The plan of one history: the cluster, and which faults may occur, all drawn from the seed.

use std::collections::BTreeSet;
use std::time::Duration;

use rand::Rng as _;
use rand::rngs::StdRng;
use rand::seq::IndexedRandom as _;

use super::topology::Shape;
use crate::model::RangeCount;

/// Seeds from here on are those of harsh histories.
pub const HARSH_FROM: u64 = 1 << 40;

/// Seeds from here on are those of harsh histories in which operators also make nodes discard everything and rejoin.
pub const REJOIN_FROM: u64 = 1 << 41;

/// The parameters of a history.
#[derive(Clone, Debug)]
pub(super) struct Plan {
    pub(super) nodes: usize,
    pub(super) shape: Shape,
    pub(super) edges: BTreeSet<(usize, usize)>,
    pub(super) join: Vec<Vec<usize>>,
    pub(super) starts_at: Vec<Duration>,
    /// The offset of each machine's clock, in milliseconds.
    pub(super) skew: Vec<i64>,
    pub(super) keys: usize,
    pub(super) ranges: RangeCount,
    pub(super) max_clock_skew: Duration,
    pub(super) forget_after: Option<Duration>,
    pub(super) tombstone_limit: u64,
    pub(super) max_memory: Option<u64>,
    /// The bytes of keys that clients keep in the end, if memory is limited.
    pub(super) kept_memory: u64,
    pub(super) feed_limit: u64,
    /// The most bytes of pushes that wait for one peer, and that a socket holds.
    pub(super) queue_limit: usize,
    pub(super) socket: usize,
    /// How long clients write and faults happen.
    pub(super) active: Duration,
    /// The mean time between two events.
    pub(super) pace: Duration,
    /// One event in this many is a fault.
    pub(super) fault_every: u32,
    /// Whether there are long cuts, in which members may lapse.
    pub(super) long: bool,
    /// How long the even nodes run without the odd ones at first.
    pub(super) halves: Option<Duration>,
    /// Whether operators remove members.
    pub(super) forgetful: bool,
    /// Whether the faults of [harsh histories](super::harsh) occur.
    pub(super) harsh: bool,
    /// Whether operators make nodes discard everything and rejoin.
    pub(super) rejoins: bool,
}

/// An action of a client or an operator, or a fault.
#[derive(Clone, Copy, Debug)]
pub(super) enum Act {
    Mend(usize, usize),
    Clock(usize, i64),
    Burst(usize),
    Leave(usize),
    KeepAlive(usize),
    Damage(usize),
}

impl Plan {
    pub(super) fn is_full_size(&self) -> bool {
        self.ranges == RangeCount::FULL
    }

    /// Plans a cluster of nodes that reach each other along `shape`. Node 0 joins no other, the others join
    /// their neighbours.
    pub(super) fn plain(nodes: usize, shape: Shape, rng: &mut StdRng) -> Plan {
        let edges = shape.edges(nodes, rng);
        let neighbours = |node: usize| {
            let other =
                move |&(a, b): &(usize, usize)| if a == node { Some(b) } else { (b == node).then_some(a) };
            edges.iter().filter_map(other).collect::<Vec<_>>()
        };
        Plan {
            nodes,
            shape,
            join: (0..nodes).map(|node| if node == 0 { Vec::new() } else { neighbours(node) }).collect(),
            edges,
            starts_at: vec![Duration::ZERO; nodes],
            skew: vec![0; nodes],
            keys: 20,
            ranges: RangeCount::power_of_two(4),
            max_clock_skew: Duration::from_millis(500),
            forget_after: None,
            tombstone_limit: 100_000,
            max_memory: None,
            kept_memory: 0,
            feed_limit: 1 << 20,
            queue_limit: 1 << 20,
            socket: 1 << 20,
            active: Duration::ZERO,
            pace: Duration::from_millis(100),
            fault_every: u32::MAX,
            long: false,
            halves: None,
            forgetful: false,
            harsh: false,
            rejoins: false,
        }
    }

    pub(super) fn draw(seed: u64, rng: &mut StdRng) -> Plan {
        let full_size = seed % 50 == 49;
        let sizes: &[usize] = if full_size { &[2, 3, 3] } else { &[2, 3, 3, 3, 3, 4, 4, 5, 5, 7] };
        let nodes = *sizes.choose(rng).expect("it is not empty");
        let mut plan = Plan::plain(nodes, Shape::draw(rng), rng);
        plan.keys = rng.random_range(4..40);
        plan.active = Duration::from_secs(rng.random_range(25..60));
        plan.pace = Duration::from_millis(rng.random_range(60..300));
        plan.fault_every = rng.random_range(15..80);
        if rng.random_bool(0.5) {
            plan.queue_limit = rng.random_range(200..2000);
            plan.socket = rng.random_range(100..4000);
        }
        if rng.random_bool(0.2) {
            plan.feed_limit = rng.random_range(200..2000);
        }
        if rng.random_bool(0.2) {
            plan.tombstone_limit = rng.random_range(2..12);
        }
        plan.long = rng.random_bool(0.16);
        if plan.long {
            plan.active = Duration::from_secs(rng.random_range(100..130));
            plan.pace *= 2;
            plan.fault_every = rng.random_range(20..40);
            plan.forget_after = rng.random_bool(0.8).then_some(Duration::from_secs(60));
        }
        plan.forgetful = rng.random_bool(0.1);
        plan.harsh = seed >= HARSH_FROM;
        plan.rejoins = seed >= REJOIN_FROM;
        for skew in &mut plan.skew {
            *skew = rng.random_range(-200..200);
        }
        plan.draw_start(rng);
        if full_size {
            plan.ranges = RangeCount::FULL;
            plan.active = Duration::from_secs(20);
        }
        if plan.harsh && rng.random_bool(0.4) {
            plan.draw_memory(rng);
        }
        plan
    }

    /// Draws which nodes join which, and when each starts.
    fn draw_start(&mut self, rng: &mut StdRng) {
        let late = |rng: &mut StdRng| Duration::from_millis(rng.random_range(0..3000));
        self.starts_at = (0..self.nodes).map(|_| late(rng)).collect();
        if self.shape == Shape::Mesh && rng.random_bool(0.4) {
            self.halves =
                rng.random_bool(0.4).then(|| Duration::from_millis(rng.random_range(10_000..35_000)));
            // No node comes first: each waits for some, along a tree that connects all.
            self.join = vec![Vec::new(); self.nodes];
            for node in 1..self.nodes {
                let other = rng.random_range(0..node);
                let (a, b) = if rng.random_bool(0.5) { (node, other) } else { (other, node) };
                self.join[a].push(b);
            }
            for node in 0..self.nodes {
                while self.join[node].is_empty() || rng.random_bool(0.3) {
                    let other = rng.random_range(0..self.nodes);
                    if other != node && !self.join[node].contains(&other) {
                        self.join[node].push(other);
                    } else if !self.join[node].is_empty() {
                        break;
                    }
                }
            }
        }
        if rng.random_bool(0.4) {
            let newcomer = rng.random_range(1..self.nodes);
            self.starts_at[newcomer] = Duration::from_secs(rng.random_range(5..25));
        }
    }
}
