//! Encodes and decodes heartbeats, which a node sends to its peers every second.

use std::collections::BTreeSet;

use super::Shared;
use super::codec::{self, CodecError, Packed};
use super::figures;
use super::hello::MAX_GENERATION;
use super::local::Local;
use super::members::{Gossip, MAX_ADDRESS, Member, Report, Standing};
use super::message::{
    Heartbeat, Message, PeerAddress, WireMember, WireReport, WireStanding, incarnation_number,
};
use crate::cluster::Figures;
use crate::config::MAX_NAME;
use crate::model::{Incarnation, Time, timestamp};

/// The most items of each kind that are read from a heartbeat.
const MAX_ITEMS: usize = 2048;

/// Encodes this node's next heartbeat; `peers` are name, incarnation and address of its linked peers.
pub(super) fn frame<'a>(
    local: &Local,
    wall: Time,
    peers: impl IntoIterator<Item = (&'a str, Incarnation, &'a str)>,
    figures: &Figures,
) -> bytes::Bytes {
    let hlc = local.store.now(wall);
    let members = local.members.lock();
    let (gossip, summary) = (members.gossip(hlc), members.summary(local.store.stable_time(), hlc));
    drop(members);
    let mut packed_peers = Vec::new();
    for (name, incarnation, advertise) in peers {
        let incarnation = incarnation_number(incarnation);
        codec::append(&PeerAddress { name, incarnation, advertise }, &mut packed_peers);
    }
    let mut members = Vec::new();
    for (name, member) in &gossip.members {
        codec::append(&wire_member(name, member), &mut members);
    }
    let mut reports = Vec::new();
    for (incarnation, Report { members, clock, acknowledged }) in &gossip.reports {
        let incarnation = incarnation.to_le_bytes();
        codec::append(
            &WireReport { incarnation, members: *members, clock: clock.0, acknowledged: acknowledged.0 },
            &mut reports,
        );
    }
    let packed = summary.pack();
    codec::frame(&Message::Heartbeat(Heartbeat {
        wall: wall.0,
        hlc: hlc.0,
        summary: summary.wire(&packed),
        keys: figures.keys,
        peers: Packed(&packed_peers),
        members: Packed(&members),
        reports: Packed(&reports),
        figures: Packed(&figures::pack(figures)),
    }))
}

impl Shared {
    /// Returns the frame of this node's next heartbeat.
    pub(super) fn heartbeat(&self) -> bytes::Bytes {
        self.replica.heartbeat(self.env.wall_clock(), &self.figures())
    }
}

fn wire_member<'a>(name: &'a str, member: &Member) -> WireMember<'a> {
    let standing = match member.standing {
        Standing::Present => WireStanding::Present,
        Standing::Lapsed => WireStanding::Lapsed,
        Standing::Gone => WireStanding::Gone,
    };
    WireMember {
        name,
        incarnation: member.incarnation.to_le_bytes(),
        generation: member.generation,
        standing,
        since: member.since.0,
        heard: member.heard.0,
    }
}

/// Decodes a heartbeat, and the addresses of the nodes that its sender is linked to. Entries with a time beyond
/// `max_accepted` are omitted: they would hold for ever.
pub(super) fn read(
    heartbeat: &Heartbeat<'_>,
    max_accepted: Time,
) -> Result<(Gossip, Vec<(Incarnation, String)>), CodecError> {
    let mut gossip = Gossip::default();
    let mut addresses = Vec::new();
    let mut links = BTreeSet::new();
    for peer in heartbeat.peers.items::<PeerAddress<'_>>().take(MAX_ITEMS) {
        let PeerAddress { incarnation, advertise, .. } = peer?;
        let Some(incarnation) = timestamp::incarnation(incarnation) else { continue };
        links.insert(incarnation);
        if advertise.len() <= MAX_ADDRESS {
            addresses.push((incarnation, advertise.to_owned()));
        }
    }
    gossip.links = links;
    for member in heartbeat.members.items::<WireMember<'_>>().take(MAX_ITEMS) {
        let member = member?;
        let (since, heard) = (Time(member.since), Time(member.heard));
        let Ok(incarnation) = Incarnation::try_from(&member.incarnation) else { continue };
        if since.max(heard) > max_accepted
            || member.name.len() > MAX_NAME
            || member.generation > MAX_GENERATION
        {
            continue;
        }
        let standing = match member.standing {
            WireStanding::Present => Standing::Present,
            WireStanding::Lapsed => Standing::Lapsed,
            WireStanding::Gone => Standing::Gone,
        };
        let generation = member.generation;
        gossip
            .members
            .push((member.name.to_owned(), Member { incarnation, generation, standing, since, heard }));
    }
    for report in heartbeat.reports.items::<WireReport>().take(MAX_ITEMS) {
        let report = report?;
        let Ok(incarnation) = Incarnation::try_from(&report.incarnation) else { continue };
        let (clock, acknowledged) = (Time(report.clock), Time(report.acknowledged));
        if clock.max(acknowledged) <= max_accepted {
            gossip.reports.push((incarnation, Report { members: report.members, clock, acknowledged }));
        }
    }
    Ok((gossip, addresses))
}
