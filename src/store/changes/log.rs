//! The changes under one prefix: the latest of them one by one, the older ones one a key.
//!
//! ```text
//!   evicted ◄── settled: the last change of each key, by sequence ◄── recent: every change ◄── a writer
//!      │                                                   a batch at a time
//!      └─► what lags behind the floor must look at the state itself
//! ```
//!
//! A change that grows old replaces the settled one of its key. So a reader that is slow, however slow, finds no more
//! than one change a key, and falls off only when more keys have changed than are kept.
//!
//! A writer appends to the [recent](Recent) changes and does little else, until they are so many that half of them settle.
//! That is what recording costs: one reference counted, one push, and a share of a batch that takes well under a
//! millisecond.

use super::recent::Recent;
use super::record::Record;
use super::settled::{Settled, SettledTotal};
use super::{Change, ReadLimit, SMALL};
use crate::ablation::{Ablation, ablated};
use crate::store::Cell;

/// Changes that are kept one by one at most: then the older half settles. Few enough that their cells are still in the
/// processor's cache when they do, and that a reader which is behind finds little that is not the last of its key; many
/// enough that keys which are written again and again are more than once in a batch.
pub(in crate::store) const MAX_RECENT: usize = if SMALL { 64 } else { 4096 };
/// Changes that stay one by one when others settle: about what a pipelining writer makes in five milliseconds, so that
/// whoever keeps up sees every change.
pub(super) const KEPT_RECENT: usize = MAX_RECENT / 2;
/// Bytes of cells that the recent changes may hold back from being freed: then, too, half of them settle.
pub(super) const MAX_RECENT_BYTES: u64 = 8 << 20;

/// The changes under one prefix.
pub(super) struct Log {
    recent: Recent,
    /// Every sequence here is below those in `recent`.
    settled: Settled,
    /// Every change up to here may be gone.
    floor: u64,
    /// The sequence of the last change, or the floor.
    last: u64,
}

/// The reader has fallen behind the [floor](Log::floor).
#[derive(Debug, PartialEq, Eq)]
pub(super) struct BehindFloor;

impl Log {
    /// An empty log that knows of every change after `floor`.
    pub(super) fn new(floor: u64) -> Self {
        Log { recent: Recent::default(), settled: Settled::default(), floor, last: floor }
    }

    /// The sequence of the last change; of the floor if there was none.
    pub(super) fn last(&self) -> u64 {
        self.last
    }

    /// Every change up to here may be gone.
    pub(super) fn floor(&self) -> u64 {
        self.floor
    }

    /// Appends the change that made the cell of `old`; its sequence is above all others here.
    pub(super) fn push(&mut self, record: Record, old: Option<&Cell>, total: &mut SettledTotal) {
        debug_assert!(record.sequence > self.last, "sequences rise");
        if self.recent.len() >= MAX_RECENT || self.recent.bytes() + u64::from(record.bytes) > MAX_RECENT_BYTES
        {
            self.settle(total);
        }
        self.last = record.sequence;
        self.recent.push(record, old);
    }

    /// Settles the older half of the recent changes.
    #[cold]
    fn settle(&mut self, total: &mut SettledTotal) {
        let old = self.recent.drain(KEPT_RECENT, MAX_RECENT_BYTES / 2);
        if let Some(gone) = self.settled.settle(old, total) {
            self.floor = gone;
        }
    }

    /// Appends changes after `from` to `into`.
    pub(super) fn read(
        &mut self,
        from: u64,
        mut room: ReadLimit,
        into: &mut Vec<Change>,
    ) -> Result<(), BehindFloor> {
        if from < self.floor && !ablated(Ablation::ToldOfLag) {
            return Err(BehindFloor);
        }
        let settled = self.settled.after(from).take_while(|(_, bytes)| room.admits(*bytes));
        into.extend(settled.map(|(change, _)| change));
        let recent = self.recent.after(from).take_while(|record| room.admits(record.bytes.into()));
        into.extend(recent.map(|record| record.change(from)));
        if let Some(last) = into.last() {
            self.recent.note_read(last.sequence);
        }
        Ok(())
    }

