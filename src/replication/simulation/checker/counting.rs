//! Checks counters.

use std::collections::BTreeMap;

use super::{Checker, Held};
use crate::model::counter::{Shown, Slot, strict_number};
use crate::model::timestamp::ZERO;
use crate::model::{Incarnation, Time};

/// The state in which a write has left a slot.
#[derive(Clone, Copy, Debug)]
pub(super) struct Count {
    pub(super) owner: Incarnation,
    pub(super) slot: Slot,
}

/// All that clients have ever done to one life of a slot.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Life {
    /// The latest increment.
    pub(super) last: Time,
    /// The latest increment that was reset.
    pub(super) mark: Time,
}

/// All that clients have ever done to the counter of one key.
#[derive(Clone, Debug, Default)]
pub(super) struct Counted {
    /// By owner and start.
    pub(super) lives: BTreeMap<(Incarnation, Time), Life>,
    /// The latest deadline that was ever set, of the register or of the counter.
    pub(super) deadline: Time,
}

impl Counted {
    pub(super) fn note(&mut self, count: &Count) {
        let life = self.lives.entry((count.owner, count.slot.start)).or_default();
        life.last = life.last.max(count.slot.last);
        life.mark = life.mark.max(count.slot.reset.mark);
    }

    /// Whether a slot that had counted up to `last` may have ended: it was reset, has expired, or its owner
    /// began a new life.
    pub(super) fn may_have_ended(&self, owner: Incarnation, start: Time, last: Time) -> bool {
        let is_reset = self.lives.get(&(owner, start)).is_some_and(|life| life.mark >= last);
        let later = |&(of, at): &(Incarnation, Time)| of == owner && at > start;
        is_reset || start <= self.deadline || self.lives.keys().any(later)
    }

    /// Answers the same for the life of the owner's slot that was counting at `last`.
    pub(super) fn may_have_ended_at(&self, owner: Incarnation, last: Time) -> bool {
        let began = self.lives.range((owner, ZERO)..=(owner, last)).next_back();
        began.is_some_and(|(&(_, start), _)| self.may_have_ended(owner, start, last))
    }
}

impl Checker {
    /// Checks a client's increment: the count is exactly `by` more than what the client saw.
    pub(in super::super) fn on_add(
        &mut self,
        node: usize,
        key: usize,
        by: i64,
        before: Option<&Held>,
        after: Option<&Held>,
        now: Time,
    ) {
        let number = |held: Option<&Held>| match held.and_then(|held| held.shown(now)) {
            None => Some(0),
            Some(Shown::Number(number)) => Some(number),
            Some(Shown::Text(text)) => strict_number(text).map(i128::from),
        };
        let Some(sum) = number(before).map(|before| before + i128::from(by)) else { return };
        if number(after) != Some(sum) {
            self.fail_at(Some(key), format!("n{node} added {by} to {before:?} and has {after:?}, not {sum}"));
        }
    }

    /// Returns the increments and resets that a client's write has made.
    pub(super) fn counts_of(before: Option<&Held>, after: &Held) -> Vec<Count> {
        let changed = after
            .counter
            .slots
            .iter()
            .filter(|(owner, slot)| before.and_then(|before| before.counter.slot(*owner)) != Some(slot));
        changed.map(|&(owner, slot)| Count { owner, slot }).collect()
    }

    /// Checks a process's copy of a key: no increment that it had has got lost, and no reset that it had seen
    /// is undone, except by increments that it had not seen.
    pub(super) fn look_at_counter(&mut self, node: usize, key: usize, held: Option<&Held>, best: &mut Slots) {
        for (&owner, seen) in best.iter() {
            let present = held.and_then(|held| held.counter.slot(owner));
            let is_right = match present {
                Some(present) if present.start == seen.start => {
                    let is_undone = present.reset.mark < seen.reset.mark && present.last <= seen.last;
                    present.last >= seen.last && !is_undone
                }
                Some(present) if present.start > seen.start => true,
                _ => {
                    self.counted[key].may_have_ended(owner, seen.start, seen.last)
                        || self.is_lost(key, owner, seen.last)
                }
            };
            if !is_right {
                let text = format!("n{node} held {seen:?} of {owner} and now holds {held:?}");
                return self.fail_at(Some(key), text);
            }
        }
        for &(owner, slot) in held.into_iter().flat_map(|held| &held.counter.slots) {
            let seen = best.entry(owner).or_insert(slot);
            // If a life came back with more than was seen, what was reset counts again: as documented.
            *seen = if slot.last > seen.last && slot.start == seen.start { slot } else { seen.merge(slot) };
        }
    }

    /// Whether a process holds the increments and resets of a write, or what came after them.
    pub(super) fn holds_counts(&self, key: usize, held: Option<&Held>, counts: &[Count]) -> bool {
        counts.iter().all(|&Count { owner, slot }| {
            let is_there = match held.and_then(|held| held.counter.slot(owner)) {
                Some(present) if present.start == slot.start => {
                    present.last >= slot.last
                        && (present.reset.mark >= slot.reset.mark || present.last > slot.last)
                }
                Some(present) => present.start > slot.start,
                None => false,
            };
            is_there
                || self.counted[key].may_have_ended(owner, slot.start, slot.last)
                || self.is_lost(key, owner, slot.last)
        })
    }

    /// Returns the slots that must exist in the end: those that a process still holds, that count, and that no
    /// client's write may have ended.
    pub(super) fn lasting_slots(&self, key: usize, held: &Held) -> Vec<(Incarnation, Slot)> {
        let may_end = |owner, slot: &Slot| self.counted[key].may_have_ended(owner, slot.start, slot.last);
        let slots = held.counter.slots.iter().copied();
        slots.filter(|(owner, slot)| slot.is_active(ZERO) && !may_end(*owner, slot)).collect()
    }
}

/// The slots of one key that a process has held, by owner.
pub(super) type Slots = BTreeMap<Incarnation, Slot>;
