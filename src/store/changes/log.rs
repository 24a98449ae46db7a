//! The log of the changes under one prefix: recent changes one by one, older ones conflated by key.
//!
//! ```text
//!   evicted ◄── conflated: the last change of each key, by sequence ◄── recent: every change ◄── a writer
//!      │                                                   a batch at a time
//!      └─► a reader behind the oldest must read the state instead
//! ```
//!
//! An old change replaces the conflated one of its key. So even the slowest reader finds at most one old change of
//! each key, and lags only if more keys have changed than are kept.
//!
//! A writer only appends to the [recent](Recent) changes. When there are too many, the older half of them is
//! conflated. So recording a change costs one reference count, one push, and a share of a batch that takes well under
//! 1 ms.

use super::conflated::{Conflated, ConflatedTotal};
use super::recent::Recent;
use super::record::Record;
use super::{Change, ReadLimit, SMALL};
use crate::ablation::{Ablation, ablated};
use crate::store::Cell;

/// Most changes that are kept one by one; beyond it the older half is conflated. Few enough that their cells are still
/// in the processor's cache then, and that a reader which is behind finds few outdated changes; many enough that keys
/// which are written again and again occur more than once in a batch.
pub(crate) const MAX_RECENT: usize = if SMALL { 64 } else { 4096 };
/// The number of changes that stay one by one when others are conflated: about what a pipelining writer makes in 5 ms,
/// so that a reader that keeps up sees every change.
pub(super) const KEPT_RECENT: usize = MAX_RECENT / 2;
/// Most bytes of cells that recent changes may keep from being freed; beyond it half of the changes are conflated.
pub(super) const MAX_RECENT_BYTES: u64 = 8 << 20;

/// The changes under one prefix.
pub(super) struct Log {
    recent: Recent,
    /// Every sequence in it is below those in `recent`.
    conflated: Conflated,
    /// Every change up to this sequence may be gone.
    oldest: u64,
    /// The sequence of the last change, or `oldest` if there was none.
    last: u64,
}

/// The error that the reader has fallen behind the [oldest](Log::oldest) change.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct BehindOldest;

impl Log {
    /// Creates an empty log of the changes after `oldest`.
    pub(super) fn new(oldest: u64) -> Self {
        Log { recent: Recent::default(), conflated: Conflated::default(), oldest, last: oldest }
    }

    /// The sequence of the last change, or [`oldest`](Self::oldest) if there was none.
    pub(super) fn last(&self) -> u64 {
        self.last
    }

    /// The sequence up to which every change may be gone.
    pub(super) fn oldest(&self) -> u64 {
        self.oldest
    }

    /// Appends the change that replaced the cell `old`; its sequence is above all others here.
    pub(super) fn push(&mut self, record: Record, old: Option<&Cell>, total: &mut ConflatedTotal) {
        debug_assert!(record.sequence > self.last, "sequences rise");
        if self.recent.len() >= MAX_RECENT || self.recent.bytes() + u64::from(record.bytes) > MAX_RECENT_BYTES
        {
            self.conflate(total);
        }
        self.last = record.sequence;
        self.recent.push(record, old);
    }

    /// Conflates the older half of the recent changes.
    #[cold]
    fn conflate(&mut self, total: &mut ConflatedTotal) {
        let old = self.recent.drain(KEPT_RECENT, MAX_RECENT_BYTES / 2);
        if let Some(gone) = self.conflated.conflate(old, total) {
            self.oldest = gone;
        }
    }

    /// Appends changes after `from` to `into`.
    pub(super) fn read(
        &mut self,
        from: u64,
        mut room: ReadLimit,
        into: &mut Vec<Change>,
    ) -> Result<(), BehindOldest> {
        if from < self.oldest && !ablated(Ablation::ToldOfLag) {
            return Err(BehindOldest);
        }
        let conflated = self.conflated.after(from).take_while(|(_, bytes)| room.admits(*bytes));
        into.extend(conflated.map(|(change, _)| change));
        let recent = self.recent.after(from).take_while(|record| room.admits(record.bytes.into()));
        into.extend(recent.map(|record| record.change(from)));
        if let Some(last) = into.last() {
            self.recent.note_read(last.sequence);
        }
        Ok(())
    }

