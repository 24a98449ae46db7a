//! Which parts of a cell are live, what a reader sees, and when each part is dead.

use super::{Cell, HAS_COUNTER, HAS_DEADLINE, HAS_VALUE, Parts, SWEPT};
use crate::model::counter::{Expiry, Shown, Slot, shown};
use crate::model::timestamp::ZERO;
use crate::model::{Deadline, Time, Timestamp};
use crate::store::origins::{Origin, Origins};

/// A part of a cell. The cell's hash is the sum of the hashes of its parts.
#[derive(Clone, Copy)]
pub(in crate::store) enum Part {
    Register,
    Slot(Origin, Slot),
    Expiry(Origin, Expiry),
}

impl Cell {
    /// Whether the cell counts as live: it has a value or an active slot, and was not swept as expired.
    #[inline]
    pub(crate) fn counts_as_live(&self) -> bool {
        self.has(HAS_VALUE) || self.has_counter() && self.has_active_slot()
    }

    fn has_active_slot(&self) -> bool {
        let passed = self.passed_at_last_sweep();
        self.slots().any(|(_, slot)| slot.is_active(passed))
    }

    /// The moment of the earliest deadline that the sweep has not processed yet.
    #[inline]
    pub(in crate::store) fn pending_deadline(&self) -> Option<Time> {
        if self.has_pending_deadline() { self.earliest_deadline() } else { None }
    }

    fn earliest_deadline(&self) -> Option<Time> {
        let flags = self.header().key_length_and_flags;
        let register = self.expires_at().filter(|_| flags & HAS_VALUE != 0);
        if flags & (HAS_COUNTER | SWEPT) != HAS_COUNTER {
            return register;
        }
        let expiry = self.expiry().and_then(|(_, expiry)| expiry.expires_at());
        [register, expiry].into_iter().flatten().min()
    }

    /// Whether there is a [pending deadline](Self::pending_deadline).
    #[inline]
    pub(in crate::store) fn has_pending_deadline(&self) -> bool {
        let flags = self.header().key_length_and_flags;
        flags & (HAS_VALUE | HAS_DEADLINE) == HAS_VALUE | HAS_DEADLINE
            || flags & (HAS_COUNTER | SWEPT) == HAS_COUNTER
                && self.expiry().is_some_and(|(_, expiry)| expiry.deadline.is_some())
    }

    /// The stable time from which the whole cell is dead; `None` if a part of it never will be as it is.
    pub(in crate::store) fn death(&self) -> Option<Time> {
        if self.has_counter() { self.deaths(|_, death| death) } else { self.register_death() }
    }

    /// The earliest stable time from which a part of the cell is dead; `None` if no part will be.
    pub(in crate::store) fn first_death(&self) -> Option<Time> {
        if !self.has_counter() {
            return self.register_death();
        }
        let mut first = None;
        self.deaths(|_, death| {
            first = match (first, death) {
                (Some(first), Some(death)) => Some(death.min(first)),
                (first, death) => first.or(death),
            };
            Some(ZERO)
        });
        first
    }

    /// The first death, for the sums; `None` for a lone register with a value, because the sums track its deadline.
    pub(in crate::store) fn next_death(&self) -> Option<Time> {
        if self.has_counter() || !self.has(HAS_VALUE) { self.first_death() } else { None }
    }

    /// Whether a part counts as live: see [`counts_as_live`](Self::counts_as_live).
    pub(in crate::store) fn is_live_part(&self, part: &Part) -> bool {
        match part {
            Part::Register => self.has(HAS_VALUE),
            Part::Slot(_, slot) => slot.is_active(self.passed_at_last_sweep()),
            Part::Expiry(..) => false,
        }
    }

    /// The moment of the latest deadline that has passed and that the sweep has processed.
    fn passed_at_last_sweep(&self) -> Time {
        if !self.has(HAS_DEADLINE | SWEPT) {
            return ZERO;
        }
        let register = self.expires_at().filter(|_| !self.has(HAS_VALUE));
        let expiry = self.expiry().and_then(|(_, expiry)| expiry.expires_at()).filter(|_| self.has(SWEPT));
        register.max(expiry).unwrap_or(ZERO)
    }

