//! What the node's faces (the Redis protocol, the http port) may know of the cluster.
//!
//! They reach the peers only through [`Cluster`], which the node hands them.

mod event;
mod figures;
mod token;

use std::net::SocketAddr;
use std::time::Duration;

pub use event::{Event, EventKind, EventSender, Events, Missed, Recorded};
pub use figures::{Activity, Figures, RemoteNode, Traffic, TrafficKind};
pub use token::{Token, TokenError};

use crate::env::BoxFuture;
use crate::model::{Incarnation, Time, Timestamp};
use crate::store::KeyCopy;

/// The node's view of its cluster, and what an operator can do to it.
pub trait Cluster: Send + Sync {
    /// This node's own state.
    fn state(&self) -> NodeState;

    /// Every peer this node is linked to, tries to reach or refused, by name.
    fn peers(&self) -> Vec<PeerStatus>;

    /// What happens to the links and the members from here on.
    fn events(&self) -> Events;

    /// The last events, oldest first, of those after the one with this id; all for 0.
    fn recorded_events(&self, after: u64) -> Vec<Recorded>;

    /// The name that a member has or had in this incarnation, if it was heard of.
    fn name_of(&self, incarnation: Incarnation) -> Option<String>;

    /// How far healing has come, and what it waits for.
    fn healing(&self) -> HealingStatus;

    /// What replication has done since the start.
    fn activity(&self) -> Activity;

    /// What this node says of itself to others.
    fn figures(&self) -> Figures;

    /// What every linked peer has said of itself last.
    fn remote_figures(&self) -> Vec<RemoteNode>;

    /// Which ranges of keys are known to differ from a peer's, as far as the sync under way has found: one bit each, the
    /// lowest of the first byte first. `None` if it is not linked.
    fn differing(&self, peer: &str) -> Option<Vec<u8>>;

    /// Asks every linked peer what it holds of `key`: its name, and `None` if it does not answer within a second. Of
    /// values at most [`MAX_SHOWN_VALUE`] bytes come.
    fn look(&self, key: &[u8]) -> BoxFuture<'static, Vec<(String, Option<KeyCopy>)>>;

    /// The writes that this node alone held and had to give up when it came back, oldest first.
    fn lost(&self) -> Vec<LostCell>;

    /// Stops waiting for a member until it is heard again: it is lapsed.
    ///
    /// # Errors
    /// [`ClusterError`] if there is no such member, or it is linked to this node.
    fn forget(&self, name: &str) -> Result<(), ClusterError>;

    /// Discards every key held here, and takes those of the peers as a new incarnation.
    ///
    /// # Errors
    /// [`ClusterError`] as the node sees fit; nothing was discarded then.
    fn rejoin(&self) -> Result<(), ClusterError>;

    /// Stops what `direction` of the link to `peer` carries, as a broken network would; `*` is every peer, those
    /// to come included.
    ///
    /// # Errors
    /// [`ClusterError`] if faults are not enabled or the peer is unknown.
    fn cut(&self, peer: &str, way: Way) -> Result<(), ClusterError>;

    /// Undoes [`cut`](Self::cut) for `peer`, or everything for `*`.
    ///
    /// # Errors
    /// As [`cut`](Self::cut).
    fn mend(&self, peer: &str, way: Way) -> Result<(), ClusterError>;

    /// Whether the states of peers are being taken: what is absent here may be with them.
    fn is_fetching(&self) -> bool;

    /// Why this node is [joining](NodeState::Joining) still, in words; `None` if it is not.
    fn why_joining(&self) -> Option<String>;

    /// Starts to compare every cell and its value with every linked peer, and to heal what differs.
    fn verify(&self);

    /// Tells what a client has published here to the subscribers of every linked peer, as far as that goes without waiting.
    /// Nothing passes it on further.
    fn publish(&self, channel: &[u8], message: &[u8]);

    /// Messages for a peer that were dropped because too many waited, since the start.
    fn dropped_messages(&self) -> u64;

    /// What the comparisons since the last [`verify`](Self::verify) have found, a row a peer.
    fn verified(&self) -> Vec<Verification>;

    /// The names of the linked peers that hold every change which this node's clients have made up to `through`, in
    /// the sequence that [`Store::publish`](crate::store::Store::publish) returns. In their memory: it is not
    /// durability.
    fn held(&self, through: u64) -> Vec<String>;

    /// Resolves when a peer has come to [hold](Self::held) all up to `through` since this call.
    fn held_by_more(&self, through: u64) -> BoxFuture<'static, ()>;

    /// A token for all that this node's clients have written until now.
    fn token(&self) -> Token;

    /// Whether this node holds what `token` speaks of. Everything written here from now on is stamped after it.
    ///
    /// # Errors
    /// [`TokenError`] if it never will, as far as this node can tell.
    fn is_ready(&self, token: &Token, scope: Scope) -> Result<bool, TokenError>;

    /// Resolves when [`is_ready`](Self::is_ready) may have another answer than before this call.
    fn readiness_changed(&self, token: &Token, scope: Scope) -> BoxFuture<'static, ()>;

    /// Asks for what `token` speaks of, rather than to wait until it comes by itself.
    fn seek(&self, token: &Token);
}

/// The most bytes of a value that are shown of a key that is looked at.
pub const MAX_SHOWN_VALUE: usize = 1 << 10;

/// How much of what a node held when it issued a token is meant.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Scope {
    /// All that its clients had written.
    #[default]
    Writes,
    /// All that could be read there: what it had received from others too.
    State,
}

