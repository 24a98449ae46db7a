//! Discards the whole store: at once for readers and peers, a part at a time for the allocator.

use std::iter::Flatten;
use std::vec::IntoIter;

use super::Store;
use super::origins::TooManyOrigins;
use super::ranges::Table;
use crate::model::Incarnation;

/// The number of cells that [`Store::free`] frees at a time: some microseconds of work.
const PART: usize = 64;

/// The cells of a [discarded](Store::discard) store. They are no longer read, but still take memory.
#[must_use = "dropping it frees all cells in one go, and leaves them counted as memory"]
pub(crate) struct Discarded {
    cells: Flatten<IntoIter<Table>>,
}

impl Store {
    /// Discards every cell, the summary vector and the stable time, and starts a new incarnation, as an operator
    /// demands.
    ///
    /// The caller [frees](Self::free) the cells. The call takes the time to lock each range once, however many cells
    /// there are. Other threads go on meanwhile, so the order matters:
    ///
    /// 1. The incarnation changes and the summary vector is cleared *before* the first range is emptied. From then on
    ///    no dot of the discarded cells is covered, so a sync that is still running answers none of them with a
    ///    retraction. A sync that completes claims nothing, because its session has the old incarnation.
    /// 2. Each range is emptied under its lock, together with its sums. A client's write or a peer's cell that reaches
    ///    a range before that is discarded with the rest. One that comes later stays; a client's write then has the new
    ///    incarnation.
    /// 3. The logs of changes end after the last range was emptied. A watcher that resumes from an earlier change
    ///    begins again with a snapshot, so it never shows a key that was discarded.
    /// 4. The stable time is reset. It purges only cells that are held, so it may be last.
    ///
    /// The cells count as memory until they are freed, because they still take it. Until then a client's write may be
    /// refused for lack of room.
    ///
    /// # Errors
    /// [`TooManyOrigins`]; nothing was changed.
    pub(crate) fn discard(&self, incarnation: Incarnation) -> Result<Discarded, TooManyOrigins> {
        self.origins().renew(incarnation)?;
        let tables: Vec<Table> = (0..self.range_count()).map(|range| self.ranges.take(range)).collect();
        self.ranges.changes().discard();
        self.discard_stable_time();
        Ok(Discarded { cells: tables.into_iter().flatten() })
    }

    /// Frees a small part of the discarded cells; returns whether any were left.
    pub(crate) fn free(&self, discarded: &mut Discarded) -> bool {
        discarded.cells.by_ref().take(PART).map(|(cell, _)| self.ranges.free(&cell)).count() > 0
    }

    /// Frees a part of the ended logs of changes; returns whether there was any.
    pub(crate) fn free_changes(&self) -> bool {
        self.ranges.changes().free_ended()
    }

    /// Resets the stable time of a store that was [discarded](Self::discard).
    pub(crate) fn discard_stable_time(&self) {
        self.origins().reset_stable_time();
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::{assert_sums_are_exact, config, delete, get, set};
    use super::super::{Prefixes, Store};
    use super::*;
    use crate::model::timestamp::incarnation;

    fn held(store: &Store) -> u64 {
        let totals = store.totals();
        totals.live_cells + totals.dead_cells
    }

    #[test]
    fn a_discarded_store_is_empty_at_once_and_its_cells_are_freed_in_small_parts() {
        const CELLS: usize = 10_000;
        let store = Store::new(config(1));
        for n in 0..CELLS {
            set(&store, 10, &n.to_le_bytes(), b"v", None);
        }
        assert!(delete(&store, 11, &0usize.to_le_bytes()));
        let mut discarded = store.discard(incarnation(2).unwrap()).unwrap();
        assert_eq!((held(&store), get(&store, 12, &1usize.to_le_bytes())), (0, None));
        assert_sums_are_exact(&store);
        assert!(store.memory() > 0 && store.tombstone_memory() > 0, "the cells still take memory");
        // What is written meanwhile stays, and is counted.
        set(&store, 13, &1usize.to_le_bytes(), b"new", None);
        let (mut before, mut parts) = (store.memory(), 0);
        while store.free(&mut discarded) {
            let freed = before - store.memory();
            assert!(freed <= 100 * PART as u64, "{freed} bytes in one part");
            (before, parts) = (store.memory(), parts + 1);
        }
        assert_eq!(parts, CELLS.div_ceil(PART));
        assert_eq!((held(&store), store.tombstone_memory()), (1, 0));
        let fresh = Store::new(config(1));
        set(&fresh, 13, &1usize.to_le_bytes(), b"new", None);
        assert_eq!(store.memory(), fresh.memory());
    }

    #[test]
    fn the_changes_of_a_discarded_store_are_freed_in_parts() {
        let store = Store::new(config(1));
        let follower = store.follow(&Prefixes::all()).unwrap();
        (0..1000u64).for_each(|n| set(&store, 10 + n, &n.to_le_bytes(), b"v", None));
        let from = follower.last();
        drop(store.discard(incarnation(2).unwrap()).unwrap());
        assert!(follower.was_discarded_since(from));
        let parts = std::iter::repeat_with(|| store.free_changes()).take_while(|left| *left).count();
        assert!(parts > 5, "{parts} parts, where at most 16 changes are a segment");
    }
}
