//! A recorded change.

use std::collections::VecDeque;

use super::{Cause, Change};
use crate::store::Cell;

/// One change, or several of one key that were conflated into the last.
pub(super) struct Record {
    pub(super) sequence: u64,
    pub(super) cell: Cell,
    pub(super) key_hash: u64,
    /// The memory of the cell in bytes. Kept here because the cell may have left the processor's cache when it is
    /// read.
    pub(super) bytes: u32,
    pub(super) cause: Cause,
    pub(super) was_live: bool,
    /// Whether the key was live before and has the same deadline since.
    pub(super) keeps_deadline: bool,
    /// The earlier changes of the key that this one replaced: their number, and the sequences of the first and the
    /// last.
    replaced: u32,
    first_replaced: u64,
    last_replaced: u64,
}

impl Record {
    pub(super) fn new(
        sequence: u64,
        cell: Cell,
        key_hash: u64,
        cause: Cause,
        (was_live, keeps_deadline): (bool, bool),
    ) -> Record {
        let bytes = u32::try_from(cell.memory()).unwrap_or(u32::MAX);
        let (replaced, first_replaced, last_replaced) = (0, 0, 0);
        Record {
            sequence,
            cell,
            key_hash,
            bytes,
            cause,
            was_live,
            keeps_deadline,
            replaced,
            first_replaced,
            last_replaced,
        }
    }

    /// Conflates the previous change of the same key into this one.
    pub(super) fn replace(&mut self, earlier: &Record) {
        self.cause = self.cause.after(earlier.cause);
        self.was_live = earlier.was_live;
        self.keeps_deadline &= earlier.keeps_deadline;
        if self.replaced == 0 {
            self.last_replaced = earlier.sequence;
        }
        self.first_replaced = if earlier.replaced > 0 { earlier.first_replaced } else { earlier.sequence };
        self.replaced = self.replaced.saturating_add(earlier.replaced).saturating_add(1);
    }

    /// The change for a reader that has read up to `from`.
    pub(super) fn change(&self, from: u64) -> Change {
        let &Record { sequence, key_hash, cause, was_live, keeps_deadline, .. } = self;
        let skipped = self.unseen_since(from);
        Change { sequence, cell: self.cell.clone(), cause, was_live, keeps_deadline, skipped, key_hash }
    }

    /// How many of the replaced changes a reader that has read up to `from` will miss; a lower bound.
    fn unseen_since(&self, from: u64) -> u64 {
        if self.replaced == 0 || from >= self.last_replaced {
            0
        } else if from < self.first_replaced {
            u64::from(self.replaced)
        } else {
            1
        }
    }
}

/// The place of a record; a hole if the record was replaced.
pub(super) struct Slot {
    pub(super) sequence: u64,
    pub(super) record: Option<Record>,
}

impl From<Record> for Slot {
    fn from(record: Record) -> Slot {
        Slot { sequence: record.sequence, record: Some(record) }
    }
}

/// The index of the first of `slots`, which are sorted, that is not below `sequence`.
pub(super) fn place(slots: &VecDeque<Slot>, sequence: u64) -> usize {
    slots.partition_point(|slot| slot.sequence < sequence)
}

/// The records of `slots` after `from`, in order.
pub(super) fn after(slots: &VecDeque<Slot>, from: u64) -> impl Iterator<Item = &Record> {
    slots.range(place(slots, from.saturating_add(1))..).filter_map(|slot| slot.record.as_ref())
}
