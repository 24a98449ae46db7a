//! The prefixes that a watcher follows.

use crate::model::Database;
use crate::store::{Prefixes, TooManyPrefixes};

/// Prefixes of keys of one database.
#[derive(Clone, Debug)]
pub struct DatabasePrefixes {
    pub(super) database: Database,
    /// The prefixes of the stored keys.
    pub(super) stored: Prefixes,
}

impl DatabasePrefixes {
    /// The keys of `database` that begin with one of `prefixes`; the empty prefix is every key.
    ///
    /// # Errors
    /// As [`Prefixes::new`].
    pub fn new(database: Database, prefixes: &[&[u8]]) -> Result<DatabasePrefixes, TooManyPrefixes> {
        let stored: Vec<_> = prefixes.iter().map(|prefix| database.stored(prefix)).collect();
        let stored: Vec<&[u8]> = stored.iter().map(|prefix| &**prefix).collect();
        Ok(DatabasePrefixes { database, stored: Prefixes::new(&stored)? })
    }
}
