//! One sync of anti-entropy between two nodes, either side of it. Pure: cells come from a store in memory,
//! messages come and go through the caller, and time is an argument.
//!
//! ```text
//!   initiator                                        responder
//!   Start { summary } ------------------------------->  may wait its turn
//!         <-------------------- Accept { summary, sums of 128 groups }
//!   groups that differ:
//!   Digests { group: 128 sums } -------------------->
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
//! The initiator keeps the frontier: a tree node is *open* from the moment it is known to differ until its cells have
//! gone both ways. The responder answers and remembers nothing but what it still has to send. An interrupted sync
//! leaves what was merged, and nothing else; the next one finds those tree nodes equal.
//!
//! Invariants:
//! * Both sides leave out what is dead at the same stable time, the [cutoff](Summary::cutoff) of their two summaries.
//! * Each side's summary was drawn before any of its digests was read. So when all tree nodes were equal or have been
//!   exchanged, each side holds all that the other's summary speaks of, whatever was written meanwhile.
//! * What a sync holds in memory is bounded by [`WINDOW`] open tree nodes and [`CREDIT`] bytes of cells.

mod frontier;
mod incoming;
mod outgoing;
mod sums;

use std::collections::BTreeSet;
use std::time::Duration;

use bytes::Bytes;
use tokio::time::Instant;

use super::cells::CellsError;
use super::codec::{self, CodecError};
use super::members::{ClosedCoverage, Summary};
use super::message::Message;
use crate::model::{Incarnation, Time, TreeNode};
use crate::store::{Digest, Retraction, Store};
use frontier::Frontier;
use outgoing::{Outgoing, pack_hashes};
use sums::Scale;

/// How many bytes of cells may be on their way to a side that has not merged them, beside one over-large frame.
pub(super) const CREDIT: u64 = 4 << 20;

/// How many tree nodes may be open at one time, counting for one whose sums were sent every child that the responder
/// may answer with: about 1 KiB each at most, in lists and references. Enough that a sync over a slow line is bound
/// by its bandwidth and not by its round trips.
const WINDOW: usize = 4096;

/// How many jobs a responder takes on; an honest initiator causes few more than its window.
const MAX_JOBS: usize = 2 * WINDOW;

/// How many control messages of a few KiB a responder lets wait; an honest initiator causes a tenth of this.
const MAX_CONTROL: usize = 8192;

/// The retraction limit: a peer that has incorporated all that this node has purged holds nothing that was removed here,
/// so more retractions than this against it are a bug or lost data, not deleted keys.
const RETRACTION_LIMIT: usize = 64;

/// Retractions are sent as they are found, in batches, where that limit does not apply.
const RETRACTION_BATCH: usize = 1024;

/// How many closed incarnations a peer may tell of in one sync: twice as many as are kept.
const MAX_COVERAGE: usize = 2 * 65_536;

/// In-flight writes are given two round trips and this long before a difference is believed.
const RECHECK: Duration = Duration::from_millis(200);

/// An answer that took longer than this has waited for its turn at the peer, and is no measure of the way.
const LONGEST_ROUND_TRIP: Duration = Duration::from_secs(1);

/// Cells that a range or a part of it may hold and still be listed rather than split further.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct ListLimit(pub(super) u64);

impl Default for ListLimit {
    /// Sixteen more sums take the room of eight entries; below 24 a list is cheaper, with its round trip saved.
    fn default() -> Self {
        ListLimit(24)
    }
}

/// What a sync may assume and do.
#[derive(Clone, Copy, Debug)]
pub(super) struct Terms {
    /// Compare values too.
    pub(super) deep: bool,
    /// Believe a difference only if it is still there after the time that writes take to arrive.
    pub(super) probe: bool,
    pub(super) list_limit: ListLimit,
}

/// What the peer has said at the start of a sync, and what follows from it.
pub(super) struct PeerSummary {
    pub(super) summary: Summary,
    /// Whether the [retraction limit](RETRACTION_LIMIT) applies to the peer.
    pub(super) limited: bool,
    /// What to tell it of incarnations that are not members.
    pub(super) coverage: Vec<ClosedCoverage>,
}

/// Why a sync ended without a result. What was merged stays merged.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum SyncFailed {
    /// Something was refused for want of memory.
    #[error("out of memory")]
    Full,
    /// The retraction limit was exceeded.
    #[error(
        "refusing to delete more than {RETRACTION_LIMIT} keys of a peer that has incorporated every delete: one of the \
         two nodes has lost data that it claims to hold"
    )]
    RetractionLimit,
    /// The other side gave up.
    #[error("the peer gave up: {0}")]
    Aborted(String),
}

