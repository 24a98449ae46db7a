//! Statistics that nodes send to each other, for display.
//!
//! Heartbeats carry them as pairs of an id and a value, and a receiver skips unknown ids. So a later build can
//! add figures without a new protocol version.

use std::collections::BTreeSet;
use std::sync::atomic::Ordering::Relaxed;

use tokio::time::Instant;

use super::codec::{self, CodecError, Packed};
use super::joining::Joining;
use super::message::Figure;
use super::{Replication, Shared};
use crate::cluster::{Activity, Figures, NodeState, RemoteNode, Statistics};
use crate::model::{Incarnation, timestamp};

/// The most pairs of a heartbeat that are read.
const MAX_FIGURES: usize = 64;

const STATE: u8 = 0;

/// The states, by their number in the encoding.
const STATES: [NodeState; 4] = [NodeState::Joining, NodeState::Ready, NodeState::Full, NodeState::Draining];

/// The last figures of a linked peer.
#[derive(Clone, Debug)]
pub(super) struct Heard {
    pub(super) at: Instant,
    pub(super) figures: Figures,
    pub(super) links: BTreeSet<Incarnation>,
}

/// The figures that are encoded unchanged, by id.
fn numbers(figures: &mut Figures) -> [(u8, &mut Option<u64>); 12] {
    [
        (2, &mut figures.digest),
        (3, &mut figures.memory_bytes),
        (4, &mut figures.tombstones),
        (5, &mut figures.ops_per_second),
        (6, &mut figures.bytes_in_per_second),
        (7, &mut figures.bytes_out_per_second),
        (8, &mut figures.stable_age_ms),
        (9, &mut figures.uptime_ms),
        (10, &mut figures.retractions),
        (11, &mut figures.late),
        (12, &mut figures.lost),
        (13, &mut figures.tombstone_bytes),
    ]
}

/// Encodes the figures for a heartbeat, except the keys, which have a field of their own.
pub(super) fn pack(figures: &Figures) -> Vec<u8> {
    let mut packed = Vec::new();
    let mut put = |id, value: Option<u64>| {
        if let Some(value) = value {
            codec::append(&Figure { id, value }, &mut packed);
        }
    };
    let state = figures.state.and_then(|state| STATES.iter().position(|other| *other == state));
    put(STATE, state.map(|state| state as u64));
    for (id, value) in numbers(&mut figures.clone()) {
        put(id, *value);
    }
    packed
}

/// Decodes what [`pack`] returns.
pub(super) fn read(packed: Packed<'_>, keys: u64) -> Result<Figures, CodecError> {
    let mut figures = Figures { keys, ..Figures::default() };
    for figure in packed.items::<Figure>().take(MAX_FIGURES) {
        let Figure { id, value } = figure?;
        match id {
            STATE => figures.state = usize::try_from(value).ok().and_then(|state| STATES.get(state)).copied(),
            _ => {
                for (_, known) in numbers(&mut figures).into_iter().filter(|(known, _)| *known == id) {
                    *known = Some(value);
                }
            }
        }
    }
    Ok(figures)
}

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

    fn figures(&self) -> Figures {
        self.shared.figures()
    }

    fn remote_figures(&self) -> Vec<RemoteNode> {
        let links = self.shared.replica.peers.links();
        let heard = links.iter().filter_map(|link| Some((link, link.session.lock().heard()?.clone())));
        let heard: Vec<_> = heard.collect();
        let members = self.shared.replica.local.members.lock();
        let name_of = |incarnation: &Incarnation| members.name_of(*incarnation).map(str::to_owned);
        heard
            .into_iter()
            .map(|(link, Heard { at, figures, links })| RemoteNode {
                name: link.peer.clone(),
                incarnation: link.incarnation,
                age: at.elapsed(),
                figures,
                links: links.iter().filter_map(name_of).collect(),
            })
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_travel_whole_and_unknown_ones_are_skipped() {
        let mut figures = Figures { keys: 9, state: Some(NodeState::Full), ..Figures::default() };
        for (id, value) in numbers(&mut figures) {
            *value = Some(u64::from(id) << 40);
        }
        let mut packed = pack(&figures);
        assert_eq!(read(Packed(&packed), 9).unwrap(), figures);
        codec::append(&Figure { id: 250, value: 1 }, &mut packed);
        assert_eq!(read(Packed(&packed), 9).unwrap(), figures);
        let few = Figures { keys: 1, ..Figures::default() };
        assert_eq!(read(Packed(&pack(&few)), 1).unwrap(), few);
        assert!(read(Packed(&packed[..3]), 9).is_err(), "torn in the middle");
    }

    #[test]
    fn a_state_that_is_none_is_not_known() {
        let mut packed = Vec::new();
        codec::append(&Figure { id: STATE, value: 99 }, &mut packed);
        codec::append(&Figure { id: STATE, value: u64::MAX }, &mut packed);
        assert_eq!(read(Packed(&packed), 0).unwrap().state, None);
    }
}
