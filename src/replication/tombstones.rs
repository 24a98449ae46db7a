//! Limits the tombstones of a node that is alone.
//!
//! The stable time of such a node waits for no other member. It keeps its tombstones for nodes that join later, but at
//! most `--tombstone-limit` of them, and no more than fit the memory reserved for them. Beyond that the oldest are dropped: an
//! older write of another node can then undo those deletes.
//!
//! ```text
//!   over the limit ──► sample the times of death, range by range ──► raise the stable time ──► purge, range by range
//! ```
//!
//! Pure, and in steps of about half a millisecond: the caller lets other tasks run between two steps.

use std::sync::atomic::Ordering;

use super::local::Local;
use crate::model::{Incarnation, Time};
use crate::time_slice::TimeSlice;

/// How many tombstones are sampled to find the oldest. Keys are spread over the ranges by their hash, so the
/// first ranges are a fair sample: the share that is dropped is wrong by less than a hundredth of all, nine times
/// in ten.
const SAMPLE: usize = 8192;

/// A drop of the oldest tombstones, under way.
pub(super) struct TombstoneLimit {
    /// The incarnation of this node when it began.
    own: Incarnation,
    /// How many tombstones are to be dropped, and how many there are.
    surplus: u64,
    dead: u64,
    /// The next range to sample or to purge.
    range: usize,
    stage: Stage,
}

enum Stage {
    Sample(Vec<Time>),
    Purge,
}

impl TombstoneLimit {
    /// Begins if the node is alone and has too many tombstones.
    pub(super) fn begin(local: &Local) -> Option<TombstoneLimit> {
        let dead = local.store.totals().dead_cells;
        let beyond = dead
            .saturating_sub(local.config.tombstone_limit)
            .max(local.store.tombstones_beyond_reserve(dead));
        if beyond == 0 {
            return None;
        }
        let members = local.members.lock();
        let own = members.is_alone().then(|| members.incarnation())?;
        // A tenth more than needed, so that not every later delete starts a search for the oldest.
        let surplus = beyond + (dead - beyond) / 10;
        Some(TombstoneLimit { own, surplus, dead, range: 0, stage: Stage::Sample(Vec::new()) })
    }

    /// Does one step. Returns whether the drop has ended.
    pub(super) fn step(&mut self, local: &Local) -> bool {
        let (time, ranges) = (TimeSlice::begin(), local.store.range_count());
        while self.range < ranges {
            if time.is_over() {
                return false;
            }
            match &mut self.stage {
                Stage::Sample(deaths) if deaths.len() < SAMPLE => {
                    local.store.deaths(self.range, &mut |death| deaths.push(death));
                }
                Stage::Sample(_) => break,
                Stage::Purge => _ = local.purge(self.range),
            }
            self.range += 1;
        }
        let Stage::Sample(deaths) = &mut self.stage else { return true };
        let deaths = std::mem::take(deaths);
        let is_raised =
            self.newest_of_surplus(deaths).is_some_and(|until| self.raise_stable_time(local, until));
        (self.stage, self.range) = (Stage::Purge, 0);
        !is_raised
    }

    /// Returns the time of death up to which tombstones are dropped. It is estimated from a sample of tombstones: as large a
    /// share of the sample died earlier as is to be dropped of all.
    fn newest_of_surplus(&self, mut deaths: Vec<Time>) -> Option<Time> {
        let last = deaths.len().checked_sub(1)?;
        let share = u128::from(self.surplus) * deaths.len() as u128 / u128::from(self.dead.max(1));
        let index = usize::try_from(share).map_or(last, |index| index.min(last));
        Some(*deaths.select_nth_unstable(index).1)
    }

    /// Raises the stable time under the members' lock, unless the node has met another or has discarded its
    /// state since this began.
    fn raise_stable_time(&self, local: &Local, until: Time) -> bool {
        let members = local.members.lock();
        let may_raise = members.is_alone() && members.incarnation() == self.own;
        if may_raise {
            local.store.raise_stable_time(until);
            local.dropped_until.store(until.0, Ordering::Relaxed);
        }
        may_raise
    }
}

