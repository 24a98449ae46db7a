//! The exchange of uncovered cells, which comes before ranges that differ are compared further down.
//!
//! ```text
//!   initiator                                        responder
//!   Digests { group: 128 sums } -------------------->
//!         <-------------------- Differ { which ranges }
//!         <-------------------- Uncovered { briefly, what may be newer here }
//!   Cells { newer }, wanted ------------------------>
//!         <-------------------- Cells { wanted }
//!   Digests { of these ranges } -------------------->
//!         <-------------------- Differ { which still differ }, and what is below them
//! ```
//!
//! A cell is *uncovered* if the two summary vectors do not both cover one of its dots. Whatever one side lacks is
//! uncovered, except what was lost or removed. So a few bytes for each of these cells replace digests and lists of
//! ranges that have many more.
//!
//! Invariant: this exchange proves nothing. Cells are compared by a few bits, a side may have been mistaken about what the
//! other covers, and other cells may differ. So every range is compared again by its whole digest.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use super::frontier::{Masked, bit, children, set_bit, take_closed};
use super::outgoing::{CONTROL_TARGET, wire};
use super::{MAX_JOBS, Role, Sync, SyncError};
use crate::ablation::{Ablation, ablated};
use crate::model::{Incarnation, Time, TreeNode};
use crate::replication::codec::Packed;
use crate::replication::members::{ClosedCoverage, Summary};
use crate::replication::message::{Answer, Uncovered};
use crate::store::{Cell, Entry, Origin, Origins, Store};

/// The number of cells that are read for one message, after which other tasks may run.
pub(super) const READ_TARGET: usize = 4096;

/// The encoded size in bytes of one cell of a list.
const ENTRY: usize = 8;

/// Which uncovered cells have yet to be exchanged.
#[derive(Default)]
pub(super) struct UncoveredCells {
    /// What both sides cover; computed when it is needed first.
    common: Option<CommonCoverage>,
    /// The ranges that the responder has not listed yet: their group, and their indexes in it.
    unlisted: VecDeque<(TreeNode, VecDeque<usize>)>,
    /// The groups whose brief sums the initiator has sent, without an answer yet.
    pub(super) brief: BTreeSet<TreeNode>,
    /// The groups whose uncovered cells are being exchanged.
    open: BTreeMap<TreeNode, Exchange>,
    /// The ranges that the initiator has not compared again yet.
    unverified: VecDeque<Masked>,
    /// The ranges whose whole digests the initiator has sent, without an answer yet.
    verifying: BTreeMap<TreeNode, Vec<u8>>,
}

/// The exchange of one group's uncovered cells.
#[derive(Default)]
struct Exchange {
    /// The ranges that were listed, as a bit mask.
    ranges: Vec<u8>,
    /// How many lists are not finished.
    lists: usize,
    /// Whether more lists will follow.
    more: bool,
}

/// For each incarnation, the time up to which both sides have incorporated its writes. The side that computes it may lack
/// what the other has incorporated since its summary.
struct CommonCoverage(Vec<(Origin, Time)>);

impl CommonCoverage {
    /// `coverage` is what the peer has sent of incarnations that are not members.
    fn new(origins: &Origins, ours: &Summary, theirs: &Summary, coverage: &[ClosedCoverage]) -> Self {
        let [ours, mut theirs] = [ours, theirs].map(|summary| {
            let away = summary.away.iter().map(|away| (away.incarnation, away.seen));
            summary.vector.iter().chain(away).collect::<BTreeMap<Incarnation, Time>>()
        });
        theirs.extend(
            coverage.iter().map(|coverage| (coverage.incarnation, coverage.synced.max(coverage.closed))),
        );
        // The coverage of all others is the same on both sides.
        let known = ours.keys().chain(theirs.keys().filter(|incarnation| !ours.contains_key(incarnation)));
        let common = known.filter_map(|incarnation| {
            let own = ours.get(incarnation).copied();
            let own = own.unwrap_or_else(|| origins.coverage_of(*incarnation).covered());
            let time = own.min(theirs.get(incarnation).copied().unwrap_or_default());
            Some((origins.find(*incarnation)?, time))
        });
        let mut common: Vec<_> = common.collect();
        common.sort_unstable();
        CommonCoverage(common)
    }

    fn is_uncovered(&self, (time, origin): (Time, Origin)) -> bool {
        let found = self.0.binary_search_by_key(&origin, |&(origin, _)| origin);
        found.is_ok_and(|index| time > self.0[index].1)
    }
}

