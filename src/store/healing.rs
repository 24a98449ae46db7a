//! The store's interface to healing: digests and lists along the digest tree, the stable time, purging.

use std::sync::Arc;

use super::Store;
use super::cell::Cell;
#[cfg(test)]
use super::cell::Parts;
use super::origins::{Origin, Origins};
use super::sums::Digest;
use crate::model::{RangeCount, Time, TreeNode};

/// One cell of a list, without its value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Entry {
    pub(crate) key_hash: u64,
    /// The hash of the identity of the content.
    pub(crate) digest: u64,
    pub(crate) time: Time,
    pub(crate) origin: Origin,
    /// Whether the timestamp alone identifies the content. If so, the larger of two timestamps is the newer cell.
    pub(crate) plain: bool,
    /// Whether the cell is a tombstone. If two cells have the same timestamp, the tombstone is newer: the other was
    /// retracted.
    pub(crate) is_tombstone: bool,
}

impl Store {
    /// The stable time: every member holds every write up to it, or something that has replaced it.
    pub(crate) fn stable_time(&self) -> Time {
        self.origins().stable_time()
    }

    /// Raises the stable time. Every timestamp drawn from now on is above it.
    pub(crate) fn raise_stable_time(&self, stable: Time) {
        self.observe(stable);
        self.origins().raise_stable_time(stable);
    }

    /// The incarnations that this store refers to, and its summary vector.
    pub(crate) fn origins(&self) -> &Arc<Origins> {
        self.ranges.origins()
    }

    /// Removes the cells of a range that are dead at the stable time; returns how many.
    pub(crate) fn purge(&self, range: usize) -> usize {
        self.ranges.purge(range, self.stable_time())
    }

    /// Calls `visit` with the death times of a range's cells without a live part.
    pub(crate) fn deaths(&self, range: usize, visit: &mut impl FnMut(Time)) {
        self.walk(range, |cell| {
            if !cell.counts_as_live() {
                cell.death().into_iter().for_each(&mut *visit);
            }
        });
    }

    /// The number of ranges, as the digest tree needs it.
    pub(crate) fn ranges(&self) -> RangeCount {
        self.ranges.count()
    }

    /// The digest of the cells of `tree_node` that are not dead at `stable`; with their values if `deep`.
    pub(crate) fn digest(&self, tree_node: TreeNode, stable: Time, deep: bool) -> Digest {
        let mut digest = Digest::default();
        if tree_node.is_of_ranges(self.ranges()) && !deep {
            for range in tree_node.ranges(self.ranges()) {
                digest.add(self.ranges.digest(range, stable));
            }
        } else {
            self.visit(tree_node, stable, |key_hash, cell| {
                digest.add(self.one(key_hash, cell, stable, deep));
            });
        }
        digest
    }

    /// The digests of the children of `tree_node`, in order.
    pub(crate) fn child_digests(&self, tree_node: TreeNode, stable: Time, deep: bool) -> Vec<Digest> {
        let count = self.ranges();
        let children = (0..tree_node.fan_out(count)).filter_map(|index| tree_node.child(count, index));
        if tree_node.ranges(count).len() > 1 {
            return children.map(|child| self.digest(child, stable, deep)).collect();
        }
        let mut digests = vec![Digest::default(); tree_node.fan_out(count).max(1)];
        self.visit(tree_node, stable, |key_hash, cell| {
            digests[tree_node.child_of(count, key_hash)].add(self.one(key_hash, cell, stable, deep));
        });
        digests
    }

    /// The list of the cells of `tree_node` that are not dead at `stable`.
    pub(crate) fn entries(&self, tree_node: TreeNode, stable: Time, deep: bool) -> Vec<(Entry, Cell)> {
        let mut entries = Vec::new();
        self.visit(tree_node, stable, |key_hash, cell| {
            entries.push((self.entry(key_hash, cell, stable, deep), cell.clone()));
        });
        entries
    }

    fn entry(&self, key_hash: u64, cell: &Cell, stable: Time, deep: bool) -> Entry {
        Entry {
            key_hash,
            digest: self.one(key_hash, cell, stable, deep).sum,
            time: cell.time(),
            origin: cell.origin(),
            plain: !deep && cell.is_plain(),
            is_tombstone: cell.is_tombstone(),
        }
    }

    /// Calls `visit` with the cells of a range that have a dot for which `is_uncovered` returns true, except those that
    /// are dead at `stable`. Returns the number of cells of the range.
    pub(crate) fn visit_uncovered(
        &self,
        range: usize,
        stable: Time,
        is_uncovered: impl Fn((Time, Origin)) -> bool,
        mut visit: impl FnMut(Entry, &Cell),
    ) -> usize {
        let mut cells = 0;
        self.ranges.walk(range, |cell| {
            cells += 1;
            if cell.has_dot(&is_uncovered) && !cell.is_dead_at(stable) {
                let key_hash = self.ranges.seed().key_hash(cell.key());
                visit(self.entry(key_hash, cell, stable, false), cell);
            }
        });
        cells
    }

    /// Calls `visit` with the key hash and cell of every cell of `tree_node` that is not dead at `stable`.
    ///
    /// It locks one range after the other.
    pub(crate) fn visit(&self, tree_node: TreeNode, stable: Time, mut visit: impl FnMut(u64, &Cell)) {
        for range in tree_node.ranges(self.ranges()) {
            self.ranges.walk(range, |cell| {
                let key_hash = self.ranges.seed().key_hash(cell.key());
                if tree_node.contains(key_hash) && !cell.is_dead_at(stable) {
                    visit(key_hash, cell);
                }
            });
        }
    }

    fn one(&self, key_hash: u64, cell: &Cell, stable: Time, deep: bool) -> Digest {
        Digest { sum: self.ranges.hash_above(key_hash, cell, stable, deep), cells: 1 }
    }

    /// Recomputes the sums of a range from its cells and corrects them; returns whether they were correct.
    pub(crate) fn scrub(&self, range: usize) -> bool {
        self.ranges.scrub(range)
    }

    /// Replaces a cell without the merge law, as bad memory or a bug of our own would.
    #[cfg(test)]
    pub(crate) fn corrupt(&self, key: &[u8], parts: &Parts<'_>) {
        self.ranges.update(key, |_| (Some(Cell::pack(&mut Vec::new(), key, parts)), ()));
    }

    /// The cell of `key`, also if it is a tombstone.
    pub(crate) fn cell(&self, key: &[u8]) -> Option<Cell> {
        self.ranges.read(key, None, |cell| cell.cloned())
    }
}
