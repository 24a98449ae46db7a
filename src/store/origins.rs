//! Incarnations interned to 32 bits, and the summary vector: how far each one's writes are incorporated.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};

use tracing_mutex::parkinglot::RwLock;

use crate::model::timestamp::ZERO;
use crate::model::{Incarnation, Time, timestamp};

/// An interned incarnation. It has a meaning only with the [`Origins`] that returned it.
pub(crate) type Origin = u32;

/// The most incarnations one process can intern: over a million restarts of members. A hostile peer can make it use at
/// most about 80 MiB.
const MAX_ORIGINS: usize = 1 << 20;

/// The error that the table of incarnations is full.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("more than {MAX_ORIGINS} incarnations have written to this cluster since this node started")]
pub struct TooManyOrigins;

/// The append-only table of interned incarnations.
///
/// For each of them it has the entry of the node's *summary vector* (Golding, 1992): the time up to which every write
/// of that incarnation is held here, or something that has replaced it. Completed syncs and [closing](Origins::close)
/// raise it. A push never does, because an earlier push may have been lost.
pub(crate) struct Origins {
    /// The current incarnation of this process.
    own: AtomicU32,
    /// The stable time.
    stable: AtomicU64,
    entries: boxcar::Vec<Entry>,
    index: RwLock<HashMap<Incarnation, Origin>>,
}

struct Entry {
    incarnation: Incarnation,
    /// Every write up to this time is incorporated, as proved by syncs.
    synced: AtomicU64,
    /// Every write up to this time counts as incorporated, because the incarnation is away and was closed.
    closed: AtomicU64,
    /// The time of the latest write that was received, also by a push.
    seen: AtomicU64,
}

/// The coverage of one incarnation: its entry of the summary vector, its closed mark and its latest write.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Coverage {
    /// Every write up to this time is incorporated, as proved by syncs.
    pub(crate) synced: Time,
    /// Every write up to this time counts as incorporated, because the incarnation was closed. If no member has
    /// received a write between `synced` and this time, it is given up.
    pub(crate) closed: Time,
    /// The time of the latest write that was received.
    pub(crate) seen: Time,
}

impl Coverage {
    /// The time up to which writes are covered.
    pub(crate) fn covered(&self) -> Time {
        self.synced.max(self.closed)
    }

    /// Whether nothing is known of the incarnation.
    pub(crate) fn is_none(&self) -> bool {
        self.covered() == ZERO && self.seen == ZERO
    }

    /// Whether something was received that is not known to be held by every member.
    pub(crate) fn is_open(&self) -> bool {
        self.seen > self.covered()
    }
}

impl Entry {
    fn new(incarnation: Incarnation) -> Self {
        let [synced, closed, seen] = [const { 0 }; 3].map(AtomicU64::new);
        Entry { incarnation, synced, closed, seen }
    }

    fn clear(&self) {
        [&self.synced, &self.closed, &self.seen]
            .into_iter()
            .for_each(|time| time.store(0, Ordering::Release));
    }
}

/// The incarnation number of registers without a writer: those of keys that have only a counter.
const NOBODY_NUMBER: u128 = u128::MAX - 1;

impl Origins {
    /// The origin of registers without a writer.
    pub(crate) const NOBODY: Origin = 0;

    pub(crate) fn new(own: Incarnation) -> Self {
        let nobody = timestamp::incarnation(NOBODY_NUMBER).expect("it is not zero");
        let entries = boxcar::Vec::new();
        entries.push(Entry::new(nobody));
        entries.push(Entry::new(own));
        let index = HashMap::from([(nobody, Self::NOBODY), (own, 1)]);
        Origins { own: AtomicU32::new(1), stable: AtomicU64::new(0), entries, index: RwLock::new(index) }
    }

    /// The stable time: every member has incorporated every write up to it.
    pub(crate) fn stable_time(&self) -> Time {
        Time(self.stable.load(Ordering::Acquire))
    }

    /// Raises the stable time; never lowers it.
    pub(crate) fn raise_stable_time(&self, stable: Time) {
        self.stable.fetch_max(stable.0, Ordering::AcqRel);
    }

    /// Resets the stable time to zero, because a member was added or the store was discarded.
    pub(crate) fn reset_stable_time(&self) {
        self.stable.store(0, Ordering::Release);
    }

    /// The origin of this process's current incarnation.
    pub(crate) fn own(&self) -> Origin {
        self.own.load(Ordering::Relaxed)
    }

    /// Gives this process another incarnation, with an empty summary vector.
    pub(crate) fn renew(&self, incarnation: Incarnation) -> Result<(), TooManyOrigins> {
        self.own.store(self.intern(incarnation)?, Ordering::Relaxed);
        self.entries.iter().for_each(|(_, entry)| entry.clear());
        Ok(())
    }

    pub(crate) fn intern(&self, incarnation: Incarnation) -> Result<Origin, TooManyOrigins> {
        if let Some(&origin) = self.index.read().get(&incarnation) {
            return Ok(origin);
        }
        let mut index = self.index.write();
        if let Some(&origin) = index.get(&incarnation) {
            return Ok(origin);
        }
        if self.entries.count() >= MAX_ORIGINS {
            return Err(TooManyOrigins);
        }
        let origin =
            Origin::try_from(self.entries.push(Entry::new(incarnation))).expect("MAX_ORIGINS fits 32 bits");
        index.insert(incarnation, origin);
        Ok(origin)
    }

    /// The origin of an incarnation; `None` if it was never interned.
    pub(crate) fn find(&self, incarnation: Incarnation) -> Option<Origin> {
        self.index.read().get(&incarnation).copied()
    }

