//! Two nodes in one thread: real sessions, syncs and stores, and frames through the real codec.

mod uncovered;

use std::collections::{BTreeSet, VecDeque};
use std::sync::Arc;

use proptest::prelude::*;

use super::exchange::VERIFY_EVERY;
use super::*;
use crate::ablation::must_fail_without;
use crate::model::{Deadline, HashSeed, RangeCount};
use crate::random_cases::random_cases;
use crate::replication::cells::CellsEncoder;
use crate::replication::codec::take_frame;
use crate::replication::local::HealingConfig;
use crate::replication::members::MembershipConfig;
use crate::replication::push;
use crate::replication::sync::ListLimit;
use crate::store::{Batch, Counter, Lengths, Parts, ReceivedBy, Store, StoreConfig, Write};

const SKEW: Duration = Duration::from_millis(500);

/// One node of a pair.
struct Side {
    local: Local,
    session: Session,
    queue: Arc<Queue>,
    /// Frames on their way to the other side.
    sent: VecDeque<Bytes>,
    /// Bytes sent, with the header of each frame.
    bytes: usize,
}

/// Two linked nodes, with a clock that the test moves.
struct Pair {
    a: Side,
    b: Side,
    wall: Time,
    now: Instant,
}

fn id(n: u128) -> Incarnation {
    timestamp::incarnation(n).unwrap()
}

impl Side {
    fn new(own: u128, other: u128, ranges: RangeCount, wall: Time, now: Instant) -> Side {
        let store = Arc::new(Store::new(StoreConfig {
            seed: HashSeed::of_cluster("test"),
            ranges,
            incarnation: id(own),
            max_memory: None,
            eviction: crate::store::EvictionPolicy::NoEviction,
            lengths: Lengths::UNLIMITED,
            feed_limit: 0,
        }));
        let config = HealingConfig { max_clock_skew: SKEW, forget_after: None, tombstone_limit: 1000 };
        let membership = MembershipConfig { name: own.to_string(), incarnation: id(own), forget_after: None };
        let mut local = Local::new(store, config, membership, wall);
        if ranges != RangeCount::FULL {
            local.list_limit = ListLimit(4);
        }
        let queue = Arc::new(Queue::new(1 << 20));
        let session = Session::new(id(own), id(other), &other.to_string(), Arc::clone(&queue), now);
        Side { local, session, queue, sent: VecDeque::new(), bytes: 0 }
    }

    fn write(&self, wall: Time, key: &[u8], write: Write<'_>) {
        let mut batch = Batch::default();
        self.local.store.begin(&mut batch, wall);
        self.local.store.write(&mut batch, key, |_| (write, ())).unwrap();
    }

    fn set(&self, wall: Time, key: &[u8], value: &[u8]) {
        self.write(wall, key, Write::Set { value, deadline: None });
    }

    /// Moves published changes to the queue, as the node's task does.
    fn push(&self) {
        let (store, queue, mut cells) = (&self.local.store, &self.queue, Vec::new());
        let taken = store.feed().take(&mut cells);
        if taken.overflowed {
            queue.lose_pushes();
        }
        let put = |frame, through| queue.put(frame, through);
        push::encode(store, &mut CellsEncoder::default(), cells, taken.through, put);
    }

    fn collect(&mut self, wall: Time, now: Instant) {
        let before = self.sent.len();
        self.queue.take(&mut self.sent, usize::MAX);
        self.session.poll(&self.local, wall, now, &mut self.sent);
        self.bytes += self.sent.iter().skip(before).map(Bytes::len).sum::<usize>();
    }

    fn get(&self, wall: Time, key: &[u8]) -> Option<Vec<u8>> {
        self.local.store.read(key, wall, |live| live.map(|live| live.value().to_vec()))
    }

    fn digest(&self) -> (u64, u64) {
        let totals = self.local.store.totals();
        (totals.live, totals.dead)
    }
}

impl Pair {
    fn new(ranges: RangeCount) -> Pair {
        let wall = timestamp::time_since_epoch(Duration::from_secs(1_700_000_000));
        let now = Instant::now();
        let pair =
            Pair { a: Side::new(1, 2, ranges, wall, now), b: Side::new(2, 1, ranges, wall, now), wall, now };
        pair.a.local.members.lock().on_link("2", id(2), 1, wall);
        pair.b.local.members.lock().on_link("1", id(1), 1, wall);
        pair
    }

    fn pass(&mut self, by: Duration) {
        self.wall = timestamp::later(self.wall, by);
        self.now += by;
    }

