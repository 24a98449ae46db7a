//! One side of a sync, as initiator or responder. Pure: cells come from a store in memory, messages come and go
//! through the caller, and time is an argument.
//!
//! ```text
//!   initiator                                        responder
//!   Start { summary } ------------------------------->  may wait for a permit
//!         <-------------------- Accept { summary, sums of 128 groups }
//!   groups that differ:
//!   Digests { group: 128 brief sums } -------------->
//!         <-------------------- Differ { which ranges }
//!         both exchange the uncovered cells of these: see `uncovered`
//!   Digests { group: whole sums of these } --------->
//!         <-------------------- Differ { which ranges }        and for each of these one of
//!         <-------------------- Digests { range: 16 sums }     many cells: descend
//!         <-------------------- List { timestamps }                few
//!         <-------------------- Digests { no sums }            none here: send all
//!         <-------------------- Cells { all }                  none there
//!   the same for what differs below, until for every tree node
//!   Cells { newer, wanted } <-> Cells { wanted }
//!   Done ------------------------------------------>  all that was held at Start and Accept is now on both sides
//!         <----------------------------------------- Done
//! ```
//!
//! The initiator keeps the frontier: a tree node is *open* from the moment it is known to differ until its
//! cells have gone both ways. The responder answers, and stores only what it still has to send. An interrupted
//! sync leaves what was merged, and nothing else; the next sync finds those tree nodes equal.
//!
//! Invariants:
//! * A tree node counts as exchanged only if digests of 64 bits are equal, or all its cells were listed or sent. Brief
//!   sums and lists of uncovered cells only select what is exchanged first.
//! * Both sides omit what is dead at the same stable time, the [cutoff](Summary::cutoff) of their two
//!   summaries.
//! * Each side draws its summary before it reads any of its digests. So when all tree nodes were equal or have
//!   been exchanged, each side holds all that the other's summary covers, whatever was written meanwhile.
//! * The memory of a sync is bounded by [`WINDOW`] open tree nodes and [`CREDIT`] bytes of cells.

mod error;
mod frontier;
mod incoming;
mod lists;
mod outgoing;
mod sums;
mod uncovered;

use std::collections::BTreeSet;
use std::time::Duration;

use bytes::Bytes;
use tokio::time::Instant;

use super::codec;
use super::members::{ClosedCoverage, Summary};
use super::message::Message;
use crate::model::{Incarnation, Time, TreeNode};
use crate::store::{Digest, Retraction, Store};
pub(super) use error::{SyncError, SyncFailed};
use frontier::Frontier;
use outgoing::{Outgoing, pack_hashes};
use uncovered::UncoveredCells;

/// The most bytes of cells in flight to a side that has not merged them, beside one over-large frame.
pub(super) const CREDIT: u64 = 4 << 20;

/// The most tree nodes that may be open at one time. One whose digests were sent counts for every child that
/// the responder may answer with. Each takes at most about 1 KiB, in lists and references. It is large enough
/// that bandwidth and not round trips bounds a sync over a slow line.
const WINDOW: usize = 4096;

/// The most jobs that a responder accepts; a correct initiator causes few more than its window.
const MAX_JOBS: usize = 2 * WINDOW;

/// The most control messages of a few KiB that may wait at a responder; a correct initiator causes a tenth of
/// this.
const MAX_CONTROL: usize = 8192;

/// The retraction limit. A peer that has incorporated all that this node has purged holds nothing that was
/// removed here, so more retractions than this against it are a bug or lost data, not deleted keys.
const RETRACTION_LIMIT: usize = 64;

/// The size of the batches in which retractions are sent as they are found, where the limit does not apply.
const RETRACTION_BATCH: usize = 1024;

/// The most closed incarnations that a peer may send in one sync: twice as many as are kept.
const MAX_COVERAGE: usize = 2 * 65_536;

/// A probe compares again after two round trips and this long, so that writes in flight are not taken for a
/// difference.
const RECHECK: Duration = Duration::from_millis(200);

/// An answer that took longer than this has waited at the peer, and does not measure the round trip.
const LONGEST_ROUND_TRIP: Duration = Duration::from_secs(1);

/// The most cells that a range or a part of it may hold and still be listed rather than split further.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct ListLimit(pub(super) u64);

impl Default for ListLimit {
    /// Sixteen more digests are as large as eight entries; below 24 a list is cheaper, and it saves a round
    /// trip.
    fn default() -> Self {
        ListLimit(24)
    }
}

/// The part of a range's sum that is sent first in the sync of this number.
#[cfg(test)]
pub(super) fn brief_sum(sum: u64, sync: u32) -> u64 {
    sums::Scale::brief(sync).reduce(sum)
}

