//! What a store counts: keys, bytes, and how much room is left.

use std::sync::atomic::Ordering::Relaxed;

use super::{KeyCounts, Room, Shortfall, Store, Totals};
use crate::model::{Database, Time};

impl Store {
    /// How many expired keys the [sweeps](Self::sweep) have found since the start.
    pub(crate) fn swept_keys(&self) -> u64 {
        self.expired.load(Relaxed)
    }

    /// The number of expired keys of a range and a database that still count as live in the [totals](Self::totals) and
    /// [key counts](Self::key_counts), because they were not [swept](Self::sweep) yet.
    pub(crate) fn expired_keys(&self, range: usize, database: Database, now: Time) -> u64 {
        self.ranges.count_expired(range, now, |cell| database.key(cell.key()).is_some())
    }

    /// The number of keys of a database: see [`databases`](Self::databases).
    pub(crate) fn key_counts(&self, database: Database) -> KeyCounts {
        match database {
            Database::ZERO => {
                let totals = self.totals();
                let others = self.ranges.memory().keys().all();
                KeyCounts {
                    keys: totals.live_cells.saturating_sub(others.keys),
                    expiring: totals.expiring_cells.saturating_sub(others.expiring),
                }
            }
            database => self.ranges.memory().keys().of(database),
        }
    }

    /// The databases that have keys, with the numbers of them, in order.
    ///
    /// Expired keys that were not swept yet count. They are exact for a store at rest, except that the keys of a
    /// [discarded](Self::discard) store count until they are [freed](Self::free), and those of database 0 are what is
    /// left.
    pub(crate) fn databases(&self) -> impl Iterator<Item = (Database, KeyCounts)> {
        let all = (0..=u8::MAX).map(Database::new).map(|database| (database, self.key_counts(database)));
        all.filter(|(_, counts)| counts.keys > 0)
    }

    /// The sums over all ranges. They are exact for a store at rest; during writes each range is read at another time.
    pub fn totals(&self) -> Totals {
        self.ranges.totals()
    }

    /// Bytes that live cells take, by the store's own count: what `--max-memory` limits.
    pub fn memory(&self) -> u64 {
        self.ranges.memory().live()
    }

    /// Bytes that dead cells take: tombstones and swept expired keys, until they are purged.
    pub fn tombstone_memory(&self) -> u64 {
        self.ranges.memory().dead()
    }

    /// Bytes that dead cells may take before clients' writes may be refused because of them; `None` for no limit.
    pub fn tombstone_reserve(&self) -> Option<u64> {
        Some(self.limits.reserve()).filter(|&reserve| reserve != u64::MAX)
    }

    /// Whether dead cells are within their reserve. While they are, no write is refused because of them.
    pub(crate) fn has_tombstone_room(&self) -> bool {
        self.tombstone_memory() <= self.limits.reserve()
    }

    /// Estimates how many of the `dead` cells take the bytes beyond the reserve for dead cells.
    pub(crate) fn tombstones_beyond_reserve(&self, dead: u64) -> u64 {
        let used = self.tombstone_memory();
        let beyond = used.saturating_sub(self.limits.reserve());
        let cells = (u128::from(beyond) * u128::from(dead)).div_ceil(u128::from(used.max(1)));
        u64::try_from(cells).map_or(dead, |cells| cells.min(dead))
    }

    /// How much room there is now for peers' cells that were [refused](Outcome::Refused).
    pub(crate) fn room_for(&self, refused: &Shortfall) -> Room {
        let room = self.limits.room(self.ranges.memory());
        match *refused {
            Shortfall { bytes: 0, .. } => Room::None,
            Shortfall { bytes, .. } if room >= bytes => Room::All,
            Shortfall { least, .. } if room >= least.max(self.limits.worthwhile_room()) => Room::Some,
            _ => Room::None,
        }
    }
}
