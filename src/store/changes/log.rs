//! The changes under one prefix: the latest of them one by one, the older ones one a key.
//!
//! ```text
//!   evicted ◄── settled: the last change of each key, by sequence ◄── recent: every change ◄── a writer
//!      │
//!      └─► what lags behind the floor must look at the state itself
//! ```
//!
//! A change that grows old replaces the settled one of its key. So a reader that is slow, however slow, finds no more
//! than one change a key, and falls off only when more keys have changed than are kept.

use std::collections::{BTreeMap, VecDeque};

use hashbrown::raw::RawTable;

use super::{Change, ReadLimit};
use crate::ablation::{Ablation, ablated};
use crate::store::Cell;

/// Limits on numbers are small in tests, so that random histories reach them.
const SMALL: bool = cfg!(test);
/// Changes that are kept one by one: about what a pipelining writer makes in ten milliseconds, so that whoever keeps up
/// sees every change, and few enough that their cells are still in the processor's cache when they settle.
pub(in crate::store) const MAX_RECENT: usize = if SMALL { 64 } else { 4096 };
/// Bytes of cells that the recent changes may hold back from being freed.
pub(super) const MAX_RECENT_BYTES: u64 = 8 << 20;
/// Keys whose last change is kept, in all logs together: some 40 MiB. The cells are mostly those that the store holds
/// anyway.
pub(super) const MAX_SETTLED: usize = if SMALL { 128 } else { 1 << 18 };
/// Bytes of cells that the settled changes of all logs may hold.
pub(super) const MAX_SETTLED_BYTES: u64 = 256 << 20;

/// The changes under one prefix.
pub(super) struct Log {
    recent: VecDeque<Change>,
    recent_bytes: u64,
    /// By sequence; every sequence here is below those in `recent`. One change a key.
    settled: BTreeMap<u64, Settled>,
    /// Key hash and sequence of everything settled, by key.
    by_key: RawTable<(u64, u64)>,
    /// Every change up to here may be gone.
    floor: u64,
    /// The sequence of the last change, or the floor.
    last: u64,
}

struct Settled {
    change: Change,
    /// Earlier changes of the key that this one replaced: how many, and the sequences of the first and the last.
    replaced: u32,
    first_replaced: u64,
    last_replaced: u64,
}

impl Settled {
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

    fn add(&mut self, cell: &Cell) {
        self.changes += 1;
        self.bytes += cell.memory();
    }

    fn remove(&mut self, cell: &Cell) {
        self.changes -= 1;
        self.bytes -= cell.memory();
    }
}

/// The reader has fallen behind the [floor](Log::floor).
#[derive(Debug, PartialEq, Eq)]
pub(super) struct BehindFloor;

impl Log {
    /// An empty log that knows of every change after `floor`.
    pub(super) fn new(floor: u64) -> Self {
        Log {
            recent: VecDeque::new(),
            recent_bytes: 0,
            settled: BTreeMap::new(),
            by_key: RawTable::new(),
            floor,
            last: floor,
        }
    }

    /// The sequence of the last change; of the floor if there was none.
    pub(super) fn last(&self) -> u64 {
        self.last
    }

    /// Every change up to here may be gone.
    pub(super) fn floor(&self) -> u64 {
        self.floor
    }

    /// Appends a change; its sequence is above all others here.
    pub(super) fn push(&mut self, change: Change, total: &mut SettledTotal) {
        debug_assert!(change.sequence > self.last, "sequences rise");
        self.last = change.sequence;
        self.recent_bytes += change.cell.memory();
        self.recent.push_back(change);
        while self.recent.len() > MAX_RECENT || self.recent_bytes > MAX_RECENT_BYTES {
            let Some(oldest) = self.recent.pop_front() else { break };
            self.recent_bytes -= oldest.cell.memory();
            self.settle(oldest, total);
        }
    }

    fn settle(&mut self, mut change: Change, total: &mut SettledTotal) {
        let (hash, sequence) = (change.key_hash, change.sequence);
        total.add(&change.cell);
        let Log { settled, by_key, .. } = self;
        let same_key = |&(other, at): &(u64, u64)| {
            other == hash && settled.get(&at).is_some_and(|earlier| earlier.change.cell == change.cell)
        };
        let mut replaced = (0, 0, 0);
        if let Some((_, at)) = by_key.get_mut(hash, same_key) {
            let earlier =
                settled.remove(&std::mem::replace(at, sequence)).expect("what is indexed is settled");
            total.remove(&earlier.change.cell);
            change.cause = change.cause.after(earlier.change.cause);
            change.was_live = earlier.change.was_live;
            let first = if earlier.replaced > 0 { earlier.first_replaced } else { earlier.change.sequence };
            replaced = (earlier.replaced.saturating_add(1), first, earlier.change.sequence);
        } else {
            by_key.insert(hash, (hash, sequence), |&(hash, _)| hash);
        }
        let (replaced, first_replaced, last_replaced) = replaced;
        settled.insert(sequence, Settled { change, replaced, first_replaced, last_replaced });
        while total.is_over() {
            let Some((sequence, oldest)) = self.settled.pop_first() else { break };
            total.remove(&oldest.change.cell);
            self.by_key.remove_entry(oldest.change.key_hash, |&(_, at)| at == sequence);
            self.floor = sequence;
        }
    }

