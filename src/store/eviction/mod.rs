//! Deletes keys to make room for others, if the node has a policy for that.
//!
//! ```text
//!   a client's write ──► fits below 95 %? ── yes ──────────────────────────────────────────► applied
//!                            │ no                                                              ▲
//!                            ▼                                                                 │ fits below 100 %?
//!        random cells ──► the best victim by the policy ──► a tombstone, as of DEL ──► feed ───┘
//!                  ▲                                                           │
//!                  └────────────── again, for at most 16 victims ──────────────┘
//! ```
//!
//! An eviction is a local write like any other, so nodes stay equal, and a peer receives it before the write that needed
//! the room. The node whose client grows the cells evicts as much as that takes. So all nodes together evict what clients
//! have added, and not that many times. A node that peers alone grow evicts from 97.5 % on, in the background.
//!
//! Victims are the best of a few random cells, as in Redis. That needs no order of the keys, only when or how often each
//! was accessed ([`Accesses`]).
//!
//! A client's write evicts while it holds the lock of its range, or those of its transaction: only there is known by how
//! much it grows the cells. So eviction never waits for a lock. It passes by ranges that are locked. What a range lock
//! costs others stays small, because one write evicts at most [`VICTIMS`] keys. A request that needs more room than that
//! makes it before it begins: see [`Store::evict_for`].

mod policy;

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

pub use policy::{EvictionPolicy, UnknownPolicy};
use xxhash_rust::xxh3::xxh3_64_with_seed;

use super::accesses::{Accesses, Kind};
use super::memory::{Growth, Memory};
use super::ranges::Sampled;
use super::{Batch, Cell, Keyspace, Store, Write};
use crate::model::{Incarnation, Time};

/// Most keys that one write evicts: some tens of microseconds.
const VICTIMS: usize = 16;

/// How many cells a victim is chosen from. With ten the choice is close to exact LRU, as Redis found too.
const SAMPLES: usize = 10;

/// Most cells that the search for one victim looks at: about 100 microseconds. It matters only to `volatile-ttl` if few
/// keys have a deadline.
const LOOKS: usize = 1024;

/// How long a search that found nothing is not repeated, as a [`Time`]: 100 ms. It visits all ranges.
const REST: u64 = (1 << 32) / 10;

/// The state of a store's eviction.
pub(super) struct Eviction {
    policy: EvictionPolicy,
    /// The seed and the number of random numbers drawn.
    seed: u64,
    draws: AtomicU64,
    /// How many keys this node has evicted.
    evicted: AtomicU64,
    /// Nothing is searched before this time: there was nothing to evict.
    rests_until: AtomicU64,
}

impl Eviction {
    #[expect(clippy::cast_possible_truncation, reason = "any part of an incarnation is random")]
    pub(super) fn new(policy: EvictionPolicy, incarnation: Incarnation) -> Eviction {
        Eviction {
            policy,
            seed: u128::from_le_bytes(incarnation.to_le_bytes()) as u64,
            draws: AtomicU64::new(0),
            evicted: AtomicU64::new(0),
            rests_until: AtomicU64::new(0),
        }
    }

    /// What the policy needs to know of the keys, if it needs anything.
    pub(super) fn accesses(policy: EvictionPolicy, max_memory: Option<u64>) -> Option<Accesses> {
        let kind = match policy {
            EvictionPolicy::AllKeysLru => Kind::Recency,
            EvictionPolicy::AllKeysLfu => Kind::Frequency,
            EvictionPolicy::NoEviction | EvictionPolicy::VolatileTtl => return None,
        };
        Some(Accesses::new(kind, max_memory?))
    }

    fn draw(&self) -> u64 {
        xxh3_64_with_seed(&self.draws.fetch_add(1, Relaxed).to_le_bytes(), self.seed)
    }
}

impl Store {
    /// Whether a client's write of the batch may grow the cells by `growth`; evicts keys if it needs to.
    #[inline(always)]
    pub(super) fn admit(&self, batch: &mut Batch, growth: Growth) -> bool {
        self.limits.is_below_mark(self.ranges.memory(), growth) || self.make_room(batch, growth)
    }

    #[cold]
    #[inline(never)]
    fn make_room(&self, batch: &mut Batch, growth: Growth) -> bool {
        let memory = self.ranges.memory();
        if self.eviction.policy.evicts() && self.limits.could_ever_fit(growth) {
            self.evict(batch, |memory| self.limits.is_below_mark(memory, growth));
        }
        let is_admitted = self.limits.admit_clients(memory, growth);
        if !is_admitted {
            batch.refused = growth.live.max(growth.total);
        }
        is_admitted
    }