    /// Calls `outdated` with the index of each change that a later one of its key follows; `changes` are sorted by
    /// hash.
    pub(super) fn find_outdated(&self, changes: &[Change], mut outdated: impl FnMut(usize)) {
        // A conflated change is the last conflated one of its key, so only a recent one can be later.
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

    /// Restarts the log after `oldest`; returns the log that has ended.
    pub(super) fn renew(&mut self, oldest: u64, total: &mut ConflatedTotal) -> Log {
        self.conflated.leave(total);
        std::mem::replace(self, Log::new(oldest))
    }

    /// Frees some of the changes of a log that has ended; returns whether any was conflated.
    pub(super) fn free_oldest(&mut self) -> bool {
        self.conflated.free_segment()
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use crate::model::Time;
    use proptest::prelude::*;

    use super::super::Cause;
    use super::super::conflated::{MAX_CONFLATED, MAX_CONFLATED_BYTES};
    use super::super::recent::BEHIND;
    use super::*;
    use crate::store::Parts;

    fn change(sequence: u64, key: u64) -> Record {
        let parts = Parts {
            time: Time(sequence),
            origin: 0,
            value: Some(b"v"),
            deadline: None,
            deadline_timestamp: None,
        };
        let cell = Cell::pack(&mut Vec::new(), &key.to_le_bytes(), &parts);
        // Few hashes, so that they collide.
        Record::new(sequence, cell, key % 7, Cause::Set, (true, false))
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
        let (mut log, mut total) = (Log::new(10), ConflatedTotal::default());
        let max = MAX_RECENT as u64;
        (11..=10 + max).for_each(|n| log.push(change(n, n % 3), None, &mut total));
        assert_eq!(sequences(&mut log, 10), ((11..=10 + max).collect(), 0));
        // One too many: those up to here are conflated, and of these the last three stay.
        let conflated = 10 + max - KEPT_RECENT as u64;
        log.push(change(11 + max, (11 + max) % 3), None, &mut total);
        let expected: Vec<u64> = (conflated - 2..=11 + max).collect();
        assert_eq!(
            sequences(&mut log, 10),
            (expected.clone(), conflated - 10 - 3),
            "all but three were replaced"
        );
        assert_eq!(sequences(&mut log, 13), (expected, 3), "where some were seen, one a key is sure");
        assert_eq!(sequences(&mut log, conflated - 1).1, 0);
        assert_eq!((total.changes, log.conflated.checked_len()), (3, 3));
        // What is conflated later replaces what was conflated before.
        (12 + max..11 + 2 * max).for_each(|n| log.push(change(n, n % 3), None, &mut total));
        let (changes, skipped) = sequences(&mut log, 10);
        assert_eq!(changes.len() as u64 + skipped, 2 * max);
        assert_eq!((total.changes, log.conflated.checked_len()), (3, 3));
    }

    #[test]
    fn a_reader_behind_the_oldest_change_gets_an_error() {
        let (mut log, mut total) = (Log::new(10), ConflatedTotal::default());
        assert_eq!(log.read(9, ALL, &mut Vec::new()), Err(BehindOldest));
        log.push(change(11, 1), None, &mut total);
        assert_eq!(sequences(&mut log, 10).0, [11]);
        drop(log.renew(12, &mut total));
        assert_eq!(log.read(11, ALL, &mut Vec::new()), Err(BehindOldest));
        assert_eq!((log.last(), total.changes, total.bytes), (12, 0, 0));
    }

    #[test]
    fn the_conflated_changes_of_all_logs_share_one_limit() {
        let mut total = ConflatedTotal { changes: MAX_CONFLATED - 5, bytes: 0 };
        let mut log = Log::new(0);
        let conflated = (MAX_RECENT - KEPT_RECENT) as u64;
        (1..=MAX_RECENT as u64 + 1).for_each(|n| log.push(change(n, n), None, &mut total));
        assert_eq!((total.changes, log.conflated.checked_len()), (MAX_CONFLATED, 5));
        assert_eq!(log.oldest(), conflated - 5);
        assert_eq!(log.read(log.oldest() - 1, ALL, &mut Vec::new()), Err(BehindOldest));
        let oldest = log.oldest();
        assert_eq!(sequences(&mut log, oldest).0.len(), 5 + KEPT_RECENT + 1);
        total = ConflatedTotal { changes: 5, bytes: 2 * MAX_CONFLATED_BYTES };
        (0..MAX_RECENT as u64).for_each(|n| log.push(change(MAX_RECENT as u64 + 2 + n, 1), None, &mut total));
        assert_eq!(log.conflated.checked_len(), 0);
    }

    #[test]
    fn while_every_reader_is_behind_a_change_replaces_the_one_before_at_once() {
        let (mut log, mut total) = (Log::new(0), ConflatedTotal::default());
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
    fn large_cells_are_conflated_sooner() {
        let (mut log, mut total) = (Log::new(0), ConflatedTotal::default());
        let value = vec![0; 3 << 20];
        for n in 1..=4 {
            let small = change(n, 1);
            let parts = Parts { value: Some(&value), ..small.cell.parts() };
            let cell = Cell::pack(&mut Vec::new(), small.cell.key(), &parts);
            log.push(Record::new(n, cell, 1, Cause::Set, (true, false)), None, &mut total);
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
            let (mut log, mut total) = (Log::new(0), ConflatedTotal::default());
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
                log.conflated.checked_len();
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
