use std::collections::{BTreeMap, HashMap};

use proptest::prelude::*;
use rand::rngs::StdRng;
use rand::{Rng as _, SeedableRng as _};

use super::super::tests::{assert_sums_are_exact, config, replicate};
use super::super::{Keyspace, StoreConfig, Write, WriteError};
use super::*;
use crate::model::{Database, Deadline, RangeCount};
use crate::random_cases::random_cases;

const MAX_MEMORY: u64 = 100_000;
/// The bytes of a cell with a key of four bytes and a value of [`VALUE`]; a deadline takes 8 more.
const CELL: u64 = 54 + 4 + VALUE.len() as u64;
const VALUE: &[u8] = &[7; 42];
/// A second.
const SECOND: u64 = 1 << 32;
/// A tick of the LRU clock.
const TICK: u64 = 1 << 24;

fn store(id: u128, policy: EvictionPolicy) -> Store {
    Store::new(StoreConfig {
        max_memory: Some(MAX_MEMORY),
        eviction: policy,
        ranges: RangeCount::power_of_two(8),
        ..config(id)
    })
}

/// Starts a batch at this NTP64 number.
fn at(store: &Store, now: u64) -> Batch {
    let mut batch = Batch::default();
    store.begin(&mut batch, Time(now));
    batch
}

/// The value of a key at this NTP64 number.
fn get(store: &Store, now: u64, key: &[u8]) -> Option<Vec<u8>> {
    store.read(key, Time(now), |live| live.map(|live| live.value().to_vec()))
}

fn key(n: u64) -> [u8; 4] {
    u32::try_from(n).unwrap().to_le_bytes()
}

fn try_set(store: &Store, now: u64, n: u64, deadline: Option<u64>) -> Result<(), WriteError> {
    let write = Write::Set {
        value: VALUE,
        deadline: deadline.map(|at| Deadline::from_unix_millis(Time(at).as_unix_millis())),
    };
    store.write(&mut at(store, now), &key(n), |_| (write, ()))
}

fn read(store: &Store, now: u64, n: u64) -> bool {
    at(store, now);
    Keyspace::new(store, Database::ZERO).read(&key(n), Time(now), |live| live.is_some())
}

fn is_there(store: &Store, now: u64, n: u64) -> bool {
    get(store, now, &key(n)).is_some()
}

#[test]
fn a_policy_takes_a_thirty_second_of_the_memory_or_nothing() {
    for (policy, bytes) in [
        (EvictionPolicy::NoEviction, 0),
        (EvictionPolicy::VolatileTtl, 0),
        (EvictionPolicy::AllKeysLru, MAX_MEMORY / 32 / 4 * 4),
        (EvictionPolicy::AllKeysLfu, MAX_MEMORY / 32 / 4 * 4),
    ] {
        assert_eq!((store(1, policy).accesses_bytes(), policy.as_str().parse()), (bytes, Ok(policy)));
    }
}

#[test]
fn a_full_store_takes_every_write_and_stays_below_its_limit() {
    for policy in [EvictionPolicy::AllKeysLru, EvictionPolicy::AllKeysLfu, EvictionPolicy::VolatileTtl] {
        let store = store(1, policy);
        let (count, cell) = (3 * MAX_MEMORY / CELL, CELL + 8);
        for n in 0..count {
            // Nothing is purged here: what was evicted is purged as if all peers had it.
            store.raise_stable_time(Time(SECOND + n));
            (0..store.range_count()).for_each(|range| _ = store.purge(range));
            assert_eq!(try_set(&store, SECOND + n, n, Some((1000 + n) * SECOND)), Ok(()), "{policy}");
            assert!(store.memory() <= MAX_MEMORY / 20 * 19, "{policy}");
        }
        let kept = store.totals().live_cells;
        assert_eq!(store.evicted_keys(), count - kept, "{policy}: only what had to go");
        assert!((kept + 1) * cell > MAX_MEMORY / 20 * 19, "{policy}: {kept} keys");
        assert_sums_are_exact(&store);
    }
}

