use std::time::Duration;

use crate::model::Deadline;
use crate::model::timestamp::ms;
use proptest::prelude::*;

use super::merge::{Merged, Removed};
use super::*;
use crate::ablation::must_fail_without;
use crate::model::timestamp::incarnation;
use crate::random_cases::random_cases;

pub(super) fn config(id: u128) -> StoreConfig {
    StoreConfig {
        seed: HashSeed::of_cluster("test"),
        ranges: RangeCount::power_of_two(4),
        incarnation: incarnation(id).unwrap(),
        max_memory: None,
        eviction: EvictionPolicy::NoEviction,
        lengths: Lengths::UNLIMITED,
        feed_limit: 1 << 20,
    }
}

pub(super) fn at(store: &Store, now: u64) -> Batch {
    let mut batch = Batch::default();
    store.begin(&mut batch, ms(now));
    batch
}

/// The time of the first timestamp that a store draws at `now`.
fn drawn_at(now: u64) -> Time {
    Time(ms(now).0 + 1)
}

pub(super) fn set(store: &Store, now: u64, key: &[u8], value: &[u8], deadline: Option<u64>) {
    let write = Write::Set { value, deadline: deadline.map(Deadline) };
    store.write(&mut at(store, now), key, |_| (write, ())).unwrap();
}

pub(super) fn get(store: &Store, now: u64, key: &[u8]) -> Option<Vec<u8>> {
    store.read(key, ms(now), |live| live.map(|live| live.value().to_vec()))
}

pub(super) fn delete(store: &Store, now: u64, key: &[u8]) -> bool {
    store.write(&mut at(store, now), key, |live| (Write::Delete, live.is_some())).unwrap()
}

/// Copies every cell of `from` into `to`, as a peer would.
pub(super) fn replicate(from: &Store, to: &Store) {
    let translate = |origin| to.intern(from.incarnation(origin)).unwrap();
    for range in 0..from.range_count() {
        let mut cells = Vec::new();
        from.walk(range, |cell| cells.push(cell.clone()));
        for cell in cells {
            let mut parts = cell.parts();
            parts.origin = translate(parts.origin);
            parts.deadline_timestamp =
                parts.deadline_timestamp.map(|(time, origin)| (time, translate(origin)));
            let mut counter = Counter::NONE;
            counter.expiry = cell.expiry().map(|(writer, expiry)| (translate(writer), expiry));
            cell.slots().for_each(|(owner, slot)| counter.put(translate(owner), slot));
            to.observe(cell.latest());
            to.merge(&mut Vec::new(), cell.key(), &parts, &counter, ReceivedBy::Sync { cutoff: ZERO });
        }
    }
}

pub(super) fn assert_sums_are_exact(store: &Store) {
    for range in 0..store.range_count() {
        let (fresh, kept) = store.ranges.recomputed(range);
        assert_eq!(fresh, kept, "range {range}");
    }
}

#[test]
fn a_write_is_read_back_and_an_empty_value_is_not_missing() {
    let store = Store::new(config(1));
    set(&store, 1, b"k", b"", None);
    assert_eq!(get(&store, 1, b"k"), Some(vec![]));
    assert!(delete(&store, 2, b"k"));
    assert_eq!(get(&store, 2, b"k"), None);
    assert!(!delete(&store, 3, b"k"));
    assert_eq!(store.totals().dead_cells, 1);
}

#[test]
fn a_local_write_exceeds_what_it_overwrites_even_after_the_clock_stepped_back() {
    let (here, there) = (Store::new(config(1)), Store::new(config(2)));
    set(&there, 1000, b"k", b"theirs", None);
    replicate(&there, &here);
    set(&here, 5, b"k", b"ours", None);
    replicate(&here, &there);
    assert_eq!(get(&there, 1000, b"k"), Some(b"ours".to_vec()));
}

