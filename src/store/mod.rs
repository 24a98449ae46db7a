//! The store: every key of the cluster, in memory, behind one small set of atomic operations.
//!
//! ```text
//!   resp, node                replication
//!  read  write               merge  walk
//!    |     |                   |      |
//!  +-v-----v-------------------v------v-+     local writes
//!  |  ranges: 16,384 locked tables,     | ---------------------> feed -> peers
//!  |  each with the sums of its cells   | ---------------------> changes -> watch, notifications
//!  +------------------------------------+
//!     cell (one allocation)   clock   origins
//! ```
//!
//! Invariants:
//! * A range's sums always equal the sum over its cells: both change under the same lock.
//! * A local write is stamped, under that lock, above the cell it replaces and above everything received.
//! * A reader never sees a value whose deadline has passed; the sweep only frees its memory.
//! * The floor never falls. A cell that is absent, or dead at the floor, is taken in from a peer only if it is newer
//!   than the floor; so what was deleted here stays deleted, purged or not.
//! * No call blocks on anything but one range's lock, and none is held across an `.await`.

mod cell;
mod changes;
mod clock;
mod feed;
mod healing;
mod origins;
mod ranges;
mod raw;
mod value;
mod watch;

pub(crate) use cell::Parts;
pub use cell::{Cell, MAX_KEY};
pub use changes::{
    Cause, Change, Follower, MAX_PREFIXES, Prefixes, Read, ReadLimit, TooDeep, TooManyPrefixes,
};
pub(crate) use feed::Feed;
pub(crate) use healing::Entry;
pub use origins::TooManyOrigins;
pub(crate) use origins::{Origin, Origins};
pub use ranges::Totals;
pub(crate) use ranges::{Digest, PREFETCH_AHEAD};
pub use value::Value;
pub use watch::{BadCursor, Cursor, Item, Page, ResetReason, WatchEvent, Watcher};

use clock::Clock;
use ranges::Ranges;
use watch::Watches;

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use crate::ablation::{Ablation, ablated};
use crate::model::stamp::ZERO;
use crate::model::{HashSeed, Incarnation, RangeCount, Register, Stamp, Time};

/// What a store is made with.
#[derive(Clone, Copy, Debug)]
pub struct StoreConfig {
    /// The cluster's hash seed.
    pub seed: HashSeed,
    /// How many ranges; [`RangeCount::FULL`] outside simulations.
    pub ranges: RangeCount,
    /// This process's id.
    pub incarnation: Incarnation,
    /// Client writes that would grow the cells beyond this many bytes are refused; `None` for no limit.
    pub max_memory: Option<u64>,
    /// How many bytes of changed cells may wait for the task that sends them to the peers.
    pub feed_limit: u64,
}

/// A client's write was refused. Nothing was changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum WriteError {
    /// It would have grown the cells beyond `--max-memory`.
    #[error("OOM command not allowed when used memory > 'maxmemory'.")]
    OutOfMemory,
    /// The daemon has not met its cluster yet and was told to wait for it.
    #[error("UNFOUNDED this daemon takes no writes before it has joined its cluster (--join-first)")]
    Unfounded,
}

/// A live cell as a write sees it.
#[derive(Clone, Copy)]
pub struct Live<'a>(&'a Cell);

impl<'a> Live<'a> {
    /// The value.
    pub fn value(self) -> &'a [u8] {
        self.0.value().unwrap_or_default()
    }

    /// From this moment on the cell is absent.
    pub fn deadline(self) -> Option<Time> {
        self.0.deadline()
    }
}

/// What a write makes of the cell it saw.
#[derive(Clone, Copy, Debug)]
pub enum Write<'a> {
    /// Leave it as it is.
    Keep,
    /// A new version with this value. With a deadline that has passed it is a [`Write::Delete`].
    Set {
        /// The value.
        value: &'a [u8],
        /// From this moment on the key is absent; `None` for never.
        deadline: Option<Time>,
    },
    /// A tombstone in its place; nothing if there is no live cell.
    Delete,
    /// Another deadline for the version that is there; nothing if there is no live cell. With a deadline that
    /// has passed it is a [`Write::Delete`].
    Deadline(Option<Time>),
}

/// The writes of one batch of commands: one reading of the clock, one hand-over to the peers.
#[derive(Default)]
pub struct Batch {
    now: Time,
    applied: Vec<Cell>,
    scratch: Vec<u8>,
}

/// Scratch space is given back to the allocator after a cell larger than this.
const SCRATCH_KEPT: usize = 64 * 1024;

