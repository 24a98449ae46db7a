//! The counter: running totals, one slot an incarnation, whose sum is what a key counts.
//!
//! Each slot has one writer, so two copies of it are ordered and the later one has all increments of the earlier: a
//! PN-counter (Shapiro et al., 2011) whose entries can end. What a delete or a `SET` resets is what it has seen, so an
//! increment that was made elsewhere meanwhile still counts (an observed reset).
//!
//! ```text
//!   INCR on a -->  slot of a: start 10, last 40, up 7 ----.
//!   INCR on b -->  slot of b: start 12, last 35, up 2     +--> base (an integer, else 0) + 7 + 2 - 5
//!   SET/DEL  -->   slot of a: reset at 30, 5 up --------- '
//! ```
//!
//! A slot is *active* while it has increments that nothing has reset and its life began after the counter was last void:
//! after the latest deadline that passed.

use super::stamp::{Time, ZERO};

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
    /// What of it does not count any more.
    pub reset: Reset,
}

/// How much of a slot a delete, a `SET` or a deadline has ended.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Reset {
    /// The latest increment that was seen; [`KILLED`] for all there ever are.
    pub mark: Time,
    /// When that was: a floor that has passed it, and the increments, may forget the slot. Later resets of the same
    /// leave it as it is, or what one daemon has forgotten would be undecided to another.
    pub at: Time,
    /// What had been added up to there.
    pub up: u64,
    /// What had been subtracted up to there.
    pub down: u64,
}

/// The mark of a slot that the floor has passed: every member held it, and it has been reset since.
pub const KILLED: Time = uhlc::NTP64(u64::MAX);

impl Slot {
    /// A life that begins now, with nothing counted yet.
    pub fn begin(at: Time) -> Slot {
        Slot { start: at, last: at, ..Slot::default() }
    }

    /// The word that the life which began at `start` has ended.
    pub fn killed(start: Time) -> Slot {
        Slot { reset: Reset { mark: KILLED, ..Reset::default() }, ..Slot::begin(start) }
    }

    /// Whether this is the word that a life has ended, whatever it counts.
    pub fn is_killed(&self) -> bool {
        self.reset.mark == KILLED
    }

    /// Whether it counts, in a counter that was void up to `void`.
    pub fn is_active(&self, void: Time) -> bool {
        self.start > void && self.last > self.reset.mark
    }

    /// What has been added since the reset.
    pub fn up(&self) -> u64 {
        self.up.saturating_sub(self.reset.up)
    }

    /// What has been subtracted since the reset.
    pub fn down(&self) -> u64 {
        self.down.saturating_sub(self.reset.down)
    }

    /// What it adds to the counter while it is active.
    pub fn net(&self) -> i128 {
        let sum = |up: u64, down: u64| i128::from(up) - i128::from(down);
        sum(self.up, self.down) - sum(self.reset.up, self.reset.down)
    }

    /// The slot with `by` added at `at`; `None` if its totals cannot hold that.
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
        // What was both added and subtracted makes room, as it adds nothing to the sum.
        let both = self.up.min(self.down);
        with(self.up, self.down).or_else(|| with(self.up - both, self.down - both))
    }

    /// The slot after something has ended at `at` what it counted.
    #[must_use]
    pub fn reset(self, at: Time) -> Slot {
        if self.last <= self.reset.mark {
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
    /// The one that ended more or, if both ended the same, the earlier.
    fn merge(self, other: Reset) -> Reset {
        let rank = |reset: &Reset| (reset.mark, std::cmp::Reverse(reset.at), reset.up, reset.down);
        if rank(&self) >= rank(&other) { self } else { other }
    }
}

/// All that is counted for one key: the slots by owner, in order, and how far the past is void.
///
/// It merges slot by slot, and the later void moment is kept.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Counter<O> {
    /// Every slot that began up to here counts no more: a deadline had passed when something was written.
    pub void: Time,
    /// Each owner's slot, by owner.
    pub slots: Vec<(O, Slot)>,
}

