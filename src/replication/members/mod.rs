//! Who is a member, what each member has incorporated, and the stable time that follows. Pure.
//!
//! ```text
//!   hello, heartbeat ---> roster, reports --+
//!   finished sync ------> summary vector ---+--> acknowledged time of every member --> stable time
//!                              ^            |
//!                              +-- closing -+   of incarnations that are away
//! ```
//!
//! Invariants:
//! * `synced[c] = t` of the summary vector (see [`Origins`]) is claimed only after a sync with a node that had
//!   incorporated `c`'s writes up to `t`, and never after a push: an earlier push may have been lost.
//! * The stable time is computed only from reports of all members, and only while they agree on who these are.
//!   It is therefore never above the time of a write that a member has yet to receive (Golding's
//!   acknowledgement vector, 1992).
//! * After there was a member more or less it rises, and incarnations are closed, only once all have exchanged
//!   states of after they agreed on that: a new member may lack what the others hold, and one that has left may
//!   have handed to one member alone what it held of others.
//! * It does not rise while an incarnation is away and not closed: only some members may hold what was received
//!   of it.

mod coverage;
mod roster;
mod stable;
mod standing;
mod summary;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

pub(super) use coverage::ClosedCoverage;
pub(super) use roster::{Member, Standing};
pub(super) use standing::ForgetError;
pub(super) use summary::{Away, Summary};

use super::hello::Place;
use crate::ablation::{Ablation, ablated};
use crate::model::{Incarnation, Time, Vector, timestamp};
use crate::store::Origins;
use roster::Roster;

/// How long a member may be silent before its pushes no longer need a relay.
const RELAY_LIMIT: Duration = Duration::from_secs(10);

/// A namesake that a member heard within this time counts as alive, even if no linked peer has a link to it.
const HEARD_LATELY: Duration = Duration::from_secs(5);

/// The longest address in bytes that is accepted from a peer: a host name, a port and some room.
pub(super) const MAX_ADDRESS: usize = 300;

/// The parameters of a node's membership.
#[derive(Clone, Debug)]
pub(super) struct MembershipConfig {
    pub(super) name: String,
    pub(super) incarnation: Incarnation,
    /// How long a member may be away before it lapses; `None` for ever.
    pub(super) forget_after: Option<Duration>,
}

/// What a member reports about itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Report {
    /// The hash of the members that it has.
    pub(super) members: u64,
    /// Its hybrid clock when it made the report: the report with the later clock holds.
    pub(super) clock: Time,
    /// Its acknowledged time: it has incorporated every member's writes up to here.
    pub(super) acknowledged: Time,
}

/// This node's view of its cluster.
#[derive(Debug)]
pub(super) struct Membership {
    name: String,
    incarnation: Incarnation,
    generation: u64,
    forget_after: Option<Duration>,
    /// The summary vector.
    origins: Arc<Origins>,
    roster: Roster,
    /// Incarnations that are neither members nor closed, with the latest clock at which a member declared them
    /// away.
    away: BTreeMap<Incarnation, Declared>,
    /// Incarnations of which only a write was received, and since when.
    unknown: BTreeMap<Incarnation, Time>,
    reports: BTreeMap<Incarnation, Report>,
    /// The peers that are linked to this node, and the latest report of each.
    linked: BTreeMap<Incarnation, Linked>,
    /// The members that the stable time was computed with, former ones included.
    counted: BTreeSet<Incarnation>,
    /// Who the members were when all were last found to agree on them; `None` since the stable time was reset.
    agreed: Option<Agreed>,
    /// A later incarnation of this node's name.
    namesake: Option<Namesake>,
}

#[derive(Clone, Copy, Debug)]
struct Namesake {
    incarnation: Incarnation,
    /// Since when it is seen alive.
    since: Time,
    /// When a member last heard it.
    heard: Time,
}

#[derive(Debug, Default)]
struct Linked {
    links: BTreeSet<Incarnation>,
    vector: Vector,
}

/// An incarnation that was declared away.
#[derive(Clone, Copy, Debug)]
struct Declared {
    since: Time,
    /// Its latest write that was received by then: it is closed up to there.
    seen: Time,
}

