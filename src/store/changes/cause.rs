//! The cause of a change, derived from the cell before and the cell after.

use crate::model::timestamp::ZERO;
use crate::store::Cell;

/// The cause of a key's change, as watchers see it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Cause {
    /// A new value.
    Set,
    /// A delete.
    Delete,
    /// The deadline passed. Published when the sweep finds it, up to 1 s later; readers miss the key at once.
    Expired,
    /// A delete by this node, to make room. Other nodes receive it as a delete.
    Evicted,
    /// A counter changed.
    Counter,
    /// A new deadline for the same value.
    Expire,
    /// The deadline was removed.
    Persist,
}

impl Cause {
    /// The cause of the change from `old` to `new`; `None` if no reader can tell them apart, as when a tombstone
    /// replaces another.
    pub(super) fn between(old: Option<&Cell>, new: &Cell) -> Option<Cause> {
        let Some(old) = old.filter(|old| old.counts_as_live()) else {
            let first = if new.value().is_some() { Cause::Set } else { Cause::Counter };
            return new.counts_as_live().then_some(first);
        };
        if !new.counts_as_live() {
            // The sweep leaves the deadline in place, and a delete has none. A key that is deleted after its deadline
            // has expired before.
            let lives = new.lives();
            let has_deadline =
                lives.register.expires_at.or(lives.expiry.and_then(|expiry| expiry.expires_at())).is_some();
            let expired = has_deadline || old.lives().passed(new.time()) > ZERO;
            return Some(if expired { Cause::Expired } else { Cause::Delete });
        }
        // A counter may have no register, or one with only a deadline: only another value is a `SET`. A delete on
        // another node, or a deadline, may end a part of it: the rest still counts.
        let is_same_write = (old.time(), old.origin()) == (new.time(), new.origin());
        if !is_same_write && new.value().is_some() {
            return Some(Cause::Set);
        }
        if old.slots().ne(new.slots()) || old.shown_at_last_sweep() != new.shown_at_last_sweep() {
            return Some(Cause::Counter);
        }
        // Only the deadline can still differ.
        let ruled = |cell: &Cell| (cell.deadline_timestamp(), cell.expiry(), cell.deadline_at_last_sweep());
        (ruled(old) != ruled(new))
            .then(|| if new.deadline_at_last_sweep().is_some() { Cause::Expire } else { Cause::Persist })
    }

    /// The cause of two consecutive changes of one key that are conflated: a new deadline does not hide a new value.
    pub(super) fn after(self, earlier: Cause) -> Cause {
        match (earlier, self) {
            (Cause::Set | Cause::Counter, Cause::Expire | Cause::Persist) => earlier,
            _ => self,
        }
    }
}

#[cfg(test)]
mod tests {
    use crate::model::timestamp::ms;
    use crate::model::{Deadline, Time};

    use super::*;
    use crate::model::counter::Slot;
    use crate::store::{Counter, Parts};

    const LIVE: Parts<'static> =
        Parts { time: Time(10), origin: 0, value: Some(b"v"), deadline: None, deadline_timestamp: None };

