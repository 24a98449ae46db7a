//! Nodes and clusters that meet for the first time, or anew: both sides' writes live, and deletes hold.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use crate::support::node_process::*;

const FAULTS: &[&str] = &["--enable-faults"];

fn addresses() -> (SocketAddr, SocketAddr) {
    (free_address(), free_address())
}

fn has_stable_time(node: &NodeProcess) -> bool {
    node.healing()["stable_age_ms"].as_i64() != Some(-1)
}

fn members(node: &NodeProcess) -> u64 {
    node.healing()["members"].as_u64().unwrap()
}

/// Sets `PREFIX:N` for each N in a range.
fn write(node: &NodeProcess, prefix: &str, range: std::ops::Range<u32>) {
    let mut connection = node.connect();
    for n in range {
        ask::<()>(&mut connection, &["SET", &format!("{prefix}:{n}"), &node.name]);
    }
}

/// How many of `PREFIX:N` there are, for N in a range.
fn count(node: &NodeProcess, prefix: &str, range: std::ops::Range<u32>) -> u32 {
    let keys: Vec<_> = range.map(|n| format!("{prefix}:{n}")).collect();
    let words: Vec<_> = ["EXISTS"].into_iter().chain(keys.iter().map(String::as_str)).collect();
    ask(&mut node.connect(), &words)
}

/// Waits until the stable time of these has passed what was written `since`.
fn until_stable_since(nodes: &[&NodeProcess], since: Instant) {
    for node in nodes {
        wait("the stable time has passed what was written", || {
            let age = node.healing()["stable_age_ms"].as_i64().unwrap();
            age >= 0 && Duration::from_millis(age.unsigned_abs()) + Duration::from_secs(1) < since.elapsed()
        });
    }
}

fn incr(node: &NodeProcess, times: u32) {
    let mut connection = node.connect();
    for _ in 0..times {
        ask::<i64>(&mut connection, &["INCR", "counter"]);
    }
}

fn nothing_is_lost(nodes: &[&NodeProcess]) {
    for node in nodes {
        assert_eq!(node.json(&["lost"]), serde_json::json!([]), "{}", node.name);
        assert_eq!(node.healing()["lost"], 0, "{}", node.name);
    }
}

#[test]
fn nodes_do_not_wait_for_an_address_where_nobody_answers_and_one_that_comes_there_later_takes_all() {
    let at = [addresses(), addresses(), addresses()];
    let join = at.map(|(_, peer)| peer);
    let start = |n: usize| NodeProcess::start_at(["a", "b", "c"][n], at[n], &join, &[]);
    let (a, b) = (start(0), start(1));
    wait("a and b are linked", || a.linked() == 1 && b.linked() == 1);
    a.set("k", "x");
    a.set("kept", "x");
    a.del("k");
    until_equal(&[&a, &b]);
    assert_eq!((members(&a), members(&b)), (2, 2));
    wait("a stable time, without the third", || has_stable_time(&a) && has_stable_time(&b));
    wait("the tombstone is freed", || a.tombstones() == 0 && b.tombstones() == 0);

    let c = start(2);
    until_linked(&[&a, &b, &c]);
    until_equal(&[&a, &b, &c]);
    for node in [&a, &b, &c] {
        wait("three members", || members(node) == 3);
        assert_eq!((node.get("k"), node.get("kept").as_deref()), (None, Some("x")));
    }
}

#[test]
fn a_lone_node_that_restarts_empty_comes_home() {
    let mut a = NodeProcess::start("a", &[], &[]);
    let b = NodeProcess::start("b", &[&a], &[]);
    until_linked(&[&a, &b]);
    load(&mut a.connect(), 0..1000, b"x");
    a.del("key:0");
    until_equal(&[&a, &b]);
    let whole = digest(&mut b.connect());
    a.kill();
    wait("b notices", || b.linked() == 0);
    b.set("while a was away", "x");
    b.del("while a was away");
    // It is alone until b reaches it.
    a.restart();
    until_linked(&[&a, &b]);
    until_equal(&[&a, &b]);
    assert_eq!(digest(&mut a.connect()), whole);
    wait("both are members", || members(&a) == 2 && members(&b) == 2);
}

