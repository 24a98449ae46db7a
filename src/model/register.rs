//! The last-writer-wins register: the value and deadline of a key, and how two copies merge.

use super::deadline::Deadline;
use super::timestamp::{Time, Timestamp};

/// One copy of a key's value and deadline. It is borrowed, so that stored, received and decoded registers share one
/// law.
///
/// Registers are ordered by `timestamp`: the larger one wins, on every node and in any order of arrival. Registers with
/// the same timestamp differ only in the deadline, and are ordered by `deadline_timestamp`. So an `EXPIRE` never reverts a
/// concurrent `SET`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Register<'a> {
    /// The timestamp of the `SET` or `DEL` that wrote the value: its dot.
    pub timestamp: Timestamp,
    /// The value. A register without one is a tombstone or, if it has a deadline, an expired register whose value was
    /// dropped to save memory.
    pub value: Option<&'a [u8]>,
    /// The time from which the register is absent to every reader.
    pub deadline: Option<Deadline>,
    /// The timestamp of the write that set the deadline: equal to `timestamp` unless an `EXPIRE` or `PERSIST` did.
    pub deadline_timestamp: Timestamp,
}

impl<'a> Register<'a> {
    /// A freshly written value.
    pub fn live(timestamp: Timestamp, value: &'a [u8], deadline: Option<Deadline>) -> Self {
        Register { timestamp, value: Some(value), deadline, deadline_timestamp: timestamp }
    }

    /// A freshly written tombstone.
    pub fn tombstone(timestamp: Timestamp) -> Self {
        Register { timestamp, value: None, deadline: None, deadline_timestamp: timestamp }
    }

    /// This register after a retraction: a tombstone with the same timestamps, so it wins over exactly this copy.
    #[must_use]
    pub fn retracted(self) -> Self {
        Register { value: None, deadline: None, ..self }
    }

    /// Whether it is a tombstone: it has neither a value nor a deadline.
    pub fn is_tombstone(&self) -> bool {
        self.value.is_none() && self.deadline.is_none()
    }

    /// Whether a reader at `now` sees a value.
    pub fn is_live(&self, now: Time) -> bool {
        self.value.is_some() && !self.is_expired(now)
    }

    /// Whether the deadline has passed at `now`.
    pub fn is_expired(&self, now: Time) -> bool {
        self.deadline.is_some_and(|deadline| deadline.has_passed(now))
    }

    /// Whether a later write than that of the value set the deadline.
    pub fn has_deadline_timestamp(&self) -> bool {
        self.deadline_timestamp != self.timestamp
    }

    /// The join of two copies: the larger in a total order, so commutative, associative and idempotent for every
    /// input, honest or not.
    ///
    /// The larger timestamp wins whole. If they are equal, the larger deadline timestamp wins. If these are equal too, a
    /// retraction wins.
    #[must_use]
    pub fn merge(self, other: Register<'a>) -> Register<'a> {
        if self.rank() >= other.rank() { self } else { other }
    }

    fn rank(&self) -> impl Ord + 'a {
        (self.timestamp, self.deadline_timestamp, self.is_tombstone(), self.deadline, self.value)
    }

    /// The stable time from which this register is dead; `None` if it has a value and no deadline.
    ///
    /// A tombstone is dead, and so is a register whose deadline has passed, but only once every member holds the
    /// writes that made it so, including an `EXPIRE`.
    pub fn death(&self) -> Option<Time> {
        if self.value.is_some() && self.deadline.is_none() {
            return None;
        }
        let written = (self.timestamp.time()).max(self.deadline_timestamp.time());
        Some(self.deadline.map_or(written, |deadline| deadline.moment().max(written)))
    }
}

#[cfg(test)]
mod tests {
    use super::super::timestamp::incarnation;
    use super::*;
    use crate::model::timestamp::ms;
    use crate::random_cases::random_cases;
    use proptest::prelude::*;

    const CASES: u32 = 100_000;

    /// Few times, writers and values, so that timestamps, deadline timestamps and deadlines collide often.
    fn any_register() -> impl Strategy<Value = Register<'static>> {
        let timestamp =
            || (0..4u64, 1..4u128).prop_map(|(t, id)| Timestamp::new(ms(t), incarnation(id).unwrap()));
        let values: [Option<&'static [u8]>; 4] = [None, Some(b""), Some(b"a"), Some(b"b")];
        (timestamp(), 0..4usize, proptest::option::of(0..4u64), timestamp()).prop_map(
            move |(timestamp, value, deadline, deadline_timestamp)| Register {
                timestamp,
                value: values[value],
                deadline: deadline.map(Deadline),
                deadline_timestamp,
            },
        )
    }