    /// Carries one frame each way. Returns whether anything moved.
    fn step(&mut self) -> Result<bool, LinkError> {
        self.a.collect(self.wall, self.now);
        self.b.collect(self.wall, self.now);
        let (to_a, to_b) = (self.b.sent.pop_front(), self.a.sent.pop_front());
        let moved = to_a.is_some() || to_b.is_some();
        for (side, frame) in [(&mut self.a, to_a), (&mut self.b, to_b)] {
            if let Some(frame) = frame {
                side.session.receive(&side.local, codec::open(&frame)?, self.wall, self.now)?;
            }
        }
        Ok(moved)
    }

    /// Carries frames until none is left.
    fn deliver_all(&mut self) {
        while self.step().unwrap() {}
    }

    /// Lets the next verification happen. Returns the bytes that both sides sent.
    fn verify(&mut self) -> usize {
        self.deliver_all();
        let before = self.a.bytes + self.b.bytes;
        self.pass(VERIFY_EVERY);
        // Only one side asks, as it is in the long run.
        self.a.session.tick(&self.a.local, self.now).unwrap();
        self.deliver_all();
        self.pass(Duration::from_secs(1));
        self.deliver_all();
        self.a.bytes + self.b.bytes - before
    }

    /// Breaks the link and makes a new one.
    fn reconnect(&mut self) {
        for (side, own, other) in [(&mut self.a, 1, 2), (&mut self.b, 2, 1)] {
            side.session.end(&side.local);
            side.sent.clear();
            side.queue = Arc::new(Queue::new(1 << 20));
            side.session =
                Session::new(id(own), id(other), &other.to_string(), Arc::clone(&side.queue), self.now);
        }
    }

    fn assert_equal(&self) {
        assert_eq!(self.a.digest(), self.b.digest());
    }
}

fn key(n: u32) -> Vec<u8> {
    format!("key:{n:012}").into_bytes()
}

#[test]
fn a_first_contact_leaves_both_with_the_merge() {
    let mut pair = Pair::new(RangeCount::power_of_two(4));
    for n in 0..300 {
        pair.a.set(pair.wall, &key(n), b"a");
        pair.b.set(pair.wall, &key(n + 200), b"b");
    }
    pair.deliver_all();
    pair.assert_equal();
    assert_eq!(pair.a.local.store.totals().live_cells, 500);
    for side in [&pair.a, &pair.b] {
        assert!(!side.local.permits.is_busy(), "a sync still holds its permit");
    }
}

/// The figures that the benchmark measures on real nodes, on a store of a tenth of the size.
#[test]
fn a_sync_costs_what_differs() {
    let mut pair = Pair::new(RangeCount::FULL);
    let value = [7; 100];
    (0..100_000).for_each(|n| pair.a.set(pair.wall, &key(n), &value));
    pair.deliver_all();
    pair.assert_equal();
    let payload = 100_000 * 131;
    assert!(pair.a.bytes < payload * 105 / 100, "a fresh join of {payload} took {} bytes", pair.a.bytes);
    assert!(pair.b.bytes < payload / 100, "the joiner itself sent {} bytes", pair.b.bytes);

    let equal = pair.verify();
    assert!(equal <= 1536, "equal states took {equal} bytes");
    pair.a.set(pair.wall, &key(7), b"changed");
    let one = pair.verify();
    assert!((1200..4096).contains(&one), "one difference took {one} bytes");
    (0..100).for_each(|n| pair.b.set(pair.wall, &key(n * 991), &value));
    let hundred = pair.verify();
    assert!(hundred <= 120 << 10, "a hundred differences took {hundred} bytes");
    pair.assert_equal();
}

#[test]
fn a_difference_that_arrives_meanwhile_is_not_exchanged() {
    let mut pair = Pair::new(RangeCount::FULL);
    (0..50_000).for_each(|n| pair.a.set(pair.wall, &key(n), b"v"));
    pair.verify();
    pair.pass(VERIFY_EVERY);
    pair.a.set(pair.wall, &key(3), b"in flight");
    pair.a.session.tick(&pair.a.local, pair.now).unwrap();
    pair.deliver_all();
    assert_ne!(pair.a.digest(), pair.b.digest(), "the difference has not been believed yet");
    // Now the push arrives.
    let cell = pair.a.local.store.cell(&key(3)).unwrap();
    let origin = pair.b.local.store.intern(id(1)).unwrap();
    let arrived = Parts { origin, ..cell.parts() };
    pair.b.local.store.observe(arrived.time);
    pair.b.local.store.merge(&mut Vec::new(), &key(3), &arrived, &Counter::NONE, ReceivedBy::Push);
    pair.a.session.take_events();
    pair.pass(Duration::from_secs(1));
    pair.deliver_all();
    pair.assert_equal();
    let finished = pair.a.session.take_events().into_iter().find_map(|event| match event {
        Event::Finished(finished) => Some(finished.progress),
        _ => None,
    });
    assert_eq!(finished.map(|progress| progress.ranges_found), Some(0));
}

