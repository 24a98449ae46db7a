//! The node's own state and figures, its peers and their events, as its clients see them.

use std::sync::atomic::Ordering::{Acquire, Relaxed};

use super::figures::LastHeartbeat;
use super::joining::Joining;
use super::{Replication, Shared};
use crate::cluster::{
    Activity, Events, Figures, NodeState, PeerSecurity, PeerStatus, Recorded, RemoteNode, Statistics, Status,
};
use crate::model::{Incarnation, timestamp};

impl Shared {
    /// Returns this node's own state.
    pub(super) fn state(&self) -> NodeState {
        match () {
            () if self.node_stops.is_cancelled() || self.stopping.load(Relaxed) => NodeState::Draining,
            () if self.replica.local.refusing.load(Relaxed) > 0 => NodeState::Full,
            () if *self.joining.borrow() == Joining::Done => NodeState::Ready,
            () => NodeState::Joining,
        }
    }

    /// Returns this node's own figures.
    pub(super) fn figures(&self) -> Figures {
        let local = &self.replica.local;
        let (totals, stable) = (local.store.totals(), local.store.stable_time());
        let now = local.store.now(self.env.wall_clock());
        let traffic = self.replica.peers.links().into_iter().map(|link| link.carried.totals());
        let (received, sent) = traffic.fold((0, 0), |(received, sent), link| {
            (received + link.received_per_second, sent + link.sent_per_second)
        });
        let millis = |time: std::time::Duration| u64::try_from(time.as_millis()).unwrap_or(u64::MAX);
        Figures {
            state: Some(self.state()),
            keys: totals.live_cells,
            digest: Some(totals.live),
            memory_bytes: Some(local.store.memory()),
            tombstones: Some(totals.dead_cells),
            tombstone_bytes: Some(local.store.tombstone_memory()),
            ops_per_second: Some(self.stats.last_second()),
            bytes_in_per_second: Some(received),
            bytes_out_per_second: Some(sent),
            stable_age_ms: (stable > timestamp::ZERO).then(|| millis(timestamp::distance(now, stable))),
            uptime_ms: Some(millis(self.started.elapsed())),
            retractions: Some(local.counts.retractions.load(Relaxed)),
            late: Some(local.counts.late.load(Relaxed)),
            lost: Some(local.counts.lost.load(Relaxed)),
        }
    }
}

impl Status for Replication {
    fn state(&self) -> NodeState {
        self.shared.state()
    }

    fn is_fetching(&self) -> bool {
        self.shared.fetching.load(Acquire)
    }

    fn joining_reason(&self) -> Option<String> {
        self.shared.joining.borrow().reason()
    }

    fn peers(&self) -> Vec<PeerStatus> {
        self.shared.status()
    }

    fn name_of(&self, incarnation: Incarnation) -> Option<String> {
        self.shared.replica.local.members.lock().name_of(incarnation).map(str::to_owned)
    }

    fn events(&self) -> Events {
        self.shared.announcer.events()
    }

    fn recorded_events(&self, after: u64) -> Vec<Recorded> {
        self.shared.announcer.recorded(after)
    }
}

impl Statistics for Replication {
    fn activity(&self) -> Activity {
        let counts = &self.shared.replica.local.counts;
        let (links, refusals) = self.shared.replica.peers.made_and_refused();
        Activity {
            links,
            syncs: counts.syncs.load(Relaxed),
            failed_syncs: counts.failed_syncs.load(Relaxed),
            damaged_frames: counts.damaged_frames.load(Relaxed),
            refusals,
        }
    }

    fn peer_security(&self) -> PeerSecurity {
        self.shared.tls.as_ref().map_or_else(PeerSecurity::none, |tls| tls.status())
    }

    fn figures(&self) -> Figures {
        self.shared.figures()
    }

    fn remote_figures(&self) -> Vec<RemoteNode> {
        let links = self.shared.replica.peers.links();
        let heartbeats =
            links.iter().filter_map(|link| Some((link, link.session.lock().last_heartbeat()?.clone())));
        let heartbeats: Vec<_> = heartbeats.collect();
        let members = self.shared.replica.local.members.lock();
        let name_of = |incarnation: &Incarnation| members.name_of(*incarnation).map(str::to_owned);
        heartbeats
            .into_iter()
            .map(|(link, LastHeartbeat { at, figures, links })| RemoteNode {
                name: link.peer.clone(),
                incarnation: link.incarnation,
                age: at.elapsed(),
                figures,
                links: links.iter().filter_map(name_of).collect(),
            })
            .collect()
    }
}