    /// Evicts up to [`VICTIMS`] keys, until it `is_enough`; returns how many.
    fn evict(&self, batch: &mut Batch, is_enough: impl Fn(&Memory) -> bool) -> usize {
        let mut evicted = 0;
        // A victim may be locked or written meanwhile.
        for _ in 0..VICTIMS {
            if is_enough(self.ranges.memory()) || self.rests(batch.now) {
                break;
            }
            let Some(victim) = self.victim(batch.now) else { break };
            let is_evicted = self.ranges.try_evict(victim.key(), |cell| {
                let (next, outcome) =
                    self.decide(batch, victim.key(), cell, |live| (Write::Delete, live.is_some()));
                (next, outcome.unwrap_or(false))
            });
            evicted += usize::from(is_evicted);
        }
        self.eviction.evicted.fetch_add(evicted as u64, Relaxed);
        evicted
    }

    /// The best of some random cells.
    fn victim(&self, now: Time) -> Option<Cell> {
        let by_deadline = self.eviction.policy == EvictionPolicy::VolatileTtl;
        let accesses = self.ranges.accesses();
        let mut best: Option<(u64, Cell)> = None;
        let sampled =
            self.ranges.sample(self.eviction.draw(), by_deadline, (SAMPLES, LOOKS), |hash, cell| {
                let rank = if !cell.is_live(now) {
                    None
                } else if by_deadline {
                    cell.deadline_at(now).map(|deadline| u64::MAX - deadline.0)
                } else {
                    accesses.map(|accesses| accesses.rank(hash))
                };
                let Some(rank) = rank else { return false };
                if best.as_ref().is_none_or(|(best, _)| rank > *best) {
                    best = Some((rank, cell.clone()));
                }
                true
            });
        if best.is_none() && sampled == Sampled::All {
            self.eviction.rests_until.store(now.0.saturating_add(REST), Relaxed);
        }
        best.map(|(_, cell)| cell)
    }

    /// Whether nothing could be evicted a moment before `now`.
    fn rests(&self, now: Time) -> bool {
        now.0 < self.eviction.rests_until.load(Relaxed)
    }

    /// Whether the policy deletes keys.
    pub(crate) fn evicts(&self) -> bool {
        self.eviction.policy.evicts()
    }

    /// Whether there may be a key to evict.
    pub(super) fn may_evict(&self) -> bool {
        self.evicts() && !self.rests(self.now(Time::default()))
    }

    /// The policy.
    pub(crate) fn eviction_policy(&self) -> EvictionPolicy {
        self.eviction.policy
    }

    /// Whether writes that grow the cells by `bytes` need more room than there is, and eviction may make it.
    pub(crate) fn needs_eviction(&self, bytes: u64) -> bool {
        let growth = Growth::of_new(bytes);
        self.evicts()
            && self.limits.could_ever_fit(growth)
            && !self.limits.admit_clients(self.ranges.memory(), growth)
    }

    /// Evicts some keys if clients' writes that grow the cells by `bytes` would be refused now; returns whether to call
    /// it again, because they still would. The caller gives way to others between the calls.
    pub(crate) fn evict_for(&self, batch: &mut Batch, bytes: u64) -> bool {
        self.needs_eviction(bytes)
            && self.evict(batch, |memory| self.limits.admit_clients(memory, Growth::of_new(bytes))) > 0
    }

    /// Whether a write of the batch that was refused for lack of room might be accepted after evictions.
    pub(crate) fn can_make_room(&self, batch: &Batch) -> bool {
        self.may_evict() && self.limits.could_ever_fit(Growth::of_new(batch.refused))
    }

    /// Whether the cells have grown so far beyond the mark that the node evicts without a client's write.
    pub(crate) fn exceeds_mark(&self) -> bool {
        self.evicts() && !self.limits.is_below_background_mark(self.ranges.memory())
    }

    /// Evicts some keys if the node [has to](Self::exceeds_mark); returns whether to call it again.
    pub(crate) fn evict_excess(&self, batch: &mut Batch) -> bool {
        self.exceeds_mark() && self.evict(batch, |memory| self.limits.is_below_background_mark(memory)) > 0
    }

    /// How many keys this node has evicted.
    pub fn evicted_keys(&self) -> u64 {
        self.eviction.evicted.load(Relaxed)
    }

    /// The bytes that the policy takes to know when or how often keys were accessed. `--max-memory` does not count them.
    pub(crate) fn accesses_bytes(&self) -> u64 {
        self.ranges.accesses().map_or(0, Accesses::bytes)
    }
}

/// What LRU and LFU know of a key.
impl Keyspace<'_> {
    /// The time since the last access of a key; `None` if the policy is not LRU.
    pub(crate) fn idle(&self, key: &[u8]) -> Option<Duration> {
        let hash = self.store().ranges.seed().key_hash(&self.stored(key));
        self.store().ranges.accesses()?.idle(hash)
    }

    /// The LFU counter of a key, 0 to 255; `None` if the policy is not LFU.
    pub(crate) fn frequency(&self, key: &[u8]) -> Option<u32> {
        let hash = self.store().ranges.seed().key_hash(&self.stored(key));
        self.store().ranges.accesses()?.frequency(hash)
    }
}

#[cfg(test)]
mod tests;