#[test]
fn a_passed_deadline_hides_the_value_and_the_sweep_frees_it() {
    let store = Store::new(config(1));
    set(&store, 10, b"k", &[7; 1000], Some(50));
    assert!(get(&store, 49, b"k").is_some());
    assert_eq!(get(&store, 50, b"k"), None);
    assert_eq!(store.totals().expiring_cells, 1);
    let (memory, digest) = (store.memory(), store.totals().live);
    let swept = |now| (0..store.range_count()).map(|r| store.sweep(r, ms(now))).sum::<usize>();
    assert_eq!(swept(49), 0);
    assert_eq!(swept(50), 1);
    assert_eq!(swept(50), 0);
    assert!(store.memory() + 1000 <= memory);
    assert_eq!((store.totals().live, store.totals().dead), (0, digest));
    assert_eq!(store.totals().expiring_cells, 0);
    assert_sums_are_exact(&store);
}

#[test]
fn a_value_seen_to_have_expired_is_not_seen_again_when_the_clock_steps_back() {
    let store = Store::new(config(1));
    set(&store, 10, b"k", b"v", Some(50));
    let seen = |wall| store.read(b"k", store.now(ms(wall)), |live| live.is_some());
    assert!(seen(49));
    assert!(!seen(50));
    assert!(!seen(20));
}

#[test]
fn a_sweep_still_finds_deadlines_set_after_an_earlier_sweep() {
    let store = Store::new(config(1));
    set(&store, 1, b"a", b"v", Some(10));
    set(&store, 1, b"b", b"v", Some(30));
    let swept = |now| (0..store.range_count()).map(|r| store.sweep(r, ms(now))).sum::<usize>();
    assert_eq!(swept(10), 1);
    set(&store, 11, b"b", b"v", Some(20));
    set(&store, 11, b"c", b"v", Some(25));
    assert_eq!((swept(20), swept(25), swept(1 << 40)), (1, 1, 0));
}

#[test]
fn an_expire_cannot_revive_what_had_expired() {
    let store = Store::new(config(1));
    set(&store, 10, b"k", b"v", Some(50));
    let decide = |live: Option<Live<'_>>| (Write::Deadline(None), live.is_some());
    assert_eq!(store.write(&mut at(&store, 50), b"k", decide), Ok(false));
    assert_eq!(get(&store, 51, b"k"), None);
}

#[test]
fn a_deadline_in_the_past_deletes() {
    let store = Store::new(config(1));
    set(&store, 10, b"k", b"v", None);
    store.write(&mut at(&store, 20), b"k", |_| (Write::Deadline(Some(Deadline(5))), ())).unwrap();
    assert_eq!(store.totals().dead_cells, 1);
    set(&store, 30, b"k", b"v", None);
    set(&store, 40, b"k", b"v", Some(35));
    assert_eq!(get(&store, 41, b"k"), None);
    assert_eq!(store.meta(b"k", ZERO).unwrap().deadline, None);
}

#[test]
fn at_the_memory_limit_growth_is_refused_and_deletion_works() {
    let store = Store::new(StoreConfig { max_memory: Some(1000), ..config(1) });
    set(&store, 1, b"k", &[0; 800], None);
    let big = Write::Set { value: &[0; 900], deadline: None };
    assert_eq!(store.write(&mut at(&store, 2), b"other", |_| (big, ())), Err(WriteError::OutOfMemory));
    assert_eq!(get(&store, 2, b"other"), None);
    assert!(delete(&store, 3, b"k"));
    store.write(&mut at(&store, 4), b"other", |_| (Write::Set { value: b"v", deadline: None }, ())).unwrap();
    assert_sums_are_exact(&store);
}

