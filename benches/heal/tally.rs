//! What has passed between the nodes, by pair, by kind of message and by sync.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use crate::frames::{Frame, Kind};

/// Two nodes by name, the smaller first.
pub(crate) type Pair = [String; 2];

pub(crate) fn pair(one: &str, other: &str) -> Pair {
    let mut pair = [one.to_owned(), other.to_owned()];
    pair.sort();
    pair
}

/// Counts what the proxies see. Clones count together.
#[derive(Clone, Default)]
pub(crate) struct Tally(Arc<Mutex<Counts>>);

/// What has been counted since the last [`Tally::reset`].
#[derive(Clone, Debug, Default)]
pub(crate) struct Counts {
    /// Bytes by pair and kind.
    bytes: BTreeMap<(Pair, Kind), u64>,
    /// Bytes that cells take in pushes.
    pub(crate) pushed_cells: u64,
    /// When a pair's link came up last: its second welcome.
    linked: BTreeMap<Pair, Instant>,
    /// Welcomes seen of each connection.
    welcomes: BTreeMap<u64, u32>,
    syncs: BTreeMap<(u64, u64), Sync>,
}

/// One sync.
#[derive(Clone, Debug)]
pub(crate) struct Sync {
    /// Everything from its offer to the second `Done`.
    pub(crate) bytes: u64,
    /// What the cells in it take.
    pub(crate) cells: u64,
    accepted: bool,
    dones: u32,
    aborted: bool,
}

impl Sync {
    /// Whether it went to its end.
    pub(crate) fn is_finished(&self) -> bool {
        self.dones == 2
    }
}

impl Tally {
    fn counts(&self) -> MutexGuard<'_, Counts> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Counts a frame that has passed between `pair`, over the connection with this number.
    pub(crate) fn count(&self, pair: &Pair, connection: u64, frame: &Frame) {
        let mut counts = self.counts();
        *counts.bytes.entry((pair.clone(), frame.kind)).or_insert(0) += frame.bytes;
        match frame.kind {
            Kind::Put => counts.pushed_cells += frame.cells,
            Kind::Welcome => {
                let welcomes = counts.welcomes.entry(connection).or_insert(0);
                *welcomes += 1;
                if *welcomes == 2 {
                    counts.linked.insert(pair.clone(), Instant::now());
                }
            }
            _ => {}
        }
        let Some(number) = frame.sync else { return };
        let fresh = Sync { bytes: 0, cells: 0, accepted: false, dones: 0, aborted: false };
        let sync = counts.syncs.entry((connection, number)).or_insert(fresh);
        sync.bytes += frame.bytes;
        sync.cells += frame.cells;
        sync.accepted |= frame.kind == Kind::Accept;
        sync.dones += u32::from(frame.kind == Kind::Done);
        sync.aborted |= frame.kind == Kind::Abort;
    }

    /// A connection has ended, and with it what was under way over it.
    pub(crate) fn close(&self, connection: u64) {
        let mut counts = self.counts();
        let ended = counts.syncs.range_mut((connection, 0)..=(connection, u64::MAX));
        ended.for_each(|(_, sync)| sync.aborted = true);
    }

    /// Starts anew. What remains of a sync under way will look like one that was not accepted.
    pub(crate) fn reset(&self) {
        *self.counts() = Counts::default();
    }

    pub(crate) fn read(&self) -> Counts {
        self.counts().clone()
    }

    /// Bytes of cells sent in syncs, for whoever waits for a bulk load to begin.
    pub(crate) fn cells_in_syncs(&self) -> u64 {
        self.counts().syncs.values().map(|sync| sync.cells).sum()
    }
}

impl Counts {
    /// Bytes of the kinds that `counts` takes, between a pair or, without one, between all.
    fn sum(&self, of: Option<&Pair>, counts: impl Fn(Kind) -> bool) -> u64 {
        let wanted = |(pair, kind): &(Pair, Kind)| of.is_none_or(|of| of == pair) && counts(*kind);
        self.bytes.iter().filter(|(key, _)| wanted(key)).map(|(_, bytes)| bytes).sum()
    }

    /// Messages of syncs, and the empty push and the acknowledgement after each.
    pub(crate) fn healing(&self, of: Option<&Pair>) -> u64 {
        self.sum(of, |kind| kind.is_of_sync() || matches!(kind, Kind::Put | Kind::Ack | Kind::Gap))
    }

    pub(crate) fn handshakes(&self, of: Option<&Pair>) -> u64 {
        self.sum(of, Kind::is_handshake)
    }

    pub(crate) fn heartbeats(&self) -> u64 {
        self.sum(None, |kind| kind == Kind::Heartbeat)
    }

    pub(crate) fn of_kind(&self, kind: Kind) -> u64 {
        self.sum(None, |other| other == kind)
    }

    /// Frames of a kind that this bench does not know.
    pub(crate) fn unknown(&self) -> u64 {
        self.of_kind(Kind::Unknown)
    }

    /// Everything but heartbeats.
    pub(crate) fn all(&self) -> u64 {
        self.sum(None, |kind| kind != Kind::Heartbeat)
    }

    /// When the pair's link came up last.
    pub(crate) fn linked_at(&self, pair: &Pair) -> Option<Instant> {
        self.linked.get(pair).copied()
    }

    pub(crate) fn syncs(&self) -> impl Iterator<Item = &Sync> {
        self.syncs.values()
    }

    /// Whether a sync is being exchanged.
    pub(crate) fn is_exchanging(&self) -> bool {
        self.syncs.values().any(|sync| sync.accepted && !sync.aborted && !sync.is_finished())
    }

    /// The bytes by kind, for whoever looks into a figure.
    pub(crate) fn by_kind(&self) -> String {
        let mut kinds: BTreeMap<Kind, u64> = BTreeMap::new();
        for ((_, kind), bytes) in &self.bytes {
            *kinds.entry(*kind).or_insert(0) += bytes;
        }
        kinds.iter().map(|(kind, bytes)| format!("{kind:?} {bytes}")).collect::<Vec<_>>().join(", ")
    }
}
