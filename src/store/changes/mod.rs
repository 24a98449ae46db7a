//! Records every change of a cell for watchers, wherever it was written, in the order in which it was applied.
//!
//! ```text
//!   write, merge, sweep ──► ranges ──► Changes: a log a prefix ──► Follower ──► watchers, notifications
//!                        under the range's lock
//! ```
//!
//! Invariants:
//! * The changes of one key are recorded in the order in which they were applied, because the range's write lock is
//!   held.
//! * A reader that resumes where it stopped gets the last change of every key, unless it receives [`Read::Lagged`].
//! * A writer waits for a reader only while that one copies a bounded number of changes under the lock of the logs. If
//!   there is no follower, a writer pays for one atomic load.
//! * The memory of recorded changes is bounded, whatever is written and however slow the readers are (see [`log`]).

mod cause;
mod conflated;
mod follower;
mod log;
mod prefixes;
mod recent;
mod record;

pub use cause::Cause;
pub use follower::Follower;
pub use prefixes::{MAX_PREFIXES, Prefixes, TooManyPrefixes};

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::Instant;
use tracing_mutex::parkinglot::Mutex;

use self::conflated::ConflatedTotal;
use self::log::Log;
pub(crate) use self::log::MAX_RECENT;
use self::prefixes::PrefixMap;
use self::record::Record;
use super::cell::Cell;
use crate::ablation::{Ablation, ablated};

/// Limits are small in tests, so that random histories reach them.
const SMALL: bool = cfg!(test);
/// How deep followed prefixes may nest: a change is recorded once for each followed prefix of its key.
const MAX_DEPTH: usize = 16;
/// How long changes are still recorded after the last follower left, so that it can return and miss nothing.
const LINGER: Duration = Duration::from_secs(60);
/// The number of changes between two checks whether a follower stayed away too long. A check reads the clock.
const LOOK_EVERY: u64 = 1024;
/// Most sets of prefixes for which changes are recorded although no follower reads them.
const MAX_EMPTY_GROUPS: usize = 64;

/// One change of one key.
#[derive(Clone, Debug)]
pub struct Change {
    /// The sequence number among all recorded changes of this process. It rises, with gaps where changes were
    /// conflated and where they are under prefixes that the reader does not follow.
    pub sequence: u64,
    /// The cell after the change. If it neither holds a value nor counts, the change is a delete or an expiry.
    pub cell: Cell,
    /// The cause of the change.
    pub cause: Cause,
    /// Whether the key was live before.
    pub was_live: bool,
    /// Whether the key was live before and has kept its deadline, or its lack of one.
    pub keeps_deadline: bool,
    /// The least number of earlier changes of the key that this reader misses, because they were conflated into this
    /// one.
    pub skipped: u64,
    /// The hash of the key.
    pub(super) key_hash: u64,
}

impl Change {
    /// Whether the key was absent before and is live now.
    pub fn is_new(&self) -> bool {
        !self.was_live && self.cell.counts_as_live()
    }
}

/// The most to read at a time. At least one change is read.
#[derive(Clone, Copy, Debug)]
pub struct ReadLimit {
    /// Most changes.
    pub changes: usize,
    /// Most bytes of their cells.
    pub bytes: u64,
}

impl ReadLimit {
    /// Whether there is room for one more change; subtracts its `bytes` from the room.
    fn admits(&mut self, bytes: u64) -> bool {
        let admitted = self.changes > 0 && self.bytes > 0;
        self.changes = self.changes.saturating_sub(1);
        self.bytes = self.bytes.saturating_sub(bytes);
        admitted
    }
}

/// The result of a read.
#[derive(Debug)]
pub enum Read {
    /// The changes after the given sequence, in order; empty if there are none.
    Changes(Vec<Change>),
    /// The reader is too far behind: changes that it has not read may be gone. It must read the state instead.
    Lagged,
}

/// The error that followed prefixes would nest too deep.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("more than {MAX_DEPTH} followed prefixes would lie one inside the other")]
pub struct TooDeep;

/// The recorded changes.
#[derive(Default)]
pub(super) struct Changes {
    /// The number of logs. A writer reads nothing else while it is 0.
    ///
    /// It is read under a range's write lock. A new follower raises it and then takes each range's lock to read the
    /// state. So either the follower sees a write there, or the writer sees the new number.
    logs: AtomicUsize,
    book: Mutex<Book>,
}

