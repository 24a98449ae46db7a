//! A cell packed into one allocation: header, deadline, key and value behind one thin pointer.
//!
//! ```text
//! count | header: time, origin, key length + flags | len | [deadline] [qualifier] [lift] key value [counter]
//! counter:  slots: owner, start, last, up, down [mark, at, up, down] | void | number of slots
//! ```
//!
//! A cell never changes: a write builds a new one and swaps the pointer under the range's lock, so a reader
//! that took a reference keeps a consistent copy. Origins are interned to 32 bits (see [`Origins`]), and what
//! most registers lack (a deadline, a qualifier, a counter) takes no room.

use triomphe::ThinArc;
use uhlc::NTP64;

use super::origins::{Origin, Origins};
use super::raw;
use crate::model::counter::{Base, Reset, Shown, Slot, shown};
use crate::model::stamp::ZERO;
use crate::model::{Register, Stamp, Time};

const HAS_VALUE: u32 = 1 << 31;
const HAS_DEADLINE: u32 = 1 << 30;
const HAS_QUALIFIER: u32 = 1 << 29;
const HAS_LIFT: u32 = 1 << 28;
const HAS_COUNTER: u32 = 1 << 27;
/// The deadline has passed, and the sweep has seen to it; only of cells with a counter.
const SWEPT: u32 = 1 << 26;
const KEY_LENGTH: u32 = SWEPT - 1;

/// The longest key that a cell can hold, in bytes; `--max-key` stays below it.
pub const MAX_KEY: usize = KEY_LENGTH as usize;

const DEADLINE_SIZE: usize = 8;
const QUALIFIER_SIZE: usize = 12;
const LIFT_SIZE: usize = 8;
const SLOT_SIZE: usize = 4 + 4 * 8;
const RESET_SIZE: usize = 4 * 8;
/// The void moment, and the number of slots with a bit that says whether they have room for a reset.
const COUNTER_END: usize = 8 + 4;
const HAS_RESETS: u32 = 1 << 31;

/// The counter of a cell, its owners interned.
pub(crate) type Counter = crate::model::counter::Counter<Origin>;

#[derive(Clone, Copy)]
struct Header {
    time: u64,
    origin: Origin,
    key_length_and_flags: u32,
}

/// All that is held for one key. Cloning counts a reference and copies nothing.
#[derive(Clone)]
pub struct Cell(ThinArc<Header, u8>);

/// A register whose origins are interned: what a cell is packed from and unpacked to.
#[derive(Clone, Copy, PartialEq)]
pub(crate) struct Parts<'a> {
    pub(crate) time: Time,
    pub(crate) origin: Origin,
    pub(crate) value: Option<&'a [u8]>,
    pub(crate) deadline: Option<Time>,
    /// `None` when the version's own write decided the deadline.
    pub(crate) qualifier: Option<(Time, Origin)>,
    /// [`ZERO`] for none. One that is not later than `time` says nothing and is not stored.
    pub(crate) lift: Time,
}

impl<'a> Parts<'a> {
    /// The register of a key that was only ever counted with.
    pub(crate) const EMPTY: Parts<'static> = Parts {
        time: ZERO,
        origin: Origins::NOBODY,
        value: None,
        deadline: None,
        qualifier: None,
        lift: ZERO,
    };

    /// Whether there is nothing at all to keep.
    pub(super) fn is_empty(&self) -> bool {
        self.time == ZERO && self.lift == ZERO
    }

    /// The same register with its full stamps.
    pub(super) fn register(&self, origins: &Origins) -> Register<'a> {
        let version = Stamp::new(self.time, origins.incarnation(self.origin));
        let qualifier =
            self.qualifier.map_or(version, |(time, origin)| Stamp::new(time, origins.incarnation(origin)));
        Register { version, value: self.value, deadline: self.deadline, qualifier, lift: self.lift }
    }

    /// As [`Register::admission`]. The deadline of a counter that nobody has set is admitted by its own stamp: it has
    /// no value that it could bring back.
    pub(super) fn admission(&self) -> Time {
        self.lift.max(self.admitted_by().0)
    }

    /// The stamp that it is admitted by.
    pub(super) fn admitted_by(&self) -> (Time, Origin) {
        let is_unset = self.origin == Origins::NOBODY;
        self.qualifier.filter(|_| is_unset).unwrap_or((self.time, self.origin))
    }

    /// The latest time of its stamps.
    pub(super) fn latest(&self) -> Time {
        self.qualifier.map_or(self.time, |(time, _)| time.max(self.time))
    }

    /// What of it bears on the slots.
    pub(super) fn base(&self) -> Base {
        Base {
            written: self.latest(),
            deadline: self.deadline,
            lift: self.lift,
            has_value: self.value.is_some(),
        }
    }
}

