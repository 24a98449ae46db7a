//! Limits of memory in harsh histories: clients' writes and peers' cells are refused at times. Once the faults
//! have ended, clients delete until what all nodes hold together fits into each.

use std::time::Duration;

use rand::Rng as _;
use rand::rngs::StdRng;
use rand::seq::{IndexedRandom as _, SliceRandom as _};

use super::checker::Held;
use super::node::Process;
use super::plan::Plan;
use super::world::{SECOND, World};
use crate::store::{Cell, Write};

/// The smallest limit, in bytes: the largest value of a client fits.
const LEAST_MEMORY: u64 = 500;

/// The least room that clients leave free, in bytes, so that one more write of any client fits.
const LEAST_ROOM: u64 = 120;

/// The longest that the last restart of a node may take, once the faults have ended.
const START_LIMIT: Duration = Duration::from_secs(60);

/// The longest that clients may delete until what all nodes hold fits.
const DELETE_LIMIT: Duration = Duration::from_secs(120);

/// The longest that nodes may then take until they hold the same keys. They ask again for what they have
/// refused within 5 s, and there may be seven in a line. One history in a hundred thousand takes longer: tombstones fill
/// the reserve of a node, and the stable time waits for a node that has just come.
const EQUAL_LIMIT: Duration = Duration::from_secs(25);

impl Plan {
    /// Draws a limit that clients reach, and how much of it they use in the end.
    pub(super) fn draw_memory(&mut self, rng: &mut StdRng) {
        self.keys = rng.random_range(20..40);
        let max_memory = LEAST_MEMORY.max(self.keys as u64 * rng.random_range(12..50));
        let kept = if rng.random_bool(0.3) { 0 } else { rng.random_range(0..max_memory) };
        self.max_memory = Some(max_memory);
        self.kept_memory = kept.min(max_memory - LEAST_ROOM);
    }
}

impl World {
    /// Deletes until what all nodes hold together fits into each, and waits until all nodes hold that.
    pub(super) fn make_room(&mut self) {
        let latest = self.now + START_LIMIT;
        while self.now < latest && !self.all_run() {
            self.run_until(self.now + SECOND);
        }
        let pause = self.millis(0..20_000);
        self.run_until(self.now + pause);
        let (mut began, mut has_surplus) = (self.now, true);
        let latest = self.now + DELETE_LIMIT;
        while self.checker.violation.is_none() && (has_surplus || !self.is_equal()) {
            has_surplus = self.delete_surplus();
            if has_surplus {
                began = self.now;
            }
            if began > latest {
                self.checker.fail(format!("clients delete for {DELETE_LIMIT:?}, and there is no room"));
            } else if self.now > began + EQUAL_LIMIT {
                let left = self.unconverged();
                self.checker.fail(format!("not equal {EQUAL_LIMIT:?} after there was room: {left:?}"));
            }
            self.run_until(self.now + SECOND);
            self.equal_after = self.now - began;
        }
    }

    /// Deletes keys until all that nodes hold together is no more than planned. Returns whether there was too
    /// much.
    ///
    /// Each delete removes the copy of one node. Another copy of the key may arrive later, so this must be
    /// repeated.
    fn delete_surplus(&mut self) -> bool {
        let sizes: Vec<_> = (0..self.plan.keys).map(|key| self.size_of(key)).collect();
        let mut total: u64 = sizes.iter().sum();
        if total <= self.plan.kept_memory {
            return false;
        }
        let mut keys: Vec<_> = (0..self.plan.keys).filter(|&key| sizes[key] > 0).collect();
        keys.shuffle(&mut self.rng);
        for key in keys {
            if total <= self.plan.kept_memory {
                break;
            }
            let holders: Vec<_> = (0..self.plan.nodes).filter(|&node| self.shows(node, key)).collect();
            if let Some(&node) = holders.choose(&mut self.rng) {
                self.write(node, key, Write::Delete);
                self.check(node);
                total -= sizes[key];
            }
        }
        true
    }

    /// Returns the most bytes that a key takes once all nodes hold what any of them does: different slots of
    /// counters may add up.
    fn size_of(&self, key: usize) -> u64 {
        let mut kept: Vec<(Held, u64)> = Vec::new();
        let mut counts = false;
        for process in self.nodes.iter().filter_map(|node| node.process.as_ref()) {
            let cell = process.replica.local.store.cell(self.checker.key(key));
            let Some(cell) = cell.filter(Cell::counts_as_live) else { continue };
            let held = Held::read(process, &cell);
            counts |= cell.has_counter();
            if kept.iter().all(|(other, _)| *other != held) {
                kept.push((held, cell.memory()));
            }
        }
        let sizes = kept.iter().map(|(_, size)| size);
        if counts { sizes.sum() } else { sizes.max().copied().unwrap_or(0) }
    }

    /// Whether a client can read a key at a node, and delete it there.
    fn shows(&self, node: usize, key: usize) -> bool {
        let wall = self.wall(node);
        let process = self.nodes[node].process.as_ref().filter(|process| process.leaving.is_none());
        process.is_some_and(|process| {
            let store = &process.replica.local.store;
            let cell = store.cell(self.checker.key(key));
            cell.is_some_and(|cell| Held::read(process, &cell).shown(store.now(wall)).is_some())
        })
    }

    /// Whether all nodes run and take writes.
    fn all_run(&self) -> bool {
        let takes_writes = |process: &Process| process.leaving.is_none();
        self.nodes.iter().all(|node| node.process.as_ref().is_some_and(takes_writes))
    }

    /// Whether all nodes run and hold the same live cells.
    fn is_equal(&self) -> bool {
        let live = |process: &Process| {
            let totals = process.replica.local.store.totals();
            (totals.live, totals.live_cells)
        };
        let mut held = self.nodes.iter().map(|node| node.process.as_ref().map(live));
        let first = held.next().flatten();
        first.is_some() && held.all(|held| held == first)
    }
}
