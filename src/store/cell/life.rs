//! What of a cell is live, what a reader sees of it, and when each part of it is dead.

use uhlc::NTP64;

use super::{Cell, Counter, HAS_COUNTER, HAS_DEADLINE, HAS_VALUE, Parts, SWEPT};
use crate::model::counter::{Shown, Slot, shown};
use crate::model::stamp::ZERO;
use crate::model::{Stamp, Time};
use crate::store::origins::{Origin, Origins};

/// One of the parts that a cell's hash is the sum of.
#[derive(Clone, Copy)]
pub(in crate::store) enum Part {
    Register,
    Slot(Origin, Slot),
    Void(Time),
}

/// The end of the scale.
const MAX: Time = NTP64(u64::MAX);

impl Cell {
    /// Whether it counts as live: it holds a value or has an active slot, and the sweep has not found it expired.
    pub(in crate::store) fn is_kept(&self) -> bool {
        if !self.has_counter() {
            return self.has(HAS_VALUE);
        }
        let void = self.kept_void();
        self.has(HAS_VALUE) || self.slots().any(|(_, slot)| slot.is_active(void))
    }

    /// Whether the passing of the deadline has something left to end.
    pub(in crate::store) fn awaits_sweep(&self) -> bool {
        let flags = self.header().key_length_and_flags;
        flags & HAS_DEADLINE != 0 && (flags & HAS_VALUE != 0 || flags & (HAS_COUNTER | SWEPT) == HAS_COUNTER)
    }

    /// The moment from which a floor counts all of it as dead; `None` if it never will be as it is.
    pub(in crate::store) fn death(&self) -> Option<Time> {
        if self.has_counter() { self.deaths(|_, death| death) } else { self.register_death() }
    }

    /// The earliest moment from which a floor counts a part of it as dead; `None` where there will be none.
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

    /// The same as far as the sums keep count of it: deaths by deadlines that the sweep awaits are told by these.
    pub(in crate::store) fn next_death(&self) -> Option<Time> {
        if self.has_counter() || !self.has(HAS_VALUE) { self.first_death() } else { None }
    }

    /// Whether a part of it counts as live: see [`is_kept`](Self::is_kept).
    pub(in crate::store) fn is_live_part(&self, part: &Part) -> bool {
        match part {
            Part::Register => self.has(HAS_VALUE),
            Part::Slot(_, slot) => slot.is_active(self.kept_void()),
            Part::Void(_) => false,
        }
    }

    /// Up to when its counter is void as far as the sweep has noticed.
    fn kept_void(&self) -> Time {
        self.base().void_at(self.void(), self.swept_until())
    }

    /// Shows the death of each part to `visit`; the latest of what that returns, unless one is `None`.
    fn deaths(&self, mut visit: impl FnMut(Part, Option<Time>) -> Option<Time>) -> Option<Time> {
        let (base, counter) = (self.base(), self.counter());
        let slots = || counter.slots.iter().map(|(_, slot)| slot);
        let mut latest = Some(ZERO);
        let mut see =
            |part, death| latest = latest.zip(visit(part, death)).map(|(a, b): (Time, Time)| a.max(b));
        if !self.parts().is_empty() {
            see(Part::Register, base.register_death(counter.void, slots()));
        }
        if counter.void != ZERO {
            see(Part::Void(counter.void), Some(base.void_death(counter.void, slots())));
        }
        for (owner, slot) in &counter.slots {
            see(Part::Slot(*owner, *slot), base.slot_death(counter.void, slot));
        }
        latest
    }

    /// Shows every part to `visit` that a floor at `floor` does not count as dead.
    pub(in crate::store) fn parts_above(&self, floor: Time, mut visit: impl FnMut(Part)) {
        self.deaths(|part, death| {
            if death.is_none_or(|death| death > floor) {
                visit(part);
            }
            death
        });
    }

    /// The same cell without the parts that a floor at `floor` counts as dead.
    pub(in crate::store) fn stripped(&self, scratch: &mut Vec<u8>, floor: Time) -> Cell {
        let (mut counter, base) = (self.counter(), self.base());
        let dead = base.register_death(counter.void, counter.slots.iter().map(|(_, slot)| slot));
        counter.strip(&base, floor);
        let parts = if dead.is_some_and(|death| death <= floor) { Parts::EMPTY } else { self.parts() };
        Cell::pack_with(scratch, self.key(), &parts, &counter, self.has(SWEPT))
    }