impl Cell {
    /// Packs a cell without a counter, laying its bytes out in `scratch` first.
    pub(super) fn pack(scratch: &mut Vec<u8>, key: &[u8], parts: &Parts<'_>) -> Cell {
        let flags = lay_out(scratch, key, parts);
        Cell::of(parts, key, flags, scratch)
    }

    /// Packs a cell with what it counts, which may be nothing.
    pub(super) fn pack_with(
        scratch: &mut Vec<u8>,
        key: &[u8],
        parts: &Parts<'_>,
        counter: &Counter,
        swept: bool,
    ) -> Cell {
        let mut flags = lay_out(scratch, key, parts);
        if !counter.is_empty() {
            flags |= HAS_COUNTER | if swept { SWEPT } else { 0 };
            append_counter(scratch, counter);
        }
        Cell::of(parts, key, flags, scratch)
    }

    fn of(parts: &Parts<'_>, key: &[u8], flags: u32, bytes: &[u8]) -> Cell {
        let key_length = u32::try_from(key.len()).expect("a key's length is checked at every entrance");
        assert!(key_length <= KEY_LENGTH, "a key's length is checked at every entrance");
        let header =
            Header { time: parts.time.0, origin: parts.origin, key_length_and_flags: key_length | flags };
        Cell(ThinArc::from_header_and_slice(header, bytes))
    }

    fn header(&self) -> Header {
        self.0.header.header
    }

    fn has(&self, flag: u32) -> bool {
        self.header().key_length_and_flags & flag != 0
    }

    fn lift_start(&self) -> usize {
        usize::from(self.has(HAS_DEADLINE)) * DEADLINE_SIZE
            + usize::from(self.has(HAS_QUALIFIER)) * QUALIFIER_SIZE
    }

    fn key_start(&self) -> usize {
        self.lift_start() + usize::from(self.has(HAS_LIFT)) * LIFT_SIZE
    }

    fn key_end(&self) -> usize {
        self.key_start() + (self.header().key_length_and_flags & KEY_LENGTH) as usize
    }

    /// The key.
    pub fn key(&self) -> &[u8] {
        &self.0.slice[self.key_start()..self.key_end()]
    }

    /// The value; `None` for a tombstone or an expired register whose value was dropped.
    pub fn value(&self) -> Option<&[u8]> {
        self.has(HAS_VALUE).then(|| &self.0.slice[self.key_end()..self.0.slice.len() - self.counter_size()])
    }

    /// The bytes of all it holds, about.
    pub(crate) fn size(&self) -> usize {
        self.0.slice.len()
    }

    /// Whether there is more than a register.
    pub(crate) fn has_counter(&self) -> bool {
        self.has(HAS_COUNTER)
    }

    fn counter_size(&self) -> usize {
        if !self.has_counter() {
            return 0;
        }
        let (count, stride) = self.slot_layout();
        count * stride + COUNTER_END
    }

    /// How many slots there are, and the bytes that each takes.
    fn slot_layout(&self) -> (usize, usize) {
        let bytes = &self.0.slice;
        let count = u32::from_le_bytes(array(&bytes[bytes.len() - 4..]));
        let stride = SLOT_SIZE + if count & HAS_RESETS != 0 { RESET_SIZE } else { 0 };
        ((count & !HAS_RESETS) as usize, stride)
    }