#[test]
fn only_what_may_add_a_key_is_refused_for_its_length() {
    let lengths = Lengths { key: 3, value: 2 };
    let store = Store::new(StoreConfig { lengths, ..config(1) });
    let write = |key: &[u8], write| store.write(&mut at(&store, 10), key, |_| (write, ()));
    let value = |value| Write::Set { value, deadline: None };
    let (long_key, long_value) = (
        Err(WriteError::KeyTooLong { bytes: 4, limit: 3 }),
        Err(WriteError::ValueTooLong { bytes: 3, limit: 2 }),
    );
    assert_eq!(write(b"key", value(b"vv")), Ok(()));
    assert_eq!(write(b"key", value(b"vvv")), long_value);
    assert_eq!(write(b"long", value(b"v")), long_key);
    assert_eq!(write(b"long", Write::Add(1)), long_key);
    assert_eq!(store.check_lengths(b"long", b""), long_key);
    // A peer whose limits are larger has sent it.
    let peer = Store::new(config(2));
    set(&peer, 10, b"long", b"value", None);
    replicate(&peer, &store);
    assert_eq!(write(b"long", Write::Deadline(Some(Deadline(1 << 40)))), Ok(()));
    assert_eq!(write(b"long", Write::Delete), Ok(()));
    assert_eq!(get(&store, 20, b"long"), None);
}

#[test]
fn replicated_data_is_taken_up_to_the_ceiling_and_tombstones_beyond_it() {
    let (source, full) =
        (Store::new(config(2)), Store::new(StoreConfig { max_memory: Some(1000), ..config(1) }));
    set(&source, 5, b"big", &[0; 1000], None);
    replicate(&source, &full);
    assert!(get(&full, 9, b"big").is_some(), "above the limit, below the ceiling");
    let origin = full.intern(incarnation(2).unwrap()).unwrap();
    let merge = |key: &[u8], time, value| {
        let parts = Parts { time: ms(time), origin, value, deadline: None, deadline_timestamp: None };
        full.merge(&mut Vec::new(), key, &parts, &Counter::NONE, ReceivedBy::Push).outcome
    };
    assert_eq!(merge(b"more", 6, Some(&[0; 500])), Outcome::Refused(558));
    assert_eq!(merge(b"big", 7, None), Outcome::Applied);
    assert_eq!(merge(b"more", 6, Some(&[0; 500])), Outcome::Applied);
    assert_sums_are_exact(&full);
}

/// A completed sync: `to` holds what `from` holds, and has incorporated all that `from` wrote until `now`.
pub(super) fn sync(from: &Store, to: &Store, now: u64) {
    replicate(from, to);
    for (incarnation, coverage) in from.origins().iter() {
        to.origins().raise(incarnation, coverage.synced, coverage.closed);
    }
    to.origins().raise(from.own_incarnation(), ms(now), ZERO);
}

/// Returns what `to` answers when `from` sends its cell of `key` in a sync.
pub(super) fn answer(from: &Store, to: &Store, key: &[u8]) -> Merged {
    let cell = from.cell(key).unwrap();
    let translate = |origin| to.intern(from.incarnation(origin)).unwrap();
    let mut parts = cell.parts();
    parts.origin = translate(parts.origin);
    parts.deadline_timestamp = parts.deadline_timestamp.map(|(time, origin)| (time, translate(origin)));
    let mut counter = Counter::NONE;
    cell.slots().for_each(|(owner, slot)| counter.put(translate(owner), slot));
    to.merge(&mut Vec::new(), key, &parts, &counter, ReceivedBy::Sync { cutoff: ZERO })
}

fn purge_at(store: &Store, stable: u64) -> usize {
    store.raise_stable_time(ms(stable));
    (0..store.range_count()).map(|range| store.purge(range)).sum()
}

#[test]
fn what_was_incorporated_and_removed_is_no_news_and_is_retracted() {
    let (a, b) = (Store::new(config(1)), Store::new(config(2)));
    set(&a, 10, b"k", b"v", None);
    sync(&a, &b, 15);
    assert!(delete(&b, 20, b"k"));
    assert_eq!(purge_at(&b, 30), 1);
    let merged = answer(&a, &b, b"k");
    assert_eq!((merged.outcome, get(&b, 40, b"k")), (Outcome::Known, None));
    let mut retraction = *merged.retraction.unwrap();
    assert_eq!(retraction.given_up().count(), 0);
    // Replace the origin in the dots: `a` has another origin number for itself.
    let own = a.intern(a.own_incarnation()).unwrap();
    let removed = retraction.register.as_mut().unwrap();
    removed.dots = removed.dots.map(|(time, _)| (time, own));
    assert!(a.retract(b"k", &retraction).is_some_and(|retracted| !retracted.register), "nothing is given up");
    assert_eq!((get(&a, 40, b"k"), a.totals().dead_cells), (None, 1));
    assert_eq!(a.retract(b"k", &retraction), None, "it is no longer held");
    assert_sums_are_exact(&a);
}