#[test]
fn if_evictions_outrun_the_purge_the_node_holds_fewer_keys_and_still_takes_writes() {
    let store = store(1, EvictionPolicy::AllKeysLru);
    for n in 0..2 * MAX_MEMORY / CELL {
        assert_eq!(try_set(&store, SECOND + n * TICK, n, None), Ok(()));
        assert!(store.memory() + store.tombstone_memory() <= 2 * MAX_MEMORY);
    }
    for n in 0.. {
        // Its tombstones alone fill all of the memory in the end.
        if try_set(&store, SECOND + n * TICK, 10_000 + n, None).is_err() {
            break;
        }
        assert!(store.memory() + store.tombstone_memory() <= 2 * MAX_MEMORY);
    }
    assert!(store.tombstone_memory() > MAX_MEMORY);
}

#[test]
fn lru_keeps_what_is_read_and_lfu_what_is_read_often() {
    for policy in [EvictionPolicy::AllKeysLru, EvictionPolicy::AllKeysLfu] {
        let store = store(1, policy);
        let hot = 0..50;
        let mut now = SECOND;
        for n in 0..1500 {
            now += 4 * TICK;
            try_set(&store, now, n, None).unwrap();
            if n % 50 == 49 {
                hot.clone().for_each(|n| _ = read(&store, now, n));
            }
        }
        let kept = hot.clone().filter(|n| is_there(&store, now, *n)).count();
        assert_eq!(kept, 50, "{policy}");
        // Looking at a key is no access.
        let keyspace = Keyspace::new(&store, Database::ZERO);
        let before = (keyspace.idle(&key(1)), keyspace.frequency(&key(1)));
        at(&store, now + 10 * SECOND);
        keyspace.peek(&key(1), Time(now), |live| assert!(live.is_some()));
        assert_eq!(keyspace.frequency(&key(1)), before.1);
        if let Some(idle) = before.0 {
            assert_eq!(keyspace.idle(&key(1)), Some(idle + Duration::from_secs(10)));
        }
    }
}

#[test]
fn volatile_ttl_evicts_the_nearest_deadlines_and_no_key_without_one() {
    let store = store(1, EvictionPolicy::VolatileTtl);
    let (lasting, soon) = (0..300, 300..600);
    for n in lasting.clone() {
        try_set(&store, SECOND, n, None).unwrap();
    }
    for n in soon.clone() {
        try_set(&store, SECOND, n, Some((100 + n) * SECOND)).unwrap();
    }
    let mut added = 600;
    while soon.clone().filter(|n| is_there(&store, SECOND, *n)).count() > 150 {
        try_set(&store, SECOND, added, Some(1_000_000 * SECOND)).unwrap();
        added += 1;
    }
    assert!(lasting.clone().all(|n| is_there(&store, SECOND, n)));
    let sum = |range: std::ops::Range<u64>| range.filter(|n| is_there(&store, SECOND, *n)).count();
    assert!(sum(300..450) < 50 && sum(450..600) > 100, "{} {}", sum(300..450), sum(450..600));
    assert!(sum(600..added) as u64 * 10 > (added - 600) * 9, "the later deadlines stay");
}

#[test]
fn a_store_that_can_evict_nothing_refuses_as_one_without_a_policy() {
    let store = store(1, EvictionPolicy::VolatileTtl);
    let fits = (0..).take_while(|n| try_set(&store, SECOND, *n, None).is_ok()).count() as u64;
    assert_eq!(fits, MAX_MEMORY / CELL, "up to the limit itself");
    assert_eq!(store.check_write(1 << 10), Err(WriteError::OutOfMemory));
    assert!(!store.evict_for(&mut at(&store, SECOND), 100), "it does not search again at once");
    assert!(store.evicted_keys() == 0 && !store.evict_excess(&mut at(&store, SECOND)));
    // From now on there is something.
    for n in [1, 2] {
        store.write(&mut at(&store, SECOND), &key(n), |_| (Write::Delete, ())).unwrap();
    }
    try_set(&store, SECOND, 1, Some(99 * SECOND)).unwrap();
    assert_eq!(try_set(&store, SECOND, 9_999, Some(99 * SECOND)), Err(WriteError::OutOfMemory));
    assert_eq!(try_set(&store, 2 * SECOND, 9_999, Some(99 * SECOND)), Ok(()));
    assert!(!is_there(&store, 2 * SECOND, 1) && store.evicted_keys() == 1);
}

