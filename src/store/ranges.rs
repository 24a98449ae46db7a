//! The concurrent map of cells, divided into the ranges that have digests.
//!
//! It is a `dashmap` with one shard per range. The shard's lock guards the range's cells and its sums together, so the
//! sums always match the cells that the same lock shows. No code outside this module touches the map. No lock of it is
//! ever held across an `.await`, nor across a second call into it, except the locks of [`LockedRanges`], which its own
//! calls use.

mod locked;
mod sample;
mod upkeep;

use std::sync::Arc;
use std::sync::atomic::Ordering;

use dashmap::{DashMap, SharedValue};
use hashbrown::raw::RawTable;
use xxhash_rust::xxh3::Xxh3Builder;

pub(super) use locked::LockedRanges;
pub(super) use sample::Sampled;

use super::accesses::Accesses;
use super::cell::{Cell, Part};
use super::changes::Changes;
use super::memory::Memory;
use super::origins::Origins;
use super::raw;
use super::sums::{Digest, Hash, Sums, Totals};
use crate::ablation::{Ablation, ablated};
use crate::model::digest::{
    deep_register_hash, deep_slot_hash, expiry_hash, register_hash, slot_hash, written_hash,
};
use crate::model::timestamp::ZERO;
use crate::model::{HashSeed, RangeCount, Time};

/// The number of lookups that are prefetched at one time: enough to hide the wait for memory, few enough that the
/// first is still in the cache when the last is ready.
pub(crate) const PREFETCH_AHEAD: usize = 16;

/// The cells of one range.
pub(super) type Table = RawTable<(Cell, SharedValue<()>)>;

pub(super) struct Ranges {
    map: DashMap<Cell, (), Xxh3Builder>,
    sums: Box<[Sums]>,
    count: RangeCount,
    seed: HashSeed,
    origins: Arc<Origins>,
    memory: Memory,
    changes: Arc<Changes>,
    /// What LRU or LFU needs; `None` without such a policy.
    accesses: Option<Accesses>,
}

impl Ranges {
    pub(super) fn new(
        seed: HashSeed,
        count: RangeCount,
        origins: Origins,
        accesses: Option<Accesses>,
    ) -> Self {
        let hasher = Xxh3Builder::new().with_seed(seed.get());
        Ranges {
            map: DashMap::with_hasher_and_shard_amount(hasher, count.get()),
            sums: (0..count.get()).map(|_| Sums::default()).collect(),
            count,
            seed,
            origins: Arc::new(origins),
            memory: Memory::default(),
            changes: Arc::default(),
            accesses,
        }
    }

    pub(super) fn len(&self) -> usize {
        self.count.get()
    }

    pub(super) fn origins(&self) -> &Arc<Origins> {
        &self.origins
    }

    /// The record of every change of a cell.
    pub(super) fn changes(&self) -> &Arc<Changes> {
        &self.changes
    }

    /// The memory that all cells take.
    pub(super) fn memory(&self) -> &Memory {
        &self.memory
    }

    /// When or how often keys were accessed.
    pub(super) fn accesses(&self) -> Option<&Accesses> {
        self.accesses.as_ref()
    }

    /// Calls `read` with the cell of `key`, under the range's read lock. It is an access of the key for these `accesses`.
    pub(super) fn read<T>(
        &self,
        key: &[u8],
        accesses: Option<&Accesses>,
        read: impl FnOnce(Option<&Cell>) -> T,
    ) -> T {
        let hash = self.seed.key_hash(key);
        let table = self.map.shards()[self.count.range_of(hash)].read();
        let cell = find(&table, hash, key);
        touch(hash, cell, accesses);
        read(cell)
    }

    /// Calls `decide` with the cell of `key` under the range's write lock, and stores the cell that it returns.
    pub(super) fn update<T>(&self, key: &[u8], decide: impl FnOnce(Option<&Cell>) -> (Option<Cell>, T)) -> T {
        let hash = self.seed.key_hash(key);
        let range = self.count.range_of(hash);
        let mut table = self.map.shards()[range].write();
        let (replaced, outcome) = self.update_in::<false, T>(&mut table, range, hash, key, decide);
        drop(table);
        drop(replaced);
        outcome
    }

