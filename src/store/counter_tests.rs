//! The guarantees of counters, on stores that exchange their cells as nodes do.

use std::collections::BTreeSet;

use crate::model::Deadline;
use crate::model::timestamp::ms;
use proptest::prelude::*;

use super::tests::{answer, assert_sums_are_exact, at, config, delete, get, replicate, set, sync};
use super::write::MAX_SLOTS;
use super::*;
use crate::ablation::{Ablation, must_fail_without};
use crate::random_cases::random_cases;

fn add(store: &Store, now: u64, key: &[u8], by: i64) {
    store.write(&mut at(store, now), key, |_| (Write::Add(by), ())).unwrap();
}

fn expire(store: &Store, now: u64, key: &[u8], deadline: u64) {
    store.write(&mut at(store, now), key, |_| (Write::Deadline(Some(Deadline(deadline))), ())).unwrap();
}

fn number(store: &Store, now: u64, key: &[u8]) -> Option<i64> {
    get(store, now, key).map(|digits| str::from_utf8(&digits).unwrap().parse().unwrap())
}

fn two() -> [Store; 2] {
    [Store::new(config(1)), Store::new(config(2))]
}

fn exchange([a, b]: &[Store; 2]) {
    replicate(a, b);
    replicate(b, a);
}

fn sweep(store: &Store, now: u64) -> usize {
    (0..store.range_count()).map(|range| store.sweep(range, ms(now))).sum()
}

fn purge(store: &Store) -> usize {
    (0..store.range_count()).map(|range| store.purge(range)).sum()
}

#[test]
fn what_is_counted_apart_adds_up_once_however_often_it_is_exchanged() {
    let stores = two();
    let [a, b] = &stores;
    add(a, 10, b"k", 3);
    add(b, 11, b"k", 4);
    add(b, 12, b"k", -1);
    for _ in 0..3 {
        exchange(&stores);
    }
    assert_eq!((number(a, 20, b"k"), number(b, 20, b"k")), (Some(6), Some(6)));
    assert_eq!(a.totals(), b.totals());
}

/// A timestamp that is drawn at the very moment of a deadline would begin a life that the deadline has ended.
#[test]
fn what_is_counted_at_the_moment_of_a_deadline_counts() {
    let just_before = |store: &Store| {
        let mut batch = Batch::default();
        store.begin(&mut batch, Time(ms(50).0 - 1));
        batch
    };
    let stores = [two(), two()];
    set(&stores[0][0], 10, b"k", b"7", Some(50));
    add(&stores[1][0], 10, b"k", 7);
    expire(&stores[1][0], 20, b"k", 50);
    for [a, b] in &stores {
        a.write(&mut just_before(a), b"k", |_| (Write::Add(3), ())).unwrap();
        replicate(a, b);
        assert_eq!((number(a, 60, b"k"), number(b, 60, b"k")), (Some(3), Some(3)));
    }
}

#[test]
fn increments_on_both_sides_of_a_set_count_from_what_was_set() {
    let stores = two();
    let [a, b] = &stores;
    set(a, 10, b"k", b"10", None);
    exchange(&stores);
    add(a, 20, b"k", 1);
    add(b, 21, b"k", 1);
    exchange(&stores);
    assert_eq!(number(b, 30, b"k"), Some(12));
}

#[test]
fn a_second_deadline_does_not_bring_back_what_the_first_has_ended() {
    for persist in [false, true] {
        let stores = two();
        let [a, b] = &stores;
        add(a, 10, b"k", 5);
        exchange(&stores);
        expire(b, 20, b"k", 30);
        assert_eq!(number(b, 40, b"k"), None);
        add(b, 50, b"k", 2);
        if persist {
            b.write(&mut at(b, 60), b"k", |_| (Write::Deadline(None), ())).unwrap();
        } else {
            expire(b, 60, b"k", 90);
        }
        assert_eq!(number(b, 61, b"k"), Some(2));
        exchange(&stores);
        assert_eq!((number(a, 70, b"k"), number(b, 70, b"k")), (Some(2), Some(2)));
    }
}

#[test]
fn a_delete_takes_what_it_has_seen_and_an_increment_made_elsewhere_survives() {
    let stores = two();
    let [a, b] = &stores;
    add(a, 10, b"k", 5);
    exchange(&stores);
    assert!(delete(b, 20, b"k"));
    assert_eq!(number(b, 20, b"k"), None);
    add(a, 21, b"k", 2);
    exchange(&stores);
    assert_eq!((number(a, 30, b"k"), number(b, 30, b"k")), (Some(2), Some(2)));
    set(a, 40, b"k", b"100", None);
    exchange(&stores);
    assert_eq!(number(b, 50, b"k"), Some(100));
}

