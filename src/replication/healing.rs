//! Healing as operators see it: what differs, what was lost, and comparisons on request.

use std::sync::atomic::{AtomicU64, Ordering};

use tokio::time::Instant;

use super::Replication;
use crate::cluster::{Healing, HealingStatus, LostCell, Verification};
use crate::model::timestamp;

impl Healing for Replication {
    fn healing(&self) -> HealingStatus {
        let local = &self.shared.replica.local;
        let now = local.store.now(self.shared.env.wall_clock());
        let stable = local.store.stable_time();
        let count = |count: &AtomicU64| count.load(Ordering::Relaxed);
        let members = local.members.lock();
        HealingStatus {
            members: members.member_count(),
            stable_age: (stable > timestamp::ZERO).then(|| timestamp::distance(now, stable)),
            tombstones: local.store.totals().dead_cells,
            waits_for: members.waits_for(now),
            retractions: count(&local.counts.retractions),
            late: count(&local.counts.late),
            lost: count(&local.counts.lost),
            dropped_tombstones: count(&local.counts.dropped_tombstones),
            scrub_errors: count(&local.counts.scrub_errors),
        }
    }

    fn differing(&self, peer: &str) -> Option<Vec<u8>> {
        let link = self.shared.replica.peers.links().into_iter().find(|link| link.peer == peer)?;
        let mut bits = vec![0; self.shared.replica.local.store.range_count().div_ceil(8)];
        link.session.lock().differing(|range| bits[range / 8] |= 1 << (range % 8));
        Some(bits)
    }

    fn lost(&self) -> Vec<LostCell> {
        self.shared.replica.local.lost.lock().to_vec()
    }

    fn verify(&self) {
        let links = self.shared.replica.peers.links();
        let names = links.iter().map(|link| link.peer.clone());
        self.shared.verifications.begin(names, self.shared.replica.local.store.totals().live_cells);
        let now = Instant::now();
        for link in links {
            link.session.lock().want_deep_sync(now);
            link.queue.wake();
        }
    }

    fn verified(&self) -> Vec<Verification> {
        let mut rows = self.shared.verifications.rows();
        for link in self.shared.replica.peers.links() {
            let running = link.session.lock().is_verifying();
            if running && let Some(row) = rows.iter_mut().find(|row| row.peer == link.peer) {
                row.mark_running();
            }
        }
        rows
    }
}
