//! Who belongs to the cluster, what each is known to hold, and how far the floor may rise. Pure.
//!
//! ```text
//!   hello, beat ----> roster, reports --+
//!   finished round -> verified vector --+--> low of every member --> candidate --> floor
//! ```
//!
//! Invariants:
//! * `verified[c] = t` is claimed only after a round with someone who held `c`'s state at `t`, and never after a
//!   push: the push before it may have been lost.
//! * A floor is computed only from reports of all members that are waited for, and only while they agree who these
//!   are. It is therefore never above what any of them has yet to receive.
//! * A daemon that has not met its cluster yet (*unfounded*) computes no floor.

mod floor;
mod founding;
mod roster;
mod sight;
mod standing;

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

pub(super) use floor::Report;
pub(super) use roster::{Member, Standing};
pub(super) use sight::{MAX_ADDRESS, Sight};
pub(super) use standing::ForgetError;

use super::hello::Place;
use crate::ablation::{Ablation, ablated};
use crate::model::{Incarnation, Time, Vector, stamp};
use floor::Candidates;
use roster::Roster;

/// The pushes of a member that nobody has heard for this long are not waited for.
const RELAY_LIMIT: Duration = Duration::from_secs(10);

/// A namesake that a member heard within this time counts as alive, also where no linked peer is linked to it.
const HEARD_LATELY: Duration = Duration::from_secs(5);

/// The most addresses that an unfounded daemon waits for.
const MAX_AWAITED: usize = 256;

/// The least margin between what all members hold and the floor: covers stamps in flight, frames of incarnations
/// that are gone, and deadlines read by clocks that differ.
const LEAST_MARGIN: Duration = Duration::from_secs(10);

/// What a daemon's membership is made with.
#[derive(Clone, Debug)]
pub(super) struct MembershipConfig {
    pub(super) name: String,
    pub(super) incarnation: Incarnation,
    /// A random number: the lineage, should this daemon found the cluster.
    pub(super) lineage: u128,
    /// The addresses to reach before the cluster is founded; with none, this daemon founds it.
    pub(super) join: Vec<String>,
    pub(super) max_clock_skew: Duration,
    /// How long a member may be away before it lapses; `None` for ever.
    pub(super) forget_after: Option<Duration>,
}

/// What this daemon knows of its cluster.
#[derive(Debug)]
pub(super) struct Membership {
    name: String,
    incarnation: Incarnation,
    /// When this incarnation began.
    began: Time,
    generation: u64,
    lineage: u128,
    founded: bool,
    join: Vec<String>,
    /// It had founded a cluster of its own and gave way to another: it does not found one again.
    gave_way: bool,
    /// The founding that it gave way to. While a daemon of that is linked it joins no other: between one of each it
    /// would go to and fro.
    gave_way_to: Option<u128>,
    /// The founding that an operator has left for another: not to be gone back to.
    left: Option<u128>,
    margin: Duration,
    forget_after: Option<Duration>,
    verified: Vector,
    roster: Roster,
    reports: BTreeMap<Incarnation, Report>,
    candidates: Candidates,
    /// Who is linked to this daemon, and what each said of itself last.
    linked: BTreeMap<Incarnation, Linked>,
    /// The incarnations with which a round has finished.
    met: BTreeSet<Incarnation>,
    /// What each daemon that was ever linked waits for, as it said last while it was unfounded. Kept when its link
    /// ends or it is founded by others: this daemon may not have met those yet.
    awaited: BTreeMap<Incarnation, Vec<String>>,
    /// A later incarnation of this daemon's name.
    namesake: Option<Namesake>,
}

#[derive(Clone, Copy, Debug)]
struct Namesake {
    incarnation: Incarnation,
    /// Since when it has been seen alive.
    since: Time,
    /// When a member heard it last.
    heard: Time,
}

#[derive(Debug, Default)]
struct Linked {
    links: BTreeSet<Incarnation>,
    founded: bool,
    lineage: u128,
    vector: Vector,
}

/// What a beat says beyond the clocks.
#[derive(Debug, Default)]
pub(super) struct Gossip {
    pub(super) links: BTreeSet<Incarnation>,
    pub(super) members: Vec<(String, Member)>,
    pub(super) reports: Vec<(Incarnation, Report)>,
}

