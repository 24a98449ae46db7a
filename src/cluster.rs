//! What the Redis and http ports can read and change of the cluster.
//!
//! They reach the peers only through the roles of [`Cluster`], which the node passes to them.

mod event;
mod figures;
mod roles;
mod token;

use std::net::SocketAddr;
use std::time::Duration;

pub use event::{Event, EventKind, EventSender, Events, Missed, Recorded};
pub use figures::{Activity, Figures, RemoteNode, Traffic, TrafficKind};
pub use roles::{Acknowledgements, Administration, Cluster, Copies, Healing, Publisher, Statistics, Status};
pub use token::{Token, TokenError};

pub use crate::tls::PeerSecurity;

use crate::model::{Deadline, Incarnation, Timestamp};

/// Most bytes of a value that [`Copies::query_key`] returns.
pub const MAX_SHOWN_VALUE: usize = 1 << 10;

/// The writes that a token covers, of those that its node held when it issued the token.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Scope {
    /// All writes of the node's clients.
    #[default]
    Writes,
    /// All writes that the node held, including those that it had received from others.
    State,
}

/// Delivers what clients of linked peers have [published](Publisher::publish).
pub trait Subscribers: Send + Sync {
    /// Delivers a message to subscribers. Returns quickly and never waits.
    fn deliver(&self, channel: &[u8], message: &[u8]);
}

/// An operator's request that was refused. Nothing was changed.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ClusterError {
    /// No member has this name.
    #[error("no member is named {0:?}: see SAPWOOD PEERS")]
    UnknownMember(String),
    /// The member is linked to this node, so it is alive.
    #[error("{0:?} is linked to this node: stop it first")]
    Linked(String),
    /// The member was linked to this node a moment ago, and has been silent since.
    #[error(
        "{name:?} is linked to this node, though it has not been heard for {}s: the link ends within {}s unless it is heard; \
         try again then",
        silent.as_secs(), ends_in.as_secs()
    )]
    Silent {
        /// The member's name.
        name: String,
        /// The time since its last message.
        silent: Duration,
        /// The time after which the link counts as dead.
        ends_in: Duration,
    },
    /// A node cannot forget itself.
    #[error("this node is {0:?} itself: stop it with SHUTDOWN")]
    Itself(String),
    /// The node has gone through too many incarnations.
    #[error("{0}: restart the node")]
    TooManyOrigins(String),
    /// Faults are for tests and demonstrations.
    #[error("faults are not enabled: start the node with --enable-faults")]
    FaultsDisabled,
}

/// The directions that a fault cuts, seen from the node that gets the command.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Way {
    /// What the peer sends does not arrive here.
    In,
    /// What is sent here does not arrive at the peer.
    Out,
    /// Neither arrives.
    #[default]
    Both,
}

impl Way {
    /// The word used in `SAPWOOD CUT` and `SAPWOOD MEND`.
    pub fn as_str(self) -> &'static str {
        match self {
            Way::In => "in",
            Way::Out => "out",
            Way::Both => "both",
        }
    }
}

/// The progress of healing, and the members it waits for.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
#[non_exhaustive]
pub struct HealingStatus {
    /// The number of members, this node included; without lapsed and gone ones.
    pub members: usize,
    /// How far the stable time is behind the present; `None` until it is first raised.
    pub stable_age: Option<Duration>,
    /// How many tombstones and expired registers are kept.
    pub tombstones: u64,
    /// The members that keep the stable time from rising.
    pub waits_for: Vec<String>,
    /// Retractions sent or received since the start: keys removed on one side because they had been removed
    /// elsewhere.
    pub retractions: u64,
    /// Pushed cells that were not admitted because they had already been removed here, since the start.
    pub late: u64,
    /// The number of cells that [`lost`](Healing::lost) lists.
    pub lost: u64,
    /// Tombstones that a node without peers dropped because its limit was reached, since the start.
    pub dropped_tombstones: u64,
    /// Ranges whose sums did not match their cells when they were recomputed, since the start: a bug if not 0.
    pub scrub_errors: u64,
}

/// A write that only a returning node held, and that was given up.
#[derive(Clone, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub struct LostCell {
    /// The number of the key's database; `None` if the cell is not that of a key that this version can show.
    pub database: Option<u8>,
    /// The key.
    pub key: Vec<u8>,
    /// The value, unless it is larger than the limit for kept values.
    pub value: Option<Vec<u8>>,
    /// How long the value was.
    pub value_bytes: usize,
    /// The timestamp of the write.
    pub timestamp: Timestamp,
    /// When the key would have expired.
    pub deadline: Option<Deadline>,
    /// The peer that retracted it.
    pub peer: String,
}

impl LostCell {
    /// A key of database 0 that never expires.
    pub fn new(key: Vec<u8>, value: Vec<u8>, timestamp: Timestamp, peer: impl Into<String>) -> LostCell {
        LostCell {
            database: Some(0),
            key,
            value_bytes: value.len(),
            value: Some(value),
            timestamp,
            deadline: None,
            peer: peer.into(),
        }
    }
}

/// A comparison of cells and values with one peer.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Verification {
    /// The peer's name.
    pub peer: String,
    /// The stage that it has reached.
    pub state: VerificationState,
    /// Cells compared: those held here when it began.
    pub cells: u64,
    /// Ranges of keys whose digests differed.
    pub differing_ranges: u64,
    /// Cells that were exchanged to make both equal.
    pub healed_cells: u64,
    /// How long it took, or has taken so far.
    pub took: Duration,
}

impl Verification {
    pub(crate) fn mark_running(&mut self) {
        if self.state == VerificationState::Waiting {
            self.state = VerificationState::Running;
        }
    }
}

