//! Decides when a starting node is ready: it has fetched the states of all peers that it reached, or there is
//! no peer.
//!
//! ```text
//!   no address to join ------------------------------------------------> ready
//!   a peer is linked ------> its first sync ends, or after 30 s --------> ready
//!   no peer is reached ----> after `--ready-alone-after` ---------------> ready
//!   refused by all that it reached: a clock or a name is wrong ---------> not ready, for as long as that lasts
//! ```

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use tokio::time::{Instant, sleep_until};

use super::Shared;
use super::peers::Peers;
use crate::cluster::EventKind;

/// The longest that a node waits for the states of its peers.
const FETCH_LIMIT: Duration = Duration::from_secs(30);

/// Whether a node is ready to serve, and why not.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Joining {
    /// It is ready.
    Done,
    /// The addresses to join are being tried.
    Seeking,
    /// The states of peers are being fetched.
    Fetching,
    /// None of the addresses has led to a peer.
    Alone { addresses: usize },
    /// A peer that was reached refuses this node, and no other accepts it.
    Refused {
        why: String,
        /// Whether it has lasted too long to end on its own, as a refusal may after a restart.
        lasts: bool,
    },
}

impl Joining {
    /// Computes how far a node with these peers has come.
    fn with(peers: &Peers) -> Joining {
        let rows = peers.status(Instant::now());
        if rows.iter().any(|row| row.state.is_linked()) {
            return if peers.is_joined() { Joining::Done } else { Joining::Fetching };
        }
        let refusal = rows.iter().find(|row| row.state.is_refused());
        match refusal {
            Some(row) => {
                // A node that is not authenticated has no name.
                let who = if row.name.is_empty() { &row.address } else { &row.name };
                Joining::Refused { why: format!("{who}: {}", row.reason), lasts: false }
            }
            None if !peers.is_joined() => Joining::Seeking,
            None if rows.is_empty() || peers.has_met_one() => Joining::Done,
            None => Joining::Alone { addresses: rows.len() },
        }
    }

    /// Returns the reason for those that wait; `None` if the node is ready.
    pub(super) fn reason(&self) -> Option<String> {
        Some(match self {
            Joining::Done => return None,
            Joining::Seeking => "looking for a peer".into(),
            Joining::Fetching => "the state of the peers is being fetched".into(),
            Joining::Alone { addresses: 1 } => "the address to join leads to no peer yet".into(),
            Joining::Alone { addresses } => {
                format!("none of the {addresses} addresses to join leads to a peer yet")
            }
            Joining::Refused { why, .. } => format!("refused, and linked to nobody: {why}"),
        })
    }
}

impl Shared {
    /// Publishes the present state, before it is read for the first time.
    pub(super) fn look_at_joining(&self) {
        self.show_joining(Joining::with(&self.replica.peers));
    }

    /// Publishes `joining`, unless the node is ready: it remains so, whichever peers link later.
    fn show_joining(&self, joining: Joining) {
        self.joining.send_if_modified(|shown| {
            let is_news = *shown != Joining::Done && *shown != joining;
            if is_news {
                self.fetching.store(joining == Joining::Fetching, Ordering::Release);
                *shown = joining;
            }
            is_news
        });
    }
}

/// Publishes the state until the node has joined.
pub(super) async fn publish_until_joined(shared: Arc<Shared>, ready_alone_after: Duration) {
    let began = Instant::now();
    let mut changes = shared.replica.peers.changes();
    while *shared.joining.borrow() != Joining::Done {
        let mut joining = Joining::with(&shared.replica.peers);
        let limit = if joining == Joining::Fetching { FETCH_LIMIT } else { ready_alone_after };
        let is_over = began.elapsed() >= limit;
        match &mut joining {
            Joining::Done => break,
            Joining::Alone { addresses } if is_over => {
                tracing::warn!(addresses, after = ?limit, "ready alone: no peer was reached");
                break;
            }
            Joining::Fetching | Joining::Seeking if is_over => {
                tracing::warn!(?limit, "ready although not every peer's state has been taken");
                break;
            }
            Joining::Refused { lasts, .. } => *lasts = is_over,
            Joining::Alone { .. } | Joining::Fetching | Joining::Seeking => {}
        }
        shared.show_joining(joining);
        // Cancel-safe: neither branch takes anything but a notification.
        tokio::select! {
            changed = changes.changed() => if changed.is_err() { return },
            () = sleep_until(began + limit), if !is_over => {}
        }
    }
    shared.show_joining(Joining::Done);
    shared.announcer.announce(EventKind::Joined, "", "");
}
