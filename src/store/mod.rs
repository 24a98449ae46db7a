//! The store: every key of the cluster, in memory, behind one small set of atomic operations.
//!
//! ```text
//!   resp, node, watch         replication
//!  read  write               merge  walk
//!    |     |                   |      |
//!  +-v-----v-------------------v------v-+     local writes
//!  |  ranges: 16,384 locked tables,     | ---------------------> feed -> peers
//!  |  each with the sums of its cells   | ---------------------> changes -> watch, notifications
//!  +------------------------------------+
//!     cell (one allocation)   clock   origins
//! ```
//!
//! Its keys are stored keys, which contain the database (see [`Database::stored`]). Here that matters only to the counts
//! of keys and to the limit of their length.
//!
//! Invariants:
//! * A range's sums always equal the sum over its cells: both change under the same lock.
//! * A local write draws its timestamp under that lock, above the cell it replaces and above everything received.
//! * A reader never sees a value whose deadline has passed; the sweep only frees its memory.
//! * A cell that is absent is admitted from a peer only if the summary vector does not cover it (see `merge.rs`). So
//!   what was removed here stays removed, purged or not. The stable time decides only what is purged.
//! * A call waits for short locks only, and holds none across an `.await`. Their order: a range's lock, then that of the
//!   change logs, then that of the table of origins. The lock of the feed is taken alone. Debug
//!   builds panic if two locks are ever taken in both orders, except those of the ranges: a call takes one, and a
//!   transaction takes several in the order of the ranges, all at its start ([`Keyspace::lock`]).

mod accesses;
mod buffered;
mod cell;
mod changes;
mod clock;
mod copy;
mod discard;
mod eviction;
mod feed;
mod figures;
mod healing;
mod key_counts;
mod keyspace;
mod memory;
mod merge;
mod origins;
mod ranges;
mod raw;
mod sums;
mod value;
mod write;

pub use cell::{Cell, MAX_KEY, MAX_STORED_KEY};
pub(crate) use cell::{Counter, Parts};
pub(crate) use changes::MAX_RECENT;
pub use changes::{
    Cause, Change, Follower, MAX_PREFIXES, Prefixes, Read, ReadLimit, TooDeep, TooManyPrefixes,
};
pub use copy::{CopyState, CountCopy, KeyCopy, SlotCopy};
pub(crate) use discard::Discarded;
pub use eviction::{EvictionPolicy, UnknownPolicy};
pub(crate) use feed::{Feed, GATHER};
pub(crate) use healing::Entry;
pub(crate) use key_counts::KeyCounts;
pub(crate) use keyspace::{Keyspace, Seen};
pub(crate) use memory::{Room, Shortfall};
pub(crate) use merge::{Outcome, ReceivedBy, Removed, Retracted, Retraction};
pub use origins::TooManyOrigins;
pub(crate) use origins::{Coverage, Origin, Origins};
pub(crate) use ranges::PREFETCH_AHEAD;
pub(crate) use sums::Digest;
pub use sums::Totals;
pub use value::Value;
pub(crate) use write::increment;
pub use write::{Lengths, Live, Write, WriteError};

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use clock::Clock;
use eviction::Eviction;
use memory::{Growth, Limits};
use ranges::Ranges;
use write::Digits;

use crate::ablation::{Ablation, ablated};
use crate::model::counter::{Shown, Slot};
use crate::model::timestamp::ZERO;
use crate::model::{Deadline, HashSeed, Incarnation, RangeCount, Time, Timestamp};

/// The settings of a store.
#[derive(Clone, Copy, Debug)]
pub struct StoreConfig {
    /// The cluster's hash seed.
    pub seed: HashSeed,
    /// The number of ranges; [`RangeCount::FULL`] outside simulations.
    pub ranges: RangeCount,
    /// The incarnation of this process.
    pub incarnation: Incarnation,
    /// Client writes that would grow the live cells beyond this many bytes, or live and dead ones beyond twice as many,
    /// are refused; `None` for no limit. What peers send may take more.
    pub max_memory: Option<u64>,
    /// Which keys are deleted to make room for clients' writes.
    pub eviction: EvictionPolicy,
    /// The longest key and value that clients may write. What peers send may be longer, and so may stored keys.
    pub lengths: Lengths,
    /// Most bytes of changed cells that may wait for the task that sends them to the peers.
    pub feed_limit: u64,
}

/// A batch of commands, with one reading of the clock and one hand-over to the peers.
#[derive(Default)]
pub struct Batch {
    now: Time,
    applied: Vec<Cell>,
    scratch: Vec<u8>,
    counter: Counter,
    /// The bytes by which the last write that was refused for lack of room would have grown the cells.
    refused: u64,
}

