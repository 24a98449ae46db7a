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
//! A slot is *active* while it has increments that nothing has reset, and its life began after every deadline of the
//! key that has passed. A key that nobody has set keeps its deadline in an [`Expiry`] beside the slots, so that an
//! `EXPIRE` of what was counted neither replaces a `SET` nor is undone by an older one.

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
    /// What of it does not count any more.
    pub reset: Reset,
}

/// How much of a slot a delete, a `SET` or a deadline has ended.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Reset {
    /// The latest increment that was seen.
    pub mark: Time,
    /// When that was: a slot is dead at a stable time that has passed it and the increments. Later resets of the same
    /// increments leave it as it is, or what one node has purged would be undecided on another.
    pub at: Time,
    /// What had been added up to there.
    pub up: u64,
    /// What had been subtracted up to there.
    pub down: u64,
}

impl Slot {
    /// A life that begins now, with nothing counted yet.
    pub fn begin(at: Time) -> Slot {
        Slot { start: at, last: at, ..Slot::default() }
    }

    /// Whether it counts where `passed` is the latest deadline of the key that has passed.
    pub fn is_active(&self, passed: Time) -> bool {
        self.start > passed && !self.is_reset()
    }

    /// Whether all of its increments were reset.
    pub fn is_reset(&self) -> bool {
        self.last <= self.reset.mark
    }

    /// This slot after a retraction: all that it has counted is reset, as of its last increment.
    #[must_use]
    pub fn retracted(self) -> Slot {
        self.reset(self.last)
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
    /// The one that ended more or, if both ended the same, the earlier.
    fn merge(self, other: Reset) -> Reset {
        let rank = |reset: &Reset| (reset.mark, std::cmp::Reverse(reset.at), reset.up, reset.down);
        if rank(&self) >= rank(&other) { self } else { other }
    }
}

/// The deadline of what a key counts, set by an `EXPIRE` or `PERSIST` of a key without a value.
///
/// It is a register of its own: of two the one set later wins, and `SET` and `DEL` set it to none.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Expiry {
    /// From this moment on every life that began by then is over; `None` for never.
    pub deadline: Option<Time>,
    /// When it was set: with the writer its dot.
    pub set_at: Time,
}

impl Expiry {
    /// What decides between two of one key, with the incarnations of the writers: the later dot and, where these are
    /// equal, a retraction.
    pub fn rank<I: Ord>(&self, writer: I) -> impl Ord + use<I> {
        (self.set_at, writer, self.deadline.is_none(), self.deadline)
    }
}

/// All that is counted for one key: the slots by owner, in order, and the deadline of what they count.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Counter<O> {
    /// Who set the deadline, and to what; `None` if nobody did.
    pub expiry: Option<(O, Expiry)>,
    /// Each owner's slot, by owner.
    pub slots: Vec<(O, Slot)>,
}

impl<O: Copy + Ord> Counter<O> {
    /// Nothing counted.
    pub const NONE: Counter<O> = Counter { expiry: None, slots: Vec::new() };

    /// Whether there is nothing at all to keep.
    pub fn is_empty(&self) -> bool {
        self.slots.is_empty() && self.expiry.is_none()
    }

