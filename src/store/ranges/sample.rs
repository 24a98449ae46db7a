//! Random cells, and changes of them, for whoever may hold locks of other ranges.
//!
//! Eviction runs under the lock of the key that is written. So nothing here waits for a lock: a range that is locked is
//! passed by.

use std::sync::atomic::Ordering;

use super::{Ranges, Sums};
use crate::store::cell::Cell;
use crate::store::raw;

/// How a sample ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::store) enum Sampled {
    /// It has as many cells as it was to have, or has looked at as many as it may.
    Enough,
    /// All other cells were looked at, except those of locked ranges.
    AllButLocked,
    /// All cells were looked at.
    All,
}

impl Ranges {
    /// Calls `visit` with the hash and the cell of keys that are next to each other at a random place, until it has
    /// returned `true` for `wanted` of them or was called `most` times.
    ///
    /// Neighbours are as good as any other keys, since their hashes put them there. With `expiring_only` it passes by
    /// ranges where no live cell has a deadline.
    pub(in crate::store) fn sample(
        &self,
        random: u64,
        expiring_only: bool,
        (wanted, most): (usize, usize),
        mut visit: impl FnMut(u64, &Cell) -> bool,
    ) -> Sampled {
        #[expect(clippy::cast_possible_truncation, reason = "any part of it is random")]
        let (first_range, first_slot) = (random as usize, (random >> 32) as usize);
        let (mut found, mut looked, mut end) = (0, 0, Sampled::All);
        for range in (0..self.len()).map(|n| first_range.wrapping_add(n) % self.len()) {
            if !may_have(&self.sums[range], expiring_only) {
                continue;
            }
            let Some(table) = self.map.shards()[range].try_read() else {
                end = Sampled::AllButLocked;
                continue;
            };
            for (cell, _) in raw::entries_from(&table, first_slot) {
                looked += 1;
                found += usize::from(visit(self.seed.key_hash(cell.key()), cell));
                if found == wanted || looked == most {
                    return Sampled::Enough;
                }
            }
        }
        end
    }

    /// As [`update`](Self::update), for an eviction, unless the range is locked.
    pub(in crate::store) fn try_evict(
        &self,
        key: &[u8],
        decide: impl FnOnce(Option<&Cell>) -> (Option<Cell>, bool),
    ) -> bool {
        let hash = self.seed.key_hash(key);
        let range = self.count.range_of(hash);
        let Some(mut table) = self.map.shards()[range].try_write() else { return false };
        let (replaced, is_evicted) = self.update_in::<true, _>(&mut table, range, hash, key, decide);
        drop(table);
        drop(replaced);
        is_evicted
    }
}

fn may_have(sums: &Sums, expiring_only: bool) -> bool {
    let count = if expiring_only { &sums.expiring_cells } else { &sums.live_cells };
    count.load(Ordering::Relaxed) > 0
}
