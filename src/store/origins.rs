//! Incarnations interned to 32 bits, and how far this node has incorporated the writes of each: its summary vector.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};

use tracing_mutex::parkinglot::RwLock;
use uhlc::NTP64;

use crate::model::timestamp::ZERO;
use crate::model::{Incarnation, Time, timestamp};

/// An interned incarnation; means something only together with the [`Origins`] it came from.
pub(crate) type Origin = u32;

/// The most incarnations one process can intern: over a million restarts of members. Bounds what a hostile
/// peer can make it remember to about 80 MiB.
const MAX_ORIGINS: usize = 1 << 20;

/// More origins than one process remembers.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("more than {MAX_ORIGINS} incarnations have written to this cluster since this node started")]
pub struct TooManyOrigins;

/// The append-only table of interned incarnations.
///
/// For each of them it has the node's *summary vector* (Golding, 1992): up to which time every write of that incarnation
/// is held here, or something that has replaced it. It is raised by finished syncs and by [closing](Origins::close), and
/// never by a push, as the push before it may have been lost.
pub(crate) struct Origins {
    /// This process's own present one.
    own: AtomicU32,
    /// The stable time.
    stable: AtomicU64,
    entries: boxcar::Vec<Entry>,
    index: RwLock<HashMap<Incarnation, Origin>>,
}

struct Entry {
    incarnation: Incarnation,
    /// Every write up to here is incorporated, by syncs.
    synced: AtomicU64,
    /// Every write up to here counts as incorporated: the incarnation is away, and was closed.
    closed: AtomicU64,
    /// The latest write that was ever received, pushes included.
    seen: AtomicU64,
}

/// What the summary vector says of one incarnation.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Coverage {
    /// Up to here every write is incorporated, by syncs.
    pub(crate) synced: Time,
    /// Up to here every write counts as incorporated since the incarnation was closed; of those after `synced` one that
    /// no member has seen is given up.
    pub(crate) closed: Time,
    /// The latest write that was ever received.
    pub(crate) seen: Time,
}

impl Coverage {
    /// Up to here nothing is news.
    pub(crate) fn covered(&self) -> Time {
        self.synced.max(self.closed)
    }

    /// Whether nothing is known.
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

/// The incarnation of registers that nobody has written: those of keys that were only ever counted with.
const NOBODY_NUMBER: u128 = u128::MAX - 1;

impl Origins {
    /// The origin of what nobody has written.
    pub(crate) const NOBODY: Origin = 0;

    pub(crate) fn new(own: Incarnation) -> Self {
        let nobody = timestamp::incarnation(NOBODY_NUMBER).expect("it is not zero");
        let entries = boxcar::Vec::new();
        entries.push(Entry::new(nobody));
        entries.push(Entry::new(own));
        let index = HashMap::from([(nobody, Self::NOBODY), (own, 1)]);
        Origins { own: AtomicU32::new(1), stable: AtomicU64::new(0), entries, index: RwLock::new(index) }
    }

    /// The time below which every member has incorporated every write.
    pub(crate) fn stable_time(&self) -> Time {
        NTP64(self.stable.load(Ordering::Acquire))
    }

    /// Raises the stable time, as far as the members of the cluster allow.
    pub(crate) fn raise_stable_time(&self, stable: Time) {
        self.stable.fetch_max(stable.0, Ordering::AcqRel);
    }

    /// Nothing is known to be stable: there is a member more, or nothing is held any more.
    pub(crate) fn reset_stable_time(&self) {
        self.stable.store(0, Ordering::Release);
    }

    /// This process itself.
    pub(crate) fn own(&self) -> Origin {
        self.own.load(Ordering::Relaxed)
    }

    /// Gives this process another incarnation, which has incorporated nothing of anyone.
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

    /// The incarnation behind an origin of this table.
    ///
    /// # Panics
    /// If `origin` was not returned by this table's [`intern`](Self::intern).
    pub(crate) fn incarnation(&self, origin: Origin) -> Incarnation {
        self.entry(origin).incarnation
    }