/// Members that all of them agree on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Agreed {
    /// Their hash.
    members: u64,
    /// Since when all were found to agree, by this node's clock, which had passed the clocks of all reports.
    since: Time,
}

/// What a heartbeat contains beyond the clocks and the summary.
#[derive(Debug, Default)]
pub(super) struct Gossip {
    pub(super) links: BTreeSet<Incarnation>,
    pub(super) members: Vec<(String, Member)>,
    pub(super) reports: Vec<(Incarnation, Report)>,
}

/// A change of this node's own place in the cluster.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// Another node has its name: this node must stop.
    Superseded,
}

impl Membership {
    pub(super) fn new(config: MembershipConfig, origins: Arc<Origins>, now: Time) -> Self {
        let mut membership = Membership {
            name: config.name,
            incarnation: config.incarnation,
            generation: 1,
            forget_after: config.forget_after,
            origins,
            roster: Roster::default(),
            away: BTreeMap::new(),
            unknown: BTreeMap::new(),
            reports: BTreeMap::new(),
            linked: BTreeMap::new(),
            counted: BTreeSet::new(),
            agreed: None,
            namesake: None,
        };
        membership.enter(now);
        membership
    }

    /// Enters this node itself in the roster.
    fn enter(&mut self, now: Time) {
        let own = Member {
            incarnation: self.incarnation,
            generation: self.generation,
            standing: Standing::Present,
            since: now,
            heard: now,
        };
        let name = self.name.clone();
        self.roster.merge(&name, own);
    }

    pub(super) fn incarnation(&self) -> Incarnation {
        self.incarnation
    }

    /// Returns this node's place in the cluster, for a hello.
    pub(super) fn place(&self) -> Place {
        let Membership { incarnation, generation, .. } = *self;
        Place { incarnation, generation }
    }

    /// Whether this node has no link, and no other name in its roster. A key that it received by pushes alone
    /// could come back if it were purged, and what a peer is about to send belongs to a state that the vector
    /// will claim as a whole.
    pub(super) fn is_alone(&self) -> bool {
        self.others().next().is_none() && self.linked.is_empty()
    }

    fn others(&self) -> impl Iterator<Item = (&str, &Member)> {
        self.roster.iter().filter(|(name, _)| *name != self.name)
    }

    /// Returns this node's summary for a heartbeat.
    pub(super) fn summary(&self, stable: Time, now: Time) -> Summary {
        let present = self.roster.present().map(|(_, member)| member.incarnation);
        let mut vector: Vector = present.map(|of| (of, self.synced(of))).collect();
        vector.raise(self.incarnation, now);
        let members = self.roster.members_hash();
        Summary { stable, members, vector, away: self.open(), hashes: Vec::new() }
    }

    /// Returns this node's summary for the start of a sync: drawn before any digest is read.
    pub(super) fn full_summary(&self, stable: Time, now: Time) -> Summary {
        Summary { hashes: self.coverage_hashes(), ..self.summary(stable, now) }
    }

    /// Returns up to which time the writes of an incarnation are incorporated, as proved by syncs.
    pub(super) fn synced(&self, incarnation: Incarnation) -> Time {
        self.origins.coverage_of(incarnation).synced
    }

    /// Records that a link to a peer is up: the peer is a member, whatever it was before.
    pub(super) fn on_link(&mut self, name: &str, incarnation: Incarnation, generation: u64, now: Time) {
        let before = self.roster.get(name).filter(|known| known.incarnation != incarnation);
        let generation = before.map_or(generation, |before| generation.max(before.generation + 1));
        let standing = Standing::Present;
        self.roster.merge(name, Member { incarnation, generation, standing, since: now, heard: now });
        self.linked.entry(incarnation).or_default();
        self.count_members();
    }

    /// Resets the stable time if there is a new member. It may lack what was stable without it, and may bring
    /// older deletes: nothing is purged until all members have exchanged their states.
    fn count_members(&mut self) {
        let present: BTreeSet<_> = self.roster.present().map(|(_, member)| member.incarnation).collect();
        if !present.is_subset(&self.counted) && !ablated(Ablation::Regroup) {
            self.reset_stable_time();
        }
        self.counted.extend(present);
    }

