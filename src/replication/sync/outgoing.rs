//! What one side of a sync has yet to send: control items packed into few messages, and cells within the
//! credit.

use std::collections::VecDeque;

use bytes::Bytes;

use super::CREDIT;
use super::uncovered::READ_TARGET;
use crate::model::{Time, TreeNode};
use crate::replication::cells::{Carrier, CellsEncoder, FRAME_TARGET};
use crate::replication::codec::{self, Packed};
use crate::replication::members::ClosedCoverage;
use crate::replication::message::{
    Answer, Differ, Digests, End, List, Message, Uncovered, WireCoverage, WireEntry, WireTreeNode,
};
use crate::store::{Cell, Entry, Origin, Retraction, Store};

/// Everything that waits to be sent. The open tree nodes and the credit bound its size: cells are references to
/// those of the store, and a stream is read range by range.
#[derive(Default)]
pub(super) struct Outgoing {
    coverage: Chunks,
    /// By [`Answer`].
    digests: [Chunks; 3],
    differ: Chunks,
    uncovered: Chunks,
    lists: VecDeque<Lists>,
    jobs: VecDeque<Job>,
    retractions: Vec<(Vec<u8>, Box<Retraction>)>,
    encoder: CellsEncoder,
    credit: u64,
    pub(super) cells: u64,
    pub(super) bytes: u64,
}

/// The size in bytes up to which control messages are filled. To answer one takes the receiver about a
/// millisecond of reading ranges, after which other tasks may run.
pub(super) const CONTROL_TARGET: usize = 2 << 10;

/// Packed items, cut into messages.
#[derive(Default)]
struct Chunks(VecDeque<Vec<u8>>);

impl Chunks {
    fn is_full(&self) -> bool {
        self.0.front().is_some_and(|chunk| chunk.len() >= CONTROL_TARGET)
    }

    fn push<T: bincode::Encode>(&mut self, item: &T) {
        if self.0.back().is_none_or(|chunk| chunk.len() >= CONTROL_TARGET) {
            self.0.push_back(Vec::new());
        }
        codec::append(item, self.0.back_mut().expect("one was just added"));
    }
}

/// Packed lists, with the origins that they refer to.
#[derive(Default)]
struct Lists {
    origins: Vec<Origin>,
    items: Vec<u8>,
}

impl Lists {
    fn push(&mut self, tree_node: TreeNode, entries: &[(Entry, Cell)]) {
        let mut packed = Vec::new();
        for (entry, _) in entries {
            let (origin, word) = if entry.plain {
                (2 * self.origin_index(entry.origin) + 2 + u32::from(entry.is_tombstone), entry.time.0)
            } else {
                (0, entry.digest)
            };
            let entry =
                WireEntry { key_hash: entry.key_hash.to_le_bytes(), origin, time: word.to_le_bytes() };
            codec::append(&entry, &mut packed);
        }
        codec::append(&List { tree_node: wire(tree_node), entries: Packed(&packed) }, &mut self.items);
    }

    fn origin_index(&mut self, origin: Origin) -> u32 {
        let found = self.origins.iter().position(|&known| known == origin);
        let index = found.unwrap_or_else(|| {
            self.origins.push(origin);
            self.origins.len() - 1
        });
        u32::try_from(index).expect("a list has fewer cells than that")
    }
}

/// The cells of one tree node to send.
struct Job {
    tree_node: TreeNode,
    /// Cells at hand, the last to send first.
    cells: Vec<Cell>,
    unread: Unread,
    /// The packed hashes of the keys that the other side is asked for at the end.
    wanted: Vec<u8>,
}

/// The cells to send that have not been read yet.
enum Unread {
    /// All of these ranges that lie in the tree node.
    Ranges(std::ops::Range<usize>),
    /// Those of a group whose keys have these [brief hashes](TreeNode::brief_hash), which are sorted.
    Keys(Vec<u32>),
}