    fn entry(&self, origin: Origin) -> &Entry {
        self.entries.get(origin as usize).expect("an origin comes from this table")
    }

    /// Whether a write is no news here: it was incorporated, or is this process's own.
    pub(crate) fn covers(&self, time: Time, origin: Origin) -> bool {
        origin == self.own() || time <= self.coverage(origin).covered()
    }

    pub(crate) fn coverage(&self, origin: Origin) -> Coverage {
        let entry = self.entry(origin);
        let [synced, closed, seen] = [&entry.synced, &entry.closed, &entry.seen];
        let load = |time: &AtomicU64| NTP64(time.load(Ordering::Acquire));
        Coverage { synced: load(synced), closed: load(closed), seen: load(seen) }
    }

    /// The coverage of an incarnation; nothing of one that was never heard of.
    pub(crate) fn coverage_of(&self, incarnation: Incarnation) -> Coverage {
        let origin = self.index.read().get(&incarnation).copied();
        origin.map(|origin| self.coverage(origin)).unwrap_or_default()
    }

    /// A sync has finished: all that the other side had incorporated when it began is incorporated here. Returns whether
    /// this is more than before. Nothing changes where the table is full: then those writes stay news.
    pub(crate) fn raise(&self, incarnation: Incarnation, synced: Time, closed: Time) -> bool {
        let Ok(origin) = self.intern(incarnation) else { return false };
        let entry = self.entry(origin);
        let before = entry.synced.fetch_max(synced.0, Ordering::AcqRel);
        entry.closed.fetch_max(closed.0, Ordering::AcqRel);
        synced.0 > before
    }

    /// Nothing more of an incarnation is waited for: whatever any member has seen of it, up to `seen`, all members hold.
    pub(crate) fn close(&self, incarnation: Incarnation, seen: Time) {
        if let Ok(origin) = self.intern(incarnation) {
            self.entry(origin).closed.fetch_max(seen.0, Ordering::AcqRel);
        }
    }

    /// Drops all that is known of an incarnation: what it has written is news again.
    pub(crate) fn drop_coverage(&self, incarnation: Incarnation) {
        if let Ok(origin) = self.intern(incarnation) {
            self.entry(origin).clear();
        }
    }

    /// A write was received.
    pub(crate) fn see(&self, origin: Origin, time: Time) {
        let seen = &self.entry(origin).seen;
        // Most often one of several that were received together.
        if seen.load(Ordering::Relaxed) < time.0 {
            seen.fetch_max(time.0, Ordering::AcqRel);
        }
    }

    /// Every incarnation but this process's own and nobody's of which something is known, by its place in the table.
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
    /// Shows what is known, and not in which order it was heard of: equal for two that decide alike.
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
        origins.see(other, NTP64(20));
        assert!(!origins.covers(NTP64(10), other) && origins.coverage(other).is_open());
        assert!(origins.covers(NTP64(99), origins.own()));
        assert!(origins.raise(id(5), NTP64(15), ZERO));
        assert!(!origins.raise(id(5), NTP64(14), ZERO));
        assert!(origins.covers(NTP64(15), other) && !origins.covers(NTP64(16), other));
        origins.close(id(5), origins.coverage_of(id(5)).seen);
        assert!(origins.covers(NTP64(20), other) && !origins.covers(NTP64(21), other));
        assert_eq!(origins.coverage(other).synced, NTP64(15), "a closing proves nothing");
    }

    #[test]
    fn another_incarnation_of_this_process_knows_nothing() {
        let origins = Origins::new(id(9));
        origins.raise(id(5), NTP64(15), ZERO);
        origins.renew(id(10)).unwrap();
        assert_eq!(origins.iter().filter(|(_, coverage)| !coverage.is_none()).count(), 0);
        assert!(!origins.covers(NTP64(1), origins.intern(id(9)).unwrap()));
    }
}
