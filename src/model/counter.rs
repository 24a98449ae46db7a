//! The counter of a key: running totals in one slot per incarnation.
//!
//! Each slot has one writer, so two copies of it are ordered and the later one has all increments of the earlier: a
//! PN-counter (Shapiro et al., 2011) whose entries can end. A `DEL` or `SET` resets only the increments that its node
//! had received, so a concurrent increment elsewhere still counts (an observed reset).
//!
//! ```text
//!   INCR on a -->  slot of a: start 10, last 40, up 7 ----.
//!   INCR on b -->  slot of b: start 12, last 35, up 2     +--> base (an integer, else 0) + 7 + 2 - 5
//!   SET/DEL  -->   slot of a: reset at 30, 5 up --------- '
//! ```
//!
//! A slot is *active* if it has increments that nothing has reset, and its life began after every deadline of the key
//! that has passed. A key without a register keeps its deadline in an [`Expiry`] beside the slots. So an `EXPIRE` of a
//! pure counter neither replaces a `SET` nor is undone by an older one.

use std::borrow::Borrow;

use super::deadline::Deadline;
use super::timestamp::{Time, ZERO};

/// One incarnation's running totals for one counter.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Slot {
    /// The time of the increment that began this life of the slot.
    pub start: Time,
    /// The time of the latest increment.
    pub last: Time,
    /// The sum of all that was added in this life.
    pub up: u64,
    /// The sum of all that was subtracted.
    pub down: u64,
    /// The part of the totals that no longer counts.
    pub reset: Reset,
}

/// The part of a slot that a delete, a `SET` or a deadline has ended.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Reset {
    /// The time of the latest increment that the reset covers.
    pub mark: Time,
    /// The time of the reset. A slot is dead at a stable time that has passed both this and the last increment. A
    /// later reset of the same increments does not move it; otherwise a slot that one node has purged would not yet
    /// be dead for another.
    pub at: Time,
    /// The sum of the additions up to `mark`.
    pub up: u64,
    /// The sum of the subtractions up to `mark`.
    pub down: u64,
}

impl Slot {
    /// A new life of a slot that begins at `at`, with no increments.
    pub fn begin(at: Time) -> Slot {
        Slot { start: at, last: at, ..Slot::default() }
    }

    /// Whether the slot counts, where `passed` is the latest deadline of the key that has passed.
    pub fn is_active(&self, passed: Time) -> bool {
        self.start > passed && !self.is_reset()
    }

    /// Whether all increments of the slot were reset.
    pub fn is_reset(&self) -> bool {
        self.last <= self.reset.mark
    }

    /// The slot after a retraction: all its increments are reset, as of the last of them.
    #[must_use]
    pub fn retracted(self) -> Slot {
        self.reset(self.last)
    }

    /// The sum of the additions since the reset.
    pub fn up(&self) -> u64 {
        self.up.saturating_sub(self.reset.up)
    }

    /// The sum of the subtractions since the reset.
    pub fn down(&self) -> u64 {
        self.down.saturating_sub(self.reset.down)
    }

    /// What the slot adds to the counter while it is active.
    pub fn net(&self) -> i128 {
        let sum = |up: u64, down: u64| i128::from(up) - i128::from(down);
        sum(self.up, self.down) - sum(self.reset.up, self.reset.down)
    }

    /// The slot with `by` added at `at`; `None` if the totals would overflow.
    #[must_use]
    pub fn add(self, by: i64, at: Time) -> Option<Slot> {
        let with = |up: u64, down: u64| {
            let (up, down) = if by < 0 {
                (up, down.checked_add(by.unsigned_abs())?)
            } else {
                (up.checked_add(by.unsigned_abs())?, down)
            };
            Some(Slot { last: at, up, down, ..self })
        };
        // An amount that was both added and subtracted cancels out, so removing it from both totals makes room.
        let both = self.up.min(self.down);
        with(self.up, self.down).or_else(|| with(self.up - both, self.down - both))
    }

    /// The slot after a reset at `at` of all its increments.
    #[must_use]
    pub fn reset(self, at: Time) -> Slot {
        if self.is_reset() {
            return self;
        }
        Slot { reset: Reset { mark: self.last, at, up: self.up, down: self.down }, ..self }
    }

