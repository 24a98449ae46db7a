//! The roster: the members and former members of the cluster, which all nodes gossip.

use std::collections::BTreeMap;

use xxhash_rust::xxh3::xxh3_64;

use crate::model::{Incarnation, Time};

/// The most names that are kept. Beyond it a name that is gone is dropped, or one that has lapsed; if there is
/// none, the new name is not added.
const MAX_MEMBERS: usize = 1024;

/// The most former incarnations whose names are kept; beyond it any one of them is dropped.
const MAX_FORMER: usize = 4096;

/// Whether the stable time waits for a member.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(in crate::replication) enum Standing {
    /// It is a member: the stable time waits for it.
    Present,
    /// It was away too long, or an operator has removed it. It is a member again once it is heard.
    Lapsed,
    /// It left in order, and this incarnation does not come back.
    Gone,
}

/// The roster's entry for one name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::replication) struct Member {
    pub(in crate::replication) incarnation: Incarnation,
    /// How many incarnations the name has had.
    pub(in crate::replication) generation: u64,
    pub(in crate::replication) standing: Standing,
    /// When it was given its standing, by the clock of the node that gave it; the later standing holds.
    pub(in crate::replication) since: Time,
    /// When a member last heard it.
    pub(in crate::replication) heard: Time,
}

/// Every name of the cluster, with one entry each: an incarnation replaces the one before it, so restarts do
/// not make the roster grow.
#[derive(Clone, Debug, Default)]
pub(in crate::replication) struct Roster {
    members: BTreeMap<String, Member>,
    /// The names of replaced incarnations.
    former: BTreeMap<Incarnation, String>,
}

impl Roster {
    pub(super) fn get(&self, name: &str) -> Option<&Member> {
        self.members.get(name)
    }

    pub(super) fn get_mut(&mut self, name: &str) -> Option<&mut Member> {
        self.members.get_mut(name)
    }

    pub(in crate::replication) fn iter(&self) -> impl Iterator<Item = (&str, &Member)> {
        self.members.iter().map(|(name, member)| (name.as_str(), member))
    }

    pub(super) fn iter_mut(&mut self) -> impl Iterator<Item = (&str, &mut Member)> {
        self.members.iter_mut().map(|(name, member)| (name.as_str(), member))
    }

    /// The members that the stable time waits for.
    pub(super) fn present(&self) -> impl Iterator<Item = (&str, &Member)> {
        self.iter().filter(|(_, member)| member.standing == Standing::Present)
    }

    pub(super) fn find(&mut self, incarnation: Incarnation) -> Option<&mut Member> {
        self.members.values_mut().find(|member| member.incarnation == incarnation)
    }

    pub(super) fn holds(&self, incarnation: Incarnation) -> bool {
        self.members.values().any(|member| member.incarnation == incarnation)
    }

    /// Merges another node's entry for a name. The order of merges does not matter: all nodes end with the same
    /// entry.
    pub(super) fn merge(&mut self, name: &str, other: Member) {
        let Some(known) = self.members.get_mut(name) else {
            if self.make_room() {
                self.members.insert(name.to_owned(), other);
            }
            return;
        };
        if known.incarnation != other.incarnation {
            let mut former = other.incarnation;
            if (other.generation, other.incarnation) > (known.generation, known.incarnation) {
                former = known.incarnation;
                *known = other;
            }
            self.note_former(former, name);
            return;
        }
        known.generation = known.generation.max(other.generation);
        known.heard = known.heard.max(other.heard);
        if known.standing != Standing::Gone && (other.standing == Standing::Gone || other.since > known.since)
        {
            (known.standing, known.since) = (other.standing, other.since);
        }
    }

    /// Records the name of an incarnation that has been replaced.
    pub(super) fn note_former(&mut self, incarnation: Incarnation, name: &str) {
        if self.former.len() >= MAX_FORMER && !self.former.contains_key(&incarnation) {
            self.former.pop_first();
        }
        self.former.insert(incarnation, name.to_owned());
    }