#[test]
fn what_a_restarted_node_takes_before_it_meets_the_others_is_kept() {
    let mut a = NodeProcess::start("a", &[], FAULTS);
    let b = NodeProcess::start("b", &[&a], FAULTS);
    until_linked(&[&a, &b]);
    load(&mut a.connect(), 0..100, b"x");
    until_equal(&[&a, &b]);
    b.cut("a", "both");
    a.kill();
    wait("b notices", || b.linked() == 0);
    a.restart();
    a.set("of the lone node", "kept");
    a.set("key:7", "later");
    b.mend("a");
    until_linked(&[&a, &b]);
    until_equal(&[&a, &b]);
    for node in [&a, &b] {
        assert_eq!(node.get("of the lone node").as_deref(), Some("kept"));
        assert_eq!(node.get("key:7").as_deref(), Some("later"));
        assert_eq!(digest(&mut node.connect()).1, 101);
    }
    nothing_is_lost(&[&a, &b]);
}

#[test]
fn two_clusters_that_were_born_apart_become_one_when_a_node_names_both() {
    let a = NodeProcess::start("a", &[], &[]);
    let b = NodeProcess::start("b", &[&a], &[]);
    let c = NodeProcess::start("c", &[], &[]);
    let d = NodeProcess::start("d", &[&c], &[]);
    until_linked(&[&a, &b]);
    until_linked(&[&c, &d]);
    for (here, there, prefix) in [(&a, &b, "first"), (&c, &d, "second")] {
        write(here, prefix, 0..100);
        write(here, "both", 0..10);
        incr(here, 5);
        incr(there, 7);
        until_equal(&[here, there]);
        for n in 0..20 {
            there.del(&format!("{prefix}:{n}"));
        }
        wait("the tombstones are freed", || here.tombstones() == 0 && there.tombstones() == 0);
    }
    assert_eq!((a.linked(), c.linked()), (1, 1));
    until_stable_since(&[&a, &b, &c, &d], Instant::now());

    let e = NodeProcess::start("e", &[&b, &d], &[]);
    let all = [&a, &b, &c, &d, &e];
    until_linked(&all);
    until_equal(&all);
    for node in all {
        wait("five members", || members(node) == 5);
        assert_eq!((count(node, "first", 0..100), count(node, "second", 0..100)), (80, 80));
        assert_eq!(node.get("both:3").as_deref(), Some("c"), "the later write");
        assert_eq!(node.get("counter").as_deref(), Some("24"), "what both sides counted");
        assert_eq!(digest(&mut node.connect()).1, 80 + 80 + 10 + 1);
    }
    nothing_is_lost(&all);
    e.del("first:50");
    wait("it is one cluster", || all.iter().all(|node| node.get("first:50").is_none()));
    for node in all {
        wait("its tombstone is freed everywhere", || node.tombstones() == 0);
    }
}

