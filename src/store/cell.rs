//! A cell packed into one allocation: header, deadline, key and value behind one thin pointer.
//!
//! ```text
//! count | header: time, origin, key length + flags | len | [deadline] [deadline_timestamp] key value [counter]
//! counter:  slots: owner, start, last, up, down [mark, at, up, down] | [expiry: writer, time, deadline] | number of slots
//! ```
//!
//! A cell never changes: a write builds a new one and swaps the pointer under the range's lock, so a reader that took
//! a reference keeps a consistent copy. Origins are interned to 32 bits (see [`Origins`]). Parts that most registers
//! lack (a deadline, a deadline timestamp, a counter) take no space if they are absent.

mod life;
mod parts;
mod slots;

pub(super) use life::Part;
pub(crate) use parts::Parts;

use triomphe::ThinArc;

use super::origins::{Origin, Origins};
use super::raw;
use crate::model::counter::Lives;
use crate::model::database::MAX_OVERHEAD;
use crate::model::{Deadline, Register, Time};

const HAS_VALUE: u32 = 1 << 31;
const HAS_DEADLINE: u32 = 1 << 30;
const HAS_DEADLINE_TIMESTAMP: u32 = 1 << 29;
const HAS_COUNTER: u32 = 1 << 28;
/// The counter's deadline has passed, and the sweep has processed it.
const SWEPT: u32 = 1 << 27;
const KEY_LENGTH: u32 = SWEPT - 1;

/// The longest stored key, in bytes.
pub const MAX_STORED_KEY: usize = KEY_LENGTH as usize;

/// The longest key that can be stored, in bytes; `--max-key` stays below it.
pub const MAX_KEY: usize = MAX_STORED_KEY - MAX_OVERHEAD;

const DEADLINE_SIZE: usize = 8;
const DEADLINE_TIMESTAMP_SIZE: usize = 12;

/// The counter of a cell, with interned owners.
pub(crate) type Counter = crate::model::counter::Counter<Origin>;

#[derive(Clone, Copy)]
struct Header {
    time: u64,
    origin: Origin,
    key_length_and_flags: u32,
}

/// All that a store holds of one key. Cloning increments a reference count and copies nothing.
#[derive(Clone)]
pub struct Cell(ThinArc<Header, u8>);

impl Cell {
    /// Packs a cell without a counter; `scratch` is the buffer for its bytes.
    pub(super) fn pack(scratch: &mut Vec<u8>, key: &[u8], parts: &Parts<'_>) -> Cell {
        let flags = lay_out(scratch, key, parts);
        Cell::of(parts, key, flags, scratch)
    }

    /// Packs a cell with a counter, which may be empty.
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
            slots::append_counter(scratch, counter);
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

    fn key_start(&self) -> usize {
        usize::from(self.has(HAS_DEADLINE)) * DEADLINE_SIZE
            + usize::from(self.has(HAS_DEADLINE_TIMESTAMP)) * DEADLINE_TIMESTAMP_SIZE
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

    /// The bytes of the content, without the header.
    pub(crate) fn size(&self) -> usize {
        self.0.slice.len()
    }

    /// Whether the cell has a counter.
    pub(crate) fn has_counter(&self) -> bool {
        self.has(HAS_COUNTER)
    }

    /// The cell after a sweep at `now`: without a value whose deadline has passed.
    pub(super) fn swept(&self, scratch: &mut Vec<u8>, now: Time) -> Cell {
        let parts = self.parts();
        let value = parts.value.filter(|_| !self.is_expired(now));
        let counter = self.counter();
        let ended = counter.expiry.is_some_and(|(_, expiry)| expiry.expires_at().is_some_and(|at| at <= now));
        Cell::pack_with(scratch, self.key(), &Parts { value, ..parts }, &counter, ended)
    }

    /// The time of the register's timestamp.
    pub fn time(&self) -> Time {
        Time(self.header().time)
    }

    pub(super) fn origin(&self) -> Origin {
        self.header().origin
    }

    /// The time from which the register is absent to every reader.
    pub fn deadline(&self) -> Option<Deadline> {
        self.has(HAS_DEADLINE).then(|| Deadline(self.u64_at(0)))
    }

    /// The moment at which the register's deadline passes.
    #[inline]
    pub(super) fn expires_at(&self) -> Option<Time> {
        self.deadline().map(Deadline::moment)
    }

    pub(super) fn deadline_timestamp(&self) -> Option<(Time, Origin)> {
        self.has(HAS_DEADLINE_TIMESTAMP).then(|| {
            let at = usize::from(self.has(HAS_DEADLINE)) * DEADLINE_SIZE;
            (Time(self.u64_at(at)), Origin::from_le_bytes(array(&self.0.slice[at + 8..at + 12])))
        })
    }

    /// Whether the cell has a value, no deadline and no counter.
    pub(super) fn is_lasting(&self) -> bool {
        self.header().key_length_and_flags & (HAS_VALUE | HAS_DEADLINE | HAS_COUNTER) == HAS_VALUE
    }

    /// The lives of the register and of the counter's deadline.
    pub(super) fn lives(&self) -> Lives {
        Lives { register: self.parts().life(), expiry: self.expiry().map(|(_, expiry)| expiry) }
    }

    /// Whether the timestamp alone identifies the content.
    pub(super) fn is_plain(&self) -> bool {
        !self.has(HAS_DEADLINE_TIMESTAMP | HAS_COUNTER)
    }

    fn u64_at(&self, at: usize) -> u64 {
        u64::from_le_bytes(array(&self.0.slice[at..at + 8]))
    }

    /// Whether a deadline of the cell passes at exactly this time.
    pub(super) fn has_deadline_at(&self, time: Time) -> bool {
        let is_at = |deadline: Deadline| deadline.moment() == time;
        self.has(HAS_DEADLINE | HAS_COUNTER)
            && (self.deadline().is_some_and(is_at)
                || self.expiry().is_some_and(|(_, expiry)| expiry.deadline.is_some_and(is_at)))
    }

    /// The latest time of all timestamps in the cell; the next local write must exceed it.
    #[inline]
    pub(crate) fn latest(&self) -> Time {
        if self.is_plain() { self.time() } else { self.latest_of_parts() }
    }

    fn latest_of_parts(&self) -> Time {
        let register = self.deadline_timestamp().map_or(self.time(), |(time, _)| time.max(self.time()));
        let register = self.expiry().map_or(register, |(_, expiry)| expiry.set_at.max(register));
        self.slots().fold(register, |latest, (_, slot)| latest.max(slot.last))
    }

    pub(crate) fn parts(&self) -> Parts<'_> {
        Parts {
            time: self.time(),
            origin: self.origin(),
            value: self.value(),
            deadline: self.deadline(),
            deadline_timestamp: self.deadline_timestamp(),
        }
    }

