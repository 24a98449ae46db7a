//! What a node counts of its links, and what it knows of others in numbers.

use std::time::Duration;

use super::NodeState;
use crate::model::Incarnation;

/// What a link carries, told apart by what it is for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum TrafficKind {
    /// Writes as they are made, and their acknowledgements.
    Pushes,
    /// Comparisons, and what they bring.
    Syncs,
    /// Signs of life and everything small.
    Heartbeats,
    /// What clients publish, and what people look at.
    Messages,
}

impl TrafficKind {
    /// All of them, in the order of [`Traffic`]'s fields.
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

/// What replication has done since the start.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Activity {
    /// Links that came about.
    pub links: u64,
    /// Syncs that finished: both sides held the same.
    pub syncs: u64,
    /// Syncs that were given up.
    pub failed_syncs: u64,
    /// Frames from the peer port whose checksum was wrong; each has ended its connection.
    pub damaged_frames: u64,
    /// How often a node was refused or has refused this one, by the state that this shows as.
    pub refusals: Vec<(super::PeerState, u64)>,
}

/// What a node says of itself in numbers; `None` where it does not say.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Figures {
    /// How far it has come.
    pub state: Option<NodeState>,
    /// Keys that hold a value.
    pub keys: u64,
    /// The digest of what is live there.
    pub digest: Option<u64>,
    /// What its keys and their values take.
    pub memory_bytes: Option<u64>,
    /// Deletes and expired keys that it keeps.
    pub tombstones: Option<u64>,
    /// What these take.
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

/// A linked node, as it said of itself last.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct RemoteNode {
    /// Its name.
    pub name: String,
    /// Which incarnation of the name it is.
    pub incarnation: Incarnation,
    /// How long ago it said so.
    pub age: Duration,
    /// What it said.
    pub figures: Figures,
    /// The names of those that it is linked to, as far as these are known here.
    pub links: Vec<String>,
}
