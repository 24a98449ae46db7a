//! Merges the cells that peers send: first admission, then the merge law of each part.
//!
//! *Admission*: a received part that is absent here is accepted only if this node's summary vector does not cover its
//! dot (the incarnation that wrote it and the timestamp). A covered part was incorporated here and has been removed
//! since. So it is dropped, and a sync answers it with a [`Retraction`]. Admission decides only what becomes live: a
//! dead part that wins over what is held is always merged.

use super::cell::{Cell, Counter, Parts};
use super::memory::Growth;
use super::origins::Origin;
use super::{Store, trim};
use crate::ablation::{Ablation, ablated};
use crate::model::counter::{Expiry, Slot};
use crate::model::{Deadline, Time};

/// How a cell was received.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ReceivedBy {
    /// In a push. It may have been delayed, so the peer may no longer hold the cell.
    Push,
    /// In a sync whose digests leave out what is dead at the stable time `cutoff`. The peer holds the cell now.
    Sync {
        /// Zero if the two nodes do not agree on the members.
        cutoff: Time,
    },
}

impl ReceivedBy {
    fn cutoff(self) -> Time {
        match self {
            ReceivedBy::Push => Time::default(),
            ReceivedBy::Sync { cutoff } => cutoff,
        }
    }
}

/// The result of merging a received cell.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Merged {
    pub(crate) outcome: Outcome,
    /// The parts that this node has removed, if any; the sender must drop exactly these.
    pub(crate) retraction: Option<Box<Retraction>>,
}

/// The effect of a received cell on the held one.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// The cell changed.
    Applied,
    /// Nothing changed: the cell already held this or newer, or the received cell was not admitted.
    #[default]
    Known,
    /// Nothing changed: the received cell would grow the cells beyond a limit, by so many bytes.
    Refused(u64),
}

/// The answer to covered parts of a cell that are not held: they were removed here.
///
/// A node that still holds exactly these parts turns them into tombstones with the same dots.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Retraction {
    /// The dots of the register and of its deadline.
    pub(crate) register: Option<Removed<[(Time, Origin); 2]>>,
    /// The dot of the counter's deadline.
    pub(crate) expiry: Option<(Time, Origin)>,
    /// The owners of the slots, with the times of their first and last increments.
    pub(crate) slots: Vec<Removed<(Origin, Time, Time)>>,
    /// Whether something that is dead here won over a part; otherwise the parts are absent here.
    pub(crate) is_beaten: bool,
}

/// A part of a cell that was removed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Removed<Dots> {
    pub(crate) dots: Dots,
    /// Whether it counts as covered only because its incarnation was closed; it may never have been received here.
    pub(crate) is_given_up: bool,
}

/// What a retraction removed here.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Retracted {
    /// The cell before the retraction.
    pub(crate) cell: Cell,
    /// Whether the register's value is given up.
    pub(crate) register: bool,
    /// The slots that are given up.
    pub(crate) slots: Vec<(Origin, Slot)>,
}

impl Retraction {
    fn is_empty(&self) -> bool {
        self.register.is_none() && self.expiry.is_none() && self.slots.is_empty()
    }

    /// The incarnations that wrote the parts that are given up.
    pub(crate) fn given_up(&self) -> impl Iterator<Item = Origin> {
        let register = self.register.filter(|part| part.is_given_up).map(|part| part.dots[0].1);
        let slots = self.slots.iter().filter(|part| part.is_given_up).map(|part| part.dots.0);
        register.into_iter().chain(slots)
    }

    fn boxed(self) -> Option<Box<Retraction>> {
        (!self.is_empty()).then(|| Box::new(self))
    }
}

impl Merged {
    fn only(outcome: Outcome) -> Merged {
        Merged { outcome, retraction: None }
    }
}

impl Store {
    /// Merges a received cell.
    ///
    /// The clock must have [observed](Self::observe) its times, and its origins must be [interned](Self::intern) here.
    pub(crate) fn merge(
        &self,
        scratch: &mut Vec<u8>,
        key: &[u8],
        received: &Parts<'_>,
        counter: &Counter,
        by: ReceivedBy,
    ) -> Merged {
        let merged = self.ranges.update(key, |cell| {
            if !counter.is_empty() || cell.is_some_and(Cell::has_counter) {
                return self.merge_parts(scratch, key, cell, received, counter, by);
            }
            let mut retraction = Retraction::default();
            let own = cell.map_or(Parts::EMPTY, Cell::parts);
            let next = match self.admit_register(&own, received, by, &mut retraction) {
                Some(register) => Cell::pack(scratch, key, &register),
                None => return (None, Merged { outcome: Outcome::Known, retraction: retraction.boxed() }),
            };
            if let Some(bytes) = self.refusal(cell, &next, received.value.is_none()) {
                return (None, Merged::only(Outcome::Refused(bytes)));
            }
            (Some(next), Merged::only(Outcome::Applied))
        });
        trim(scratch);
        merged
    }

