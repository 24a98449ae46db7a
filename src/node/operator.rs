//! What a program that embeds a node can read and do as its operator, beside its keys.

use super::Node;
use crate::cluster::{
    Administration as _, ClusterError, Healing as _, HealingStatus, LostCell, Status as _, Way,
};
use crate::model::Digest;

impl Node {
    /// Why the node is still [joining](crate::status::NodeState::Joining), in words; `None` if it is not.
    pub fn joining_reason(&self) -> Option<String> {
        self.replication.joining_reason()
    }

    /// The number of keys that hold a value. A key whose deadline has passed counts until it is swept, for up to a
    /// second.
    pub fn key_count(&self) -> u64 {
        self.store.totals().live_cells
    }

    /// The digest of every key with its timestamps. Two nodes of a cluster that hold the same have the same digest.
    ///
    /// ```
    /// # tokio::runtime::Runtime::new()?.block_on(async {
    /// let node = sapwood::Node::builder().name("a").start().await?;
    /// let empty = node.digest();
    /// node.set("tree", "oak")?;
    /// assert_ne!(node.digest(), empty);
    /// assert_eq!(node.key_count(), 1);
    /// # Ok::<(), Box<dyn std::error::Error>>(()) })?;
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn digest(&self) -> Digest {
        Digest(self.store.totals().live)
    }

    /// The progress of healing, and the members it waits for.
    pub fn healing(&self) -> HealingStatus {
        self.replication.healing()
    }

    /// The writes that only this node held and that it had to give up when it rejoined, oldest first.
    pub fn lost(&self) -> Vec<LostCell> {
        self.replication.lost()
    }

    /// Ends the membership of a member until a message of it arrives again: the stable time no longer waits for it.
    ///
    /// # Errors
    /// [`ClusterError`] if there is no such member, or it is linked to this node; nothing was changed.
    pub fn forget(&self, member: &str) -> Result<(), ClusterError> {
        self.replication.forget(member)
    }

    /// Discards every key held here, and fetches those of the peers as a new incarnation.
    ///
    /// # Errors
    /// [`ClusterError`] if the node refuses; nothing was discarded.
    pub fn rejoin(&self) -> Result<(), ClusterError> {
        self.replication.rejoin()
    }

    /// Blocks what the link to `peer` carries in the direction `way`, as a broken network would: for tests and
    /// demonstrations. `*` stands for every peer, later ones included. Needs
    /// [`Config::enable_faults`](crate::config::Config::enable_faults).
    ///
    /// # Errors
    /// [`ClusterError`] if faults are not enabled or the peer is unknown; nothing was changed.
    pub fn cut(&self, peer: &str, way: Way) -> Result<(), ClusterError> {
        self.replication.cut(peer, way)
    }

    /// Undoes [`cut`](Self::cut) for `peer`, or everything for `*`.
    ///
    /// # Errors
    /// As [`cut`](Self::cut).
    pub fn mend(&self, peer: &str, way: Way) -> Result<(), ClusterError> {
        self.replication.mend(peer, way)
    }
}
