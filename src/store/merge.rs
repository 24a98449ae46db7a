//! The merge of what a peer sends into what is held: the admission rule, then the law of each part.

use super::cell::{Cell, Counter, Parts};
use super::memory::Growth;
use super::origins::{Origin, Origins};
use super::{Store, trim};
use crate::ablation::{Ablation, ablated};
use crate::model::counter::Slot;
use crate::model::stamp::ZERO;
use crate::model::{Register, Time};

/// What became of a received cell.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Merged {
    /// The cell changed.
    Applied,
    /// The cell changed: something was live here, and a peer knows it to be dead.
    Killed(Box<Killed>),
    /// The cell already held this or newer, or both are dead.
    Known,
    /// Something of it is absent here and the floor has passed it: every member held it, and it was deleted since. That
    /// was left out; what else there was has been merged.
    Late(Late),
    /// The cells are at a limit and this would have grown them, by so many bytes. Nothing was changed.
    Refused(u64),
}

/// What the floor has passed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Late {
    pub(crate) floor: Time,
    /// Whether the register is.
    pub(crate) register: bool,
    /// The owners of the slots that are, and when these began.
    pub(crate) slots: Vec<(Origin, Time)>,
}

/// What a peer knew to be dead.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Killed {
    /// What was held.
    pub(crate) cell: Cell,
    /// Whether its value is dead.
    pub(crate) register: bool,
    /// The slots that are.
    pub(crate) slots: Vec<(Origin, Slot)>,
}

impl Store {
    /// Merges a received cell. The clock must have [observed](Self::observe) its times, and its origins must be
    /// [interned](Self::intern) here. `is_unheard` says whether all that an incarnation wrote from a moment on is news to
    /// this daemon; it is asked under the range's lock.
    pub(crate) fn merge(
        &self,
        scratch: &mut Vec<u8>,
        key: &[u8],
        received: &Parts<'_>,
        counter: &Counter,
        is_unheard: &dyn Fn(Origin, Time) -> bool,
    ) -> Merged {
        let merged = self.ranges.update(key, |cell| {
            if !counter.is_empty() || cell.is_some_and(Cell::has_counter) {
                return self.merge_parts(scratch, key, cell, received, counter, is_unheard);
            }
            let floor = self.floor();
            let is_absent = |cell: &Cell| cell.is_dead_at(floor) || stands_for_none(&cell.parts(), received);
            if self.is_late(received, floor) && cell.is_none_or(is_absent) {
                let dead = received.register(self.ranges.origins()).death().is_some_and(|at| at <= floor);
                let late = Late { floor, register: true, slots: Vec::new() };
                return (None, if dead { Merged::Known } else { Merged::Late(late) });
            }
            let next = match cell {
                Some(cell)
                    if cell.time() > received.time && received.lift <= cell.lift().max(cell.time()) =>
                {
                    return (None, Merged::Known);
                }
                Some(cell) if cell.time() >= received.time || cell.lift() > received.time => {
                    match self.merge_registers(&cell.parts(), received) {
                        Some(merged) => Cell::pack(scratch, key, &merged),
                        None => return (None, Merged::Known),
                    }
                }
                _ => Cell::pack(scratch, key, received),
            };
            if let Some(bytes) = self.refusal(cell, &next, received.value.is_none()) {
                return (None, Merged::Refused(bytes));
            }
            let victim = cell.filter(|cell| cell.value().is_some() && self.is_kill(received));
            let killed = victim.map(|cell| Killed { cell: cell.clone(), register: true, slots: Vec::new() });
            (Some(next), killed.map_or(Merged::Applied, |killed| Merged::Killed(Box::new(killed))))
        });
        trim(scratch);
        merged
    }

    /// By how much a received cell would grow the cells, if there is no room for that.
    fn refusal(&self, current: Option<&Cell>, next: &Cell, received_is_dead: bool) -> Option<u64> {
        let growth = Growth::of(current, next);
        let taken = self.limits.admit_peers(self.ranges.memory(), growth, received_is_dead);
        (!taken).then_some(growth.live.max(growth.total))
    }

    /// Whether a register that is absent here must stay out.
    fn is_late(&self, received: &Parts<'_>, floor: Time) -> bool {
        let mut admission = received.admission();
        if ablated(Ablation::AdmitByVersion) {
            admission = received.qualifier.map_or(admission, |(time, _)| admission.max(time));
        }
        admission <= floor && !ablated(Ablation::Admission)
    }