    /// Whether something of it that a floor at `floor` counts as dead has beaten something of a peer's copy that it does
    /// not.
    pub(in crate::store) fn buries(&self, received: &Parts<'_>, counter: &Counter, floor: Time) -> bool {
        let above = |death: Option<Time>| death.is_none_or(|death| death > floor);
        let theirs = received.base();
        let all = |slots: &Counter| slots.slots.iter().map(|(_, slot)| *slot).collect::<Vec<_>>();
        if !received.is_empty() && above(theirs.register_death(counter.void, &all(counter))) {
            let (own, base) = (self.counter(), self.base());
            if !above(base.register_death(own.void, &all(&own))) && !self.parts().is_empty() {
                return true;
            }
        }
        self.slots().any(|(owner, slot)| {
            let other =
                counter.slot(owner).is_some_and(|other| above(theirs.slot_death(counter.void, other)));
            other && !above(self.base().slot_death(self.void(), &slot))
        })
    }

    /// As [`Register::death`].
    fn register_death(&self) -> Option<Time> {
        let deadline = self.deadline();
        if self.has(HAS_VALUE) && deadline.is_none() {
            return None;
        }
        Some(deadline.unwrap_or(ZERO).max(self.latest()).max(self.lift()))
    }

    /// Whether a floor at `floor` counts the cell as dead.
    pub(in crate::store) fn is_dead_at(&self, floor: Time) -> bool {
        self.death().is_some_and(|death| death <= floor)
    }

    /// Whether the deadline has passed at `now`.
    pub(in crate::store) fn is_expired(&self, now: Time) -> bool {
        self.deadline().is_some_and(|deadline| deadline <= now)
    }

    /// Whether a reader at `now` sees a value.
    pub fn is_live(&self, now: Time) -> bool {
        if self.has_counter() {
            return self.shown(now).is_some();
        }
        self.has(HAS_VALUE) && !self.is_expired(now)
    }

    /// The stamp of the latest `SET`, `DEL` or increment, whether it still shows or not. An `EXPIRE` or `PERSIST` is not
    /// meant: it changes a value that stays, and a concurrent `SET` with a smaller stamp may replace both, so the stamps
    /// of a key would not always rise.
    pub(in crate::store) fn last_write(&self, origins: &Origins) -> Stamp {
        let stamp = |time, origin| Stamp::new(time, origins.incarnation(origin));
        let slots = self.slots().map(|(owner, slot)| stamp(slot.last, owner));
        slots.fold(stamp(self.time(), self.origin()), Ord::max)
    }

    /// A cell without a counter that shows what this one shows at `now`. Its stamp is the register's, not that of the
    /// [last write](Self::last_write).
    #[inline]
    pub(in crate::store) fn as_shown(&self, now: Time) -> Cell {
        if self.has_counter() { self.without_counter(now) } else { self.clone() }
    }

    /// The same as the sweep has left it: a deadline that it has not come to yet is still to come.
    pub(in crate::store) fn as_kept(&self) -> Cell {
        self.as_shown(self.swept_until())
    }

    /// What [`as_kept`](Self::as_kept) shows.
    pub(in crate::store) fn shown_as_kept(&self) -> Option<Shown<'_>> {
        self.shown(self.swept_until())
    }

    /// The moment up to which the sweep has ended what had to end.
    fn swept_until(&self) -> Time {
        if self.has(SWEPT) { MAX } else { ZERO }
    }

    #[cold]
    fn without_counter(&self, now: Time) -> Cell {
        let mut digits = itoa::Buffer::new();
        let value = self.shown(now).map(|shown| match shown {
            Shown::Text(text) => text,
            Shown::Number(number) => digits.format(number).as_bytes(),
        });
        let deadline = self.deadline().filter(|&deadline| deadline > now);
        let (time, origin) = (self.time(), self.origin());
        let parts = Parts { time, origin, value, deadline, qualifier: None, lift: ZERO };
        Cell::pack(&mut Vec::new(), self.key(), &parts)
    }

    /// What a reader at `now` sees.
    pub(in crate::store) fn shown(&self, now: Time) -> Option<Shown<'_>> {
        let value = self.value().filter(|_| !self.is_expired(now));
        if !self.has_counter() {
            return value.map(Shown::Text);
        }
        let void = self.base().void_at(self.void(), now);
        let active = self.slots().map(|(_, slot)| slot).filter(|slot| slot.is_active(void));
        shown(value.map(|value| (value, self.time())), active)
    }
}