#[test]
fn an_eviction_is_a_write_that_peers_receive_before_the_one_that_needed_the_room() {
    let (here, there) = (store(1, EvictionPolicy::AllKeysLru), Store::new(config(2)));
    here.feed().open(|| ());
    for n in 0..3 * MAX_MEMORY / CELL {
        let mut batch = at(&here, SECOND + n);
        here.write(&mut batch, &key(n), |_| (Write::Set { value: VALUE, deadline: None }, ())).unwrap();
        assert_eq!(batch.applied.last().map(|cell| cell.key().to_vec()), Some(key(n).to_vec()));
        let (victims, written) = batch.applied.split_at(batch.applied.len() - 1);
        assert!(victims.iter().all(|cell| cell.is_tombstone()) && written[0].value().is_some());
        here.publish(&mut batch);
    }
    let mut pushed = Vec::new();
    here.feed().take(&mut pushed);
    assert!(here.evicted_keys() > 0);
    replicate(&here, &there);
    assert_eq!(here.totals(), there.totals());
}

#[test]
fn a_write_evicts_a_bounded_number_of_keys_and_who_was_refused_makes_room_in_steps() {
    let store = store(1, EvictionPolicy::AllKeysLru);
    (0..900).for_each(|n| try_set(&store, SECOND + n * TICK, n, None).unwrap());
    let now = SECOND + 900 * TICK;
    let (before, mut batch) = (store.evicted_keys(), at(&store, now));
    // It is larger than what is free and what one write may evict.
    let large = vec![1; 40_000];
    let set = |store: &Store, batch: &mut Batch| {
        store.write(batch, b"large", |_| (Write::Set { value: &large, deadline: None }, ()))
    };
    assert_eq!(set(&store, &mut batch), Err(WriteError::OutOfMemory));
    assert_eq!(store.evicted_keys() - before, VICTIMS as u64);
    assert!(store.can_make_room(&batch));
    let bytes = batch.refused();
    let steps = std::iter::repeat_with(|| store.evict_for(&mut batch, bytes)).take_while(|more| *more);
    assert!(steps.count() > 10);
    assert_eq!(set(&store, &mut batch), Ok(()));
    assert!(get(&store, now, b"large").is_some() && store.memory() <= MAX_MEMORY);
    // What could never fit evicts nothing.
    let evicted = store.evicted_keys();
    assert!(!store.evict_for(&mut batch, MAX_MEMORY + 1));
    let huge = vec![0; 100_000];
    let write = Write::Set { value: &huge, deadline: None };
    let refused = store.write(&mut batch, b"huge", |_| (write, ()));
    assert!(!store.can_make_room(&batch));
    assert_eq!((refused, store.evicted_keys()), (Err(WriteError::OutOfMemory), evicted));
}

#[test]
fn a_store_that_peers_have_filled_evicts_in_the_background_down_to_its_mark() {
    let (peer, here) = (Store::new(config(2)), store(1, EvictionPolicy::AllKeysLfu));
    (0..MAX_MEMORY / CELL * 11 / 10).for_each(|n| try_set(&peer, SECOND + n, n, None).unwrap());
    replicate(&peer, &here);
    assert!(here.memory() > MAX_MEMORY && here.exceeds_mark());
    let mut batch = at(&here, 2 * SECOND);
    while here.evict_excess(&mut batch) {}
    assert!(here.memory() <= MAX_MEMORY / 40 * 39 && here.memory() > MAX_MEMORY / 40 * 38);
    assert_eq!(batch.applied.len() as u64, here.evicted_keys());
}

#[test]
fn a_transaction_evicts_nothing_that_it_has_locked() {
    let store = store(1, EvictionPolicy::AllKeysLru);
    (0..900).for_each(|n| try_set(&store, SECOND + n * TICK, n, None).unwrap());
    let now = SECOND + 2000 * TICK;
    let mut keyspace = Keyspace::new(&store, Database::ZERO);
    // The oldest, and new ones.
    let keys: Vec<[u8; 4]> = (0..20).chain(5_000..5_050).map(key).collect();
    let held = keys.iter().filter(|key| get(&store, now, *key).is_some()).count();
    keyspace.lock(keys.iter().map(|key| (Database::ZERO, &key[..])));
    let mut batch = at(&store, now);
    let set = || (Write::Set { value: VALUE, deadline: None }, ());
    for key in &keys[20..] {
        keyspace.write(&mut batch, key, |_| set()).unwrap();
    }
    let still = keys.iter().filter(|key| keyspace.peek(*key, Time(now), |live| live.is_some())).count();
    assert_eq!(still, held + 50);
    assert!(store.memory() <= MAX_MEMORY / 20 * 19, "others made room");
    // Every range is locked: it goes on up to the limit, and neither waits nor panics.
    keyspace.unlock();
    let all: Vec<[u8; 4]> = (10_000..20_000).map(key).collect();
    keyspace.lock(all.iter().map(|key| (Database::ZERO, &key[..])));
    let written = all.iter().take_while(|key| keyspace.write(&mut batch, *key, |_| set()).is_ok()).count();
    assert!(written > 0 && store.memory() <= MAX_MEMORY);
    keyspace.unlock();
    assert_eq!(try_set(&store, now, 30_000, None), Ok(()), "the search does not rest after that");
}

