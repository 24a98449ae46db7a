use std::collections::{BTreeMap, HashMap};
use std::ops::Deref;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use crate::model::Deadline;
use crate::model::timestamp::ms;
use proptest::prelude::*;
use proptest::test_runner::{TestError, TestRng, TestRunner};
use tokio::time;

use super::*;
use crate::ablation::{Ablation, ablate};
use crate::model::counter::strict_number;
use crate::model::timestamp::incarnation;
use crate::model::{HashSeed, RangeCount, Timestamp};
use crate::random_cases::random_cases;
use crate::store::{Batch, Cause, Lengths, Live, StoreConfig, Write};

impl Deref for Watches {
    type Target = Store;

    fn deref(&self) -> &Store {
        &self.store
    }
}

/// A store, with what its watchers share.
fn store(id: u128) -> Arc<Watches> {
    Arc::new(Watches::new(Arc::new(Store::new(StoreConfig {
        seed: HashSeed::of_cluster("test"),
        ranges: RangeCount::power_of_two(3),
        incarnation: incarnation(id).unwrap(),
        max_memory: None,
        eviction: crate::store::EvictionPolicy::NoEviction,
        lengths: Lengths::UNLIMITED,
        feed_limit: 1 << 20,
    }))))
}

fn write(store: &Store, now: u64, key: &str, write: Write<'_>) {
    let mut batch = Batch::default();
    store.begin(&mut batch, ms(now));
    store.write(&mut batch, key.as_bytes(), |_| (write, ())).unwrap();
}

fn set(store: &Store, now: u64, key: &str, value: &[u8]) {
    write(store, now, key, Write::Set { value, deadline: None });
}

/// Adds to a counter; does nothing if the key holds text.
fn add(store: &Store, now: u64, key: &str, by: i64) {
    let mut batch = Batch::default();
    store.begin(&mut batch, ms(now));
    let write = |live: Option<Live<'_>>| {
        let is_text = live.is_some_and(|live| strict_number(live.value()).is_none());
        (if is_text { Write::Keep } else { Write::Add(by) }, ())
    };
    store.write(&mut batch, key.as_bytes(), write).unwrap();
}

/// Merges the cell of `key` into `to`, as a peer would.
fn replicate(from: &Store, to: &Store, key: &str) {
    let Some(cell) = from.cell(key.as_bytes()) else { return };
    let translate = |origin| to.intern(from.incarnation(origin)).unwrap();
    let mut parts = cell.parts();
    parts.origin = translate(parts.origin);
    parts.deadline_timestamp = parts.deadline_timestamp.map(|(time, origin)| (time, translate(origin)));
    let mut counter = cell.counter();
    counter.slots.clear();
    counter.expiry = counter.expiry.map(|(writer, expiry)| (translate(writer), expiry));
    cell.counter().slots.iter().for_each(|&(owner, slot)| counter.put(translate(owner), slot));
    to.observe(cell.latest());
    to.merge(&mut Vec::new(), cell.key(), &parts, &counter, crate::store::ReceivedBy::Push);
}

fn sweep(store: &Store, now: u64) {
    (0..store.range_count()).for_each(|range| _ = store.sweep(range, ms(now)));
}

/// A client that applies the events of a watcher; it panics on an event that breaks a rule.
#[derive(Default)]
struct Client {
    held: BTreeMap<Vec<u8>, Vec<u8>>,
    timestamps: HashMap<Vec<u8>, Timestamp>,
    resets: Vec<ResetReason>,
    live: bool,
    cursor: Option<Cursor>,
    skipped: u64,
    changes: u64,
}

impl Client {
    fn take(&mut self, page: &Page) {
        for event in page.events() {
            match event {
                WatchEvent::Reset { reason } => {
                    (self.held, self.timestamps, self.live, self.cursor) = Default::default();
                    self.resets.push(*reason);
                }
                WatchEvent::Entry(item) => {
                    assert!(!self.live && item.value().is_some());
                    self.know(item);
                }
                WatchEvent::Live { cursor } => {
                    assert!(!std::mem::replace(&mut self.live, true));
                    self.cursor = Some(*cursor);
                }
                WatchEvent::Change { cause, item, cursor } => {
                    assert_eq!(
                        item.value().is_none(),
                        matches!(cause, Cause::Delete | Cause::Expired | Cause::Evicted)
                    );
                    if self.live {
                        assert!(self.cursor.unwrap().sequence < cursor.sequence);
                        self.cursor = Some(*cursor);
                    }
                    self.changes += 1;
                    self.know(item);
                }
                WatchEvent::Skipped(n) => self.skipped += n,
            }
        }
    }