impl<O: Copy + Ord> Counter<O> {
    /// Nothing counted.
    pub const NONE: Counter<O> = Counter { void: ZERO, slots: Vec::new() };

    /// Whether there is nothing at all to keep.
    pub fn is_empty(&self) -> bool {
        self.slots.is_empty() && self.void == ZERO
    }

    /// Forgets everything, and keeps the room.
    pub fn clear(&mut self) {
        self.void = ZERO;
        self.slots.clear();
    }

    /// The slot of `owner`.
    pub fn slot(&self, owner: O) -> Option<&Slot> {
        self.slots.binary_search_by_key(&owner, |(owner, _)| *owner).ok().map(|at| &self.slots[at].1)
    }

    /// Puts a slot in place of the owner's.
    pub fn put(&mut self, owner: O, slot: Slot) {
        match self.slots.binary_search_by_key(&owner, |(owner, _)| *owner) {
            Ok(at) => self.slots[at].1 = slot,
            Err(at) => self.slots.insert(at, (owner, slot)),
        }
    }

    /// Takes in another copy of the slot of `owner`.
    pub fn merge_slot(&mut self, owner: O, other: Slot) {
        let merged = self.slot(owner).map_or(other, |slot| slot.merge(other));
        self.put(owner, merged);
    }

    /// The slots that count, in a counter that is void up to `void`.
    pub fn active(&self, void: Time) -> impl Iterator<Item = &Slot> {
        self.slots.iter().map(|(_, slot)| slot).filter(move |slot| slot.is_active(void))
    }

    /// Resets every slot: a delete or a `SET` has seen them at `at`.
    pub fn reset(&mut self, at: Time) {
        self.slots.iter_mut().for_each(|(_, slot)| *slot = slot.reset(at));
    }

    /// Makes void all that began up to `until`: a deadline that has passed.
    pub fn make_void(&mut self, until: Time) {
        self.end(self.void);
        self.end(until);
        self.void = self.void.max(until);
    }

    /// Resets the slots that began up to `at`, as of then.
    pub fn end(&mut self, at: Time) {
        let ended = self.slots.iter_mut().filter(|(_, slot)| slot.start <= at);
        ended.for_each(|(_, slot)| *slot = slot.reset(at));
    }

    /// Drops what a floor at `floor` counts as dead, beside a register of which `base` tells.
    pub fn strip(&mut self, base: &Base, floor: Time) {
        let void = self.void;
        self.slots.retain(|(_, slot)| base.slot_death(void, slot).is_none_or(|death| death > floor));
        if void <= floor && self.slots.iter().all(|(_, slot)| slot.start > void) {
            self.void = ZERO;
        }
    }
}

/// What of a cell's register bears on its slots.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Base {
    /// The time of the latest of the register's stamps.
    pub written: Time,
    /// From this moment on the register and all slots that began before are absent.
    pub deadline: Option<Time>,
    /// As of when the cell is admitted, where that is later.
    pub lift: Time,
    /// Whether the register holds a value.
    pub has_value: bool,
}

impl Base {
    /// The latest moment up to which everything in the counter is void at `now`.
    pub fn void_at(&self, void: Time, now: Time) -> Time {
        self.deadline.filter(|&deadline| deadline <= now).map_or(void, |deadline| deadline.max(void))
    }

    /// The moment from which a floor counts a slot as dead; `None` if it never will be as it is.
    ///
    /// A slot is dead once nothing that made it so can be news to anyone: the reset, the deadline, and the increments
    /// themselves.
    pub fn slot_death(&self, void: Time, slot: &Slot) -> Option<Time> {
        let reset = (slot.last <= slot.reset.mark).then_some(slot.reset.at);
        let voided = (slot.start <= void).then_some(void);
        let deadline = self.deadline.filter(|&deadline| slot.start <= deadline);
        let expired = deadline.map(|deadline| deadline.max(self.written));
        let cause = [reset, voided, expired].into_iter().flatten().min();
        let death = if slot.is_killed() { Some(slot.start) } else { cause.map(|cause| cause.max(slot.last)) };
        death.map(|death| death.max(self.lift))
    }