/// Largest capacity, in bytes, of the scratch buffer that is kept after a write. The owner of an idle batch frees it by
/// [`Batch::free_buffers`].
const SCRATCH_KEPT: usize = 4 << 20;

impl Batch {
    /// The time at which the batch's commands read the store.
    pub fn now(&self) -> Time {
        self.now
    }

    /// The bytes by which the last write that was refused for lack of room would have grown the cells.
    pub(crate) fn refused(&self) -> u64 {
        self.refused
    }

    /// The bytes of its buffer, which is as large as the largest recent cell.
    pub(crate) fn capacity(&self) -> usize {
        self.scratch.capacity()
    }

    /// Frees its buffer.
    pub(crate) fn free_buffers(&mut self) {
        self.scratch = Vec::new();
    }
}

/// The metadata of a key, also of a tombstone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Meta {
    /// The timestamp of the latest `SET`, `DEL` or increment.
    pub timestamp: Timestamp,
    /// The timestamp of the write that set the deadline; equals `timestamp` unless an `EXPIRE` or `PERSIST` did.
    pub deadline_timestamp: Timestamp,
    /// The time from which the key is absent.
    pub deadline: Option<Deadline>,
    /// The length in bytes of the value that a reader sees; `None` if there is none.
    pub value_bytes: Option<usize>,
}

/// The state of a counter.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Count {
    /// The value that a reader sees.
    pub sum: i128,
    /// The part of the sum that was set, without the increments since.
    pub base: i128,
    /// The active slots, by incarnation.
    pub slots: Vec<(Incarnation, Slot)>,
}

/// Every key of the cluster. See the module for its invariants.
pub struct Store {
    ranges: Ranges,
    clock: Clock,
    feed: Feed,
    limits: Limits,
    eviction: Eviction,
    lengths: Lengths,
    /// How many expired keys the sweeps have found.
    expired: AtomicU64,
}

impl Store {
    /// Creates an empty store.
    ///
    /// # Panics
    /// If the longest key exceeds [`MAX_KEY`].
    pub fn new(config: StoreConfig) -> Self {
        assert!(config.lengths.key <= MAX_KEY, "a cell holds every key that may be written");
        let accesses = Eviction::accesses(config.eviction, config.max_memory);
        Store {
            ranges: Ranges::new(config.seed, config.ranges, Origins::new(config.incarnation), accesses),
            clock: Clock::new(),
            feed: Feed::new(config.feed_limit),
            limits: Limits::new(config.max_memory, config.eviction.evicts()),
            eviction: Eviction::new(config.eviction, config.incarnation),
            lengths: config.lengths,
            expired: AtomicU64::new(0),
        }
    }

    /// The current time for readers and writers, given the machine's clock.
    ///
    /// It is never before a time that was issued, received or returned here earlier.
    pub fn now(&self, wall: Time) -> Time {
        self.clock.read(wall)
    }

    /// Draws a time later than everything issued or received so far, and than every timestamp held.
    pub(crate) fn moment(&self, wall: Time) -> Time {
        self.clock.draw(wall, ZERO)
    }

    /// Starts a batch of commands at the current time.
    pub fn begin(&self, batch: &mut Batch, wall: Time) {
        batch.now = self.clock.read(wall);
        if let Some(accesses) = self.ranges.accesses() {
            accesses.set_clock(batch.now);
        }
    }

    /// Passes the batch's changes to the peers; returns the feed sequence of the last one, or 0 if there is none.
    ///
    /// Never waits.
    pub fn publish(&self, batch: &mut Batch) -> u64 {
        self.feed.publish(&mut batch.applied, batch.now)
    }

    /// Prefetches what the next operations will load, for the first [`PREFETCH_AHEAD`] of these keys.
    pub(crate) fn prefetch(&self, keys: &[&[u8]]) {
        self.ranges.prefetch(keys);
    }