/// Something has happened to this daemon's own place in the cluster.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// An operator has forgotten it: it must go on as another incarnation.
    Forgotten,
    /// Another daemon goes by its name: it must stop.
    Superseded,
}

impl Membership {
    pub(super) fn new(config: MembershipConfig, now: Time) -> Self {
        let founded = config.join.is_empty();
        let mut membership = Membership {
            name: config.name,
            incarnation: config.incarnation,
            began: now,
            generation: 1,
            lineage: config.lineage,
            founded,
            join: config.join,
            gave_way: false,
            gave_way_to: None,
            left: None,
            margin: LEAST_MARGIN.max(4 * config.max_clock_skew),
            forget_after: config.forget_after,
            verified: Vector::default(),
            roster: Roster::default(),
            reports: BTreeMap::new(),
            candidates: Candidates::default(),
            linked: BTreeMap::new(),
            met: BTreeSet::new(),
            awaited: BTreeMap::new(),
            namesake: None,
        };
        membership.enter(now);
        membership
    }

    /// Puts this daemon itself on the roster.
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

    /// What this daemon says of itself at a hello.
    pub(super) fn place(&self, floor: Time) -> Place {
        let Membership { incarnation, generation, lineage, founded, .. } = *self;
        Place { incarnation, generation, lineage, founded, floor }
    }

    pub(super) fn is_founded(&self) -> bool {
        self.founded
    }

    /// Whether this daemon has exchanged states with no other yet: nobody relies on its floor or its lineage.
    pub(super) fn is_alone(&self) -> bool {
        self.met.is_empty()
    }

    /// Whether a state may be on its way here.
    pub(super) fn has_links(&self) -> bool {
        !self.linked.is_empty()
    }

    fn others(&self) -> impl Iterator<Item = (&str, &Member)> {
        self.roster.iter().filter(|(name, _)| *name != self.name)
    }

    /// What this daemon says at the start of a round: drawn before any digest of it is read.
    pub(super) fn sight(&self, floor: Time, now: Time) -> Sight {
        let mut vector = self.verified.clone();
        vector.raise(self.incarnation, now);
        let join = if self.founded { Vec::new() } else { self.awaited_addresses().into_iter().collect() };
        let Membership { lineage, founded, .. } = *self;
        Sight { floor, lineage, founded, alone: self.is_alone(), vector, join }
    }

    /// A link to a peer is up.
    pub(super) fn on_link(&mut self, name: &str, incarnation: Incarnation, generation: u64, now: Time) {
        let before = self.roster.get(name).filter(|known| known.incarnation != incarnation);
        let generation = before.map_or(generation, |before| generation.max(before.generation + 1));
        let standing = Standing::Present;
        if let Some(before) = before {
            self.awaited.remove(&before.incarnation);
        }
        self.roster.merge(name, Member { incarnation, generation, standing, since: stamp::ZERO, heard: now });
        self.linked.entry(incarnation).or_default();
    }

    /// The link to a peer has ended.
    pub(super) fn on_unlink(&mut self, incarnation: Incarnation) {
        self.linked.remove(&incarnation);
    }

    /// A peer says goodbye: it is not waited for.
    pub(super) fn on_goodbye(&mut self, incarnation: Incarnation, now: Time) {
        if let Some(member) = self.roster.find(incarnation) {
            (member.standing, member.since) = (Standing::Gone, now);
        }
    }

    /// A beat of a linked peer.
    pub(super) fn on_beat(&mut self, peer: Incarnation, sight: &Sight, gossip: Gossip, now: Time) {
        // First who is alive, then what to make of it.
        // Entered here too: the end of an earlier connection may have been noted after the start of this one.
        self.linked.entry(peer).or_default().links = gossip.links;
        self.on_sight(peer, sight);
        for (name, member) in gossip.members {
            self.hear_of(&name, member, now);
        }
        if let Some(member) = self.roster.find(peer) {
            member.heard = member.heard.max(now);
        }
        for (incarnation, report) in gossip.reports {
            self.take_report(incarnation, report);
        }
        if !self.founded && !sight.founded {
            self.lineage = self.lineage.min(sight.lineage);
        }
        let roster = &self.roster;
        self.reports.retain(|&incarnation, _| roster.holds(incarnation));
    }

