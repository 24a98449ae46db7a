//! How a key of a database is stored.
//!
//! Clients see up to 256 databases, each with keys of its own. The store, the digests and the peers know one set of
//! keys, the *stored keys*. A stored key is the key and its database, as plain bytes:
//!
//! | key | stored as |
//! |---|---|
//! | of database 0, not beginning with the byte 255 | the key itself |
//! | of database 0, beginning with the byte 255 | 255, 0, the key |
//! | of database `n`, 1 to 255 | 255, `n`, the key |
//!
//! No two keys have one stored key, so databases never collide. Keys of database 0, the only one that most clusters
//! use, cost nothing more: no UTF-8 text begins with the byte 255.
//!
//! What is the stored key of no key (255 alone, and 255, 0 followed by anything but 255) is left for cells of other
//! kinds. A node that receives such a cell keeps it and sends it on like any other, and shows it to no client.

use std::borrow::Cow;
use std::fmt;

/// The first byte of the stored keys that are more than the key.
const ESCAPE: u8 = 0xFF;

/// How much longer than the key a stored key can be, in bytes.
pub const MAX_OVERHEAD: usize = 2;

/// The most databases that a node can have.
pub const MAX_DATABASES: u16 = 256;

/// A database, by its number.
#[derive(Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct Database(u8);

impl Database {
    /// The database that a client uses until it selects another.
    pub const ZERO: Database = Database(0);

    /// The database of this number.
    pub const fn new(number: u8) -> Database {
        Database(number)
    }

    /// Its number.
    pub const fn number(self) -> u8 {
        self.0
    }

    /// The stored key of a key of this database; also the prefix of the stored keys of those keys of this database that
    /// begin with `key`. In database 0 the empty prefix is that of the stored keys of all databases.
    #[inline]
    pub fn stored(self, key: &[u8]) -> Cow<'_, [u8]> {
        if self.0 == 0 && !is_escaped(key) { Cow::Borrowed(key) } else { self.escaped(key) }
    }

    #[cold]
    fn escaped(self, key: &[u8]) -> Cow<'static, [u8]> {
        let mut stored = Vec::with_capacity(MAX_OVERHEAD + key.len());
        stored.extend([ESCAPE, self.0]);
        stored.extend_from_slice(key);
        Cow::Owned(stored)
    }

    /// The database and the key of a stored key; `None` if it is that of no key.
    #[inline]
    pub fn of(stored: &[u8]) -> Option<(Database, &[u8])> {
        if is_escaped(stored) { unescaped(stored) } else { Some((Database::ZERO, stored)) }
    }

    /// The key of a stored key of this database; `None` if it is of another, or that of no key.
    #[inline]
    pub fn key(self, stored: &[u8]) -> Option<&[u8]> {
        Database::of(stored).filter(|(database, _)| *database == self).map(|(_, key)| key)
    }
}

impl fmt::Display for Database {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// Whether a stored key is more than a key of database 0.
#[inline]
pub fn is_escaped(stored: &[u8]) -> bool {
    stored.first() == Some(&ESCAPE)
}

#[cold]
fn unescaped(stored: &[u8]) -> Option<(Database, &[u8])> {
    let [_, number, key @ ..] = stored else { return None };
    (*number != 0 || is_escaped(key)).then_some((Database(*number), key))
}

/// The length of the key of a stored key.
pub fn key_length(stored: &[u8]) -> usize {
    Database::of(stored).map_or(stored.len(), |(_, key)| key.len())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Bytes among which those that matter are frequent.
    fn bytes() -> impl Strategy<Value = Vec<u8>> {
        let byte = prop_oneof![Just(0xFF), Just(0), Just(1), any::<u8>()];
        proptest::collection::vec(byte, 0..6)
    }

    fn database() -> impl Strategy<Value = Database> {
        prop_oneof![Just(0), Just(1), Just(255), any::<u8>()].prop_map(Database)
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(1_000))]

        #[test]
        fn a_key_returns_from_its_stored_key(database in database(), key in bytes()) {
            let stored = database.stored(&key);
            prop_assert_eq!(Database::of(&stored), Some((database, &key[..])));
            prop_assert_eq!(database.key(&stored), Some(&key[..]));
            prop_assert_eq!(key_length(&stored), key.len());
            prop_assert!(stored.len() <= key.len() + MAX_OVERHEAD);
            prop_assert_eq!(is_escaped(&stored), matches!(stored, Cow::Owned(_)));
        }

        #[test]
        fn two_keys_never_have_one_stored_key(a in (database(), bytes()), b in (database(), bytes())) {
            prop_assert_eq!(a.0.stored(&a.1) == b.0.stored(&b.1), a == b);
        }

        #[test]
        fn what_is_the_stored_key_of_a_key_is_that_of_no_other(stored in bytes()) {
            if let Some((database, key)) = Database::of(&stored) {
                prop_assert_eq!(&database.stored(key)[..], &stored[..]);
            }
        }

        #[test]
        fn a_prefix_covers_the_same_keys_as_its_stored_prefix(
            database in database(), prefix in bytes(), stored in bytes(),
        ) {
            let covers = stored.starts_with(&database.stored(&prefix));
            if let Some(key) = database.key(&stored) {
                prop_assert_eq!(covers, key.starts_with(&prefix));
            }
        }
    }

    #[test]
    fn the_stored_form_is_this() {
        let five = Database::new(5);
        for (database, key, stored) in [
            (Database::ZERO, &b"tree"[..], &b"tree"[..]),
            (Database::ZERO, b"", b""),
            (Database::ZERO, b"\xff", b"\xff\0\xff"),
            (five, b"tree", b"\xff\x05tree"),
            (five, b"", b"\xff\x05"),
            (five, b"\xff\0", b"\xff\x05\xff\0"),
        ] {
            assert_eq!(&database.stored(key)[..], stored);
        }
        for stored in [&b"\xff"[..], b"\xff\0", b"\xff\0tree"] {
            assert_eq!(Database::of(stored), None, "{stored:?}");
        }
    }
}