    /// Calls `read` with the live cell of `key`, if there is one at `now`.
    ///
    /// `read` runs under the range's read lock: it should copy what it needs and return.
    pub fn read<T>(&self, key: &[u8], now: Time, read: impl FnOnce(Option<Live<'_>>) -> T) -> T {
        self.ranges.read(key, None, |cell| write::read_live(cell, now, read))
    }

    /// The value of `key`, if there is one.
    ///
    /// `clock` returns the machine's time. It is called only if a deadline or a counter makes a difference.
    #[inline]
    pub fn get(&self, key: &[u8], clock: impl FnOnce() -> Time) -> Option<Value> {
        self.ranges.read(key, self.ranges.accesses(), |cell| {
            let cell = cell?;
            if cell.is_lasting() {
                return Some(Value::of(cell, ZERO));
            }
            let now = self.now(clock());
            cell.is_live(now).then(|| Value::of(cell, now))
        })
    }

    /// Calls `decide` with the live cell of `key` and applies the write it returns, in one atomic step.
    ///
    /// The write's timestamp is drawn first, and the cell's deadline is compared with it. So a write never changes the
    /// deadline of a value that had expired before it.
    ///
    /// # Errors
    /// [`WriteError::KeyTooLong`] or [`WriteError::ValueTooLong`] if a [`Write::Set`] or [`Write::Add`] exceeds the
    /// [`Lengths`]. A peer with other limits may have sent a longer key, so every other write of it is accepted.
    /// [`WriteError::OutOfMemory`] if the write would grow the cells beyond their limits; a [`Write::Delete`] is never
    /// refused. [`WriteError::Overflow`] or [`WriteError::TooManySlots`] if a [`Write::Add`] cannot be counted.
    /// `decide` has run; nothing was changed.
    pub fn write<'v, T>(
        &self,
        batch: &mut Batch,
        key: &[u8],
        decide: impl FnOnce(Option<Live<'_>>) -> (Write<'v>, T),
    ) -> Result<T, WriteError> {
        let outcome = self.ranges.update(key, |cell| self.decide(batch, key, cell, decide));
        trim(&mut batch.scratch);
        outcome
    }