impl Batch {
    /// The moment the batch's commands read the store at.
    pub fn now(&self) -> Time {
        self.now
    }
}

/// What became of a received register.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Merged {
    /// The cell changed.
    Applied,
    /// The cell changed: it was live here, and a peer knows it to be dead. Has what it held.
    Killed(Cell),
    /// The cell already held this or newer, or both are dead.
    Known,
    /// It is absent here and the floor has passed it: every member held it, and it was deleted since. Nothing was
    /// changed. Has the floor.
    Late(Time),
    /// The cells are at the hard ceiling and this would have grown them. Nothing was changed.
    Refused,
}

/// Everything that is known of one key, a tombstone included.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Meta {
    /// The stamp of the version.
    pub version: Stamp,
    /// The stamp of the write that set the deadline; equals `version` unless an `EXPIRE` or `PERSIST` did.
    pub qualifier: Stamp,
    /// From this moment on the key is absent.
    pub deadline: Option<Time>,
    /// The value's length in bytes; `None` for a tombstone or an expired register.
    pub value_bytes: Option<usize>,
}

/// Every key of the cluster. See the [module](self) for its invariants.
pub struct Store {
    ranges: Ranges,
    clock: Clock,
    feed: Feed,
    watches: Watches,
    max_memory: u64,
    ceiling: u64,
    /// Time below which every member held every write: see [`Store::floor`].
    floor: AtomicU64,
    /// Clients' writes are refused.
    closed: AtomicBool,
}

impl Store {
    /// An empty store.
    pub fn new(config: StoreConfig) -> Self {
        let max_memory = config.max_memory.unwrap_or(u64::MAX);
        Store {
            ranges: Ranges::new(config.seed, config.ranges, Origins::new(config.incarnation)),
            clock: Clock::new(),
            feed: Feed::new(config.feed_limit),
            watches: Watches::new(),
            max_memory,
            ceiling: max_memory.saturating_add(max_memory / 4),
            floor: AtomicU64::new(0),
            closed: AtomicBool::new(false),
        }
    }

    /// The present moment for readers and writers, given the machine's clock: never before anything issued,
    /// received or returned from here earlier.
    pub fn now(&self, wall: Time) -> Time {
        self.clock.read(wall)
    }

    /// A moment later than everything issued or received so far, and than every stamp held.
    pub(crate) fn moment(&self, wall: Time) -> Time {
        self.clock.draw(wall, ZERO)
    }

    /// Starts a batch of commands at the present moment.
    pub fn begin(&self, batch: &mut Batch, wall: Time) {
        batch.now = self.clock.read(wall);
    }

    /// Hands the batch's changes to the peers, and returns the place of the last of them in the sequence of all that
    /// was published here; 0 if there is none. Never waits.
    pub fn publish(&self, batch: &mut Batch) -> u64 {
        self.feed.publish(&mut batch.applied)
    }

    /// Starts to load what the next operations on these keys will need; the first [`PREFETCH_AHEAD`] of them.
    pub(crate) fn prefetch(&self, keys: &[&[u8]]) {
        self.ranges.prefetch(keys);
    }

    /// Shows the live cell of `key`, if there is one at `now`, to `read`.
    ///
    /// `read` runs under the range's read lock: it should copy what it needs and return.
    pub fn read<T>(&self, key: &[u8], now: Time, read: impl FnOnce(Option<Live<'_>>) -> T) -> T {
        self.ranges.read(key, |cell| read(cell.filter(|cell| cell.is_live(now)).map(Live)))
    }

    /// The value of `key`, if there is one. The clock, which gives the machine's time, is asked only where a deadline
    /// makes a difference.
    #[inline]
    pub fn get(&self, key: &[u8], clock: impl FnOnce() -> Time) -> Option<Value> {
        self.ranges.read(key, |cell| {
            let cell = cell?;
            (cell.is_lasting() || cell.is_live(self.now(clock()))).then(|| Value::of(cell))
        })
    }

    /// Shows the live cell of `key` to `decide` and applies the write it returns, as one atomic step.
    ///
    /// The write's stamp is drawn first and is what the cell's deadline is judged by, so a write never
    /// qualifies a version that had expired before it.
    ///
    /// # Errors
    /// [`WriteError::OutOfMemory`] if the write would grow the cells beyond `--max-memory`, which a
    /// [`Write::Delete`] never does; [`WriteError::Unfounded`] while the daemon waits for its cluster. `decide` has
    /// run, nothing else happened.
    pub fn write<'v, T>(
        &self,
        batch: &mut Batch,
        key: &[u8],
        decide: impl FnOnce(Option<Live<'_>>) -> (Write<'v>, T),
    ) -> Result<T, WriteError> {
        // Also where nothing would change: `DEL` may not answer that there is no such key.
        if self.closed.load(Ordering::Relaxed) {
            return Err(WriteError::Unfounded);
        }
        let Batch { now, applied, scratch } = batch;
        let outcome = self.ranges.update(key, |cell| {
            let drawn = self.clock.draw(*now, cell.map_or(ZERO, Cell::latest));
            let live = cell.filter(|cell| cell.is_live(drawn));
            let (write, outcome) = decide(live.map(Live));
            let own = self.ranges.origins().own();
            let Some(parts) = apply(write, drawn, own, live) else { return (None, Ok(outcome)) };
            let next = Cell::pack(scratch, key, &parts);
            if parts.value.is_some() && self.grows_beyond(self.max_memory, cell, &next) {
                return (None, Err(WriteError::OutOfMemory));
            }
            applied.push(next.clone());
            (Some(next), Ok(outcome))
        });
        trim(scratch);
        outcome
    }