#[test]
fn the_credit_bounds_what_is_under_way_to_a_side_that_stands_still() {
    let mut pair = Pair::new(RangeCount::FULL);
    (0..100_000).for_each(|n| pair.a.set(pair.wall, &key(n), &[7; 100]));
    // The sync begins, then b accepts nothing more.
    while pair.a.sent.iter().all(|frame| frame.len() < 100_000) {
        pair.step().unwrap();
    }
    for _ in 0..1000 {
        pair.a.collect(pair.wall, pair.now);
    }
    let waiting: usize = pair.a.sent.iter().map(Bytes::len).sum();
    assert!(waiting <= (4 << 20) + (512 << 10), "{waiting} bytes are under way");
}

#[test]
fn values_that_differ_under_equal_timestamps_are_found_by_a_deep_sync_alone() {
    let mut pair = Pair::new(RangeCount::power_of_two(4));
    (0..100).for_each(|n| pair.a.set(pair.wall, &key(n), b"value"));
    pair.deliver_all();
    let cell = pair.b.local.store.cell(&key(5)).unwrap();
    let rotten = Parts { value: Some(b"vAlue"), ..cell.parts() };
    pair.b.local.store.corrupt(&key(5), &rotten);
    pair.verify();
    assert_eq!(pair.b.get(pair.wall, &key(5)).unwrap(), b"vAlue");
    pair.pass(Duration::from_secs(2));
    pair.a.session.want_deep_sync(pair.now);
    pair.a.session.take_events();
    pair.deliver_all();
    let found = pair.a.session.take_events().into_iter().find_map(|event| match event {
        Event::Finished(finished) if finished.deep => Some(finished.progress.ranges_found),
        _ => None,
    });
    assert_eq!(found, Some(1));
    assert_eq!(pair.a.get(pair.wall, &key(5)), pair.b.get(pair.wall, &key(5)));
}

#[test]
fn how_much_differs_is_known_from_the_first_answers_on() {
    let mut pair = Pair::new(RangeCount::FULL);
    (0..40_000).for_each(|n| pair.a.set(pair.wall, &key(n), b"of a"));
    (40_000..80_000).for_each(|n| pair.b.set(pair.wall, &key(n), b"of b"));
    let (mut found, mut last) = (Vec::new(), 0);
    while pair.step().unwrap() {
        let sides = [&pair.a, &pair.b];
        let progress = sides.map(|side| side.session.progress(pair.now).map(|(progress, _)| progress));
        let initiator = progress.into_iter().flatten().max_by_key(|progress| progress.ranges_found);
        if let Some(progress) = initiator.filter(|progress| progress.cells_in + progress.cells_out > 0) {
            found.push(progress.ranges_found);
            last = progress.ranges_found;
        }
    }
    assert!(last > 15_000, "{last} ranges differed");
    let (least, most) = (found.iter().min().unwrap(), found.iter().max().unwrap());
    assert!(least * 10 >= last * 9 && most * 10 <= last * 11, "found {least} to {most} of {last}");
}

/// Purges all dead cells at a, as if every member held them.
fn purge_at(side: &Side, stable: Time) {
    side.local.store.raise_stable_time(stable);
    (0..side.local.store.range_count()).for_each(|range| {
        side.local.store.purge(range);
    });
}

#[test]
fn what_was_deleted_and_purged_is_not_taken_back_and_its_holder_drops_it() {
    let mut pair = Pair::new(RangeCount::power_of_two(4));
    pair.b.set(pair.wall, b"old", b"v");
    pair.deliver_all();
    pair.pass(Duration::from_secs(10));
    // b is away meanwhile: no push reaches it.
    pair.a.write(pair.wall, b"old", Write::Delete);
    pair.pass(Duration::from_secs(100));
    pair.b.set(pair.wall, b"unseen", b"v");
    purge_at(&pair.a, pair.wall);
    pair.verify();
    assert_eq!((pair.a.get(pair.wall, b"old"), pair.b.get(pair.wall, b"old")), (None, None));
    assert!(pair.a.get(pair.wall, b"unseen").is_some(), "nobody had seen it");
    assert!(pair.b.local.lost.lock().to_vec().is_empty(), "it was deleted, and not given up");
}

