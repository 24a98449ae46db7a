//! Periodic tasks beside the links: the stable time, lapses, and the slow walks over all ranges.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use tokio::time::{MissedTickBehavior, interval};

use super::Shared;
use super::local::LocalEvent;
use super::members::Verdict;
use super::tombstones::TombstoneLimit;
use crate::cluster::EventKind;
use crate::store::Batch;
use crate::time_slice::TimeSlice;

/// How often the stable time is computed.
const TICK: Duration = Duration::from_secs(1);

/// How often a slice of the ranges is swept.
const SWEEP_EVERY: Duration = Duration::from_millis(100);

/// A node begins to evict at a random one of this many turns of the sweep, so within a second.
const EVICTION_STAGGER: u64 = 10;

/// The number of slices in which all ranges are swept, so within a second.
const SWEEP_SLICES: usize = 10;

/// The number of slices in which all ranges are scrubbed, so within a hundred seconds.
const SCRUB_SLICES: usize = 1000;

/// Raises the stable time, lets overdue members lapse, and acts on changes of this node's own place.
pub(super) async fn tick(shared: Arc<Shared>) {
    let mut ticks = interval(TICK);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        for news in shared.replica.local.tick(shared.env.wall_clock()) {
            match news {
                LocalEvent::Lapsed(member) => {
                    tracing::warn!(
                        peer = member,
                        state = "lapsed",
                        "not heard for too long: tombstones are no longer kept for it"
                    );
                    shared.announcer.announce(EventKind::Lapsed, &member, "not heard for too long");
                }
                LocalEvent::Verdict(Verdict::Superseded) => {
                    tracing::error!("another node with the same --name has taken this one's place: stopping");
                    shared.superseded.cancel();
                }
            }
        }
    }
}

/// Drops the oldest tombstones of a node that is alone, once they exceed their limit.
pub(super) async fn limit_tombstones(shared: Arc<Shared>) {
    let mut ticks = interval(TICK);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let count = || shared.replica.local.counts.dropped_tombstones.load(Ordering::Relaxed);
    loop {
        ticks.tick().await;
        let Some(mut limit) = TombstoneLimit::begin(&shared.replica.local) else { continue };
        let before = count();
        while !limit.step(&shared.replica.local) {
            tokio::task::yield_now().await;
        }
        let dropped = count() - before;
        if dropped > 0 {
            tracing::warn!(dropped, "more tombstones than their limit on a node that is alone");
        }
    }
}

/// Evicts keys of a node that its peers have grown beyond its mark.
///
/// Nodes that exceed theirs at the same time begin at random times. So the evictions of the first reach the others before
/// they evict as much again.
pub(super) async fn evict(shared: Arc<Shared>) {
    let store = &shared.replica.local.store;
    if !store.evicts() {
        return;
    }
    let mut ticks = interval(SWEEP_EVERY);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut left = None;
    loop {
        ticks.tick().await;
        // It also sets the clock by which a program's reads of its embedded node are recorded.
        let mut batch = Batch::default();
        store.begin(&mut batch, shared.env.wall_clock());
        if !store.exceeds_mark() {
            left = None;
            continue;
        }
        let left = left.get_or_insert_with(|| shared.env.random() % EVICTION_STAGGER);
        if *left > 0 {
            *left -= 1;
            continue;
        }
        let mut slice = TimeSlice::begin();
        while store.evict_excess(&mut batch) {
            if slice.is_over() {
                store.publish(&mut batch);
                slice.give_way().await;
            }
        }
        store.publish(&mut batch);
    }
}

/// Walks all ranges once a second where anything is due: frees the values of expired keys, purges what is dead
/// at the stable time, and frees changes that no watcher reads any more. Also recomputes the sums of every
/// range from its cells, slowly.
pub(super) async fn sweep(shared: Arc<Shared>) {
    let store = &shared.replica.local.store;
    let count = store.range_count();
    let mut ticks = interval(SWEEP_EVERY);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let (mut swept, mut scrubbed) = ((0..count).cycle(), (0..count).cycle());
    loop {
        ticks.tick().await;
        let now = store.now(shared.env.wall_clock());
        let mut slice = TimeSlice::begin();
        for range in swept.by_ref().take(count.div_ceil(SWEEP_SLICES)) {
            store.sweep(range, now);
            shared.replica.local.purge(range);
            slice.give_way().await;
        }
        while store.free_changes() {
            slice.give_way().await;
        }
        for range in scrubbed.by_ref().take(count.div_ceil(SCRUB_SLICES)) {
            if !store.scrub(range) {
                shared.replica.local.counts.scrub_errors.fetch_add(1, Ordering::Relaxed);
                tracing::error!(range, "the sums of a range did not match its cells: put right");
            }
            slice.give_way().await;
        }
    }
}
