//! What the node does to its ranges by itself: it collects expired cells, purges dead ones, and checks the sums.

use std::sync::atomic::Ordering;

use super::super::cell::Cell;
use super::super::raw;
use super::super::sums::Sums;
use super::{Ranges, Table, same_key};
use crate::ablation::{Ablation, ablated};
use crate::model::Time;

impl Ranges {
    /// Collects the cells of a range with a deadline that has passed and that is still to be swept.
    ///
    /// Returns at once, without a lock, if none can be due.
    pub(in super::super) fn collect_expired(&self, range: usize, now: Time, expired: &mut Vec<Cell>) {
        let next_deadline = &self.sums[range].next_deadline;
        if !next_deadline.load(Ordering::Relaxed) > now.0 {
            return;
        }
        let earliest_left = std::cell::Cell::new(0);
        let visit = |cell: &Cell| match cell.pending_deadline() {
            Some(deadline) if deadline <= now => expired.push(cell.clone()),
            Some(deadline) => earliest_left.set(earliest_left.get().max(!deadline.0)),
            None => {}
        };
        self.walk_then(range, visit, || next_deadline.store(earliest_left.get(), Ordering::Relaxed));
    }

    /// Whether the summary vector covers all parts of a cell that are dead at `stable`.
    ///
    /// It does not cover a write of a node that came back after the stable time had risen without it. If such a part
    /// were purged, an older copy of it would be admitted.
    fn is_covered(&self, cell: &Cell, stable: Time) -> bool {
        let mut is_covered = true;
        cell.dead_dots(stable, |(time, origin)| is_covered &= self.origins.covers(time, origin));
        is_covered || ablated(Ablation::PurgeUncovered)
    }

    /// Removes the cells of a range that are dead at `stable` and covered; returns how many.
    ///
    /// Does nothing, without a lock, if there can be none.
    pub(in super::super) fn purge(&self, range: usize, stable: Time) -> usize {
        let sums = &self.sums[range];
        if !sums.may_have_dead_at(stable) {
            return 0;
        }
        let mut table = self.map.shards()[range].write();
        let (mut dead, mut stripped, mut first_left) = (Vec::new(), Vec::new(), 0);
        for (cell, _) in raw::entries(&table) {
            let first_death = cell.first_death();
            let next = if first_death.is_none_or(|death| death > stable) {
                cell.next_death()
            } else if !self.is_covered(cell, stable) {
                first_death
            } else if cell.is_dead_at(stable) {
                dead.push(cell.clone());
                continue;
            } else {
                stripped.push(cell.stripped(&mut Vec::new(), stable));
                stripped.last().and_then(Cell::next_death)
            };
            first_left = next.map_or(first_left, |death| first_left.max(!death.0));
        }
        for cell in &dead {
            let hash = self.seed.key_hash(cell.key());
            table.remove_entry(hash, |(other, _)| same_key(other, cell.key()));
            sums.remove(cell, self.hash(hash, cell));
            self.memory.remove(cell);
        }
        for cell in stripped {
            let hash = self.seed.key_hash(cell.key());
            let slot = table.get_mut(hash, |(other, _)| same_key(other, cell.key()));
            let (slot, _) = slot.expect("the cell was found under the same lock");
            sums.replace(slot, self.hash(hash, slot), &cell, self.hash(hash, &cell));
            self.memory.replace(slot, &cell);
            *slot = cell;
        }
        sums.first_death.store(first_left, Ordering::Relaxed);
        // A table never shrinks by itself. Half of the new one is free, so that it does not grow again at once.
        if table.capacity() >= 4 * table.len() {
            let room = 2 * table.len();
            table.shrink_to(room, |(cell, _)| self.seed.key_hash(cell.key()));
        }
        drop(table);
        dead.len()
    }

    /// Empties a range and returns its cells, in constant time.
    ///
    /// They count as memory until they are [freed](Self::free).
    pub(in super::super) fn take(&self, range: usize) -> Table {
        let mut table = self.map.shards()[range].write();
        self.sums[range].reset();
        std::mem::take(&mut *table)
    }

    /// Stops counting a [taken](Self::take) cell as memory.
    pub(in super::super) fn free(&self, cell: &Cell) {
        self.memory.remove(cell);
    }

    /// Recomputes the sums of a range from its cells and corrects them; returns whether they were correct.
    pub(in super::super) fn scrub(&self, range: usize) -> bool {
        let sums = &self.sums[range];
        // Sums change only under the write lock, so the read lock keeps them constant.
        let table = self.map.shards()[range].read();
        let fresh = Sums::default();
        for (cell, _) in raw::entries(&table) {
            fresh.add(cell, self.hash(self.seed.key_hash(cell.key()), cell));
        }
        let exact = fresh.totals() == sums.totals();
        if !exact {
            sums.copy(&fresh);
        }
        drop(table);
        exact
    }
}