/// b's last pushes were lost, and a has closed b: what a has received of a later push covers the lost one.
#[test]
fn a_write_that_is_given_up_is_listed_by_the_one_that_held_it() {
    let mut pair = Pair::new(RangeCount::power_of_two(4));
    pair.deliver_all();
    pair.pass(Duration::from_secs(10));
    pair.b.set(pair.wall, b"lost on the way", b"v");
    let origin = pair.a.local.store.intern(id(2)).unwrap();
    pair.a.local.store.origins().see(origin, timestamp::later(pair.wall, Duration::from_secs(1)));
    pair.a.local.store.origins().close(id(2), pair.a.local.store.origins().coverage_of(id(2)).seen);
    pair.pass(Duration::from_secs(100));
    // That another peer has the write does not matter: that peer loses it too.
    pair.b.local.hand_over(id(3), pair.wall);
    let written = pair.b.local.store.cell(b"lost on the way").unwrap().time();
    let is_claimed = |pair: &Pair| pair.a.local.members.lock().synced(id(2)) >= written;
    pair.verify();
    assert!(!is_claimed(&pair), "the link may end before b has dropped and listed it");
    pair.pass(Duration::from_secs(100));
    pair.verify();
    assert!(is_claimed(&pair));
    assert_eq!(pair.b.get(pair.wall, b"lost on the way"), None);
    let lost = pair.b.local.lost.lock().to_vec();
    assert_eq!(lost.iter().map(|lost| &lost.key[..]).collect::<Vec<_>>(), [b"lost on the way"]);
}

/// Otherwise b and c could stop in order, although a does not have the delete.
#[test]
fn a_tombstone_is_exchanged_with_one_that_does_not_count_with_its_writer() {
    let mut pair = Pair::new(RangeCount::power_of_two(4));
    pair.deliver_all();
    pair.pass(Duration::from_secs(10));
    // c is linked to b alone, which has its delete. a's stable time is later, because a has not received c's
    // entry.
    pair.b.local.members.lock().on_link("3", id(3), 1, pair.wall);
    let (key, c) = (b"deleted by c", pair.b.local.store.intern(id(3)).unwrap());
    let delete = Parts { time: pair.wall, origin: c, ..Parts::EMPTY };
    pair.b.local.store.merge(&mut Vec::new(), key, &delete, &Counter::default(), ReceivedBy::Push);
    pair.pass(Duration::from_secs(1));
    purge_at(&pair.a, pair.wall);
    pair.pass(Duration::from_secs(100));
    pair.verify();
    assert_eq!(pair.a.local.store.cell(key).map(|cell| cell.time()), Some(delete.time));
}

#[test]
fn tombstones_must_not_be_left_out_unless_both_agree_on_the_members() {
    let test = a_tombstone_is_exchanged_with_one_that_does_not_count_with_its_writer;
    must_fail_without(Ablation::Cutoff, test);
}

#[test]
fn what_was_given_up_must_not_be_claimed() {
    let test = a_write_that_is_given_up_is_listed_by_the_one_that_held_it;
    must_fail_without(Ablation::ClaimGivenUp, test);
}

#[test]
fn the_retraction_limit_keeps_the_keys_of_a_peer_that_has_incorporated_every_delete() {
    let mut pair = Pair::new(RangeCount::power_of_two(4));
    (0..65).for_each(|n| pair.b.set(pair.wall, &key(n), b"v"));
    pair.deliver_all();
    // a loses everything, which no node can detect.
    (0..65).for_each(|n| pair.a.write(pair.wall, &key(n), Write::Delete));
    pair.pass(Duration::from_secs(100));
    purge_at(&pair.a, pair.wall);
    // b claims everything that a has written up to its stable time.
    pair.pass(Duration::from_secs(1));
    let vector = [(id(1), pair.wall)].into_iter().collect();
    pair.b.local.members.lock().on_sync(&Summary { vector, ..Summary::default() }, &[], &BTreeSet::new());
    pair.verify();
    assert_eq!(pair.b.local.store.totals().live_cells, 65);
    assert_eq!(pair.a.local.store.totals().live_cells, 0);
    let failed = |events: Vec<Event>| events.iter().any(|event| matches!(event, Event::Failed { .. }));
    assert!(failed(pair.a.session.take_events()) && failed(pair.b.session.take_events()));
}

#[test]
fn what_a_node_brings_to_its_first_contact_is_kept_and_so_are_the_deletes_of_the_shared_past() {
    let mut pair = Pair::new(RangeCount::power_of_two(4));
    pair.a.set(pair.wall, b"shared", b"past");
    pair.deliver_all();
    pair.pass(Duration::from_secs(100));
    pair.a.write(pair.wall, b"shared", Write::Delete);
    pair.b.set(pair.wall, b"brought", b"along");
    pair.pass(Duration::from_secs(100));
    purge_at(&pair.a, pair.wall);
    purge_at(&pair.b, pair.wall);
    pair.reconnect();
    pair.verify();
    assert_eq!(pair.a.get(pair.wall, b"brought").as_deref(), Some(&b"along"[..]));
    assert_eq!(pair.b.get(pair.wall, b"shared"), None);
    assert_eq!(pair.a.digest().0, pair.b.digest().0);
}