    /// Refuses clients' writes, or takes them again.
    pub(crate) fn close_to_writes(&self, closed: bool) {
        self.closed.store(closed, Ordering::Relaxed);
    }

    fn grows_beyond(&self, limit: u64, current: Option<&Cell>, next: &Cell) -> bool {
        let current = current.map_or(0, Cell::memory);
        next.memory() > current && self.ranges.memory() + (next.memory() - current) > limit
    }

    /// The id that cells refer to `incarnation` by.
    ///
    /// # Errors
    /// [`TooManyOrigins`] if the table of origins is full.
    pub(crate) fn intern(&self, incarnation: Incarnation) -> Result<Origin, TooManyOrigins> {
        self.ranges.origins().intern(incarnation)
    }

    /// The incarnation that this process writes as.
    pub(crate) fn own_incarnation(&self) -> Incarnation {
        self.incarnation(self.ranges.origins().own())
    }

    /// The incarnation behind an interned origin of this store.
    pub(crate) fn incarnation(&self, origin: Origin) -> Incarnation {
        self.ranges.origins().incarnation(origin)
    }

    /// Moves the clock past a received time. Must come before anything with that time is merged.
    pub(crate) fn observe(&self, time: Time) {
        if ablated(Ablation::ObserveReceived) {
            return;
        }
        self.clock.observe(time);
    }

    /// Merges a received register. The clock must have [observed](Self::observe) its times, and its origins
    /// must be [interned](Self::intern) here.
    pub(crate) fn merge(&self, scratch: &mut Vec<u8>, key: &[u8], received: &Parts<'_>) -> Merged {
        let merged = self.ranges.update(key, |cell| {
            let floor = self.floor();
            let mut admission = received.admission();
            if ablated(Ablation::AdmitByVersion) {
                admission = received.qualifier.map_or(admission, |(time, _)| admission.max(time));
            }
            if admission <= floor
                && cell.is_none_or(|cell| cell.is_dead_at(floor))
                && !ablated(Ablation::Admission)
            {
                let dead = received.register(self.ranges.origins()).death().is_some_and(|at| at <= floor);
                return (None, if dead { Merged::Known } else { Merged::Late(floor) });
            }
            let next = match cell {
                Some(cell)
                    if cell.time() > received.time && received.lift <= cell.lift().max(cell.time()) =>
                {
                    return (None, Merged::Known);
                }
                Some(cell) if cell.time() >= received.time || cell.lift() > received.time => {
                    match self.merge_in_full(scratch, cell, received) {
                        Some(merged) => merged,
                        None => return (None, Merged::Known),
                    }
                }
                _ => Cell::pack(scratch, key, received),
            };
            if self.grows_beyond(self.ceiling, cell, &next) {
                return (None, Merged::Refused);
            }
            let victim = cell.filter(|cell| cell.value().is_some() && self.is_kill(received)).cloned();
            (Some(next), victim.map_or(Merged::Applied, Merged::Killed))
        });
        trim(scratch);
        merged
    }

