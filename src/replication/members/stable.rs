//! Computes the stable time: the least acknowledged time of all members. It rises only while they agree on the members.

use std::collections::BTreeSet;
use std::time::Duration;

use super::{Agreed, Member, Membership, Report, Summary};
use crate::ablation::{Ablation, ablated};
use crate::model::{Incarnation, Time, timestamp};

impl Membership {
    pub(super) fn report(&self, now: Time) -> Report {
        Report { members: self.roster.members_hash(), clock: now, acknowledged: self.acknowledged_time(now) }
    }

    /// This node's acknowledged time.
    fn acknowledged_time(&self, now: Time) -> Time {
        let held = |member: &Member| {
            if member.incarnation == self.incarnation { now } else { self.synced(member.incarnation) }
        };
        self.roster.present().map(|(_, member)| held(member)).min().unwrap_or(now)
    }

    /// Whether a peer with this summary has incorporated everything below this node's stable time: then it
    /// holds nothing that was removed here.
    pub(in crate::replication) fn has_incorporated(
        &self,
        peer: Incarnation,
        theirs: &Summary,
        stable: Time,
    ) -> bool {
        let mut present = self.roster.present().map(|(_, member)| member.incarnation);
        stable > timestamp::ZERO
            && self.is_present(peer)
            && theirs.away.is_empty()
            && present.all(|member| theirs.vector.time_of(member) >= stable)
    }

    /// Returns the stable time to adopt, if the reports of all members allow a higher one. Closes incarnations
    /// that are away.
    pub(in crate::replication) fn advance(&mut self, now: Time) -> Option<Time> {
        self.note_away(now);
        self.limit_coverage();
        // A node that never had a peer keeps its tombstones for peers that are yet to come.
        self.others().next()?;
        let own = self.report(now);
        let present: BTreeSet<_> = self.roster.present().map(|(_, member)| member.incarnation).collect();
        let report = |&incarnation| {
            let known =
                if incarnation == self.incarnation { Some(&own) } else { self.reports.get(&incarnation) };
            known.filter(|report| report.members == own.members).copied()
        };
        let reports = present.iter().map(report).collect::<Option<Vec<_>>>()?;
        let acknowledged = reports.iter().map(|report| report.acknowledged).min()?;
        // Before this, a member may have held a delete that another had purged and claimed, and one that has left
        // may have handed to one member what it held of an incarnation away: only a state of a later time brings
        // it to all members.
        let agreed = self.agreed_since(own.members, now);
        let is_only_one = present.len() == 1;
        let has_exchanged = is_only_one || acknowledged > agreed || ablated(Ablation::ExchangeAfterRegroup);
        let is_closed = has_exchanged && self.close_away(acknowledged);
        self.counted = present;
        is_closed.then_some(if ablated(Ablation::EarlyPurge) {
            timestamp::later(acknowledged, Duration::from_secs(3))
        } else {
            acknowledged
        })
    }

    /// Returns since when all members agree that they are those with this hash, as they do now.
    fn agreed_since(&mut self, members: u64, now: Time) -> Time {
        let is_known = |agreed: &Agreed| agreed.members == members || ablated(Ablation::ExchangeAfterLeave);
        let agreed = self.agreed.filter(is_known).unwrap_or(Agreed { members, since: now });
        self.agreed = Some(agreed);
        agreed.since
    }

    /// Returns the names of the members that keep the stable time from rising: the silent ones, or those that
    /// lack the most if none is silent. If one is silent, the others lack only what they have not received of
    /// that one.
    pub(in crate::replication) fn waits_for(&self, now: Time) -> Vec<String> {
        /// A member that is further behind than this is reported.
        const BEHIND: Duration = Duration::from_secs(20);
        let own = self.report(now);
        let late = |time: Time| timestamp::later(time, BEHIND) < now;
        let report_of = |member: &Member| self.reports.get(&member.incarnation);
        let is_silent = |member: &Member| report_of(member).is_none_or(|report| late(report.clock));
        let is_behind = |member: &Member| {
            report_of(member).is_none_or(|report| report.members != own.members || late(report.acknowledged))
                || late(self.synced(member.incarnation))
        };
        let others = || self.roster.present().filter(|(_, member)| member.incarnation != self.incarnation);
        let somebody_is_silent = others().any(|(_, member)| is_silent(member));
        let slow = others().filter(|(_, member)| match somebody_is_silent {
            true => is_silent(member),
            false => is_behind(member),
        });
        slow.map(|(name, _)| name.to_owned()).collect()
    }
}
