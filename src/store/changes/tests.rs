use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use crate::model::Deadline;
use crate::model::timestamp::ms;
use tokio::time::{self, advance};

use super::*;
use crate::model::timestamp::incarnation;
use crate::model::{HashSeed, RangeCount};
use crate::store::{Batch, Counter, Lengths, Parts, ReceivedBy, Store, StoreConfig, Write};

fn store() -> Store {
    Store::new(StoreConfig {
        seed: HashSeed::of_cluster("test"),
        ranges: RangeCount::power_of_two(4),
        incarnation: incarnation(1).unwrap(),
        max_memory: None,
        eviction: crate::store::EvictionPolicy::NoEviction,
        lengths: Lengths::UNLIMITED,
        feed_limit: 1 << 20,
    })
}

fn write(store: &Store, now: u64, key: &str, write: Write<'_>) {
    let mut batch = Batch::default();
    store.begin(&mut batch, ms(now));
    store.write(&mut batch, key.as_bytes(), |_| (write, ())).unwrap();
    store.publish(&mut batch);
}

fn set(store: &Store, now: u64, key: &str, deadline: Option<u64>) {
    write(store, now, key, Write::Set { value: b"v", deadline: deadline.map(Deadline) });
}

fn follow(store: &Store, prefixes: &[&str]) -> Follower {
    let prefixes: Vec<&[u8]> = prefixes.iter().map(|prefix| prefix.as_bytes()).collect();
    store.follow(&Prefixes::new(&prefixes).unwrap()).unwrap()
}

const ALL: ReadLimit = ReadLimit { changes: usize::MAX, bytes: u64::MAX };

fn changes(follower: &Follower, from: u64) -> Vec<Change> {
    let Read::Changes(changes) = follower.read(from, ALL) else { panic!("lagged") };
    changes
}

/// Keys and causes of all changes after `from`.
fn read(follower: &Follower, from: u64) -> Vec<(String, Cause)> {
    let changes = changes(follower, from);
    assert!(changes.is_sorted_by_key(|change| change.sequence));
    let key = |change: &Change| String::from_utf8(change.cell.key().to_vec()).unwrap();
    changes.iter().map(|change| (key(change), change.cause)).collect()
}

fn named(changes: &[(&str, Cause)]) -> Vec<(String, Cause)> {
    changes.iter().map(|(key, cause)| ((*key).to_owned(), *cause)).collect()
}

#[test]
fn writes_merges_and_expiries_are_followed_with_their_cause() {
    let (here, there) = (store(), store());
    let follower = follow(&here, &["a"]);
    let start = follower.last();
    set(&here, 10, "a1", Some(50));
    set(&here, 10, "b1", None);
    write(&here, 11, "a1", Write::Deadline(Some(Deadline(40))));
    set(&there, 12, "a2", None);
    let theirs = there.cell(b"a2").unwrap();
    for _ in 0..2 {
        here.observe(theirs.time());
        let origin = here.intern(incarnation(9).unwrap()).unwrap();
        let parts = Parts { origin, ..theirs.parts() };
        here.merge(&mut Vec::new(), b"a2", &parts, &Counter::NONE, ReceivedBy::Push);
    }
    write(&here, 20, "a2", Write::Delete);
    (0..here.range_count()).for_each(|range| _ = here.sweep(range, ms(40)));
    set(&here, 41, "a1", None);
    let expected = [
        ("a1", Cause::Set),
        ("a1", Cause::Expire),
        ("a2", Cause::Set),
        ("a2", Cause::Delete),
        ("a1", Cause::Expired),
        ("a1", Cause::Set),
    ];
    assert_eq!(read(&follower, start), named(&expected));
    let was_live: Vec<_> = changes(&follower, start).iter().map(|change| change.was_live).collect();
    assert_eq!(was_live, [false, true, false, true, true, false]);
}

#[test]
fn a_follower_of_many_prefixes_reads_their_changes_in_one_order() {
    let store = store();
    let (many, all) = (follow(&store, &["b", "a"]), follow(&store, &[""]));
    let (from_many, from_all) = (many.last(), all.last());
    for (n, key) in ["b1", "c1", "a1", "b2", "a2"].into_iter().enumerate() {
        set(&store, n as u64, key, None);
    }
    let keys =
        |follower: &Follower, from| read(follower, from).into_iter().map(|(key, _)| key).collect::<Vec<_>>();
    assert_eq!(keys(&many, from_many), ["b1", "a1", "b2", "a2"]);
    assert_eq!(keys(&all, from_all), ["b1", "c1", "a1", "b2", "a2"]);
    let Read::Changes(changes) = many.read(from_many, ReadLimit { changes: 3, ..ALL }) else {
        panic!("lagged")
    };
    assert_eq!(changes.len(), 3);
    assert_eq!(keys(&many, changes[2].sequence), ["a2"]);
}

