//! The initiator's books: what differs, what is under way, and what comes next.

use std::collections::{BTreeMap, VecDeque};

use tokio::time::Instant;

use super::{Role, Sync, WINDOW};
use crate::model::Prefix;
use crate::store::Store;

/// A group and which of its ranges are meant, a bit each.
type Masked = (Prefix, Vec<u8>);

/// What the initiator keeps track of; the responder uses the count alone.
#[derive(Default)]
pub(super) struct Books {
    /// Groups whose ranges have yet to be compared.
    pub(super) groups: VecDeque<Prefix>,
    /// Ranges to compare again after in-flight writes had time to arrive, by group.
    pub(super) recheck: Option<(Instant, Vec<Masked>)>,
    /// The same once that time has passed, while they wait for room in the window.
    pub(super) rechecked: VecDeque<Masked>,
    /// Groups that the peer was asked to look at and has not answered.
    pub(super) looks: usize,
    /// Prefixes that are known to differ and wait for room in the window; whether the peer holds nothing of it.
    pub(super) todo: VecDeque<(Prefix, bool)>,
    /// Prefixes whose exchange is under way, and how many answers of the responder's each may cause at one time.
    pub(super) open: BTreeMap<Prefix, usize>,
    /// The sum of these.
    pub(super) weight: usize,
    /// Ranges that are known to differ, with how many prefixes of each are not finished.
    pub(super) ranges: BTreeMap<usize, u32>,
    /// How many ranges have been in there.
    pub(super) found: u64,
    /// How many groups differ, of these so many have been compared range by range, and the ranges that were found by that.
    pub(super) differing_groups: u64,
    pub(super) compared_groups: u64,
    pub(super) found_in_groups: u64,
}

impl Sync {
    /// Opens what fits the window.
    pub(super) fn advance(&mut self, store: &Store, now: Instant) {
        let count = store.ranges();
        while self.books.weight < WINDOW && !self.out.has_control() {
            if let Some((prefix, theirs_empty)) = self.books.todo.pop_front() {
                self.books.open(prefix, 1);
                self.treat(store, prefix, theirs_empty);
                continue;
            }
            let look = self.terms.patient;
            let Some(group) = self.books.groups.pop_front() else { break };
            // A look is answered with a mask alone.
            self.books.open(group, if look { 1 } else { group.fan_out(count) });
            let sums = store.child_digests(group, self.cutoff, self.terms.deep);
            let sums = self.scale(store, group).pack(sums.into_iter().map(|digest| digest.sum));
            self.books.looks += usize::from(look);
            self.out.digests(group, &[], &sums, look);
        }
        let answered = self.books.is_answered();
        let due = self.books.recheck.take_if(|(at, _)| *at <= now && answered);
        self.terms.patient &= due.is_none();
        self.books.rechecked.extend(due.into_iter().flat_map(|(_, groups)| groups));
        while self.books.weight < WINDOW
            && let Some((group, mask)) = self.books.rechecked.pop_front()
        {
            let children = (0..group.fan_out(count)).filter(|&index| bit(&mask, index));
            let children: Vec<_> = children.filter_map(|index| group.child(count, index)).collect();
            self.books.open(group, children.len());
            let sums = children.into_iter().map(|child| self.digest(store, child).sum);
            let sums = self.scale(store, group).pack(sums);
            self.out.digests(group, &mask, &sums, false);
        }
    }

    /// Does for a prefix that differs what fits what each side holds of it.
    pub(super) fn treat(&mut self, store: &Store, prefix: Prefix, theirs_empty: bool) {
        let own = self.digest(store, prefix);
        if theirs_empty {
            self.out.stream(prefix, store);
        } else if own.cells == 0 {
            self.out.digests(prefix, &[], &[], false);
        } else if own.cells > self.terms.list_limit.0 && prefix.fan_out(store.ranges()) > 0 {
            let sums = store.child_digests(prefix, self.cutoff, self.terms.deep);
            if self.role == Role::Initiator {
                self.books.open(prefix, sums.len());
            }
            let sums = self.scale(store, prefix).pack(sums.into_iter().map(|digest| digest.sum));
            self.out.digests(prefix, &[], &sums, false);
        } else {
            let entries = store.entries(prefix, self.cutoff, self.terms.deep);
            self.out.list(prefix, &entries);
        }
    }

    /// A prefix is known to differ.
    pub(super) fn found_unequal(&mut self, store: &Store, prefix: Prefix) {
        for range in prefix.ranges(store.ranges()) {
            let parts = self.books.ranges.entry(range).or_insert(0);
            self.books.found += u64::from(*parts == 0);
            *parts += 1;
        }
    }

    /// The exchange of a prefix has finished, or it has been split.
    pub(super) fn close(&mut self, store: &Store, prefix: Prefix) {
        if !self.books.shut(prefix) {
            return;
        }
        for range in prefix.ranges(store.ranges()) {
            if let Some(parts) = self.books.ranges.get_mut(&range) {
                *parts -= 1;
                if *parts == 0 {
                    self.books.ranges.remove(&range);
                }
            }
        }
    }
}

impl Books {
    pub(super) fn open(&mut self, prefix: Prefix, weight: usize) {
        self.weight += weight;
        self.weight -= self.open.insert(prefix, weight).unwrap_or(0);
    }

    /// How many ranges are likely to differ in groups that have not been compared yet: as many of each as of those that
    /// have, and one of each before any has.
    pub(super) fn expected(&self) -> u64 {
        let left = self.differing_groups.saturating_sub(self.compared_groups);
        (left * self.found_in_groups.max(1)).div_ceil(self.compared_groups.max(1))
    }

    /// A group was compared, and this has found more ranges than `before`.
    pub(super) fn note_compared(&mut self, before: u64) {
        self.compared_groups += 1;
        self.found_in_groups += self.found - before;
    }

    /// Returns whether it was open.
    pub(super) fn shut(&mut self, prefix: Prefix) -> bool {
        let weight = self.open.remove(&prefix);
        self.weight -= weight.unwrap_or(0);
        weight.is_some()
    }

    /// Whether the peer has looked at every group that it was to look at.
    pub(super) fn is_answered(&self) -> bool {
        self.groups.is_empty() && self.looks == 0
    }

    pub(super) fn is_settled(&self) -> bool {
        self.groups.is_empty()
            && self.recheck.is_none()
            && self.rechecked.is_empty()
            && self.todo.is_empty()
            && self.open.is_empty()
    }
}

pub(super) fn bit(mask: &[u8], index: usize) -> bool {
    mask.get(index / 8).is_some_and(|byte| byte >> (index % 8) & 1 == 1)
}

pub(super) fn set_bit(mask: &mut [u8], index: usize) {
    mask[index / 8] |= 1 << (index % 8);
}
