//! The last change of each key: what changes become when they grow old.
//!
//! ```text
//!   evicted ◄── segment ◄── segment ◄── … ◄── a batch of changes that have grown old
//! ```
//!
//! A batch is conflated by itself before anything else is looked at: so a key that was written a thousand times is looked
//! up once. What is left of it is the newest segment. A change that a later one of its key replaces leaves a hole in its
//! segment. Holes are closed once there are more of them than of anything else, and neighbours that fit into one segment
//! become one: so a change costs the same, however many are kept, and no more than two segments in a row are half empty.

use std::collections::VecDeque;

use hashbrown::raw::RawTable;

use super::log::Record;
use super::{Change, SMALL};
use crate::store::{PREFETCH_AHEAD, raw};

/// Keys whose last change is kept, in all logs together: some 40 MiB. The cells are mostly those that the store holds
/// anyway.
pub(super) const MAX_SETTLED: usize = if SMALL { 128 } else { 1 << 18 };
/// Bytes of cells that the settled changes of all logs may hold.
pub(super) const MAX_SETTLED_BYTES: u64 = 256 << 20;
/// Changes up to which neighbours become one segment: few enough that a search in one stays near, enough that there are
/// some hundred segments at most.
const SEGMENT: usize = if SMALL { 16 } else { 4096 };

/// What the settled changes of all logs take.
#[derive(Default)]
pub(super) struct SettledTotal {
    pub(super) changes: usize,
    pub(super) bytes: u64,
}

impl SettledTotal {
    fn is_over(&self) -> bool {
        self.changes > MAX_SETTLED || self.bytes > MAX_SETTLED_BYTES
    }

    fn add(&mut self, record: &Record) {
        self.changes += 1;
        self.bytes += u64::from(record.bytes);
    }

    fn remove(&mut self, record: &Record) {
        self.changes -= 1;
        self.bytes -= u64::from(record.bytes);
    }
}

/// The settled changes of one log.
#[derive(Default)]
pub(super) struct Settled {
    /// By sequence, within each and from one to the next.
    segments: VecDeque<Segment>,
    /// Key hash and sequence of each entry, by key.
    by_key: RawTable<(u64, u64)>,
    batch: Batch,
}

/// A batch on its way to become a segment. Empty between two, and kept for its memory.
#[derive(Default)]
struct Batch {
    entries: Vec<Entry>,
    /// Places in `entries` by key.
    by_key: RawTable<usize>,
}

struct Segment {
    slots: VecDeque<Slot>,
    /// How many slots are no holes.
    entries: usize,
    /// No slot is above it; all of the next segment are.
    last: u64,
}

struct Slot {
    sequence: u64,
    entry: Option<Entry>,
}

/// The last change of a key, and what it has replaced.
struct Entry {
    record: Record,
    /// Earlier changes of the key that this one replaced: how many, and the sequences of the first and the last.
    replaced: u32,
    first_replaced: u64,
    last_replaced: u64,
}

impl Entry {
    fn new(record: Record) -> Entry {
        Entry { record, replaced: 0, first_replaced: 0, last_replaced: 0 }
    }

    /// Takes the place of the change before it of the same key.
    fn replace(&mut self, earlier: &Entry) {
        let sequence = earlier.record.sequence;
        self.record.cause = self.record.cause.after(earlier.record.cause);
        self.record.was_live = earlier.record.was_live;
        if self.replaced == 0 {
            self.last_replaced = sequence;
        }
        self.first_replaced = if earlier.replaced > 0 { earlier.first_replaced } else { sequence };
        self.replaced = self.replaced.saturating_add(earlier.replaced).saturating_add(1);
    }

    /// How many of the replaced changes a reader that has read up to `from` will not see; never too many.
    fn unseen_since(&self, from: u64) -> u64 {
        if self.replaced == 0 || from >= self.last_replaced {
            0
        } else if from < self.first_replaced {
            u64::from(self.replaced)
        } else {
            1
        }
    }
}

impl Settled {
    /// Takes in the first `count` of the recent changes, which are later than all here. If others had to make room, every
    /// change up to the returned sequence may be gone.
    pub(super) fn settle(
        &mut self,
        recent: &mut VecDeque<Record>,
        count: usize,
        total: &mut SettledTotal,
    ) -> Option<u64> {
        self.batch.conflate(recent, count);
        let mut entries = std::mem::take(&mut self.batch.entries);
        for n in 0..entries.len() {
            if let Some(ahead) = entries.get(n + PREFETCH_AHEAD) {
                raw::prefetch_slot(&self.by_key, ahead.record.key_hash);
            }
            self.index(&mut entries[n], total);
        }
        let slot = |entry: Entry| Slot { sequence: entry.record.sequence, entry: Some(entry) };
        let slots: VecDeque<Slot> = entries.drain(..).map(slot).collect();
        self.batch.entries = entries;
        if let Some(last) = slots.back() {
            self.segments.push_back(Segment { entries: slots.len(), last: last.sequence, slots });
        }
        self.join_neighbours();
        self.make_room(total)
    }

