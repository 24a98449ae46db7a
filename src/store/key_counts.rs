//! Counts the live cells of each database, except those of database 0: they are all others.

use std::sync::atomic::{AtomicU64, Ordering};

use super::cell::Cell;
use crate::model::Database;
use crate::model::database::{MAX_DATABASES, is_escaped};

/// The numbers of keys of a database.
#[derive(Clone, Copy, Default, PartialEq, Eq, Debug)]
pub(crate) struct KeyCounts {
    /// The number of cells that hold a value or count, including expired ones that were not swept yet.
    pub(crate) keys: u64,
    /// The number of those cells with a deadline.
    pub(crate) expiring: u64,
}

/// The numbers of keys of all databases but 0. They change under the lock of the cell's range.
#[derive(Debug)]
pub(super) struct AllKeyCounts {
    /// By the database's number. In the place of database 0 are the cells that are those of no key.
    databases: Box<[Counts]>,
}

#[derive(Debug, Default)]
struct Counts {
    keys: AtomicU64,
    expiring: AtomicU64,
}

impl Default for AllKeyCounts {
    fn default() -> Self {
        AllKeyCounts { databases: (0..MAX_DATABASES).map(|_| Counts::default()).collect() }
    }
}

impl AllKeyCounts {
    /// Counts that one cell takes the place of another; both are of one key.
    #[inline]
    pub(super) fn replace(&self, old: Option<&Cell>, new: Option<&Cell>) {
        // This is all that a key of database 0 costs.
        if old.or(new).is_some_and(|cell| is_escaped(cell.key())) {
            self.count(old, u64::wrapping_sub);
            self.count(new, u64::wrapping_add);
        }
    }

    #[cold]
    fn count(&self, cell: Option<&Cell>, change: fn(u64, u64) -> u64) {
        let Some(cell) = cell.filter(|cell| cell.counts_as_live()) else { return };
        let database = match Database::of(cell.key()) {
            Some((Database::ZERO, _)) => return,
            Some((database, _)) => database,
            None => Database::ZERO,
        };
        let Counts { keys, expiring } = &self.databases[usize::from(database.number())];
        // By the difference, because cells of other ranges are counted at the same time.
        let by_one = change(0, 1);
        keys.fetch_add(by_one, Ordering::Relaxed);
        if cell.has_pending_deadline() {
            expiring.fetch_add(by_one, Ordering::Relaxed);
        }
    }

    /// The numbers of keys of a database other than 0.
    pub(super) fn of(&self, database: Database) -> KeyCounts {
        let Counts { keys, expiring } = &self.databases[usize::from(database.number())];
        KeyCounts { keys: keys.load(Ordering::Relaxed), expiring: expiring.load(Ordering::Relaxed) }
    }

    /// The number of all cells that are not those of keys of database 0.
    pub(super) fn all(&self) -> KeyCounts {
        (0..=u8::MAX).map(|number| self.of(Database::new(number))).fold(
            KeyCounts::default(),
            |sum, counts| KeyCounts {
                keys: sum.keys + counts.keys,
                expiring: sum.expiring + counts.expiring,
            },
        )
    }
}
