//! Goal: uncovered cells are exchanged for a few bytes, and nothing of that exchange is taken for proof.

use std::collections::HashMap;

use super::*;
use crate::model::TreeNode;
use crate::replication::sync::brief_sum;

/// Exchanges the states of both sides, without a probe before.
fn exchange(pair: &mut Pair) -> usize {
    pair.deliver_all();
    let before = pair.a.bytes + pair.b.bytes;
    pair.pass(Duration::from_secs(2));
    pair.a.session.want_sync(pair.now);
    pair.deliver_all();
    pair.a.bytes + pair.b.bytes - before
}

/// Two nodes that hold the same keys, some time after they have verified that.
fn equal_pair(ranges: RangeCount, keys: u32) -> Pair {
    let mut pair = Pair::new(ranges);
    (0..keys).for_each(|n| pair.a.set(pair.wall, &key(n), &[7; 100]));
    pair.deliver_all();
    pair.verify();
    pair.pass(Duration::from_secs(10));
    pair
}

/// The bytes of a cell with such a key and value.
const CELL: usize = 132;

#[test]
fn what_differs_costs_little_beside_itself_whoever_wrote_it() {
    for first in [true, false] {
        let mut pair = equal_pair(RangeCount::FULL, 100_000);
        let side = if first { &pair.a } else { &pair.b };
        (0..3300).for_each(|n| side.set(pair.wall, &key(n * 29), &[8; 100]));
        let bytes = exchange(&mut pair);
        pair.assert_equal();
        assert!(bytes < 3300 * CELL * 13 / 10, "{bytes} bytes");
    }
}

#[test]
fn of_a_key_that_both_have_written_only_the_later_cell_is_sent() {
    let mut pair = equal_pair(RangeCount::FULL, 20_000);
    (0..3000).for_each(|n| pair.a.set(pair.wall, &key(n), &[8; 100]));
    pair.pass(Duration::from_secs(1));
    (0..3000).for_each(|n| pair.b.set(pair.wall, &key(n), &[9; 100]));
    let bytes = exchange(&mut pair);
    pair.assert_equal();
    assert_eq!(pair.a.get(pair.wall, &key(5)), Some(vec![9; 100]));
    assert!(bytes < 3000 * CELL * 14 / 10, "{bytes} bytes");
}

#[test]
fn what_a_push_has_brought_is_not_sent_again() {
    let mut pair = equal_pair(RangeCount::FULL, 20_000);
    (0..3000).for_each(|n| pair.a.set(pair.wall, &key(n), &[8; 100]));
    for n in 0..3000 {
        let cell = pair.a.local.store.cell(&key(n)).unwrap();
        let origin = pair.b.local.store.intern(id(1)).unwrap();
        let pushed = Parts { origin, ..cell.parts() };
        pair.b.local.store.observe(pushed.time);
        pair.b.local.store.merge(&mut Vec::new(), &key(n), &pushed, &Counter::NONE, ReceivedBy::Push);
    }
    pair.pass(Duration::from_secs(1));
    // Their ranges differ, and have more cells that were pushed.
    (0..1000).for_each(|n| pair.a.set(pair.wall, &key(n), &[9; 100]));
    let bytes = exchange(&mut pair);
    pair.assert_equal();
    assert!(bytes < 1000 * CELL * 17 / 10, "{bytes} bytes");
}

/// Counters, deadlines and deletes are uncovered by any of their dots.
#[test]
fn every_kind_of_write_is_exchanged_as_an_uncovered_cell() {
    let mut pair = equal_pair(RangeCount::power_of_two(4), 400);
    let deadline = Some(Deadline::after(pair.wall, Duration::from_secs(1000)));
    for (n, side) in [(10, &pair.a), (20, &pair.b)] {
        side.write(pair.wall, &key(n), Write::Delete);
        side.write(pair.wall, &key(n + 1), Write::Deadline(deadline));
        side.write(pair.wall, &key(n + 2), Write::Set { value: b"brief", deadline });
        side.write(pair.wall, &key(n + 3), Write::Delete);
        side.write(pair.wall, b"counter", Write::Add(2));
    }
    exchange(&mut pair);
    pair.assert_equal();
    assert_eq!(pair.a.get(pair.wall, b"counter").as_deref(), Some(&b"4"[..]));
}