    /// Appends changes after `from` to `into`.
    pub(super) fn read(
        &self,
        from: u64,
        mut room: ReadLimit,
        into: &mut Vec<Change>,
    ) -> Result<(), BehindFloor> {
        if from < self.floor && !ablated(Ablation::ToldOfLag) {
            return Err(BehindFloor);
        }
        let settled = self.settled.range(from + 1..).map(|(_, settled)| settled);
        into.extend(
            settled
                .take_while(|settled| room.admits(&settled.change))
                .map(|settled| Change { skipped: settled.unseen_since(from), ..settled.change.clone() }),
        );
        let first = self.recent.partition_point(|change| change.sequence <= from);
        into.extend(self.recent.range(first..).take_while(|change| room.admits(change)).cloned());
        Ok(())
    }

    /// Tells the places of those `changes`, sorted by key hash, that a later change of their key follows.
    pub(super) fn find_outdated(&self, changes: &[Change], mut outdated: impl FnMut(usize)) {
        // What has settled is the last of its key that has: a later one is recent.
        for recent in &self.recent {
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

    /// Forgets everything up to `floor`.
    pub(super) fn forget(&mut self, floor: u64, total: &mut SettledTotal) {
        self.settled.values().for_each(|settled| total.remove(&settled.change.cell));
        *self = Log::new(floor);
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;
    use uhlc::NTP64;

    use super::super::Cause;
    use super::*;
    use crate::model::stamp::ZERO;
    use crate::store::Parts;

    fn change(sequence: u64, key: u64) -> Change {
        let parts = Parts {
            time: NTP64(sequence),
            origin: 0,
            value: Some(b"v"),
            deadline: None,
            qualifier: None,
            lift: ZERO,
        };
        let cell = Cell::pack(&mut Vec::new(), &key.to_le_bytes(), &parts);
        // Few hashes, so that they collide.
        Change { sequence, cell, key_hash: key % 7, cause: Cause::Set, was_live: true, skipped: 0 }
    }

    const ALL: ReadLimit = ReadLimit { changes: usize::MAX, bytes: u64::MAX };

    fn sequences(log: &Log, from: u64) -> (Vec<u64>, u64) {
        let mut changes = Vec::new();
        log.read(from, ALL, &mut changes).unwrap();
        let skipped = changes.iter().map(|change| change.skipped).sum();
        (changes.iter().map(|change| change.sequence).collect(), skipped)
    }

    #[test]
    fn who_keeps_up_sees_every_change_and_who_does_not_the_last_of_each_key() {
        let (mut log, mut total) = (Log::new(10), SettledTotal::default());
        let recent = MAX_RECENT as u64;
        (11..=10 + recent).for_each(|n| log.push(change(n, n % 3), &mut total));
        assert_eq!(sequences(&log, 10), ((11..=10 + recent).collect(), 0));
        (11 + recent..=20 + recent).for_each(|n| log.push(change(n, n % 3), &mut total));
        let expected: Vec<u64> = (18..=20 + recent).collect();
        assert_eq!(sequences(&log, 10), (expected.clone(), 7), "seven of the ten that settled were replaced");
        assert_eq!(sequences(&log, 13), (expected, 3), "where some were seen, one a key is sure");
        assert_eq!(sequences(&log, 19).1, 0);
        assert_eq!(total.changes, 3);
    }

    #[test]
    fn a_reader_behind_the_floor_is_told() {
        let (mut log, mut total) = (Log::new(10), SettledTotal::default());
        assert_eq!(log.read(9, ALL, &mut Vec::new()), Err(BehindFloor));
        log.push(change(11, 1), &mut total);
        assert_eq!(sequences(&log, 10).0, [11]);
        log.forget(12, &mut total);
        assert_eq!(log.read(11, ALL, &mut Vec::new()), Err(BehindFloor));
        assert_eq!((log.last(), total.changes, total.bytes), (12, 0, 0));
    }

    #[test]
    fn the_settled_changes_of_all_logs_share_one_limit() {
        let mut total = SettledTotal { changes: MAX_SETTLED - 5, bytes: 0 };
        let mut log = Log::new(0);
        (1..=MAX_RECENT as u64 + 8).for_each(|n| log.push(change(n, n), &mut total));
        assert_eq!(total.changes, MAX_SETTLED);
        assert_eq!(log.read(2, ALL, &mut Vec::new()), Err(BehindFloor));
        assert_eq!(sequences(&log, 3).0.len(), MAX_RECENT + 5);
        total = SettledTotal { changes: 5, bytes: 2 * MAX_SETTLED_BYTES };
        log.push(change(MAX_RECENT as u64 + 9, 1), &mut total);
        assert_eq!(log.settled.len() + log.by_key.len(), 0);
    }

    #[test]
    fn large_cells_settle_sooner() {
        let (mut log, mut total) = (Log::new(0), SettledTotal::default());
        let value = vec![0; 3 << 20];
        for n in 1..=4 {
            let small = change(n, 1);
            let parts = Parts { value: Some(&value), ..small.cell.parts() };
            let cell = Cell::pack(&mut Vec::new(), small.cell.key(), &parts);
            log.push(Change { cell, ..small }, &mut total);
        }
        assert_eq!((log.recent.len(), total.changes), (2, 1));
        assert_eq!(sequences(&log, 0), (vec![2, 3, 4], 1));
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
            let mut push = |log: &mut Log, key| {
                pushed += 1;
                last.insert(key, pushed);
                log.push(change(pushed, key), &mut total);
            };
            let mut read = |log: &Log, max| {
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
                read(&log, max);
            }
            (0..quiet).for_each(|n| push(&mut log, 100 + n % 5));
            keys.for_each(|key| push(&mut log, key));
            while read(&log, 50) > 0 {}
            prop_assert_eq!(seen, last);
        }
    }
}