    /// The join of two copies: commutative, associative and idempotent for every input, honest or not.
    ///
    /// A later life replaces an earlier one. Within a life the later totals win, and the later reset.
    #[must_use]
    pub fn merge(self, other: Slot) -> Slot {
        if self.start != other.start {
            return if self.start > other.start { self } else { other };
        }
        let (last, up, down) = (self.last, self.up, self.down).max((other.last, other.up, other.down));
        Slot { start: self.start, last, up, down, reset: self.reset.merge(other.reset) }
    }
}

impl Reset {
    /// Returns the reset that covers more increments or, if both cover the same, the earlier one.
    fn merge(self, other: Reset) -> Reset {
        let rank = |reset: &Reset| (reset.mark, std::cmp::Reverse(reset.at), reset.up, reset.down);
        if rank(&self) >= rank(&other) { self } else { other }
    }
}

/// The deadline of a counter, set by an `EXPIRE` or `PERSIST` of a key without a value.
///
/// It is a register of its own: the one set later wins, and `SET` and `DEL` clear it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Expiry {
    /// Every life that began at or before its moment ends at it; `None` means never.
    pub deadline: Option<Deadline>,
    /// The time of the write that set it; with the writer it is the dot.
    pub set_at: Time,
}

impl Expiry {
    /// The moment at which the deadline passes; `None` means never.
    #[inline]
    pub fn expires_at(&self) -> Option<Time> {
        self.deadline.map(Deadline::moment)
    }

    /// The rank that orders two deadlines of one key: the later dot wins and, at equal dots, a retraction.
    pub fn rank<I: Ord>(&self, writer: I) -> impl Ord + use<I> {
        (self.set_at, writer, self.deadline.is_none(), self.deadline)
    }
}

/// The counter of one key: its slots, sorted by owner, and its deadline.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Counter<O> {
    /// The deadline and its writer; `None` if none was set.
    pub expiry: Option<(O, Expiry)>,
    /// The slots and their owners, sorted by owner.
    pub slots: Vec<(O, Slot)>,
}

impl<O: Copy + Ord> Counter<O> {
    /// The empty counter.
    pub const NONE: Counter<O> = Counter { expiry: None, slots: Vec::new() };

    /// Whether there is neither a slot nor a deadline.
    pub fn is_empty(&self) -> bool {
        self.slots.is_empty() && self.expiry.is_none()
    }

    /// Discards everything but keeps the allocation.
    pub fn clear(&mut self) {
        self.expiry = None;
        self.slots.clear();
    }

    /// The slot of `owner`.
    pub fn slot(&self, owner: O) -> Option<&Slot> {
        self.slots.binary_search_by_key(&owner, |(owner, _)| *owner).ok().map(|at| &self.slots[at].1)
    }

    /// Inserts the slot of `owner`, or replaces it.
    pub fn put(&mut self, owner: O, slot: Slot) {
        match self.slots.binary_search_by_key(&owner, |(owner, _)| *owner) {
            Ok(at) => self.slots[at].1 = slot,
            Err(at) => self.slots.insert(at, (owner, slot)),
        }
    }

    /// Merges another copy of the slot of `owner`.
    pub fn merge_slot(&mut self, owner: O, other: Slot) {
        let merged = self.slot(owner).map_or(other, |slot| slot.merge(other));
        self.put(owner, merged);
    }

    /// The slots that count, where `passed` is the latest deadline that has passed.
    pub fn active(&self, passed: Time) -> impl Iterator<Item = &Slot> {
        self.slots.iter().map(|(_, slot)| slot).filter(move |slot| slot.is_active(passed))
    }

    /// Resets every slot at `at`, for a delete or a `SET`.
    pub fn reset(&mut self, at: Time) {
        self.slots.iter_mut().for_each(|(_, slot)| *slot = slot.reset(at));
    }

    /// Resets the slots whose lives began at or before `deadline`, which has passed and is about to be replaced.
    pub fn end(&mut self, deadline: Time) {
        let ended = self.slots.iter_mut().filter(|(_, slot)| slot.start <= deadline);
        ended.for_each(|(_, slot)| *slot = slot.reset(deadline));
    }