    /// The incarnation of an origin of this table.
    ///
    /// # Panics
    /// If `origin` was not returned by this table's [`intern`](Self::intern).
    pub(crate) fn incarnation(&self, origin: Origin) -> Incarnation {
        self.entry(origin).incarnation
    }

    fn entry(&self, origin: Origin) -> &Entry {
        self.entries.get(origin as usize).expect("an origin comes from this table")
    }

    /// Whether a write is covered: it was incorporated, or this process made it.
    pub(crate) fn covers(&self, time: Time, origin: Origin) -> bool {
        origin == self.own() || time <= self.coverage(origin).covered()
    }

    pub(crate) fn coverage(&self, origin: Origin) -> Coverage {
        let entry = self.entry(origin);
        let [synced, closed, seen] = [&entry.synced, &entry.closed, &entry.seen];
        let load = |time: &AtomicU64| Time(time.load(Ordering::Acquire));
        Coverage { synced: load(synced), closed: load(closed), seen: load(seen) }
    }

    /// The coverage of an incarnation; all zero if it is unknown.
    pub(crate) fn coverage_of(&self, incarnation: Incarnation) -> Coverage {
        self.find(incarnation).map(|origin| self.coverage(origin)).unwrap_or_default()
    }

    /// Raises the coverage of an incarnation after a completed sync; returns whether `synced` rose.
    ///
    /// All that the other side had incorporated when the sync began is incorporated here. Nothing changes if the table
    /// is full: those writes stay uncovered.
    pub(crate) fn raise(&self, incarnation: Incarnation, synced: Time, closed: Time) -> bool {
        let Ok(origin) = self.intern(incarnation) else { return false };
        let entry = self.entry(origin);
        let before = entry.synced.fetch_max(synced.0, Ordering::AcqRel);
        entry.closed.fetch_max(closed.0, Ordering::AcqRel);
        synced.0 > before
    }

    /// Closes an incarnation that is away: its writes up to `seen` count as covered.
    ///
    /// All members hold whatever any member has received of it up to `seen`.
    pub(crate) fn close(&self, incarnation: Incarnation, seen: Time) {
        if let Ok(origin) = self.intern(incarnation) {
            self.entry(origin).closed.fetch_max(seen.0, Ordering::AcqRel);
        }
    }

    /// Clears the coverage of an incarnation: its writes are admitted again.
    pub(crate) fn drop_coverage(&self, incarnation: Incarnation) {
        if let Ok(origin) = self.intern(incarnation) {
            self.entry(origin).clear();
        }
    }

    /// Notes that a write was received.
    pub(crate) fn see(&self, origin: Origin, time: Time) {
        let seen = &self.entry(origin).seen;
        // Often an equal or later time was noted already, because several writes are received together.
        if seen.load(Ordering::Relaxed) < time.0 {
            seen.fetch_max(time.0, Ordering::AcqRel);
        }
    }

    /// Every incarnation except this process's own and that of registers without a writer, in table order.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (Incarnation, Coverage)> {
        let own = self.own() as usize;
        let others =
            self.entries.iter().filter(move |&(origin, _)| origin != own && origin != Self::NOBODY as usize);
        others.map(|(origin, entry)| {
            let origin = Origin::try_from(origin).expect("MAX_ORIGINS fits 32 bits");
            (entry.incarnation, self.coverage(origin))
        })
    }
}

impl std::fmt::Debug for Origins {
    /// Shows the coverage by incarnation and not by origin, so the text is equal for two tables that decide alike.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let known = self.iter().filter(|(_, coverage)| !coverage.is_none());
        let known: std::collections::BTreeMap<_, _> = known.collect();
        f.debug_struct("Origins")
            .field("own", &self.incarnation(self.own()))
            .field("stable", &self.stable_time())
            .field("known", &known)
            .finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::timestamp::incarnation;

    fn id(n: u128) -> Incarnation {
        incarnation(n).unwrap()
    }

    #[test]
    fn an_incarnation_is_interned_once() {
        let origins = Origins::new(id(9));
        assert_eq!(origins.intern(id(9)), Ok(origins.own()));
        let other = origins.intern(id(5)).unwrap();
        assert_eq!(origins.intern(id(5)), Ok(other));
        assert_eq!(origins.incarnation(other), id(5));
    }

    #[test]
    fn what_was_received_is_news_until_a_sync_or_a_closing_covers_it() {
        let origins = Origins::new(id(9));
        let other = origins.intern(id(5)).unwrap();
        origins.see(other, Time(20));
        assert!(!origins.covers(Time(10), other) && origins.coverage(other).is_open());
        assert!(origins.covers(Time(99), origins.own()));
        assert!(origins.raise(id(5), Time(15), ZERO));
        assert!(!origins.raise(id(5), Time(14), ZERO));
        assert!(origins.covers(Time(15), other) && !origins.covers(Time(16), other));
        origins.close(id(5), origins.coverage_of(id(5)).seen);
        assert!(origins.covers(Time(20), other) && !origins.covers(Time(21), other));
        assert_eq!(origins.coverage(other).synced, Time(15), "a closing proves nothing");
    }

    #[test]
    fn another_incarnation_of_this_process_knows_nothing() {
        let origins = Origins::new(id(9));
        origins.raise(id(5), Time(15), ZERO);
        origins.renew(id(10)).unwrap();
        assert_eq!(origins.iter().filter(|(_, coverage)| !coverage.is_none()).count(), 0);
        assert!(!origins.covers(Time(1), origins.intern(id(9)).unwrap()));
    }
}
