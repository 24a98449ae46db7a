//! What the links of one node share: its cells, its view of the cluster, and the permits to exchange.
//!
//! No I/O and no clock: the node drives it from its tasks, a simulation from a scheduler.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use tracing_mutex::parkinglot::Mutex;

use super::hello::SKEW_MULTIPLE;
use super::members::{Membership, MembershipConfig, Summary, Verdict};
use super::peers::MAX_PEERS;
use super::sync::ListLimit;
use super::write_acks::WriteAcks;
use crate::ablation::{Ablation, ablated};
use crate::cluster::LostCell;
use crate::model::{Incarnation, Time, timestamp};
use crate::store::{Origin, Retracted, Store};

/// How many lost cells are kept for `SAPWOOD LOST`; the oldest make room. `--lost-file` keeps all of them.
const MAX_LOST: usize = 10_000;

/// The longest value that is kept of a lost cell, in bytes.
const MAX_LOST_VALUE: usize = 64 << 10;

/// The most bytes of lost values that are kept.
const MAX_LOST_BYTES: usize = 16 << 20;

/// How a node heals.
#[derive(Clone, Copy, Debug)]
pub(crate) struct HealingConfig {
    pub(crate) max_clock_skew: Duration,
    /// How long a member may be away before the stable time does not wait for it; `None` for ever.
    pub(crate) forget_after: Option<Duration>,
    /// Beyond so many tombstones members that are away are not waited for.
    pub(crate) tombstone_limit: u64,
}

/// The state that all links of a node work on.
pub(super) struct Local {
    pub(super) store: Arc<Store>,
    pub(super) members: Mutex<Membership>,
    pub(super) config: HealingConfig,
    pub(super) list_limit: ListLimit,
    pub(super) permits: Arc<SyncPermits>,
    pub(super) lost: Mutex<Lost>,
    pub(super) counts: Counts,
    pub(super) write_acks: Arc<WriteAcks>,
    /// How many links have had to refuse data for want of memory, and have not got it since.
    pub(super) refusing: AtomicUsize,
    /// Whether some peer lacks a link to another, so that pushes are passed on.
    pub(super) relays: AtomicBool,
    /// Whether tombstones wait for the stable time: syncs then follow each other faster.
    pub(super) has_dead: AtomicBool,
    /// Up to when each peer has every write of this node's clients, as of the end of its last link.
    handed_over: Mutex<BTreeMap<Incarnation, Time>>,
    /// The stable time, if it was raised to make room for tombstones rather than by the members.
    pub(super) dropped_until: AtomicU64,
}

/// What has happened since the start.
#[derive(Debug, Default)]
pub(super) struct Counts {
    /// Removed keys that peers were told to drop, and that this node was told to drop.
    pub(super) retractions: AtomicU64,
    /// Syncs that finished, and those that were given up.
    pub(super) syncs: AtomicU64,
    pub(super) failed_syncs: AtomicU64,
    /// Frames of peers whose checksum was wrong.
    pub(super) damaged_frames: AtomicU64,
    pub(super) late: AtomicU64,
    pub(super) lost: AtomicU64,
    pub(super) dropped_tombstones: AtomicU64,
    pub(super) scrub_errors: AtomicU64,
}

/// News of a node's own state, for its log and its next steps.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum News {
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
            permits: Arc::default(),
            lost: Mutex::default(),
            counts: Counts::default(),
            write_acks: Arc::default(),
            refusing: AtomicUsize::new(0),
            relays: AtomicBool::new(false),
            has_dead: AtomicBool::new(false),
            handed_over: Mutex::default(),
            dropped_until: AtomicU64::new(0),
        }
    }

    /// The latest time that a received timestamp may have.
    pub(super) fn max_accepted(&self, wall: Time) -> Time {
        timestamp::later(wall, self.config.max_clock_skew * SKEW_MULTIPLE)
    }

    /// What this node says at the start of a sync.
    pub(super) fn summary(&self, wall: Time) -> Summary {
        // The clock is read before any digest is: what was written up to here is in them.
        let now = self.store.now(wall);
        self.members.lock().full_summary(self.store.stable_time(), now)
    }

    /// Every write of this node's clients up to `time` has reached `peer`, whose link ends.
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

    /// Up to when `peer` had every write of this node's clients when its last link ended.
    pub(super) fn handed_over(&self, peer: Incarnation) -> Time {
        self.handed_over.lock().get(&peer).copied().unwrap_or_default()
    }

    /// Once a second: raises the stable time as far as the members' reports allow, and lets those lapse that are overdue.
    pub(super) fn tick(&self, wall: Time) -> Vec<News> {
        let now = self.store.now(wall);
        let dead = self.store.totals().dead_cells;
        self.has_dead.store(dead > 0, Ordering::Relaxed);
        let mut members = self.members.lock();
        if ablated(Ablation::PurgeByTime) {
            self.store.raise_stable_time(uhlc::NTP64(now.0.saturating_sub(30 << 32)));
        } else if let Some(stable) = members.advance(now) {
            self.store.raise_stable_time(stable);
        }
        let over_limit = dead > self.config.tombstone_limit || !self.store.has_tombstone_room();
        let lapsed = members.lapse_overdue(over_limit, now);
        let verdict = members.verdict(now);
        self.relays.store(members.must_relay(now), Ordering::Relaxed);
        drop(members);
        lapsed.into_iter().map(News::Lapsed).chain(verdict.map(News::Verdict)).collect()
    }

    /// Keeps what a peer's retraction has given up here: a value, or the amount that was counted. The peer has had every
    /// write of this node's clients up to `handed_over`.
    pub(super) fn give_up(&self, retracted: &Retracted, peer: &str, handed_over: Time) -> Option<LostCell> {
        self.counts.retractions.fetch_add(1, Ordering::Relaxed);
        let cell = &retracted.cell;
        let own = self.store.origins().own();
        // What the peer has had was removed there, and not given up.
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
        let lost = LostCell {
            key: cell.key().to_vec(),
            value: (value.len() <= MAX_LOST_VALUE).then(|| value.to_vec()),
            value_bytes: value.len(),
            version: uhlc::Timestamp::new(time, self.store.incarnation(origin)),
            deadline: cell.deadline(),
            peer: peer.to_owned(),
        };
        self.lost.lock().add(lost.clone());
        Some(lost)
    }
}

/// The cells that were given up last.
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

/// Lets one exchange go at a time, so that what was just taken from one peer need not come again from the next.
///
/// A node offers a sync while nothing is under way. While its offer is out it takes another's only from a larger
/// incarnation, and an answer to its own then waits until that exchange is over. So whoever keeps an answer waiting
/// is in an exchange with a larger incarnation: of nodes that wait for each other one is the largest, and goes on.
/// If an offer barred acceptance, three nodes that offer to each other in a circle would wait for ever.
///
/// A permit is for an exchange that moves: a session gives up that of one that stands still, within seconds.
#[derive(Debug, Default)]
pub(super) struct SyncPermits {
    offering: AtomicUsize,
    exchanging: AtomicUsize,
}

/// A permit to offer or to exchange; ends when dropped.
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

    /// A permit to exchange: with `alone`, only if nobody has one.
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