/// What a list shows of a cell's content: for a register its time, in which case the upper bit is zero, else its hash.
fn content(entry: &Entry) -> u32 {
    /// Units of 2^-10 s: registers that are written further apart can be ordered, up to 12 days.
    const UNIT: u32 = 22;
    let word = if entry.plain { entry.time.0 >> UNIT } else { entry.digest };
    #[expect(
        clippy::cast_possible_truncation,
        reason = "the lower bits are enough to tell two cells of a key apart"
    )]
    let word = word as u32 & MASK;
    if entry.plain { word } else { word | !MASK }
}

/// The bits of a cell's content, without the one that tells registers from others.
const MASK: u32 = u32::MAX >> 1;

/// Returns whether the first of two contents is newer, and whether the second is; both, if only a merge can decide.
fn compare(own: u32, theirs: u32) -> (bool, bool) {
    if own == theirs {
        return (false, false);
    }
    if (own | theirs) > MASK {
        return (true, true);
    }
    let is_newer = own.wrapping_sub(theirs) & MASK <= MASK / 2;
    (is_newer, !is_newer)
}

fn pack(entry: &Entry, group: TreeNode) -> [u8; ENTRY] {
    let mut packed = [0; ENTRY];
    packed[..4].copy_from_slice(&group.brief_hash(entry.key_hash).to_le_bytes());
    packed[4..].copy_from_slice(&content(entry).to_le_bytes());
    packed
}

/// Decodes a list to the brief hashes of keys and their contents; `None` if its length is wrong.
fn unpack(cells: &[u8]) -> Option<BTreeMap<u32, u32>> {
    let (words, rest) = cells.as_chunks::<4>();
    let (entries, single) = words.as_chunks::<2>();
    let is_whole = rest.is_empty() && single.is_empty();
    is_whole.then(|| entries.iter().map(|entry| entry.map(u32::from_le_bytes).into()).collect())
}

/// Decodes the brief hashes of wanted keys, and sorts them; `None` if the length is wrong.
fn unpack_wanted(wanted: &[u8]) -> Option<Vec<u32>> {
    let (words, rest) = wanted.as_chunks::<4>();
    let mut wanted: Vec<u32> = words.iter().map(|word| u32::from_le_bytes(*word)).collect();
    wanted.sort_unstable();
    rest.is_empty().then_some(wanted)
}

impl UncoveredCells {
    pub(super) fn is_complete(&self) -> bool {
        self.unlisted.is_empty()
            && self.open.is_empty()
            && self.unverified.is_empty()
            && self.verifying.is_empty()
    }

    /// How many groups wait to be listed.
    pub(super) fn unlisted_count(&self) -> usize {
        self.unlisted.len()
    }

    /// Whether the cells of a list of this group are under way.
    pub(super) fn is_open(&self, group: TreeNode) -> bool {
        self.open.get(&group).is_some_and(|exchange| exchange.lists > 0)
    }
}

impl Sync {
    /// How the responder is to answer the digests of a group.
    pub(super) fn answer(&self) -> Answer {
        // A node that refuses cells for want of memory would refuse them a second time.
        let is_useful = self.terms.uncovered && !self.terms.deep && self.failed.is_none();
        if is_useful { Answer::Uncovered } else { Answer::Exact }
    }

    fn visit_uncovered(&mut self, store: &Store, range: TreeNode, visit: impl FnMut(Entry, &Cell)) -> usize {
        let common = self.uncovered.common.get_or_insert_with(|| {
            CommonCoverage::new(store.origins(), &self.ours, &self.theirs, &self.coverage)
        });
        let range = range.ranges(store.ranges()).start;
        store.visit_uncovered(range, self.cutoff, |dot| common.is_uncovered(dot), visit)
    }

    /// Lists the uncovered cells of these ranges of a group, which differ, when their turn comes.
    pub(super) fn list_later(&mut self, group: TreeNode, ranges: VecDeque<usize>) {
        if !ranges.is_empty() {
            self.uncovered.unlisted.push_back((group, ranges));
        }
    }

    /// Lists the uncovered cells of the next ranges for one message, if there are any.
    pub(super) fn list_uncovered(&mut self, store: &Store) {
        let count = store.ranges();
        let (mut read, mut listed) = (0, 0);
        while read < READ_TARGET
            && listed < CONTROL_TARGET
            && !self.out.has_uncovered()
            && let Some((group, mut unlisted)) = self.uncovered.unlisted.pop_front()
        {
            let (mut ranges, mut cells) = (vec![0; group.fan_out(count).div_ceil(8)], Vec::new());
            while read < READ_TARGET
                && listed + cells.len() < CONTROL_TARGET
                && let Some(index) = unlisted.pop_front()
            {
                set_bit(&mut ranges, index);
                let range = group.child(count, index).expect("an index below the fan-out has a child");
                read += self
                    .visit_uncovered(store, range, |entry, _| cells.extend_from_slice(&pack(&entry, group)));
            }
            listed += cells.len();
            let more = !unlisted.is_empty();
            self.out.uncovered(&Uncovered { group: wire(group), ranges: &ranges, more, cells: &cells });
            if more {
                self.uncovered.unlisted.push_front((group, unlisted));
            }
        }
    }

