//! The last change of each key: old changes are conflated into these.
//!
//! ```text
//!   evicted ◄── segment ◄── segment ◄── … ◄── a batch of changes that have grown old
//! ```
//!
//! A batch is first conflated by itself, so a key that was written a thousand times is looked up once. The rest
//! becomes the newest segment. A change that a later one of its key replaces leaves a hole in its segment. Holes are
//! closed once they outnumber the records, and neighbours that fit into one segment are joined. So a change costs the
//! same, however many are kept, and no more than two segments in a row are half empty.

use std::collections::VecDeque;

use hashbrown::raw::RawTable;

use super::record::{self, Record, Slot};
use super::{Change, SMALL};
use crate::store::{PREFETCH_AHEAD, raw};

/// Most keys whose last change is kept, in all logs together: some 40 MiB. The store holds most of their cells anyway.
pub(super) const MAX_CONFLATED: usize = if SMALL { 128 } else { 1 << 18 };
/// Most bytes of the cells of conflated changes, in all logs together.
pub(super) const MAX_CONFLATED_BYTES: u64 = 256 << 20;
/// Most changes of a segment that is joined from neighbours: few enough that a search in it stays near in memory,
/// enough that there are some hundred segments at most.
const SEGMENT: usize = if SMALL { 16 } else { 4096 };

/// The size of the conflated changes of all logs.
#[derive(Default)]
pub(super) struct ConflatedTotal {
    pub(super) changes: usize,
    pub(super) bytes: u64,
}

