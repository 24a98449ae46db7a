//! Figures of a node and its links: traffic, counts of syncs, and what nodes report of themselves.

use std::time::Duration;

use super::NodeState;
use crate::model::Incarnation;

/// The kinds of traffic on a link, by purpose.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum TrafficKind {
    /// Pushed writes, and their acknowledgements.
    Pushes,
    /// Syncs: digests and the cells that they exchange.
    Syncs,
    /// Heartbeats and other small messages.
    Heartbeats,
    /// Published messages, and key queries.
    Messages,
}

impl TrafficKind {
    /// All kinds, in the order of [`Traffic`]'s fields.
    pub const ALL: [TrafficKind; 4] =
        [TrafficKind::Pushes, TrafficKind::Syncs, TrafficKind::Heartbeats, TrafficKind::Messages];

    /// The word used in metrics and documentation.
    pub fn as_str(self) -> &'static str {
        match self {
            TrafficKind::Pushes => "pushes",
            TrafficKind::Syncs => "syncs",
            TrafficKind::Heartbeats => "heartbeats",
            TrafficKind::Messages => "messages",
        }
    }
}

/// Bytes that the present link to a peer has carried.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
#[non_exhaustive]
pub struct Traffic {
    /// Received, by [`TrafficKind`].
    pub received: [u64; TrafficKind::ALL.len()],
    /// Sent, by [`TrafficKind`].
    pub sent: [u64; TrafficKind::ALL.len()],
    /// Bytes received in the last second or so.
    pub received_per_second: u64,
    /// Bytes sent in the last second or so.
    pub sent_per_second: u64,
}

/// Counts of what replication has done since the start.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Activity {
    /// Links that were made.
    pub links: u64,
    /// Syncs that finished: both sides held the same.
    pub syncs: u64,
    /// Syncs that were given up.
    pub failed_syncs: u64,
    /// Frames from the peer port whose checksum was wrong; each has ended its connection.
    pub damaged_frames: u64,
    /// Refusals of links, by either side, by the state that a peer then shows.
    pub refusals: Vec<(super::PeerState, u64)>,
}

/// The figures that a node reports of itself; `None` for those that it does not report.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Figures {
    /// The stage that it has reached.
    pub state: Option<NodeState>,
    /// Keys that hold a value.
    pub keys: u64,
    /// The digest of its live cells.
    pub digest: Option<u64>,
    /// Memory that its keys and values take.
    pub memory_bytes: Option<u64>,
    /// Tombstones and expired keys that it keeps.
    pub tombstones: Option<u64>,
    /// Memory that these take.
    pub tombstone_bytes: Option<u64>,
    /// Commands of its clients in the last second.
    pub ops_per_second: Option<u64>,
    /// Bytes received from its peers in the last second.
    pub bytes_in_per_second: Option<u64>,
    /// Bytes sent to its peers in the last second.
    pub bytes_out_per_second: Option<u64>,
    /// How far its stable time is behind the present.
    pub stable_age_ms: Option<u64>,
    /// How long it has been running.
    pub uptime_ms: Option<u64>,
    /// As [`HealingStatus::retractions`](super::HealingStatus::retractions).
    pub retractions: Option<u64>,
    /// As [`HealingStatus::late`](super::HealingStatus::late).
    pub late: Option<u64>,
    /// As [`HealingStatus::lost`](super::HealingStatus::lost).
    pub lost: Option<u64>,
}

/// The figures that a linked node reported last.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct RemoteNode {
    /// Its name.
    pub name: String,
    /// Its incarnation.
    pub incarnation: Incarnation,
    /// Time since it sent them.
    pub age: Duration,
    /// The figures.
    pub figures: Figures,
    /// The names of the nodes that it is linked to, if this node knows them.
    pub links: Vec<String>,
}