    proptest! {
        #![proptest_config(random_cases(CASES))]

        #[test]
        fn merge_is_commutative(a in any_register(), b in any_register()) {
            prop_assert_eq!(a.merge(b), b.merge(a));
        }

        #[test]
        fn merge_is_associative(a in any_register(), b in any_register(), c in any_register()) {
            prop_assert_eq!(a.merge(b).merge(c), a.merge(b.merge(c)));
        }

        #[test]
        fn merge_is_idempotent(a in any_register(), b in any_register()) {
            prop_assert_eq!(a.merge(a), a);
            prop_assert_eq!(a.merge(b).merge(b), a.merge(b));
        }

        #[test]
        fn every_order_of_arrival_gives_the_same_register(
            (copies, shuffled) in proptest::collection::vec(any_register(), 1..7)
                .prop_flat_map(|copies| (Just(copies.clone()), Just(copies).prop_shuffle()))
        ) {
            let fold = |all: &[Register<'static>]| all.iter().copied().reduce(Register::merge);
            prop_assert_eq!(fold(&copies), fold(&shuffled));
        }

        #[test]
        fn merge_never_lowers_a_timestamp(a in any_register(), b in any_register()) {
            let merged = a.merge(b);
            prop_assert!(merged.timestamp >= a.timestamp && merged.timestamp >= b.timestamp);
        }
    }

    fn timestamp(time: u64) -> Timestamp {
        Timestamp::new(ms(time), incarnation(1).unwrap())
    }

    #[test]
    fn an_expire_does_not_revert_a_concurrent_set() {
        let v1 = Register::live(timestamp(1), b"v1", None);
        let expired_v1 = Register { deadline: Some(Deadline(60)), deadline_timestamp: timestamp(7), ..v1 };
        let v2 = Register::live(timestamp(5), b"v2", None);
        assert_eq!(expired_v1.merge(v2), v2);
    }

    #[test]
    fn a_later_expire_of_the_same_value_replaces_the_deadline() {
        let v1 = Register::live(timestamp(1), b"v1", Some(Deadline(60)));
        let persisted = Register { deadline: None, deadline_timestamp: timestamp(2), ..v1 };
        assert_eq!(v1.merge(persisted), persisted);
    }

    #[test]
    fn a_dropped_value_comes_back_from_the_copy_that_kept_it() {
        let v1 = Register::live(timestamp(1), b"v1", Some(Deadline(60)));
        let dropped = Register { value: None, ..v1 };
        let extended = Register { deadline: Some(Deadline(90)), deadline_timestamp: timestamp(50), ..v1 };
        assert_eq!(dropped.merge(extended), extended);
    }

    #[test]
    fn a_register_dies_when_the_last_of_what_made_it_dead_has_passed() {
        assert_eq!(Register::live(timestamp(1), b"v", None).death(), None);
        assert_eq!(Register::live(timestamp(1), b"v", Some(Deadline(60))).death(), Some(ms(60)));
        assert_eq!(Register::tombstone(timestamp(5)).death(), Some(ms(5)));
        let expired = Register {
            deadline: Some(Deadline(60)),
            deadline_timestamp: timestamp(70),
            ..Register::tombstone(timestamp(5))
        };
        assert_eq!(expired.death(), Some(ms(70)));
    }

    #[test]
    fn a_retraction_beats_exactly_the_copy_it_answers() {
        let v1 = Register::live(timestamp(1), b"v1", Some(Deadline(60)));
        assert_eq!(v1.merge(v1.retracted()), v1.retracted());
        let persisted = Register { deadline: None, deadline_timestamp: timestamp(9), ..v1 };
        assert_eq!(persisted.merge(v1.retracted()), persisted, "a deadline that is news keeps the value");
        let v2 = Register::live(timestamp(2), b"v2", None);
        assert_eq!(v2.merge(v1.retracted()), v2);
    }

    #[test]
    fn an_empty_value_is_not_a_missing_one() {
        assert!(Register::live(timestamp(1), b"", None).is_live(ms(0)));
        assert!(!Register::tombstone(timestamp(1)).is_live(ms(0)));
    }

    #[test]
    fn a_reader_at_the_deadline_sees_nothing() {
        let register = Register::live(timestamp(1), b"v", Some(Deadline(60)));
        assert!(register.is_live(ms(59)));
        assert!(!register.is_live(ms(60)));
    }
}
