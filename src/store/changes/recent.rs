//! The latest changes, one by one.
//!
//! While every reader is more than [`BEHIND`] changes behind, a change replaces the previous change of its key, if
//! `places` still has that one's slot. The readers receive the same final values, and a key that is written again and
//! again takes the memory of one change. The replaced cell's memory is freed early, so that the next cell can use it.

use std::collections::VecDeque;

use super::SMALL;
use super::record::{self, Record, Slot};
use crate::store::{Cell, PREFETCH_AHEAD};

/// Most changes that no reader has read yet; with more, all readers are behind.
pub(super) const BEHIND: usize = if SMALL { 16 } else { 512 };
/// The number of entries of `places`, which some bits of a key's hash select.
const PLACES: usize = if SMALL { 16 } else { 4096 };

/// Changes in the order of their sequence, with holes where one was replaced.
#[derive(Default)]
pub(super) struct Recent {
    slots: VecDeque<Slot>,
    /// Bytes of the cells.
    bytes: u64,
    /// The number of slots that were taken from the front so far.
    taken: u64,
    /// The number of slots, counted from the first one ever, that a reader has read.
    read: u64,
    /// The number of a key's last slot, counted from the first one ever. Another key may have the same entry, or the
    /// slot may have been taken. Empty until readers are behind for the first time.
    places: Vec<u64>,
}

impl Recent {
    /// The number of slots, holes included.
    pub(super) fn len(&self) -> usize {
        self.slots.len()
    }

    pub(super) fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Appends the change that replaced the cell `old`.
    pub(super) fn push(&mut self, mut record: Record, old: Option<&Cell>) {
        let next = self.taken + self.slots.len() as u64;
        if next - self.read > BEHIND as u64 {
            self.replace(&mut record, old, next);
        }
        self.bytes += u64::from(record.bytes);
        self.slots.push_back(record.into());
    }

    /// Conflates the change that made `old` into `record`, which is about to become the slot of number `next`.
    fn replace(&mut self, record: &mut Record, old: Option<&Cell>, next: u64) {
        self.places.resize(PLACES, 0);
        #[expect(clippy::cast_possible_truncation, reason = "some bits will do")]
        let number = &mut self.places[record.key_hash as usize % PLACES];
        let place = std::mem::replace(number, next).checked_sub(self.taken);
        let slot = place.and_then(|place| self.slots.get_mut(usize::try_from(place).ok()?));
        let is_of_old = |earlier: &Record| old.is_some_and(|old| earlier.cell.is_same(old));
        if let Some(earlier) = slot.and_then(|slot| slot.record.take_if(|earlier| is_of_old(earlier))) {
            self.bytes -= u64::from(earlier.bytes);
            record.replace(&earlier);
        }
    }

    /// Notes that a reader has read everything up to `sequence`.
    pub(super) fn note_read(&mut self, sequence: u64) {
        self.read = self.read.max(self.taken + record::place(&self.slots, sequence.saturating_add(1)) as u64);
    }

    /// The changes after `from`, in order.
    pub(super) fn after(&self, from: u64) -> impl Iterator<Item = &Record> {
        record::after(&self.slots, from)
    }

    /// Takes out the oldest slots until at most `slots` of them and at most `bytes` are left.
    pub(super) fn drain(&mut self, slots: usize, bytes: u64) -> impl Iterator<Item = Record> {
        std::iter::from_fn(move || {
            while self.slots.len() > slots || self.bytes > bytes {
                let oldest = self.slots.pop_front()?;
                self.taken += 1;
                if let Some(Slot { record: Some(ahead), .. }) = self.slots.get(PREFETCH_AHEAD) {
                    ahead.cell.prefetch();
                }
                if let Some(record) = oldest.record {
                    self.bytes -= u64::from(record.bytes);
                    return Some(record);
                }
            }
            None
        })
    }
}