    /// Discards everything, and keeps the room.
    pub fn clear(&mut self) {
        self.expiry = None;
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

    /// Merges another copy of the slot of `owner`.
    pub fn merge_slot(&mut self, owner: O, other: Slot) {
        let merged = self.slot(owner).map_or(other, |slot| slot.merge(other));
        self.put(owner, merged);
    }

    /// The slots that count where `passed` is the latest deadline that has passed.
    pub fn active(&self, passed: Time) -> impl Iterator<Item = &Slot> {
        self.slots.iter().map(|(_, slot)| slot).filter(move |slot| slot.is_active(passed))
    }

    /// Resets every slot: a delete or a `SET` has seen them at `at`.
    pub fn reset(&mut self, at: Time) {
        self.slots.iter_mut().for_each(|(_, slot)| *slot = slot.reset(at));
    }

    /// Resets the slots whose lives began by the `deadline`, as of then: it has passed, and is about to be replaced.
    pub fn end(&mut self, deadline: Time) {
        let ended = self.slots.iter_mut().filter(|(_, slot)| slot.start <= deadline);
        ended.for_each(|(_, slot)| *slot = slot.reset(deadline));
    }

    /// Drops what is dead at the stable time, beside a register with this life.
    pub fn strip(&mut self, register: &RegisterLife, stable: Time) {
        let lives = Lives { register: *register, expiry: self.expiry.map(|(_, expiry)| expiry) };
        let dead = |death: Option<Time>| death.is_some_and(|death| death <= stable);
        if dead(lives.expiry_death(self.slots.iter().map(|(_, slot)| slot))) {
            self.expiry = None;
        }
        self.slots.retain(|(_, slot)| !dead(lives.slot_death(slot)));
    }
}

/// What of a register bears on its key's slots, and when it is dead itself.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RegisterLife {
    /// The later of the register's timestamps.
    pub written: Time,
    /// From this moment on the register and all slots that began by then are absent.
    pub deadline: Option<Time>,
    /// Whether the register holds a value.
    pub has_value: bool,
}

/// Both deadlines of a key that has slots.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Lives {
    /// The register's.
    pub register: RegisterLife,
    /// The one of what is counted.
    pub expiry: Option<Expiry>,
}

impl Lives {
    /// The latest deadline that has passed at `now`; [`ZERO`] if none has.
    pub fn passed(&self, now: Time) -> Time {
        let deadlines = [self.register.deadline, self.expiry.and_then(|expiry| expiry.deadline)];
        deadlines.into_iter().flatten().filter(|&deadline| deadline <= now).max().unwrap_or(ZERO)
    }

    /// The stable time from which a slot is dead; `None` if it never will be as it is.
    ///
    /// A slot is dead once nothing that made it so can be news to anyone: the reset, the deadline, and the increments
    /// themselves.
    pub fn slot_death(&self, slot: &Slot) -> Option<Time> {
        let reset = slot.is_reset().then_some(slot.reset.at);
        let by = |deadline: Option<Time>, set_at: Time| {
            deadline.filter(|&deadline| slot.start <= deadline).map(|deadline| deadline.max(set_at))
        };
        let register = by(self.register.deadline, self.register.written);
        let expiry = self.expiry.and_then(|expiry| by(expiry.deadline, expiry.set_at));
        [reset, register, expiry].into_iter().flatten().min().map(|cause| cause.max(slot.last))
    }

    /// The same for the register; [`ZERO`] if there is none. It outlives the slots that its deadline ends.
    pub fn register_death<'s>(&self, slots: impl IntoIterator<Item = &'s Slot>) -> Option<Time> {
        let RegisterLife { written, deadline, has_value } = self.register;
        if has_value && deadline.is_none() {
            return None;
        }
        Some(written.max(deadline.unwrap_or(ZERO)).max(self.last_ended(deadline, slots)))
    }

    /// The same for the deadline of what is counted. It outlives the slots that it ends, and is of no use without any.
    pub fn expiry_death<'s>(&self, slots: impl IntoIterator<Item = &'s Slot>) -> Option<Time> {
        let expiry = self.expiry?;
        Some(expiry.set_at.max(self.last_ended(expiry.deadline, slots)))
    }

    /// The latest death of the slots that a deadline ends.
    fn last_ended<'s>(&self, deadline: Option<Time>, slots: impl IntoIterator<Item = &'s Slot>) -> Time {
        let ended = slots.into_iter().filter(|slot| deadline.is_some_and(|deadline| slot.start <= deadline));
        ended.filter_map(|slot| self.slot_death(slot)).max().unwrap_or(ZERO)
    }
}