    /// Locks the ranges of all these keys for writing, in the order of the ranges.
    pub(super) fn lock(&self, keys: impl Iterator<Item: AsRef<[u8]>>) -> LockedRanges<'_> {
        let range = |key: &[u8]| self.count.range_of(self.seed.key_hash(key));
        let mut ranges: Vec<usize> = keys.map(|key| range(key.as_ref())).collect();
        ranges.sort_unstable();
        ranges.dedup();
        let tables = ranges.into_iter().map(|range| (range, self.map.shards()[range].write())).collect();
        LockedRanges { ranges: self, tables }
    }

    /// Calls `decide` with the cell of `key` in the locked table of its range, and stores the cell that it returns.
    /// Returns the cell that was replaced too: whoever holds no other lock frees it after this one. Watchers see the
    /// change as an eviction if it `EVICTS`.
    #[inline(always)]
    fn update_in<const EVICTS: bool, T>(
        &self,
        table: &mut Table,
        range: usize,
        hash: u64,
        key: &[u8],
        decide: impl FnOnce(Option<&Cell>) -> (Option<Cell>, T),
    ) -> (Option<Cell>, T) {
        let sums = &self.sums[range];
        let Some((slot, _)) = table.get_mut(hash, |(cell, _)| same_key(cell, key)) else {
            let (cell, outcome) = decide(None);
            if let Some(cell) = cell {
                sums.add(&cell, self.hash(hash, &cell));
                self.changes.record(hash, None, &cell, EVICTS);
                touch_written(hash, None, &cell, self.accesses());
                self.memory.add(&cell);
                let rehash = |(cell, _): &(Cell, SharedValue<()>)| self.seed.key_hash(cell.key());
                table.insert(hash, (cell, SharedValue::new(())), rehash);
            }
            return (None, outcome);
        };
        let (cell, outcome) = decide(Some(slot));
        let Some(cell) = cell else { return (None, outcome) };
        if !ablated(Ablation::Sums) {
            sums.replace(slot, self.hash(hash, slot), &cell, self.hash(hash, &cell));
        }
        self.changes.record(hash, Some(slot), &cell, EVICTS);
        touch_written(hash, Some(slot), &cell, self.accesses());
        self.memory.replace(slot, &cell);
        (Some(std::mem::replace(slot, cell)), outcome)
    }

    /// A number that differs, but for one chance in 2^64, whenever anything of the cell differs that peers would be
    /// sent: its digest's share.
    pub(super) fn fingerprint(&self, cell: &Cell) -> u64 {
        let hash = self.hash(self.seed.key_hash(cell.key()), cell);
        hash.live.wrapping_add(hash.dead)
    }

    /// Calls `visit` with every cell of a range, under its read lock.
    pub(super) fn walk(&self, range: usize, visit: impl FnMut(&Cell)) {
        self.walk_then(range, visit, || ());
    }

    /// Walks a range, then calls `finish` while the read lock is still held.
    fn walk_then(&self, range: usize, mut visit: impl FnMut(&Cell), finish: impl FnOnce()) {
        // Lock even an empty range: a writer that holds the lock may have drawn a timestamp below the time up to which
        // the caller claims to hold every write.
        let table = self.map.shards()[range].read();
        if self.is_empty(range) {
            return;
        }
        let cells: Vec<&Cell> = raw::entries(&table).map(|(cell, _)| cell).collect();
        for (n, cell) in cells.iter().enumerate() {
            if let Some(ahead) = cells.get(n + PREFETCH_AHEAD) {
                ahead.prefetch();
            }
            visit(cell);
        }
        finish();
    }

    /// Prefetches what lookups of these keys will load, so that they do not wait for memory one by one.
    ///
    /// A lookup follows four pointers, each a cache miss in a large map. Doing one step for all keys before the next
    /// step overlaps the misses. A range that is being written is skipped.
    pub(super) fn prefetch(&self, keys: &[&[u8]]) {
        if !raw::CAN_PREFETCH {
            return;
        }
        let mut hashes = [0; PREFETCH_AHEAD];
        let hashes = &mut hashes[..keys.len().min(PREFETCH_AHEAD)];
        let shard = |hash: u64| &self.map.shards()[self.count.range_of(hash)];
        for (hash, key) in hashes.iter_mut().zip(keys) {
            *hash = self.seed.key_hash(key);
            raw::prefetch(shard(*hash));
            raw::prefetch(&raw const self.sums[self.count.range_of(*hash)]);
        }
        for &hash in &*hashes {
            if let Some(table) = shard(hash).try_read() {
                raw::prefetch_slot(&table, hash);
            }
        }
        for &hash in &*hashes {
            if let Some(table) = shard(hash).try_read()
                && let Some((cell, _)) = table.get(hash, |_| true)
            {
                cell.prefetch();
            }
        }
    }

    /// The number of those of the `counted` cells of a range that count as live although their deadlines have passed.
    ///
    /// Takes no lock if none can be due.
    pub(super) fn count_expired(&self, range: usize, now: Time, counted: impl Fn(&Cell) -> bool) -> u64 {
        if !self.sums[range].next_deadline.load(Ordering::Relaxed) > now.0 {
            return 0;
        }
        let mut expired = 0;
        self.walk(range, |cell| {
            let is_due = cell.pending_deadline().is_some_and(|deadline| deadline <= now);
            expired += u64::from(is_due && !cell.is_live(now) && counted(cell));
        });
        expired
    }

    pub(super) fn is_empty(&self, range: usize) -> bool {
        let totals = self.sums[range].totals();
        totals.live_cells + totals.dead_cells == 0
    }

    pub(super) fn live_cells(&self, range: usize) -> u64 {
        self.sums[range].totals().live_cells
    }

    /// The sum of the hashes of the live parts of a range.
    pub(super) fn live_digest(&self, range: usize) -> u64 {
        self.sums[range].totals().live
    }

    /// The totals of all ranges.
    pub(super) fn totals(&self) -> Totals {
        self.sums.iter().map(Sums::totals).fold(Totals::default(), Totals::add)
    }

    /// The sum of the hashes of a range's cells that are not dead at `stable`, and their number.
    ///
    /// It is taken under the range's lock, so it includes every write whose timestamp was drawn before the call.
    pub(super) fn digest(&self, range: usize, stable: Time) -> Digest {
        let sums = &self.sums[range];
        let table = self.map.shards()[range].read();
        let totals = sums.totals();
        let mut digest = Digest {
            sum: totals.live.wrapping_add(totals.dead),
            cells: totals.live_cells + totals.dead_cells,
        };
        if ablated(Ablation::DigestTombstones) {
            digest.sum = totals.live;
        }
        if digest.cells > 0 && sums.may_have_dead_at(stable) {
            for (cell, _) in raw::entries(&table) {
                if cell.is_dead_at(stable) {
                    let hash = self.hash(self.seed.key_hash(cell.key()), cell);
                    digest.sum = digest.sum.wrapping_sub(hash.live.wrapping_add(hash.dead));
                    digest.cells -= 1;
                } else if cell.first_death().is_some_and(|death| death <= stable) {
                    let key_hash = self.seed.key_hash(cell.key());
                    let hash = self.hash(key_hash, cell);
                    digest.sum = digest
                        .sum
                        .wrapping_sub(hash.live.wrapping_add(hash.dead))
                        .wrapping_add(self.hash_above(key_hash, cell, stable, false));
                }
            }
        }
        digest
    }

    pub(super) fn seed(&self) -> HashSeed {
        self.seed
    }

    pub(super) fn count(&self) -> RangeCount {
        self.count
    }

    /// The hash of a cell.
    fn hash(&self, key_hash: u64, cell: &Cell) -> Hash {
        if cell.has_counter() {
            return self.hash_of_parts(key_hash, cell);
        }
        let hash = if cell.is_plain() {
            let incarnation = self.origins.incarnation(cell.origin());
            written_hash(self.seed, key_hash, cell.time(), incarnation, cell.is_tombstone())
        } else {
            register_hash(self.seed, key_hash, &cell.register(&self.origins))
        };
        if cell.counts_as_live() { Hash { live: hash, dead: 0 } } else { Hash { live: 0, dead: hash } }
    }

    #[cold]
    fn hash_of_parts(&self, key_hash: u64, cell: &Cell) -> Hash {
        let mut hash = Hash::default();
        cell.parts_above(ZERO, |part| {
            let sum = if cell.is_live_part(&part) { &mut hash.live } else { &mut hash.dead };
            *sum = sum.wrapping_add(self.part_hash(key_hash, cell, part, false));
        });
        hash
    }

    /// The hash of a cell without the parts that are dead at `stable`; with its values if `deep`.
    pub(super) fn hash_above(&self, key_hash: u64, cell: &Cell, stable: Time, deep: bool) -> u64 {
        if !cell.has_counter() {
            return if cell.is_dead_at(stable) {
                0
            } else {
                self.part_hash(key_hash, cell, Part::Register, deep)
            };
        }
        let mut sum = 0u64;
        cell.parts_above(stable, |part| sum = sum.wrapping_add(self.part_hash(key_hash, cell, part, deep)));
        sum
    }

    fn part_hash(&self, key_hash: u64, cell: &Cell, part: Part, deep: bool) -> u64 {
        match part {
            Part::Register => {
                let hash = if deep { deep_register_hash } else { register_hash };
                hash(self.seed, key_hash, &cell.register(&self.origins))
            }
            Part::Slot(owner, slot) => {
                let hash = if deep { deep_slot_hash } else { slot_hash };
                hash(self.seed, key_hash, self.origins.incarnation(owner), &slot)
            }
            Part::Expiry(writer, expiry) => {
                expiry_hash(self.seed, key_hash, self.origins.incarnation(writer), &expiry)
            }
        }
    }

    /// Returns the totals of a range, recomputed from its cells, and those of its sums. They are always equal.
    #[cfg(test)]
    pub(super) fn recomputed(&self, range: usize) -> (Totals, Totals) {
        let fresh = Sums::default();
        self.walk(range, |cell| fresh.add(cell, self.hash(self.seed.key_hash(cell.key()), cell)));
        (fresh.totals(), self.sums[range].totals())
    }
}