    fn reset_stable_time(&mut self) {
        self.origins.reset_stable_time();
        self.agreed = None;
    }

    /// Records that the link to a peer has ended.
    pub(super) fn on_unlink(&mut self, incarnation: Incarnation) {
        self.linked.remove(&incarnation);
    }

    /// Records the goodbye of a peer: the stable time does not wait for it.
    pub(super) fn on_goodbye(&mut self, incarnation: Incarnation, now: Time) {
        if let Some(member) = self.roster.find(incarnation) {
            (member.standing, member.since) = (Standing::Gone, now);
        }
    }

    /// Handles the heartbeat of a linked peer.
    pub(super) fn on_heartbeat(&mut self, peer: Incarnation, summary: &Summary, gossip: Gossip, now: Time) {
        // First note who is alive, then draw conclusions.
        // Entered here too: the end of an earlier connection may have been noted after the start of this one.
        self.linked.entry(peer).or_default().links = gossip.links;
        self.on_summary(peer, summary);
        for (name, member) in gossip.members {
            self.on_member(&name, member, now);
        }
        if let Some(member) = self.roster.find(peer) {
            member.heard = member.heard.max(now);
        }
        for (incarnation, report) in gossip.reports {
            self.take_report(incarnation, report);
        }
        let roster = &self.roster;
        self.reports.retain(|&incarnation, _| roster.holds(incarnation));
        self.count_members();
    }

    /// Handles the summary of a linked peer, from a heartbeat or the start of a sync.
    pub(super) fn on_summary(&mut self, peer: Incarnation, summary: &Summary) {
        if let Some(linked) = self.linked.get_mut(&peer) {
            linked.vector.join(&summary.vector);
        }
        self.on_away(&summary.away);
    }

    fn take_report(&mut self, incarnation: Incarnation, report: Report) {
        if incarnation == self.incarnation || !self.roster.holds(incarnation) {
            return;
        }
        let known = self.reports.entry(incarnation).or_insert(report);
        if report.clock > known.clock {
            *known = report;
        }
    }

    fn on_member(&mut self, name: &str, member: Member, now: Time) {
        if name == self.name && member.incarnation != self.incarnation {
            self.roster.note_former(member.incarnation, name);
            let later = (member.generation, member.incarnation) > (self.generation, self.incarnation);
            // A dead namesake was before this node, whatever its generation; a live one may be after it.
            let seen = Namesake { incarnation: member.incarnation, since: now, heard: member.heard };
            if later && self.is_alive(&seen, now) {
                let known = self.namesake.filter(|known| known.incarnation == seen.incarnation);
                self.namesake = Some(known.map_or(seen, |known| Namesake { since: known.since, ..seen }));
            } else if later {
                self.generation = member.generation + 1;
                if let Some(own) = self.roster.get_mut(name) {
                    own.generation = self.generation;
                }
            }
            return;
        }
        if member.incarnation == self.incarnation {
            self.generation = self.generation.max(member.generation);
            // A node that does not have this one as a member has not heard it.
            if let Some(own) = self.roster.get_mut(name).filter(|_| member.standing != Standing::Present) {
                own.since = own.since.max(now);
                return;
            }
        }
        let seen = Namesake { incarnation: member.incarnation, since: now, heard: member.heard };
        let is_dead = !self.is_alive(&seen, now);
        if let Some(known) =
            self.roster.get_mut(name).filter(|known| self.linked.contains_key(&known.incarnation))
        {
            // The linked incarnation will raise its own generation in the same way, once it receives the other
            // entry.
            if known.incarnation != member.incarnation && known.generation <= member.generation && is_dead {
                known.generation = member.generation + 1;
                return;
            }
            // A node that let it lapse was cut off itself.
            if known.standing == Standing::Present && member.standing == Standing::Lapsed {
                known.since = known.since.max(now);
                return;
            }
        }
        self.roster.merge(name, member);
    }

    /// Whether a linked peer is linked to the namesake, or a more distant member heard it lately.
    fn is_alive(&self, namesake: &Namesake, now: Time) -> bool {
        timestamp::later(namesake.heard, HEARD_LATELY) > now
            || self.linked.values().any(|peer| peer.links.contains(&namesake.incarnation))
    }

