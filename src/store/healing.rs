//! What healing asks of the store: digests and lists along the tree of prefixes, the floor, purge and lift.

use uhlc::NTP64;

use std::sync::atomic::Ordering;

use super::Store;
use super::cell::{Cell, Counter, Parts};
use super::origins::{Origin, TooManyOrigins};
use super::sums::Digest;
use crate::ablation::{Ablation, ablated};
use crate::model::{Incarnation, Prefix, RangeCount, Time, Vector, stamp};

/// The origin of kills: it sorts above every real one, so that a kill stamped at the floor beats all that the
/// floor has passed.
const KILLER: u128 = u128::MAX;

/// One cell of a list, without its value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Entry {
    pub(crate) key_hash: u64,
    /// The hash of all that identifies the content.
    pub(crate) digest: u64,
    pub(crate) time: Time,
    pub(crate) origin: Origin,
    /// Whether the version alone identifies the content, so that the later of two is the newer.
    pub(crate) plain: bool,
}

impl Store {
    /// The time below which every member held every write.
    pub(crate) fn floor(&self) -> Time {
        NTP64(self.floor.load(Ordering::Acquire))
    }

    /// Raises the floor, never lowers it. Every stamp drawn from now on is above it.
    pub(crate) fn raise_floor(&self, floor: Time) {
        self.observe(floor);
        self.floor.fetch_max(floor.0, Ordering::AcqRel);
    }

    /// Removes the cells of a range that are dead at the floor; returns how many.
    pub(crate) fn purge(&self, range: usize) -> usize {
        self.ranges.purge(range, self.floor())
    }

    /// Removes the cells of a range that are dead at `floor`, whatever the store's own: only a daemon that is
    /// alone may, where nobody can bring back what it forgets.
    pub(crate) fn purge_alone(&self, range: usize, floor: Time) -> usize {
        self.ranges.purge(range, floor)
    }

    /// The death times of a range's cells in which nothing is live.
    pub(crate) fn deaths(&self, range: usize, visit: &mut impl FnMut(Time)) {
        self.walk(range, |cell| {
            if !cell.is_kept() {
                cell.death().into_iter().for_each(&mut *visit);
            }
        });
    }

    /// The number of ranges, as the tree of prefixes wants it.
    pub(crate) fn ranges(&self) -> RangeCount {
        self.ranges.count()
    }

    /// The digest of the cells of `prefix` that a floor at `floor` does not count as dead; of their values too if
    /// `deep`.
    pub(crate) fn digest(&self, prefix: Prefix, floor: Time, deep: bool) -> Digest {
        let mut digest = Digest::default();
        if prefix.is_of_ranges(self.ranges()) && !deep {
            for range in prefix.ranges(self.ranges()) {
                digest.add(self.ranges.digest(range, floor));
            }
        } else {
            self.visit(prefix, floor, |key_hash, cell| digest.add(self.one(key_hash, cell, floor, deep)));
        }
        digest
    }

    /// The digests of the children of `prefix`, in order.
    pub(crate) fn child_digests(&self, prefix: Prefix, floor: Time, deep: bool) -> Vec<Digest> {
        let count = self.ranges();
        let children = (0..prefix.fan_out(count)).filter_map(|index| prefix.child(count, index));
        if prefix.ranges(count).len() > 1 {
            return children.map(|child| self.digest(child, floor, deep)).collect();
        }
        let mut digests = vec![Digest::default(); prefix.fan_out(count).max(1)];
        self.visit(prefix, floor, |key_hash, cell| {
            digests[prefix.child_of(count, key_hash)].add(self.one(key_hash, cell, floor, deep));
        });
        digests
    }

    /// Every cell of `prefix` that a floor at `floor` does not count as dead, as a list has it.
    pub(crate) fn entries(&self, prefix: Prefix, floor: Time, deep: bool) -> Vec<(Entry, Cell)> {
        let mut entries = Vec::new();
        self.visit(prefix, floor, |key_hash, cell| {
            let entry = Entry {
                key_hash,
                digest: self.one(key_hash, cell, floor, deep).sum,
                time: cell.time(),
                origin: cell.origin(),
                plain: !deep && cell.is_plain(),
            };
            entries.push((entry, cell.clone()));
        });
        entries
    }

    /// Shows every cell of `prefix` that a floor at `floor` does not count as dead to `visit`, with its key's hash,
    /// under the lock of one range after the other.
    pub(crate) fn visit(&self, prefix: Prefix, floor: Time, mut visit: impl FnMut(u64, &Cell)) {
        for range in prefix.ranges(self.ranges()) {
            self.ranges.walk(range, |cell| {
                let key_hash = self.ranges.seed().key_hash(cell.key());
                if prefix.contains(key_hash) && !cell.is_dead_at(floor) {
                    visit(key_hash, cell);
                }
            });
        }
    }