impl ConflatedTotal {
    fn is_over(&self) -> bool {
        self.changes > MAX_CONFLATED || self.bytes > MAX_CONFLATED_BYTES
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

/// The conflated changes of one log.
#[derive(Default)]
pub(super) struct Conflated {
    /// Sorted by sequence, within each segment and from one to the next.
    segments: VecDeque<Segment>,
    /// Key hash and sequence of each record, by key.
    by_key: RawTable<(u64, u64)>,
    batch: Batch,
    /// The size of this log's changes, which is a part of the total.
    share: ConflatedTotal,
}

/// A batch that is about to become a segment. It is empty between two batches, and kept for its memory.
#[derive(Default)]
struct Batch {
    records: Vec<Record>,
    /// Indices into `records`, by key.
    by_key: RawTable<usize>,
}

struct Segment {
    slots: VecDeque<Slot>,
    /// The number of slots that are not holes.
    records: usize,
    /// No slot has a higher sequence; all of the next segment have.
    last: u64,
}

impl Conflated {
    /// Adds old changes, which are later than all here. If it had to evict others, it returns the sequence up to which
    /// every change may be gone.
    pub(super) fn conflate(
        &mut self,
        old: impl Iterator<Item = Record>,
        total: &mut ConflatedTotal,
    ) -> Option<u64> {
        self.batch.conflate(old);
        let mut records = std::mem::take(&mut self.batch.records);
        for n in 0..records.len() {
            if let Some(ahead) = records.get(n + PREFETCH_AHEAD) {
                raw::prefetch_slot(&self.by_key, ahead.key_hash);
            }
            self.index(&mut records[n], total);
        }
        let slots: VecDeque<Slot> = records.drain(..).map(Slot::from).collect();
        self.batch.records = records;
        if let Some(last) = slots.back() {
            self.segments.push_back(Segment { records: slots.len(), last: last.sequence, slots });
        }
        self.join_neighbours();
        self.make_room(total)
    }

    /// Makes `record` the indexed one of its key, and takes out the earlier one.
    fn index(&mut self, record: &mut Record, total: &mut ConflatedTotal) {
        let Conflated { segments, by_key, share, .. } = self;
        let (hash, sequence) = (record.key_hash, record.sequence);
        total.add(record);
        share.add(record);
        let mut place = (0, 0);
        let same_key = |&(other, at): &(u64, u64)| {
            if other != hash {
                return false;
            }
            let n = segments.partition_point(|segment| segment.last < at);
            // A record of the same batch has another key.
            let Some(segment) = segments.get(n) else { return false };
            place = (n, record::place(&segment.slots, at));
            let earlier = segment.slots[place.1].record.as_ref();
            earlier.expect("what is indexed is conflated").cell == record.cell
        };
        let Some((_, at)) = by_key.get_mut(hash, same_key) else {
            by_key.insert(hash, (hash, sequence), |&(hash, _)| hash);
            return;
        };
        *at = sequence;
        let earlier = segments[place.0].take(place.1);
        total.remove(&earlier);
        share.remove(&earlier);
        record.replace(&earlier);
    }

    fn join_neighbours(&mut self) {
        self.segments.retain(|segment| segment.records > 0);
        let mut n = 1;
        while n < self.segments.len() {
            if self.segments[n - 1].records + self.segments[n].records > SEGMENT {
                n += 1;
            } else if let Some(next) = self.segments.remove(n) {
                self.segments[n - 1].append(next);
            }
        }
    }

    fn make_room(&mut self, total: &mut ConflatedTotal) -> Option<u64> {
        let mut gone = None;
        while total.is_over() {
            let Some(oldest) = self.segments.front_mut() else { break };
            if let Some(Slot { record: Some(ahead), .. }) = oldest.slots.get(PREFETCH_AHEAD) {
                raw::prefetch_slot(&self.by_key, ahead.key_hash);
                ahead.cell.prefetch();
            }
            match oldest.slots.pop_front() {
                None => _ = self.segments.pop_front(),
                Some(Slot { record: None, .. }) => {}
                Some(Slot { sequence, record: Some(record) }) => {
                    oldest.records -= 1;
                    total.remove(&record);
                    self.share.remove(&record);
                    self.by_key.remove_entry(record.key_hash, |&(_, at)| at == sequence);
                    gone = Some(sequence);
                }
            }
        }
        gone
    }

    /// The changes after `from`, in order, for a reader that has read up to there, and the bytes of their cells.
    pub(super) fn after(&self, from: u64) -> impl Iterator<Item = (Change, u64)> {
        let first = self.segments.partition_point(|segment| segment.last <= from);
        let records =
            self.segments.range(first..).flat_map(move |segment| record::after(&segment.slots, from));
        records.map(move |record| (record.change(from), record.bytes.into()))
    }

    /// Frees the oldest segment of a log that has ended; returns whether there was one.
    pub(super) fn free_segment(&mut self) -> bool {
        self.segments.pop_front().is_some()
    }

    /// Subtracts this log's size from the total, because the log ends.
    pub(super) fn leave(&self, total: &mut ConflatedTotal) {
        total.changes -= self.share.changes;
        total.bytes -= self.share.bytes;
    }
}

impl Batch {
    /// Fills `records` with the last record of each key, sorted by sequence.
    fn conflate(&mut self, old: impl Iterator<Item = Record>) {
        let Batch { records, by_key } = self;
        by_key.clear();
        for mut record in old {
            let hash = record.key_hash;
            let same_key =
                |&place: &usize| records[place].key_hash == hash && records[place].cell == record.cell;
            if let Some(&place) = by_key.get(hash, same_key) {
                record.replace(&records[place]);
                records[place] = record;
            } else {
                by_key.insert(hash, records.len(), |&place| records[place].key_hash);
                records.push(record);
            }
        }
        records.sort_unstable_by_key(|record| record.sequence);
    }
}

impl Segment {
    /// Takes the record out of a slot and leaves a hole.
    fn take(&mut self, place: usize) -> Record {
        let record = self.slots[place].record.take().expect("what is indexed is conflated");
        self.records -= 1;
        if 2 * self.records < self.slots.len() {
            self.slots.retain(|slot| slot.record.is_some());
        }
        record
    }

    /// Appends the records of the next segment.
    fn append(&mut self, next: Segment) {
        self.records += next.records;
        self.last = next.last;
        self.slots.extend(next.slots.into_iter().filter(|slot| slot.record.is_some()));
    }
}

#[cfg(test)]
impl Conflated {
    /// The number of records. Panics if the sums and the index do not match the records.
    pub(super) fn checked_len(&self) -> usize {
        let mut before = 0;
        for segment in &self.segments {
            for slot in &segment.slots {
                assert!(before < slot.sequence && slot.sequence <= segment.last);
                before = slot.sequence;
            }
            assert!(segment.slots.iter().filter(|slot| slot.record.is_some()).count() == segment.records);
            assert!(segment.slots.len() <= 2 * segment.records + 1);
        }
        let records =
            self.segments.iter().flat_map(|segment| &segment.slots).filter_map(|slot| slot.record.as_ref());
        let (changes, bytes) =
            records.fold((0, 0), |(n, bytes), record| (n + 1, bytes + u64::from(record.bytes)));
        assert_eq!((self.share.changes, self.share.bytes), (changes, bytes));
        let pairs = self.segments.iter().zip(self.segments.iter().skip(1));
        assert!(pairs.into_iter().all(|(one, next)| one.last < next.last));
        let records = self.segments.iter().map(|segment| segment.records).sum();
        assert_eq!(self.by_key.len(), records);
        assert!(self.segments.len() <= 2 * records / SEGMENT + 2);
        records
    }
}