fn find<'t>(table: &'t Table, hash: u64, key: &[u8]) -> Option<&'t Cell> {
    table.get(hash, |(cell, _)| same_key(cell, key)).map(|(cell, _)| cell)
}

/// Records an access of a key, if it is there.
#[inline(always)]
fn touch(hash: u64, cell: Option<&Cell>, accesses: Option<&Accesses>) {
    if let Some(accesses) = accesses {
        record_access(hash, cell, accesses);
    }
}

/// Out of line, so that a node without LRU or LFU pays for one branch.
#[inline(never)]
fn record_access(hash: u64, cell: Option<&Cell>, accesses: &Accesses) {
    if cell.is_some_and(Cell::counts_as_live) {
        accesses.touch(hash);
    }
}

/// Records the access of a write.
#[inline(always)]
fn touch_written(hash: u64, old: Option<&Cell>, new: &Cell, accesses: Option<&Accesses>) {
    if let Some(accesses) = accesses {
        record_write(hash, old, new, accesses);
    }
}

#[inline(never)]
fn record_write(hash: u64, old: Option<&Cell>, new: &Cell, accesses: &Accesses) {
    if !new.counts_as_live() {
        return;
    }
    if old.is_some_and(Cell::counts_as_live) { accesses.touch(hash) } else { accesses.begin(hash) }
}

fn same_key(cell: &Cell, key: &[u8]) -> bool {
    cell.key() == key
}
