//! The roles of a cluster, as traits: a user of the cluster takes the roles that it needs.

use super::{
    Activity, ClusterError, Events, Figures, HealingStatus, LostCell, NodeState, PeerSecurity, PeerStatus,
    Recorded, RemoteNode, Scope, Token, TokenError, Verification, Way,
};
use crate::env::BoxFuture;
use crate::model::Incarnation;
use crate::store::KeyCopy;

/// Every role of a cluster.
pub trait Cluster:
    Status + Healing + Statistics + Copies + Administration + Acknowledgements + Publisher
{
}

impl<T> Cluster for T where
    T: Status + Healing + Statistics + Copies + Administration + Acknowledgements + Publisher
{
}

/// The node's own state, its peers, and what happens to them.
pub trait Status: Send + Sync {
    /// This node's own state.
    fn state(&self) -> NodeState;

    /// Whether this node is fetching the states of peers. If so, a key that is absent here may exist on them.
    fn is_fetching(&self) -> bool;

    /// Why this node is still [joining](NodeState::Joining), in words; `None` if it is not.
    fn joining_reason(&self) -> Option<String>;

    /// Every peer that this node is linked to, dials, or refuses or is refused by, sorted by name.
    fn peers(&self) -> Vec<PeerStatus>;

    /// The name of the member with this incarnation, if it is known.
    fn name_of(&self, incarnation: Incarnation) -> Option<String>;

    /// Subscribes to events of the links and the members, from this call on.
    fn events(&self) -> Events;

    /// The recorded events with an id above `after`, oldest first; 0 returns all.
    fn recorded_events(&self, after: u64) -> Vec<Recorded>;
}

/// How far this node and its peers hold the same.
pub trait Healing: Send + Sync {
    /// The progress of healing, and the members it waits for.
    fn healing(&self) -> HealingStatus;

    /// The ranges of keys that the sync under way with `peer` has found to differ: one bit each, from the lowest bit
    /// of the first byte on. `None` if `peer` is not linked.
    fn differing(&self, peer: &str) -> Option<Vec<u8>>;

    /// The writes that only this node held and that were retracted when it came back, oldest first.
    fn lost(&self) -> Vec<LostCell>;

    /// Starts to compare every cell and its value with every linked peer, and to heal differences.
    fn verify(&self);

    /// The results of the comparisons since the last [`verify`](Self::verify), one per peer.
    fn verified(&self) -> Vec<Verification>;
}

/// Counts and figures of this node and of its peers, for display.
pub trait Statistics: Send + Sync {
    /// Counts of what replication has done since the start.
    fn activity(&self) -> Activity;

    /// How links to peers are secured.
    fn peer_security(&self) -> PeerSecurity;

    /// The figures that this node sends to others about itself.
    fn figures(&self) -> Figures;

    /// The figures that each linked peer sent last.
    fn remote_figures(&self) -> Vec<RemoteNode>;
}

/// The copies of a key that the peers hold.
pub trait Copies: Send + Sync {
    /// Asks every linked peer for its copy of a stored key. Returns each peer's name and its answer, `None` if none came
    /// within a second. A value is cut to [`MAX_SHOWN_VALUE`](super::MAX_SHOWN_VALUE) bytes.
    fn query_key(&self, stored: &[u8]) -> BoxFuture<'static, Vec<(String, Option<KeyCopy>)>>;
}

/// What an operator can do to the cluster.
pub trait Administration: Send + Sync {
    /// Ends the membership of a member until a message of it arrives again: its state becomes lapsed.
    ///
    /// # Errors
    /// [`ClusterError`] if there is no such member, or it is linked to this node.
    fn forget(&self, name: &str) -> Result<(), ClusterError>;

    /// Discards every key held here, and fetches those of the peers as a new incarnation.
    ///
    /// # Errors
    /// [`ClusterError`] if the node refuses; nothing was discarded.
    fn rejoin(&self) -> Result<(), ClusterError>;

    /// Blocks what the link to `peer` carries in the direction `way`, as a broken network would. `*` stands for every
    /// peer, later ones included.
    ///
    /// # Errors
    /// [`ClusterError`] if faults are not enabled or the peer is unknown.
    fn cut(&self, peer: &str, way: Way) -> Result<(), ClusterError>;

    /// Undoes [`cut`](Self::cut) for `peer`, or everything for `*`.
    ///
    /// # Errors
    /// As [`cut`](Self::cut).
    fn mend(&self, peer: &str, way: Way) -> Result<(), ClusterError>;
}

/// Which peers hold this node's writes, and whether this node holds those that a token covers.
pub trait Acknowledgements: Send + Sync {
    /// The names of the linked peers that have acknowledged every change of this node's clients up to `through`, a
    /// number that [`Store::publish`](crate::store::Store::publish) returns. They hold them in memory, so this is not
    /// durability.
    fn acknowledged_by(&self, through: u64) -> Vec<String>;

    /// Resolves when one more peer has [acknowledged](Self::acknowledged_by) everything up to `through` since this call.
    fn more_acknowledged(&self, through: u64) -> BoxFuture<'static, ()>;

    /// A token for everything that this node's clients have written until now.
    fn token(&self) -> Token;

    /// Whether this node holds everything that `token` covers. Later writes here get timestamps above it.
    ///
    /// # Errors
    /// [`TokenError`] if it is certain that it never will.
    fn is_ready(&self, token: &Token, scope: Scope) -> Result<bool, TokenError>;

    /// Resolves when the answer of [`is_ready`](Self::is_ready) may have changed since this call.
    fn readiness_changed(&self, token: &Token, scope: Scope) -> BoxFuture<'static, ()>;

    /// Requests what `token` covers from peers, instead of waiting until it arrives.
    fn seek(&self, token: &Token);
}

/// Carries published messages to the clients of the peers.
pub trait Publisher: Send + Sync {
    /// Sends a message that a client published here to every linked peer, for its subscribers. Never waits; peers do
    /// not relay it.
    fn publish(&self, channel: &[u8], message: &[u8]);

    /// Messages for peers that were dropped since the start because a queue was full.
    fn dropped_messages(&self) -> u64;
}
