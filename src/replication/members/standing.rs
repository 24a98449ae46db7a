//! Who the stable time waits for: namesakes, lapses, and the operator's decisions.

use std::time::Duration;

use super::{Membership, Standing, Verdict};
use crate::ablation::{Ablation, ablated};
use crate::model::{Incarnation, Time, timestamp};

/// A member that any other has heard within this time is alive, and never lapses.
const ALIVE: Duration = Duration::from_secs(60);

/// How long a namesake may be seen alive before this node accepts that it was replaced. Longer than the link to
/// a crashed node takes to end.
const NAMESAKE_LIMIT: Duration = Duration::from_secs(15);

/// Why an operator's `FORGET` failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::replication) enum ForgetError {
    Unknown,
    Linked,
    Itself,
}

impl Membership {
    /// Whether a member has a live link to another incarnation of this name. The reports of links are up to a
    /// second old, and do not count for an incarnation that an operator has declared away since.
    pub(in crate::replication) fn has_live_namesake(&self, name: &str, incarnation: Incarnation) -> bool {
        let known = self.roster.get(name).filter(|known| known.incarnation != incarnation);
        known.is_some_and(|known| {
            self.linked.contains_key(&known.incarnation)
                || (known.standing == Standing::Present
                    && self.linked.values().any(|peer| peer.links.contains(&known.incarnation)))
        })
    }

    /// Lets members lapse that were silent for longer than `forget_after`, or for a minute if there is no room
    /// for more tombstones. Returns their names.
    pub(in crate::replication) fn lapse_overdue(&mut self, over_limit: bool, now: Time) -> Vec<String> {
        let (own, forget_after, linked) = (self.incarnation, self.forget_after, &self.linked);
        let mut lapsed = Vec::new();
        for (name, member) in self.roster.iter_mut() {
            let unheard = |time| timestamp::later(member.heard, time) < now;
            let overdue = over_limit || forget_after.is_some_and(|limit| unheard(limit.max(ALIVE)));
            let linked_or_heard = linked.contains_key(&member.incarnation) || !unheard(ALIVE);
            let away = member.incarnation != own && (!linked_or_heard || ablated(Ablation::LapseOnlySilent));
            if member.standing == Standing::Present && away && overdue {
                (member.standing, member.since) = (Standing::Lapsed, now);
                lapsed.push(name.to_owned());
            }
        }
        lapsed
    }

    /// Removes a member by an operator's decision, until it is heard again.
    pub(in crate::replication) fn forget(&mut self, name: &str, now: Time) -> Result<(), ForgetError> {
        if name == self.name {
            return Err(ForgetError::Itself);
        }
        let linked = &self.linked;
        let Some(member) = self.roster.get_mut(name) else { return Err(ForgetError::Unknown) };
        if linked.contains_key(&member.incarnation) {
            return Err(ForgetError::Linked);
        }
        (member.standing, member.since) = (Standing::Lapsed, now);
        Ok(())
    }

    /// Returns [`Verdict::Superseded`] once a live node has had this node's name for [`NAMESAKE_LIMIT`].
    pub(in crate::replication) fn verdict(&mut self, now: Time) -> Option<Verdict> {
        let namesake = self.namesake?;
        if !self.is_alive(&namesake, now) {
            self.namesake = None;
            return None;
        }
        (timestamp::later(namesake.since, NAMESAKE_LIMIT) < now).then_some(Verdict::Superseded)
    }

    /// Continues as another incarnation with an empty roster.
    pub(in crate::replication) fn discard(&mut self, incarnation: Incarnation, now: Time) {
        self.incarnation = incarnation;
        self.generation += 1;
        self.roster.clear();
        self.away.clear();
        self.unknown.clear();
        self.reports.clear();
        self.linked.clear();
        self.counted.clear();
        self.namesake = None;
        self.enter(now);
    }
}