#[derive(Default)]
struct Book {
    /// The sequence of the last recorded change, or of the last start of a log.
    head: u64,
    /// The value of [`head`](Self::head) when all keys were discarded last.
    discarded: u64,
    logs: PrefixMap<Kept>,
    conflated: ConflatedTotal,
    groups: HashMap<Prefixes, Members>,
    /// The number of empty groups.
    empty_groups: usize,
    /// Logs without readers that are still to be freed, which takes long.
    ended: Vec<Log>,
}

/// The log of one prefix, and its readers.
struct Kept {
    log: Log,
    readers: Vec<Arc<Group>>,
    /// Whether one of the readers may be asleep.
    alert: bool,
}

struct Members {
    group: Arc<Group>,
    count: usize,
    /// The time when the last member left.
    empty_since: Option<Instant>,
}

/// All followers of the same prefixes.
struct Group {
    prefixes: Prefixes,
    /// Wakes one follower, which wakes the next. So a writer wakes only one, however many there are.
    news: Notify,
    /// A follower waits and none is about to be woken. Changes only under the book's lock.
    asleep: AtomicBool,
}

impl Changes {
    /// Starts to follow `prefixes`.
    pub(super) fn follow(self: &Arc<Self>, prefixes: &Prefixes) -> Result<Follower, TooDeep> {
        let mut book = self.book.lock();
        let group = book.join(prefixes)?;
        self.logs.store(book.logs.len(), Ordering::Relaxed);
        drop(book);
        Ok(Follower { changes: Arc::clone(self), group })
    }

    /// Records the change from `old` to `new`, which may be an eviction by this node. The caller holds the range's lock and has updated its sums.
    pub(super) fn record(&self, key_hash: u64, old: Option<&Cell>, new: &Cell, is_eviction: bool) {
        if self.logs.load(Ordering::Relaxed) > 0 {
            self.note(key_hash, old, new, is_eviction);
        }
    }

    #[inline(never)]
    fn note(&self, key_hash: u64, old: Option<&Cell>, new: &Cell, is_eviction: bool) {
        let Some(cause) = Cause::between(old, new) else { return };
        let cause = if is_eviction && cause == Cause::Delete { Cause::Evicted } else { cause };
        let live_before = old.filter(|old| old.is_live(new.latest()));
        let keeps_deadline =
            live_before.is_some_and(|old| old.deadline_at_last_sweep() == new.deadline_at_last_sweep());
        let before = (live_before.is_some(), keeps_deadline);
        let mut book = self.book.lock();
        book.note(old, new.key(), |sequence| Record::new(sequence, new.clone(), key_hash, cause, before));
        if book.empty_groups > 0 && book.head.is_multiple_of(LOOK_EVERY) {
            book.forget_empty_groups(Instant::now());
            self.logs.store(book.logs.len(), Ordering::Relaxed);
        }
    }

    /// Restarts every log, because all keys were discarded.
    pub(super) fn discard(&self) {
        let mut book = self.book.lock();
        book.head += 1;
        book.discarded = book.head;
        let Book { head, logs, conflated, ended, .. } = &mut *book;
        for kept in logs.values_mut() {
            ended.push(kept.log.renew(*head, conflated));
            kept.wake();
        }
    }

    /// Frees a part of the ended logs, some thousand changes at most; returns whether there was any.
    pub(super) fn free_ended(&self) -> bool {
        let Some(mut log) = self.book.lock().ended.pop() else { return false };
        // Free without the lock, because every writer waits for it.
        if log.free_oldest() {
            self.book.lock().ended.push(log);
        }
        true
    }
}

impl Book {
    fn join(&mut self, prefixes: &Prefixes) -> Result<Arc<Group>, TooDeep> {
        if let Some(members) = self.groups.get_mut(prefixes) {
            members.count += 1;
            if members.empty_since.take().is_some() {
                self.empty_groups -= 1;
            }
            return Ok(Arc::clone(&members.group));
        }
        if prefixes.iter().any(|prefix| self.logs.depth_with(prefix) > MAX_DEPTH) {
            return Err(TooDeep);
        }
        let group = Arc::new(Group {
            prefixes: prefixes.clone(),
            news: Notify::new(),
            asleep: AtomicBool::new(false),
        });
        // Earlier changes, which were not recorded, are behind the oldest of every log that begins here.
        self.head += 1;
        for prefix in prefixes.iter() {
            let fresh = || Kept { log: Log::new(self.head), readers: Vec::new(), alert: false };
            self.logs.entry(prefix, fresh).readers.push(Arc::clone(&group));
        }
        let members = Members { group: Arc::clone(&group), count: 1, empty_since: None };
        self.groups.insert(prefixes.clone(), members);
        Ok(group)
    }