/// The stage that a [`Verification`] has reached.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum VerificationState {
    /// Not begun: another exchange is running.
    Waiting,
    /// Under way.
    Running,
    /// Finished: both hold the same.
    Done,
    /// Given up, for this reason.
    Failed(String),
}

/// The stage that this node has reached.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum NodeState {
    /// Fetching the states of reachable peers, looking for a peer, or refused by all that it reached.
    Joining,
    /// Holds the state of every peer that it could reach.
    Ready,
    /// At the hard memory ceiling: replicated data that would grow the live cells is refused.
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
#[non_exhaustive]
pub enum PeerState {
    /// Linked; this node is fetching the peer's state.
    Joining,
    /// Linked; its writes arrive as they are made.
    Linked,
    /// Linked, and the two are exchanging what differs.
    Healing,
    /// Not reachable; being dialled.
    Down,
    /// Cut off by `SAPWOOD CUT`.
    Cut,
    /// Silent for too long, or forgotten by an operator: not waited for until it sends again.
    Lapsed,
    /// It left, or another incarnation took its name: this incarnation is not expected back.
    Gone,
    /// Refused: another node with the same name is linked.
    Duplicate,
    /// Refused: the peer belongs to a cluster with another name.
    WrongCluster,
    /// Refused: the clocks differ by more than `--max-clock-skew`.
    Skewed,
    /// Refused: no protocol version in common, or limits that do not fit.
    Incompatible,
    /// Refused: the peer is not authenticated by its certificate or secret, or calls itself by another name.
    Untrusted,
}

impl PeerState {
    /// The word used in `SAPWOOD PEERS`, logs and documentation.
    pub fn as_str(self) -> &'static str {
        match self {
            PeerState::Joining => "joining",
            PeerState::Linked => "linked",
            PeerState::Down => "down",
            PeerState::Healing => "healing",
            PeerState::Cut => "cut",
            PeerState::Lapsed => "lapsed",
            PeerState::Gone => "gone",
            PeerState::Duplicate => "duplicate",
            PeerState::WrongCluster => "wrong-cluster",
            PeerState::Skewed => "skewed",
            PeerState::Incompatible => "incompatible",
            PeerState::Untrusted => "untrusted",
        }
    }

    /// Whether a live connection to the peer exists.
    pub fn is_linked(self) -> bool {
        matches!(self, PeerState::Joining | PeerState::Linked | PeerState::Healing)
    }

    /// Whether one of the two refuses to link with the other.
    pub fn is_refused(self) -> bool {
        use PeerState::{Duplicate, Incompatible, Skewed, Untrusted, WrongCluster};
        matches!(self, Duplicate | WrongCluster | Skewed | Incompatible | Untrusted)
    }
}

/// Which side opened a link.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Direction {
    /// The peer dialled this node.
    In,
    /// This node dialled the peer.
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
#[non_exhaustive]
pub struct PeerStatus {
    /// The peer's name; empty until it has sent one.
    pub name: String,
    /// The state of the link to it.
    pub state: PeerState,
    /// Why it is in this state, in words; may be empty.
    pub reason: String,
    /// Where it can be dialled: the address that it advertises, else the one given to `--join`.
    pub address: String,
    /// The other end of the live connection.
    pub remote: Option<SocketAddr>,
    /// Which side opened the link; `None` when there is none.
    pub direction: Option<Direction>,
    /// The incarnation that it sent last.
    pub incarnation: Option<Incarnation>,
    /// How long it has been in this state.
    pub since: Duration,
    /// The age of the oldest write that the peer has not acknowledged; zero if there is none.
    pub lag: Duration,
    /// Bytes of pushes waiting to be sent.
    pub queued_bytes: u64,
    /// Bytes received from it over the present link.
    pub received_bytes: u64,
    /// Bytes sent to it over the present link.
    pub sent_bytes: u64,
    /// The same bytes by purpose, and in the last second.
    pub traffic: Traffic,
    /// How often a gap occurred on the present link: pushes were dropped because too many waited, or one was lost.
    pub overflows: u64,
    /// How many of the 16,384 ranges of keys were found to differ by the present or the last sync.
    pub ranges_differing: u64,
    /// Time since both were last verified to be equal; `None` if never over the present link.
    pub verified: Option<Duration>,
    /// The exchange under way, if there is one.
    pub heal: Option<Heal>,
}

impl PeerStatus {
    /// Returns the row of a peer that has no link. All else is empty or 0.
    pub fn new(name: impl Into<String>, state: PeerState) -> PeerStatus {
        PeerStatus {
            name: name.into(),
            state,
            reason: String::new(),
            address: String::new(),
            remote: None,
            direction: None,
            incarnation: None,
            since: Duration::ZERO,
            lag: Duration::ZERO,
            queued_bytes: 0,
            received_bytes: 0,
            sent_bytes: 0,
            traffic: Traffic::default(),
            overflows: 0,
            ranges_differing: 0,
            verified: None,
            heal: None,
        }
    }
}

/// An exchange of what differs with one peer.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
#[non_exhaustive]
pub struct Heal {
    /// How long it has been running.
    pub took: Duration,
    /// Cells received.
    pub cells_in: u64,
    /// Cells sent.
    pub cells_out: u64,
    /// Bytes of cells received.
    pub bytes_in: u64,
    /// Bytes of cells sent.
    pub bytes_out: u64,
    /// An estimate of the cells yet to be exchanged, in both directions.
    pub cells_left: u64,
    /// An estimate of the time left; `None` while there is no basis for one.
    pub time_left: Option<Duration>,
}
