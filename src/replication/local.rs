//! The state that the links of one node share: its cells, its members, and its sync permits.
//!
//! No I/O and no clock: the tasks of the node drive it, or the scheduler of a simulation.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use tracing_mutex::parkinglot::Mutex;

use super::hello::{MAX_PEERS, max_accepted};
use super::members::{Membership, MembershipConfig, Summary, Verdict};
use super::sync::ListLimit;
use super::write_acks::WriteAcks;
use crate::ablation::{Ablation, ablated};
use crate::cluster::LostCell;
use crate::model::{Database, Incarnation, Time};
use crate::store::{Origin, Retracted, Store};

/// How many lost cells are kept for `SAPWOOD LOST`; the oldest are dropped first. `--lost-file` keeps all of
/// them.
const MAX_LOST: usize = 10_000;

/// The largest value in bytes that is kept of a lost cell.
const MAX_LOST_VALUE: usize = 64 << 10;

/// The most bytes of lost values that are kept in total.
const MAX_LOST_BYTES: usize = 16 << 20;

/// When members that are away are no longer waited for.
#[derive(Clone, Copy, Debug)]
pub(crate) struct HealingConfig {
    pub(crate) max_clock_skew: Duration,
    /// How long a member may be away before it lapses, so that the stable time no longer waits for it; `None`
    /// for ever.
    pub(crate) forget_after: Option<Duration>,
    /// With more tombstones than this, members that are away lapse early.
    pub(crate) tombstone_limit: u64,
}

/// The state that all links of a node share.
pub(super) struct Local {
    pub(super) store: Arc<Store>,
    pub(super) members: Mutex<Membership>,
    pub(super) config: HealingConfig,
    pub(super) list_limit: ListLimit,
    /// Whether syncs exchange uncovered cells first; only simulations do without.
    pub(super) lists_uncovered: bool,
    pub(super) permits: Arc<SyncPermits>,
    pub(super) lost: Mutex<Lost>,
    pub(super) counts: Counts,
    pub(super) write_acks: Arc<WriteAcks>,
    /// How many links have refused data for want of memory and have not received it since.
    pub(super) refusing: AtomicUsize,
    /// How many syncs that brought cells have finished. What was refused from one peer may have come from another.
    pub(super) deliveries: AtomicU64,
    /// Whether some peer lacks a link to another member, so that pushes are relayed.
    pub(super) relays: AtomicBool,
    /// Whether tombstones wait for the stable time: syncs are then more frequent.
    pub(super) has_dead: AtomicBool,
    /// For each peer, the time up to which it had every write of this node's clients when its last link ended.
    handed_over: Mutex<BTreeMap<Incarnation, Time>>,
    /// The stable time, if it was raised to make room for tombstones and not by the members' reports.
    pub(super) dropped_until: AtomicU64,
}

/// Counters of events since the start.
#[derive(Debug, Default)]
pub(super) struct Counts {
    /// Retractions that this node sent and received.
    pub(super) retractions: AtomicU64,
    /// Syncs that finished, and syncs that failed.
    pub(super) syncs: AtomicU64,
    pub(super) failed_syncs: AtomicU64,
    /// Received frames with a wrong checksum.
    pub(super) damaged_frames: AtomicU64,
    pub(super) late: AtomicU64,
    pub(super) lost: AtomicU64,
    pub(super) dropped_tombstones: AtomicU64,
    pub(super) scrub_errors: AtomicU64,
}

/// A change of this node's own state, for the log and for the driver.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum LocalEvent {
    Lapsed(String),
    Verdict(Verdict),
}

impl Local {
    pub(super) fn new(
        store: Arc<Store>,
        config: HealingConfig,
        membership: MembershipConfig,
        now: Time,
    ) -> Self {
        let members = Membership::new(membership, Arc::clone(store.origins()), now);
        Local {
            store,
            members: Mutex::new(members),
            config,
            list_limit: ListLimit::default(),
            lists_uncovered: true,
            permits: Arc::default(),
            lost: Mutex::default(),
            counts: Counts::default(),
            write_acks: Arc::default(),
            refusing: AtomicUsize::new(0),
            deliveries: AtomicU64::new(0),
            relays: AtomicBool::new(false),
            has_dead: AtomicBool::new(false),
            handed_over: Mutex::default(),
            dropped_until: AtomicU64::new(0),
        }
    }

    /// The largest time that is accepted in a received timestamp.
    pub(super) fn max_accepted(&self, wall: Time) -> Time {
        max_accepted(wall, self.config.max_clock_skew)
    }

    /// Returns the summary that this node sends at the start of a sync.
    pub(super) fn summary(&self, wall: Time) -> Summary {
        // The clock is read before any digest, so the digests include every write up to this time.
        let now = self.store.now(wall);
        self.members.lock().full_summary(self.store.stable_time(), now)
    }

    /// Records that every write of this node's clients up to `time` has reached `peer`, whose link ends.
    pub(super) fn hand_over(&self, peer: Incarnation, time: Time) {
        let mut handed_over = self.handed_over.lock();
        let known = handed_over.entry(peer).or_default();
        *known = time.max(*known);
        if handed_over.len() > 2 * MAX_PEERS
            && let Some(oldest) = handed_over.iter().min_by_key(|(_, time)| **time).map(|(&peer, _)| peer)
        {
            handed_over.remove(&oldest);
        }
    }

    /// The time up to which `peer` had every write of this node's clients when its last link ended.
    pub(super) fn handed_over(&self, peer: Incarnation) -> Time {
        self.handed_over.lock().get(&peer).copied().unwrap_or_default()
    }

