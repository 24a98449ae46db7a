//! Handles the messages of a sync, on either side.

use std::collections::VecDeque;

use tokio::time::Instant;

use super::frontier::{self, bit, set_bit};
use super::outgoing::unpack_hashes;
use super::sums::Scale;
use super::{
    LONGEST_ROUND_TRIP, MAX_CONTROL, MAX_COVERAGE, MAX_JOBS, PeerSummary, Phase, RECHECK, RETRACTION_BATCH,
    RETRACTION_LIMIT, Role, Sync, SyncError, SyncFailed,
};
use crate::model::{Incarnation, Time, TreeNode};
use crate::replication::codec::Packed;
use crate::replication::members::ClosedCoverage;
use crate::replication::message::{Answer, Differ, Digests, End, WireCoverage, WireTreeNode};
use crate::store::{Retraction, Store};

impl Sync {
    /// Reads the digests of all groups from the answer to an offer; a deep sync has none.
    pub(in crate::replication) fn read_sums(
        &self,
        sums: &[u8],
        store: &Store,
    ) -> Result<Vec<u64>, SyncError> {
        let sums: Vec<u64> = unpack_hashes(sums).ok_or(SyncError::Malformed("sums"))?.collect();
        let expected = if self.is_deep() { 0 } else { TreeNode::groups(store.ranges()).count() };
        if sums.len() == expected { Ok(sums) } else { Err(SyncError::Malformed("sums")) }
    }

    /// Handles the acceptance of the offer, in an answer that came at `at`. No digest of this side was read
    /// before.
    pub(in crate::replication) fn on_accept(
        &mut self,
        theirs: PeerSummary,
        sums: Vec<u64>,
        store: &Store,
        at: Instant,
    ) {
        debug_assert!(self.is_offered(), "only an offer is taken");
        let count = store.ranges();
        self.learn(theirs);
        self.phase = Phase::Exchanging;
        self.round_trip = (at - self.started).min(LONGEST_ROUND_TRIP);
        if self.terms.deep {
            // How many groups differ is not known before they are compared.
            self.frontier.groups.extend(TreeNode::groups(count));
            return;
        }
        for (group, theirs) in TreeNode::groups(count).zip(sums) {
            let own = self.digest(store, group);
            if own.sum == theirs {
            } else if own.cells == 0 || theirs == 0 {
                self.found_unequal(store, group);
                self.frontier.todo.push_back((group, theirs == 0));
            } else {
                self.frontier.groups.push_back(group);
            }
        }
        if !self.terms.probe {
            self.frontier.differing_groups = self.frontier.groups.len() as u64;
        }
    }

    pub(super) fn check_turn(&self) -> Result<(), SyncError> {
        match self.phase {
            Phase::Exchanging => Ok(()),
            _ => Err(SyncError::OutOfTurn("an exchange")),
        }
    }

    /// Returns a received tree node, if the tree has it and this side expects it.
    pub(super) fn tree_node(&self, store: &Store, wire: WireTreeNode) -> Result<TreeNode, SyncError> {
        let tree_node = TreeNode::new(store.ranges(), u32::from(wire.bits), wire.path)
            .ok_or(SyncError::Malformed("tree node"))?;
        let is_open = self.frontier.open.contains_key(&tree_node) || self.uncovered.is_open(tree_node);
        if self.role == Role::Initiator && !is_open {
            return Err(SyncError::OutOfTurn("a tree node that is not open"));
        }
        let waiting = self.out.control_count() + self.uncovered.unlisted_count();
        if self.out.job_count() > MAX_JOBS || waiting > MAX_CONTROL {
            return Err(SyncError::Crowded);
        }
        Ok(tree_node)
    }