#[test]
fn what_is_known_of_incarnations_that_have_ended_is_exchanged_once() {
    let mut pair = Pair::new(RangeCount::power_of_two(4));
    pair.deliver_all();
    for n in 0..300u128 {
        pair.a.local.store.origins().raise(
            id(1000 + n),
            timestamp::later(pair.wall, Duration::ZERO),
            timestamp::ZERO,
        );
    }
    pair.verify();
    let of = |side: &Side, n| side.local.store.origins().coverage_of(id(n)).synced;
    assert_eq!(of(&pair.a, 1007), of(&pair.b, 1007));
    let again = pair.verify();
    assert!(again <= 1536, "equal states took {again} bytes");
}

/// One write of a random history.
fn any_write() -> impl Strategy<Value = (bool, u32, u8, u64)> {
    (any::<bool>(), 0..60u32, 0..5u8, 1..50u64)
}

proptest! {
    #![proptest_config(random_cases(300))]

    /// Goal: a sync that is interrupted at any frame, and begun again, leaves both sides equal, whatever they
    /// held. Method: random writes on both sides while frames are carried one by one, with the link broken at
    /// random.
    #[test]
    fn interrupted_syncs_converge(
        writes in proptest::collection::vec(any_write(), 0..200),
        breaks in proptest::collection::vec(1..40usize, 0..4),
    ) {
        let mut pair = Pair::new(RangeCount::power_of_two(4));
        let mut writes = writes.into_iter();
        let write = |pair: &mut Pair, (first, n, what, millis): (bool, u32, u8, u64)| {
            pair.pass(Duration::from_millis(millis));
            let side = if first { &pair.a } else { &pair.b };
            let deadline = Some(Deadline::after(pair.wall, Duration::from_millis(500)));
            let write = match what {
                0 => Write::Delete,
                1 => Write::Deadline(deadline),
                2 => Write::Set { value: b"brief", deadline },
                _ => Write::Set { value: &[what], deadline: None },
            };
            side.write(pair.wall, &key(n), write);
        };
        for steps in breaks {
            for _ in 0..steps {
                writes.by_ref().take(2).for_each(|w| write(&mut pair, w));
                pair.step().unwrap();
            }
            pair.reconnect();
        }
        writes.for_each(|w| write(&mut pair, w));
        pair.reconnect();
        pair.deliver_all();
        pair.pass(VERIFY_EVERY);
        pair.verify();
        let everything = |side: &Side| side.digest().0.wrapping_add(side.digest().1);
        prop_assert_eq!(everything(&pair.a), everything(&pair.b));
        for n in 0..60 {
            prop_assert_eq!(pair.a.get(pair.wall, &key(n)), pair.b.get(pair.wall, &key(n)));
        }
    }

    /// Goal: `WAIT` never counts a write that an overflow dropped, and counts all once the two have converged;
    /// the same for what the receiver reports for tokens. Method: a writes batches of several frames into a
    /// queue of random size, and the feed takes one at a time and overflows otherwise. Frames are carried one
    /// by one. After each step every write that is claimed as held is looked up at b.
    #[test]
    fn what_is_said_to_be_held_is_held_whatever_overflows(
        limit in 100..3000usize,
        steps in proptest::collection::vec((0..12u8, 0..40u32, 1..900usize), 1..150),
    ) {
        let mut pair = Pair::new(RangeCount::power_of_two(4));
        pair.a.queue = Arc::new(Queue::new(limit));
        pair.a.session = Session::new(id(1), id(2), "2", Arc::clone(&pair.a.queue), pair.now);
        pair.a.local.store.feed().open(|| ());
        let mut written = Vec::new();
        for (what, n, size) in steps {
            match what {
                0..4 => {
                    let mut batch = Batch::default();
                    pair.pass(Duration::from_millis(1));
                    pair.a.local.store.begin(&mut batch, pair.wall);
                    for n in [n, n + 1] {
                        let set = Write::Set { value: &vec![0; size], deadline: None };
                        pair.a.local.store.write(&mut batch, &key(n), |_| (set, ())).unwrap();
                        let cell = pair.a.local.store.cell(&key(n)).unwrap();
                        written.push((n, cell.time()));
                    }
                    let through = pair.a.local.store.publish(&mut batch);
                    prop_assert_eq!(through, written.len() as u64);
                }
                4..7 => pair.a.push(),
                7 => {
                    pair.pass(Duration::from_secs(1));
                    pair.a.session.tick(&pair.a.local, pair.now).unwrap();
                }
                _ => _ = pair.step().unwrap(),
            }
            let noted = pair.b.local.write_acks.held(id(2), id(1));
            for held in [pair.a.queue.held(), noted] {
                for (n, time) in &written[..usize::try_from(held).unwrap()] {
                    let cell = pair.b.local.store.cell(&key(*n));
                    prop_assert!(cell.is_some_and(|cell| cell.time() >= *time), "{n} of the first {held}");
                }
            }
        }
        pair.a.push();
        for _ in 0..3 {
            pair.verify();
        }
        prop_assert_eq!(pair.a.queue.held(), written.len() as u64);
        prop_assert_eq!(pair.b.local.write_acks.held(id(2), id(1)), written.len() as u64);
    }

    /// Goal: no message of a sync, however mutated, makes the other side panic. Method: one frame of a sync in
    /// progress is changed at random before it is delivered.
    #[test]
    fn mutated_messages_of_a_sync_never_panic(at in 0..60usize, byte: u16, value: u8) {
        let mut pair = Pair::new(RangeCount::power_of_two(4));
        for n in 0..120 {
            pair.a.set(pair.wall, &key(n), b"a");
            pair.b.set(pair.wall, &key(n + 60), b"b");
        }
        for _ in 0..at {
            if pair.step().is_err() {
                return Ok(());
            }
        }
        for side in [&mut pair.a, &mut pair.b] {
            if let Some(frame) = side.sent.front_mut() {
                // The checksum is corrected: the test is about what lies behind it.
                let mut bytes = frame.to_vec();
                let position = codec::HEADER + usize::from(byte) % (bytes.len() - codec::HEADER).max(1);
                if let Some(byte) = bytes.get_mut(position) {
                    *byte = value;
                }
                *frame = codec::seal(bytes);
            }
        }
        for _ in 0..500 {
            match pair.step() {
                Ok(true) => {}
                Ok(false) | Err(_) => break,
            }
        }
    }
}