    /// Each owner's slot.
    pub(super) fn slots(&self) -> impl Iterator<Item = (Origin, Slot)> {
        let bytes = &self.0.slice;
        let (count, stride) = if self.has_counter() { self.slot_layout() } else { (0, SLOT_SIZE) };
        let end = bytes.len() - if count > 0 { COUNTER_END } else { 0 };
        bytes[end - count * stride..end].chunks_exact(stride).map(slot)
    }

    /// How far the past is void.
    pub(super) fn void(&self) -> Time {
        let at = self.0.slice.len().wrapping_sub(COUNTER_END);
        if self.has_counter() { NTP64(self.u64_at(at)) } else { ZERO }
    }

    /// Copies what it counts to `into`.
    pub(super) fn counter_into(&self, into: &mut Counter) {
        into.clear();
        into.void = self.void();
        into.slots.extend(self.slots());
    }

    /// What it counts.
    pub(crate) fn counter(&self) -> Counter {
        let mut counter = Counter::NONE;
        self.counter_into(&mut counter);
        counter
    }

    /// The same cell with another register.
    pub(super) fn with(&self, scratch: &mut Vec<u8>, parts: &Parts<'_>) -> Cell {
        if !self.has_counter() {
            return Cell::pack(scratch, self.key(), parts);
        }
        Cell::pack_with(scratch, self.key(), parts, &self.counter(), self.has(SWEPT))
    }

    /// The same cell after its deadline has passed, without its value.
    pub(super) fn swept(&self, scratch: &mut Vec<u8>) -> Cell {
        let parts = Parts { value: None, ..self.parts() };
        Cell::pack_with(scratch, self.key(), &parts, &self.counter(), true)
    }

    /// The time of the version; its origin is interned.
    pub fn time(&self) -> Time {
        NTP64(self.header().time)
    }

    pub(super) fn origin(&self) -> Origin {
        self.header().origin
    }

    /// From this moment on the cell is absent to every reader.
    pub fn deadline(&self) -> Option<Time> {
        self.has(HAS_DEADLINE).then(|| NTP64(self.u64_at(0)))
    }

    pub(super) fn qualifier(&self) -> Option<(Time, Origin)> {
        self.has(HAS_QUALIFIER).then(|| {
            let at = usize::from(self.has(HAS_DEADLINE)) * DEADLINE_SIZE;
            (NTP64(self.u64_at(at)), Origin::from_le_bytes(array(&self.0.slice[at + 8..at + 12])))
        })
    }

    /// [`ZERO`] for all but what was brought along to a first contact.
    pub(super) fn lift(&self) -> Time {
        if self.has(HAS_LIFT) { NTP64(self.u64_at(self.lift_start())) } else { ZERO }
    }

    /// Whether it holds a value, has no deadline and counts nothing.
    pub(super) fn is_lasting(&self) -> bool {
        self.header().key_length_and_flags & (HAS_VALUE | HAS_DEADLINE | HAS_COUNTER) == HAS_VALUE
    }

    /// Whether it counts as live: it holds a value or has an active slot, and the sweep has not found it expired.
    pub(super) fn is_kept(&self) -> bool {
        if !self.has_counter() {
            return self.has(HAS_VALUE);
        }
        let void = self.kept_void();
        self.has(HAS_VALUE) || self.slots().any(|(_, slot)| slot.is_active(void))
    }

    /// Whether the passing of the deadline has something left to end.
    pub(super) fn awaits_sweep(&self) -> bool {
        let flags = self.header().key_length_and_flags;
        flags & HAS_DEADLINE != 0 && (flags & HAS_VALUE != 0 || flags & (HAS_COUNTER | SWEPT) == HAS_COUNTER)
    }

    pub(super) fn base(&self) -> Base {
        self.parts().base()
    }