    pub(super) fn register(&self, origins: &Origins) -> Register<'_> {
        self.parts().register(origins)
    }

    /// Whether both are the same allocation, not only cells of the same key.
    pub(super) fn is_same(&self, other: &Cell) -> bool {
        self.0.heap_ptr() == other.0.heap_ptr()
    }

    /// Prefetches the cell's first cache lines.
    pub(super) fn prefetch(&self) {
        const LINE: usize = 64;
        let start: *const u8 = self.0.heap_ptr().cast();
        raw::prefetch(start);
        raw::prefetch(start.wrapping_add(LINE));
        raw::prefetch(start.wrapping_add(2 * LINE));
    }

    /// The bytes that the cell takes: its allocation and its slot in the table.
    pub(crate) fn memory(&self) -> u64 {
        /// Count, header and length before the bytes; then the allocator's header and rounding, and a pointer
        /// and tag in a table that is two thirds full.
        const OVERHEAD: u64 = 8 + 16 + 8 + 8 + 14;
        self.0.slice.len() as u64 + OVERHEAD
    }
}

/// Writes everything but the counter to `scratch`; returns the flags of the parts that are present.
fn lay_out(scratch: &mut Vec<u8>, key: &[u8], parts: &Parts<'_>) -> u32 {
    scratch.clear();
    scratch.reserve(DEADLINE_SIZE + DEADLINE_TIMESTAMP_SIZE + key.len() + parts.value.map_or(0, <[u8]>::len));
    let mut flags = 0;
    if let Some(deadline) = parts.deadline {
        flags |= HAS_DEADLINE;
        scratch.extend_from_slice(&deadline.0.to_le_bytes());
    }
    if let Some((time, origin)) = parts.deadline_timestamp {
        flags |= HAS_DEADLINE_TIMESTAMP;
        scratch.extend_from_slice(&time.0.to_le_bytes());
        scratch.extend_from_slice(&origin.to_le_bytes());
    }
    scratch.extend_from_slice(key);
    if let Some(value) = parts.value {
        flags |= HAS_VALUE;
        scratch.extend_from_slice(value);
    }
    flags
}

/// Copies a slice of `N` bytes to an array.
fn array<const N: usize>(bytes: &[u8]) -> [u8; N] {
    let mut array = [0; N];
    array.copy_from_slice(bytes);
    array
}

impl PartialEq for Cell {
    /// Compares the keys only, because cells are the keys of the map.
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
            deadline_timestamp in proptest::option::of((any::<u64>(), any::<u32>())),
            time: u64,
            origin: u32,
        ) {
            let parts = Parts {
                time: Time(time),
                origin,
                value: value.as_deref(),
                deadline: deadline.map(Deadline),
                deadline_timestamp: deadline_timestamp.map(|(t, o)| (Time(t), o)),
            };
            let cell = Cell::pack(&mut Vec::new(), &key, &parts);
            prop_assert_eq!(cell.key(), &key[..]);
            let back = cell.parts();
            prop_assert_eq!((back.time, back.origin, back.value), (parts.time, parts.origin, parts.value));
            prop_assert_eq!((back.deadline, back.deadline_timestamp), (parts.deadline, parts.deadline_timestamp));
            let origins = Origins::new(crate::model::timestamp::incarnation(1).unwrap());
            let known = Parts { origin: 0, deadline_timestamp: back.deadline_timestamp.map(|(time, _)| (time, 0)), ..back };
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
            time: Time(1),
            origin: 0,
            value: Some(b"secret"),
            deadline: None,
            deadline_timestamp: None,
        };
        let text = format!("{:?}", Cell::pack(&mut Vec::new(), b"k\n", &parts));
        assert!(text.contains("k\\\\n") && !text.contains("secret"), "{text}");
    }
}