    /// Drops the parts that are dead at the stable time, given the life of the key's register.
    pub fn strip(&mut self, register: &RegisterLife, stable: Time) {
        let lives = Lives { register: *register, expiry: self.expiry.map(|(_, expiry)| expiry) };
        let dead = |death: Option<Time>| death.is_some_and(|death| death <= stable);
        if dead(lives.expiry_death(self.slots.iter().map(|(_, slot)| slot))) {
            self.expiry = None;
        }
        self.slots.retain(|(_, slot)| !dead(lives.slot_death(slot)));
    }
}

/// The times of a register that decide when it and its key's slots are dead.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RegisterLife {
    /// The later of the register's timestamps.
    pub written: Time,
    /// The register, and all slots that began at or before this time, are absent from then on.
    pub expires_at: Option<Time>,
    /// Whether the register holds a value.
    pub has_value: bool,
}

/// The lives of the register and of the counter's deadline of one key.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Lives {
    /// The life of the register.
    pub register: RegisterLife,
    /// The counter's deadline.
    pub expiry: Option<Expiry>,
}

impl Lives {
    /// The latest deadline that has passed at `now`; [`ZERO`] if none has.
    pub fn passed(&self, now: Time) -> Time {
        let deadlines = [self.register.expires_at, self.expiry.and_then(|expiry| expiry.expires_at())];
        deadlines.into_iter().flatten().filter(|&deadline| deadline <= now).max().unwrap_or(ZERO)
    }

    /// The stable time from which a slot is dead; `None` if nothing has ended it.
    ///
    /// A slot is dead once every member holds the write that ended it (the reset or the deadline) and its last
    /// increment.
    pub fn slot_death(&self, slot: &Slot) -> Option<Time> {
        let reset = slot.is_reset().then_some(slot.reset.at);
        let by = |deadline: Option<Time>, set_at: Time| {
            deadline.filter(|&deadline| slot.start <= deadline).map(|deadline| deadline.max(set_at))
        };
        let register = by(self.register.expires_at, self.register.written);
        let expiry = self.expiry.and_then(|expiry| by(expiry.expires_at(), expiry.set_at));
        [reset, register, expiry].into_iter().flatten().min().map(|cause| cause.max(slot.last))
    }

    /// The stable time from which the register is dead; [`ZERO`] if there is none.
    ///
    /// A register outlives the slots that its deadline ends.
    pub fn register_death(&self, slots: impl IntoIterator<Item: Borrow<Slot>>) -> Option<Time> {
        let RegisterLife { written, expires_at, has_value } = self.register;
        if has_value && expires_at.is_none() {
            return None;
        }
        Some(written.max(expires_at.unwrap_or(ZERO)).max(self.last_ended(expires_at, slots)))
    }

    /// The stable time from which the counter's deadline is dead.
    ///
    /// It outlives the slots that it ends, and is dead without any.
    pub fn expiry_death(&self, slots: impl IntoIterator<Item: Borrow<Slot>>) -> Option<Time> {
        let expiry = self.expiry?;
        Some(expiry.set_at.max(self.last_ended(expiry.expires_at(), slots)))
    }

    /// The latest death of the slots that a deadline ends.
    fn last_ended(&self, deadline: Option<Time>, slots: impl IntoIterator<Item: Borrow<Slot>>) -> Time {
        let is_ended = |slot: &Slot| deadline.is_some_and(|deadline| slot.start <= deadline);
        let death = |slot: &Slot| if is_ended(slot) { self.slot_death(slot) } else { None };
        slots.into_iter().filter_map(|slot| death(slot.borrow())).max().unwrap_or(ZERO)
    }
}

/// The value of a key for a reader.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shown<'a> {
    /// The register's value.
    Text(&'a [u8]),
    /// The sum of the counter. Each node's `INCR` keeps it within 64 bits, but merged slots may exceed them.
    Number(i128),
}

