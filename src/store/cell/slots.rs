//! What a cell counts, in its last bytes.

use uhlc::NTP64;

use super::{Cell, Counter, array};
use crate::model::Time;
use crate::model::counter::{Reset, Slot};
use crate::model::stamp::ZERO;
use crate::store::origins::Origin;

const SLOT_SIZE: usize = 4 + 4 * 8;
const RESET_SIZE: usize = 4 * 8;
/// The void moment, and the number of slots with a bit that says whether they have room for a reset.
const COUNTER_END: usize = 8 + 4;
const HAS_RESETS: u32 = 1 << 31;

impl Cell {
    pub(super) fn counter_size(&self) -> usize {
        if !self.has_counter() {
            return 0;
        }
        let (count, stride) = self.slot_layout();
        count * stride + COUNTER_END
    }

    /// How many slots there are, and the bytes that each takes.
    fn slot_layout(&self) -> (usize, usize) {
        let bytes = &self.0.slice;
        let count = u32::from_le_bytes(array(&bytes[bytes.len() - 4..]));
        let stride = SLOT_SIZE + if count & HAS_RESETS != 0 { RESET_SIZE } else { 0 };
        ((count & !HAS_RESETS) as usize, stride)
    }

    /// Each owner's slot.
    pub(in crate::store) fn slots(&self) -> impl Iterator<Item = (Origin, Slot)> {
        let bytes = &self.0.slice;
        let (count, stride) = if self.has_counter() { self.slot_layout() } else { (0, SLOT_SIZE) };
        let end = bytes.len() - if count > 0 { COUNTER_END } else { 0 };
        bytes[end - count * stride..end].chunks_exact(stride).map(slot)
    }

    /// How far the past is void.
    pub(in crate::store) fn void(&self) -> Time {
        let at = self.0.slice.len().wrapping_sub(COUNTER_END);
        if self.has_counter() { NTP64(self.u64_at(at)) } else { ZERO }
    }

    /// Copies what it counts to `into`.
    pub(in crate::store) fn counter_into(&self, into: &mut Counter) {
        into.clear();
        into.void = self.void();
        into.slots.extend(self.slots());
    }

    /// What it counts.
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
    scratch.extend_from_slice(&counter.void.0.to_le_bytes());
    let count = u32::try_from(counter.slots.len()).expect("a frame has fewer slots than that");
    scratch.extend_from_slice(&(count | if has_resets { HAS_RESETS } else { 0 }).to_le_bytes());
}

/// Reads one slot of [`append_counter`] back.
fn slot(bytes: &[u8]) -> (Origin, Slot) {
    let word = |index: usize| u64::from_le_bytes(array(&bytes[4 + 8 * index..12 + 8 * index]));
    let reset = if bytes.len() > SLOT_SIZE {
        Reset { mark: NTP64(word(4)), at: NTP64(word(5)), up: word(6), down: word(7) }
    } else {
        Reset::default()
    };
    let slot = Slot { start: NTP64(word(0)), last: NTP64(word(1)), up: word(2), down: word(3), reset };
    (Origin::from_le_bytes(array(&bytes[..4])), slot)
}