    fn know(&mut self, item: &WatchItem) {
        let timestamp = Timestamp::new(item.time(), item.origin());
        let before = self.timestamps.insert(item.key().to_vec(), timestamp);
        assert!(before.is_none_or(|before| before <= timestamp), "{item:?} after {before:?}");
        match item.value() {
            Some(value) => _ = self.held.insert(item.key().to_vec(), value.to_vec()),
            None => _ = self.held.remove(item.key()),
        }
    }

    /// Takes all pages there are.
    fn drain(&mut self, watcher: &mut Watcher, now: u64) {
        while let Some(page) = watcher.next(ms(now)) {
            self.take(&page);
        }
        assert!(self.live);
    }
}

fn prefixes(words: &[&str]) -> DatabasePrefixes {
    let words: Vec<_> = words.iter().map(|word| word.as_bytes()).collect();
    DatabasePrefixes::new(Database::ZERO, &words).unwrap()
}

fn watch(store: &Arc<Watches>, words: &[&str], cursor: Option<Cursor>) -> Watcher {
    Watcher::new(Arc::clone(store), &prefixes(words), cursor).unwrap()
}

/// What the store holds under some prefixes.
fn held(store: &Store, words: &[&str], now: u64) -> BTreeMap<Vec<u8>, Vec<u8>> {
    let prefixes = prefixes(words);
    let mut held = BTreeMap::new();
    for range in 0..store.range_count() {
        store.walk(range, |cell| {
            if cell.is_live(ms(now)) && prefixes.stored.cover(cell.key()) {
                held.insert(cell.key().to_vec(), cell.as_shown(ms(now)).value().unwrap().to_vec());
            }
        });
    }
    held
}

#[test]
fn a_snapshot_then_every_change() {
    let store = store(1);
    set(&store, 1, "a1", b"1");
    set(&store, 1, "b1", b"1");
    let (mut watcher, mut client) = (watch(&store, &["a"], None), Client::default());
    client.drain(&mut watcher, 1);
    assert_eq!((&client.resets[..], client.held.len(), client.changes), (&[Start][..], 1, 0));
    for n in 2..10 {
        set(&store, n, "a2", &[0]);
    }
    write(&store, 10, "a1", Write::Delete);
    client.drain(&mut watcher, 10);
    assert_eq!((client.held.len(), client.changes, client.skipped), (1, 9, 0));
}

#[test]
fn a_cursor_goes_on_without_a_gap_and_elsewhere_there_is_a_reset() {
    let (here, there) = (store(1), store(2));
    let (mut first, mut client) = (watch(&here, &["a"], None), Client::default());
    client.drain(&mut first, 1);
    drop(first);
    (2..12).for_each(|n| set(&here, n, "a", &[0]));
    client.live = false;
    client.drain(&mut watch(&here, &["a"], client.cursor), 12);
    assert_eq!((client.resets.len(), client.changes), (1, 10));

    let cursor = client.cursor;
    let mut elsewhere = Client::default();
    elsewhere.drain(&mut watch(&there, &["a"], cursor), 12);
    assert_eq!(elsewhere.resets, [OtherNode]);
    for sequence in [0, u64::MAX] {
        let mut forged = Client::default();
        forged.drain(&mut watch(&here, &["a"], cursor.map(|cursor| Cursor { sequence, ..cursor })), 12);
        assert_eq!(forged.resets, [Lagged]);
    }
}

#[test]
fn a_slow_watcher_receives_the_last_change_of_each_key_and_how_many_it_missed() {
    let store = store(1);
    let (mut watcher, mut client) = (watch(&store, &["a"], None), Client::default());
    client.drain(&mut watcher, 1);
    let writes = 10 * MAX_RECENT as u64;
    (1..=writes).for_each(|n| set(&store, n, &format!("a{}", n % 10), &n.to_le_bytes()));
    client.drain(&mut watcher, writes);
    assert_eq!(client.resets, [Start]);
    assert_eq!(client.changes + client.skipped, writes);
    assert!(client.changes <= MAX_RECENT as u64 + 10);
    assert_eq!(client.held, held(&store, &["a"], writes));
}