#[test]
fn frames_are_whole_messages() {
    let mut pair = Pair::new(RangeCount::power_of_two(4));
    pair.a.collect(pair.wall, pair.now);
    let mut buffer = bytes::BytesMut::from(&pair.a.sent.pop_front().unwrap()[..]);
    assert!(take_frame(&mut buffer, 1 << 20).unwrap().is_some());
    assert!(buffer.is_empty());
}

/// Goal: no single damaged bit or byte of a frame, and no burst of up to four bytes, reaches a decoder. Method:
/// the frames of a link with pushes, heartbeats and a sync that heals are damaged one at a time, at every
/// place.
#[test]
fn no_frame_of_a_conversation_is_accepted_with_any_bit_or_byte_of_it_damaged() {
    let mut pair = Pair::new(RangeCount::power_of_two(4));
    (0..30).for_each(|n| pair.a.set(pair.wall, &key(n), b"of a"));
    (0..30).for_each(|n| pair.b.set(pair.wall, &key(n + 20), b"of b"));
    let mut recorded =
        vec![codec::frame(&Message::Welcome { wall: pair.wall.0 }), codec::frame(&Message::Goodbye)];
    for _ in 0..200 {
        for side in [&mut pair.a, &mut pair.b] {
            side.push();
            side.collect(pair.wall, pair.now);
            recorded.extend(side.sent.iter().take(1).cloned());
        }
        pair.step().unwrap();
    }
    pair.assert_equal();
    let kinds: BTreeSet<u8> = recorded.iter().map(|frame| frame[codec::HEADER]).collect();
    assert!(kinds.len() >= 9, "the conversation shows only {kinds:?}");
    let mut tried = 0u64;
    for frame in &recorded {
        assert!(take_frame(&mut bytes::BytesMut::from(&frame[..]), 1 << 20).unwrap().is_some());
        let mut refuse = |damage: &dyn Fn(&mut [u8])| {
            let mut bytes = bytes::BytesMut::from(&frame[..]);
            damage(&mut bytes);
            // Not even an incomplete frame: a damaged length would make the receiver wait for bytes that never come.
            assert_eq!(codec::open(&bytes), Err(codec::FrameError::Damaged));
            assert_eq!(take_frame(&mut bytes, 1 << 20), Err(codec::FrameError::Damaged));
            tried += 1;
        };
        for at in 0..frame.len() {
            (0..8).for_each(|bit| refuse(&|bytes| bytes[at] ^= 1 << bit));
            [0x81, 0xff].into_iter().for_each(|mask| refuse(&|bytes| bytes[at] ^= mask));
            let end = frame.len().min(at + 4);
            refuse(&|bytes| bytes[at..end].iter_mut().for_each(|byte| *byte = !*byte));
        }
    }
    assert!(tried > 10_000, "{tried}");
}

