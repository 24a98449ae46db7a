//! How commands reach keys: each on its own, or several in one step.
//!
//! A transaction locks the ranges of all its keys before it does anything, in the order of the ranges, so two of them
//! never wait for each other in a circle, and nobody else on this node sees a part of one. It is pessimistic two-phase
//! locking, as in Gray and Reuter, *Transaction Processing* (1992), with the ranges as the units that are locked.
//! Writers of other ranges go on.
//!
//! Peers know nothing of it: they take its writes cell by cell, like all others.

use std::borrow::Cow;

use super::accesses::Accesses;
use super::buffered::Buffered;
use super::cell::Cell;
use super::ranges::{LockedRanges, Ranges};
use super::write::read_live;
use super::{Batch, Count, Live, Meta, Store, Write, WriteError, trim};
use crate::model::{Database, Time};

/// The keys of a database, as a command reaches them. A command knows keys as its client does; here they become
/// [stored keys](Database::stored).
pub(crate) struct Keyspace<'s> {
    /// The database that the keys are of.
    pub(crate) database: Database,
    store: &'s Store,
    /// Where reads are recorded, if they are.
    accesses: Option<&'s Accesses>,
    reach: Reach<'s>,
}

enum Reach<'s> {
    /// Each call is one step of its own.
    Free,
    /// All calls are one step. They must be of keys that were locked.
    Locked(LockedRanges<'s>),
    /// As `Locked`, and what is written is applied at the end, or never.
    Buffered(Box<Buffered<'s>>),
}

impl<'s> Keyspace<'s> {
    /// The keys of a database; each call is one step of its own.
    pub(crate) fn new(store: &'s Store, database: Database) -> Self {
        Keyspace { database, store, accesses: store.ranges.accesses(), reach: Reach::Free }
    }

    /// Has reads count as accesses no more.
    pub(crate) fn stop_touching(&mut self) {
        self.accesses = None;
    }

    /// Records an access of a key, if it is there at `now`, whether or not reads count; returns whether it is.
    pub(crate) fn touch(&self, key: &[u8], now: Time) -> bool {
        let accesses = self.store.ranges.accesses();
        self.access(&self.stored(key), accesses, |cell| read_live(cell, now, |live| live.is_some()))
    }

    pub(crate) fn store(&self) -> &'s Store {
        self.store
    }

    /// Locks the ranges of these keys of some databases: until [`unlock`](Self::unlock) all calls are one step, and
    /// nobody else on this node reads or writes a key of theirs. Does nothing and returns `false` if ranges are locked
    /// already.
    pub(crate) fn lock<'k>(&mut self, keys: impl Iterator<Item = (Database, &'k [u8])>) -> bool {
        if self.is_locked() {
            return false;
        }
        self.reach = Reach::Locked(self.store.ranges.lock(keys.map(|(database, key)| database.stored(key))));
        true
    }

    /// Whether ranges are locked.
    pub(crate) fn is_locked(&self) -> bool {
        !matches!(self.reach, Reach::Free)
    }

    /// Whether writes are kept in a buffer.
    pub(crate) fn is_buffered(&self) -> bool {
        matches!(self.reach, Reach::Buffered(_))
    }

    /// Unlocks all ranges.
    pub(crate) fn unlock(&mut self) {
        self.reach = Reach::Free;
    }

    /// Calls `read` with the cell of a stored key.
    fn cell<T>(&self, stored: &[u8], read: impl FnOnce(Option<&Cell>) -> T) -> T {
        self.access(stored, None, read)
    }

    /// Calls `read` with the cell of a stored key. It is an access of the key for these `accesses`.
    #[inline]
    fn access<T>(
        &self,
        stored: &[u8],
        accesses: Option<&Accesses>,
        read: impl FnOnce(Option<&Cell>) -> T,
    ) -> T {
        match &self.reach {
            Reach::Free => self.store.ranges.read(stored, accesses, read),
            Reach::Locked(ranges) => ranges.read(stored, accesses, read),
            Reach::Buffered(buffered) => buffered.read(stored, accesses, read),
        }
    }

    /// As [`Store::read`]. It is an access of the key, which keeps it from being evicted.
    #[inline]
    pub(crate) fn read<T>(&self, key: &[u8], now: Time, read: impl FnOnce(Option<Live<'_>>) -> T) -> T {
        self.access(&self.stored(key), self.accesses, |cell| read_live(cell, now, read))
    }

    /// As [`read`](Self::read), without being an access.
    #[inline]
    pub(crate) fn peek<T>(&self, key: &[u8], now: Time, read: impl FnOnce(Option<Live<'_>>) -> T) -> T {
        self.peek_stored(&self.database.stored(key), now, read)
    }

    /// As [`peek`](Self::peek), of a stored key.
    #[inline]
    pub(crate) fn peek_stored<T>(
        &self,
        stored: &[u8],
        now: Time,
        read: impl FnOnce(Option<Live<'_>>) -> T,
    ) -> T {
        self.cell(stored, |cell| read_live(cell, now, read))
    }

    /// As [`Store::write`].
    ///
    /// # Errors
    /// As [`Store::write`].
    #[inline]
    pub(crate) fn write<'v, T>(
        &mut self,
        batch: &mut Batch,
        key: &[u8],
        decide: impl FnOnce(Option<Live<'_>>) -> (Write<'v>, T),
    ) -> Result<T, WriteError> {
        let (key, store) = (&*self.database.stored(key), self.store);
        match &mut self.reach {
            Reach::Free => store.write(batch, key, decide),
            Reach::Locked(ranges) => {
                let outcome = ranges.update(key, |cell| store.decide(batch, key, cell, decide));
                trim(&mut batch.scratch);
                outcome
            }
            Reach::Buffered(buffered) => buffered.write(store, batch, key, decide),
        }
    }

    /// As [`Store::meta`].
    pub(crate) fn meta(&self, key: &[u8], now: Time) -> Option<Meta> {
        self.cell(&self.stored(key), |cell| self.store.meta_of(cell?, now))
    }

    /// The bytes that the cell of `key` takes, if it is live at `now`.
    pub(crate) fn memory(&self, key: &[u8], now: Time) -> Option<u64> {
        self.cell(&self.stored(key), |cell| cell.filter(|cell| cell.is_live(now)).map(Cell::memory))
    }

    /// As [`Store::count`].
    pub(crate) fn count(&self, key: &[u8], now: Time) -> Option<Count> {
        self.cell(&self.stored(key), |cell| self.store.counted(cell?, now))
    }

    /// The stored key of a key of the database.
    pub(crate) fn stored<'k>(&self, key: &'k [u8]) -> Cow<'k, [u8]> {
        self.database.stored(key)
    }

    /// What a stored key holds at `now`, to see later whether it was changed.
    pub(crate) fn seen(&self, stored: &[u8], now: Time) -> Seen {
        self.cell(stored, |cell| Seen::of(cell, now, &self.store.ranges))
    }
}