    /// Handles the list of the responder's uncovered cells: sends what is newer here, and asks for what is newer there.
    pub(in crate::replication) fn on_uncovered(
        &mut self,
        items: Packed<'_>,
        store: &Store,
    ) -> Result<(), SyncError> {
        self.check_turn()?;
        if self.role == Role::Responder {
            return Err(SyncError::OutOfTurn("Uncovered"));
        }
        for item in items.items::<Uncovered<'_>>() {
            let Uncovered { group, ranges, more, cells } = item?;
            let group = TreeNode::new(store.ranges(), u32::from(group.bits), group.path);
            let group = group.ok_or(SyncError::Malformed("tree node"))?;
            if self.out.job_count() > MAX_JOBS {
                return Err(SyncError::Crowded);
            }
            let mut theirs = unpack(cells).ok_or(SyncError::Malformed("uncovered cells"))?;
            let listed = children(group, store.ranges(), ranges).collect::<Vec<_>>();
            if listed.is_empty() || ranges.len() != group.fan_out(store.ranges()).div_ceil(8) {
                return Err(SyncError::Malformed("ranges"));
            }
            let (mut send, mut want) = (Vec::new(), Vec::new());
            for (index, range) in listed {
                let exchange = self.uncovered.open.entry(group).or_default();
                exchange.ranges.resize(ranges.len(), 0);
                if !self.frontier.open.contains_key(&range) || bit(&exchange.ranges, index) {
                    return Err(SyncError::OutOfTurn("a range that is not open"));
                }
                set_bit(&mut exchange.ranges, index);
                self.visit_uncovered(store, range, |own, cell| {
                    let key = group.brief_hash(own.key_hash);
                    let theirs = theirs.remove(&key);
                    let (newer, older) =
                        theirs.map_or((true, false), |theirs| compare(content(&own), theirs));
                    if older {
                        want.push(key);
                    }
                    if newer {
                        send.push(cell.clone());
                    }
                });
            }
            want.extend(theirs.into_keys());
            let exchange = self.uncovered.open.entry(group).or_default();
            (exchange.lists, exchange.more) = (exchange.lists + 1, more);
            self.out.cells(group, send, want.into_iter().flat_map(u32::to_le_bytes).collect());
        }
        Ok(())
    }

    /// Sends the cells of a group that the initiator wants.
    pub(super) fn send_wanted(&mut self, group: TreeNode, wanted: &[u8]) -> Result<(), SyncError> {
        let wanted = unpack_wanted(wanted).ok_or(SyncError::Malformed("wanted"))?;
        self.out.keys(group, wanted);
        Ok(())
    }

    /// Records that both sides have sent what they had to send of a tree node.
    pub(super) fn on_exchanged(&mut self, store: &Store, tree_node: TreeNode) {
        let Some(exchange) = self.uncovered.open.get_mut(&tree_node) else {
            return self.close(store, tree_node);
        };
        exchange.lists = exchange.lists.saturating_sub(1);
        if exchange.lists > 0 || exchange.more {
            return;
        }
        let ranges = std::mem::take(&mut exchange.ranges);
        self.uncovered.open.remove(&tree_node);
        if ablated(Ablation::VerifyUncovered) {
            return self.close_ranges(store, tree_node, &ranges);
        }
        self.uncovered.unverified.push_back((tree_node, ranges));
    }

    /// Compares the ranges again whose uncovered cells were exchanged.
    pub(super) fn verify_uncovered(&mut self, store: &Store) {
        while !self.out.has_control()
            && let Some((group, ranges)) = take_closed(&mut self.uncovered.unverified, &self.frontier.open)
        {
            // Its ranges are open, and count.
            self.frontier.open(group, 0);
            self.compare_wholly(store, group, &ranges, Answer::Exact);
            self.uncovered.verifying.insert(group, ranges);
        }
    }

    /// Compares the ranges whose brief sums looked equal by the total of their digests, and if it differs by each.
    pub(super) fn verify_rest(
        &mut self,
        store: &Store,
        group: TreeNode,
        differ: &[u8],
        rest: Option<u64>,
    ) -> Result<(), SyncError> {
        let theirs = rest.ok_or(SyncError::Malformed("rest"))?;
        let ranges: Vec<u8> = differ.iter().map(|differ| !differ).collect();
        let looked_equal = children(group, store.ranges(), &ranges);
        let sums: Vec<u64> = looked_equal.map(|(_, range)| self.digest(store, range).sum).collect();
        let ours = sums.iter().copied().fold(0, u64::wrapping_add);
        if ours != theirs && !sums.is_empty() && !ablated(Ablation::VerifyRest) {
            self.frontier.rechecked.push_back((group, ranges));
        }
        Ok(())
    }

    /// Handles the answer which ranges still differ; returns false if it does not answer
    /// [`verify_uncovered`](Self::verify_uncovered). What differs stays open, and the responder continues with it.
    pub(super) fn on_verified(
        &mut self,
        store: &Store,
        group: TreeNode,
        differ: &[u8],
    ) -> Result<bool, SyncError> {
        let Some(mut ranges) = self.uncovered.verifying.remove(&group) else { return Ok(false) };
        for (ranges, differ) in ranges.iter_mut().zip(differ) {
            if differ & !*ranges != 0 {
                return Err(SyncError::Malformed("children"));
            }
            *ranges &= !differ;
        }
        self.frontier.shut(group);
        self.close_ranges(store, group, &ranges);
        Ok(true)
    }

    fn close_ranges(&mut self, store: &Store, group: TreeNode, ranges: &[u8]) {
        children(group, store.ranges(), ranges).for_each(|(_, range)| self.close(store, range));
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::model::timestamp::incarnation;
    use crate::replication::members::Away;

    fn entry(time: u64, plain: bool) -> Entry {
        Entry { key_hash: 1, digest: time, time: Time(time), origin: 1, plain, is_tombstone: false }
    }

    proptest! {
        #[test]
        fn the_later_of_two_registers_is_newer_up_to_12_days_apart(
            time in 0..u64::MAX / 2,
            apart in (2u64 << 22)..(12 * 86_400) << 32,
        ) {
            let [earlier, later] = [time, time + apart].map(|time| content(&entry(time, true)));
            prop_assert_eq!(compare(earlier, later), (false, true));
            prop_assert_eq!(compare(later, earlier), (true, false));
            prop_assert_eq!(compare(later, later), (false, false));
        }

        #[test]
        fn of_a_counter_both_sides_send_theirs(time: u64, digest: u64, plain: bool) {
            let [own, theirs] = [entry(time, plain), entry(digest, false)].map(|entry| content(&entry));
            prop_assert_eq!(compare(own, theirs), (own != theirs, own != theirs));
        }

        #[test]
        fn lists_of_any_bytes_decode_or_are_refused(bytes in proptest::collection::vec(any::<u8>(), 0..100)) {
            prop_assert_eq!(unpack(&bytes).is_some(), bytes.len() % 8 == 0);
            prop_assert!(unpack(&bytes).is_none_or(|cells| cells.len() <= bytes.len() / 8));
            prop_assert_eq!(unpack_wanted(&bytes).is_some(), bytes.len() % 4 == 0);
        }
    }

    #[test]
    fn a_dot_is_uncovered_if_one_side_does_not_cover_it() {
        let id = |n| incarnation(n).unwrap();
        let origins = Origins::new(id(1));
        let origin = |n| origins.intern(id(n)).unwrap();
        (1..10).for_each(|n| _ = origin(n));
        origins.close(id(5), Time(40));
        origins.close(id(6), Time(60));
        let away = |n, seen| Away { incarnation: id(n), since: Time(1), seen: Time(seen) };
        let summary = |vector: &[(u128, u64)], away| Summary {
            vector: vector.iter().map(|&(n, time)| (id(n), Time(time))).collect(),
            away,
            ..Summary::default()
        };
        let ours = summary(&[(1, 100), (2, 30), (3, 20)], vec![away(4, 9)]);
        let theirs = summary(&[(1, 10), (2, 90)], vec![away(4, 8)]);
        // The peer has closed 3, and so has this side 5; both have closed 6 and know of no 7.
        let coverage = [(3, 15), (5, 70)].map(|(n, time)| ClosedCoverage {
            incarnation: id(n),
            synced: Time(time),
            closed: Time(1),
        });
        let common = CommonCoverage::new(&origins, &ours, &theirs, &coverage);
        for (n, covered) in [(1, 10), (2, 30), (3, 15), (4, 8), (5, 40)] {
            assert!(!common.is_uncovered((Time(covered), origin(n))), "{n}");
            assert!(common.is_uncovered((Time(covered + 1), origin(n))), "{n}");
        }
        for n in [6, 7] {
            assert!(!common.is_uncovered((Time(u64::MAX), origin(n))), "{n}");
        }
    }
}