    #[test]
    fn the_cause_follows_from_both_cells() {
        let tombstone = |time| Parts { time: ms(time), value: None, ..LIVE };
        let until = |deadline| Parts { deadline: Some(Deadline(deadline)), ..LIVE };
        let qualified = |at, parts| Parts { deadline_timestamp: Some((ms(at), 0)), ..parts };
        let swept = Parts { value: None, ..until(30) };
        let later = Parts { time: ms(40), ..LIVE };
        let other_origin = Parts { origin: 1, ..LIVE };
        let cases = [
            ("first write", None, LIVE, Some(Cause::Set)),
            ("overwrite", Some(LIVE), later, Some(Cause::Set)),
            ("overwrite at the same time elsewhere", Some(LIVE), other_origin, Some(Cause::Set)),
            ("write after a delete", Some(tombstone(5)), LIVE, Some(Cause::Set)),
            ("delete", Some(LIVE), tombstone(20), Some(Cause::Delete)),
            ("delete before the deadline", Some(until(30)), tombstone(20), Some(Cause::Delete)),
            (
                "delete after the deadline, not yet swept",
                Some(until(30)),
                tombstone(40),
                Some(Cause::Expired),
            ),
            ("sweep", Some(until(30)), swept, Some(Cause::Expired)),
            ("a later write that a peer has swept", Some(LIVE), swept, Some(Cause::Expired)),
            ("EXPIRE", Some(LIVE), qualified(20, until(30)), Some(Cause::Expire)),
            (
                "EXPIRE again to the same moment",
                Some(until(30)),
                qualified(20, until(30)),
                Some(Cause::Expire),
            ),
            ("PERSIST", Some(until(30)), qualified(20, LIVE), Some(Cause::Persist)),
            ("a swept value that an EXPIRE elsewhere kept", Some(swept), until(90), Some(Cause::Set)),
            ("delete received first", None, tombstone(20), None),
            ("delete of a deleted", Some(tombstone(5)), tombstone(20), None),
            ("swept elsewhere, deleted here", Some(tombstone(5)), swept, None),
        ];
        for (case, old, new, cause) in cases {
            let pack = |parts: Parts<'_>| Cell::pack(&mut Vec::new(), b"k", &parts);
            assert_eq!(Cause::between(old.map(pack).as_ref(), &pack(new)), cause, "{case}");
        }
    }

    #[test]
    fn a_counter_counts_whether_or_not_a_value_is_below_it() {
        let counted = |up| {
            let mut counter = Counter::NONE;
            counter.put(0, Slot::begin(ms(20)).add(up, ms(20)).unwrap());
            counter
        };
        let dead = Parts { time: ms(15), value: None, ..LIVE };
        let expiring = Parts { deadline: Some(Deadline(30)), ..LIVE };
        let five = Parts { value: Some(b"5"), ..LIVE };
        let (none, one, two) = (Counter::NONE, counted(1), counted(2));
        let cases = [
            ("first increment", None, (Parts::EMPTY, &one), Cause::Counter),
            ("increment after a delete", Some((dead, &none)), (dead, &one), Cause::Counter),
            ("increment of a value", Some((LIVE, &none)), (LIVE, &one), Cause::Counter),
            ("another increment", Some((Parts::EMPTY, &one)), (Parts::EMPTY, &two), Cause::Counter),
            (
                "increment of an expired value, not yet swept",
                Some((expiring, &none)),
                (dead, &one),
                Cause::Counter,
            ),
            (
                "a delete that leaves what was counted elsewhere",
                Some((five, &one)),
                (dead, &one),
                Cause::Counter,
            ),
            ("SET", Some((Parts::EMPTY, &one)), (LIVE, &none), Cause::Set),
            ("delete", Some((Parts::EMPTY, &one)), (dead, &none), Cause::Delete),
        ];
        for (case, old, new, cause) in cases {
            let pack = |(parts, counter): (Parts<'_>, &Counter)| {
                Cell::pack_with(&mut Vec::new(), b"k", &parts, counter, false)
            };
            assert_eq!(Cause::between(old.map(pack).as_ref(), &pack(new)), Some(cause), "{case}");
        }
        // Another node has counted after the deadline that ends the value.
        let expiring = Parts { deadline: Some(Deadline(15)), ..five };
        let old = Cell::pack_with(&mut Vec::new(), b"k", &expiring, &one, false);
        assert_eq!(Cause::between(Some(&old), &old.swept(&mut Vec::new(), ms(15))), Some(Cause::Counter));
    }

    #[test]
    fn of_two_conflated_changes_the_new_value_counts() {
        assert_eq!(Cause::Expire.after(Cause::Set), Cause::Set);
        assert_eq!(Cause::Persist.after(Cause::Counter), Cause::Counter);
        assert_eq!(Cause::Delete.after(Cause::Set), Cause::Delete);
        assert_eq!(Cause::Expire.after(Cause::Persist), Cause::Expire);
    }
}