/// The other side broke the rules of a sync.
#[derive(Debug, thiserror::Error)]
pub(super) enum SyncError {
    #[error("a message of a sync that does not fit its state: {0}")]
    OutOfTurn(&'static str),
    #[error("malformed message of a sync: {0}")]
    Malformed(&'static str),
    #[error("it opened more than {MAX_JOBS} exchanges at one time")]
    Crowded,
    #[error(transparent)]
    Codec(#[from] CodecError),
    #[error(transparent)]
    Cells(#[from] CellsError),
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
    /// Ranges that differ still: those that are known to, and an estimate for those that have not been compared.
    pub(super) ranges_differing: u64,
    /// Ranges that were found to differ, and the same estimate.
    pub(super) ranges_found: u64,
    pub(super) cells_in: u64,
    pub(super) cells_out: u64,
    pub(super) bytes_in: u64,
    pub(super) bytes_out: u64,
}

/// Either side of a sync under way.
pub(super) struct Sync {
    number: u32,
    role: Role,
    phase: Phase,
    terms: Terms,
    /// What is dead at this stable time is left out on both sides.
    cutoff: Time,
    ours: Summary,
    theirs: Summary,
    /// What the peer has said of incarnations that are not members.
    coverage: Vec<ClosedCoverage>,
    /// The peer has incorporated all that was purged here: the [retraction limit](RETRACTION_LIMIT) applies.
    limited: bool,
    out: Outgoing,
    frontier: Frontier,
    /// When the initiator offered it, and how long the answer took.
    started: Instant,
    round_trip: Duration,
    /// What the peer holds that was removed here, held back while the retraction limit applies.
    retractions: Vec<(Vec<u8>, Box<Retraction>)>,
    /// The incarnations of which this side has given up a write that the peer holds.
    gave_up: BTreeSet<Incarnation>,
    failed: Option<SyncFailed>,
    owed: u64,
    cells_in: u64,
    bytes_in: u64,
    retracted: u64,
}

impl Sync {
    /// Offers a sync; the caller sends [`Message::Start`] with the summary drawn for it.
    pub(super) fn offer(number: u32, terms: Terms, ours: Summary, now: Instant) -> Self {
        Sync::new(number, Role::Initiator, Phase::Offered, terms, ours, now)
    }

    /// Takes an offer; returns the sync and the digests of all groups, for [`Message::Accept`]: none for a deep
    /// sync. `ours` was drawn before the call.
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
        // Reading every value takes long: a deep sync does it group by group.
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

    /// Takes note of what the peer has said at the start, before any digest is read.
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

    /// Whether it is only to see whether anything differs.
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

    /// What the peer said at the start.
    pub(super) fn theirs(&self) -> &Summary {
        &self.theirs
    }

    /// What this side said at the start.
    pub(super) fn ours(&self) -> &Summary {
        &self.ours
    }

    /// What the peer has said of incarnations that are not members.
    pub(super) fn coverage(&self) -> &[ClosedCoverage] {
        &self.coverage
    }

    /// The incarnations of which this side has given up a write that the peer holds.
    pub(super) fn gave_up(&self) -> &BTreeSet<Incarnation> {
        &self.gave_up
    }

    /// The stable time at which both sides leave out what is dead.
    pub(super) fn cutoff(&self) -> Time {
        self.cutoff
    }

    /// How many keys the peer was told to drop.
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

    /// When [`next`](Self::next) may have something although nothing arrived.
    pub(super) fn wake_at(&self) -> Option<Instant> {
        self.frontier.recheck.as_ref().filter(|_| self.frontier.is_answered()).map(|(at, _)| *at)
    }

    /// What was granted back to the peer since the last call.
    fn take_owed(&mut self) -> Option<Bytes> {
        let bytes = std::mem::take(&mut self.owed);
        (bytes > 0).then(|| codec::frame(&Message::Credit { sync: self.number, bytes }))
    }

    /// The next message to send, if there is one now.
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
        let mut completed = Vec::new();
        let frame = self.out.next(self.number, store, self.cutoff, &mut completed);
        if self.role == Role::Initiator {
            completed.into_iter().for_each(|tree_node| self.close(store, tree_node));
        }
        if frame.is_some() {
            return frame;
        }
        self.finish_if_complete()
    }

    fn finish_if_complete(&mut self) -> Option<Bytes> {
        if !self.out.is_empty() {
            return None;
        }
        match (self.role, self.phase) {
            (Role::Initiator, Phase::Exchanging) if self.frontier.is_settled() => {
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

    /// Puts the retractions that were held back into the queue.
    fn send_retractions(&mut self) {
        for (key, retraction) in self.retractions.drain(..) {
            self.retracted += 1;
            self.out.retract(key, retraction);
        }
    }

    /// Whether the sync is over, and how. `None` while it is not.
    pub(super) fn outcome(&self) -> Option<Result<(), SyncFailed>> {
        (self.phase == Phase::Ended).then(|| self.failed.clone().map_or(Ok(()), Err))
    }

    fn scale(&self, store: &Store, tree_node: TreeNode) -> Scale {
        Scale::new(store.ranges(), tree_node, self.number)
    }

    fn digest(&self, store: &Store, tree_node: TreeNode) -> Digest {
        store.digest(tree_node, self.cutoff, self.terms.deep)
    }
}
