//! Writes of locked keys that are applied together, or not at all.
//!
//! The cells are decided as ever, against what the same buffer holds of a key already, but kept here in the order in
//! which they were written. At the end they are put into the ranges one after the other, as if they had been written
//! only now, or dropped: then nobody has seen anything of them, neither peers nor watchers.

use std::collections::HashMap;

use super::accesses::Accesses;
use super::cell::Cell;
use super::memory::Growth;
use super::ranges::LockedRanges;
use super::{Batch, Live, Store, Write, WriteError, trim};

/// Locked ranges, and writes that they do not hold yet.
pub(super) struct Buffered<'s> {
    ranges: LockedRanges<'s>,
    /// In the order in which they were written.
    written: Vec<Cell>,
    /// The index in `written` of the last cell of each key.
    latest: HashMap<Box<[u8]>, usize>,
    /// What the buffered writes add to the cells, at most.
    growth: Growth,
    bytes: usize,
}

impl<'s> Buffered<'s> {
    pub(super) fn new(ranges: LockedRanges<'s>) -> Self {
        Buffered { ranges, written: Vec::new(), latest: HashMap::new(), growth: Growth::default(), bytes: 0 }
    }

    /// The bytes of the buffered cells, those that later ones replace included.
    #[cfg(feature = "scripts")]
    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    /// Calls `read` with the cell of `key`, as the buffered writes leave it.
    pub(super) fn read<T>(
        &self,
        key: &[u8],
        accesses: Option<&Accesses>,
        read: impl FnOnce(Option<&Cell>) -> T,
    ) -> T {
        match self.latest.get(key) {
            Some(&at) => read(Some(&self.written[at])),
            None => self.ranges.read(key, accesses, read),
        }
    }

    /// As [`Store::write`], into the buffer.
    pub(super) fn write<'v, T>(
        &mut self,
        store: &Store,
        batch: &mut Batch,
        key: &[u8],
        decide: impl FnOnce(Option<Live<'_>>) -> (Write<'v>, T),
    ) -> Result<T, WriteError> {
        let (next, growth, outcome) = self.read(key, None, |cell| {
            let (next, outcome) = store.decide(batch, key, cell, decide);
            let growth = next.as_ref().map(|next| Growth::of(cell, next));
            (next, growth, outcome)
        });
        if next.is_some() {
            // What was evicted for it stays.
            batch.applied.pop();
        }
        trim(&mut batch.scratch);
        if let (Some(next), Some(growth)) = (next, growth) {
            let sum = self.growth.plus(growth);
            if next.counts_as_live() && !store.admit(batch, sum) {
                return Err(WriteError::OutOfMemory);
            }
            self.growth = sum;
            self.bytes += next.size();
            self.latest.insert(key.into(), self.written.len());
            self.written.push(next);
        }
        outcome
    }

    /// Applies the writes if they are to be kept; returns the locked ranges.
    pub(super) fn end(mut self, batch: &mut Batch, is_kept: bool) -> LockedRanges<'s> {
        if is_kept {
            for cell in &self.written {
                self.ranges.update(cell.key(), |_| (Some(cell.clone()), ()));
            }
            batch.applied.append(&mut self.written);
        }
        self.ranges
    }
}
