//! Counts the memory of live and dead cells separately, and limits it. Counts the keys of each database too.
//!
//! ```text
//!                         0        M        1.25 M      2 M                        16 M
//!   live                  |--------|----------|
//!     a client's growth   ........|
//!     a peer's growth     ...................|
//!   live and dead         |--------|----------|-----------|----------------------------|
//!     a client's growth   ................................|
//!     a peer's growth     .............................................................|
//! ```
//!
//! M is `--max-memory`. A cell is live if it holds a value or counts ([`Cell::counts_as_live`]), dead otherwise: a tombstone,
//! an expired cell that was swept, a counter that was reset.
//!
//! With a policy that evicts, a client's growth beyond 0.95 M deletes keys first (see the module `eviction`).
//!
//! A node converges with its peers only if it accepts all their deletes: a sync that leaves one out fails, and
//! tombstones are purged only after syncs that succeed. So dead cells have a [reserve](Limits::with_tombstones) of
//! their own. If they shared one limit with the live ones, the tombstones of several full nodes would fill it for
//! ever.
//!
//! A tombstone takes its key and 54 bytes, at most 20 bytes more for a deadline and its timestamp, and 68 bytes for
//! each slot of a counter (36 or 68 bytes before the delete). So a deleted key is never larger than it was, except for
//! these 20 bytes, and a deleted counter is less than twice as large.

use std::sync::atomic::{AtomicU64, Ordering};

use super::cell::Cell;
use super::key_counts::AllKeyCounts;

/// The divisor of `--max-memory` that gives the bytes by which peers may grow the live cells beyond it.
///
/// So a node accepts what a peer's clients were allowed to write, even if it is a little fuller than the peer.
const CEILING_SHARE: u64 = 4;

/// How many times `--max-memory` live and dead cells may take before clients' writes that grow them are refused.
///
/// The second part is the reserve for dead cells: every key can be deleted and another written in its place before
/// anything is purged. The reserve fills only if as much is deleted within the 10 to 20 s that a purge takes. That is
/// likely only if `--max-memory`, and so the reserve, is small compared to the host's memory.
const WITH_TOMBSTONES: u64 = 2;

/// How many times `--max-memory` live and dead cells may take before a peer's cells that grow them are refused.
///
/// The clients of one member can fill [`WITH_TOMBSTONES`] times that. Eight members that did so in a partition, or
/// sixteen that were full of the smallest values, leave this much to each of them if they then delete everything. Only
/// a peer that is broken or hostile, or has a larger `--max-memory`, sends more.
const HARD_LIMIT: u64 = 16;

/// The divisor of `--max-memory` that gives the bytes below it from which on clients' writes evict. They stay free for
/// what peers send, and for writes that need more room than one of them may make.
const MARK_SHARE: u64 = 20;

/// The same for the background task. It lies between, so that the node whose client writes evicts, and not every node.
const BACKGROUND_SHARE: u64 = 40;

/// Bytes that all cells take, and the numbers of keys. Each cell is counted under the lock of its range.
#[derive(Debug, Default)]
pub(super) struct Memory {
    bytes: Bytes,
    keys: AllKeyCounts,
}

#[derive(Debug, Default)]
#[repr(align(16))] // Both lie in one cache line.
struct Bytes {
    live: AtomicU64,
    dead: AtomicU64,
}

impl Memory {
    pub(super) fn live(&self) -> u64 {
        self.bytes.live.load(Ordering::Relaxed)
    }

    pub(super) fn dead(&self) -> u64 {
        self.bytes.dead.load(Ordering::Relaxed)
    }

    /// The numbers of keys of each database but 0.
    pub(super) fn keys(&self) -> &AllKeyCounts {
        &self.keys
    }

    fn of(&self, cell: &Cell) -> &AtomicU64 {
        if cell.counts_as_live() { &self.bytes.live } else { &self.bytes.dead }
    }