    /// Makes `entry` the one that its key finds.
    fn index(&mut self, entry: &mut Entry, total: &mut SettledTotal) {
        let Settled { segments, by_key, .. } = self;
        let (hash, sequence) = (entry.record.key_hash, entry.record.sequence);
        total.add(&entry.record);
        let mut place = (0, 0);
        let same_key = |&(other, at): &(u64, u64)| {
            if other != hash {
                return false;
            }
            let n = segments.partition_point(|segment| segment.last < at);
            // One of the same batch is of another key.
            let Some(segment) = segments.get(n) else { return false };
            place = (n, segment.place(at));
            let earlier = segment.slots[place.1].entry.as_ref();
            earlier.expect("what is indexed is settled").record.cell == entry.record.cell
        };
        let Some((_, at)) = by_key.get_mut(hash, same_key) else {
            by_key.insert(hash, (hash, sequence), |&(hash, _)| hash);
            return;
        };
        *at = sequence;
        let earlier = segments[place.0].take(place.1);
        total.remove(&earlier.record);
        entry.replace(&earlier);
    }

    fn join_neighbours(&mut self) {
        self.segments.retain(|segment| segment.entries > 0);
        let mut n = 1;
        while n < self.segments.len() {
            if self.segments[n - 1].entries + self.segments[n].entries > SEGMENT {
                n += 1;
            } else if let Some(next) = self.segments.remove(n) {
                self.segments[n - 1].append(next);
            }
        }
    }

    fn make_room(&mut self, total: &mut SettledTotal) -> Option<u64> {
        let mut gone = None;
        while total.is_over() {
            let Some(oldest) = self.segments.front_mut() else { break };
            if let Some(Slot { entry: Some(ahead), .. }) = oldest.slots.get(PREFETCH_AHEAD) {
                raw::prefetch_slot(&self.by_key, ahead.record.key_hash);
                ahead.record.cell.prefetch();
            }
            match oldest.slots.pop_front() {
                None => _ = self.segments.pop_front(),
                Some(Slot { entry: None, .. }) => {}
                Some(Slot { sequence, entry: Some(entry) }) => {
                    oldest.entries -= 1;
                    total.remove(&entry.record);
                    self.by_key.remove_entry(entry.record.key_hash, |&(_, at)| at == sequence);
                    gone = Some(sequence);
                }
            }
        }
        gone
    }

    /// The changes after `from`, in order, as they are to be told to a reader that has read up to there, and the bytes of
    /// their cells.
    pub(super) fn after(&self, from: u64) -> impl Iterator<Item = (Change, u64)> {
        let first = self.segments.partition_point(|segment| segment.last <= from);
        let entries = self.segments.range(first..).flat_map(move |segment| {
            let slots = segment.slots.range(segment.place(from.saturating_add(1))..);
            slots.filter_map(|slot| slot.entry.as_ref())
        });
        entries.map(move |entry| (entry.record.change(entry.unseen_since(from)), entry.record.bytes.into()))
    }

    /// Takes everything here off the total, as it is about to be forgotten.
    pub(super) fn leave(&self, total: &mut SettledTotal) {
        let slots = self.segments.iter().flat_map(|segment| &segment.slots);
        slots.filter_map(|slot| slot.entry.as_ref()).for_each(|entry| total.remove(&entry.record));
    }
}

impl Batch {
    /// Fills the entries, one a key, by sequence.
    fn conflate(&mut self, recent: &mut VecDeque<Record>, count: usize) {
        let Batch { entries, by_key } = self;
        by_key.clear();
        by_key.reserve(count, |_| unreachable!("it is empty"));
        for _ in 0..count {
            let Some(record) = recent.pop_front() else { break };
            if let Some(ahead) = recent.get(PREFETCH_AHEAD) {
                ahead.cell.prefetch();
            }
            let hash = record.key_hash;
            let same_key = |&place: &usize| {
                let other: &Entry = &entries[place];
                other.record.key_hash == hash && other.record.cell == record.cell
            };
            if let Some(&place) = by_key.get(hash, same_key) {
                let earlier = std::mem::replace(&mut entries[place], Entry::new(record));
                entries[place].replace(&earlier);
            } else {
                by_key.insert(hash, entries.len(), |&place| entries[place].record.key_hash);
                entries.push(Entry::new(record));
            }
        }
        entries.sort_unstable_by_key(|entry| entry.record.sequence);
    }
}

impl Segment {
    /// The place of the first slot that is not below `sequence`.
    fn place(&self, sequence: u64) -> usize {
        self.slots.partition_point(|slot| slot.sequence < sequence)
    }

    /// Takes the entry of a slot out, leaving a hole.
    fn take(&mut self, place: usize) -> Entry {
        let entry = self.slots[place].entry.take().expect("what is indexed is settled");
        self.entries -= 1;
        if 2 * self.entries < self.slots.len() {
            self.slots.retain(|slot| slot.entry.is_some());
        }
        entry
    }

    /// Appends the entries of the next segment.
    fn append(&mut self, next: Segment) {
        self.entries += next.entries;
        self.last = next.last;
        self.slots.extend(next.slots.into_iter().filter(|slot| slot.entry.is_some()));
    }
}

#[cfg(test)]
impl Settled {
    /// How many entries there are; panics unless all that is kept agrees.
    pub(super) fn checked_len(&self) -> usize {
        let mut before = 0;
        for segment in &self.segments {
            for slot in &segment.slots {
                assert!(before < slot.sequence && slot.sequence <= segment.last);
                before = slot.sequence;
            }
            assert!(segment.slots.iter().filter(|slot| slot.entry.is_some()).count() == segment.entries);
            assert!(segment.slots.len() <= 2 * segment.entries + 1);
        }
        let pairs = self.segments.iter().zip(self.segments.iter().skip(1));
        assert!(pairs.into_iter().all(|(one, next)| one.last < next.last));
        let entries = self.segments.iter().map(|segment| segment.entries).sum();
        assert_eq!(self.by_key.len(), entries);
        assert!(self.segments.len() <= 2 * entries / SEGMENT + 2);
        entries
    }
}