    /// The moment from which a floor counts all of it as dead; `None` if it never will be as it is.
    pub(super) fn death(&self) -> Option<Time> {
        if self.has_counter() { self.deaths(|_, death| death) } else { self.register_death() }
    }

    /// The earliest moment from which a floor counts a part of it as dead; `None` where there will be none.
    pub(super) fn first_death(&self) -> Option<Time> {
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
    pub(super) fn next_death(&self) -> Option<Time> {
        if self.has_counter() || !self.has(HAS_VALUE) { self.first_death() } else { None }
    }

    /// Whether a part of it counts as live: see [`is_kept`](Self::is_kept).
    pub(super) fn is_live_part(&self, part: &Part) -> bool {
        match part {
            Part::Register => self.has(HAS_VALUE),
            Part::Slot(_, slot) => slot.is_active(self.kept_void()),
            Part::Void(_) => false,
        }
    }

    /// Up to when its counter is void as far as the sweep has noticed.
    fn kept_void(&self) -> Time {
        let now = if self.has(SWEPT) { MAX } else { ZERO };
        self.base().void_at(self.void(), now)
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
    pub(super) fn parts_above(&self, floor: Time, mut visit: impl FnMut(Part)) {
        self.deaths(|part, death| {
            if death.is_none_or(|death| death > floor) {
                visit(part);
            }
            death
        });
    }

    /// The same cell without the parts that a floor at `floor` counts as dead.
    pub(super) fn stripped(&self, scratch: &mut Vec<u8>, floor: Time) -> Cell {
        let (mut counter, base) = (self.counter(), self.base());
        let dead = base.register_death(counter.void, counter.slots.iter().map(|(_, slot)| slot));
        counter.strip(&base, floor);
        let parts = if dead.is_some_and(|death| death <= floor) { Parts::EMPTY } else { self.parts() };
        Cell::pack_with(scratch, self.key(), &parts, &counter, self.has(SWEPT))
    }

    /// Whether its version alone identifies its content.
    pub(super) fn is_plain(&self) -> bool {
        !self.has(HAS_QUALIFIER | HAS_LIFT | HAS_COUNTER)
    }

    /// Whether something of it that a floor at `floor` counts as dead has beaten something of a peer's copy that it does
    /// not.
    pub(super) fn buries(&self, received: &Parts<'_>, counter: &Counter, floor: Time) -> bool {
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
    pub(super) fn is_dead_at(&self, floor: Time) -> bool {
        self.death().is_some_and(|death| death <= floor)
    }

    fn u64_at(&self, at: usize) -> u64 {
        u64::from_le_bytes(array(&self.0.slice[at..at + 8]))
    }

    /// The latest time of any stamp in the cell: what the next local write must exceed.
    pub(super) fn latest(&self) -> Time {
        let register = self.qualifier().map_or(self.time(), |(time, _)| time.max(self.time()));
        self.slots().fold(register, |latest, (_, slot)| latest.max(slot.last))
    }

    /// Whether the deadline has passed at `now`.
    pub(super) fn is_expired(&self, now: Time) -> bool {
        self.deadline().is_some_and(|deadline| deadline <= now)
    }

    /// Whether a reader at `now` sees a value.
    pub fn is_live(&self, now: Time) -> bool {
        if self.has_counter() {
            return self.shown(now).is_some();
        }
        self.has(HAS_VALUE) && !self.is_expired(now)
    }

    /// A cell without a counter that shows what this one shows at `now`, and when and by whom that was written last.
    #[inline]
    pub(super) fn as_shown(&self, now: Time) -> Cell {
        if self.has_counter() { self.without_counter(now) } else { self.clone() }
    }

    /// The same as the sweep has left it: a deadline that it has not come to yet is still to come.
    pub(super) fn as_kept(&self) -> Cell {
        self.as_shown(if self.has(SWEPT) { MAX } else { ZERO })
    }

    #[cold]
    fn without_counter(&self, now: Time) -> Cell {
        let mut digits = itoa::Buffer::new();
        let value = self.shown(now).map(|shown| match shown {
            Shown::Text(text) => text,
            Shown::Number(number) => digits.format(number).as_bytes(),
        });
        let (time, origin) = self.slots().fold((self.time(), self.origin()), |latest, (owner, slot)| {
            if slot.last > latest.0 { (slot.last, owner) } else { latest }
        });
        let deadline = self.deadline().filter(|&deadline| deadline > now);
        let parts = Parts { time, origin, value, deadline, qualifier: None, lift: ZERO };
        Cell::pack(&mut Vec::new(), self.key(), &parts)
    }

    /// What a reader at `now` sees.
    pub(super) fn shown(&self, now: Time) -> Option<Shown<'_>> {
        let value = self.value().filter(|_| !self.is_expired(now));
        if !self.has_counter() {
            return value.map(Shown::Text);
        }
        let void = self.base().void_at(self.void(), now);
        let active = self.slots().map(|(_, slot)| slot).filter(|slot| slot.is_active(void));
        shown(value.map(|value| (value, self.time())), active)
    }

    pub(crate) fn parts(&self) -> Parts<'_> {
        Parts {
            time: self.time(),
            origin: self.origin(),
            value: self.value(),
            deadline: self.deadline(),
            qualifier: self.qualifier(),
            lift: self.lift(),
        }
    }

    pub(super) fn register(&self, origins: &Origins) -> Register<'_> {
        self.parts().register(origins)
    }