    /// Tells the places of those `changes`, sorted by key hash, that a later change of their key follows.
    pub(super) fn find_outdated(&self, changes: &[Change], mut outdated: impl FnMut(usize)) {
        // What has settled is the last of its key that has: a later one is recent.
        for recent in self.recent.after(0) {
            let first = changes.partition_point(|change| change.key_hash < recent.key_hash);
            for (n, change) in changes[first..].iter().enumerate() {
                if change.key_hash != recent.key_hash {
                    break;
                }
                if change.sequence < recent.sequence && change.cell == recent.cell {
                    outdated(first + n);
                }
            }
        }
    }

    /// Begins anew after `floor`; returns the log that has ended.
    pub(super) fn renew(&mut self, floor: u64, total: &mut SettledTotal) -> Log {
        self.settled.leave(total);
        std::mem::replace(self, Log::new(floor))
    }

    /// Frees some of the changes of a log that has ended; returns whether there were any that had settled.
    pub(super) fn free_oldest(&mut self) -> bool {
        self.settled.free_segment()
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;
    use uhlc::NTP64;

    use super::super::Cause;
    use super::super::recent::BEHIND;
    use super::super::settled::{MAX_SETTLED, MAX_SETTLED_BYTES};
    use super::*;
    use crate::store::Parts;

    fn change(sequence: u64, key: u64) -> Record {
        let parts = Parts {
            time: NTP64(sequence),
            origin: 0,
            value: Some(b"v"),
            deadline: None,
            deadline_timestamp: None,
        };
        let cell = Cell::pack(&mut Vec::new(), &key.to_le_bytes(), &parts);
        // Few hashes, so that they collide.
        Record::new(sequence, cell, key % 7, Cause::Set, true)
    }

    const ALL: ReadLimit = ReadLimit { changes: usize::MAX, bytes: u64::MAX };

    fn sequences(log: &mut Log, from: u64) -> (Vec<u64>, u64) {
        let mut changes = Vec::new();
        log.read(from, ALL, &mut changes).unwrap();
        let skipped = changes.iter().map(|change| change.skipped).sum();
        (changes.iter().map(|change| change.sequence).collect(), skipped)
    }

    #[test]
    fn who_keeps_up_sees_every_change_and_who_does_not_the_last_of_each_key() {
        let (mut log, mut total) = (Log::new(10), SettledTotal::default());
        let max = MAX_RECENT as u64;
        (11..=10 + max).for_each(|n| log.push(change(n, n % 3), None, &mut total));
        assert_eq!(sequences(&mut log, 10), ((11..=10 + max).collect(), 0));
        // One too many: those up to here settle, and of these the last three stay.
        let settled = 10 + max - KEPT_RECENT as u64;
        log.push(change(11 + max, (11 + max) % 3), None, &mut total);
        let expected: Vec<u64> = (settled - 2..=11 + max).collect();
        assert_eq!(
            sequences(&mut log, 10),
            (expected.clone(), settled - 10 - 3),
            "all but three were replaced"
        );
        assert_eq!(sequences(&mut log, 13), (expected, 3), "where some were seen, one a key is sure");
        assert_eq!(sequences(&mut log, settled - 1).1, 0);
        assert_eq!((total.changes, log.settled.checked_len()), (3, 3));
        // What settles later replaces what has settled before.
        (12 + max..11 + 2 * max).for_each(|n| log.push(change(n, n % 3), None, &mut total));
        let (changes, skipped) = sequences(&mut log, 10);
        assert_eq!(changes.len() as u64 + skipped, 2 * max);
        assert_eq!((total.changes, log.settled.checked_len()), (3, 3));
    }

    #[test]
    fn a_reader_behind_the_floor_is_told() {
        let (mut log, mut total) = (Log::new(10), SettledTotal::default());
        assert_eq!(log.read(9, ALL, &mut Vec::new()), Err(BehindFloor));
        log.push(change(11, 1), None, &mut total);
        assert_eq!(sequences(&mut log, 10).0, [11]);
        drop(log.renew(12, &mut total));
        assert_eq!(log.read(11, ALL, &mut Vec::new()), Err(BehindFloor));
        assert_eq!((log.last(), total.changes, total.bytes), (12, 0, 0));
    }

    #[test]
    fn the_settled_changes_of_all_logs_share_one_limit() {
        let mut total = SettledTotal { changes: MAX_SETTLED - 5, bytes: 0 };
        let mut log = Log::new(0);
        let settled = (MAX_RECENT - KEPT_RECENT) as u64;
        (1..=MAX_RECENT as u64 + 1).for_each(|n| log.push(change(n, n), None, &mut total));
        assert_eq!((total.changes, log.settled.checked_len()), (MAX_SETTLED, 5));
        assert_eq!(log.floor(), settled - 5);
        assert_eq!(log.read(log.floor() - 1, ALL, &mut Vec::new()), Err(BehindFloor));
        let floor = log.floor();
        assert_eq!(sequences(&mut log, floor).0.len(), 5 + KEPT_RECENT + 1);
        total = SettledTotal { changes: 5, bytes: 2 * MAX_SETTLED_BYTES };
        (0..MAX_RECENT as u64).for_each(|n| log.push(change(MAX_RECENT as u64 + 2 + n, 1), None, &mut total));
        assert_eq!(log.settled.checked_len(), 0);
    }

    #[test]
    fn while_every_reader_is_behind_a_change_replaces_the_one_before_at_once() {
        let (mut log, mut total) = (Log::new(0), SettledTotal::default());
        let mut old = None;
        let mut push = |log: &mut Log, n| {
            let record = change(n, 1);
            let next = record.cell.clone();
            log.push(record, old.replace(next).as_ref(), &mut total);
        };
        let behind = BEHIND as u64;
        (1..=behind + 1).for_each(|n| push(&mut log, n));
        assert_eq!(sequences(&mut log, 0), ((1..=behind + 1).collect(), 0), "and now a reader has read them");
        (behind + 2..=2 * behind + 2).for_each(|n| push(&mut log, n));
        assert_eq!(
            log.recent.after(behind + 1).count(),
            BEHIND + 1,
            "which its next changes have not forgotten"
        );
        for n in 2 * behind + 3..=2 * behind + 9 {
            push(&mut log, n);
        }
        let mut seen: Vec<u64> = (behind + 2..=2 * behind + 2).collect();
        seen.push(2 * behind + 9);
        assert_eq!(sequences(&mut log, behind + 1), (seen, 6));
        assert_eq!(sequences(&mut log, 2 * behind + 5), (vec![2 * behind + 9], 1), "no more than is sure");
        assert_eq!(log.recent.bytes(), u64::from(change(1, 1).bytes) * (2 * behind + 3));
    }

    #[test]
    fn large_cells_settle_sooner() {
        let (mut log, mut total) = (Log::new(0), SettledTotal::default());
        let value = vec![0; 3 << 20];
        for n in 1..=4 {
            let small = change(n, 1);
            let parts = Parts { value: Some(&value), ..small.cell.parts() };
            let cell = Cell::pack(&mut Vec::new(), small.cell.key(), &parts);
            log.push(Record::new(n, cell, 1, Cause::Set, true), None, &mut total);
        }
        assert_eq!((log.recent.len(), total.changes), (2, 1));
        assert_eq!(sequences(&mut log, 0), (vec![2, 3, 4], 1));
    }

    proptest! {
        #[test]
        fn whatever_is_read_the_last_change_of_each_key_is_read_last(
            keys in proptest::collection::vec(0..40u64, 1..200),
            quiet in 0..3 * MAX_RECENT as u64,
            steps in proptest::collection::vec((0..60usize, 1..20usize), 0..30),
        ) {
            let (mut log, mut total) = (Log::new(0), SettledTotal::default());
            let mut from = 0;
            let mut seen = BTreeMap::new();
            let mut last = BTreeMap::new();
            let mut pushed = 0;
            let mut cells = BTreeMap::new();
            let mut push = |log: &mut Log, key| {
                pushed += 1;
                last.insert(key, pushed);
                let record = change(pushed, key);
                let old = cells.insert(key, record.cell.clone());
                log.push(record, old.as_ref(), &mut total);
            };
            let mut read = |log: &mut Log, max| {
                log.settled.checked_len();
                let mut changes = Vec::new();
                log.read(from, ReadLimit { changes: max, bytes: 500 }, &mut changes).unwrap();
                for change in &changes {
                    assert!(change.sequence > from);
                    from = change.sequence;
                    seen.insert(u64::from_le_bytes(change.cell.key().try_into().unwrap()), change.sequence);
                }
                changes.len()
            };
            let mut keys = keys.into_iter();
            for (writes, max) in steps {
                keys.by_ref().take(writes).for_each(|key| push(&mut log, key));
                read(&mut log, max);
            }
            (0..quiet).for_each(|n| push(&mut log, 100 + n % 5));
            keys.for_each(|key| push(&mut log, key));
            while read(&mut log, 50) > 0 {}
            prop_assert_eq!(seen, last);
        }
    }
}