impl Job {
    /// Reads the cells of the next range. Returns how many were read to find those that are sent, or `None` if nothing is
    /// left.
    fn read_on(&mut self, store: &Store, stable: Time) -> Option<usize> {
        let (count, cells, mut passed) = (store.ranges(), &mut self.cells, 0);
        match &mut self.unread {
            Unread::Ranges(ranges) => {
                let range = TreeNode::of_range(count, ranges.next()?);
                let part = if self.tree_node.bits() < range.bits() { range } else { self.tree_node };
                store.visit(part, stable, |_, cell| cells.push(cell.clone()));
            }
            Unread::Keys(keys) => {
                let group = self.tree_node;
                let index = |brief| group.child_of_brief(count, brief);
                let last = index(*keys.last()?);
                let keys = keys.split_off(keys.partition_point(|&brief| index(brief) < last));
                let range = group.child(count, last)?;
                store.visit(range, stable, |key_hash, cell| {
                    passed += 1;
                    if keys.binary_search(&group.brief_hash(key_hash)).is_ok() {
                        cells.push(cell.clone());
                    }
                });
            }
        }
        Some(passed)
    }
}

/// Packs hashes as 8 bytes each.
pub(super) fn pack_hashes(hashes: impl IntoIterator<Item = u64>) -> Vec<u8> {
    hashes.into_iter().flat_map(u64::to_le_bytes).collect()
}

/// Decodes what [`pack_hashes`] returns; `None` if the length is wrong.
pub(super) fn unpack_hashes(packed: &[u8]) -> Option<impl Iterator<Item = u64>> {
    let (hashes, rest) = packed.as_chunks::<8>();
    rest.is_empty().then(|| hashes.iter().map(|hash| u64::from_le_bytes(*hash)))
}

pub(super) fn wire(tree_node: TreeNode) -> WireTreeNode {
    WireTreeNode { bits: u8::try_from(tree_node.bits()).expect("a hash has 64 bits"), path: tree_node.path() }
}

impl Outgoing {
    pub(super) fn new() -> Self {
        Outgoing { credit: CREDIT, ..Outgoing::default() }
    }

    pub(super) fn digests(&mut self, tree_node: TreeNode, mask: &[u8], sums: &[u8], answer: Answer) {
        self.digests[answer as usize].push(&Digests { tree_node: wire(tree_node), mask, sums });
    }

    pub(super) fn uncovered(&mut self, list: &Uncovered<'_>) {
        self.uncovered.push(list);
    }

    /// Whether enough lists of uncovered cells wait to be sent before more ranges are read.
    pub(super) fn has_uncovered(&self) -> bool {
        self.uncovered.is_full()
    }

    pub(super) fn differ(&mut self, tree_node: TreeNode, children: &[u8], rest: Option<u64>) {
        self.differ.push(&Differ { tree_node: wire(tree_node), children, rest });
    }

    pub(super) fn list(&mut self, tree_node: TreeNode, entries: &[(Entry, Cell)]) {
        if self.lists.back().is_none_or(|lists| lists.items.len() >= CONTROL_TARGET) {
            self.lists.push_back(Lists::default());
        }
        self.lists.back_mut().expect("one was just added").push(tree_node, entries);
    }

    /// Whether enough control messages wait to be sent before more ranges are read.
    pub(super) fn has_control(&self) -> bool {
        self.digests.iter().any(Chunks::is_full) || self.lists.len() > 1
    }

    /// Sends cells that belong to `tree_node`, then its end, with the hashes of the keys that are wanted.
    pub(super) fn cells(&mut self, tree_node: TreeNode, mut cells: Vec<Cell>, wanted: Vec<u8>) {
        cells.reverse();
        self.jobs.push_back(Job { tree_node, cells, unread: Unread::Ranges(0..0), wanted });
    }

    /// Sends everything of `tree_node`, which is read when the job's turn comes.
    pub(super) fn stream(&mut self, tree_node: TreeNode, store: &Store) {
        let unread = Unread::Ranges(tree_node.ranges(store.ranges()));
        self.jobs.push_back(Job { tree_node, cells: Vec::new(), unread, wanted: Vec::new() });
    }

    /// Sends the cells of a group whose keys have these [brief hashes](TreeNode::brief_hash), which are sorted.
    pub(super) fn keys(&mut self, group: TreeNode, keys: Vec<u32>) {
        let unread = Unread::Keys(keys);
        self.jobs.push_back(Job { tree_node: group, cells: Vec::new(), unread, wanted: Vec::new() });
    }

    /// Queues a retraction of a key that the other side has sent.
    pub(super) fn retract(&mut self, key: Vec<u8>, retraction: Box<Retraction>) {
        self.retractions.push((key, retraction));
    }

