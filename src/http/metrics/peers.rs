//! The metrics of the links, one row for each peer.

use std::fmt::Error;

use super::{BYTES, Labels, Reading, SECONDS, Sheet};
use crate::cluster::{PeerStatus, TrafficKind};

pub(super) fn write(sheet: &mut Sheet<'_, '_>) -> Result<(), Error> {
    sheet.gauges("peer_linked", "Whether there is a link to the peer.", None, |reading| {
        rows(reading, |peer| Some(f64::from(u8::from(peer.state.is_linked()))))
    })?;
    sheet.gauges("peer_state", "The state of the link to the peer, by name. Always 1.", None, |reading| {
        named(reading).map(|peer| (vec![("peer", &*peer.name), ("state", peer.state.as_str())], 1.0))
    })?;
    sheet.gauges(
        "peer_lag",
        "The age of the oldest write that the peer has not acknowledged.",
        SECONDS,
        |reading| rows(reading, |peer| peer.state.is_linked().then_some(peer.lag.as_secs_f64())),
    )?;
    sheet.gauges(
        "peer_verified_age",
        "How long ago both were known to hold the same.",
        SECONDS,
        |reading| rows(reading, |peer| peer.verified.map(|age| age.as_secs_f64())),
    )?;
    sheet.gauges("peer_queue", "Pushes that wait to be sent to the peer.", BYTES, |reading| {
        rows(reading, |peer| Some(peer.queued_bytes as f64))
    })?;
    sheet.gauges(
        "peer_differing_ranges",
        "Ranges of keys, of 16384, that are known to differ.",
        None,
        |reading| rows(reading, |peer| Some(peer.ranges_differing as f64)),
    )?;
    sheet.gauges(
        "peer_heal_cells_left",
        "Cells still to be exchanged, by an estimate.",
        None,
        |reading| rows(reading, |peer| Some(peer.heal.as_ref().map_or(0.0, |heal| heal.cells_left as f64))),
    )?;
    sheet.counters(
        "peer_overflows",
        "How often pushes to the peer were dropped over the present link.",
        None,
        |reading| named(reading).map(|peer| (vec![("peer", &*peer.name)], peer.overflows)),
    )?;
    sheet.counters("peer_received", "Received from the peer over the present link.", BYTES, |reading| {
        named(reading).flat_map(|peer| by_kind(peer, peer.traffic.received))
    })?;
    sheet.counters("peer_sent", "Sent to the peer over the present link.", BYTES, |reading| {
        named(reading).flat_map(|peer| by_kind(peer, peer.traffic.sent))
    })
}

/// The peers that have sent their name. Addresses without an answer have none, and refused nodes may have any name:
/// these would make an unbounded number of series.
fn named(reading: &Reading) -> impl Iterator<Item = &PeerStatus> {
    reading.peers.iter().filter(|peer| !peer.name.is_empty() && !peer.state.is_refused())
}

fn rows(
    reading: &Reading,
    value: impl Fn(&PeerStatus) -> Option<f64>,
) -> impl Iterator<Item = (Labels<'_>, f64)> {
    named(reading).filter_map(move |peer| Some((vec![("peer", &*peer.name)], value(peer)?)))
}

fn by_kind(
    peer: &PeerStatus,
    counts: [u64; TrafficKind::ALL.len()],
) -> impl Iterator<Item = (Labels<'_>, u64)> {
    let kinds = TrafficKind::ALL.into_iter().zip(counts);
    kinds.map(|(kind, count)| (vec![("peer", &*peer.name), ("kind", kind.as_str())], count))
}
