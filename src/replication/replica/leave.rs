//! The stop of a node: it leaves once a peer holds its writes.

use std::sync::Arc;

use bytes::Bytes;

use super::Replica;
use crate::replication::message::Message;
use crate::replication::peers::Link;

/// Whether a node that stops may leave.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::replication) enum Leave {
    /// A peer holds every write that was made here, or none can be expected to take them.
    Now,
    /// A linked peer has yet to acknowledge some.
    Later,
    /// No peer is linked. One may come that takes this many writes.
    Unlinked { writes: u64 },
}

impl Replica {
    /// Returns how many writes made on this node no peer has acknowledged and no operator has discarded.
    pub(in crate::replication) fn unheld_writes(&self) -> u64 {
        self.local.write_acks.unheld(self.local.store.feed().sequence())
    }

    /// Whether a node that stops may leave. `links` are those over which something can pass; `expects_peer` says whether
    /// one may come if there is none.
    pub(in crate::replication) fn leave(
        &self,
        links: &[Arc<Link>],
        expects_peer: impl FnOnce() -> bool,
    ) -> Leave {
        if !self.local.store.feed().is_empty() {
            return Leave::Later;
        }
        if links.iter().any(|link| link.queue.is_drained()) {
            return Leave::Now;
        }
        if !links.is_empty() {
            return Leave::Later;
        }
        match self.unheld_writes() {
            0 => Leave::Now,
            _ if !expects_peer() => Leave::Now,
            writes => Leave::Unlinked { writes },
        }
    }

    /// Queues a goodbye to every link, after a last heartbeat: other nodes may not have received the names of peers that
    /// this node has met lately, and do not wait for unknown nodes.
    pub(in crate::replication) fn say_goodbye(&self, links: &[Arc<Link>], heartbeat: &Bytes) {
        for link in links {
            link.queue.heartbeat(heartbeat.clone());
            link.queue.send(&Message::Goodbye);
        }
    }
}