    /// Starts to load the cell's first cache lines.
    pub(super) fn prefetch(&self) {
        const LINE: usize = 64;
        let start: *const u8 = self.0.heap_ptr().cast();
        raw::prefetch(start);
        raw::prefetch(start.wrapping_add(LINE));
        raw::prefetch(start.wrapping_add(2 * LINE));
    }

    /// What the cell takes in memory: its allocation and its slot in the table.
    pub(super) fn memory(&self) -> u64 {
        /// Count, header and length before the bytes; then the allocator's header and rounding, and a pointer
        /// and tag in a table that is two thirds full.
        const OVERHEAD: u64 = 8 + 16 + 8 + 8 + 14;
        self.0.slice.len() as u64 + OVERHEAD
    }
}

/// One of the parts that a cell's hash is the sum of.
#[derive(Clone, Copy)]
pub(super) enum Part {
    Register,
    Slot(Origin, Slot),
    Void(Time),
}

/// The end of the scale.
const MAX: Time = NTP64(u64::MAX);

/// Lays out everything but the counter; returns the flags that say what there is.
fn lay_out(scratch: &mut Vec<u8>, key: &[u8], parts: &Parts<'_>) -> u32 {
    scratch.clear();
    let mut flags = 0;
    if let Some(deadline) = parts.deadline {
        flags |= HAS_DEADLINE;
        scratch.extend_from_slice(&deadline.0.to_le_bytes());
    }
    if let Some((time, origin)) = parts.qualifier {
        flags |= HAS_QUALIFIER;
        scratch.extend_from_slice(&time.0.to_le_bytes());
        scratch.extend_from_slice(&origin.to_le_bytes());
    }
    if parts.lift > parts.time {
        flags |= HAS_LIFT;
        scratch.extend_from_slice(&parts.lift.0.to_le_bytes());
    }
    scratch.extend_from_slice(key);
    if let Some(value) = parts.value {
        flags |= HAS_VALUE;
        scratch.extend_from_slice(value);
    }
    flags
}

fn append_counter(scratch: &mut Vec<u8>, counter: &Counter) {
    let has_resets = counter.slots.iter().any(|(_, slot)| slot.reset != Reset::default());
    for (owner, slot) in &counter.slots {
        scratch.extend_from_slice(&owner.to_le_bytes());
        for word in [slot.start.0, slot.last.0, slot.up, slot.down] {
            scratch.extend_from_slice(&word.to_le_bytes());
        }
        if has_resets {
            for word in [slot.reset.mark.0, slot.reset.at.0, slot.reset.up, slot.reset.down] {
                scratch.extend_from_slice(&word.to_le_bytes());
            }
        }
    }
    scratch.extend_from_slice(&counter.void.0.to_le_bytes());
    let count = u32::try_from(counter.slots.len()).expect("a frame has fewer slots than that");
    scratch.extend_from_slice(&(count | if has_resets { HAS_RESETS } else { 0 }).to_le_bytes());
}