/// Brings a pair into the middle of an exchange: each side waits for messages of the other that are still in
/// flight.
fn pair_in_exchange() -> Pair {
    let mut pair = Pair::new(RangeCount::power_of_two(4));
    (0..300).for_each(|n| pair.a.set(pair.wall, &key(n), b"a"));
    (0..300).for_each(|n| pair.b.set(pair.wall, &key(n + 200), b"b"));
    while !(pair.a.session.is_exchanging() && pair.b.session.is_exchanging()) {
        assert!(pair.step().unwrap());
    }
    pair.a.collect(pair.wall, pair.now);
    pair.b.collect(pair.wall, pair.now);
    assert!(pair.a.local.permits.is_exchanging() && pair.b.local.permits.is_exchanging());
    pair
}

/// Lets seconds pass in which nothing is carried. Returns the second after which a session reported that the
/// link must end.
fn seconds_until_stalled(pair: &mut Pair, seconds: u64) -> Option<u64> {
    (1..=seconds).find(|_| {
        pair.pass(Duration::from_secs(1));
        let ticked = [&mut pair.a, &mut pair.b].map(|side| side.session.tick(&side.local, pair.now));
        ticked.iter().any(|ticked| matches!(ticked, Err(LinkError::Stalled)))
    })
}

#[test]
fn an_exchange_that_stands_still_gives_up_its_turn_and_goes_on_when_it_moves() {
    let mut pair = pair_in_exchange();
    assert_eq!(seconds_until_stalled(&mut pair, 3), None);
    assert!(
        pair.a.local.permits.is_exchanging() && pair.b.local.permits.is_exchanging(),
        "3 s is not yet too long"
    );
    assert_eq!(seconds_until_stalled(&mut pair, 1), None);
    for side in [&mut pair.a, &mut pair.b] {
        assert!(!side.local.permits.is_busy(), "others may begin");
        assert!(side.session.take_events().iter().any(|event| matches!(event, Event::TurnOver)));
    }
    for _ in 0..2 {
        pair.step().unwrap();
    }
    assert_eq!(seconds_until_stalled(&mut pair, 1), None);
    assert!(pair.a.local.permits.is_exchanging(), "it has its permit again, as nobody else took it");
    pair.deliver_all();
    pair.assert_equal();
    assert!(!pair.a.local.permits.is_busy() && !pair.b.local.permits.is_busy());
}

#[test]
fn a_sync_that_stands_still_ends_its_link_within_seconds() {
    let mut pair = pair_in_exchange();
    assert_eq!(seconds_until_stalled(&mut pair, 60), Some(16));
}

/// A line that takes a minute for one frame: bytes arrive, but no whole message.
#[test]
fn a_line_that_moves_bytes_of_a_frame_is_slow_and_does_not_stand_still() {
    let mut pair = pair_in_exchange();
    for _ in 0..60 {
        assert_eq!(seconds_until_stalled(&mut pair, 1), None);
        pair.a.session.on_part_received(pair.now);
        pair.b.session.on_part_sent(100_000, pair.now);
        assert!(pair.a.local.permits.is_exchanging() && pair.b.local.permits.is_exchanging(), "it moves");
    }
    pair.deliver_all();
    pair.assert_equal();
}

/// The sender has handed a frame to its socket, which takes a minute to deliver it. The receiver reports that
/// bytes arrive, but only as long as they do.
#[test]
fn a_side_that_has_sent_all_is_informed_while_it_arrives() {
    let mut pair = pair_in_exchange();
    // What b sends stays in flight to a; what a sends meanwhile arrives at b.
    for _ in 0..60 {
        assert_eq!(seconds_until_stalled(&mut pair, 1), None);
        pair.a.session.on_part_received(pair.now);
        pair.a.sent.clear();
        pair.a.collect(pair.wall, pair.now);
        let [found] = pair.a.sent.make_contiguous() else { panic!("{} frames", pair.a.sent.len()) };
        pair.b.session.receive(&pair.b.local, codec::open(found).unwrap(), pair.wall, pair.now).unwrap();
        pair.b.collect(pair.wall, pair.now);
    }
    pair.a.sent.clear();
    // No more bytes arrive. The two exchange their messages, and those do not keep the sync alive.
    let stalled = (1..=60).find(|_| {
        pair.a.collect(pair.wall, pair.now);
        for found in std::mem::take(&mut pair.a.sent) {
            pair.b.session.receive(&pair.b.local, codec::open(&found).unwrap(), pair.wall, pair.now).unwrap();
        }
        seconds_until_stalled(&mut pair, 1).is_some()
    });
    assert!(stalled.is_some_and(|seconds| seconds <= 18), "{stalled:?}");
}