    /// Queues the coverage of an incarnation that is not a member.
    pub(super) fn coverage(&mut self, coverage: &ClosedCoverage) {
        let &ClosedCoverage { incarnation, synced, closed } = coverage;
        let incarnation = incarnation.to_le_bytes();
        self.coverage.push(&WireCoverage { incarnation, synced: synced.0, closed: closed.0 });
    }

    /// The number of control messages that wait.
    pub(super) fn control_count(&self) -> usize {
        let digests: usize = self.digests.iter().map(|chunks| chunks.0.len()).sum();
        digests + self.differ.0.len() + self.uncovered.0.len() + self.lists.len()
    }

    pub(super) fn job_count(&self) -> usize {
        self.jobs.len()
    }

    pub(super) fn grant(&mut self, bytes: u64) {
        self.credit = self.credit.saturating_add(bytes).min(CREDIT);
    }

    /// Whether everything has been sent.
    pub(super) fn is_empty(&self) -> bool {
        let mut control = self.digests.iter().chain([&self.coverage, &self.differ, &self.uncovered]);
        control.all(|chunks| chunks.0.is_empty()) && self.lists.is_empty() && !self.has_cells()
    }

    fn has_cells(&self) -> bool {
        !(self.jobs.is_empty() && self.retractions.is_empty())
    }

    /// Returns the next message, if there is one and the credit suffices. Calls `completed` with the tree nodes
    /// that end with this message if nothing is wanted of them.
    pub(super) fn next(
        &mut self,
        sync: u32,
        store: &Store,
        stable: Time,
        completed: &mut Vec<TreeNode>,
    ) -> Option<Bytes> {
        if let Some(items) = self.coverage.0.pop_front() {
            return Some(codec::frame(&Message::Coverage { sync, items: Packed(&items) }));
        }
        if let Some(items) = self.differ.0.pop_front() {
            return Some(codec::frame(&Message::Differ { sync, items: Packed(&items) }));
        }
        for answer in [Answer::Differ, Answer::Uncovered, Answer::Exact] {
            if let Some(items) = self.digests[answer as usize].0.pop_front() {
                return Some(codec::frame(&Message::Digests { sync, answer, items: Packed(&items) }));
            }
        }
        if let Some(items) = self.uncovered.0.pop_front() {
            return Some(codec::frame(&Message::Uncovered { sync, items: Packed(&items) }));
        }
        if let Some(Lists { origins, items }) = self.lists.pop_front() {
            let ids = origins.into_iter().flat_map(|origin| store.incarnation(origin).to_le_bytes());
            let origins: Vec<u8> = ids.collect();
            return Some(codec::frame(&Message::List { sync, origins: &origins, items: Packed(&items) }));
        }
        if self.credit == 0 || !self.has_cells() {
            return None;
        }
        if !self.retractions.is_empty() {
            return Some(self.next_retractions(sync, store));
        }
        Some(self.next_cells(sync, store, stable, completed))
    }

    fn next_cells(&mut self, sync: u32, store: &Store, stable: Time, completed: &mut Vec<TreeNode>) -> Bytes {
        let (mut ends, mut passed) = (Vec::new(), 0);
        while ends.len() < FRAME_TARGET && !self.encoder.is_full() && passed < READ_TARGET {
            let Some(job) = self.jobs.front_mut() else { break };
            if let Some(cell) = job.cells.pop() {
                if self.encoder.overflows_with(&cell) {
                    job.cells.push(cell);
                    break;
                }
                self.encoder.add(&cell);
                self.cells += 1;
            } else if let Some(read) = job.read_on(store, stable) {
                passed += read;
            } else {
                codec::append(&End { tree_node: wire(job.tree_node), wanted: &job.wanted }, &mut ends);
                if job.wanted.is_empty() {
                    completed.push(job.tree_node);
                }
                self.jobs.pop_front();
            }
        }
        let frame = self.encoder.finish(store, Carrier::Sync { sync, ends: Packed(&ends) });
        self.charge(&frame);
        frame
    }

    fn charge(&mut self, frame: &Bytes) {
        let size = codec::message_size(frame);
        self.credit = self.credit.saturating_sub(size);
        self.bytes += size;
    }

    fn next_retractions(&mut self, sync: u32, store: &Store) -> Bytes {
        while !self.encoder.is_full()
            && let Some((key, retraction)) = self.retractions.pop()
        {
            self.encoder.add_retraction(&key, &retraction);
        }
        let frame = self.encoder.finish(store, Carrier::Retract { sync });
        self.charge(&frame);
        frame
    }
}