    /// Calls `visit` with each part and its death; returns the latest of the results, or `None` if one is `None`.
    fn deaths(&self, mut visit: impl FnMut(Part, Option<Time>) -> Option<Time>) -> Option<Time> {
        let lives = self.lives();
        let slots = || self.slots().map(|(_, slot)| slot);
        let mut latest = Some(ZERO);
        let mut see =
            |part, death| latest = latest.zip(visit(part, death)).map(|(a, b): (Time, Time)| a.max(b));
        if !self.parts().is_empty() {
            see(Part::Register, lives.register_death(slots()));
        }
        if let Some((writer, expiry)) = self.expiry() {
            see(Part::Expiry(writer, expiry), lives.expiry_death(slots()));
        }
        for (owner, slot) in self.slots() {
            see(Part::Slot(owner, slot), lives.slot_death(&slot));
        }
        latest
    }

    /// Calls `visit` with every part that is not dead at the stable time.
    pub(in crate::store) fn parts_above(&self, stable: Time, mut visit: impl FnMut(Part)) {
        self.deaths(|part, death| {
            if death.is_none_or(|death| death > stable) {
                visit(part);
            }
            death
        });
    }

    /// Calls `visit` with the dots of every part that is dead at the stable time.
    pub(in crate::store) fn dead_dots(&self, stable: Time, mut visit: impl FnMut((Time, Origin))) {
        let is_dead = |death: Option<Time>| death.is_some_and(|death| death <= stable);
        let mut show = |part, death| {
            if is_dead(death) {
                match part {
                    Part::Register => {
                        let parts = self.parts();
                        visit((parts.time, parts.origin));
                        visit(parts.deadline_dot());
                    }
                    Part::Slot(owner, slot) => visit((slot.last, owner)),
                    Part::Expiry(writer, expiry) => visit((expiry.set_at, writer)),
                }
            }
            death
        };
        if self.has_counter() {
            self.deaths(show);
        } else {
            show(Part::Register, self.register_death());
        }
    }

    /// Whether `is_sought` returns true for a dot of the cell.
    pub(in crate::store) fn has_dot(&self, is_sought: impl Fn((Time, Origin)) -> bool) -> bool {
        let register = is_sought((self.time(), self.origin()));
        if register || self.is_plain() {
            return register;
        }
        self.deadline_timestamp().is_some_and(&is_sought)
            || self.expiry().is_some_and(|(writer, expiry)| is_sought((expiry.set_at, writer)))
            || self.slots().any(|(owner, slot)| is_sought((slot.last, owner)))
    }

    /// The cell without the parts that are dead at the stable time.
    pub(in crate::store) fn stripped(&self, scratch: &mut Vec<u8>, stable: Time) -> Cell {
        let (mut counter, lives) = (self.counter(), self.lives());
        let dead = lives.register_death(counter.slots.iter().map(|(_, slot)| slot));
        counter.strip(&lives.register, stable);
        let parts = if dead.is_some_and(|death| death <= stable) { Parts::EMPTY } else { self.parts() };
        Cell::pack_with(scratch, self.key(), &parts, &counter, self.has(SWEPT))
    }

    /// The death of the register of a cell without a counter, as [`Register::death`](crate::model::Register::death).
    fn register_death(&self) -> Option<Time> {
        let expires_at = self.expires_at();
        if self.has(HAS_VALUE) && expires_at.is_none() {
            return None;
        }
        Some(expires_at.unwrap_or(ZERO).max(self.latest()))
    }

    /// Whether the whole cell is dead at the stable time.
    pub(in crate::store) fn is_dead_at(&self, stable: Time) -> bool {
        self.death().is_some_and(|death| death <= stable)
    }

    /// Whether the register's deadline has passed at `now`.
    #[inline]
    pub(in crate::store) fn is_expired(&self, now: Time) -> bool {
        self.deadline().is_some_and(|deadline| deadline.has_passed(now))
    }