/// Writes that are kept in a buffer, so that all of them are applied or none.
impl Keyspace<'_> {
    /// Keeps the writes of locked keys in a buffer from here on, until [`end`](Self::end). Does nothing and returns
    /// `false` if they are kept already.
    pub(crate) fn buffer(&mut self) -> bool {
        let reach = std::mem::replace(&mut self.reach, Reach::Free);
        let is_first = matches!(reach, Reach::Locked(_));
        self.reach = match reach {
            Reach::Locked(ranges) => Reach::Buffered(Box::new(Buffered::new(ranges))),
            other => other,
        };
        is_first
    }

    /// The bytes of all cells in the buffer.
    #[cfg(feature = "scripts")]
    pub(crate) fn buffered_bytes(&self) -> usize {
        if let Reach::Buffered(buffered) = &self.reach { buffered.bytes() } else { 0 }
    }

    /// Applies what the buffer holds, or drops it. The keys stay locked.
    pub(crate) fn end(&mut self, batch: &mut Batch, is_kept: bool) {
        self.reach = match std::mem::replace(&mut self.reach, Reach::Free) {
            Reach::Buffered(buffered) => Reach::Locked(buffered.end(batch, is_kept)),
            other => other,
        };
    }
}

/// What a key held at some time: whether it was there, and the version of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Seen {
    is_live: bool,
    /// The [fingerprint](Ranges::fingerprint) of its cell; `None` if there was none.
    version: Option<u64>,
}

impl Seen {
    fn of(cell: Option<&Cell>, now: Time, ranges: &Ranges) -> Seen {
        Seen {
            is_live: cell.is_some_and(|cell| cell.is_live(now)),
            version: cell.map(|cell| ranges.fingerprint(cell)),
        }
    }