#[cfg(feature = "scripts")]
#[test]
fn a_script_that_is_dropped_has_made_room_and_written_nothing() {
    let store = store(1, EvictionPolicy::AllKeysLru);
    (0..950).for_each(|n| try_set(&store, SECOND + n * TICK, n, None).unwrap());
    let (now, evicted) = (SECOND + 2000 * TICK, store.evicted_keys());
    let keys: Vec<[u8; 4]> = (5_000..5_050).map(key).collect();
    for is_kept in [false, true] {
        let mut keyspace = Keyspace::new(&store, Database::ZERO);
        keyspace.lock(keys.iter().map(|key| (Database::ZERO, &key[..])));
        keyspace.buffer();
        let mut batch = at(&store, now);
        for key in &keys {
            keyspace.write(&mut batch, key, |_| (Write::Set { value: VALUE, deadline: None }, ())).unwrap();
        }
        let tombstones = batch.applied.len();
        keyspace.end(&mut batch, is_kept);
        assert_eq!(batch.applied.len() - tombstones, if is_kept { 50 } else { 0 });
        assert!(batch.applied[..tombstones].iter().all(|cell| cell.is_tombstone()));
    }
    assert!(store.evicted_keys() >= evicted + 50);
    assert!(store.memory() <= MAX_MEMORY / 20 * 19);
    assert!((5_000..5_050).all(|n| is_there(&store, now, n)));
}

/// A cache that evicts exactly the least recently used key.
struct ExactLru {
    room: usize,
    by_key: HashMap<u64, u64>,
    by_time: BTreeMap<u64, u64>,
}

impl ExactLru {
    /// Reads a key, or else writes it; returns whether it was there.
    fn access(&mut self, now: u64, n: u64) -> bool {
        let before = self.by_key.insert(n, now);
        if let Some(before) = before {
            self.by_time.remove(&before);
        }
        self.by_time.insert(now, n);
        if self.by_key.len() > self.room
            && let Some((_, oldest)) = self.by_time.pop_first()
        {
            self.by_key.remove(&oldest);
        }
        before.is_some()
    }
}

proptest! {
    #![proptest_config(random_cases(8))]
    /// The goal: sampling and collisions in the table cost few hits. The method: the same accesses, by Zipf's law, of a
    /// store and of an exact LRU cache that holds as many keys.
    #[test]
    fn lru_hits_nearly_as_often_as_an_exact_one(seed: u64, skew in 0.6..1.2f64, keys in 1_500..6_000usize) {
        let mut rng = StdRng::seed_from_u64(seed);
        let mut sum = 0.0;
        let cumulative: Vec<f64> = (1..=keys).map(|n| { sum += (n as f64).powf(-skew); sum }).collect();
        let store = store(1, EvictionPolicy::AllKeysLru);
        let room = usize::try_from(MAX_MEMORY / 20 * 19 / CELL).unwrap();
        let mut exact = ExactLru { room, by_key: HashMap::new(), by_time: BTreeMap::new() };
        let (mut hits, mut exact_hits) = (0, 0);
        const ACCESSES: u64 = 20_000;
        for access in 0..ACCESSES {
            let now = SECOND + access * TICK;
            if access % 64 == 0 {
                store.raise_stable_time(Time(now));
                (0..store.range_count()).for_each(|range| _ = store.purge(range));
            }
            let drawn = rng.random_range(0.0..sum);
            let n = cumulative.partition_point(|&below| below < drawn) as u64;
            exact_hits += u64::from(exact.access(access, n));
            if read(&store, now, n) { hits += 1 } else { try_set(&store, now, n, None).unwrap() }
        }
        let points = (exact_hits as f64 - hits as f64) * 100.0 / ACCESSES as f64;
        println!("skew {skew:.2}, {keys} keys: {hits} hits, exact {exact_hits}: {points:.2} points fewer");
        prop_assert!(points < 3.0, "{points} points fewer hits than exact LRU");
    }
}