    pub(super) fn add(&self, cell: &Cell) {
        self.of(cell).fetch_add(cell.memory(), Ordering::Relaxed);
        self.keys.replace(None, Some(cell));
    }

    pub(super) fn remove(&self, cell: &Cell) {
        self.of(cell).fetch_sub(cell.memory(), Ordering::Relaxed);
        self.keys.replace(Some(cell), None);
    }

    /// Adds once if both cells are of one kind, and not at all if they have one size; otherwise changes both counts,
    /// which are in the same cache line.
    pub(super) fn replace(&self, old: &Cell, new: &Cell) {
        self.keys.replace(Some(old), Some(new));
        let (from, to) = (self.of(old), self.of(new));
        if std::ptr::eq(from, to) {
            let growth = new.memory().wrapping_sub(old.memory());
            // All workers write this cache line, so one that need not, does not.
            if growth != 0 {
                to.fetch_add(growth, Ordering::Relaxed);
            }
        } else {
            from.fetch_sub(old.memory(), Ordering::Relaxed);
            to.fetch_add(new.memory(), Ordering::Relaxed);
        }
    }
}

/// Bytes by which the cells grow if one cell replaces another; 0 if they shrink.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Growth {
    /// Growth of the live cells.
    pub(super) live: u64,
    /// Growth of live and dead cells together.
    pub(super) total: u64,
}

impl Growth {
    pub(super) fn of(current: Option<&Cell>, next: &Cell) -> Growth {
        let (before, after) = (current.map_or(0, Cell::memory), next.memory());
        let live_before = current.filter(|cell| cell.counts_as_live()).map_or(0, Cell::memory);
        let live_after = if next.counts_as_live() { after } else { 0 };
        Growth { live: live_after.saturating_sub(live_before), total: after.saturating_sub(before) }
    }

    /// The growth by both.
    pub(super) fn plus(self, other: Growth) -> Growth {
        Growth { live: self.live.saturating_add(other.live), total: self.total.saturating_add(other.total) }
    }

    /// The growth by a new key of this size, or by one that replaces a tombstone.
    pub(super) fn of_new(bytes: u64) -> Growth {
        Growth { live: bytes, total: bytes }
    }
}

/// The limits of the cells' memory, in bytes. A change that does not grow the cells is never refused.
#[derive(Clone, Copy, Debug)]
pub(super) struct Limits {
    /// Most bytes of live cells, for clients: `--max-memory`.
    max_memory: u64,
    /// Most bytes of live cells, for peers.
    ceiling: u64,
    /// Most bytes of live and dead cells, for clients.
    with_tombstones: u64,
    /// Most bytes of live and dead cells, for peers.
    hard: u64,
    /// Bytes that dead cells may take before clients may be refused because of them.
    reserve: u64,
    /// Bytes of live cells beyond which a client's write evicts; `max_memory` without a policy that evicts.
    mark: u64,
    /// The same for the background task.
    background_mark: u64,
}

impl Limits {
    pub(super) fn new(max_memory: Option<u64>, evicts: bool) -> Limits {
        let max_memory = max_memory.unwrap_or(u64::MAX);
        let below = |share: u64| if evicts { max_memory - max_memory / share } else { max_memory };
        Limits {
            max_memory,
            ceiling: max_memory.saturating_add(max_memory / CEILING_SHARE),
            with_tombstones: max_memory.saturating_mul(WITH_TOMBSTONES),
            hard: max_memory.saturating_mul(HARD_LIMIT),
            reserve: max_memory.saturating_mul(WITH_TOMBSTONES - 1),
            mark: below(MARK_SHARE),
            background_mark: below(BACKGROUND_SHARE),
        }
    }

    /// Bytes that dead cells may take before clients may be refused because of them; `u64::MAX` for no limit.
    pub(super) fn reserve(&self) -> u64 {
        self.reserve
    }

    /// Whether a client may grow the cells by `growth`.
    pub(super) fn admit_clients(&self, memory: &Memory, growth: Growth) -> bool {
        self.fits_clients(memory, growth, self.max_memory)
    }