/// What a key shows to a reader.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shown<'a> {
    /// The register's value.
    Text(&'a [u8]),
    /// The counter's; `INCR` and the like keep it within 64 bits on each node, their sum may go beyond.
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
        let seen = (0..3u64, 0..3u64);
        (0..3u64, 0..5u64, 0..3u64, 0..3u64, 0..5u64, seen).prop_map(
            |(start, last, up, down, mark, (at, seen))| {
                let reset = Reset { mark: NTP64(mark), at: NTP64(at), up: seen, down: 0 };
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

    /// One node had forgotten a slot, and another, where the key was deleted once more, would not.
    #[test]
    fn a_slot_that_is_reset_twice_dies_by_the_first() {
        let (first, second) = (slot(10, 20, 5).reset(NTP64(30)), slot(10, 20, 5).reset(NTP64(90)));
        assert_eq!(first.reset(NTP64(90)), first);
        assert_eq!((first.merge(second), second.merge(first)), (first, first));
        let mut counter =
            Counter { slots: vec![(1, slot(10, 12, 5)), (2, slot(40, 45, 5))], ..Counter::NONE };
        counter.end(NTP64(15));
        counter.end(NTP64(70));
        let deaths: Vec<_> =
            counter.slots.iter().map(|(_, slot)| Lives::default().slot_death(slot)).collect();
        assert_eq!(deaths, [Some(NTP64(15)), Some(NTP64(70))]);
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

    fn expiring(deadline: u64, written: u64) -> Lives {
        let register =
            RegisterLife { written: NTP64(written), deadline: Some(NTP64(deadline)), has_value: true };
        Lives { register, expiry: None }
    }

    #[test]
    fn a_passed_deadline_ends_the_lives_that_began_before_it() {
        let lives = expiring(60, 5);
        assert!(slot(10, 20, 1).is_active(lives.passed(NTP64(59))));
        assert!(!slot(10, 70, 1).is_active(lives.passed(NTP64(60))));
        assert!(slot(61, 61, 1).is_active(lives.passed(NTP64(70))));
        let expiry = Some(Expiry { deadline: Some(NTP64(65)), set_at: NTP64(7) });
        assert_eq!(Lives { expiry, ..lives }.passed(NTP64(70)), NTP64(65));
    }

    #[test]
    fn a_slot_dies_when_the_last_of_what_ended_it_has_passed() {
        let none = Lives::default();
        assert_eq!(none.slot_death(&slot(10, 20, 1)), None);
        assert_eq!(none.slot_death(&slot(10, 20, 1).reset(NTP64(30))), Some(NTP64(30)));
        assert_eq!(none.slot_death(&slot(10, 20, 1).retracted()), Some(NTP64(20)));
        let lives = expiring(40, 30);
        assert_eq!(lives.slot_death(&slot(10, 50, 1)), Some(NTP64(50)));
        assert_eq!(lives.register_death(&[slot(10, 50, 1)]), Some(NTP64(50)));
    }

    #[test]
    fn the_deadline_of_a_counter_outlives_the_slots_that_it_ends_and_no_longer() {
        let expiry = Some(Expiry { deadline: Some(NTP64(90)), set_at: NTP64(30) });
        let lives = Lives { expiry, ..Lives::default() };
        assert_eq!(lives.expiry_death(&[slot(10, 20, 1)]), Some(NTP64(90)));
        assert_eq!(lives.expiry_death(&[slot(10, 20, 1).reset(NTP64(40))]), Some(NTP64(40)));
        assert_eq!(lives.expiry_death(&[]), Some(NTP64(30)));
        assert_eq!(Lives::default().expiry_death(&[]), None);
    }

    #[test]
    fn of_two_deadlines_of_a_counter_the_one_set_later_wins_and_a_retraction_at_equal_dots() {
        let at =
            |deadline: Option<u64>, set_at| Expiry { deadline: deadline.map(NTP64), set_at: NTP64(set_at) };
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