    /// Whether the key was written, by whichever node, or has expired, between this and a `later` look.
    ///
    /// That a tombstone was purged meanwhile is no change.
    pub(crate) fn is_changed(self, later: Seen) -> bool {
        let was_purged = !self.is_live && later.version.is_none();
        self != later && !was_purged
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::{at, config, delete, get, replicate, set};
    use super::*;
    use crate::model::Deadline;
    use crate::model::timestamp::ms;
    use crate::store::StoreConfig;

    fn seen(store: &Store, now: u64) -> Seen {
        Keyspace::new(store, Database::ZERO).seen(b"key", ms(now))
    }

    #[test]
    fn whoever_writes_a_key_changes_it_and_a_sweep_or_a_purge_does_not() {
        let (store, peer) = (Store::new(config(1)), Store::new(config(2)));
        let absent = seen(&store, 10);
        assert!(!absent.is_changed(seen(&store, 11)));
        set(&peer, 10, b"key", b"value", None);
        replicate(&peer, &store);
        let there = seen(&store, 20);
        assert!(absent.is_changed(there), "a peer has written it");
        set(&store, 30, b"other", b"value", None);
        assert!(!there.is_changed(seen(&store, 40)));
        peer.write(&mut at(&peer, 50), b"key", |_| (Write::Deadline(Some(Deadline(90))), ())).unwrap();
        replicate(&peer, &store);
        let expires = seen(&store, 60);
        assert!(there.is_changed(expires), "a deadline was set");
        let expired = seen(&store, 100);
        assert!(expires.is_changed(expired), "it has expired");
        for range in 0..store.range_count() {
            store.sweep(range, ms(100));
        }
        assert!(!expired.is_changed(seen(&store, 110)), "it was swept");
        set(&store, 120, b"key", b"value", None);
        delete(&store, 130, b"key");
        assert!(expired.is_changed(seen(&store, 140)), "it was there meanwhile");
        let deleted = seen(&store, 140);
        assert!(!deleted.is_changed(absent), "as after a purge");
    }

    #[test]
    fn locked_keys_are_read_and_written_as_free_ones_are() {
        let store = Store::new(config(1));
        let keys = [&b"a"[..], b"b", b"a", b"c"];
        let mut batch = at(&store, 10);
        let mut keyspace = Keyspace::new(&store, Database::ZERO);
        let with_database = || keys.into_iter().map(|key| (Database::ZERO, key));
        assert!(keyspace.lock(with_database()) && !keyspace.lock(with_database()));
        for key in keys {
            keyspace.write(&mut batch, key, |_| (Write::Set { value: key, deadline: None }, ())).unwrap();
            keyspace.write(&mut batch, key, |live| (Write::Keep, live.unwrap().value().to_vec())).unwrap();
        }
        let found = keyspace.read(b"b", ms(10), |live| live.map(|live| live.value().to_vec()));
        assert_eq!(found.as_deref(), Some(&b"b"[..]));
        assert!(keyspace.meta(b"c", ms(10)).is_some_and(|meta| meta.value_bytes == Some(1)));
        drop(keyspace);
        assert_eq!(get(&store, 10, b"a").as_deref(), Some(&b"a"[..]));
        super::super::tests::assert_sums_are_exact(&store);
        assert_eq!(store.publish(&mut batch), 4, "each write is published");
    }

    /// Two threads that lock the same keys in opposite orders would wait for each other for ever, if the order of the
    /// locks were that of the keys.
    #[test]
    fn locks_are_taken_in_one_order_whatever_the_order_of_the_keys() {
        let store =
            Store::new(StoreConfig { ranges: crate::model::RangeCount::power_of_two(6), ..config(1) });
        let keys: Vec<Vec<u8>> = (0..64u8).map(|n| vec![n]).collect();
        std::thread::scope(|scope| {
            for reversed in [false, true] {
                let (store, mut keys) = (&store, keys.clone());
                scope.spawn(move || {
                    if reversed {
                        keys.reverse();
                    }
                    for _ in 0..2_000 {
                        let keys = keys.iter().map(|key| (Database::ZERO, &key[..]));
                        Keyspace::new(store, Database::ZERO).lock(keys);
                    }
                });
            }
        });
    }
}
