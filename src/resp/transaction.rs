//! What a connection keeps between `MULTI` and `EXEC`, and between `WATCH` and `EXEC`.

use super::args::{Args, Keys, OwnedArgs};
use crate::store::Seen;

/// Most requests of one transaction, and most keys of all of them. It bounds for how long the keys stay locked.
pub(super) const MAX_REQUESTS: usize = 65_536;
/// Most bytes of the requests of one transaction.
pub(super) const MAX_BYTES: usize = 64 << 20;
/// Most keys that a connection watches, and most bytes of them.
pub(super) const MAX_WATCHED: usize = 65_536;
const MAX_WATCHED_BYTES: usize = 64 << 20;

/// The requests since `MULTI`.
#[derive(Default)]
pub(super) struct Queue {
    requests: Vec<Queued>,
    keys: usize,
    bytes: usize,
    /// Whether a request was refused, so that `EXEC` executes none.
    is_broken: bool,
}

/// A request that `EXEC` will execute.
pub(super) struct Queued {
    /// The index of its command in the table.
    pub(super) command: usize,
    places: Keys,
    args: OwnedArgs,
}

impl Queued {
    pub(super) fn args(&self) -> Args<'_> {
        self.args.as_args()
    }

    pub(super) fn keys(&self) -> impl ExactSizeIterator<Item = &[u8]> {
        let args = self.args();
        self.places.places(args).map(move |place| args.get(place).unwrap_or_default())
    }
}

impl Queue {
    /// Adds a request, unless a limit is reached; returns whether it did.
    pub(super) fn push(&mut self, command: usize, places: Keys, args: Args<'_>) -> bool {
        self.keys += places.places(args).len();
        self.bytes += args.iter().map(<[u8]>::len).sum::<usize>();
        let is_within =
            self.requests.len() < MAX_REQUESTS && self.keys <= MAX_REQUESTS && self.bytes <= MAX_BYTES;
        // Nothing of a broken transaction will be executed.
        if is_within && !self.is_broken {
            self.requests.push(Queued { command, places, args: args.to_owned() });
        }
        is_within
    }

    /// The number of requests.
    pub(super) fn len(&self) -> usize {
        self.requests.len()
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

/// The keys that a connection watches, and what they held when it began to.
#[derive(Default)]
pub(super) struct WatchedKeys {
    keys: Vec<(Box<[u8]>, Seen)>,
    bytes: usize,
}

impl WatchedKeys {
    /// Adds a key, unless a limit is reached; returns whether it did.
    pub(super) fn add(&mut self, key: &[u8], seen: Seen) -> bool {
        let is_within = self.keys.len() < MAX_WATCHED && self.bytes + key.len() <= MAX_WATCHED_BYTES;
        if is_within {
            self.bytes += key.len();
            self.keys.push((key.into(), seen));
        }
        is_within
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = (&[u8], Seen)> {
        self.keys.iter().map(|(key, seen)| (&**key, *seen))
    }
}