    fn leave(&mut self, group: &Group) {
        let members = self.groups.get_mut(&group.prefixes).expect("a group is kept while it has members");
        members.count -= 1;
        if members.count == 0 {
            let now = Instant::now();
            members.empty_since = Some(now);
            self.empty_groups += 1;
            self.forget_empty_groups(now);
        }
    }

    /// Ends the logs of groups that have been empty for too long, and of the longest empty ones if there are too many.
    fn forget_empty_groups(&mut self, now: Instant) {
        let mut empty: Vec<_> = self.groups.values().filter_map(|members| members.empty_since).collect();
        empty.sort_unstable();
        let surplus = empty.len().saturating_sub(MAX_EMPTY_GROUPS);
        let due = |since: Instant| now.duration_since(since) >= LINGER;
        let gone = surplus.max(empty.partition_point(|since| due(*since)));
        let Some(last_gone) = gone.checked_sub(1).map(|last| empty[last]) else { return };
        let Book { logs, conflated, groups, head, ended, .. } = self;
        groups.retain(|prefixes, members| {
            let stays = members.empty_since.is_none_or(|since| since > last_gone);
            if !stays {
                for prefix in prefixes.iter() {
                    let Some(kept) = logs.at(prefix) else { continue };
                    kept.readers.retain(|reader| !Arc::ptr_eq(reader, &members.group));
                    if kept.readers.is_empty() {
                        ended.push(kept.log.renew(*head, conflated));
                        logs.remove(prefix);
                    }
                }
            }
            stays
        });
        self.empty_groups = self.groups.values().filter(|members| members.empty_since.is_some()).count();
    }

    fn note(&mut self, old: Option<&Cell>, key: &[u8], record: impl Fn(u64) -> Record) {
        let Book { head, logs, conflated, .. } = self;
        let sequence = *head + 1;
        logs.visit(key, |kept| {
            *head = sequence;
            kept.log.push(record(sequence), old, conflated);
            kept.wake();
        });
    }

    /// The sequence of the last change under a group's prefixes.
    fn last(&self, group: &Group) -> u64 {
        group
            .prefixes
            .iter()
            .filter_map(|prefix| self.logs.get(prefix))
            .map(|kept| kept.log.last())
            .max()
            .unwrap_or(0)
    }

    fn knows_all_since(&self, group: &Group, from: u64) -> bool {
        let mut logs = group.prefixes.iter().filter_map(|prefix| self.logs.get(prefix));
        from <= self.head && logs.all(|kept| kept.log.oldest() <= from)
    }

    fn read(&mut self, group: &Group, from: u64, limit: ReadLimit) -> Read {
        let mut changes = Vec::new();
        let mut logs = 0;
        for prefix in group.prefixes.iter() {
            let Some(kept) = self.logs.at(prefix) else { continue };
            if kept.log.read(from, limit, &mut changes).is_err() {
                return Read::Lagged;
            }
            logs += 1;
        }
        if logs > 1 {
            changes.sort_unstable_by_key(|change| change.sequence);
            let mut room = limit;
            let taken = changes.iter().take_while(|change| room.admits(change.cell.memory())).count();
            changes.truncate(taken);
        }
        Read::Changes(changes)
    }

    fn last_of_keys(&self, group: &Group, mut changes: Vec<Change>) -> Vec<Change> {
        if ablated(Ablation::LastOfKeys) {
            return changes;
        }
        changes.sort_unstable_by_key(|change| change.key_hash);
        let mut is_last = vec![true; changes.len()];
        for kept in group.prefixes.iter().filter_map(|prefix| self.logs.get(prefix)) {
            kept.log.find_outdated(&changes, |outdated| is_last[outdated] = false);
        }
        let mut is_last = is_last.into_iter();
        changes.retain(|_| is_last.next().unwrap_or(false));
        changes.sort_unstable_by_key(|change| change.sequence);
        changes
    }
}

impl Kept {
    /// Wakes one follower of each sleeping group.
    fn wake(&mut self) {
        if std::mem::take(&mut self.alert) {
            for reader in &self.readers {
                if reader.asleep.swap(false, Ordering::Relaxed) {
                    reader.news.notify_one();
                }
            }
        }
    }
}

#[cfg(test)]
mod tests;