#[test]
fn what_was_never_incorporated_comes_in_beside_a_purged_delete_and_so_does_an_unseen_persist() {
    let (a, b, c) = (Store::new(config(1)), Store::new(config(2)), Store::new(config(3)));
    set(&a, 10, b"k", b"v", None);
    sync(&a, &b, 15);
    replicate(&a, &c);
    set(&c, 12, b"unseen", b"v", None);
    c.write(&mut at(&c, 18), b"k", |_| (Write::Deadline(None), ())).unwrap();
    assert!(delete(&b, 20, b"k"));
    assert_eq!(purge_at(&b, 30), 1);
    replicate(&c, &b);
    assert_eq!((get(&b, 40, b"unseen"), get(&b, 40, b"k")), (Some(b"v".to_vec()), Some(b"v".to_vec())));
}

#[test]
fn an_unseen_persist_brings_its_value_back_also_over_an_older_one_that_has_come_since() {
    let stores: Vec<_> = (1..=4).map(|id| Store::new(config(id))).collect();
    let [a, b, c, d] = &stores[..] else { unreachable!() };
    set(d, 5, b"k", b"older", None);
    set(a, 10, b"k", b"v", None);
    sync(a, b, 15);
    replicate(a, c);
    c.write(&mut at(c, 18), b"k", |_| (Write::Deadline(None), ())).unwrap();
    assert!(delete(b, 20, b"k"));
    assert_eq!(purge_at(b, 30), 1);
    replicate(d, b);
    assert_eq!(get(b, 40, b"k"), Some(b"older".to_vec()));
    assert_eq!(answer(a, b, b"k").outcome, Outcome::Known, "the value alone was removed");
    replicate(c, b);
    assert_eq!(get(b, 40, b"k"), Some(b"v".to_vec()));
}

/// The stable time of b has risen without a, and b receives a's write already retracted.
#[test]
fn what_the_summary_vector_does_not_cover_is_not_purged() {
    let stores: Vec<_> = (1..=3).map(|id| Store::new(config(id))).collect();
    let [a, b, c] = &stores[..] else { unreachable!() };
    set(a, 10, b"k", b"v", None);
    replicate(a, c);
    let cell = c.cell(b"k").unwrap();
    let dots = [(cell.time(), cell.origin()); 2];
    let register = Some(Removed { dots, is_given_up: false });
    c.retract(b"k", &Retraction { register, ..Retraction::default() }).unwrap();
    replicate(c, b);
    assert_eq!((b.totals().dead_cells, purge_at(b, 30)), (1, 0));
    replicate(a, b);
    assert_eq!(get(b, 40, b"k"), None, "the copy that a still holds is not news");
    sync(a, b, 40);
    assert_eq!(purge_at(b, 41), 1, "once it is covered it goes");
    assert_sums_are_exact(b);
}

#[test]
fn without_that_a_copy_that_was_retracted_comes_back() {
    must_fail_without(Ablation::PurgeUncovered, what_the_summary_vector_does_not_cover_is_not_purged);
}

/// A regression test: the peer had swept the cell and counted it as dead. If it was refused here, every sync failed.
#[test]
fn what_has_expired_is_taken_by_a_full_store() {
    let peer = Store::new(config(2));
    let full = Store::new(StoreConfig { max_memory: Some(1000), ..config(1) });
    set(&peer, 1, b"big", &[0; 1000], None);
    replicate(&peer, &full);
    set(&peer, 2, b"expired", &[0; 500], Some(20));
    full.observe(ms(30));
    replicate(&peer, &full);
    assert!(full.cell(b"expired").is_some());
    assert_eq!(get(&full, 30, b"expired"), None);
}

