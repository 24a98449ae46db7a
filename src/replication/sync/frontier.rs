//! The initiator's frontier: the tree nodes that differ, are being exchanged, or have yet to be compared.

use std::collections::{BTreeMap, VecDeque};

use tokio::time::Instant;

use super::sums::Scale;
use super::{Role, Sync, WINDOW};
use crate::model::{RangeCount, TreeNode};
use crate::replication::message::Answer;
use crate::store::Store;

/// A group, and a bit mask of its ranges.
pub(super) type Masked = (TreeNode, Vec<u8>);

/// The initiator's record of the tree nodes of a sync. The responder counts only the ranges that differ.
#[derive(Default)]
pub(super) struct Frontier {
    /// Groups whose ranges have yet to be compared.
    pub(super) groups: VecDeque<TreeNode>,
    /// Ranges to compare again after writes in flight had time to arrive, by group.
    pub(super) recheck: Option<(Instant, Vec<Masked>)>,
    /// Ranges whose time to compare again has come, while they wait for room in the window.
    pub(super) rechecked: VecDeque<Masked>,
    /// How many groups the peer was asked to compare and has not answered.
    pub(super) compares: usize,
    /// Tree nodes that are known to differ and wait for room in the window, and whether the peer holds nothing
    /// of them.
    pub(super) todo: VecDeque<(TreeNode, bool)>,
    /// Tree nodes whose exchange is under way, and how many answers of the responder each may cause at one
    /// time.
    pub(super) open: BTreeMap<TreeNode, usize>,
    /// The sum of the numbers in `open`.
    pub(super) weight: usize,
    /// Ranges that are known to differ, and how many tree nodes of each are not finished.
    pub(super) ranges: BTreeMap<usize, u32>,
    /// How many ranges have ever been in `ranges`.
    pub(super) found: u64,
    /// How many groups differ.
    pub(super) differing_groups: u64,
    /// How many of these were compared range by range.
    pub(super) compared_groups: u64,
    /// How many differing ranges those comparisons found.
    pub(super) found_in_groups: u64,
}

impl Sync {
    /// Opens as many tree nodes as fit the window.
    pub(super) fn advance(&mut self, store: &Store, now: Instant) {
        let count = store.ranges();
        while self.frontier.weight < WINDOW && !self.out.has_control() {
            if let Some((tree_node, theirs_empty)) = self.frontier.todo.pop_front() {
                self.frontier.open(tree_node, 1);
                self.descend(store, tree_node, theirs_empty);
                continue;
            }
            let answer = if self.terms.probe { Answer::Differ } else { self.answer() };
            let Some(group) = self.frontier.groups.pop_front() else { break };
            // The answer to a probe is only a mask.
            self.frontier.open(group, if self.terms.probe { 1 } else { group.fan_out(count) });
            let sums = store.child_digests(group, self.cutoff, self.terms.deep);
            let scale = if answer == Answer::Uncovered {
                self.uncovered.brief.insert(group);
                Scale::brief(self.number)
            } else {
                Scale::WHOLE
            };
            let sums = scale.pack(sums.into_iter().map(|digest| digest.sum));
            self.frontier.compares += usize::from(self.terms.probe);
            self.out.digests(group, &[], &sums, answer);
        }
        self.verify_uncovered(store);
        let answered = self.frontier.is_answered();
        let due = self.frontier.recheck.take_if(|(at, _)| *at <= now && answered);
        self.terms.probe &= due.is_none();
        self.frontier.rechecked.extend(due.into_iter().flat_map(|(_, groups)| groups));
        while self.frontier.weight < WINDOW
            && let Some((group, mask)) = take_closed(&mut self.frontier.rechecked, &self.frontier.open)
        {
            self.frontier.open(group, children(group, count, &mask).count());
            self.compare_wholly(store, group, &mask, self.answer());
        }
    }

    /// Sends the whole digests of some children of a tree node.
    pub(super) fn compare_wholly(&mut self, store: &Store, tree_node: TreeNode, mask: &[u8], answer: Answer) {
        let children = children(tree_node, store.ranges(), mask);
        let sums = Scale::WHOLE.pack(children.map(|(_, child)| self.digest(store, child).sum));
        self.out.digests(tree_node, mask, &sums, answer);
    }