#[test]
fn a_cluster_that_fell_into_two_by_restarts_becomes_one_and_counts_once() {
    let mut a = NodeProcess::start("a", &[], &[]);
    let mut b = NodeProcess::start("b", &[&a], &[]);
    let c = NodeProcess::start("c", &[&a], &[]);
    until_linked(&[&a, &b, &c]);
    write(&a, "past", 0..50);
    write(&b, "freed", 0..10);
    incr(&a, 3);
    incr(&b, 4);
    incr(&c, 5);
    until_equal(&[&a, &b, &c]);
    for n in 0..10 {
        c.del(&format!("freed:{n}"));
    }
    wait("tombstones are freed", || [&a, &b, &c].iter().all(|node| node.tombstones() == 0));
    assert!([&a, &b, &c].iter().all(|node| has_stable_time(node)));

    // Both begin anew at addresses that c does not know.
    a.kill();
    b.kill();
    a = NodeProcess::start("a", &[], &[]);
    b = NodeProcess::start("b", &[&a], &[]);
    until_linked(&[&a, &b]);
    wait("c is alone", || c.linked() == 0);
    write(&c, "of c", 0..40);
    incr(&c, 6);
    for n in 0..10 {
        c.del(&format!("past:{n}"));
    }
    write(&a, "of a", 0..40);
    write(&b, "of b", 0..40);
    incr(&a, 7);
    incr(&b, 8);
    for n in 0..10 {
        a.del(&format!("of a:{n}"));
        b.del(&format!("of b:{n}"));
    }
    until_stable_since(&[&a, &b], Instant::now());
    // Written again on this side, then deleted: later than what c holds.
    write(&a, "past", 10..20);
    for n in 10..20 {
        a.del(&format!("past:{n}"));
    }
    until_equal(&[&a, &b]);

    for restart in 0..4 {
        b.kill();
        wait("its end is noticed", || {
            [&a, &c].iter().all(|node| ["down", ""].contains(&node.state_of("b").as_str()))
        });
        b = NodeProcess::start_at("b", (b.client, b.peer), &[a.peer, c.peer], &[]);
        if restart > 0 {
            incr(&b, 1);
        }
        until_linked(&[&a, &b, &c]);
        until_equal(&[&a, &b, &c]);
    }
    for node in [&a, &b, &c] {
        assert_eq!(count(node, "past", 0..20), 0, "a deleted key is back on {}", node.name);
        assert_eq!(count(node, "past", 20..50), 30, "{}", node.name);
        assert_eq!(count(node, "freed", 0..10), 0, "{}", node.name);
        assert_eq!(count(node, "of c", 0..40), 40, "{}", node.name);
        for prefix in ["of a", "of b"] {
            assert_eq!(count(node, prefix, 0..10), 0, "a deleted key is back on {}", node.name);
            assert_eq!(count(node, prefix, 10..40), 30, "{}", node.name);
        }
        assert_eq!(node.get("counter").as_deref(), Some("36"), "{}", node.name);
        wait("three members", || members(node) == 3);
    }
    nothing_is_lost(&[&a, &b, &c]);
    for node in [&a, &b, &c] {
        wait("tombstones are freed again", || node.tombstones() == 0);
    }
    until_equal(&[&a, &b, &c]);
    assert_eq!((count(&b, "past", 0..20), count(&a, "of b", 0..10)), (0, 0));
}

#[test]
#[ignore = "takes ten seconds and more: the stable time has to pass what the newcomer wrote"]
fn a_node_with_data_of_its_own_joins_a_cluster_with_a_stable_time_and_loses_nothing() {
    let at_a = addresses();
    let x = NodeProcess::start_at("x", addresses(), &[at_a.1], FAULTS);
    x.cut("*", "both");
    load(&mut x.connect(), 0..1000, b"x");
    x.del("key:0");
    incr(&x, 9);
    let written = Instant::now();
    let a = NodeProcess::start_at("a", at_a, &[], &[]);
    let b = NodeProcess::start("b", &[&a], &[]);
    until_linked(&[&a, &b]);
    load(&mut a.connect(), 500..1500, b"a");
    incr(&b, 2);
    until_stable_since(&[&a, &b], written);
    x.mend("*");
    until_linked(&[&a, &b, &x]);
    until_equal(&[&a, &b, &x]);
    for node in [&a, &b, &x] {
        assert_eq!(digest(&mut node.connect()).1, 1500);
        assert_eq!(node.get("key:0"), None);
        assert_eq!(node.get("key:499").as_deref(), Some("x"));
        assert_eq!(node.get("key:500").as_deref(), Some("a"), "the later write");
        assert_eq!(node.get("counter").as_deref(), Some("11"));
        assert_eq!(node.healing()["retractions"], 0);
    }
    nothing_is_lost(&[&a, &b, &x]);
}