    /// Whether a client may grow the cells by `growth` and nothing needs to be evicted.
    #[inline]
    pub(super) fn is_below_mark(&self, memory: &Memory, growth: Growth) -> bool {
        self.fits_clients(memory, growth, self.mark)
    }

    /// Whether the live cells are so few that the background task need not evict.
    pub(super) fn is_below_background_mark(&self, memory: &Memory) -> bool {
        memory.live() <= self.background_mark
    }

    /// Whether a client could grow the cells by `growth` if there were no others.
    pub(super) fn could_ever_fit(&self, growth: Growth) -> bool {
        growth.live <= self.max_memory
    }

    #[inline]
    fn fits_clients(&self, memory: &Memory, growth: Growth, live: u64) -> bool {
        let fits = |used: u64, more, limit| more == 0 || used.saturating_add(more) <= limit;
        fits(memory.live(), growth.live, live)
            && fits(memory.live() + memory.dead(), growth.total, self.with_tombstones)
    }

    /// Whether a peer may grow the cells by `growth`.
    ///
    /// A cell that is `dead` as the peer sent it may grow a live one beyond the ceiling: it resets slots of a counter
    /// whose other slots stay active.
    pub(super) fn admit_peers(&self, memory: &Memory, growth: Growth, dead: bool) -> bool {
        let fits = |used: u64, more, limit| more == 0 || used.saturating_add(more) <= limit;
        (dead || fits(memory.live(), growth.live, self.ceiling))
            && fits(memory.live() + memory.dead(), growth.total, self.hard)
    }

    /// Bytes by which a peer may still grow the live cells.
    pub(super) fn room(&self, memory: &Memory) -> u64 {
        let (live, dead) = (memory.live(), memory.dead());
        self.ceiling.saturating_sub(live).min(self.hard.saturating_sub(live + dead))
    }

    /// The least room, in bytes, for which a node requests refused cells again if not all of them would fit.
    ///
    /// Each such sync sends all of them again. 80 such syncs fill an empty node.
    pub(super) fn worthwhile_room(&self) -> u64 {
        self.max_memory / 64
    }
}

/// Cells of a peer that were refused for lack of room.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Shortfall {
    /// Bytes of room that they need together. A key that was refused twice counts twice.
    pub(super) bytes: u64,
    /// Bytes of room that the smallest of them needs.
    pub(super) least: u64,
}

impl Shortfall {
    pub(crate) fn add(&mut self, bytes: u64) {
        self.least = if self.bytes == 0 { bytes } else { self.least.min(bytes) };
        self.bytes = self.bytes.saturating_add(bytes);
    }
}

/// How much of the refused cells there is room for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Room {
    None,
    /// A part that is worth a sync.
    Some,
    All,
}

#[cfg(test)]
mod tests {
    use crate::model::timestamp::ms;
    use crate::model::{Database, Deadline};
    use crate::random_cases::random_cases;
    use proptest::prelude::*;

    use super::super::tests::{at, config, delete, get, replicate, set};
    use super::super::*;
    use super::super::{Outcome, ReceivedBy};
    use super::*;

    const MAX_MEMORY: u64 = 10_000;

    fn limited(id: u128) -> Store {
        Store::new(StoreConfig { max_memory: Some(MAX_MEMORY), ..config(id) })
    }

    fn try_set(store: &Store, now: u64, key: &[u8], value: &[u8]) -> Result<(), WriteError> {
        let write = Write::Set { value, deadline: None };
        store.write(&mut at(store, now), key, |_| (write, ()))
    }

    /// Sets keys that begin with `prefix` until the store refuses; returns them.
    fn fill(store: &Store, now: u64, prefix: &str, value: &[u8]) -> Vec<Vec<u8>> {
        let keys = (0..).map(|n| format!("{prefix}{n}").into_bytes());
        keys.take_while(|key| try_set(store, now, key, value).is_ok()).collect()
    }