/// The terms of a sync, which its offer contains.
#[derive(Clone, Copy, Debug)]
pub(super) struct Terms {
    /// Whether to compare values too.
    pub(super) deep: bool,
    /// Whether to only look for a difference that is still there after writes in flight have arrived.
    pub(super) probe: bool,
    pub(super) list_limit: ListLimit,
    /// Whether uncovered cells are exchanged before ranges that differ are compared further down.
    pub(super) uncovered: bool,
}

/// The peer's summary at the start of a sync, and what follows from it.
pub(super) struct PeerSummary {
    pub(super) summary: Summary,
    /// Whether the [retraction limit](RETRACTION_LIMIT) applies to the peer.
    pub(super) limited: bool,
    /// The coverage of incarnations that are not members, to send to the peer.
    pub(super) coverage: Vec<ClosedCoverage>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Role {
    Initiator,
    Responder,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    /// The initiator waits for the answer to its Start.
    Offered,
    Exchanging,
    /// `Done` is due, or was sent: the initiator waits for the responder's.
    Closing {
        sent: bool,
    },
    Ended,
}

/// How much a sync has moved.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Progress {
    /// Ranges that still differ: the known ones, and an estimate for those that have not been compared.
    pub(super) ranges_differing: u64,
    /// Ranges that were found to differ, and the same estimate.
    pub(super) ranges_found: u64,
    pub(super) cells_in: u64,
    pub(super) cells_out: u64,
    pub(super) bytes_in: u64,
    pub(super) bytes_out: u64,
}

/// One side of a sync under way.
pub(super) struct Sync {
    number: u32,
    role: Role,
    phase: Phase,
    terms: Terms,
    /// Both sides omit what is dead at this stable time.
    cutoff: Time,
    ours: Summary,
    theirs: Summary,
    /// The coverage that the peer has sent, of incarnations that are not members.
    coverage: Vec<ClosedCoverage>,
    /// The peer has incorporated all that was purged here: the [retraction limit](RETRACTION_LIMIT) applies.
    limited: bool,
    out: Outgoing,
    frontier: Frontier,
    uncovered: UncoveredCells,
    /// When the initiator offered the sync, and how long the answer took.
    started: Instant,
    round_trip: Duration,
    /// Retractions to send, held back while the retraction limit applies.
    retractions: Vec<(Vec<u8>, Box<Retraction>)>,
    /// The incarnations with a write that this side has given up and the peer holds.
    gave_up: BTreeSet<Incarnation>,
    failed: Option<SyncFailed>,
    owed: u64,
    cells_in: u64,
    bytes_in: u64,
    retracted: u64,
}

impl Sync {
    /// Creates an offered sync; the caller sends [`Message::Start`] with the summary drawn for it.
    pub(super) fn offer(number: u32, terms: Terms, ours: Summary, now: Instant) -> Self {
        Sync::new(number, Role::Initiator, Phase::Offered, terms, ours, now)
    }

    /// Accepts an offer. Returns the sync and the digests of all groups for [`Message::Accept`], or no digests
    /// for a deep sync. The caller draws `ours` before the call.
    pub(super) fn accept(
        number: u32,
        terms: Terms,
        ours: Summary,
        theirs: PeerSummary,
        store: &Store,
        now: Instant,
    ) -> (Self, Vec<u8>) {
        let mut sync = Sync::new(number, Role::Responder, Phase::Exchanging, terms, ours, now);
        sync.learn(theirs);
        // Reading every value takes long, so a deep sync reads one group at a time.
        let groups = TreeNode::groups(store.ranges()).filter(|_| !terms.deep);
        let sums = pack_hashes(groups.map(|group| sync.digest(store, group).sum));
        (sync, sums)
    }

    fn new(number: u32, role: Role, phase: Phase, terms: Terms, ours: Summary, now: Instant) -> Self {
        Sync {
            number,
            role,
            phase,
            terms,
            cutoff: Time::default(),
            ours,
            theirs: Summary::default(),
            coverage: Vec::new(),
            limited: false,
            out: Outgoing::new(),
            frontier: Frontier::default(),
            uncovered: UncoveredCells::default(),
            started: now,
            round_trip: Duration::ZERO,
            retractions: Vec::new(),
            gave_up: BTreeSet::new(),
            failed: None,
            owed: 0,
            cells_in: 0,
            bytes_in: 0,
            retracted: 0,
        }
    }

    /// Records the peer's summary, before any digest is read.
    fn learn(&mut self, peer: PeerSummary) {
        let PeerSummary { summary, limited, coverage } = peer;
        self.cutoff = self.ours.cutoff(&summary);
        self.theirs = summary;
        self.limited = limited;
        coverage.iter().for_each(|coverage| self.out.coverage(coverage));
    }