/// Method: the watcher resumes after few or many changes, so that they are recent, at the limit of the recent ones, or
/// conflated, once or repeatedly.
#[test]
fn a_cursor_has_no_gap_wherever_the_changes_after_it_are_kept() {
    let store = store(1);
    let (mut watcher, mut client) = (watch(&store, &["a"], None), Client::default());
    client.drain(&mut watcher, 1);
    let mut now = 1;
    for written in [1, MAX_RECENT / 2, MAX_RECENT - 1, MAX_RECENT, MAX_RECENT + 1, 7 * MAX_RECENT, 2] {
        drop(watcher);
        let received = client.changes + client.skipped;
        for n in 0..written {
            now += 1;
            set(&store, now, &format!("a{}", (n * n) % 23), &now.to_le_bytes());
        }
        client.live = false;
        watcher = watch(&store, &["a"], client.cursor);
        client.drain(&mut watcher, now);
        assert_eq!(client.resets, [Start], "after {written} changes");
        // If the client had received some of the conflated changes before, `skipped` is a lower bound.
        assert!(client.changes + client.skipped - received <= written as u64);
        assert_eq!(client.held, held(&store, &["a"], now));
    }
}

#[test]
fn a_watcher_that_falls_off_begins_anew() {
    let store = store(1);
    let (mut watcher, mut client) = (watch(&store, &[""], None), Client::default());
    client.drain(&mut watcher, 1);
    (1..1000).for_each(|n| set(&store, n, &n.to_string(), b"v"));
    client.drain(&mut watcher, 1000);
    assert_eq!(client.resets, [Start, Lagged]);
    assert_eq!(client.held.len(), 999);
    drop(store.discard(incarnation(3).unwrap()).unwrap());
    client.drain(&mut watcher, 1000);
    assert_eq!(client.resets, [Start, Lagged, Discarded]);
    assert!(client.held.is_empty());
}

#[test]
fn watchers_at_one_place_share_pages_and_their_rendering() {
    let store = store(1);
    (0..100).for_each(|n| set(&store, 1, &n.to_string(), b"v"));
    let mut watchers: Vec<_> = (0..50).map(|_| watch(&store, &[""], None)).collect();
    let mut clients: Vec<_> = watchers.iter().map(|_| Client::default()).collect();
    let rendered = AtomicUsize::new(0);
    let mut sync = |now| {
        for (watcher, client) in watchers.iter_mut().zip(&mut clients) {
            while let Some(page) = watcher.next(ms(now)) {
                let bytes = page.rendered(0, |events| {
                    rendered.fetch_add(1, Ordering::Relaxed);
                    vec![0; events.len()]
                });
                assert_eq!(bytes.len(), page.events().len());
                client.take(&page);
            }
        }
        rendered.swap(0, Ordering::Relaxed)
    };
    assert_eq!(sync(2), 4 + 50, "a page a step of the walk, and that all is live for each");
    set(&store, 3, "1", b"w");
    set(&store, 3, "2", b"w");
    assert_eq!(sync(4), 1);
    assert!(clients.iter().all(|client| client.held == held(&store, &[""], 4)));
}

#[test]
fn pages_are_bounded_but_for_a_single_value() {
    let store = store(1);
    (0..20).for_each(|n| set(&store, 1, &n.to_string(), &vec![7; 10_000]));
    set(&store, 1, "large", &vec![7; 1 << 20]);
    let mut watcher = watch(&store, &[""], None);
    let mut check = || {
        let mut seen = 0;
        while let Some(page) = watcher.next(ms(2)) {
            let items = page.events().iter().filter_map(|event| match event {
                WatchEvent::Entry(item) | WatchEvent::Change { item, .. } => {
                    Some(item.value().unwrap().len())
                }
                _ => None,
            });
            let lengths: Vec<usize> = items.collect();
            assert!(
                lengths.len() <= 1 || lengths.iter().sum::<usize>() < 2 * (32 << 10) || lengths.len() == 4
            );
            seen += lengths.len();
        }
        seen
    };
    assert_eq!(check(), 21);
    (0..20).for_each(|n| set(&store, 2, &n.to_string(), &vec![8; 10_000]));
    assert_eq!(check(), 20);
}