    fn one(&self, key_hash: u64, cell: &Cell, floor: Time, deep: bool) -> Digest {
        Digest { sum: self.ranges.hash_above(key_hash, cell, floor, deep), cells: 1 }
    }

    /// The id that cells refer to the origin of kills by; `None` if the table of origins is full.
    pub(crate) fn killer(&self) -> Option<Origin> {
        stamp::incarnation(KILLER).and_then(|killer| self.intern(killer).ok())
    }

    /// Whether a received register is a peer's word that what the floor has passed is dead.
    pub(super) fn is_kill(&self, received: &Parts<'_>) -> bool {
        received.value.is_none() && Some(self.incarnation(received.origin)) == stamp::incarnation(KILLER)
    }

    /// Lifts every register that a peer with this vector does not know to the present, above every floor heard of: those
    /// were raised without this daemon, and must not pass what it holds. Slots need none: a daemon that knows nothing of
    /// their owner takes them in.
    pub(crate) fn lift(&self, known: &Vector, wall: Time) {
        if ablated(Ablation::Lift) {
            return;
        }
        let now = self.clock.draw(wall, self.floor());
        let mut scratch = Vec::new();
        for range in 0..self.range_count() {
            let mut unknown = Vec::new();
            self.walk(range, |cell| {
                let (time, origin) = cell.parts().admitted_by();
                if time > known.time_of(self.incarnation(origin)) {
                    unknown.push(cell.clone());
                }
            });
            for cell in unknown {
                self.ranges.update(cell.key(), |present| {
                    let lifted = present
                        .filter(|present| present.lift() < now)
                        .map(|present| present.with(&mut scratch, &Parts { lift: now, ..present.parts() }));
                    (lifted, ())
                });
            }
        }
    }

    /// The cell of `key` as a peer must have it that sent `received`, which it has beaten: where it is dead at `floor`
    /// and the other is not, no round would show it. It is lifted, so that it is not purged before everyone has it.
    pub(crate) fn dig_up(
        &self,
        key: &[u8],
        received: &Parts<'_>,
        counter: &Counter,
        floor: Time,
        wall: Time,
    ) -> Option<Cell> {
        self.ranges.update(key, |cell| {
            let buried = cell.filter(|cell| cell.buries(received, counter, floor));
            let lifted = buried.map(|cell| {
                let lift = self.clock.draw(wall, cell.latest().max(cell.lift()));
                cell.with(&mut Vec::new(), &Parts { lift, ..cell.parts() })
            });
            (lifted.clone(), lifted)
        })
    }

    /// Recomputes the sums of a range from its cells and puts them right; returns whether they were.
    pub(crate) fn scrub(&self, range: usize) -> bool {
        self.ranges.scrub(range)
    }

    /// Forgets every cell and the floor, and gives this process another incarnation: an operator discards its
    /// state.
    ///
    /// # Errors
    /// [`TooManyOrigins`]; nothing was changed.
    pub(crate) fn discard(&self, incarnation: Incarnation) -> Result<(), TooManyOrigins> {
        self.renew(incarnation)?;
        (0..self.range_count()).for_each(|range| self.ranges.clear(range));
        self.ranges.changes().discard();
        self.discard_floor();
        Ok(())
    }

    /// Forgets the floor of a store that was [discarded](Self::discard).
    pub(crate) fn discard_floor(&self) {
        self.floor.store(0, Ordering::Release);
    }

    /// Gives this process another incarnation; what the one before wrote stays as it is.
    ///
    /// # Errors
    /// [`TooManyOrigins`]; nothing was changed.
    pub(crate) fn renew(&self, incarnation: Incarnation) -> Result<(), TooManyOrigins> {
        self.ranges.origins().renew(incarnation)
    }

    /// Puts a cell in place of another without any rule: what bad memory or a bug of our own would do.
    #[cfg(test)]
    pub(crate) fn corrupt(&self, key: &[u8], parts: &Parts<'_>) {
        self.ranges.update(key, |_| (Some(Cell::pack(&mut Vec::new(), key, parts)), ()));
    }

    /// The cell of `key` as it is, a tombstone included.
    pub(crate) fn cell(&self, key: &[u8]) -> Option<Cell> {
        self.ranges.read(key, |cell| cell.cloned())
    }
}