    /// The numbers of keys of database 0 to 5, from the cells.
    fn recounted_keys(store: &Store) -> Vec<KeyCounts> {
        let mut counts = vec![KeyCounts::default(); 6];
        for range in 0..store.range_count() {
            store.walk(range, |cell| {
                let (database, _) = Database::of(cell.key()).unwrap();
                let counts = &mut counts[usize::from(database.number())];
                counts.keys += u64::from(cell.counts_as_live());
                counts.expiring += u64::from(cell.counts_as_live() && cell.pending_deadline().is_some());
            });
        }
        counts
    }

    fn recounted(store: &Store) -> (u64, u64) {
        let (mut live, mut dead) = (0, 0);
        for range in 0..store.range_count() {
            store.walk(range, |cell| {
                *(if cell.counts_as_live() { &mut live } else { &mut dead }) += cell.memory();
            });
        }
        (live, dead)
    }

    #[derive(Clone, Debug)]
    enum Step {
        Set(usize, Option<u64>),
        Delete,
        Add,
        Expire(u64),
        Sweep,
        Purge,
        Replicate,
    }

    fn step() -> impl Strategy<Value = Step> {
        prop_oneof![
            (0..300usize, proptest::option::of(1..50u64)).prop_map(|(size, ttl)| Step::Set(size, ttl)),
            Just(Step::Delete),
            Just(Step::Add),
            (0..50u64).prop_map(Step::Expire),
            Just(Step::Sweep),
            Just(Step::Purge),
            Just(Step::Replicate),
        ]
    }

    proptest! {
        #![proptest_config(random_cases(200))]
        #[test]
        fn live_and_dead_memory_are_those_of_the_cells(
            steps in proptest::collection::vec((any::<bool>(), 0..6u8, step()), 0..80),
        ) {
            let stores = [Store::new(config(1)), Store::new(config(2))];
            let mut now = 1000;
            for (first, key, step) in steps {
                now += 10;
                let (store, other) = if first { (&stores[0], &stores[1]) } else { (&stores[1], &stores[0]) };
                // Of databases 0 to 5: as they are, escaped, or with their number.
                let database = Database::new(key);
                let key = &*database.stored(if now % 20 == 0 { b"k" } else { b"\xFF" });
                let mut batch = at(store, now);
                let mut write = |write| store.write(&mut batch, key, |_| (write, ())).unwrap();
                match step {
                    Step::Set(size, ttl) => {
                        let deadline = ttl.map(|ttl| Deadline(now + ttl));
                        write(Write::Set { value: &vec![0; size], deadline });
                    }
                    Step::Delete => write(Write::Delete),
                    Step::Add => write(Write::Add(1)),
                    Step::Expire(ttl) => write(Write::Deadline(Some(Deadline(now + ttl)))),
                    Step::Sweep => (0..store.range_count()).for_each(|range| {
                        store.sweep(range, ms(now));
                    }),
                    Step::Purge => {
                        store.raise_stable_time(ms(now - 30));
                        (0..store.range_count()).for_each(|range| {
                            store.purge(range);
                        });
                    }
                    Step::Replicate => replicate(store, other),
                }
                for store in &stores {
                    prop_assert_eq!((store.memory(), store.tombstone_memory()), recounted(store));
                    let counts: Vec<_> = (0..6).map(|n| store.key_counts(Database::new(n))).collect();
                    prop_assert_eq!(counts, recounted_keys(store));
                }
            }
            for store in &stores {
                let mut discarded = store.discard(crate::model::timestamp::incarnation(9).unwrap()).unwrap();
                while store.free(&mut discarded) {}
                prop_assert_eq!((store.memory(), store.tombstone_memory()), (0, 0));
                prop_assert_eq!(store.databases().count(), 0);
            }
        }

        #[test]
        fn a_deleted_key_takes_no_more_than_it_did_but_for_what_is_stated(
            key in proptest::collection::vec(any::<u8>(), 1..40),
            size in 0..200usize,
            ttl in proptest::option::of(10..50u64),
            counts in 0..4u64,
        ) {
            let store = Store::new(config(1));
            set(&store, 10, &key, &vec![b'1'; size.min(18)], ttl.map(|ttl| 10 + ttl));
            if size > 18 {
                set(&store, 10, &key, &vec![0; size], None);
            }
            for n in 0..counts {
                store.write(&mut at(&store, 11 + n), &key, |_| (Write::Add(1), ())).unwrap();
            }
            let before = store.memory();
            prop_assert!(delete(&store, 15, &key));
            prop_assert_eq!(store.memory(), 0);
            let slots = if counts > 0 { 32 } else { 0 };
            prop_assert!(store.tombstone_memory() <= before + slots);
        }
    }