    /// What a linked peer says of itself, in a beat or at the start of a round.
    pub(super) fn on_sight(&mut self, peer: Incarnation, sight: &Sight) {
        if let Some(linked) = self.linked.get_mut(&peer) {
            linked.vector.join(&sight.vector);
            linked.founded = sight.founded;
            linked.lineage = sight.lineage;
        }
        if !self.founded && (self.awaited.contains_key(&peer) || self.awaited.len() < MAX_AWAITED) {
            let said = self.awaited.entry(peer).or_default();
            if !sight.founded {
                *said = sight.join.iter().take(MAX_AWAITED).cloned().collect();
            }
        }
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

    fn hear_of(&mut self, name: &str, member: Member, now: Time) {
        if name == self.name && member.incarnation != self.incarnation {
            self.roster.note_former(member.incarnation, name);
            let later = (member.generation, member.incarnation) > (self.generation, self.incarnation);
            // One that is dead was before this daemon, whatever it counted; one that lives may be after it.
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
        }
        let seen = Namesake { incarnation: member.incarnation, since: now, heard: member.heard };
        let is_dead = !self.is_alive(&seen, now);
        if let Some(known) =
            self.roster.get_mut(name).filter(|known| self.linked.contains_key(&known.incarnation))
        {
            // As the one that is linked will count itself, once it hears of the other.
            if known.incarnation != member.incarnation && known.generation <= member.generation && is_dead {
                known.generation = member.generation + 1;
                return;
            }
            // Whoever let it lapse was cut off itself.
            if known.standing == Standing::Present && member.standing == Standing::Lapsed {
                known.since = known.since.max(now);
                return;
            }
        }
        self.roster.merge(name, member);
    }

    /// Whether a linked peer is linked to it, or a member farther away was of late.
    fn is_alive(&self, namesake: &Namesake, now: Time) -> bool {
        stamp::later(namesake.heard, HEARD_LATELY) > now
            || self.linked.values().any(|peer| peer.links.contains(&namesake.incarnation))
    }

    /// What this daemon's next beat says beyond its clocks and its sight.
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

    fn report(&self, now: Time) -> Report {
        Report { list: self.roster.list_hash(self.lineage), clock: now, low: self.low(now) }
    }

    /// The time up to which this daemon holds every member's writes.
    fn low(&self, now: Time) -> Time {
        let held = |member: &Member| {
            if member.incarnation == self.incarnation {
                now
            } else {
                self.verified.time_of(member.incarnation)
            }
        };
        self.roster.present().map(|(_, member)| held(member)).min().unwrap_or(now)
    }

    /// A round with a linked peer has finished: everything that it held when it said `theirs` is held here.
    pub(super) fn on_round(&mut self, peer: Incarnation, theirs: &Sight, now: Time) {
        self.verified.join(&theirs.vector);
        let roster = &self.roster;
        self.verified.retain(|incarnation| roster.holds(incarnation));
        self.met.insert(peer);
        if !self.founded && theirs.founded {
            if self.may_join(theirs) {
                (self.lineage, self.founded) = (theirs.lineage, true);
            }
        } else if !self.founded {
            self.lineage = self.lineage.min(theirs.lineage);
        }
        for incarnation in [peer, self.incarnation] {
            if let Some(member) = self.roster.find(incarnation).filter(|m| m.standing == Standing::Lapsed) {
                (member.standing, member.since) = (Standing::Present, now);
            }
        }
    }

    /// The floor to adopt, if the reports of all members allow a higher one.
    pub(super) fn advance(&mut self, now: Time) -> Option<Time> {
        if !self.founded && !ablated(Ablation::Founding) {
            return None;
        }
        if self.others().next().is_none() {
            // A lone founder keeps its tombstones for those that are yet to come.
            self.candidates.clear();
            return None;
        }
        let own = self.report(now);
        let present = self.roster.present().map(|(_, member)| member.incarnation);
        let report = |incarnation| {
            let known =
                if incarnation == self.incarnation { Some(&own) } else { self.reports.get(&incarnation) };
            known.filter(|report| report.list == own.list).copied()
        };
        let reports = present.map(report).collect::<Option<Vec<_>>>()?;
        self.candidates.consider(&reports, own.list, self.margin)
    }

    /// The names of those that keep the floor from rising: silent ones or, if none is, those that lack the most. What
    /// the others lack while one is silent is what nobody has heard of that one.
    pub(super) fn waits_for(&self, now: Time) -> Vec<String> {
        /// Behind this much a member keeps others waiting.
        const BEHIND: Duration = Duration::from_secs(20);
        let own = self.report(now);
        let late = |time: Time| stamp::later(time, BEHIND) < now;
        let report_of = |member: &Member| self.reports.get(&member.incarnation);
        let is_silent = |member: &Member| report_of(member).is_none_or(|report| late(report.clock));
        let is_behind = |member: &Member| {
            report_of(member).is_none_or(|report| report.list != own.list || late(report.low))
                || late(self.verified.time_of(member.incarnation))
        };
        let others = || self.roster.present().filter(|(_, member)| member.incarnation != self.incarnation);
        let somebody_is_silent = others().any(|(_, member)| is_silent(member));
        let slow = others().filter(|(_, member)| match somebody_is_silent {
            true => is_silent(member),
            false => is_behind(member),
        });
        slow.map(|(name, _)| name.to_owned()).collect()
    }

    /// The linked peers that would not get a push of `origin` from `origin` itself, as far as they said.
    pub(super) fn without_link_to(&self, origin: Incarnation) -> impl Iterator<Item = Incarnation> {
        let lacks = move |(peer, linked): (&Incarnation, &Linked)| {
            (*peer != origin && !linked.links.contains(&origin)).then_some(*peer)
        };
        self.linked.iter().filter_map(lacks)
    }

    /// Whether a linked peer lacks what this daemon knows of members that it has no link to.
    pub(super) fn has_news_for(&self, peer: Incarnation) -> bool {
        /// Less than this is not worth a round.
        const NEWS: Duration = Duration::from_secs(2);
        let Some(linked) = self.linked.get(&peer) else { return false };
        self.roster.present().any(|(_, member)| {
            let other = member.incarnation;
            other != peer
                && other != self.incarnation
                && !linked.links.contains(&other)
                && self.verified.time_of(other) > stamp::later(linked.vector.time_of(other), NEWS)
        })
    }

    /// Whether pushes have to be passed on: some linked peer has no link to a member that is alive.
    pub(super) fn must_relay(&self, now: Time) -> bool {
        let alive = self.others().filter(|(_, member)| stamp::later(member.heard, RELAY_LIMIT) >= now);
        alive.map(|(_, member)| member.incarnation).any(|of| self.without_link_to(of).next().is_some())
    }

    /// Whether this member is waited for.
    pub(super) fn is_present(&self, incarnation: Incarnation) -> bool {
        self.roster.present().any(|(_, member)| member.incarnation == incarnation)
    }

    pub(super) fn roster(&self) -> impl Iterator<Item = (&str, &Member)> {
        self.roster.iter()
    }

    /// Whether what an incarnation wrote at `start` is news: nothing that was held here had it, and it belongs to the
    /// cluster, as far as this daemon knows or is `told`, by the peer that brings it with its vector. What this daemon
    /// wrote itself never is.
    pub(super) fn is_unheard(
        &self,
        incarnation: Incarnation,
        start: Time,
        told: Option<(Incarnation, &Vector)>,
    ) -> bool {
        let is_told = || {
            told.is_some_and(|(peer, vector)| {
                let until = vector.time_of(incarnation);
                // What had ended before this daemon began may have been forgotten since, but by one that was away.
                until >= start && (until > self.began || self.roster.lapsed(peer).is_none())
            })
        };
        // The floor does not wait for a lapsed one, so it may have passed what came by pushes and was never verified.
        let pushed = self.roster.lapsed(incarnation).map(|member| stamp::later(member.heard, self.margin));
        incarnation != self.incarnation
            && self.verified.time_of(incarnation).max(pushed.unwrap_or(stamp::ZERO)) < start
            && !self.roster.is_gone(incarnation)
            && (self.roster.holds(incarnation) || is_told())
    }

    /// The name that an incarnation has or had, if it was heard of.
    pub(super) fn name_of(&self, incarnation: Incarnation) -> Option<&str> {
        self.roster.name_of(incarnation)
    }

    pub(super) fn member_count(&self) -> usize {
        self.roster.present().count()
    }

    /// Up to which time all that each wrote is held here.
    pub(super) fn verified(&self) -> &Vector {
        &self.verified
    }
}

#[cfg(test)]
mod tests;