    /// The bytes by which a received cell would grow the cells, if there is no room for them.
    ///
    /// An expired cell counts as dead even if it was not swept yet, because the peer may have swept it.
    fn refusal(&self, current: Option<&Cell>, next: &Cell, received_is_dead: bool) -> Option<u64> {
        let now = self.now(Time::default());
        let mut growth = Growth::of(current, next);
        if next.counts_as_live() && current.is_some_and(|current| !current.is_live(now)) {
            // The current one may have been taken beyond the ceiling, because it is dead.
            growth.live = next.memory();
        }
        let is_dead = received_is_dead || !next.is_live(now);
        let taken = self.limits.admit_peers(self.ranges.memory(), growth, is_dead);
        (!taken).then_some(growth.live.max(growth.total))
    }

    /// The register after merging a received one; `None` if the held one stays.
    fn admit_register<'p>(
        &self,
        held: &Parts<'p>,
        received: &Parts<'p>,
        by: ReceivedBy,
        retraction: &mut Retraction,
    ) -> Option<Parts<'p>> {
        if received.is_empty() {
            return None;
        }
        let stable = by.cutoff();
        let origins = self.ranges.origins();
        let covers = |(time, origin)| origins.covers(time, origin) && !ablated(Ablation::Admission);
        let dots = [(received.time, received.origin), received.deadline_dot()];
        let is_live = received.value.is_some() && !self.has_passed(received.deadline, stable);
        // Only a sync admits an uncovered `EXPIRE` of a covered value. In a push it may be late: the key may have
        // been deleted and purged.
        let is_covered = || covers(dots[0]) && (by == ReceivedBy::Push || covers(dots[1]));
        let removed_here = if held.is_empty() {
            is_covered()
        } else if self.stands(held, received) {
            // If what won here is dead, no digest shows it to the peer.
            let is_beaten = is_live && held.value.is_none() && self.is_dead(held, stable);
            retraction.is_beaten |= is_beaten;
            retraction.register = is_beaten.then_some(Removed { dots, is_given_up: false });
            return None;
        } else {
            // If the timestamps differ, the received one was removed here, and an older, uncovered one was admitted
            // after that.
            let is_same = (held.time, held.origin) == (received.time, received.origin);
            is_live && !is_same && is_covered()
        };
        if !removed_here {
            return Some(*received);
        }
        retraction.register = is_live.then(|| Removed { dots, is_given_up: self.is_given_up(dots[0]) });
        None
    }

    /// Whether a deadline has passed. What it ended needs no retraction: that would remove the deadline and so bring
    /// back the slots that it ended.
    fn has_passed(&self, deadline: Option<Deadline>, stable: Time) -> bool {
        deadline.is_some_and(|deadline| deadline.has_passed(stable.max(self.now(Time::default()))))
    }

    /// Whether the merge law keeps the held register and not the received one.
    fn stands(&self, held: &Parts<'_>, received: &Parts<'_>) -> bool {
        if held.time != received.time {
            return held.time > received.time;
        }
        let origins = self.ranges.origins();
        let (ours, theirs) = (held.register(origins), received.register(origins));
        ours.merge(theirs) == ours
    }

    fn is_dead(&self, parts: &Parts<'_>, stable: Time) -> bool {
        let death = parts.register(self.ranges.origins()).death();
        death.is_some_and(|death| death <= stable)
    }

    /// Whether a covered dot is covered only because its incarnation was closed.
    fn is_given_up(&self, (time, origin): (Time, Origin)) -> bool {
        let origins = self.ranges.origins();
        origin != origins.own() && time > origins.coverage(origin).synced
    }

    /// Merges a received cell part by part, if one of the two has a counter.
    fn merge_parts(
        &self,
        scratch: &mut Vec<u8>,
        key: &[u8],
        cell: Option<&Cell>,
        received: &Parts<'_>,
        theirs: &Counter,
        by: ReceivedBy,
    ) -> (Option<Cell>, Merged) {
        let mut retraction = Retraction::default();
        let before = cell.map_or(Counter::NONE, Cell::counter);
        let own = cell.map_or(Parts::EMPTY, Cell::parts);
        let stable = by.cutoff();
        let register = self.admit_register(&own, received, by, &mut retraction);
        let parts = register.unwrap_or(own);
        let mut ours = before.clone();
        let mut theirs = theirs.clone();
        let expiry = self.admit_expiry(before.expiry, theirs.expiry, stable, &mut retraction);
        // A deadline that had passed when its successor was written has ended the lives that began before it, on every
        // node. A received deadline that does not win has ended the received ones too, if it has passed.
        ours.end(self.ended_by_successor(&own, &parts, before.expiry, expiry));
        let now = self.now(Time::default());
        let register = received.expires_at().filter(|_| parts != *received);
        let counted =
            theirs.expiry.filter(|_| expiry != theirs.expiry).and_then(|(_, expiry)| expiry.expires_at());
        let passed = [register, counted].into_iter().flatten().filter(|&at| at <= now);
        theirs.end(passed.max().unwrap_or_default());
        for &(owner, slot) in &theirs.slots {
            self.admit_slot(&mut ours, owner, slot, stable, &mut retraction);
        }
        ours.expiry = expiry;
        if ours == before && parts == own {
            return (None, Merged { outcome: Outcome::Known, retraction: retraction.boxed() });
        }
        let next = Cell::pack_with(scratch, key, &parts, &ours, false);
        let is_dead = received.value.is_none() && theirs.slots.iter().all(|(_, slot)| slot.is_reset());
        if let Some(bytes) = self.refusal(cell, &next, is_dead) {
            return (None, Merged::only(Outcome::Refused(bytes)));
        }
        (Some(next), Merged { outcome: Outcome::Applied, retraction: retraction.boxed() })
    }

    /// The moment of the latest held deadline that had passed when its replacement was written.
    fn ended_by_successor(
        &self,
        held: &Parts<'_>,
        register: &Parts<'_>,
        held_expiry: Option<(Origin, Expiry)>,
        expiry: Option<(Origin, Expiry)>,
    ) -> Time {
        if ablated(Ablation::EndedBySuccessor) {
            return Time::default();
        }
        let is_replaced = (held.time, held.origin) != (register.time, register.origin);
        let register = held.expires_at().filter(|&at| is_replaced && at <= register.time);
        let successor =
            expiry.filter(|_| held_expiry != expiry).map_or(Time::default(), |(_, expiry)| expiry.set_at);
        let counted = held_expiry.and_then(|(_, expiry)| expiry.expires_at()).filter(|&at| at <= successor);
        register.max(counted).unwrap_or_default()
    }

    fn admit_expiry(
        &self,
        held: Option<(Origin, Expiry)>,
        received: Option<(Origin, Expiry)>,
        stable: Time,
        retraction: &mut Retraction,
    ) -> Option<(Origin, Expiry)> {
        let (Some((writer, expiry)), origins) = (received, self.ranges.origins()) else { return held };
        let rank = |(writer, expiry): (Origin, Expiry)| expiry.rank(origins.incarnation(writer));
        let is_live = expiry.deadline.is_some() && !self.has_passed(expiry.deadline, stable);
        let is_covered = origins.covers(expiry.set_at, writer) && !ablated(Ablation::Admission);
        match held {
            Some(held) if rank(held) >= rank((writer, expiry)) => Some(held),
            Some(held) if is_covered && is_live && held.1.set_at != expiry.set_at => {
                retraction.expiry = Some((expiry.set_at, writer));
                Some(held)
            }
            None if is_covered => {
                if is_live {
                    retraction.expiry = Some((expiry.set_at, writer));
                }
                None
            }
            _ => received,
        }
    }

    fn admit_slot(
        &self,
        ours: &mut Counter,
        owner: Origin,
        slot: Slot,
        stable: Time,
        retraction: &mut Retraction,
    ) {
        let dots = (owner, slot.start, slot.last);
        let is_present = ours.slot(owner).is_some_and(|held| held.start >= slot.start);
        if is_present || !self.ranges.origins().covers(slot.last, owner) || ablated(Ablation::Admission) {
            ours.merge_slot(owner, slot);
            let held = ours.slot(owner).filter(|held| held.is_reset() && !slot.is_reset());
            if held.is_some_and(|held| held.last.max(held.reset.at) <= stable) {
                retraction.slots.push(Removed { dots, is_given_up: false });
                retraction.is_beaten = true;
            }
        } else if !slot.is_reset() {
            retraction.slots.push(Removed { dots, is_given_up: self.is_given_up((slot.last, owner)) });
        }
    }

    /// Removes exactly the parts that a peer has removed, if they are held. They become tombstones with the same dots.
    pub(crate) fn retract(&self, key: &[u8], retraction: &Retraction) -> Option<Retracted> {
        self.ranges.update(key, |cell| {
            let Some(cell) = cell else { return (None, None) };
            let (mut parts, mut counter) = (cell.parts(), cell.counter());
            let dots = [(parts.time, parts.origin), parts.deadline_dot()];
            let register =
                retraction.register.filter(|removed| parts.value.is_some() && removed.dots == dots);
            if register.is_some() {
                parts = parts.retracted();
            }
            if let Some((writer, expiry)) = &mut counter.expiry
                && retraction.expiry == Some((expiry.set_at, *writer))
            {
                expiry.deadline = None;
            }
            let mut slots = Vec::new();
            for &Removed { dots: (owner, start, last), is_given_up } in &retraction.slots {
                let held =
                    counter.slot(owner).copied().filter(|slot| (slot.start, slot.last) == (start, last));
                if let Some(slot) = held.filter(|slot| !slot.is_reset()) {
                    counter.put(owner, slot.retracted());
                    slots.extend(is_given_up.then_some((owner, slot)));
                }
            }
            if parts == cell.parts() && counter == cell.counter() {
                return (None, None);
            }
            let register = register.is_some_and(|removed| removed.is_given_up);
            let retracted = Retracted { cell: cell.clone(), register, slots };
            (Some(Cell::pack_with(&mut Vec::new(), key, &parts, &counter, false)), Some(retracted))
        })
    }
}