    /// Continues with a tree node that differs: sends its cells if the peer has none, asks for all if this side has
    /// none, else sends the digests of its children or, if it has few cells, their list.
    pub(super) fn descend(&mut self, store: &Store, tree_node: TreeNode, theirs_empty: bool) {
        let own = self.digest(store, tree_node);
        if theirs_empty {
            self.out.stream(tree_node, store);
        } else if own.cells == 0 {
            self.out.digests(tree_node, &[], &[], Answer::Exact);
        } else if own.cells > self.terms.list_limit.0 && tree_node.fan_out(store.ranges()) > 0 {
            let sums = store.child_digests(tree_node, self.cutoff, self.terms.deep);
            if self.role == Role::Initiator {
                self.frontier.open(tree_node, sums.len());
            }
            let sums = Scale::WHOLE.pack(sums.into_iter().map(|digest| digest.sum));
            self.out.digests(tree_node, &[], &sums, Answer::Exact);
        } else {
            let entries = store.entries(tree_node, self.cutoff, self.terms.deep);
            self.out.list(tree_node, &entries);
        }
    }

    /// Records that a tree node differs.
    pub(super) fn found_unequal(&mut self, store: &Store, tree_node: TreeNode) {
        for range in tree_node.ranges(store.ranges()) {
            let parts = self.frontier.ranges.entry(range).or_insert(0);
            self.frontier.found += u64::from(*parts == 0);
            *parts += 1;
        }
    }

    /// Records that the exchange of a tree node has finished, or that the tree node was split.
    pub(super) fn close(&mut self, store: &Store, tree_node: TreeNode) {
        if !self.frontier.shut(tree_node) {
            return;
        }
        for range in tree_node.ranges(store.ranges()) {
            if let Some(parts) = self.frontier.ranges.get_mut(&range) {
                *parts -= 1;
                if *parts == 0 {
                    self.frontier.ranges.remove(&range);
                }
            }
        }
    }
}

impl Frontier {
    pub(super) fn open(&mut self, tree_node: TreeNode, weight: usize) {
        self.weight += weight;
        self.weight -= self.open.insert(tree_node, weight).unwrap_or(0);
    }

    /// Estimates how many ranges differ in groups that have not been compared yet: as many per group as in
    /// those that have, or one per group before any has.
    pub(super) fn expected(&self) -> u64 {
        let left = self.differing_groups.saturating_sub(self.compared_groups);
        (left * self.found_in_groups.max(1)).div_ceil(self.compared_groups.max(1))
    }

    /// Records that a group was compared, which has raised the number of found ranges above `before`.
    pub(super) fn note_compared(&mut self, before: u64) {
        self.compared_groups += 1;
        self.found_in_groups += self.found - before;
    }

    /// Removes a tree node from `open`. Returns whether it was there.
    pub(super) fn shut(&mut self, tree_node: TreeNode) -> bool {
        let weight = self.open.remove(&tree_node);
        self.weight -= weight.unwrap_or(0);
        weight.is_some()
    }

    /// Whether the peer has answered for every group that it was asked to compare.
    pub(super) fn is_answered(&self) -> bool {
        self.groups.is_empty() && self.compares == 0
    }

    pub(super) fn is_complete(&self) -> bool {
        self.groups.is_empty()
            && self.recheck.is_none()
            && self.rechecked.is_empty()
            && self.todo.is_empty()
            && self.open.is_empty()
    }
}

/// Takes the first group that is not being compared already: the responder's answer does not say which of two
/// comparisons it belongs to.
pub(super) fn take_closed(groups: &mut VecDeque<Masked>, open: &BTreeMap<TreeNode, usize>) -> Option<Masked> {
    let at = groups.iter().position(|(group, _)| !open.contains_key(group))?;
    groups.remove(at)
}

/// The children of a tree node that are set in `mask`, with their indexes.
pub(super) fn children(
    tree_node: TreeNode,
    count: RangeCount,
    mask: &[u8],
) -> impl Iterator<Item = (usize, TreeNode)> {
    let set = (0..tree_node.fan_out(count)).filter(|&index| bit(mask, index));
    set.filter_map(move |index| Some((index, tree_node.child(count, index)?)))
}

pub(super) fn bit(mask: &[u8], index: usize) -> bool {
    mask.get(index / 8).is_some_and(|byte| byte >> (index % 8) & 1 == 1)
}

pub(super) fn set_bit(mask: &mut [u8], index: usize) {
    mask[index / 8] |= 1 << (index % 8);
}