#[tokio::test]
async fn watchers_are_ready_when_there_is_something_and_not_before() {
    let store = store(1);
    let mut watcher = watch(&store, &["a"], None);
    let mut client = Client::default();
    while !client.live {
        watcher.ready().await;
        client.take(&watcher.next(ms(1)).unwrap());
    }
    assert!(time::timeout(Duration::from_millis(5), watcher.ready()).await.is_err());
    set(&store, 2, "b", b"v");
    assert!(time::timeout(Duration::from_millis(5), watcher.ready()).await.is_err());
    set(&store, 2, "a", b"v");
    time::timeout(Duration::from_secs(10), watcher.ready()).await.unwrap();
    client.take(&watcher.next(ms(1)).unwrap());
    assert_eq!(client.held.len(), 1);
}

#[derive(Clone, Debug)]
enum Act {
    Set(usize, Option<u64>),
    Delete(usize),
    Deadline(usize, Option<u64>),
    Add(usize, i64),
    /// A write on the other node, merged here at once or later.
    SetThere(usize),
    AddThere(usize, i64),
    DeadlineThere(usize, u64),
    DeleteThere(usize),
    Merge(usize),
    /// Merges this node's cell on the other node.
    Tell(usize),
    Sweep,
    Pass(u64),
    /// Writes so many times to so many keys, which begin with "flood".
    Flood(usize, usize),
    /// A watcher takes so many pages.
    Read(usize, usize),
    /// A watcher starts from a snapshot, or resumes from its cursor.
    Restart(usize),
    Resume(usize),
}

fn act() -> impl Strategy<Value = Act> {
    let key = 0..6usize;
    prop_oneof![
        4 => (key.clone(), proptest::option::of(0..20u64)).prop_map(|(key, ttl)| Act::Set(key, ttl)),
        2 => key.clone().prop_map(Act::Delete),
        2 => (key.clone(), proptest::option::of(0..20u64)).prop_map(|(key, ttl)| Act::Deadline(key, ttl)),
        4 => (key.clone(), -3..9i64).prop_map(|(key, by)| Act::Add(key, by)),
        2 => key.clone().prop_map(Act::SetThere),
        2 => (key.clone(), -3..9i64).prop_map(|(key, by)| Act::AddThere(key, by)),
        1 => (key.clone(), 0..20u64).prop_map(|(key, ttl)| Act::DeadlineThere(key, ttl)),
        1 => key.clone().prop_map(Act::DeleteThere),
        3 => key.clone().prop_map(Act::Merge),
        2 => key.prop_map(Act::Tell),
        2 => Just(Act::Sweep),
        2 => (0..10u64).prop_map(Act::Pass),
        1 => (0..2 * MAX_RECENT, 1..40usize).prop_map(|(writes, keys)| Act::Flood(writes, keys)),
        1 => (0..300usize).prop_map(|writes| Act::Flood(writes, 300)),
        6 => (0..4usize, 1..4usize).prop_map(|(watcher, pages)| Act::Read(watcher, pages)),
        1 => (0..4usize).prop_map(Act::Restart),
        2 => (0..4usize).prop_map(Act::Resume),
    ]
}

const WORDS: [&[&str]; 4] = [&["k"], &["k"], &[""], &["k1", "k3", "flood1"]];