#[test]
fn a_later_text_hides_what_was_counted_and_an_earlier_one_is_hidden() {
    let stores = two();
    let [a, b] = &stores;
    add(a, 10, b"k", 5);
    set(b, 20, b"k", b"text", None);
    set(b, 5, b"other", b"text", None);
    add(a, 30, b"other", 7);
    exchange(&stores);
    for store in &stores {
        assert_eq!(get(store, 40, b"k"), Some(b"text".to_vec()));
        assert_eq!(number(store, 40, b"other"), Some(7));
    }
}

#[test]
fn a_counter_without_a_base_expires_and_begins_anew() {
    let stores = two();
    let [a, b] = &stores;
    add(a, 10, b"k", 5);
    expire(a, 20, b"k", 60);
    exchange(&stores);
    add(b, 30, b"k", 2);
    exchange(&stores);
    assert_eq!((number(a, 59, b"k"), number(a, 60, b"k")), (Some(7), None));
    assert_eq!(sweep(a, 60), 1);
    assert_eq!(sweep(a, 61), 0);
    assert_eq!((a.totals().live_cells, a.totals().live), (0, 0));
    add(a, 70, b"k", 1);
    exchange(&stores);
    for store in &stores {
        assert_eq!(number(store, 80, b"k"), Some(1));
        assert_eq!(store.read(b"k", ms(80), |live| live.unwrap().deadline()), None);
        assert_sums_are_exact(store);
    }
    // A new deadline does not bring back what had expired.
    expire(b, 90, b"k", 200);
    assert_eq!(number(b, 100, b"k"), Some(1), "not the 2 that b had counted before");
    exchange(&stores);
    assert_eq!((number(a, 100, b"k"), number(a, 200, b"k")), (Some(1), None));
}

#[test]
fn an_expired_base_stays_expired_when_the_counter_gets_a_new_deadline() {
    let stores = two();
    let [a, b] = &stores;
    set(a, 10, b"k", b"100", Some(50));
    exchange(&stores);
    add(b, 60, b"k", 1);
    expire(b, 70, b"k", 500);
    exchange(&stores);
    assert_eq!((number(a, 80, b"k"), number(b, 80, b"k")), (Some(1), Some(1)));
}

#[test]
fn an_increment_from_before_an_expiry_does_not_come_back_with_what_is_set_after_it() {
    let stores = two();
    let [a, b] = &stores;
    set(a, 10, b"k", b"1", Some(50));
    exchange(&stores);
    add(b, 20, b"k", 5);
    set(a, 60, b"k", b"7", None);
    exchange(&stores);
    assert_eq!((number(a, 70, b"k"), number(b, 70, b"k")), (Some(7), Some(7)));
}

#[test]
fn an_expire_of_a_counter_does_not_revert_a_concurrent_set() {
    let stores = two();
    let [a, b] = &stores;
    add(a, 10, b"k", 5);
    exchange(&stores);
    set(a, 20, b"k", b"9", None);
    expire(b, 30, b"k", 60);
    exchange(&stores);
    for store in &stores {
        assert_eq!(number(store, 100, b"k"), Some(9));
    }
}

/// The counter's deadline is not part of the register: a `SET` that was not received before stays, however old it is.
#[test]
fn the_deadline_of_a_counter_hides_no_set_and_brings_back_no_deleted_one() {
    let [a, b] = &two();
    let late = Store::new(config(3));
    set(&late, 60, b"k", b"7", None);
    sync(&late, b, 62);
    delete(b, 65, b"k");
    b.raise_stable_time(ms(70));
    assert_eq!(purge(b), 1);
    add(a, 80, b"k", 1);
    expire(a, 90, b"k", 500);
    replicate(a, b);
    assert_eq!(number(b, 100, b"k"), Some(1));
    replicate(&late, b);
    assert_eq!(number(b, 100, b"k"), Some(1), "it was incorporated and deleted");
    set(&late, 68, b"k", b"8", None);
    replicate(&late, b);
    assert_eq!((number(b, 130, b"k"), number(b, 500, b"k")), (Some(9), Some(8)));
}

/// Two stores count 5 until the deadline 60. A third, which has not received that, has counted 2.
fn counted_apart_from_a_deadline() -> ([Store; 2], Store) {
    let stores = two();
    let apart = Store::new(config(3));
    add(&stores[0], 10, b"k", 5);
    expire(&stores[0], 20, b"k", 60);
    exchange(&stores);
    add(&apart, 30, b"k", 2);
    (stores, apart)
}