    /// The same where one of the two has a counter: part by part.
    fn merge_parts(
        &self,
        scratch: &mut Vec<u8>,
        key: &[u8],
        cell: Option<&Cell>,
        received: &Parts<'_>,
        theirs: &Counter,
        is_unheard: &dyn Fn(Origin, Time) -> bool,
    ) -> (Option<Cell>, Merged) {
        let floor = self.floor();
        let mut late = Late { floor, ..Late::default() };
        // What is dead at the floor counts as absent, whether or not it is purged yet.
        let held = cell.map(|cell| cell.stripped(scratch, floor));
        let mut ours = held.as_ref().map_or(Counter::NONE, Cell::counter);
        let before = ours.clone();
        let own = held.as_ref().map_or(Parts::EMPTY, Cell::parts);
        let base = received.base();
        let mut parts = own;
        if received.is_empty() {
        } else if (own.is_empty() || stands_for_none(&own, received)) && self.is_late(received, floor) {
            let slots = theirs.slots.iter().map(|(_, slot)| slot);
            let death = base.register_death(theirs.void, slots);
            late.register = death.is_none_or(|death| death > floor);
        } else if let Some(merged) = self.merge_registers(&own, received) {
            parts = merged;
        }
        // A deadline that goes with its register has ended what it made void, if it had passed by then: whoever wrote the
        // later register may have forgotten both.
        let ended = |side: &Parts<'_>| {
            let is_replaced = (side.time, side.origin) != (parts.time, parts.origin);
            let by = parts.time.max(parts.lift).max(floor);
            side.deadline.filter(|&deadline| is_replaced && deadline <= by).unwrap_or(ZERO)
        };
        ours.end(ended(&own));
        let mut theirs = theirs.clone();
        theirs.end(ended(received));
        let void = base.void_at(theirs.void, floor);
        for &(owner, slot) in &theirs.slots {
            let present = slot.start > floor || before.slot(owner).is_some();
            if present || is_unheard(owner, slot.start) || ablated(Ablation::Admission) {
                ours.merge_slot(owner, slot);
            } else if slot.is_active(void) {
                late.slots.push((owner, slot.start));
            }
        }
        ours.void = ours.void.max(theirs.void);
        let newly_killed = |&(owner, slot): &(Origin, Slot)| {
            let killed = ours.slot(owner).is_some_and(Slot::is_killed) && slot.is_active(before.void);
            killed.then_some((owner, slot))
        };
        let slots: Vec<_> = before.slots.iter().filter_map(newly_killed).collect();
        ours.strip(&parts.base(), floor);
        let merged = |changed: Merged| {
            if late.register || !late.slots.is_empty() { Merged::Late(late.clone()) } else { changed }
        };
        if ours == before && parts == own {
            return (None, merged(Merged::Known));
        }
        let next = Cell::pack_with(scratch, key, &parts, &ours, false);
        let is_dead = received.value.is_none() && !theirs.slots.iter().any(|(_, slot)| slot.is_active(void));
        if let Some(bytes) = self.refusal(cell, &next, is_dead) {
            return (None, Merged::Refused(bytes));
        }
        let register = own.value.is_some() && parts.value.is_none() && self.is_kill(received);
        if let Some(cell) = cell
            && (register || !slots.is_empty())
        {
            let killed = Killed { cell: cell.clone(), register, slots };
            return (Some(next), Merged::Killed(Box::new(killed)));
        }
        (Some(next), merged(Merged::Applied))
    }

    /// The law of registers, for copies that their times alone do not decide; `None` if the first already has it all.
    fn merge_registers<'p>(&self, held: &Parts<'p>, received: &Parts<'p>) -> Option<Parts<'p>> {
        let origins = self.ranges.origins();
        let (current, received) = (held.register(origins), received.register(origins));
        let merged = current.merge(received);
        // A lift that the version has overtaken says nothing, and is not stored.
        let merged = Register {
            lift: if merged.admission() > *merged.version.get_time() { merged.lift } else { ZERO },
            ..merged
        };
        let known = |incarnation| origins.intern(incarnation).expect("both copies' origins are interned");
        (merged != current).then(|| Parts {
            time: *merged.version.get_time(),
            origin: known(*merged.version.get_id()),
            value: merged.value,
            deadline: merged.deadline,
            qualifier: merged
                .is_qualified()
                .then(|| (*merged.qualifier.get_time(), known(*merged.qualifier.get_id()))),
            lift: merged.lift,
        })
    }
}

/// Whether `held` counts as absent where a register that somebody has written is `received`: the deadline of a counter that
/// nobody has set is admitted by its own stamp, so its version may lie below a delete that was applied and forgotten here.
fn stands_for_none(held: &Parts<'_>, received: &Parts<'_>) -> bool {
    held.origin == Origins::NOBODY && received.origin != Origins::NOBODY
}