    /// The whole law, for copies that their times alone do not decide; `None` if the cell already has it all.
    fn merge_in_full(&self, scratch: &mut Vec<u8>, cell: &Cell, received: &Parts<'_>) -> Option<Cell> {
        let origins = self.ranges.origins();
        let (current, received) = (cell.register(origins), received.register(origins));
        let merged = current.merge(received);
        // A lift that the version has overtaken says nothing, and is not stored.
        let merged = Register {
            lift: if merged.admission() > *merged.version.get_time() { merged.lift } else { ZERO },
            ..merged
        };
        let known = |incarnation| origins.intern(incarnation).expect("both copies' origins are interned");
        (merged != current).then(|| {
            let parts = Parts {
                time: *merged.version.get_time(),
                origin: known(*merged.version.get_id()),
                value: merged.value,
                deadline: merged.deadline,
                qualifier: merged
                    .is_qualified()
                    .then(|| (*merged.qualifier.get_time(), known(*merged.qualifier.get_id()))),
                lift: merged.lift,
            };
            Cell::pack(scratch, cell.key(), &parts)
        })
    }

    /// Everything known of `key`, a tombstone included.
    pub fn meta(&self, key: &[u8]) -> Option<Meta> {
        self.ranges.read(key, |cell| {
            let register = cell?.register(self.ranges.origins());
            Some(Meta {
                version: register.version,
                qualifier: register.qualifier,
                deadline: register.deadline,
                value_bytes: register.value.map(<[u8]>::len),
            })
        })
    }

    /// How many ranges there are.
    pub fn range_count(&self) -> usize {
        self.ranges.len()
    }

    /// How many cells of a range hold a value; takes no lock.
    pub fn live_cells(&self, range: usize) -> u64 {
        self.ranges.live_cells(range)
    }

    /// Shows every cell of a range, tombstones included, to `visit`, under the range's read lock.
    pub fn walk(&self, range: usize, visit: impl FnMut(&Cell)) {
        self.ranges.walk(range, visit);
    }

    /// Drops the values of a range's expired cells to free their memory, keeping their stamps; returns how many
    /// there were. Costs nothing where nothing is due.
    pub fn sweep(&self, range: usize, now: Time) -> usize {
        let mut expired = Vec::new();
        self.ranges.collect_expired(range, now, &mut expired);
        let mut scratch = Vec::new();
        let swept = expired.iter().filter(|expired| {
            self.ranges.update(expired.key(), |cell| {
                let due = cell.filter(|cell| cell.value().is_some() && cell.is_expired(now));
                let next = due
                    .map(|cell| Cell::pack(&mut scratch, cell.key(), &Parts { value: None, ..cell.parts() }));
                let swept = next.is_some();
                (next, swept)
            })
        });
        swept.count()
    }

    /// The sums over all ranges. Exact for a store at rest; under writes each range is taken at its own moment.
    pub fn totals(&self) -> Totals {
        self.ranges.totals()
    }

    /// What all cells take in memory, in bytes, by the store's own count.
    pub fn memory(&self) -> u64 {
        self.ranges.memory()
    }

    /// Whether the cells are within `--max-memory`. Replicated data that would grow them is taken beyond it, up
    /// to the hard ceiling a quarter above.
    pub fn has_room(&self) -> bool {
        self.ranges.memory() <= self.max_memory
    }

    /// Begins to follow the changes under `prefixes`, whoever writes them.
    ///
    /// # Errors
    /// [`TooDeep`] if prefixes that others follow lie inside these, or these inside them, more than a few deep.
    pub fn follow(&self, prefixes: &Prefixes) -> Result<Follower, TooDeep> {
        self.ranges.changes().follow(prefixes)
    }

    /// The feed of changes that local writes published.
    pub(crate) fn feed(&self) -> &Feed {
        &self.feed
    }
}

/// What `write`, stamped `drawn`, makes of the live cell it saw; `None` for no change.
fn apply<'a>(write: Write<'a>, drawn: Time, own: Origin, live: Option<&'a Cell>) -> Option<Parts<'a>> {
    let version =
        |value, deadline| Parts { time: drawn, origin: own, value, deadline, qualifier: None, lift: ZERO };
    let passed = |deadline: Option<Time>| deadline.is_some_and(|deadline| deadline <= drawn);
    match write {
        Write::Keep => None,
        Write::Set { deadline, .. } if passed(deadline) => live.map(|_| version(None, None)),
        Write::Set { value, deadline } => Some(version(Some(value), deadline)),
        Write::Delete => live.map(|_| version(None, None)),
        Write::Deadline(deadline) if passed(deadline) => live.map(|_| version(None, None)),
        Write::Deadline(deadline) => {
            live.map(|cell| Parts { deadline, qualifier: Some((drawn, own)), ..cell.parts() })
        }
    }
}

/// Gives a buffer that one large cell has grown back to the allocator.
fn trim(scratch: &mut Vec<u8>) {
    if scratch.capacity() > SCRATCH_KEPT {
        *scratch = Vec::new();
    }
}

#[cfg(test)]
mod tests;
