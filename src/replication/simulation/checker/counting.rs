//! What must hold of counters.

use super::{Checker, Count, Held, Process};
use crate::model::counter::{KILLED, Shown, strict_number};
use crate::model::stamp::ZERO;
use crate::model::{Incarnation, Time};

impl Checker {
    /// A client has added `by`: exactly that is more than what it saw.
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

    /// The increments and resets in what a client's write has left.
    pub(super) fn counts_of(before: Option<&Held>, after: &Held) -> Vec<Count> {
        let changed = after
            .counter
            .slots
            .iter()
            .filter(|(owner, slot)| before.and_then(|before| before.counter.slot(*owner)) != Some(slot));
        changed.map(|&(owner, slot)| Count { owner, slot }).collect()
    }

    /// A process holds this of a key: nothing of what it has counted may have got lost.
    pub(super) fn look_at_counter(&mut self, node: usize, key: usize, held: &Held, best: &Held, floor: Time) {
        for &(owner, slot) in &best.counter.slots {
            let may_be_killed = self.excused || self.left_apart.contains(&owner);
            let right = match held.counter.slot(owner) {
                Some(present) => present.merge(slot) == *present || may_be_killed && slot.is_killed(),
                // Dropped once it was over and every member had it; or told to be dead.
                None => {
                    let void = best.base().void_at(best.counter.void, floor);
                    slot.last <= floor && (!slot.is_active(void) || self.looks_rarely) || may_be_killed
                }
            };
            if !right {
                return self
                    .fail_at(Some(key), format!("n{node} held {slot:?} of {owner} and now holds {held:?}"));
            }
        }
    }

    /// A peer has told that a slot is dead.
    pub(super) fn look_for_killed(
        &mut self,
        node: usize,
        key: usize,
        held: &Held,
        before: Option<&Held>,
        floor: Time,
    ) {
        for &(owner, slot) in &held.counter.slots {
            let was = before.and_then(|before| before.counter.slot(owner));
            if slot.reset.mark != KILLED || was.is_some_and(super::Slot::is_killed) {
                continue;
            }
            self.kills += 1;
            let newest = self.newest_count(key, owner);
            // It is about to join, or was joined by none that had a floor.
            if floor == ZERO && self.ended.contains(&owner) {
                self.left_apart.insert(owner);
            }
            let excused = self.excused || self.left_apart.contains(&owner);
            if !excused && slot.start == newest.0 && slot.last >= newest.1 {
                self.fail_at(Some(key), format!("n{node} gave up {slot:?} of {owner}, the newest there is"));
            }
        }
    }

    /// The start and the last increment of the newest life that an owner has counted in.
    fn newest_count(&self, key: usize, owner: Incarnation) -> (Time, Time) {
        let writes = self.writes.get(&owner).into_iter().flatten().filter(|write| write.key == key);
        let own = writes.flat_map(|write| &write.counts).filter(|count| count.owner == owner);
        own.map(|count| (count.slot.start, count.slot.last)).max().unwrap_or_default()
    }

    /// Whether a process holds what a write has counted and reset, or what came after it. Of two resets that ended the
    /// same the earlier stands, but nobody tells of it any more once the floor has passed it.
    pub(super) fn holds_counts(process: &Process, held: Option<&Held>, counts: &[Count]) -> bool {
        let floor = process.local.store.floor();
        counts.iter().all(|Count { owner, slot }| match held.and_then(|held| held.counter.slot(*owner)) {
            Some(present) => {
                let mut slot = *slot;
                if slot.reset.at <= floor {
                    slot.reset.at = slot.reset.at.max(present.reset.at);
                }
                present.merge(slot) == *present
            }
            None => slot.last <= floor,
        })
    }
}