#[test]
fn a_retraction_of_one_dot_leaves_every_other() {
    let store = Store::new(config(1));
    set(&store, 10, b"k", b"old", None);
    let cell = store.cell(b"k").unwrap();
    let dots = [(cell.time(), cell.origin()); 2];
    let retraction =
        Retraction { register: Some(Removed { dots, is_given_up: true }), ..Retraction::default() };
    set(&store, 20, b"k", b"new", None);
    assert_eq!(store.retract(b"k", &retraction), None);
    assert_eq!(get(&store, 30, b"k"), Some(b"new".to_vec()));
}

#[test]
fn a_write_that_is_covered_since_its_writer_was_closed_is_retracted_as_given_up() {
    let (a, b) = (Store::new(config(1)), Store::new(config(2)));
    set(&a, 10, b"lost on the way", b"v", None);
    set(&a, 11, b"pushed", b"v", None);
    let origin = b.intern(a.own_incarnation()).unwrap();
    b.origins().see(origin, ms(11));
    b.origins().close(a.own_incarnation(), b.origins().coverage_of(a.own_incarnation()).seen);
    let retraction = answer(&a, &b, b"lost on the way").retraction.unwrap();
    assert_eq!(retraction.given_up().collect::<Vec<_>>(), [origin]);
    set(&a, 12, b"later", b"v", None);
    assert_eq!(answer(&a, &b, b"later").outcome, Outcome::Applied);
}

#[test]
fn equal_times_of_two_writers_are_decided_alike_on_both() {
    let (a, b) = (Store::new(config(1)), Store::new(config(2)));
    set(&a, 10, b"k", b"a", None);
    set(&b, 10, b"k", b"b", None);
    replicate(&a, &b);
    replicate(&b, &a);
    assert_eq!(get(&a, 11, b"k"), get(&b, 11, b"k"));
    assert_eq!(a.totals(), b.totals());
}

#[test]
fn a_write_refused_or_kept_publishes_nothing() {
    let store = Store::new(config(1));
    let mut batch = at(&store, 1);
    store.write(&mut batch, b"k", |_| (Write::Keep, ())).unwrap();
    store.write(&mut batch, b"k", |_| (Write::Delete, ())).unwrap();
    assert!(batch.applied.is_empty());
    assert_eq!(store.meta(b"k", ZERO), None);
}

#[test]
fn ranges_are_the_shards_of_the_map() {
    let map = dashmap::DashMap::<u64, ()>::with_shard_amount(RangeCount::FULL.get());
    for n in 0..1000u64 {
        let hash = HashSeed::of_cluster("x").key_hash(&n.to_le_bytes());
        assert_eq!(RangeCount::FULL.range_of(hash), map.determine_shard(usize::try_from(hash).unwrap()));
    }
}

/// One step of a random history over two stores.
#[derive(Clone, Debug)]
enum Step {
    Write { second: bool, key: u8, what: u8, after: u64, deadline: Option<u64> },
    Replicate { to_second: bool },
    Sweep,
}

fn any_step() -> impl Strategy<Value = Step> {
    let beyond_the_clock = 1u64 << 60;
    let deadline = proptest::option::of(prop_oneof![9 => 1..40u64, 1 => Just(beyond_the_clock)]);
    prop_oneof![
        8 => (any::<bool>(), 0..12u8, 0..7u8, 0..10u64, deadline).prop_map(
            |(second, key, what, after, deadline)| Step::Write { second, key, what, after, deadline }),
        1 => any::<bool>().prop_map(|to_second| Step::Replicate { to_second }),
        1 => Just(Step::Sweep),
    ]
}

