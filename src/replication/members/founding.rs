//! First contact: when a daemon knows that it has met its cluster.

use std::collections::BTreeSet;

use super::{MAX_AWAITED, Membership, Sight};
use crate::ablation::{Ablation, ablated};
use crate::model::{Incarnation, Time, stamp};

impl Membership {
    /// Whether a daemon that says this of itself belongs to a cluster that was founded apart from this one: then
    /// there is no link between the two.
    ///
    /// A daemon whose floor has never risen gives way: it has purged nothing that others might bring back, so it
    /// becomes unfounded, and joins. Of two such daemons the one with the larger lineage does. So a lone founder
    /// comes home; and so do those who found the same cluster at the same moment, each of them knowing others that
    /// wait with it.
    pub(in crate::replication) fn is_stranger(
        &mut self,
        own_floor: Time,
        lineage: u128,
        founded: bool,
        floor: Time,
    ) -> bool {
        if founded && self.left == Some(lineage) {
            return true;
        }
        if !self.founded || !founded || self.lineage == lineage {
            return false;
        }
        let (own_is_young, is_young) = (own_floor == stamp::ZERO, floor == stamp::ZERO);
        let own_gives_way = own_is_young && (!is_young || self.lineage > lineage);
        if own_gives_way {
            self.founded = false;
            self.gave_way = true;
            self.gave_way_to = Some(lineage);
            self.candidates.clear();
        }
        !own_gives_way && !is_young
    }

    /// Whether a finished round with a founded daemon makes this one a member of its cluster.
    pub(super) fn may_join(&self, theirs: &Sight) -> bool {
        let Some(to) = self.gave_way_to else { return true };
        let wins = theirs.lineage <= to || theirs.floor > stamp::ZERO;
        wins || !self.linked.values().any(|peer| peer.founded && peer.lineage == to)
    }

    /// Founds the cluster once everyone whom an unfounded daemon waits for has been met. `reached` says which
    /// daemons were found at an address, this one itself included; `None` while some have not answered.
    pub(in crate::replication) fn found_if_complete(
        &mut self,
        reached: impl Fn(&str) -> Option<Vec<Incarnation>>,
    ) -> bool {
        let beside_a_founded = self.linked.values().any(|peer| peer.founded);
        if self.founded || self.gave_way || beside_a_founded || !self.missing(reached).is_empty() {
            return false;
        }
        self.founded = true;
        true
    }

    /// Of the addresses that are waited for, those whose daemons were not all met.
    pub(in crate::replication) fn missing(
        &self,
        reached: impl Fn(&str) -> Option<Vec<Incarnation>>,
    ) -> Vec<String> {
        // Whoever was met must also have said whom it waits for.
        let is_known = |of: &Incarnation| self.met.contains(of) && self.awaited.contains_key(of);
        let is_met = |found: Vec<Incarnation>| found.iter().all(|of| *of == self.incarnation || is_known(of));
        let mut awaited = self.awaited_addresses();
        awaited.retain(|address| !reached(address).is_some_and(is_met));
        awaited.into_iter().collect()
    }

    /// The addresses that are waited for: this daemon's and those of every unfounded daemon it was linked to. Its
    /// own list is not enough: a and b might found one cluster and c, which only d waits for, another.
    pub(in crate::replication) fn awaited_addresses(&self) -> BTreeSet<String> {
        let all = if ablated(Ablation::OwnJoinListOnly) { None } else { Some(&self.awaited) };
        let others = all.into_iter().flat_map(|awaited| awaited.values()).flatten();
        self.join.iter().chain(others).take(MAX_AWAITED).cloned().collect()
    }

    /// Founds the cluster as it is, because an operator says so; returns whether that is news.
    pub(in crate::replication) fn found(&mut self) -> bool {
        !std::mem::replace(&mut self.founded, true)
    }
}

#[cfg(test)]
mod tests;