/// The value that a key shows, given its register's value with its timestamp and its active slots.
///
/// A text that was set after the last increment hides the slots. Otherwise they count from the value, if it is an
/// integer, or from 0.
pub fn shown(value: Option<(&[u8], Time)>, active: impl IntoIterator<Item = Slot>) -> Option<Shown<'_>> {
    let totals = active.into_iter().map(|slot| (slot.net(), slot.last));
    let totals = totals.reduce(|(sum, latest), (net, last)| (sum + net, latest.max(last)));
    let text = value.map(|(value, _)| Shown::Text(value));
    let Some((sum, latest)) = totals else { return text };
    match value.map(|(value, timestamp)| (strict_number(value), timestamp)) {
        Some((Some(number), _)) => Some(Shown::Number(i128::from(number) + sum)),
        Some((None, timestamp)) if timestamp > latest => text,
        _ => Some(Shown::Number(sum)),
    }
}

/// Parses a 64-bit decimal integer as Redis's `string2ll` does: no sign but `-`, no leading zero, no surrounding
/// blanks.
pub fn strict_number(text: &[u8]) -> Option<i64> {
    match text.strip_prefix(b"-").unwrap_or(text) {
        [b'1'..=b'9', ..] => str::from_utf8(text).ok()?.parse().ok(),
        _ => (text == b"0").then_some(0),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::timestamp::ms;
    use crate::random_cases::random_cases;
    use proptest::prelude::*;

    fn any_slot() -> impl Strategy<Value = Slot> {
        let seen = (0..3u64, 0..3u64);
        (0..3u64, 0..5u64, 0..3u64, 0..3u64, 0..5u64, seen).prop_map(
            |(start, last, up, down, mark, (at, seen))| {
                let reset = Reset { mark: ms(mark), at: ms(at), up: seen, down: 0 };
                Slot { start: ms(start), last: ms(last), up, down, reset }
            },
        )
    }

    proptest! {
        #![proptest_config(random_cases(100_000))]

        #[test]
        fn merging_slots_is_commutative_associative_and_idempotent(
            a in any_slot(), b in any_slot(), c in any_slot()
        ) {
            prop_assert_eq!(a.merge(b), b.merge(a));
            prop_assert_eq!(a.merge(b).merge(c), a.merge(b.merge(c)));
            prop_assert_eq!(a.merge(a), a);
        }

        #[test]
        fn additions_sum_up_whatever_makes_room_for_them(
            amounts in proptest::collection::vec(any::<i64>(), 0..40)
        ) {
            let mut slot = Slot::begin(ms(1));
            let mut sum = 0i128;
            for (at, &by) in (2..).zip(&amounts) {
                if let Some(next) = slot.add(by, ms(at)) {
                    slot = next;
                    sum += i128::from(by);
                }
            }
            prop_assert_eq!(slot.net(), sum);
        }
    }

    fn slot(start: u64, last: u64, up: u64) -> Slot {
        Slot { up, last: ms(last), ..Slot::begin(ms(start)) }
    }

    #[test]
    fn a_reset_takes_what_it_has_seen_and_no_more() {
        let seen = slot(10, 20, 5);
        let later = seen.add(2, ms(30)).unwrap();
        let reset = seen.reset(ms(25));
        let merged = reset.merge(later);
        assert!(merged.is_active(ZERO) && !reset.is_active(ZERO));
        assert_eq!((merged.net(), merged.up()), (2, 2));
    }

    /// A regression test: one node had purged a slot that another still kept, because the key was deleted there once
    /// more.
    #[test]
    fn a_slot_that_is_reset_twice_dies_by_the_first() {
        let (first, second) = (slot(10, 20, 5).reset(ms(30)), slot(10, 20, 5).reset(ms(90)));
        assert_eq!(first.reset(ms(90)), first);
        assert_eq!((first.merge(second), second.merge(first)), (first, first));
        let mut counter =
            Counter { slots: vec![(1, slot(10, 12, 5)), (2, slot(40, 45, 5))], ..Counter::NONE };
        counter.end(ms(15));
        counter.end(ms(70));
        let deaths: Vec<_> =
            counter.slots.iter().map(|(_, slot)| Lives::default().slot_death(slot)).collect();
        assert_eq!(deaths, [Some(ms(15)), Some(ms(70))]);
    }

    #[test]
    fn a_new_life_replaces_one_that_was_reset() {
        let reborn = Slot::begin(ms(40)).add(1, ms(40)).unwrap();
        let merged = slot(10, 20, 5).reset(ms(30)).merge(reborn);
        assert_eq!((merged.net(), merged.is_active(ZERO)), (1, true));
    }

    #[test]
    fn what_was_set_and_what_was_counted_add_up_and_the_later_text_hides_the_count() {
        let two = [slot(10, 20, 1), slot(11, 21, 1)];
        let at = |value: &'static str, time| Some((value.as_bytes(), ms(time)));
        assert_eq!(shown(at("10", 5), two), Some(Shown::Number(12)));
        assert_eq!(shown(at("ten", 5), two), Some(Shown::Number(2)));
        assert_eq!(shown(at("ten", 30), two), Some(Shown::Text(b"ten")));
        assert_eq!(shown(None, two), Some(Shown::Number(2)));
        assert_eq!(shown(at("10", 5), []), Some(Shown::Text(b"10")));
        assert_eq!(shown(None, []), None);
    }

    fn expiring(deadline: u64, written: u64) -> Lives {
        let register = RegisterLife { written: ms(written), expires_at: Some(ms(deadline)), has_value: true };
        Lives { register, expiry: None }
    }

    #[test]
    fn a_passed_deadline_ends_the_lives_that_began_before_it() {
        let lives = expiring(60, 5);
        assert!(slot(10, 20, 1).is_active(lives.passed(ms(59))));
        assert!(!slot(10, 70, 1).is_active(lives.passed(ms(60))));
        assert!(slot(61, 61, 1).is_active(lives.passed(ms(70))));
        let expiry = Some(Expiry { deadline: Some(Deadline(65)), set_at: ms(7) });
        assert_eq!(Lives { expiry, ..lives }.passed(ms(70)), ms(65));
    }

    #[test]
    fn a_slot_dies_when_the_last_of_what_ended_it_has_passed() {
        let none = Lives::default();
        assert_eq!(none.slot_death(&slot(10, 20, 1)), None);
        assert_eq!(none.slot_death(&slot(10, 20, 1).reset(ms(30))), Some(ms(30)));
        assert_eq!(none.slot_death(&slot(10, 20, 1).retracted()), Some(ms(20)));
        let lives = expiring(40, 30);
        assert_eq!(lives.slot_death(&slot(10, 50, 1)), Some(ms(50)));
        assert_eq!(lives.register_death([slot(10, 50, 1)]), Some(ms(50)));
    }

    #[test]
    fn the_deadline_of_a_counter_outlives_the_slots_that_it_ends_and_no_longer() {
        let expiry = Some(Expiry { deadline: Some(Deadline(90)), set_at: ms(30) });
        let lives = Lives { expiry, ..Lives::default() };
        assert_eq!(lives.expiry_death([slot(10, 20, 1)]), Some(ms(90)));
        assert_eq!(lives.expiry_death([slot(10, 20, 1).reset(ms(40))]), Some(ms(40)));
        assert_eq!(lives.expiry_death([] as [Slot; 0]), Some(ms(30)));
        assert_eq!(Lives::default().expiry_death([] as [Slot; 0]), None);
    }

    #[test]
    fn of_two_deadlines_of_a_counter_the_one_set_later_wins_and_a_retraction_at_equal_dots() {
        let at =
            |deadline: Option<u64>, set_at| Expiry { deadline: deadline.map(Deadline), set_at: ms(set_at) };
        assert!(at(None, 5).rank(1) > at(Some(90), 4).rank(2));
        assert!(at(None, 5).rank(1) > at(Some(90), 5).rank(1));
        assert!(at(Some(9), 5).rank(2) > at(None, 5).rank(1));
    }

    #[test]
    fn a_strict_number_is_what_string2ll_takes() {
        for (text, number) in
            [("0", 0), ("-1", -1), ("9223372036854775807", i64::MAX), ("-9223372036854775808", i64::MIN)]
        {
            assert_eq!(strict_number(text.as_bytes()), Some(number));
        }
        for other in ["", "-", "-0", "+1", "01", "1 ", " 1", "1a", "9223372036854775808", "--1"] {
            assert_eq!(strict_number(other.as_bytes()), None, "{other}");
        }
    }
}