    /// Raises the stable time as far as the members' reports allow and lets overdue members lapse. Called once
    /// a second.
    pub(super) fn tick(&self, wall: Time) -> Vec<LocalEvent> {
        let now = self.store.now(wall);
        let dead = self.store.totals().dead_cells;
        self.has_dead.store(dead > 0, Ordering::Relaxed);
        let mut members = self.members.lock();
        if ablated(Ablation::PurgeByTime) {
            self.store.raise_stable_time(Time(now.0.saturating_sub(30 << 32)));
        } else if let Some(stable) = members.advance(now) {
            self.store.raise_stable_time(stable);
        }
        let over_limit = dead > self.config.tombstone_limit || !self.store.has_tombstone_room();
        let lapsed = members.lapse_overdue(over_limit, now);
        let verdict = members.verdict(now);
        self.relays.store(members.must_relay(now), Ordering::Relaxed);
        drop(members);
        lapsed.into_iter().map(LocalEvent::Lapsed).chain(verdict.map(LocalEvent::Verdict)).collect()
    }

    /// Records the value or counted amount that a peer's retraction has removed here. The peer has had every
    /// write of this node's clients up to `handed_over`.
    pub(super) fn give_up(&self, retracted: &Retracted, peer: &str, handed_over: Time) -> Option<LostCell> {
        self.counts.retractions.fetch_add(1, Ordering::Relaxed);
        let cell = &retracted.cell;
        let own = self.store.origins().own();
        // A write that the peer has had was removed there on purpose: it is not lost.
        let is_unseen = |time: Time, origin: Origin| origin != own || time > handed_over;
        let slots = retracted.slots.iter().filter(|(owner, slot)| is_unseen(slot.last, *owner));
        let (amount, latest) = slots.fold((0, None), |(amount, latest), (owner, slot)| {
            (amount + slot.net(), latest.max(Some((slot.last, *owner))))
        });
        let digits = amount.to_string();
        let parts = cell.parts();
        let (value, (time, origin)) = match latest {
            _ if retracted.register && is_unseen(parts.time, parts.origin) => {
                (cell.value().unwrap_or_default(), (parts.time, parts.origin))
            }
            Some(latest) => (digits.as_bytes(), latest),
            None => return None,
        };
        self.counts.lost.fetch_add(1, Ordering::Relaxed);
        let of = Database::of(cell.key());
        let lost = LostCell {
            database: of.map(|(database, _)| database.number()),
            key: of.map_or(cell.key(), |(_, key)| key).to_vec(),
            value: (value.len() <= MAX_LOST_VALUE).then(|| value.to_vec()),
            value_bytes: value.len(),
            timestamp: crate::model::Timestamp::new(time, self.store.incarnation(origin)),
            deadline: cell.deadline(),
            peer: peer.to_owned(),
        };
        self.lost.lock().add(lost.clone());
        Some(lost)
    }
}

/// The cells that were given up most recently.
#[derive(Debug, Default)]
pub(super) struct Lost {
    cells: VecDeque<LostCell>,
    bytes: usize,
}

impl Lost {
    fn add(&mut self, cell: LostCell) {
        let size = |cell: &LostCell| cell.key.len() + cell.value.as_ref().map_or(0, Vec::len);
        self.bytes += size(&cell);
        self.cells.push_back(cell);
        while self.cells.len() > MAX_LOST || self.bytes > MAX_LOST_BYTES {
            let Some(oldest) = self.cells.pop_front() else { break };
            self.bytes -= size(&oldest);
        }
    }

    pub(super) fn to_vec(&self) -> Vec<LostCell> {
        self.cells.iter().cloned().collect()
    }
}

/// Limits exchanges to one at a time, so that cells received from one peer are not received again from the
/// next.
///
/// A node offers a sync while no exchange is under way. While its own offer is out, it accepts an offer only
/// from a larger incarnation, and the answer to its own offer then waits until that exchange ends. So a node
/// that keeps an answer waiting is in an exchange with a larger incarnation: among nodes that wait for each
/// other, the largest proceeds. If an offer prevented acceptance, three nodes that offer to each other in a
/// circle would wait for ever.
///
/// A session gives up its permit within seconds if its exchange stands still.
#[derive(Debug, Default)]
pub(super) struct SyncPermits {
    offering: AtomicUsize,
    exchanging: AtomicUsize,
}

/// A permit to offer or to exchange, released on drop.
#[derive(Debug)]
pub(super) struct SyncPermit {
    permits: Arc<SyncPermits>,
    exchanging: bool,
}

impl SyncPermits {
    pub(super) fn is_exchanging(&self) -> bool {
        self.exchanging.load(Ordering::Relaxed) > 0
    }

    pub(super) fn is_offering(&self) -> bool {
        self.offering.load(Ordering::Relaxed) > 0
    }

    pub(super) fn is_busy(&self) -> bool {
        self.is_exchanging() || self.is_offering()
    }

    pub(super) fn offer(self: &Arc<Self>) -> SyncPermit {
        self.offering.fetch_add(1, Ordering::Relaxed);
        SyncPermit { permits: Arc::clone(self), exchanging: false }
    }

    /// Returns a permit to exchange. With `alone`, fails if another one is held.
    pub(super) fn acquire(self: &Arc<Self>, alone: bool) -> Option<SyncPermit> {
        if alone {
            self.exchanging.compare_exchange(0, 1, Ordering::Relaxed, Ordering::Relaxed).ok()?;
        } else {
            self.exchanging.fetch_add(1, Ordering::Relaxed);
        }
        Some(SyncPermit { permits: Arc::clone(self), exchanging: true })
    }
}

impl Drop for SyncPermit {
    fn drop(&mut self) {
        let count = if self.exchanging { &self.permits.exchanging } else { &self.permits.offering };
        count.fetch_sub(1, Ordering::Relaxed);
    }
}
