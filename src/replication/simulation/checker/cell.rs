//! A process's copy of one key, read from its store.

use crate::model::counter::{Counter, Lives, RegisterLife, Shown, shown};
use crate::model::timestamp::{ZERO, incarnation};
use crate::model::{Deadline, Incarnation, Time, Timestamp};
use crate::store::Cell;

use super::Process;

/// The timestamp of a register that was never set.
pub(super) fn nobodys() -> Timestamp {
    Timestamp::new(ZERO, incarnation(u128::MAX - 1).expect("it is not zero"))
}

/// One process's copy of one key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in super::super) struct Held {
    pub(in super::super) timestamp: Timestamp,
    pub(in super::super) deadline_timestamp: Timestamp,
    /// The moment at which the deadline passes.
    pub(in super::super) deadline: Option<Time>,
    pub(in super::super) value: Option<Vec<u8>>,
    pub(in super::super) counter: Counter<Incarnation>,
}

impl Held {
    pub(in super::super) fn read(process: &Process, cell: &Cell) -> Held {
        let parts = cell.parts();
        let store = &process.replica.local.store;
        let dot = |time, origin| Timestamp::new(time, store.incarnation(origin));
        let timestamp = dot(parts.time, parts.origin);
        let held = cell.counter();
        let expiry = held.expiry.map(|(writer, expiry)| (store.incarnation(writer), expiry));
        let mut counter = Counter { expiry, slots: Vec::new() };
        held.slots.iter().for_each(|&(owner, slot)| counter.put(store.incarnation(owner), slot));
        Held {
            timestamp,
            deadline_timestamp: parts
                .deadline_timestamp
                .map_or(timestamp, |(time, origin)| dot(time, origin)),
            deadline: parts.deadline.map(Deadline::moment),
            value: parts.value.map(<[u8]>::to_vec),
            counter,
        }
    }

    /// Whether the register shows a value.
    pub(in super::super) fn is_live(&self, now: Time) -> bool {
        self.value.is_some() && self.deadline.is_none_or(|deadline| deadline > now)
    }

    /// Returns what a reader sees.
    pub(in super::super) fn shown(&self, now: Time) -> Option<Shown<'_>> {
        let value = self.value.as_deref().filter(|_| self.is_live(now));
        let active = self.counter.active(self.lives().passed(now)).copied();
        shown(value.map(|value| (value, self.timestamp.time())), active)
    }

    fn lives(&self) -> Lives {
        let written = (self.timestamp.time()).max(self.deadline_timestamp.time());
        let register = RegisterLife { written, expires_at: self.deadline, has_value: self.value.is_some() };
        Lives { register, expiry: self.counter.expiry.map(|(_, expiry)| expiry) }
    }

    /// Whether the register was ever set or deleted: a key that only has a counter has no timestamp.
    pub(super) fn is_written(&self) -> bool {
        self.timestamp != nobodys()
    }

    /// Returns its latest timestamp.
    pub(super) fn latest(&self) -> Timestamp {
        let slots = self.counter.slots.iter().map(|(owner, slot)| Timestamp::new(slot.last, *owner));
        let expiry = self.counter.expiry.map(|(writer, expiry)| Timestamp::new(expiry.set_at, writer));
        slots.chain(expiry).fold(self.timestamp.max(self.deadline_timestamp), Ord::max)
    }
}
