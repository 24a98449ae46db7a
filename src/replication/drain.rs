//! The end of replication: waits until a peer holds the latest writes, sends goodbyes and ends every task.
//!
//! ```text
//!   drain() --> hold: pushes and syncs go on, peers may still link
//!           --> part: no new links, goodbyes
//!           --> end:  every task has ended; the report counts what no peer holds
//! ```

use std::sync::atomic::Ordering;
use std::time::Duration;

use tokio::time::{Instant, sleep, timeout};

use super::back_off::REDIAL_LIMIT;
use super::replica::Leave;
use super::{Replication, Shared};

/// How often a draining node checks whether a peer holds everything.
const DRAIN_POLL: Duration = Duration::from_millis(2);

/// How long goodbyes may take to leave.
const GOODBYE_LIMIT: Duration = Duration::from_millis(500);

/// The report of a node that was shut down.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
#[non_exhaustive]
pub struct ShutdownReport {
    /// Writes that were made on this node, by clients or by the program that embeds it, and that no peer has
    /// acknowledged. An increment, an `EXPIRE` and a delete are writes too.
    pub unheld_writes: u64,
    /// Whether no peer could be expected: none linked since the start, there is no address to dial, and no
    /// other node can have this node's address from an earlier run.
    pub is_alone: bool,
}

impl ShutdownReport {
    /// Writes that are lost although a peer could have received them. A node that was alone had no peer for
    /// them.
    pub fn lost_writes(&self) -> u64 {
        if self.is_alone { 0 } else { self.unheld_writes }
    }
}

impl Shared {
    /// Whether a peer could receive what this node holds: one was linked, refused or is dialled, or one may
    /// have this node's address from an earlier run and has not had the time to dial it.
    fn expects_peer(&self) -> bool {
        let is_new = self.known_address && self.started.elapsed() < REDIAL_LIMIT;
        is_new || self.replica.peers.knows_someone(Instant::now())
    }

    /// Whether every known peer is behind a cut, which only an operator ends.
    fn is_cut_off(&self) -> bool {
        let rows = self.replica.peers.status(Instant::now());
        !rows.is_empty() && rows.iter().all(|row| self.faults.cuts(&row.name))
    }

    /// Resolves once a peer holds everything, or there is no peer to wait for.
    async fn until_held(&self, limit: Duration) {
        let mut is_logged = false;
        loop {
            let expects_peer = || self.expects_peer() && !self.is_cut_off();
            match self.replica.leave(&self.open_links(), expects_peer) {
                Leave::Now => return,
                Leave::Unlinked { writes } if !std::mem::replace(&mut is_logged, true) => {
                    tracing::info!(
                        writes,
                        ?limit,
                        "no peer holds the latest writes: waiting for one to link"
                    );
                }
                Leave::Unlinked { .. } | Leave::Later => {}
            }
            sleep(DRAIN_POLL).await;
        }
    }
}

impl Replication {
    /// Waits until a peer holds everything, at most `limit`; then sends goodbyes and ends all links. Peers may
    /// link while it waits.
    pub(crate) async fn drain(&self, limit: Duration) -> ShutdownReport {
        let shared = &self.shared;
        let started = Instant::now();
        shared.stopping.store(true, Ordering::Relaxed);
        let is_held = timeout(limit, shared.until_held(limit)).await.is_ok();
        shared.draining.cancel();
        shared.replica.say_goodbye(&shared.open_links(), &shared.heartbeat());
        // A peer closes when it has handled everything that came before the goodbye.
        let until = (started + limit).max(Instant::now() + GOODBYE_LIMIT);
        while Instant::now() < until && !shared.open_links().is_empty() {
            sleep(DRAIN_POLL).await;
        }
        shared.stop.cancel();
        for link in shared.replica.peers.links() {
            link.stop.cancel();
        }
        shared.tracker.close();
        shared.tracker.wait().await;
        shared.announcer.close();
        shared.lost.close().await;
        let report = ShutdownReport {
            unheld_writes: shared.replica.unheld_writes(),
            is_alone: !shared.expects_peer(),
        };
        match report {
            ShutdownReport { unheld_writes: 0, .. } if is_held => {}
            ShutdownReport { unheld_writes: 0, .. } => {
                tracing::warn!(?limit, "stopping although no peer holds every write");
            }
            ShutdownReport { unheld_writes: writes, is_alone: true } => {
                tracing::info!(
                    writes,
                    "this node was alone: its writes were in its memory only, and end with it"
                );
            }
            ShutdownReport { unheld_writes: writes, .. } => {
                tracing::warn!(writes, "stopping although no peer holds the latest writes: they are lost");
            }
        }
        report
    }
}