    /// Decides a write of `key`, whose range is locked: the new cell, if there is one, and the outcome. The new cell is
    /// the last that was applied, after those of evictions that have made room for it.
    #[inline(always)]
    fn decide<'v, T>(
        &self,
        batch: &mut Batch,
        key: &[u8],
        cell: Option<&Cell>,
        decide: impl FnOnce(Option<Live<'_>>) -> (Write<'v>, T),
    ) -> (Option<Cell>, Result<T, WriteError>) {
        let mut drawn = self.clock.draw(batch.now, cell.map_or(ZERO, Cell::latest));
        if cell.is_some_and(|cell| cell.has_deadline_at(drawn)) {
            // A counter that began at this moment would count as ended by the deadline.
            drawn = self.clock.draw(drawn, drawn);
        }
        let mut digits = Digits::new();
        let live = cell.and_then(|cell| Live::at(cell, drawn, &mut digits));
        let is_live = live.is_some();
        let (write, outcome) = decide(live);
        if let Err(error) = self.lengths.check_write(key, write) {
            return (None, Err(error));
        }
        let timestamp = (drawn, self.ranges.origins().own());
        let Batch { counter, scratch, .. } = batch;
        let next = match write::next_cell(write, timestamp, key, cell, is_live, counter, scratch) {
            Ok(Some(next)) => next,
            Ok(None) => return (None, Ok(outcome)),
            Err(error) => return (None, Err(error)),
        };
        // Deletes are accepted beyond the limits.
        let may_grow = next.counts_as_live() || ablated(Ablation::AdmitDeletes);
        if may_grow && !self.admit(batch, Growth::of(cell, &next)) {
            return (None, Err(WriteError::OutOfMemory));
        }
        batch.applied.push(next.clone());
        (Some(next), Ok(outcome))
    }

    /// Checks a key, as the client knows it, and a value that the client wants to write, for commands that must be refused before they change
    /// anything.
    ///
    /// # Errors
    /// As [`write`](Self::write).
    pub fn check_lengths(&self, key: &[u8], value: &[u8]) -> Result<(), WriteError> {
        self.lengths.check(key.len(), value.len())
    }

    /// As [`check_lengths`](Self::check_lengths), for a value of which only the length is known.
    pub(crate) fn check_length(&self, key: &[u8], value: usize) -> Result<(), WriteError> {
        self.lengths.check(key.len(), value)
    }

    /// Checks whether a client's write that grows the cells by `growth` bytes would be accepted now, perhaps after an
    /// eviction.
    ///
    /// # Errors
    /// As [`write`](Self::write).
    pub fn check_write(&self, growth: u64) -> Result<(), WriteError> {
        let is_full = !self.limits.admit_clients(self.ranges.memory(), Growth::of_new(growth));
        if is_full && !self.may_evict() { Err(WriteError::OutOfMemory) } else { Ok(()) }
    }

    /// Interns `incarnation`: returns the origin by which cells refer to it.
    ///
    /// # Errors
    /// [`TooManyOrigins`] if the table of origins is full.
    pub(crate) fn intern(&self, incarnation: Incarnation) -> Result<Origin, TooManyOrigins> {
        self.ranges.origins().intern(incarnation)
    }

    /// The incarnation under which this process writes.
    pub(crate) fn own_incarnation(&self) -> Incarnation {
        self.incarnation(self.ranges.origins().own())
    }

    /// The timestamp of the latest `SET`, `DEL` or increment in a cell of this store.
    pub(crate) fn last_write(&self, cell: &Cell) -> Timestamp {
        cell.last_write(self.ranges.origins())
    }

    /// The incarnation of an interned origin of this store.
    pub(crate) fn incarnation(&self, origin: Origin) -> Incarnation {
        self.ranges.origins().incarnation(origin)
    }

    /// Moves the clock past a received time. Must be called before anything with that time is merged.
    pub(crate) fn observe(&self, time: Time) {
        if ablated(Ablation::ObserveReceived) {
            return;
        }
        self.clock.observe(time);
    }

    /// The metadata of `key`, also if it is a tombstone.
    pub fn meta(&self, key: &[u8], now: Time) -> Option<Meta> {
        self.ranges.read(key, None, |cell| self.meta_of(cell?, now))
    }

    fn meta_of(&self, cell: &Cell, now: Time) -> Option<Meta> {
        let register = cell.register(self.ranges.origins());
        let timestamp = self.last_write(cell);
        Some(Meta {
            timestamp,
            deadline_timestamp: if register.has_deadline_timestamp() {
                register.deadline_timestamp
            } else {
                timestamp
            },
            deadline: register.deadline,
            value_bytes: Live::at(cell, now, &mut Digits::new()).map(|live| live.value().len()),
        })
    }

    /// The counter of `key`, with the slot of each incarnation; `None` if it is not a counter at `now`.
    pub fn count(&self, key: &[u8], now: Time) -> Option<Count> {
        self.ranges.read(key, None, |cell| self.counted(cell?, now))
    }

    fn counted(&self, cell: &Cell, now: Time) -> Option<Count> {
        let Some(Shown::Number(sum)) = cell.shown(now) else { return None };
        let passed = cell.lives().passed(now);
        let active = cell.slots().filter(|(_, slot)| slot.is_active(passed));
        let slots: Vec<_> = active.map(|(owner, slot)| (self.incarnation(owner), slot)).collect();
        let base = sum - slots.iter().map(|(_, slot)| slot.net()).sum::<i128>();
        Some(Count { sum, base, slots })
    }

    /// The number of ranges.
    pub fn range_count(&self) -> usize {
        self.ranges.len()
    }

    /// The number of live cells of a range; takes no lock.
    pub fn live_cells(&self, range: usize) -> u64 {
        self.ranges.live_cells(range)
    }

    /// Calls `visit` with every cell of a range, tombstones included, under the range's read lock.
    pub fn walk(&self, range: usize, visit: impl FnMut(&Cell)) {
        self.ranges.walk(range, visit);
    }

    /// Drops the values of a range's expired cells but keeps their timestamps; returns how many there were.
    ///
    /// Does nothing, without a lock, if no deadline is due.
    pub fn sweep(&self, range: usize, now: Time) -> usize {
        let mut expired = Vec::new();
        self.ranges.collect_expired(range, now, &mut expired);
        let mut scratch = Vec::new();
        let swept = expired.iter().filter(|expired| {
            self.ranges.update(expired.key(), |cell| {
                let is_due = |cell: &&Cell| cell.pending_deadline().is_some_and(|deadline| deadline <= now);
                let next = cell.filter(is_due).map(|cell| cell.swept(&mut scratch, now));
                let swept = next.is_some();
                (next, swept)
            })
        });
        let count = swept.count();
        if count > 0 {
            self.expired.fetch_add(count as u64, Relaxed);
        }
        count
    }

    /// Starts to follow the changes under `prefixes`, whichever node writes them.
    ///
    /// # Errors
    /// [`TooDeep`] if these prefixes and those that others follow would nest too deep.
    pub fn follow(&self, prefixes: &Prefixes) -> Result<Follower, TooDeep> {
        self.ranges.changes().follow(prefixes)
    }

    /// The feed of local changes.
    pub(crate) fn feed(&self) -> &Feed {
        &self.feed
    }
}

/// Frees a scratch buffer that one large cell has grown.
fn trim(scratch: &mut Vec<u8>) {
    if scratch.capacity() > SCRATCH_KEPT {
        *scratch = Vec::new();
    }
}

#[cfg(test)]
mod counter_tests;
#[cfg(test)]
mod tests;