    /// Whether the cell is a tombstone: it has no counter, no value and no deadline.
    pub(in crate::store) fn is_tombstone(&self) -> bool {
        !self.has(HAS_VALUE | HAS_DEADLINE | HAS_COUNTER)
    }

    /// Whether a reader at `now` sees a value.
    pub fn is_live(&self, now: Time) -> bool {
        if self.has_counter() {
            return self.shown(now).is_some();
        }
        self.has(HAS_VALUE) && !self.is_expired(now)
    }

    /// The time from which the value that a reader sees at `now` is absent; `None` for never.
    pub(in crate::store) fn deadline_at(&self, now: Time) -> Option<Deadline> {
        if self.has(HAS_VALUE) && !self.is_expired(now) {
            return self.deadline();
        }
        self.expiry().and_then(|(_, expiry)| expiry.deadline).filter(|deadline| !deadline.has_passed(now))
    }

    /// The timestamp of the latest `SET`, `DEL` or increment, whether or not it still shows.
    ///
    /// An `EXPIRE` or `PERSIST` is excluded. It changes a value that stays, and a concurrent `SET` with a smaller
    /// timestamp may replace both, so the timestamps of a key would not always rise.
    pub(in crate::store) fn last_write(&self, origins: &Origins) -> Timestamp {
        let timestamp = |time, origin| Timestamp::new(time, origins.incarnation(origin));
        let slots = self.slots().map(|(owner, slot)| timestamp(slot.last, owner));
        slots.fold(timestamp(self.time(), self.origin()), Ord::max)
    }

    /// A cell without a counter that shows the same as this one at `now`.
    ///
    /// Its timestamp is the register's, not that of the [last write](Self::last_write).
    #[inline]
    pub(crate) fn as_shown(&self, now: Time) -> Cell {
        if self.has_counter() {
            self.without_counter(self.shown(now), self.deadline_at(now))
        } else {
            self.clone()
        }
    }

    /// A cell without a counter that shows the same as this one after the last sweep, whatever deadlines have passed
    /// since.
    pub(crate) fn as_at_last_sweep(&self) -> Cell {
        if !self.has_counter() {
            return self.clone();
        }
        self.without_counter(self.shown_at_last_sweep(), self.deadline_at_last_sweep())
    }

    /// The deadline of the value that [`as_at_last_sweep`](Self::as_at_last_sweep) shows.
    pub(in crate::store) fn deadline_at_last_sweep(&self) -> Option<Deadline> {
        if self.has(HAS_VALUE) {
            return self.deadline();
        }
        self.expiry().and_then(|(_, expiry)| expiry.deadline).filter(|_| !self.has(SWEPT))
    }

    /// The value that [`as_at_last_sweep`](Self::as_at_last_sweep) shows.
    pub(in crate::store) fn shown_at_last_sweep(&self) -> Option<Shown<'_>> {
        self.shown_after(self.value(), self.passed_at_last_sweep())
    }

    #[cold]
    fn without_counter(&self, shown: Option<Shown<'_>>, deadline: Option<Deadline>) -> Cell {
        let mut digits = itoa::Buffer::new();
        let value = shown.map(|shown| match shown {
            Shown::Text(text) => text,
            Shown::Number(number) => digits.format(number).as_bytes(),
        });
        let (time, origin) = (self.time(), self.origin());
        let parts = Parts { time, origin, value, deadline, deadline_timestamp: None };
        Cell::pack(&mut Vec::new(), self.key(), &parts)
    }

    /// The value that a reader at `now` sees.
    pub(in crate::store) fn shown(&self, now: Time) -> Option<Shown<'_>> {
        let value = self.value().filter(|_| !self.is_expired(now));
        if !self.has_counter() {
            return value.map(Shown::Text);
        }
        self.shown_after(value, self.lives().passed(now))
    }

    fn shown_after<'a>(&'a self, value: Option<&'a [u8]>, passed: Time) -> Option<Shown<'a>> {
        let active = self.slots().map(|(_, slot)| slot).filter(|slot| slot.is_active(passed));
        shown(value.map(|value| (value, self.time())), active)
    }
}