impl Local {
    /// Removes the cells of a range that are dead at the stable time, and returns how many. Counts those that
    /// are dropped for want of room.
    pub(super) fn purge(&self, range: usize) -> usize {
        let purged = self.store.purge(range);
        // If the members have agreed on a stable time, that is another one.
        if purged > 0 && self.dropped_until.load(Ordering::Relaxed) == self.store.stable_time().0 {
            self.counts.dropped_tombstones.fetch_add(purged as u64, Ordering::Relaxed);
        }
        purged
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::time::Duration;

    use crate::model::Time;

    use super::*;
    use crate::model::timestamp::incarnation;
    use crate::model::{HashSeed, RangeCount};
    use crate::replication::local::HealingConfig;
    use crate::replication::members::MembershipConfig;
    use crate::store::{Batch, Lengths, Store, StoreConfig, Write};

    const LIMIT: u64 = 10_000;

    /// Creates a node that is alone and whose clients have deleted so many keys, one at each moment.
    fn alone(deletes: u64) -> Local {
        let own = incarnation(1).unwrap();
        let store = Store::new(StoreConfig {
            seed: HashSeed::of_cluster("test"),
            ranges: RangeCount::power_of_two(8),
            incarnation: own,
            max_memory: None,
            eviction: crate::store::EvictionPolicy::NoEviction,
            lengths: Lengths::UNLIMITED,
            feed_limit: 1 << 20,
        });
        for n in 1..=deletes {
            let (mut batch, key) = (Batch::default(), n.to_le_bytes());
            store.begin(&mut batch, Time(n << 10));
            store.write(&mut batch, &key, |_| (Write::Set { value: b"v", deadline: None }, ())).unwrap();
            store.write(&mut batch, &key, |_| (Write::Delete, ())).unwrap();
        }
        let healing = HealingConfig {
            max_clock_skew: Duration::from_secs(1),
            forget_after: None,
            tombstone_limit: LIMIT,
        };
        let membership = MembershipConfig { name: "a".into(), incarnation: own, forget_after: None };
        Local::new(Arc::new(store), healing, membership, Time(1))
    }

    fn dead(local: &Local) -> u64 {
        local.store.totals().dead_cells
    }

    fn dropped(local: &Local) -> u64 {
        local.counts.dropped_tombstones.load(Ordering::Relaxed)
    }

    #[test]
    fn a_node_that_is_alone_drops_the_oldest_tombstones_from_a_bounded_sample_of_them() {
        let deletes = 4 * LIMIT;
        let local = alone(deletes);
        let mut limit = TombstoneLimit::begin(&local).unwrap();
        while matches!(limit.stage, Stage::Sample(_)) {
            if let Stage::Sample(deaths) = &limit.stage {
                assert!(deaths.len() < SAMPLE + 400, "{} are looked at, in whole ranges", deaths.len());
            }
            assert!(!limit.step(&local));
        }
        while !limit.step(&local) {}
        let left = dead(&local);
        assert!((LIMIT * 8 / 10..=LIMIT * 101 / 100).contains(&left), "{left} are left of {deletes}");
        assert_eq!(dropped(&local), deletes - left);
        // The oldest tombstones were dropped.
        let stable = local.store.stable_time();
        let mut oldest = stable;
        (0..local.store.range_count()).for_each(|range| {
            local.store.deaths(range, &mut |death| oldest = oldest.min(death));
        });
        assert_eq!(oldest, stable, "one as old as those that were dropped is left");
        assert!(TombstoneLimit::begin(&local).is_none());
    }

    #[test]
    fn what_the_sweep_purges_meanwhile_is_counted_as_dropped() {
        let local = alone(2 * LIMIT);
        let mut limit = TombstoneLimit::begin(&local).unwrap();
        while matches!(limit.stage, Stage::Sample(_)) {
            assert!(!limit.step(&local));
        }
        (0..100).for_each(|range| _ = local.purge(range));
        while !limit.step(&local) {}
        assert_eq!(dropped(&local), 2 * LIMIT - dead(&local));
    }

    #[test]
    fn a_node_that_meets_another_or_discards_its_state_meanwhile_drops_nothing() {
        let meet = |local: &Local| {
            local.members.lock().on_link("b", incarnation(2).unwrap(), 1, Time(1 << 40));
        };
        let discard = |local: &Local| {
            local.members.lock().discard(incarnation(3).unwrap(), Time(1 << 40));
        };
        for happens in [&meet as &dyn Fn(&Local), &discard] {
            let local = alone(2 * LIMIT);
            let mut limit = TombstoneLimit::begin(&local).unwrap();
            happens(&local);
            while !limit.step(&local) {}
            assert_eq!((dead(&local), dropped(&local)), (2 * LIMIT, 0));
        }
    }
}
