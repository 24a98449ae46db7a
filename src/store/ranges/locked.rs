//! Several ranges that one caller has locked.

use dashmap::RwLockWriteGuard;

use super::{Ranges, Table, find, touch};
use crate::store::accesses::Accesses;
use crate::store::cell::Cell;

/// Ranges that are locked for writing together.
pub(in crate::store) struct LockedRanges<'r> {
    pub(super) ranges: &'r Ranges,
    /// In the order of the ranges.
    pub(super) tables: Vec<(usize, RwLockWriteGuard<'r, Table>)>,
}

impl LockedRanges<'_> {
    /// As [`Ranges::read`].
    ///
    /// # Panics
    /// If the range of `key` is not locked.
    pub(in crate::store) fn read<T>(
        &self,
        key: &[u8],
        accesses: Option<&Accesses>,
        read: impl FnOnce(Option<&Cell>) -> T,
    ) -> T {
        let hash = self.ranges.seed.key_hash(key);
        let place = self.place(self.ranges.count.range_of(hash)).expect(DECLARED);
        let cell = find(&self.tables[place].1, hash, key);
        touch(hash, cell, accesses);
        read(cell)
    }

    /// As [`Ranges::update`].
    ///
    /// # Panics
    /// If the range of `key` is not locked.
    pub(in crate::store) fn update<T>(
        &mut self,
        key: &[u8],
        decide: impl FnOnce(Option<&Cell>) -> (Option<Cell>, T),
    ) -> T {
        let hash = self.ranges.seed.key_hash(key);
        let range = self.ranges.count.range_of(hash);
        let place = self.place(range).expect(DECLARED);
        self.ranges.update_in::<false, T>(&mut self.tables[place].1, range, hash, key, decide).1
    }

    fn place(&self, range: usize) -> Option<usize> {
        self.tables.binary_search_by_key(&range, |(range, _)| *range).ok()
    }
}

const DECLARED: &str = "a transaction locks the ranges of all keys that it touches";