/// Returns two keys of one range whose lists cannot tell them apart.
fn keys_with_one_brief_hash(store: &Store) -> [Vec<u8>; 2] {
    let seed = HashSeed::of_cluster("test");
    let groups: Vec<_> = TreeNode::groups(store.ranges()).collect();
    let mut known = HashMap::new();
    (0..1_000_000)
        .find_map(|n| {
            let hash = seed.key_hash(&key(n));
            let group = groups.iter().find(|group| group.contains(hash)).unwrap();
            let other = known.insert((group.path(), group.brief_hash(hash)), n)?;
            Some([key(other), key(n)])
        })
        .expect("the hashes of a million keys collide in 33 bits")
}

/// Each side has written one of two keys that look like one in a list.
fn keys_that_look_equal_are_both_exchanged() {
    let mut pair = equal_pair(RangeCount::power_of_two(2), 100);
    let [one, other] = keys_with_one_brief_hash(&pair.a.local.store);
    pair.a.set(pair.wall, &one, b"of a");
    pair.pass(Duration::from_secs(1));
    pair.b.set(pair.wall, &other, b"of b");
    exchange(&mut pair);
    assert_eq!(pair.a.get(pair.wall, &other).as_deref(), Some(&b"of b"[..]));
    assert_eq!(pair.b.get(pair.wall, &one).as_deref(), Some(&b"of a"[..]));
    pair.assert_equal();
}

#[test]
fn the_exchange_of_uncovered_cells_is_no_proof() {
    keys_that_look_equal_are_both_exchanged();
    must_fail_without(Ablation::VerifyUncovered, keys_that_look_equal_are_both_exchanged);
}

/// A cell that both summary vectors cover is missing on one side.
#[test]
fn a_difference_that_is_covered_is_found() {
    let mut pair = equal_pair(RangeCount::power_of_two(4), 100);
    let cell = pair.a.local.store.cell(&key(5)).unwrap();
    let origin = pair.a.local.store.intern(id(2)).unwrap();
    let covered = Parts { origin, time: Time(cell.time().0 + 1), value: Some(b"missed"), ..cell.parts() };
    pair.a.local.store.merge(&mut Vec::new(), &key(5), &covered, &Counter::NONE, ReceivedBy::Push);
    pair.a.set(pair.wall, &key(6), b"uncovered");
    exchange(&mut pair);
    pair.assert_equal();
    assert_eq!(pair.b.get(pair.wall, &key(5)), pair.a.get(pair.wall, &key(5)));
}

/// A range differs, and the brief sums of the next sync hide that.
fn a_range_that_looks_equal_is_exchanged() {
    let mut pair = equal_pair(RangeCount::FULL, 1000);
    let number = pair.a.session.next_number.wrapping_add(2);
    let range = RangeCount::FULL.range_of(HashSeed::of_cluster("test").key_hash(&key(7)));
    let range = TreeNode::of_range(RangeCount::FULL, range);
    let sum = |side: &Side| side.local.store.digest(range, timestamp::ZERO, false).sum;
    let is_hidden = |pair: &mut Pair| {
        pair.a.set(pair.wall, &key(7), b"hidden");
        brief_sum(sum(&pair.a), number) == brief_sum(sum(&pair.b), number)
    };
    assert!((0..1 << 22).any(|_| is_hidden(&mut pair)), "one of 2^16 looks equal");
    assert_ne!(sum(&pair.a), sum(&pair.b));
    exchange(&mut pair);
    assert_eq!(pair.a.session.next_number, number);
    pair.assert_equal();
}

#[test]
fn brief_sums_are_no_proof() {
    a_range_that_looks_equal_is_exchanged();
    must_fail_without(Ablation::VerifyRest, a_range_that_looks_equal_is_exchanged);
}
