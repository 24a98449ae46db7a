//! The rows that people see: one for every node that is linked, refused or dialled.

use tokio::time::Instant;

use super::targets::{Target, TargetOutcome};
use super::{Link, Peer, Peers};
use crate::cluster::{Heal, PeerState, PeerStatus};

impl Peers {
    /// Returns a row for every node that has sent a hello or is dialled.
    pub(in crate::replication) fn status(&self, now: Instant) -> Vec<PeerStatus> {
        let table = self.table.lock();
        let peers = table.peers.iter().map(|(name, peer)| (peer.status(name, now), peer.link.clone()));
        let refused = table.refused.status(now);
        let targets = table.targets.iter().filter_map(|(address, target)| target.status(address, now));
        let rows = peers.chain(refused.chain(targets).map(|row| (row, None))).collect::<Vec<_>>();
        // The table is unlocked first, because a session may be merging a frame and others must not wait for
        // that.
        drop(table);
        rows.into_iter()
            .map(|(row, link)| link.map_or(row.clone(), |link| link.add_healing(row, now)))
            .collect()
    }
}

impl Link {
    /// Adds the session's view of healing to a row of the table.
    fn add_healing(&self, mut row: PeerStatus, now: Instant) -> PeerStatus {
        let session = self.session.lock();
        row.verified = session.verified_at().map(|at| now - at).or(row.verified);
        let Some((progress, took)) = session.progress(now) else { return row };
        row.ranges_differing = progress.ranges_differing;
        let moved = progress.cells_in + progress.cells_out;
        if moved == 0 && progress.ranges_differing == 0 {
            return row;
        }
        // A node that was equal before is not new: what it exchanges over a new link is healing.
        let is_known = row.state == PeerState::Linked || row.verified.is_some();
        if is_known && moved > 0 {
            row.state = PeerState::Healing;
        }
        let healed = progress.ranges_found.saturating_sub(progress.ranges_differing);
        let cells_left = (moved * progress.ranges_differing).checked_div(healed).unwrap_or_default();
        let time_left = (moved > 0 && healed > 0).then(|| took.mul_f64(cells_left as f64 / moved as f64));
        row.heal = Some(Heal {
            took,
            cells_in: progress.cells_in,
            cells_out: progress.cells_out,
            bytes_in: progress.bytes_in,
            bytes_out: progress.bytes_out,
            cells_left,
            time_left,
        });
        row
    }
}

impl Peer {
    fn status(&self, name: &str, now: Instant) -> PeerStatus {
        let link = self.link.as_deref();
        let traffic = link.map(|link| link.carried.totals()).unwrap_or_default();
        PeerStatus {
            name: name.to_owned(),
            state: self.state,
            reason: self.reason.clone(),
            address: self.advertise.clone(),
            remote: link.map(|link| link.remote),
            direction: link.map(|link| link.direction),
            incarnation: Some(self.incarnation),
            since: now.saturating_duration_since(self.since),
            lag: link.map(|link| link.queue.lag()).unwrap_or_default(),
            queued_bytes: link.map_or(0, |link| link.queue.push_bytes()),
            received_bytes: traffic.received.iter().sum(),
            sent_bytes: traffic.sent.iter().sum(),
            traffic,
            overflows: link.map_or(0, |link| link.queue.losses()),
            ranges_differing: 0,
            verified: self.verified.map(|at| now.saturating_duration_since(at)),
            heal: None,
        }
    }
}

impl Target {
    /// Returns a row for an address at which no known node answers.
    fn status(&self, address: &str, now: Instant) -> Option<PeerStatus> {
        let (state, reason) = match &self.outcome {
            TargetOutcome::Known => return None,
            TargetOutcome::Unreachable(reason) | TargetOutcome::NotAPeer(reason) => (PeerState::Down, reason),
            TargetOutcome::Untrusted(reason) => (PeerState::Untrusted, reason),
        };
        Some(PeerStatus {
            reason: reason.clone(),
            address: address.to_owned(),
            since: now.saturating_duration_since(self.since),
            ..PeerStatus::new("", state)
        })
    }
}