    /// The same for the register; [`ZERO`] if there is none. It outlives the slots that its deadline makes void.
    pub fn register_death<'s>(&self, void: Time, slots: impl IntoIterator<Item = &'s Slot>) -> Option<Time> {
        if self.has_value && self.deadline.is_none() {
            return None;
        }
        let voided =
            slots.into_iter().filter(|slot| self.deadline.is_some_and(|deadline| slot.start <= deadline));
        let last = voided.filter_map(|slot| self.slot_death(void, slot)).max().unwrap_or(ZERO);
        Some(self.written.max(self.deadline.unwrap_or(ZERO)).max(self.lift).max(last))
    }

    /// The same for the moment up to which the counter is void; [`ZERO`] if it never was.
    pub fn void_death<'s>(&self, void: Time, slots: impl IntoIterator<Item = &'s Slot>) -> Time {
        let voided = slots.into_iter().filter(|slot| slot.start <= void);
        voided.filter_map(|slot| self.slot_death(void, slot)).max().map_or(void, |last| last.max(void))
    }
}

/// What a key shows to a reader.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shown<'a> {
    /// The register's value.
    Text(&'a [u8]),
    /// The counter's; `INCR` and the like keep it within 64 bits on each daemon, their sum may go beyond.
    Number(i128),
}

/// What a key shows whose register has a value of this version, or none, and whose active slots are these.
///
/// A text that was set after all that the slots count hides them; else they count from the value, if it is an
/// integer, or from 0.
pub fn shown(value: Option<(&[u8], Time)>, active: impl IntoIterator<Item = Slot>) -> Option<Shown<'_>> {
    let totals = active.into_iter().map(|slot| (slot.net(), slot.last));
    let totals = totals.reduce(|(sum, latest), (net, last)| (sum + net, latest.max(last)));
    let text = value.map(|(value, _)| Shown::Text(value));
    let Some((sum, latest)) = totals else { return text };
    match value.map(|(value, version)| (strict_number(value), version)) {
        Some((Some(number), _)) => Some(Shown::Number(i128::from(number) + sum)),
        Some((None, version)) if version > latest => text,
        _ => Some(Shown::Number(sum)),
    }
}