    /// Returns what this node's next heartbeat contains beyond its clocks and its summary.
    pub(super) fn gossip(&self, now: Time) -> Gossip {
        let mut members: Vec<_> =
            self.roster.iter().map(|(name, member)| (name.to_owned(), *member)).collect();
        for (_, member) in &mut members {
            if member.incarnation == self.incarnation || self.linked.contains_key(&member.incarnation) {
                member.heard = member.heard.max(now);
            }
        }
        let mut reports: Vec<_> = self.reports.iter().map(|(&of, &report)| (of, report)).collect();
        reports.push((self.incarnation, self.report(now)));
        Gossip { links: self.linked.keys().copied().collect(), members, reports }
    }

    /// Handles the end of a sync with a linked peer: everything that the peer had incorporated when it sent
    /// `theirs` is incorporated here, and so is `coverage`, its entries for incarnations that are not members.
    ///
    /// The sync raises nothing for the incarnations in `gave_up`: the peer held writes of them that were given
    /// up here, and may not have removed and listed these yet. The next sync raises them.
    pub(super) fn on_sync(
        &mut self,
        theirs: &Summary,
        coverage: &[ClosedCoverage],
        gave_up: &BTreeSet<Incarnation>,
    ) {
        let is_told = |of: Incarnation| self.is_present(of) || self.roster.has_ended(of);
        if !theirs.vector.iter().all(|(of, _)| is_told(of)) {
            // The peer has a member that this node has not received yet.
            self.reset_stable_time();
        }
        let others = |of: Incarnation| {
            of != self.incarnation && (!gave_up.contains(&of) || ablated(Ablation::ClaimGivenUp))
        };
        for (incarnation, time) in theirs.vector.iter().filter(|&(of, _)| others(of)) {
            self.origins.raise(incarnation, time, timestamp::ZERO);
        }
        for &ClosedCoverage { incarnation, synced, closed } in
            coverage.iter().filter(|of| others(of.incarnation))
        {
            self.origins.raise(incarnation, synced, closed);
        }
        self.on_away(&theirs.away);
    }

    /// Returns the linked peers that have no link to `origin`, by their own reports, so that they miss its
    /// pushes.
    pub(super) fn without_link_to(&self, origin: Incarnation) -> impl Iterator<Item = Incarnation> {
        let lacks = move |(peer, linked): (&Incarnation, &Linked)| {
            (*peer != origin && !linked.links.contains(&origin)).then_some(*peer)
        };
        self.linked.iter().filter_map(lacks)
    }

    /// Whether this node has incorporated writes that a linked peer lacks, of members that the peer has no link
    /// to.
    pub(super) fn has_news_for(&self, peer: Incarnation) -> bool {
        /// Less than this is not worth a sync.
        const NEWS: Duration = Duration::from_secs(2);
        let Some(linked) = self.linked.get(&peer) else { return false };
        self.roster.present().any(|(_, member)| {
            let other = member.incarnation;
            other != peer
                && other != self.incarnation
                && !linked.links.contains(&other)
                && self.synced(other) > timestamp::later(linked.vector.time_of(other), NEWS)
        })
    }

    /// Whether pushes must be relayed: some linked peer has no link to a member that is alive.
    pub(super) fn must_relay(&self, now: Time) -> bool {
        let alive = self.others().filter(|(_, member)| timestamp::later(member.heard, RELAY_LIMIT) >= now);
        alive.map(|(_, member)| member.incarnation).any(|of| self.without_link_to(of).next().is_some())
    }

    /// Whether the stable time waits for this incarnation.
    pub(super) fn is_present(&self, incarnation: Incarnation) -> bool {
        self.roster.present().any(|(_, member)| member.incarnation == incarnation)
    }

    pub(super) fn roster(&self) -> impl Iterator<Item = (&str, &Member)> {
        self.roster.iter()
    }

    /// Returns the name that an incarnation has or had, if it is known.
    pub(super) fn name_of(&self, incarnation: Incarnation) -> Option<&str> {
        self.roster.name_of(incarnation)
    }

    pub(super) fn member_count(&self) -> usize {
        self.roster.present().count()
    }
}

#[cfg(test)]
mod tests;