/// A peer that pushes as fast as the line allows, and sends nothing of the sync.
#[test]
fn a_line_that_is_busy_with_all_but_the_sync_does_not_hide_that_it_stands_still() {
    let mut pair = pair_in_exchange();
    let stalled = (1..60).find(|_| {
        pair.a.session.on_part_sent(4 << 20, pair.now);
        seconds_until_stalled(&mut pair, 1).is_some()
    });
    assert!(stalled.is_some_and(|seconds| seconds <= 18), "{stalled:?}");
}

#[test]
fn an_offer_and_an_answer_that_wait_for_their_turns_end_no_link() {
    let mut pair = Pair::new(RangeCount::power_of_two(4));
    (0..300).for_each(|n| pair.a.set(pair.wall, &key(n), b"a"));
    // Exchanges with others keep both busy, and they move. a is the smaller incarnation: the offer of b stands.
    let busy = [pair.a.local.permits.acquire(true).unwrap(), pair.b.local.permits.acquire(true).unwrap()];
    pair.a.session.wanted = None;
    let step_for = |pair: &mut Pair, seconds: u64| {
        for second in 0..seconds {
            assert_eq!(seconds_until_stalled(pair, 1), None, "after {second} s");
            while pair.step().unwrap() {}
        }
    };
    step_for(&mut pair, 31);
    // b has offered beside the other exchange, and a keeps the offer waiting.
    assert!(pair.b.session.sync.as_ref().is_some_and(|current| current.sync.is_offered()));
    assert!(pair.a.session.offered.is_some());
    step_for(&mut pair, 27);
    let [busy_a, busy_b] = busy;
    drop(busy_a);
    // a answers, and b keeps the answer waiting.
    step_for(&mut pair, 1);
    assert!(pair.b.session.sync.as_ref().is_some_and(|current| current.accepted.is_some()));
    step_for(&mut pair, 10);
    pair.assert_equal();
    drop(busy_b);
}

/// A history: b was cut off, deleted keys there, and lapsed; the stable time of a passed these deletes. If both
/// had omitted them from the sync as dead, b would have purged the tombstones and a kept the keys.
#[test]
fn what_a_node_deleted_while_it_was_away_is_deleted_everywhere() {
    let mut pair = Pair::new(RangeCount::power_of_two(4));
    (0..200).for_each(|n| pair.a.set(pair.wall, &key(n), b"v"));
    pair.verify();
    pair.pass(Duration::from_secs(50));
    (0..100).for_each(|n| pair.b.write(pair.wall, &key(n), Write::Delete));
    pair.pass(Duration::from_secs(50));
    // a has only itself as a member.
    pair.a.local.members.lock().on_unlink(id(2));
    pair.a.local.members.lock().forget("2", pair.wall).unwrap();
    purge_at(&pair.a, pair.wall);
    pair.reconnect();
    for _ in 0..3 {
        pair.verify();
        for side in [&mut pair.a, &mut pair.b] {
            let failed = side.session.take_events().into_iter().find(|e| matches!(e, Event::Failed { .. }));
            assert!(failed.is_none(), "{failed:?}");
        }
    }
    assert_eq!(pair.b.local.store.totals().live_cells, 100);
    assert_eq!(pair.a.local.store.totals().live_cells, 100);
    assert!(pair.b.local.lost.lock().to_vec().is_empty() && pair.a.local.lost.lock().to_vec().is_empty());
}

/// A history: an operator discarded a node's state while the last message of a sync was on its way. The end
/// of the sync then claimed everything for the empty node, and the next one deleted the cluster's keys.
#[test]
fn a_sync_that_began_before_everything_was_discarded_claims_nothing() {
    let mut pair = Pair::new(RangeCount::power_of_two(4));
    (0..200).for_each(|n| pair.a.set(pair.wall, &key(n), b"v"));
    pair.verify();
    pair.pass(Duration::from_secs(60));
    pair.a.local.store.raise_stable_time(pair.wall);
    pair.verify();
    pair.pass(VERIFY_EVERY);
    pair.b.session.tick(&pair.b.local, pair.now).unwrap();
    while !pair.b.session.is_exchanging() {
        assert!(pair.step().unwrap());
    }
    drop(pair.b.local.store.discard(id(3)).unwrap());
    pair.b.local.members.lock().discard(id(3), pair.wall);
    while matches!(pair.step(), Ok(true)) {}
    assert_eq!(pair.b.local.store.stable_time(), timestamp::ZERO);
    assert_eq!(pair.b.local.members.lock().synced(id(1)), timestamp::ZERO);
}
