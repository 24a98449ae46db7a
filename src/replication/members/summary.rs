//! The summary that a node sends of its vector: at the start of a sync and in every heartbeat.

use crate::ablation::{Ablation, ablated};
use crate::model::{Incarnation, Time, Vector};
use crate::replication::codec::{self, CodecError, Packed};
use crate::replication::message::{self, WireAway, WireTime};

/// The most entries of each kind that are read from a received summary; there are never as many members.
const MAX_ENTRIES: usize = 2048;

/// The number of buckets into which the coverage of non-members is hashed: only buckets that differ are sent.
pub(in crate::replication) const BUCKETS: usize = 8;

/// A node's summary vector, with what another node needs to interpret it.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub(in crate::replication) struct Summary {
    /// Time below which every member holds every write.
    pub(in crate::replication) stable: Time,
    /// The hash of the members that the node has.
    pub(in crate::replication) members: u64,
    /// The summary vector of the members, including the node's own entry.
    pub(in crate::replication) vector: Vector,
    /// Incarnations that are neither members nor closed.
    pub(in crate::replication) away: Vec<Away>,
    /// The hash of each bucket of the coverage of all others; empty in a heartbeat.
    pub(in crate::replication) hashes: Vec<u64>,
}

/// An incarnation that is neither a member nor closed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::replication) struct Away {
    pub(in crate::replication) incarnation: Incarnation,
    /// When it was declared away: the latest clock of the nodes that did.
    pub(in crate::replication) since: Time,
    /// Its latest write that was received.
    pub(in crate::replication) seen: Time,
}

/// The packed parts of a [`Summary`].
pub(in crate::replication) struct PackedSummary {
    vector: Vec<u8>,
    away: Vec<u8>,
    hashes: Vec<u8>,
}

impl Summary {
    pub(in crate::replication) fn pack(&self) -> PackedSummary {
        let (mut vector, mut away) = (Vec::new(), Vec::new());
        for (incarnation, time) in self.vector.iter() {
            codec::append(&WireTime { incarnation: incarnation.to_le_bytes(), time: time.0 }, &mut vector);
        }
        for Away { incarnation, since, seen } in &self.away {
            let incarnation = incarnation.to_le_bytes();
            codec::append(&WireAway { incarnation, since: since.0, seen: seen.0 }, &mut away);
        }
        let hashes = self.hashes.iter().flat_map(|hash| hash.to_le_bytes()).collect();
        PackedSummary { vector, away, hashes }
    }

    /// Returns the summary as it is sent, with its packed parts.
    pub(in crate::replication) fn wire<'a>(&self, packed: &'a PackedSummary) -> message::Summary<'a> {
        message::Summary {
            stable: self.stable.0,
            members: self.members,
            vector: Packed(&packed.vector),
            away: Packed(&packed.away),
            hashes: &packed.hashes,
        }
    }

    pub(in crate::replication) fn read(wire: &message::Summary<'_>) -> Result<Summary, CodecError> {
        let mut vector = Vector::default();
        for entry in wire.vector.items::<WireTime>().take(MAX_ENTRIES) {
            let entry = entry?;
            if let Ok(incarnation) = Incarnation::try_from(&entry.incarnation) {
                vector.raise(incarnation, Time(entry.time));
            }
        }
        let mut away = Vec::new();
        for entry in wire.away.items::<WireAway>().take(MAX_ENTRIES) {
            let WireAway { incarnation, since, seen } = entry?;
            if let Ok(incarnation) = Incarnation::try_from(&incarnation) {
                away.push(Away { incarnation, since: Time(since), seen: Time(seen) });
            }
        }
        let hashes = wire.hashes.as_chunks::<8>().0.iter().take(BUCKETS);
        let hashes = hashes.map(|hash| u64::from_le_bytes(*hash)).collect();
        Ok(Summary { stable: Time(wire.stable), members: wire.members, vector, away, hashes })
    }

    /// The latest time in it.
    pub(in crate::replication) fn latest(&self) -> Time {
        let away = self.away.iter().map(|away| away.since.max(away.seen));
        let times = self.vector.iter().map(|(_, time)| time).chain(away);
        times.max().unwrap_or_default().max(self.stable)
    }

    /// Returns the stable time at which two nodes with these summaries omit what is dead: both are known to
    /// have incorporated everything below it. Zero unless they agree on the members and on the coverage of all others.
    pub(in crate::replication) fn cutoff(&self, other: &Summary) -> Time {
        let is_nobody_away = self.away.is_empty() && other.away.is_empty();
        if ablated(Ablation::Cutoff)
            || is_nobody_away && self.members == other.members && self.hashes == other.hashes
        {
            self.stable.max(other.stable)
        } else {
            Time::default()
        }
    }
}