    pub(super) fn number(&self) -> u32 {
        self.number
    }

    /// Whether it only looks for a difference.
    pub(super) fn is_probe(&self) -> bool {
        self.terms.probe
    }

    pub(super) fn is_deep(&self) -> bool {
        self.terms.deep
    }

    /// Whether this side waits for the answer to its offer.
    pub(super) fn is_offered(&self) -> bool {
        self.phase == Phase::Offered
    }

    /// The peer's summary at the start.
    pub(super) fn theirs(&self) -> &Summary {
        &self.theirs
    }

    /// This side's summary at the start.
    pub(super) fn ours(&self) -> &Summary {
        &self.ours
    }

    /// The coverage that the peer has sent, of incarnations that are not members.
    pub(super) fn coverage(&self) -> &[ClosedCoverage] {
        &self.coverage
    }

    /// The incarnations with a write that this side has given up and the peer holds.
    pub(super) fn gave_up(&self) -> &BTreeSet<Incarnation> {
        &self.gave_up
    }

    /// The stable time at which both sides omit what is dead.
    pub(super) fn cutoff(&self) -> Time {
        self.cutoff
    }

    /// The number of keys that were retracted at the peer.
    pub(super) fn retracted(&self) -> u64 {
        self.retracted
    }

    pub(super) fn progress(&self) -> Progress {
        Progress {
            ranges_differing: self.frontier.ranges.len() as u64 + self.frontier.expected(),
            ranges_found: self.frontier.found + self.frontier.expected(),
            cells_in: self.cells_in,
            cells_out: self.out.cells,
            bytes_in: self.bytes_in,
            bytes_out: self.out.bytes,
        }
    }

    /// The ranges that are known to differ still.
    pub(super) fn differing(&self) -> impl Iterator<Item = usize> {
        self.frontier.ranges.keys().copied()
    }

    /// When [`next`](Self::next) may return a message although nothing arrived.
    pub(super) fn wake_at(&self) -> Option<Instant> {
        self.frontier.recheck.as_ref().filter(|_| self.frontier.is_answered()).map(|(at, _)| *at)
    }

    /// Returns the message that grants the peer the credit that has become free since the last call.
    fn take_owed(&mut self) -> Option<Bytes> {
        let bytes = std::mem::take(&mut self.owed);
        (bytes > 0).then(|| codec::frame(&Message::Credit { sync: self.number, bytes }))
    }

    /// Returns the next message to send, if there is one now.
    pub(super) fn next(&mut self, store: &Store, now: Instant) -> Option<Bytes> {
        if self.phase == Phase::Offered || self.phase == Phase::Ended {
            return None;
        }
        if let Some(frame) = self.take_owed() {
            return Some(frame);
        }
        if self.role == Role::Initiator && self.phase == Phase::Exchanging {
            self.advance(store, now);
        }
        self.list_uncovered(store);
        let mut completed = Vec::new();
        let frame = self.out.next(self.number, store, self.cutoff, &mut completed);
        if self.role == Role::Initiator {
            completed.into_iter().for_each(|tree_node| self.on_exchanged(store, tree_node));
        }
        if frame.is_some() {
            return frame;
        }
        self.finish_if_complete()
    }

    fn finish_if_complete(&mut self) -> Option<Bytes> {
        if !self.out.is_empty() || !self.uncovered.is_complete() {
            return None;
        }
        match (self.role, self.phase) {
            (Role::Initiator, Phase::Exchanging) if self.frontier.is_complete() => {
                self.phase = Phase::Closing { sent: false };
                self.send_retractions();
                if self.out.is_empty() { self.finish_if_complete() } else { None }
            }
            (_, Phase::Closing { sent: false }) => {
                if let Some(failed) = &self.failed {
                    let reason = failed.to_string();
                    self.phase = Phase::Ended;
                    return Some(codec::frame(&Message::Abort { sync: self.number, reason: &reason }));
                }
                self.phase =
                    if self.role == Role::Initiator { Phase::Closing { sent: true } } else { Phase::Ended };
                Some(codec::frame(&Message::Done { sync: self.number }))
            }
            _ => None,
        }
    }

    /// Moves the retractions that were held back into the queue.
    fn send_retractions(&mut self) {
        for (key, retraction) in self.retractions.drain(..) {
            self.retracted += 1;
            self.out.retract(key, retraction);
        }
    }

    /// How the sync ended; `None` while it is under way.
    pub(super) fn outcome(&self) -> Option<Result<(), SyncFailed>> {
        (self.phase == Phase::Ended).then(|| self.failed.clone().map_or(Ok(()), Err))
    }

    fn digest(&self, store: &Store, tree_node: TreeNode) -> Digest {
        store.digest(tree_node, self.cutoff, self.terms.deep)
    }
}
