//! Statistics that nodes send to each other, for display.
//!
//! Heartbeats carry them as pairs of an id and a value, and a receiver skips unknown ids. So a later build can
//! add figures without a new protocol version.

use std::collections::BTreeSet;

use tokio::time::Instant;

use super::codec::{self, CodecError, Packed};
use super::message::Figure;
use crate::cluster::{Figures, NodeState};
use crate::model::Incarnation;

/// The most pairs of a heartbeat that are read.
const MAX_FIGURES: usize = 64;

const STATE: u8 = 0;

/// The states, by their number in the encoding.
const STATES: [NodeState; 4] = [NodeState::Joining, NodeState::Ready, NodeState::Full, NodeState::Draining];

/// The last figures of a linked peer.
#[derive(Clone, Debug)]
pub(super) struct LastHeartbeat {
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
