//! The peers as operators see them, and the commands of operators.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use super::faults::EVERYONE;
use super::link::HEARTBEAT_EVERY;
use super::link_error::SILENCE_LIMIT;
use super::members::{ForgetError, Standing};
use super::{Replication, Shared};
use crate::cluster::{Administration, ClusterError, PeerState, PeerStatus, Way};
use crate::env::draw_incarnation;
use crate::model::timestamp;
use crate::store::{Discarded, Store};
use crate::time_slice::TimeSlice;

impl Shared {
    /// Returns a row for every node that this one has heard, dials, or has received from its peers.
    pub(super) fn status(&self) -> Vec<PeerStatus> {
        let mut rows = self.replica.peers.status(Instant::now());
        let members = self.replica.local.members.lock();
        let now = self.replica.local.store.now(self.env.wall_clock());
        for (name, member) in members.roster() {
            if member.incarnation == members.incarnation() {
                continue;
            }
            let state = match member.standing {
                Standing::Present => PeerState::Down,
                Standing::Lapsed => PeerState::Lapsed,
                Standing::Gone => PeerState::Gone,
            };
            match rows.iter_mut().find(|row| row.name == name) {
                Some(row) if row.state == PeerState::Down && row.incarnation == Some(member.incarnation) => {
                    row.state = state;
                }
                Some(_) => {}
                None => rows.push(PeerStatus {
                    incarnation: Some(member.incarnation),
                    reason: "never linked to this node".into(),
                    since: timestamp::distance(now, member.heard),
                    ..PeerStatus::new(name, state)
                }),
            }
        }
        drop(members);
        // Why a node was refused is more important: a refused namesake keeps its state even if its name is cut.
        for row in rows.iter_mut().filter(|row| !row.name.is_empty() && !row.state.is_refused()) {
            let Some(cut) = self.faults.cut_of(&row.name) else { continue };
            row.state = PeerState::Cut;
            row.reason = format!("SAPWOOD CUT, direction {}", cut.way.as_str());
            row.since = cut.since.elapsed();
        }
        rows
    }
}

impl Shared {
    /// Returns why a linked peer cannot be removed. One that has missed two heartbeats may be dead, or cut off.
    fn is_linked(&self, name: &str) -> ClusterError {
        let link = self.replica.peers.links().into_iter().find(|link| link.peer == name);
        let last_heartbeat = link.and_then(|link| {
            let session = link.session.lock();
            session.last_heartbeat().map(|last| last.at)
        });
        let silent = last_heartbeat.map_or(Duration::ZERO, |at| at.elapsed());
        if silent <= 2 * HEARTBEAT_EVERY {
            return ClusterError::Linked(name.to_owned());
        }
        // Silence is checked once a second.
        let ends_in = (SILENCE_LIMIT + HEARTBEAT_EVERY).saturating_sub(silent) + HEARTBEAT_EVERY;
        ClusterError::Silent { name: name.to_owned(), silent, ends_in }
    }
}

/// Frees what a store has discarded. Takes little time, so a shutdown waits for it.
async fn free(store: Arc<Store>, mut discarded: Discarded) {
    let mut slice = TimeSlice::begin();
    while store.free(&mut discarded) {
        slice.give_way().await;
    }
}

impl Administration for Replication {
    fn forget(&self, name: &str) -> Result<(), ClusterError> {
        let forgotten = self.shared.replica.forget(name, self.shared.env.wall_clock(), Instant::now());
        forgotten.map_err(|error| match error {
            ForgetError::Unknown => ClusterError::UnknownMember(name.to_owned()),
            ForgetError::Linked => self.shared.is_linked(name),
            ForgetError::Itself => ClusterError::Itself(name.to_owned()),
        })?;
        tracing::warn!(peer = name, state = "lapsed", "forgotten by an operator");
        Ok(())
    }

    fn rejoin(&self) -> Result<(), ClusterError> {
        // Everything is discarded when this returns; the memory is freed later, in short slices.
        let Shared { replica, env, .. } = &*self.shared;
        let incarnation = draw_incarnation(&**env);
        let discarded = replica.rejoin(incarnation, env.wall_clock());
        let discarded = discarded.map_err(|error| ClusterError::TooManyOrigins(error.to_string()))?;
        self.shared.tracker.spawn(free(Arc::clone(&replica.local.store), discarded));
        tracing::warn!(%incarnation, "everything was discarded by an operator: joining anew");
        Ok(())
    }

    fn cut(&self, peer: &str, way: Way) -> Result<(), ClusterError> {
        self.shared.check_fault(peer)?;
        self.shared.faults.cut(peer, way);
        tracing::warn!(peer, state = "cut", direction = way.as_str(), "cut off");
        Ok(())
    }

    fn mend(&self, peer: &str, way: Way) -> Result<(), ClusterError> {
        self.shared.check_fault(peer)?;
        if self.shared.faults.mend(peer, way) {
            tracing::warn!(peer, direction = way.as_str(), "mended");
        }
        Ok(())
    }
}

impl Shared {
    fn check_fault(&self, peer: &str) -> Result<(), ClusterError> {
        if !self.faults.enabled {
            return Err(ClusterError::FaultsDisabled);
        }
        if peer == EVERYONE || self.status().iter().any(|row| row.name == peer) {
            return Ok(());
        }
        Err(ClusterError::UnknownMember(peer.to_owned()))
    }
}