/// Reads one slot of [`append_counter`] back.
fn slot(bytes: &[u8]) -> (Origin, Slot) {
    let word = |index: usize| u64::from_le_bytes(array(&bytes[4 + 8 * index..12 + 8 * index]));
    let reset = if bytes.len() > SLOT_SIZE {
        Reset { mark: NTP64(word(4)), at: NTP64(word(5)), up: word(6), down: word(7) }
    } else {
        Reset::default()
    };
    let slot = Slot { start: NTP64(word(0)), last: NTP64(word(1)), up: word(2), down: word(3), reset };
    (Origin::from_le_bytes(array(&bytes[..4])), slot)
}

/// The bytes of a slice of this length.
fn array<const N: usize>(bytes: &[u8]) -> [u8; N] {
    let mut array = [0; N];
    array.copy_from_slice(bytes);
    array
}

impl PartialEq for Cell {
    /// Cells stand for their keys in the map.
    fn eq(&self, other: &Self) -> bool {
        self.key() == other.key()
    }
}

impl Eq for Cell {}

impl std::hash::Hash for Cell {
    fn hash<H: std::hash::Hasher>(&self, state: &mut H) {
        state.write(self.key());
    }
}

impl std::fmt::Debug for Cell {
    /// Never shows the value.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Cell")
            .field("key", &self.key().escape_ascii().to_string())
            .field("time", &self.time().0)
            .field("value_bytes", &self.value().map(<[u8]>::len))
            .field("deadline", &self.deadline().map(|d| d.0))
            .finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn a_packed_cell_gives_back_its_parts(
            key in proptest::collection::vec(any::<u8>(), 0..40),
            value in proptest::option::of(proptest::collection::vec(any::<u8>(), 0..40)),
            deadline in proptest::option::of(any::<u64>()),
            qualifier in proptest::option::of((any::<u64>(), any::<u32>())),
            lift in prop_oneof![Just(0), any::<u64>()],
            time: u64,
            origin: u32,
        ) {
            let parts = Parts {
                time: NTP64(time),
                origin,
                value: value.as_deref(),
                deadline: deadline.map(NTP64),
                qualifier: qualifier.map(|(t, o)| (NTP64(t), o)),
                lift: NTP64(lift),
            };
            let cell = Cell::pack(&mut Vec::new(), &key, &parts);
            prop_assert_eq!(cell.key(), &key[..]);
            let back = cell.parts();
            prop_assert_eq!((back.time, back.origin, back.value), (parts.time, parts.origin, parts.value));
            prop_assert_eq!((back.deadline, back.qualifier), (parts.deadline, parts.qualifier));
            prop_assert_eq!(back.lift, if lift > time { NTP64(lift) } else { ZERO });
            let origins = Origins::new(uhlc::ID::rand());
            let known = Parts { origin: 0, qualifier: back.qualifier.map(|(time, _)| (time, 0)), ..back };
            prop_assert_eq!(cell.death(), known.register(&origins).death());
        }
    }

    #[test]
    fn a_cell_is_one_thin_pointer() {
        assert_eq!(size_of::<Cell>(), size_of::<usize>());
        assert_eq!(size_of::<Option<Cell>>(), size_of::<usize>());
    }

    #[test]
    fn debug_output_does_not_show_the_value() {
        let parts = Parts {
            time: NTP64(1),
            origin: 0,
            value: Some(b"secret"),
            deadline: None,
            qualifier: None,
            lift: ZERO,
        };
        let text = format!("{:?}", Cell::pack(&mut Vec::new(), b"k\n", &parts));
        assert!(text.contains("k\\\\n") && !text.contains("secret"), "{text}");
    }
}