    /// Whether an incarnation is known not to be a member: it left, lapsed, or was replaced by another of its
    /// name.
    pub(super) fn has_ended(&self, incarnation: Incarnation) -> bool {
        let is_absent =
            |member: &Member| member.incarnation == incarnation && member.standing != Standing::Present;
        self.former.contains_key(&incarnation) || self.members.values().any(is_absent)
    }

    /// Returns the name that an incarnation has or had.
    pub(super) fn name_of(&self, incarnation: Incarnation) -> Option<&str> {
        let present = self.iter().find(|(_, member)| member.incarnation == incarnation).map(|(name, _)| name);
        present.or_else(|| self.former.get(&incarnation).map(String::as_str))
    }

    fn make_room(&mut self) -> bool {
        if self.members.len() < MAX_MEMBERS {
            return true;
        }
        let absent = self.iter().filter(|(_, member)| member.standing != Standing::Present);
        // How far its writes are incorporated is kept elsewhere: nothing depends on its name.
        let oldest = absent.min_by_key(|(_, member)| (member.standing == Standing::Lapsed, member.since));
        let oldest = oldest.map(|(name, _)| name.to_owned());
        oldest.is_some_and(|name| self.members.remove(&name).is_some())
    }

    pub(super) fn clear(&mut self) {
        self.members.clear();
    }

    /// The hash of the members: reports must agree on it.
    pub(super) fn members_hash(&self) -> u64 {
        let mut bytes = Vec::new();
        for (name, member) in self.present() {
            bytes.extend_from_slice(name.as_bytes());
            bytes.push(0);
            bytes.extend_from_slice(&member.incarnation.to_le_bytes());
        }
        xxh3_64(&bytes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Time;
    use crate::model::timestamp::incarnation;
    use proptest::prelude::*;

    fn any_member() -> impl Strategy<Value = Member> {
        let standing = prop_oneof![Just(Standing::Present), Just(Standing::Lapsed), Just(Standing::Gone)];
        (1..4u128, 1..3u64, standing, 0..6u64, 0..6u64).prop_map(
            |(id, generation, standing, since, heard)| {
                // A standing is given at most once at a time, so the time identifies it.
                let since = Time(since * 3 + standing as u64);
                let incarnation = incarnation(id).unwrap();
                Member { incarnation, generation, standing, since, heard: Time(heard) }
            },
        )
    }

    proptest! {
        #[test]
        fn every_order_of_gossip_ends_with_the_same_incarnation_and_standing(
            (members, shuffled) in proptest::collection::vec(any_member(), 1..6)
                .prop_flat_map(|members| (Just(members.clone()), Just(members).prop_shuffle()))
        ) {
            let outcome = |members: &[Member]| {
                let mut roster = Roster::default();
                // Gossip repeats: an entry that was replaced meanwhile is received again.
                members.iter().chain(members).for_each(|member| roster.merge("a", *member));
                let member = *roster.get("a").unwrap();
                (member.incarnation, member.generation, member.standing, roster.members_hash())
            };
            prop_assert_eq!(outcome(&members), outcome(&shuffled));
        }
    }

    #[test]
    fn names_are_bounded_and_the_gone_make_room_and_then_the_lapsed() {
        let mut roster = Roster::default();
        let member = |n: usize, standing| Member {
            incarnation: incarnation(n as u128 + 1).unwrap(),
            generation: 1,
            standing,
            since: Time(n as u64),
            heard: Time(0),
        };
        for n in 0..MAX_MEMBERS {
            let standing = match n {
                0 => Standing::Lapsed,
                1 => Standing::Gone,
                _ => Standing::Present,
            };
            roster.merge(&n.to_string(), member(n, standing));
        }
        let mut add = |n: usize| {
            roster.merge(&n.to_string(), member(n, Standing::Present));
            assert_eq!(roster.iter().count(), MAX_MEMBERS);
            [0, 1, n].map(|n: usize| roster.get(&n.to_string()).is_some())
        };
        assert_eq!(add(MAX_MEMBERS), [true, false, true]);
        assert_eq!(add(MAX_MEMBERS + 1), [false, false, true]);
        assert_eq!(add(MAX_MEMBERS + 2), [false, false, false]);
    }
}