    #[test]
    fn a_client_that_has_deleted_everything_can_fill_the_store_again() {
        let store = limited(1);
        let first = fill(&store, 1, "first", b"v");
        assert!(store.memory() > MAX_MEMORY * 9 / 10);
        assert!(first.iter().all(|key| delete(&store, 2, key)));
        assert_eq!(store.memory(), 0);
        let second = fill(&store, 3, "again", b"v");
        assert!(store.memory() > MAX_MEMORY * 9 / 10, "{} cells fit", second.len());
    }

    #[test]
    fn what_one_node_piles_up_is_bounded_and_deletes_work_at_the_bound() {
        let store = limited(1);
        for round in 0..20 {
            let keys = fill(&store, 10 * round + 1, &format!("{round}:"), b"v");
            assert!(store.memory() + store.tombstone_memory() <= 2 * MAX_MEMORY);
            assert!(keys.iter().all(|key| delete(&store, 10 * round + 2, key)));
        }
        assert!(try_set(&store, 300, b"more", b"v").is_err(), "the reserve is full");
        assert!(!store.has_tombstone_room());
        let (used, dead) = (store.tombstone_memory(), store.totals().dead_cells);
        let beyond = store.tombstones_beyond_reserve(dead);
        assert!(used - beyond * used / dead <= MAX_MEMORY && beyond < dead, "{beyond} of {dead}");
        assert!(store.tombstone_memory() <= 2 * MAX_MEMORY);
    }

    #[test]
    fn a_deadline_that_grows_a_counter_beyond_the_limit_is_refused() {
        let store = limited(1);
        store.write(&mut at(&store, 1), b"counter", |_| (Write::Add(1), ())).unwrap();
        fill(&store, 2, "k", b"");
        // The remaining room is too small for a key, but large enough for a deadline.
        let mut sizes = (0..100).rev();
        sizes.find(|&size| try_set(&store, 2, b"k0", &vec![0; size]).is_ok()).expect("as large as before");
        let before = store.memory();
        for deadline in [None, Some(Deadline(1_000_000))] {
            let written = store.write(&mut at(&store, 3), b"counter", |_| (Write::Deadline(deadline), ()));
            assert!(matches!(written, Err(WriteError::OutOfMemory)), "{deadline:?}");
        }
        assert_eq!(store.memory(), before);
        let past = Write::Deadline(Some(Deadline(2)));
        store.write(&mut at(&store, 4), b"counter", |_| (past, ())).expect("a delete is taken");
    }

    #[test]
    fn a_write_over_a_tombstone_or_of_a_smaller_value_is_judged_by_what_it_adds() {
        let store = limited(1);
        fill(&store, 1, "k", &[0; 100]);
        assert!(try_set(&store, 2, b"k0", &[0; 100]).is_ok(), "as large as before");
        assert!(try_set(&store, 3, b"k0", &[0; 9]).is_ok(), "smaller");
        assert!(try_set(&store, 4, b"k1", &[0; 500]).is_err(), "larger");
        assert!(delete(&store, 5, b"k1"));
        assert!(try_set(&store, 6, b"k1", &[0; 100]).is_ok(), "in place of its tombstone");
    }

