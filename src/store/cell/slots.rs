//! The counter of a cell, in its last bytes.

use crate::model::{Deadline, Time};

use super::{Cell, Counter, array};
use crate::model::counter::{Expiry, Reset, Slot};
use crate::store::origins::Origin;

const SLOT_SIZE: usize = 4 + 4 * 8;
const RESET_SIZE: usize = 4 * 8;
/// The writer, the time of the write, and the deadline.
const EXPIRY_SIZE: usize = 4 + 2 * 8;
/// The number of slots, with three bits of flags.
const COUNT_SIZE: usize = 4;
/// Each slot has a reset.
const HAS_RESETS: u32 = 1 << 31;
const HAS_EXPIRY: u32 = 1 << 30;
/// The counter's deadline is a time; without this flag it is never.
const EXPIRES: u32 = 1 << 29;
const SLOT_COUNT: u32 = EXPIRES - 1;

/// The layout of a counter, which follows the value.
struct Layout {
    slots: usize,
    /// Bytes of each slot.
    stride: usize,
    flags: u32,
}

impl Layout {
    /// Bytes after the slots.
    fn end(&self) -> usize {
        COUNT_SIZE + if self.flags & HAS_EXPIRY != 0 { EXPIRY_SIZE } else { 0 }
    }
}

impl Cell {
    pub(super) fn counter_size(&self) -> usize {
        if !self.has_counter() {
            return 0;
        }
        let layout = self.counter_layout();
        layout.slots * layout.stride + layout.end()
    }

    fn counter_layout(&self) -> Layout {
        if !self.has_counter() {
            return Layout { slots: 0, stride: SLOT_SIZE, flags: 0 };
        }
        let bytes = &self.0.slice;
        let word = u32::from_le_bytes(array(&bytes[bytes.len() - COUNT_SIZE..]));
        let stride = SLOT_SIZE + if word & HAS_RESETS != 0 { RESET_SIZE } else { 0 };
        Layout { slots: (word & SLOT_COUNT) as usize, stride, flags: word & !SLOT_COUNT }
    }

    /// The slots and their owners.
    pub(in crate::store) fn slots(&self) -> impl Iterator<Item = (Origin, Slot)> {
        let bytes = &self.0.slice;
        let layout = self.counter_layout();
        let end = bytes.len() - if layout.slots > 0 { layout.end() } else { 0 };
        bytes[end - layout.slots * layout.stride..end].chunks_exact(layout.stride).map(slot)
    }

    /// The counter's deadline and its writer, if one was set.
    pub(in crate::store) fn expiry(&self) -> Option<(Origin, Expiry)> {
        let flags = self.counter_layout().flags;
        (flags & HAS_EXPIRY != 0).then(|| {
            let at = self.0.slice.len() - COUNT_SIZE - EXPIRY_SIZE;
            let origin = Origin::from_le_bytes(array(&self.0.slice[at..at + 4]));
            let deadline = (flags & EXPIRES != 0).then(|| Deadline(self.u64_at(at + 12)));
            (origin, Expiry { deadline, set_at: Time(self.u64_at(at + 4)) })
        })
    }

    /// Copies the counter to `into`.
    pub(in crate::store) fn counter_into(&self, into: &mut Counter) {
        into.clear();
        into.expiry = self.expiry();
        into.slots.extend(self.slots());
    }

    /// The counter of the cell.
    pub(crate) fn counter(&self) -> Counter {
        let mut counter = Counter::NONE;
        self.counter_into(&mut counter);
        counter
    }
}

pub(super) fn append_counter(scratch: &mut Vec<u8>, counter: &Counter) {
    let has_resets = counter.slots.iter().any(|(_, slot)| slot.reset != Reset::default());
    for (owner, slot) in &counter.slots {
        scratch.extend_from_slice(&owner.to_le_bytes());
        for word in [slot.start.0, slot.last.0, slot.up, slot.down] {
            scratch.extend_from_slice(&word.to_le_bytes());
        }
        if has_resets {
            for word in [slot.reset.mark.0, slot.reset.at.0, slot.reset.up, slot.reset.down] {
                scratch.extend_from_slice(&word.to_le_bytes());
            }
        }
    }
    let mut word = u32::try_from(counter.slots.len()).expect("a frame has fewer slots than that");
    if let Some((origin, Expiry { deadline, set_at })) = counter.expiry {
        scratch.extend_from_slice(&origin.to_le_bytes());
        scratch.extend_from_slice(&set_at.0.to_le_bytes());
        scratch.extend_from_slice(&deadline.unwrap_or_default().0.to_le_bytes());
        word |= HAS_EXPIRY | if deadline.is_some() { EXPIRES } else { 0 };
    }
    word |= if has_resets { HAS_RESETS } else { 0 };
    scratch.extend_from_slice(&word.to_le_bytes());
}

/// Reads one slot that [`append_counter`] wrote.
fn slot(bytes: &[u8]) -> (Origin, Slot) {
    let word = |index: usize| u64::from_le_bytes(array(&bytes[4 + 8 * index..12 + 8 * index]));
    let reset = if bytes.len() > SLOT_SIZE {
        Reset { mark: Time(word(4)), at: Time(word(5)), up: word(6), down: word(7) }
    } else {
        Reset::default()
    };
    let slot = Slot { start: Time(word(0)), last: Time(word(1)), up: word(2), down: word(3), reset };
    (Origin::from_le_bytes(array(&bytes[..4])), slot)
}