    /// Handles the responder's answer which children of tree nodes differ.
    pub(in crate::replication) fn on_differ(
        &mut self,
        items: Packed<'_>,
        store: &Store,
        now: Instant,
    ) -> Result<(), SyncError> {
        self.check_turn()?;
        if self.role == Role::Responder {
            return Err(SyncError::OutOfTurn("Differ"));
        }
        for item in items.items::<Differ<'_>>() {
            let Differ { tree_node, children, rest } = item?;
            let tree_node = self.tree_node(store, tree_node)?;
            let fan_out = tree_node.fan_out(store.ranges());
            if children.len() != fan_out.div_ceil(8) {
                return Err(SyncError::Malformed("children"));
            }
            if self.on_verified(store, tree_node, children)? {
                continue;
            }
            let is_group = tree_node.ranges(store.ranges()).len() > 1;
            if self.terms.probe && is_group && self.frontier.compares > 0 {
                self.frontier.compares -= 1;
                self.frontier.shut(tree_node);
                if children.iter().any(|&byte| byte != 0) {
                    let at = now + 2 * self.round_trip + RECHECK;
                    let (_, groups) = self.frontier.recheck.get_or_insert((at, Vec::new()));
                    groups.push((tree_node, children.to_vec()));
                }
                continue;
            }
            if self.uncovered.brief.remove(&tree_node) {
                self.verify_rest(store, tree_node, children, rest)?;
            }
            let before = self.frontier.found;
            for (_, child) in frontier::children(tree_node, store.ranges(), children) {
                self.found_unequal(store, child);
                self.frontier.open(child, 1);
            }
            if is_group {
                self.frontier.note_compared(before);
                self.frontier.shut(tree_node);
            } else {
                self.close(store, tree_node);
            }
        }
        Ok(())
    }

    /// Compares received digests with this side's own.
    pub(in crate::replication) fn on_digests(
        &mut self,
        items: Packed<'_>,
        answer: Answer,
        store: &Store,
    ) -> Result<(), SyncError> {
        self.check_turn()?;
        for item in items.items::<Digests<'_>>() {
            let Digests { tree_node, mask, sums } = item?;
            let tree_node = self.tree_node(store, tree_node)?;
            if sums.is_empty() {
                self.out.stream(tree_node, store);
                continue;
            }
            self.compare(tree_node, mask, sums, answer, store)?;
        }
        Ok(())
    }

    fn compare(
        &mut self,
        tree_node: TreeNode,
        mask: &[u8],
        sums: &[u8],
        answer: Answer,
        store: &Store,
    ) -> Result<(), SyncError> {
        let count = store.ranges();
        let is_group = tree_node.ranges(count).len() > 1;
        let is_brief =
            self.role == Role::Responder && is_group && mask.is_empty() && answer == Answer::Uncovered;
        let scale = if is_brief { Scale::brief(self.number) } else { Scale::WHOLE };
        let mut sums = scale.unpack(sums).ok_or(SyncError::Malformed("sums"))?;
        let own = store.child_digests(tree_node, self.cutoff, self.terms.deep);
        let mut differ = vec![0; tree_node.fan_out(count).div_ceil(8)];
        let (mut unequal, mut rest) = (Vec::new(), 0u64);
        for (index, own) in own.iter().enumerate().take(tree_node.fan_out(count)) {
            if !mask.is_empty() && !bit(mask, index) {
                continue;
            }
            let theirs = sums.next().ok_or(SyncError::Malformed("sums"))?;
            if theirs != scale.reduce(own.sum) {
                set_bit(&mut differ, index);
                let child = tree_node.child(count, index).expect("an index below the fan-out has a child");
                unequal.push((index, child, theirs == 0));
            } else {
                rest = rest.wrapping_add(own.sum);
            }
        }
        if sums.next().is_some() {
            return Err(SyncError::Malformed("sums"));
        }
        if self.role == Role::Initiator {
            for (_, child, theirs_empty) in unequal {
                self.found_unequal(store, child);
                self.frontier.todo.push_back((child, theirs_empty));
            }
            self.close(store, tree_node);
            return Ok(());
        }
        self.out.differ(tree_node, &differ, is_brief.then_some(rest));
        let lists_uncovered = is_group && answer == Answer::Uncovered && self.answer() == Answer::Uncovered;
        let mut listed = VecDeque::new();
        for (index, child, theirs_empty) in unequal {
            // Only for the displayed progress; the initiator keeps the frontier.
            if self.frontier.ranges.insert(child.ranges(count).start, 1).is_none() {
                self.frontier.found += 1;
            }
            if answer == Answer::Differ {
            } else if lists_uncovered && !theirs_empty && own[index].cells > 0 {
                listed.push_back(index);
            } else {
                self.descend(store, child, theirs_empty);
            }
        }
        self.list_later(tree_node, listed);
        Ok(())
    }

    /// Records that a frame of cells has been merged.
    pub(in crate::replication) fn on_merged(&mut self, cells: u64, bytes: u64) {
        self.cells_in += cells;
        self.bytes_in += bytes;
        self.owed += bytes;
    }

    /// Records that a cell of the peer was refused for want of memory.
    pub(in crate::replication) fn on_refused(&mut self) {
        self.failed.get_or_insert(SyncFailed::Full);
    }

    /// Handles the peer's coverage of incarnations that are not members. It may come at any time before the
    /// peer's `Done`.
    pub(in crate::replication) fn on_coverage(&mut self, items: Packed<'_>) -> Result<(), SyncError> {
        for item in items.items::<WireCoverage>() {
            let WireCoverage { incarnation, synced, closed } = item?;
            if self.coverage.len() >= MAX_COVERAGE {
                return Err(SyncError::Crowded);
            }
            let incarnation =
                Incarnation::try_from(&incarnation).map_err(|_| SyncError::Malformed("an incarnation"))?;
            self.coverage.push(ClosedCoverage { incarnation, synced: Time(synced), closed: Time(closed) });
        }
        Ok(())
    }

    /// Handles a received cell that was removed here. A cell that lost to a dead cell which no digest includes
    /// is no sign of a fault, so such cells do not count towards the limit.
    pub(in crate::replication) fn on_removed(
        &mut self,
        key: &[u8],
        retraction: Box<Retraction>,
        store: &Store,
    ) {
        self.gave_up.extend(retraction.given_up().map(|origin| store.incarnation(origin)));
        if retraction.is_beaten {
            self.retracted += 1;
            return self.out.retract(key.to_vec(), retraction);
        }
        // An uncovered cell that was removed here comes again with the list of its range.
        let is_known = self.limited && self.retractions.iter().any(|(known, _)| known == key);
        if self.failed.is_none() && !is_known {
            self.retractions.push((key.to_vec(), retraction));
        }
        if !self.limited {
            if self.retractions.len() >= RETRACTION_BATCH {
                self.send_retractions();
            }
        } else if self.retractions.len() > RETRACTION_LIMIT {
            self.failed = Some(SyncFailed::RetractionLimit);
            self.retractions.clear();
        }
    }

    /// Handles the end of the peer's cells for some tree nodes; the peer may ask for cells in return.
    pub(in crate::replication) fn on_ends(
        &mut self,
        ends: Packed<'_>,
        store: &Store,
    ) -> Result<(), SyncError> {
        if ends.0.is_empty() {
            return Ok(());
        }
        self.check_turn()?;
        for end in ends.items::<End<'_>>() {
            let End { tree_node, wanted } = end?;
            let tree_node = self.tree_node(store, tree_node)?;
            if wanted.is_empty() {
                if self.role == Role::Initiator {
                    self.on_exchanged(store, tree_node);
                }
                continue;
            }
            // The responder lists nothing but uncovered cells of whole groups.
            if self.role == Role::Responder && tree_node.ranges(store.ranges()).len() > 1 {
                self.send_wanted(tree_node, wanted)?;
                continue;
            }
            let mut wanted: Vec<u64> = unpack_hashes(wanted).ok_or(SyncError::Malformed("wanted"))?.collect();
            wanted.sort_unstable();
            let mut cells = Vec::new();
            store.visit(tree_node, self.cutoff, |key_hash, cell| {
                if wanted.binary_search(&key_hash).is_ok() {
                    cells.push(cell.clone());
                }
            });
            self.out.cells(tree_node, cells, Vec::new());
        }
        Ok(())
    }

    /// Handles credit: the peer can take more cells.
    pub(in crate::replication) fn on_credit(&mut self, bytes: u64) {
        self.out.grant(bytes);
    }

    /// Handles the end of the peer's messages.
    pub(in crate::replication) fn on_done(&mut self) -> Result<(), SyncError> {
        match (self.role, self.phase) {
            (Role::Responder, Phase::Exchanging) => {
                self.send_retractions();
                self.phase = Phase::Closing { sent: false };
                Ok(())
            }
            (Role::Initiator, Phase::Closing { sent: true }) => {
                self.phase = Phase::Ended;
                Ok(())
            }
            _ => Err(SyncError::OutOfTurn("Done")),
        }
    }

    /// Handles the peer's failure.
    pub(in crate::replication) fn on_abort(&mut self, reason: &str) {
        const LONGEST: usize = 200;
        self.failed.get_or_insert(SyncFailed::Aborted(reason.chars().take(LONGEST).collect()));
        self.phase = Phase::Ended;
    }
}
