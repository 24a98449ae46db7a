//! What a connection keeps between `MULTI` and `EXEC`, and between `WATCH` and `EXEC`.

use std::borrow::Cow;

use super::args::{Args, Keys, OwnedArgs};
use crate::model::Database;
use crate::store::Seen;

/// Most requests of one transaction, and most keys of all of them. It bounds for how long the keys stay locked.
pub(super) const MAX_REQUESTS: usize = 65_536;
/// Most bytes of the requests of one transaction.
pub(super) const MAX_BYTES: usize = 64 << 20;
/// Most keys that a connection watches, and most bytes of them.
pub(super) const MAX_WATCHED: usize = 65_536;
const MAX_WATCHED_BYTES: usize = 64 << 20;

/// The requests since `MULTI`.
pub(super) struct Queue {
    requests: Vec<Queued>,
    /// The database that the next request is about: requests before it may select another.
    database: Database,
    keys: usize,
    bytes: usize,
    /// The table of users that the rights of its requests were checked with.
    pub(super) generation: u64,
    /// Whether a request was refused, so that `EXEC` executes none.
    is_broken: bool,
}

/// A request that `EXEC` will execute.
pub(super) struct Queued {
    /// The index of its command in the table.
    pub(super) command: usize,
    places: Keys,
    args: OwnedArgs,
    /// The database that will be selected when it is executed.
    database: Database,
    /// Its effect on the requests after it, and on which keys it reaches.
    effect: Effect,
}

/// What a request is to the others of its transaction.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Effect {
    /// It reaches its keys in the selected database, and changes nothing for others.
    Own,
    /// It reaches the last of its keys in this database too.
    Reaches(Database),
    /// It selects this database for the requests after it.
    Selects(Database),
}

impl Queued {
    pub(super) fn args(&self) -> Args<'_> {
        self.args.as_args()
    }

    /// Whether it is executed while the keys are locked, in the order in which it was queued.
    pub(super) fn needs_lock(&self) -> bool {
        self.has_keys() || matches!(self.effect, Effect::Selects(_))
    }

    pub(super) fn has_keys(&self) -> bool {
        self.places.places(self.args()).len() > 0
    }

    /// The keys that it may reach, with their databases.
    pub(super) fn keys(&self) -> impl Iterator<Item = (Database, &[u8])> {
        self.places.reached(self.args(), self.database, self.effect.other())
    }
}

impl Effect {
    /// The other database in which it reaches a key.
    pub(super) fn other(self) -> Option<Database> {
        match self {
            Effect::Reaches(other) => Some(other),
            Effect::Own | Effect::Selects(_) => None,
        }
    }
}

impl Queue {
    /// A transaction that begins in this database, with the rights of this table of users.
    pub(super) fn new(database: Database, generation: u64) -> Self {
        Queue { requests: Vec::new(), database, keys: 0, bytes: 0, generation, is_broken: false }
    }

    /// Adds a request, unless a limit is reached; returns whether it did.
    pub(super) fn push(&mut self, command: usize, places: Keys, effect: Effect, args: Args<'_>) -> bool {
        self.keys += places.places(args).len();
        self.bytes += args.iter().map(<[u8]>::len).sum::<usize>();
        let is_within =
            self.requests.len() < MAX_REQUESTS && self.keys <= MAX_REQUESTS && self.bytes <= MAX_BYTES;
        // Nothing of a broken transaction will be executed.
        if is_within && !self.is_broken {
            let database = self.database;
            self.requests.push(Queued { command, places, args: args.to_owned(), database, effect });
        }
        if let Effect::Selects(database) = effect {
            self.database = database;
        }
        is_within
    }

    /// The number of requests.
    pub(super) fn len(&self) -> usize {
        self.requests.len()
    }

    /// The bytes of the requests.
    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    /// Has `EXEC` fail: a request was refused.
    pub(super) fn break_off(&mut self) {
        self.is_broken = true;
        self.requests = Vec::new();
    }

    /// The requests in order; `None` if one of them was refused.
    pub(super) fn requests(self) -> Option<Vec<Queued>> {
        (!self.is_broken).then_some(self.requests)
    }
}

/// The stored keys that a connection watches, and what they held when it began to.
#[derive(Default)]
pub(super) struct WatchedKeys {
    keys: Vec<(Box<[u8]>, Seen)>,
    bytes: usize,
}

impl WatchedKeys {
    /// Adds a stored key, unless a limit is reached; returns whether it did.
    pub(super) fn add(&mut self, stored: Cow<'_, [u8]>, seen: Seen) -> bool {
        let is_within = self.keys.len() < MAX_WATCHED && self.bytes + stored.len() <= MAX_WATCHED_BYTES;
        if is_within {
            self.bytes += stored.len();
            self.keys.push((stored.into(), seen));
        }
        is_within
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = (&[u8], Seen)> {
        self.keys.iter().map(|(key, seen)| (&**key, *seen))
    }
}