proptest! {
    #![proptest_config(random_cases(2_000))]

    /// Goal: after any history the sums equal their recomputation, and two stores that have exchanged everything are
    /// equal, deadlines included. Method: random writes on two stores, with exchanges and sweeps in between.
    #[test]
    fn sums_stay_exact_and_exchange_makes_equal(steps in proptest::collection::vec(any_step(), 0..60)) {
        let stores = [Store::new(config(1)), Store::new(config(2))];
        let mut now = 1000u64;
        for step in steps {
            match step {
                Step::Write { second, key, what, after, deadline } => {
                    now += after;
                    let deadline = deadline.map(|d| Deadline(now + d));
                    let write = match what {
                        0 | 1 => Write::Set { value: &[what], deadline },
                        2 => Write::Delete,
                        3 => Write::Deadline(deadline),
                        4 => Write::Add(i64::from(key) - 5),
                        _ => Write::Keep,
                    };
                    let store = &stores[usize::from(second)];
                    store.write(&mut at(store, now), &[key], |_| (write, ())).unwrap();
                }
                Step::Replicate { to_second } => {
                    replicate(&stores[usize::from(!to_second)], &stores[usize::from(to_second)]);
                }
                Step::Sweep => stores.iter().for_each(|store| {
                    (0..store.range_count()).for_each(|r| { store.sweep(r, ms(now)); });
                }),
            }
        }
        replicate(&stores[0], &stores[1]);
        replicate(&stores[1], &stores[0]);
        let [a, b] = &stores;
        // The clocks decide whether a deadline has passed, and a burst of writes moves them ahead of `now`.
        let now = a.now(ms(now)).max(b.now(ms(now))).as_unix_millis() + 1;
        for key in 0..12u8 {
            for later in [0, 20, 1000] {
                prop_assert_eq!(get(a, now + later, &[key]), get(b, now + later, &[key]));
            }
            let timestamps = |store: &Store| store.meta(&[key], ZERO).map(|m| (m.timestamp, m.deadline_timestamp, m.deadline));
            prop_assert_eq!(timestamps(a), timestamps(b));
        }
        stores.iter().for_each(assert_sums_are_exact);
        // Each store notices a passed deadline at its own time: a merge at once, the sweep at the latest.
        stores.iter().for_each(|store| (0..store.range_count()).for_each(|r| { store.sweep(r, ms(now + 1000)); }));
        prop_assert_eq!(a.totals(), b.totals());
        stores.iter().for_each(assert_sums_are_exact);
    }
}

/// The reason that `last_write` excludes an `EXPIRE`: the time that watchers receive would fall.
#[test]
fn the_last_write_never_falls_when_a_set_replaces_what_a_later_expire_had_changed() {
    let [a, b] = [1, 2].map(|id| Store::new(config(id)));
    set(&a, 10, b"k", b"v1", None);
    let first = a.meta(b"k", ms(10)).unwrap();
    let expire = Write::Deadline(Some(Deadline(1000)));
    a.write(&mut at(&a, 20), b"k", |_| (expire, ())).unwrap();
    let expiring = a.meta(b"k", ms(20)).unwrap();
    assert_eq!((expiring.timestamp, expiring.deadline_timestamp.time()), (first.timestamp, drawn_at(20)));
    set(&b, 15, b"k", b"v2", None);
    replicate(&b, &a);
    let replaced = a.meta(b"k", ms(20)).unwrap();
    assert_eq!((replaced.timestamp.time(), replaced.deadline_timestamp), (drawn_at(15), replaced.timestamp));
    assert!(first.timestamp < replaced.timestamp && replaced.timestamp < expiring.deadline_timestamp);
}

#[test]
fn a_key_that_was_only_counted_has_the_timestamp_of_its_last_increment() {
    let [a, b] = [1, 2].map(|id| Store::new(config(id)));
    a.write(&mut at(&a, 10), b"n", |_| (Write::Add(1), ())).unwrap();
    b.write(&mut at(&b, 20), b"n", |_| (Write::Add(1), ())).unwrap();
    replicate(&a, &b);
    replicate(&b, &a);
    for store in [&a, &b] {
        let meta = store.meta(b"n", ms(30)).unwrap();
        assert_eq!(
            (meta.timestamp.time(), meta.timestamp.incarnation()),
            (drawn_at(20), b.own_incarnation())
        );
        assert_eq!(meta.deadline_timestamp, meta.timestamp);
        assert_eq!(store.copy(b"n", ms(30), 9).timestamp, Some(meta.timestamp));
    }
}

/// The processor time of this thread so far: other work on the machine disturbs it the least.
fn cpu_time() -> Duration {
    let schedstat = std::fs::read_to_string("/proc/thread-self/schedstat").expect("Linux counts CPU time");
    Duration::from_nanos(schedstat.split(' ').next().unwrap().parse().unwrap())
}