/// Acts; panics if a watcher receives an event that breaks a rule, or ends with another state than the store's.
fn follow_through(acts: Vec<Act>) {
    let (here, there) = (store(1), store(2));
    let key = |n: usize| format!("k{n}");
    // A number more often than text, because a counter does not count from text.
    let value = |now: u64| if now.is_multiple_of(4) { format!("text {now}") } else { now.to_string() };
    let mut now = 1;
    let mut watched: Vec<_> =
        WORDS.iter().map(|words| (watch(&here, words, None), Client::default())).collect();
    for act in acts {
        match act {
            Act::Set(n, ttl) => {
                let deadline = ttl.map(|ttl| Deadline(now + ttl));
                write(&here, now, &key(n), Write::Set { value: value(now).as_bytes(), deadline });
            }
            Act::Delete(n) => write(&here, now, &key(n), Write::Delete),
            Act::Deadline(n, ttl) => {
                write(&here, now, &key(n), Write::Deadline(ttl.map(|ttl| Deadline(now + ttl))));
            }
            Act::Add(n, by) => add(&here, now, &key(n), by),
            Act::SetThere(n) => set(&there, now, &key(n), value(1000 + now).as_bytes()),
            Act::AddThere(n, by) => add(&there, now, &key(n), by),
            Act::DeadlineThere(n, ttl) => {
                write(&there, now, &key(n), Write::Deadline(Some(Deadline(now + ttl))));
            }
            Act::DeleteThere(n) => write(&there, now, &key(n), Write::Delete),
            Act::Merge(n) => replicate(&there, &here, &key(n)),
            Act::Tell(n) => replicate(&here, &there, &key(n)),
            Act::Sweep => sweep(&here, now),
            Act::Pass(by) => now += by,
            Act::Flood(writes, keys) => {
                (0..writes).for_each(|n| set(&here, now, &format!("flood{}", n % keys), b"v"));
            }
            Act::Read(n, pages) => {
                let (watcher, client) = &mut watched[n];
                for page in std::iter::from_fn(|| watcher.next(ms(now))).take(pages) {
                    client.take(&page);
                }
            }
            Act::Restart(n) => watched[n] = (watch(&here, WORDS[n], None), Client::default()),
            Act::Resume(n) => {
                let (watcher, client) = &mut watched[n];
                if let Some(cursor) = client.cursor.filter(|_| client.live) {
                    *watcher = watch(&here, WORDS[n], Some(cursor));
                    client.live = false;
                }
            }
        }
    }
    now += 100;
    sweep(&here, now);
    for ((watcher, client), words) in watched.iter_mut().zip(WORDS) {
        client.drain(watcher, now);
        assert_eq!(&client.held, &held(&here, words, now));
    }
}

fn histories(cases: u32) -> Result<(), TestError<Vec<Act>>> {
    let config = random_cases(cases);
    let rng = TestRng::deterministic_rng(config.rng_algorithm);
    TestRunner::new_with_rng(config, rng).run(&proptest::collection::vec(act(), 1..120), |acts| {
        follow_through(acts);
        Ok(())
    })
}

#[test]
fn the_last_state_that_a_watcher_receives_is_what_the_store_holds() {
    histories(400).unwrap();
}

#[test]
fn the_histories_notice_a_rule_that_is_left_out() {
    for rule in [Ablation::LastOfKeys, Ablation::ToldOfLag] {
        ablate(Some(rule));
        let noticed = histories(400).is_err();
        ablate(None);
        assert!(noticed, "{rule:?}");
    }
}

#[test]
fn watchers_that_begin_while_threads_write_end_with_what_the_store_holds() {
    const KEYS: usize = 40;
    let store = store(1);
    let writers_left = AtomicUsize::new(3);
    std::thread::scope(|scope| {
        for n in 0..3usize {
            let (store, left) = (&store, &writers_left);
            scope.spawn(move || {
                for m in 0..4_000 {
                    let key = format!("k{}", (m * (n + 7)) % KEYS);
                    if m % 5 == 0 {
                        write(store, 1, &key, Write::Delete);
                    } else {
                        set(store, 1, &key, &m.to_le_bytes());
                    }
                }
                left.fetch_sub(1, Ordering::Release);
            });
        }
        for _ in 0..2 {
            scope.spawn(|| {
                loop {
                    let done = writers_left.load(Ordering::Acquire) == 0;
                    let (mut watcher, mut client) = (watch(&store, &["k"], None), Client::default());
                    for page in std::iter::from_fn(|| watcher.next(ms(1))).take(20) {
                        client.take(&page);
                    }
                    if done {
                        client.drain(&mut watcher, 1);
                        assert_eq!(client.held, held(&store, &["k"], 1));
                        break;
                    }
                }
            });
        }
        // A watcher that stays.
        let (mut watcher, mut client) = (watch(&store, &["k"], None), Client::default());
        while writers_left.load(Ordering::Acquire) > 0 {
            if let Some(page) = watcher.next(ms(1)) {
                client.take(&page);
            }
        }
        client.drain(&mut watcher, 1);
        assert_eq!(client.held, held(&store, &["k"], 1));
    });
}
