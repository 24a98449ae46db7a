//! What one process holds of one key, read out of its store.

use crate::model::counter::{Base, Counter, Shown, shown};
use crate::model::stamp::{ZERO, incarnation};
use crate::model::{Incarnation, Stamp, Time};
use crate::store::Cell;

use super::Process;

/// A version of a register that nobody has set.
pub(super) fn nobodys(time: Time) -> Stamp {
    Stamp::new(time, incarnation(u128::MAX - 1).expect("it is not zero"))
}

pub(super) fn is_nobodys(version: &Stamp) -> bool {
    version.get_id() == nobodys(ZERO).get_id()
}

/// What one process holds of one key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in super::super) struct Held {
    pub(in super::super) version: Stamp,
    pub(in super::super) qualifier: Stamp,
    pub(in super::super) deadline: Option<Time>,
    pub(in super::super) value: Option<Vec<u8>>,
    pub(in super::super) lift: Time,
    pub(in super::super) counter: Counter<Incarnation>,
}

impl Held {
    pub(in super::super) fn read(process: &Process, cell: &Cell) -> Held {
        let parts = cell.parts();
        let store = &process.local.store;
        let stamp = |time, origin| Stamp::new(time, store.incarnation(origin));
        let version = stamp(parts.time, parts.origin);
        let held = cell.counter();
        let mut counter = Counter { void: held.void, slots: Vec::new() };
        held.slots.iter().for_each(|&(owner, slot)| counter.put(store.incarnation(owner), slot));
        Held {
            version,
            qualifier: parts.qualifier.map_or(version, |(time, origin)| stamp(time, origin)),
            deadline: parts.deadline,
            value: parts.value.map(<[u8]>::to_vec),
            lift: parts.lift,
            counter,
        }
    }

    /// Whether the register shows a value.
    pub(super) fn is_live(&self, now: Time) -> bool {
        self.value.is_some() && self.deadline.is_none_or(|deadline| deadline > now)
    }

    /// What a reader sees.
    pub(super) fn shown(&self, now: Time) -> Option<Shown<'_>> {
        let value = self.value.as_deref().filter(|_| self.is_live(now));
        let void = self.base().void_at(self.counter.void, now);
        shown(value.map(|value| (value, *self.version.get_time())), self.counter.active(void).copied())
    }

    /// Whether somebody has set or deleted it: what was only counted with has no version, or one of nobody's.
    pub(super) fn is_written(&self) -> bool {
        !is_nobodys(&self.version)
    }

    pub(super) fn is_lifted(&self) -> bool {
        self.lift > *self.version.get_time()
    }

    pub(super) fn is_kill(&self) -> bool {
        Some(*self.version.get_id()) == incarnation(u128::MAX)
    }

    pub(super) fn admission(&self) -> Time {
        self.lift.max(*self.version.get_time())
    }

    /// Whether a floor at `floor` counts the register as dead.
    pub(super) fn is_dead_at(&self, floor: Time) -> bool {
        if self.value.is_some() && self.deadline.is_none() {
            return false;
        }
        self.written().max(self.lift).max(self.deadline.unwrap_or(ZERO)) <= floor
    }

    /// The latest of the register's stamps.
    fn written(&self) -> Time {
        (*self.version.get_time()).max(*self.qualifier.get_time())
    }

    pub(super) fn base(&self) -> Base {
        Base {
            written: self.written(),
            deadline: self.deadline,
            lift: self.lift,
            has_value: self.value.is_some(),
        }
    }

    /// What decides between copies, without the value.
    pub(super) fn rank(&self) -> (Stamp, Stamp, Option<Time>) {
        (self.version, self.qualifier, self.deadline)
    }

    /// What is left of it once a floor at `floor` has passed: a register that is forgotten decides no more.
    pub(super) fn stripped(mut self, floor: Time) -> Held {
        let base = self.base();
        let dead = base.register_death(self.counter.void, self.counter.slots.iter().map(|(_, slot)| slot));
        self.counter.strip(&base, floor);
        if dead.is_some_and(|death| death <= floor) {
            (self.version, self.qualifier) = (nobodys(ZERO), nobodys(ZERO));
            (self.value, self.deadline, self.lift) = (None, None, ZERO);
        }
        self
    }

    /// Everything that is in either: the later register, and what both have counted.
    pub(super) fn join(self, other: &Held) -> Held {
        let mut counter = self.counter.clone();
        other.counter.slots.iter().for_each(|&(owner, slot)| counter.merge_slot(owner, slot));
        counter.void = counter.void.max(other.counter.void);
        let register = if self.rank() < other.rank() { other.clone() } else { self };
        Held { counter, ..register }
    }
}