#[test]
fn what_had_counted_before_a_deadline_that_it_had_not_seen_expires_with_it() {
    let (stores, apart) = counted_apart_from_a_deadline();
    let [a, b] = &stores;
    set(b, 70, b"k", b"100", None);
    replicate(a, &apart);
    replicate(&apart, b);
    assert_eq!((number(&apart, 59, b"k"), number(&apart, 60, b"k")), (Some(7), None));
    assert_eq!(number(b, 80, b"k"), Some(100), "the deadline had passed when the key was set");
    assert_eq!(number(a, 80, b"k"), None);
}

#[test]
fn what_a_set_had_not_seen_ends_by_the_deadline_that_it_replaces() {
    let (stores, apart) = counted_apart_from_a_deadline();
    let [a, b] = &stores;
    replicate(&apart, b);
    set(a, 70, b"k", b"100", None);
    replicate(a, b);
    assert_eq!(number(b, 80, b"k"), Some(100));
    replicate(&apart, a);
    replicate(b, a);
    assert_eq!(number(a, 80, b"k"), Some(100));
}

#[test]
fn that_a_replaced_deadline_ends_what_had_begun_before_is_guarded() {
    let test = what_a_set_had_not_seen_ends_by_the_deadline_that_it_replaces;
    must_fail_without(Ablation::EndedBySuccessor, test);
}

#[test]
fn a_purge_drops_what_was_reset_and_leaves_what_counts() {
    let stores = two();
    let [a, b] = &stores;
    add(a, 10, b"k", 5);
    add(b, 11, b"k", 5);
    exchange(&stores);
    delete(a, 20, b"k");
    add(a, 30, b"k", 2);
    sync(a, b, 35);
    sync(b, a, 35);
    let before = a.memory();
    a.raise_stable_time(ms(25));
    assert_eq!((purge(a), number(a, 40, b"k")), (0, Some(2)));
    assert!(a.memory() < before);
    assert_sums_are_exact(a);
    // One store has purged, the other has not: their digests at the stable time are equal.
    for range in 0..a.range_count() {
        assert_eq!(a.ranges.digest(range, ms(25)), b.ranges.digest(range, ms(25)));
    }
    assert_eq!(a.totals().live, b.totals().live);
    // An exchange brings nothing of it back.
    exchange(&stores);
    assert_eq!(a.cell(b"k").unwrap().slots().count(), 1);
    delete(a, 50, b"k");
    sync(a, b, 55);
    sync(b, a, 55);
    for store in &stores {
        store.raise_stable_time(ms(60));
        assert_eq!(purge(store), 1);
        assert_eq!((store.totals().live_cells + store.totals().dead_cells, store.memory()), (0, 0));
    }
}

#[test]
fn a_slot_that_was_removed_is_retracted_and_its_owner_begins_anew() {
    let stores = two();
    let [a, b] = &stores;
    add(a, 10, b"k", 5);
    sync(a, b, 15);
    delete(b, 20, b"k");
    b.raise_stable_time(ms(50));
    assert_eq!(purge(b), 1);
    let mut retraction = *answer(a, b, b"k").retraction.unwrap();
    assert_eq!(number(b, 60, b"k"), None);
    let own = a.intern(a.own_incarnation()).unwrap();
    retraction.slots.iter_mut().for_each(|slot| slot.dots.0 = own);
    assert!(a.retract(b"k", &retraction).unwrap().slots.is_empty(), "nothing is given up");
    assert_eq!(number(a, 60, b"k"), None);
    add(a, 70, b"k", 1);
    exchange(&stores);
    assert_eq!((number(a, 80, b"k"), number(b, 80, b"k")), (Some(1), Some(1)));
}

/// A slot is one total: increments that were not received cannot be separated from the rest, which counts again too.
#[test]
fn increments_that_were_not_seen_bring_their_slot_back_whole() {
    let [a, b] = &two();
    add(a, 10, b"k", 5);
    sync(a, b, 15);
    add(a, 30, b"k", 2);
    delete(b, 20, b"k");
    b.raise_stable_time(ms(25));
    assert_eq!(purge(b), 1);
    replicate(a, b);
    assert_eq!(number(b, 60, b"k"), Some(7));
}

#[test]
fn another_incarnation_of_a_node_counts_in_a_slot_of_its_own() {
    let [a, b] = two();
    add(&a, 10, b"k", 5);
    replicate(&a, &b);
    let restarted = Store::new(config(3));
    add(&restarted, 20, b"k", 2);
    replicate(&restarted, &b);
    replicate(&b, &restarted);
    assert_eq!((number(&b, 30, b"k"), number(&restarted, 30, b"k")), (Some(7), Some(7)));
    let count = b.count(b"k", ms(30)).unwrap();
    assert_eq!((count.sum, count.base, count.slots.len()), (7, 0, 2));
}

