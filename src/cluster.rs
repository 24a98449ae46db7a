//! What the daemon's faces (the Redis protocol, later the page) may know of the cluster.
//!
//! They reach the peers only through [`Cluster`], which the node hands them.

use std::net::SocketAddr;
use std::time::Duration;

use crate::model::Incarnation;

/// The daemon's view of its cluster.
pub trait Cluster: Send + Sync {
    /// This daemon's own state.
    fn state(&self) -> NodeState;

    /// Every peer this daemon is linked to, tries to reach or refused, by name.
    fn peers(&self) -> Vec<PeerStatus>;
}

/// How far this daemon has come.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum NodeState {
    /// Fetching the state of the peers it can reach.
    Joining,
    /// Holds the state of every peer it could reach.
    Ready,
    /// At the hard memory ceiling: replicated data that would grow the cells is refused.
    Full,
    /// Shutting down.
    Draining,
}

impl NodeState {
    /// The word used in `INFO`, logs and documentation.
    pub fn as_str(self) -> &'static str {
        match self {
            NodeState::Joining => "joining",
            NodeState::Ready => "ready",
            NodeState::Full => "full",
            NodeState::Draining => "draining",
        }
    }
}

/// The state of the link to one peer.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum PeerState {
    /// Linked, its state being fetched.
    Joining,
    /// Linked; its writes arrive as they are made.
    Linked,
    /// Not reachable; being dialled.
    Down,
    /// It said goodbye and is not expected back.
    Left,
    /// Refused: another daemon of the same name is linked.
    Duplicate,
    /// Refused: it belongs to a cluster of another name.
    Foreign,
    /// Refused: the clocks differ by more than `--max-clock-skew`.
    Skewed,
    /// Refused: no protocol version in common, or limits that do not fit.
    Incompatible,
}

impl PeerState {
    /// The word used in `SAPWOOD PEERS`, logs and documentation.
    pub fn as_str(self) -> &'static str {
        match self {
            PeerState::Joining => "joining",
            PeerState::Linked => "linked",
            PeerState::Down => "down",
            PeerState::Left => "left",
            PeerState::Duplicate => "duplicate",
            PeerState::Foreign => "foreign",
            PeerState::Skewed => "skewed",
            PeerState::Incompatible => "incompatible",
        }
    }

    /// Whether a live connection to the peer exists.
    pub fn is_linked(self) -> bool {
        matches!(self, PeerState::Joining | PeerState::Linked)
    }
}

/// Which side opened a link.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Direction {
    /// The peer dialled this daemon.
    In,
    /// This daemon dialled the peer.
    Out,
}

impl Direction {
    /// The word used in `SAPWOOD PEERS`.
    pub fn as_str(self) -> &'static str {
        match self {
            Direction::In => "in",
            Direction::Out => "out",
        }
    }
}

/// One peer, as `SAPWOOD PEERS` shows it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct PeerStatus {
    /// The peer's name; empty until it was heard once.
    pub name: String,
    /// The state of the link to it.
    pub state: PeerState,
    /// Why it is in this state, in words; empty when there is nothing to say.
    pub reason: String,
    /// Where it is reached: the address it advertises, else as it was given to `--join`.
    pub address: String,
    /// The other end of the live connection.
    pub remote: Option<SocketAddr>,
    /// Which side opened the link; `None` when there is none.
    pub direction: Option<Direction>,
    /// The incarnation heard last.
    pub incarnation: Option<Incarnation>,
    /// How long it has been in this state.
    pub since: Duration,
    /// The age of the oldest write that the peer has not acknowledged; zero when it has them all.
    pub lag: Duration,
    /// Bytes of pushes that wait to be sent.
    pub queued_bytes: u64,
    /// Bytes received from it over the present link.
    pub received_bytes: u64,
    /// Bytes sent to it over the present link.
    pub sent_bytes: u64,
}