/// Goal: keeping the digests costs a write less than a tenth. Method: a million keys are overwritten in the same
/// random order with and without digests, in short turns. The best turns are compared, because everything else on the
/// machine can only add time; so a busy machine takes more turns.
#[test]
#[ignore = "measures, in release: run by .ci/run"]
fn digests_slow_the_set_path_by_less_than_a_tenth() {
    use crate::ablation::{Ablation, ablate};
    const KEYS: u64 = 1_000_000;
    const WRITES: u64 = 300_000;
    const TURNS: std::ops::Range<u32> = 30..300;
    let store = Store::new(StoreConfig { ranges: RangeCount::FULL, ..config(1) });
    let mut batch = Batch::default();
    // Like the server: a batch of pipelined commands whose keys are prefetched.
    let mut sets = |count: u64, key: &mut dyn FnMut(u64) -> u64| {
        let started = cpu_time();
        for first in (0..count).step_by(16) {
            let keys: Vec<String> = (first..first + 16).map(|n| format!("key:{:012}", key(n))).collect();
            let slices: Vec<&[u8]> = keys.iter().map(String::as_bytes).collect();
            store.begin(&mut batch, ms(1));
            store.prefetch(&slices);
            for key in slices {
                let write = Write::Set { value: &[7; 100], deadline: None };
                store.write(&mut batch, key, |_| (write, ())).unwrap();
            }
            batch.applied.clear();
        }
        cpu_time() - started
    };
    sets(KEYS, &mut |n| n);
    let mut best = [Duration::MAX; 2];
    let ratio = |best: &[Duration; 2]| best[0].div_duration_f64(best[1]);
    for turn in 0..TURNS.end {
        if turn >= TURNS.start && ratio(&best) < 1.1 {
            break;
        }
        let without = turn % 2 == 1;
        ablate(without.then_some(Ablation::Sums));
        let mut state = 1u64;
        let took = sets(WRITES, &mut |_| {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            (state >> 33) % KEYS
        });
        ablate(None);
        let best = &mut best[usize::from(without)];
        *best = took.min(*best);
    }
    let nanos = best.map(|took| took.as_secs_f64() * 1e9 / WRITES as f64);
    let ratio = ratio(&best);
    println!("a set takes {:.0} ns with digests, {:.0} ns without: {ratio:.3}", nanos[0], nanos[1]);
    assert!(ratio < 1.25, "{ratio}: more than a tenth, and more than noise");
}

/// A regression test: a deep sync reads cells one by one. If a range was empty, the sync missed a write that had drawn
/// its timestamp but was not in the table yet, although the sync claimed all writes up to a later time.
#[test]
#[expect(clippy::disallowed_methods, reason = "holds the range's lock for as long as the walk has to wait")]
fn a_walk_waits_for_a_write_that_has_drawn_its_timestamp() {
    let store = Store::new(config(1));
    let drawn = std::sync::Barrier::new(2);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let slow = |_: Option<Live<'_>>| {
                drawn.wait();
                std::thread::sleep(Duration::from_millis(200));
                (Write::Set { value: b"v", deadline: None }, ())
            };
            store.write(&mut at(&store, 100), b"k", slow).unwrap();
        });
        drawn.wait();
        let claimed = store.now(ms(105));
        let mut seen = 0;
        (0..store.range_count()).for_each(|range| {
            store.walk(range, |cell| seen += usize::from(cell.time() <= claimed));
        });
        assert_eq!(seen, 1);
    });
}

/// What the lock order in the head of this module rests on.
#[cfg(debug_assertions)]
#[test]
#[should_panic(expected = "cycl")]
fn debug_builds_notice_two_locks_that_are_taken_in_both_orders() {
    use tracing_mutex::parkinglot::Mutex;
    let (one, other) = (Mutex::new(()), Mutex::new(()));
    {
        let _first = one.lock();
        let _second = other.lock();
    }
    let _first = other.lock();
    let _second = one.lock();
}