/// Those who hear what the clients of linked peers have [published](Cluster::publish).
pub trait Subscribers: Send + Sync {
    /// A message has come. Takes little time, and waits for nobody.
    fn deliver(&self, channel: &[u8], message: &[u8]);
}

/// An operator's request that was not done. Nothing was changed.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ClusterError {
    /// No member has this name.
    #[error("no member is named {0:?}: see SAPWOOD PEERS")]
    UnknownMember(String),
    /// The member is linked to this node, so it is alive.
    #[error("{0:?} is linked to this node: stop it first")]
    Linked(String),
    /// The member was linked to this node a moment ago, and has not been heard since.
    #[error(
        "{name:?} is linked to this node, though it has not been heard for {}s: the link ends within {}s unless it is heard; \
         try again then",
        silent.as_secs(), ends_in.as_secs()
    )]
    Silent {
        /// Who.
        name: String,
        /// The time since it was heard last.
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

/// The directions that a fault cuts, seen from the node that is told to.
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

/// How far healing has come, and what it waits for.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct HealingStatus {
    /// How many members there are, this node included; neither lapsed nor gone.
    pub members: usize,
    /// How far the stable time is behind the present; `None` while it has never been raised.
    pub stable_age: Option<Duration>,
    /// How many tombstones and expired registers are kept.
    pub tombstones: u64,
    /// The members that keep the stable time from rising.
    pub waits_for: Vec<String>,
    /// Keys that a peer was told to drop, or that this node was told to drop, because they had been removed elsewhere,
    /// since the start.
    pub retractions: u64,
    /// Pushed cells that had been removed here before they came, since the start.
    pub late: u64,
    /// Cells that [`lost`](Cluster::lost) lists.
    pub lost: u64,
    /// Tombstones dropped beyond the limit by a node that is alone, since the start.
    pub dropped_tombstones: u64,
    /// Ranges whose sums did not match their cells when they were recomputed, since the start: always 0.
    pub scrub_errors: u64,
}

/// A write that a returning node alone held and had to give up.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct LostCell {
    /// The key.
    pub key: Vec<u8>,
    /// The value, unless it is larger than what is kept of one.
    pub value: Option<Vec<u8>>,
    /// How long the value was.
    pub value_bytes: usize,
    /// The timestamp of the write.
    pub version: Timestamp,
    /// From when on the key would have been absent.
    pub deadline: Option<Time>,
    /// The peer that retracted it.
    pub peer: String,
}

/// A comparison with one peer that hashed values too.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Verification {
    /// The peer's name.
    pub peer: String,
    /// How far it is.
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

/// How far a [`Verification`] is.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum VerificationState {
    /// Not begun: another exchange goes first.
    Waiting,
    /// Under way.
    Running,
    /// Finished: both hold the same.
    Done,
    /// Given up, and why.
    Failed(String),
}

/// How far this node has come.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum NodeState {
    /// Fetching the state of the peers it can reach, looking for one, or refused by those that it reached.
    Joining,
    /// Holds the state of every peer it could reach.
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
pub enum PeerState {
    /// Linked, its state being fetched.
    Joining,
    /// Linked; its writes arrive as they are made.
    Linked,
    /// Linked, and the two are exchanging what differs.
    Healing,
    /// Not reachable; being dialled.
    Down,
    /// Cut off by `SAPWOOD CUT`.
    Cut,
    /// Away for too long, or forgotten by an operator: not waited for until it is heard again.
    Lapsed,
    /// It left, or its name was taken over: this incarnation is not expected back.
    Gone,
    /// Refused: another node of the same name is linked.
    Duplicate,
    /// Refused: it belongs to a cluster of another name.
    WrongCluster,
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
            PeerState::Healing => "healing",
            PeerState::Cut => "cut",
            PeerState::Lapsed => "lapsed",
            PeerState::Gone => "gone",
            PeerState::Duplicate => "duplicate",
            PeerState::WrongCluster => "wrong-cluster",
            PeerState::Skewed => "skewed",
            PeerState::Incompatible => "incompatible",
        }
    }

    /// Whether a live connection to the peer exists.
    pub fn is_linked(self) -> bool {
        matches!(self, PeerState::Joining | PeerState::Linked | PeerState::Healing)
    }

    /// Whether one of the two will not link with the other as it is.
    pub fn is_refused(self) -> bool {
        use PeerState::{Duplicate, Incompatible, Skewed, WrongCluster};
        matches!(self, Duplicate | WrongCluster | Skewed | Incompatible)
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
    /// The same by what it was for, and in the last second.
    pub traffic: Traffic,
    /// How often pushes were dropped on the present link because too many waited, or one was lost before it came there.
    pub overflows: u64,
    /// How many of the 16,384 ranges of keys differ, as far as the present or the last sync has found.
    pub ranges_differing: u64,
    /// How long ago both were last verified to be equal; `None` if never over the present link.
    pub verified: Option<Duration>,
    /// The exchange under way, if there is one.
    pub heal: Option<Heal>,
}

/// An exchange of what differs with one peer.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Heal {
    /// How long it has been going on.
    pub took: Duration,
    /// Cells received.
    pub cells_in: u64,
    /// Cells sent.
    pub cells_out: u64,
    /// Bytes of cells received.
    pub bytes_in: u64,
    /// Bytes of cells sent.
    pub bytes_out: u64,
    /// An estimate of the cells still to go, either way.
    pub cells_left: u64,
    /// An estimate of the time left; `None` before there is any ground for one.
    pub time_left: Option<Duration>,
}