#[test]
fn counters_stop_at_the_memory_limit_and_at_the_limit_of_slots() {
    let store = Store::new(StoreConfig { max_memory: Some(120), ..config(1) });
    let incr = |key: &[u8]| store.write(&mut at(&store, 5), key, |_| (Write::Add(1), ()));
    assert_eq!(incr(b"k"), Ok(()));
    assert_eq!(incr(b"other"), Err(WriteError::OutOfMemory));
    assert_eq!(incr(b"k"), Ok(()), "it does not grow");

    let crowded = Store::new(config(1));
    let mut counter = Counter::NONE;
    for id in 0..MAX_SLOTS {
        let origin = crowded.intern(crate::model::timestamp::incarnation(id as u128 + 10).unwrap()).unwrap();
        counter.put(origin, Slot { up: 1, ..Slot::begin(ms(5)) });
    }
    crowded.observe(ms(5));
    crowded.merge(&mut Vec::new(), b"k", &Parts::EMPTY, &counter, ReceivedBy::Sync { cutoff: ZERO });
    let refused = crowded.write(&mut at(&crowded, 5), b"k", |_| (Write::Add(1), ()));
    assert_eq!(refused, Err(WriteError::TooManySlots));
}

/// One step of a random history.
#[derive(Clone, Debug)]
enum Step {
    Add { store: usize, by: i64 },
    Reset { store: usize, to: Option<u8> },
    Exchange { from: usize, to: usize },
    Restart { store: usize },
}

fn any_step() -> impl Strategy<Value = Step> {
    let store = || 0..3usize;
    prop_oneof![
        6 => (store(), -3..9i64).prop_map(|(store, by)| Step::Add { store, by }),
        1 => (store(), proptest::option::of(0..9u8)).prop_map(|(store, to)| Step::Reset { store, to }),
        4 => (store(), store()).prop_map(|(from, to)| Step::Exchange { from, to }),
        1 => store().prop_map(|store| Step::Restart { store }),
    ]
}

/// The expected content of a store, from the increments and resets that it has received.
#[derive(Clone, Default)]
struct Known {
    increments: BTreeSet<usize>,
    reset: BTreeSet<usize>,
    base: Option<(u64, Option<u8>)>,
}

proptest! {
    #![proptest_config(random_cases(3_000))]

    /// Goal: a counter is the sum of the increments that a store has received and that no reset covers, on top of the
    /// latest value that was set. Method: three stores, whose processes restart under new incarnations, and a set of
    /// the increments that each has received; both are joined when the stores exchange.
    #[test]
    fn a_counter_is_the_sum_of_the_increments_that_no_reset_has_seen(
        steps in proptest::collection::vec(any_step(), 0..60)
    ) {
        let mut ids = 1..;
        let mut start = || Store::new(config(ids.next().unwrap()));
        let mut stores = [start(), start(), start()];
        let mut known: [Known; 3] = Default::default();
        let mut amounts = Vec::new();
        for (now, step) in (10..).zip(steps) {
            match step {
                Step::Add { store, by } => {
                    add(&stores[store], now, b"k", by);
                    known[store].increments.insert(amounts.len());
                    amounts.push(by);
                }
                Step::Reset { store, to } => {
                    let knows = &mut known[store];
                    match to {
                        Some(base) => set(&stores[store], now, b"k", base.to_string().as_bytes(), None),
                        None if delete(&stores[store], now, b"k") => {}
                        None => continue,
                    }
                    knows.reset.extend(knows.increments.iter().copied());
                    knows.base = Some((now, to));
                }
                Step::Exchange { from, to } => {
                    replicate(&stores[from], &stores[to]);
                    let received = known[from].clone();
                    known[to].increments.extend(received.increments);
                    known[to].reset.extend(received.reset);
                    known[to].base = known[to].base.max(received.base);
                }
                Step::Restart { store } => {
                    stores[store] = start();
                    known[store] = Known::default();
                }
            }
            for (store, known) in stores.iter().zip(&known) {
                let counted = known.increments.difference(&known.reset).map(|&n| amounts[n]);
                let base = known.base.and_then(|(_, base)| base);
                let exists = base.is_some() || known.increments.difference(&known.reset).next().is_some();
                let expected = exists.then(|| i64::from(base.unwrap_or(0)) + counted.sum::<i64>());
                prop_assert_eq!(number(store, now, b"k"), expected);
            }
        }
        stores.iter().for_each(assert_sums_are_exact);
    }
}