/// An integer of 64 bits in decimal digits, as Redis's `string2ll` takes it: no sign but `-`, no leading zero,
/// nothing around it.
pub fn strict_number(text: &[u8]) -> Option<i64> {
    match text.strip_prefix(b"-").unwrap_or(text) {
        [b'1'..=b'9', ..] => str::from_utf8(text).ok()?.parse().ok(),
        _ => (text == b"0").then_some(0),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use uhlc::NTP64;

    fn any_slot() -> impl Strategy<Value = Slot> {
        let mark = prop_oneof![(0..5u64).prop_map(NTP64), Just(KILLED)];
        let seen = (0..3u64, 0..3u64);
        (0..3u64, 0..5u64, 0..3u64, 0..3u64, mark, seen).prop_map(
            |(start, last, up, down, mark, (at, seen))| {
                let reset = Reset { mark, at: NTP64(at), up: seen, down: 0 };
                Slot { start: NTP64(start), last: NTP64(last), up, down, reset }
            },
        )
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 100_000, failure_persistence: None, ..ProptestConfig::default() })]

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
            let mut slot = Slot::begin(NTP64(1));
            let mut sum = 0i128;
            for (at, &by) in (2..).zip(&amounts) {
                if let Some(next) = slot.add(by, NTP64(at)) {
                    slot = next;
                    sum += i128::from(by);
                }
            }
            prop_assert_eq!(slot.net(), sum);
        }
    }

    fn slot(start: u64, last: u64, up: u64) -> Slot {
        Slot { up, last: NTP64(last), ..Slot::begin(NTP64(start)) }
    }

    #[test]
    fn a_reset_takes_what_it_has_seen_and_no_more() {
        let seen = slot(10, 20, 5);
        let later = seen.add(2, NTP64(30)).unwrap();
        let reset = seen.reset(NTP64(25));
        let merged = reset.merge(later);
        assert!(merged.is_active(ZERO) && !reset.is_active(ZERO));
        assert_eq!((merged.net(), merged.up()), (2, 2));
    }

    /// One daemon had forgotten a slot, and another, where the key was deleted once more, would not.
    #[test]
    fn a_slot_that_is_reset_twice_dies_by_the_first() {
        let (first, second) = (slot(10, 20, 5).reset(NTP64(30)), slot(10, 20, 5).reset(NTP64(90)));
        assert_eq!(first.reset(NTP64(90)), first);
        assert_eq!((first.merge(second), second.merge(first)), (first, first));
        let mut counter =
            Counter { void: NTP64(15), slots: vec![(1, slot(10, 20, 5)), (2, slot(40, 45, 5))] };
        counter.make_void(NTP64(70));
        let deaths: Vec<_> =
            counter.slots.iter().map(|(_, slot)| Base::default().slot_death(counter.void, slot)).collect();
        assert_eq!(deaths, [Some(NTP64(20)), Some(NTP64(70))]);
    }

    #[test]
    fn a_new_life_replaces_one_that_was_reset() {
        let reborn = Slot::begin(NTP64(40)).add(1, NTP64(40)).unwrap();
        let merged = slot(10, 20, 5).reset(NTP64(30)).merge(reborn);
        assert_eq!((merged.net(), merged.is_active(ZERO)), (1, true));
    }

    #[test]
    fn what_was_set_and_what_was_counted_add_up_and_the_later_text_hides_the_count() {
        let two = [slot(10, 20, 1), slot(11, 21, 1)];
        let at = |value: &'static str, time| Some((value.as_bytes(), NTP64(time)));
        assert_eq!(shown(at("10", 5), two), Some(Shown::Number(12)));
        assert_eq!(shown(at("ten", 5), two), Some(Shown::Number(2)));
        assert_eq!(shown(at("ten", 30), two), Some(Shown::Text(b"ten")));
        assert_eq!(shown(None, two), Some(Shown::Number(2)));
        assert_eq!(shown(at("10", 5), []), Some(Shown::Text(b"10")));
        assert_eq!(shown(None, []), None);
    }

    #[test]
    fn a_passed_deadline_makes_void_what_began_before_it() {
        let base = Base { deadline: Some(NTP64(60)), ..Base::default() };
        assert!(slot(10, 20, 1).is_active(base.void_at(ZERO, NTP64(59))));
        assert!(!slot(10, 70, 1).is_active(base.void_at(ZERO, NTP64(60))));
        assert!(slot(61, 61, 1).is_active(base.void_at(ZERO, NTP64(70))));
    }

    #[test]
    fn a_slot_dies_when_the_last_of_what_ended_it_has_passed() {
        let base = Base { written: NTP64(30), ..Base::default() };
        assert_eq!(base.slot_death(ZERO, &slot(10, 20, 1)), None);
        assert_eq!(base.slot_death(ZERO, &slot(10, 20, 1).reset(NTP64(30))), Some(NTP64(30)));
        assert_eq!(base.slot_death(NTP64(15), &slot(10, 20, 1)), Some(NTP64(20)));
        let expiring = Base { deadline: Some(NTP64(40)), ..base };
        assert_eq!(expiring.slot_death(ZERO, &slot(10, 50, 1)), Some(NTP64(50)));
        assert_eq!(expiring.register_death(ZERO, &[slot(10, 50, 1)]), Some(NTP64(50)));
        assert_eq!(base.slot_death(ZERO, &Slot::killed(NTP64(7)).merge(slot(7, 90, 1))), Some(NTP64(7)));
        let lifted = Base { lift: NTP64(100), ..base };
        assert_eq!(lifted.slot_death(ZERO, &slot(10, 20, 1).reset(NTP64(30))), Some(NTP64(100)));
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
