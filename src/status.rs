//! The state of a node, its peers and its events, as the methods of [`Node`](crate::Node) return them.
//!
//! ```
//! use sapwood::Node;
//! use sapwood::status::{NodeState, PeerState};
//!
//! # tokio::runtime::Runtime::new()?.block_on(async {
//! let node = Node::builder().name("a").start().await?;
//! assert_eq!(node.state(), NodeState::Ready);
//! for peer in node.peers() {
//!     if peer.state == PeerState::Down {
//!         eprintln!("{} cannot be reached: {}", peer.name, peer.reason);
//!     }
//! }
//! assert_eq!(node.healing().members, 1);
//! # Ok::<(), Box<dyn std::error::Error>>(()) })?;
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

pub use crate::cluster::{
    ClusterError, Direction, Event, EventKind, Events, Heal, HealingStatus, LostCell, Missed, NodeState,
    PeerState, PeerStatus, Traffic, TrafficKind, Way,
};