    #[test]
    fn the_deletes_of_four_full_nodes_with_the_smallest_values_fit_into_each() {
        let stores: Vec<_> = (1..=4).map(limited).collect();
        for (n, store) in stores.iter().enumerate() {
            for round in 0..2 {
                let keys = fill(store, 10 * round + 1, &format!("{n}:{round}:"), b"");
                assert!(keys.iter().all(|key| delete(store, 10 * round + 2, key)));
            }
        }
        for (to, store) in stores.iter().enumerate() {
            for other in stores.iter().enumerate().filter(|(from, _)| *from != to).map(|(_, other)| other) {
                replicate(other, store);
            }
        }
        let totals = stores[0].totals();
        assert!(stores.iter().all(|store| store.totals() == totals));
        assert!(stores[0].tombstone_memory() > 6 * MAX_MEMORY);
    }

    #[test]
    fn a_peers_delete_is_taken_by_a_store_that_is_full_of_live_cells_and_of_counters() {
        let (full, peer) = (limited(1), Store::new(config(2)));
        let count = |store: &Store, now| store.write(&mut at(store, now), b"n", |_| (Write::Add(1), ()));
        count(&peer, 1).unwrap();
        count(&full, 1).unwrap();
        set(&peer, 2, b"gone", b"v", None);
        // Live cells up to the ceiling, then what the peer has deleted.
        for n in 0..300u32 {
            set(&peer, 3, &n.to_be_bytes(), &[0; 1], None);
        }
        replicate(&peer, &full);
        assert!(full.memory() > MAX_MEMORY * 6 / 5, "{}", full.memory());
        assert!(delete(&peer, 9, b"n") && delete(&peer, 9, b"gone"));
        for n in 0..300u32 {
            assert!(delete(&peer, 9, &n.to_be_bytes()));
        }
        replicate(&peer, &full);
        assert_eq!(full.totals().live_cells, 1, "what it has counted itself");
        assert_eq!(full.count(b"n", ms(20)).unwrap().sum, 1);
    }

    #[test]
    fn what_replaces_an_expired_cell_of_a_full_store_needs_room() {
        let (full, peer) = (limited(1), Store::new(config(2)));
        for n in 0..300u32 {
            set(&peer, 3, &n.to_be_bytes(), &[0; 1], None);
        }
        set(&peer, 1000, b"expired", &[0; 200], Some(1005));
        full.observe(ms(1010));
        replicate(&peer, &full);
        let ceiling = MAX_MEMORY + MAX_MEMORY / CEILING_SHARE;
        assert!(full.memory() > ceiling, "what has expired is taken beyond the ceiling: {}", full.memory());
        set(&peer, 1011, b"expired", &[0; 190], None);
        replicate(&peer, &full);
        assert_eq!(get(&full, 1012, b"expired"), None);
    }

    #[test]
    fn without_a_limit_there_is_always_room() {
        let store = Store::new(config(1));
        set(&store, 1, b"k", &[0; 1000], None);
        assert!(delete(&store, 2, b"k"));
        assert_eq!((store.tombstone_reserve(), store.tombstones_beyond_reserve(1)), (None, 0));
        assert!(store.has_tombstone_room());
        assert_eq!(store.check_write(1 << 60), Ok(()));
    }

    #[test]
    fn a_peer_that_sends_tombstones_without_end_meets_a_limit() {
        let store = limited(1);
        let origin = store.intern(crate::model::timestamp::incarnation(2).unwrap()).unwrap();
        store.observe(ms(100));
        let merge = |n: u32| {
            let parts = Parts { time: ms(100), origin, ..Parts::EMPTY };
            store.merge(&mut Vec::new(), &n.to_be_bytes(), &parts, &Counter::NONE, ReceivedBy::Push).outcome
        };
        let taken = (0..100_000).take_while(|&n| merge(n) == Outcome::Applied).count() as u64;
        assert_eq!(taken, HARD_LIMIT * MAX_MEMORY / 58);
        assert_eq!(merge(0), Outcome::Known, "and the node goes on");
    }
}