#[tokio::test(start_paused = true)]
async fn a_follower_that_comes_back_soon_has_missed_nothing_and_a_late_one_is_reset() {
    let store = store();
    let follower = follow(&store, &["a"]);
    let from = follower.last();
    drop(follower);
    set(&store, 1, "a1", None);
    advance(LINGER - Duration::from_millis(1)).await;
    (0..LOOK_EVERY).for_each(|n| set(&store, 2 + n, "b1", None));
    let follower = follow(&store, &["a"]);
    assert_eq!(read(&follower, from), named(&[("a1", Cause::Set)]));
    drop(follower);
    advance(LINGER).await;
    drop(follow(&store, &["b"]));
    assert!(matches!(follow(&store, &["a"]).read(from, ALL), Read::Lagged));
}

#[tokio::test(start_paused = true)]
async fn writers_pay_nothing_once_the_last_follower_has_stayed_away() {
    let store = store();
    let recorded = |store: &Store| store.ranges.changes().logs.load(Ordering::Relaxed);
    drop(follow(&store, &["a"]));
    assert_eq!(recorded(&store), 1);
    advance(LINGER).await;
    (0..LOOK_EVERY).for_each(|n| set(&store, 2 + n, "a1", None));
    assert_eq!(recorded(&store), 0);
    for n in 0..2 * MAX_EMPTY_GROUPS {
        drop(follow(&store, &[&n.to_string()]));
        advance(Duration::from_millis(1)).await;
    }
    assert_eq!(recorded(&store), MAX_EMPTY_GROUPS);
}

#[tokio::test]
async fn one_change_wakes_all_who_wait_and_who_leaves_meanwhile_holds_nobody_up() {
    let store = Arc::new(store());
    let follower = follow(&store, &["a"]);
    let from = follower.last();
    let spawn = |follower: Follower| tokio::spawn(async move { follower.news(from).await });
    let mut tasks: Vec<_> = (0..100).map(|_| spawn(follower.clone())).collect();
    for n in 0..100 {
        tokio::task::yield_now().await;
        if n == 50 {
            set(&store, 1, "b", None);
            set(&store, 1, "a", None);
        }
        if n % 3 == 0 {
            tasks.remove(0).abort();
        }
    }
    for task in tasks {
        time::timeout(Duration::from_secs(10), task).await.expect("woken").unwrap();
    }
}

#[test]
fn what_was_discarded_is_not_read_on() {
    let store = store();
    let follower = follow(&store, &[""]);
    let from = follower.last();
    set(&store, 1, "a", None);
    drop(store.discard(incarnation(2).unwrap()).unwrap());
    assert!(matches!(follower.read(from, ALL), Read::Lagged));
    let from = follower.last();
    set(&store, 1, "b", None);
    assert_eq!(read(&follower, from), named(&[("b", Cause::Set)]));
}

#[test]
fn a_log_that_nobody_reads_any_more_ends_at_once_and_is_freed_in_parts() {
    let store = store();
    let follower = follow(&store, &["a"]);
    (0..1000).for_each(|n| set(&store, 1 + n, &format!("a{n}"), None));
    let changes = store.ranges.changes();
    let conflated = |changes: &Changes| changes.book.lock().conflated.changes;
    assert!(conflated(changes) > 0);
    drop(follower);
    // Only so many empty groups are kept.
    (0..MAX_EMPTY_GROUPS).for_each(|n| drop(follow(&store, &[&format!("b{n}")])));
    assert_eq!((conflated(changes), changes.book.lock().ended.len()), (0, 1));
    let parts = std::iter::repeat_with(|| store.free_changes()).take_while(|left| *left).count();
    assert!(parts > 5, "{parts} parts, where at most 16 changes are a segment");
    assert_eq!(changes.book.lock().ended.len(), 0);
}

#[test]
fn prefixes_that_lie_too_deep_are_refused() {
    let store = store();
    let words: Vec<String> = (0..=MAX_DEPTH).map(|n| "x".repeat(n)).collect();
    let kept: Vec<_> = words[1..].iter().map(|word| follow(&store, &[word])).collect();
    let all = Prefixes::all();
    assert_eq!(store.follow(&all).unwrap_err(), TooDeep);
    assert_eq!(kept.len(), MAX_DEPTH);
    follow(&store, &["y"]);
}

#[test]
fn threads_that_write_the_same_keys_are_recorded_in_the_order_that_counts() {
    let store = store();
    let follower = follow(&store, &[""]);
    let mut from = follower.last();
    let mut timestamps = HashMap::new();
    std::thread::scope(|scope| {
        let writers: Vec<_> = (0..4)
            .map(|_| {
                let store = &store;
                scope.spawn(move || (0..5_000).for_each(|n| set(store, 1, &(n % 50).to_string(), None)))
            })
            .collect();
        loop {
            let done = writers.iter().all(std::thread::ScopedJoinHandle::is_finished);
            let changes = changes(&follower, from);
            for change in &changes {
                from = change.sequence;
                let before = timestamps.insert(change.cell.key().to_vec(), change.cell.time());
                assert!(before.is_none_or(|before| before < change.cell.time()));
            }
            if done && changes.is_empty() {
                break;
            }
        }
    });
    assert_eq!(timestamps.len(), 50);
    for (key, time) in timestamps {
        assert_eq!(store.cell(&key).unwrap().time(), time);
    }
}
