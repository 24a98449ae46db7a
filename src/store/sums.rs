//! The sums of a range: hashes and counts of its cells.

use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};

use super::cell::Cell;
use crate::model::Time;

/// The sums of one range. They are written only under the range's write lock, so plain loads and stores suffice. They
/// are atomic so that a total over all ranges needs no lock.
#[derive(Default)]
pub(super) struct Sums {
    /// Sum of the hashes of values and active slots, and the number of cells with any.
    live: AtomicU64,
    pub(super) live_cells: AtomicU32,
    /// The same for all other parts: tombstones, registers that were swept as expired, slots that were reset.
    dead: AtomicU64,
    dead_cells: AtomicU32,
    /// The number of live cells with a deadline.
    pub(super) expiring_cells: AtomicU32,
    /// The inverted bits of a time at or before the earliest deadline that the sweep awaits in the range; 0 means
    /// none.
    pub(super) next_deadline: AtomicU64,
    /// The same for the earliest death of a part that is not live.
    pub(super) first_death: AtomicU64,
}

/// The sums of one range or of all.
#[derive(Clone, Copy, Default, PartialEq, Eq, Debug)]
pub struct Totals {
    /// Sum modulo 2^64 of the hashes of values and active slots.
    pub live: u64,
    /// The number of cells that hold a value or count, including expired ones that were not swept yet.
    pub live_cells: u64,
    /// The number of those cells with a deadline.
    pub expiring_cells: u64,
    /// Sum modulo 2^64 of the hashes of all other parts.
    pub dead: u64,
    /// The number of cells without a live part: tombstones, and expired ones that were swept.
    pub dead_cells: u64,
}

impl Totals {
    pub(super) fn add(self, other: Totals) -> Totals {
        Totals {
            live: self.live.wrapping_add(other.live),
            live_cells: self.live_cells + other.live_cells,
            expiring_cells: self.expiring_cells + other.expiring_cells,
            dead: self.dead.wrapping_add(other.dead),
            dead_cells: self.dead_cells + other.dead_cells,
        }
    }
}

/// The digest of a set of cells: the sum of their hashes modulo 2^64, and their number.
#[derive(Clone, Copy, Default, PartialEq, Eq, Debug)]
pub(crate) struct Digest {
    pub(crate) sum: u64,
    pub(crate) cells: u64,
}

impl Digest {
    pub(crate) fn add(&mut self, other: Digest) {
        self.sum = self.sum.wrapping_add(other.sum);
        self.cells += other.cells;
    }
}

/// The hash of a cell: the sums of the hashes of its live and of its other parts.
#[derive(Clone, Copy, Default)]
pub(super) struct Hash {
    pub(super) live: u64,
    pub(super) dead: u64,
}

impl Sums {
    pub(super) fn reset(&self) {
        self.copy(&Sums::default());
    }

    pub(super) fn copy(&self, other: &Sums) {
        let words = [
            (&self.live, &other.live),
            (&self.dead, &other.dead),
            (&self.next_deadline, &other.next_deadline),
            (&self.first_death, &other.first_death),
        ];
        for (own, other) in words {
            own.store(other.load(Ordering::Relaxed), Ordering::Relaxed);
        }
        let counts = [
            (&self.live_cells, &other.live_cells),
            (&self.dead_cells, &other.dead_cells),
            (&self.expiring_cells, &other.expiring_cells),
        ];
        for (own, other) in counts {
            own.store(other.load(Ordering::Relaxed), Ordering::Relaxed);
        }
    }

    pub(super) fn add(&self, cell: &Cell, hash: Hash) {
        let is_live = cell.counts_as_live();
        let more = |count: &AtomicU32| count.store(count.load(Ordering::Relaxed) + 1, Ordering::Relaxed);
        self.shift(hash, u64::wrapping_add);
        more(self.count(is_live));
        if let Some(deadline) = cell.pending_deadline() {
            if is_live {
                more(&self.expiring_cells);
            }
            self.next_deadline.fetch_max(!deadline.0, Ordering::Relaxed);
        }
        if let Some(death) = cell.next_death() {
            self.first_death.fetch_max(!death.0, Ordering::Relaxed);
        }
    }

    /// Whether a part in the range may be dead at `stable`.
    pub(super) fn may_have_dead_at(&self, stable: Time) -> bool {
        let earliest =
            self.first_death.load(Ordering::Relaxed).max(self.next_deadline.load(Ordering::Relaxed));
        !earliest <= stable.0
    }

    pub(super) fn remove(&self, cell: &Cell, hash: Hash) {
        let is_live = cell.counts_as_live();
        let less = |count: &AtomicU32| count.store(count.load(Ordering::Relaxed) - 1, Ordering::Relaxed);
        self.shift(hash, u64::wrapping_sub);
        less(self.count(is_live));
        if is_live && cell.has_pending_deadline() {
            less(&self.expiring_cells);
        }
    }

    fn shift(&self, hash: Hash, by: fn(u64, u64) -> u64) {
        self.live.store(by(self.live.load(Ordering::Relaxed), hash.live), Ordering::Relaxed);
        self.dead.store(by(self.dead.load(Ordering::Relaxed), hash.dead), Ordering::Relaxed);
    }

    /// As [`remove`](Self::remove) and [`add`](Self::add), but faster if both cells are lasting values, as most are.
    pub(super) fn replace(&self, old: &Cell, old_hash: Hash, new: &Cell, new_hash: Hash) {
        if old.is_lasting() && new.is_lasting() {
            let sum =
                self.live.load(Ordering::Relaxed).wrapping_sub(old_hash.live).wrapping_add(new_hash.live);
            self.live.store(sum, Ordering::Relaxed);
            return;
        }
        self.remove(old, old_hash);
        self.add(new, new_hash);
    }

    fn count(&self, is_live: bool) -> &AtomicU32 {
        if is_live { &self.live_cells } else { &self.dead_cells }
    }

    pub(super) fn totals(&self) -> Totals {
        Totals {
            live: self.live.load(Ordering::Relaxed),
            live_cells: u64::from(self.live_cells.load(Ordering::Relaxed)),
            expiring_cells: u64::from(self.expiring_cells.load(Ordering::Relaxed)),
            dead: self.dead.load(Ordering::Relaxed),
            dead_cells: u64::from(self.dead_cells.load(Ordering::Relaxed)),
        }
    }
}
