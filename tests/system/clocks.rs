//! Machines whose clocks are wrong. Each test fails where libfaketime is missing.

use crate::support::faketime::Clock;
use crate::support::node_process::*;

/// Several seconds apart are within the limit.
const TOLERANT: [&str; 1] = ["--max-clock-skew=10s"];

fn start(name: &str, clock: &Clock, join: &[&NodeProcess]) -> NodeProcess {
    start_with(name, clock, join, &[])
}

fn start_with(name: &str, clock: &Clock, join: &[&NodeProcess], flags: &[&str]) -> NodeProcess {
    let join: Vec<_> = join.iter().map(|node| node.peer).collect();
    let addresses = (free_address(), free_address());
    let node = NodeProcess::spawn_in(clock.surroundings(), name, addresses, &join, flags);
    node.until_up();
    node
}

/// When a node thinks it is, in seconds since 1970.
fn time(node: &NodeProcess) -> i64 {
    let (seconds, _): (String, String) = ask(&mut node.connect(), &["TIME"]);
    seconds.parse().unwrap()
}

fn until_skewed(a: &NodeProcess, b: &NodeProcess) {
    wait("the refusal shows on both sides", || {
        a.state_of(&b.name) == "skewed" && b.state_of(&a.name) == "skewed"
    });
}

#[test]
#[ignore = "needs libfaketime (Debian faketime)"]
fn a_node_with_a_wrong_clock_is_refused_and_returns_by_itself_once_the_clock_is_right() {
    // Ahead by more than ten times the limit it would have drawn timestamps that nobody may follow.
    for wrong in [3.0, -3600.0] {
        let clock = Clock::ahead(wrong);
        let a = NodeProcess::start("a", &[], &[]);
        let b = start("b", &clock, &[&a]);
        assert!((time(&b) - time(&a)).abs() >= 2, "libfaketime does nothing");
        a.set("of a", "x");
        until_skewed(&a, &b);
        let reason = a.peers_in("skewed").remove(0)["reason"].as_str().unwrap().to_owned();
        assert!(reason.contains("--max-clock-skew") && reason.contains("that of"), "{reason}");
        assert_eq!((a.linked(), b.linked(), b.get("of a")), (0, 0, None));
        b.set("of b", "kept");
        clock.set(0.0);
        until_linked(&[&a, &b]);
        until_equal(&[&a, &b]);
        assert_eq!(b.get("of a").as_deref(), Some("x"));
        assert_eq!(a.get("of b").as_deref(), Some("kept"), "what it wrote meanwhile");
        a.set("both", "of a");
        wait("replicated", || b.get("both").is_some());
        b.set("both", "of b");
        wait("the later write stands", || a.get("both").as_deref() == Some("of b"));
    }
}

#[test]
#[ignore = "needs libfaketime (Debian faketime)"]
fn a_clock_that_steps_back_a_little_loses_no_write_and_no_link() {
    let clock = Clock::ahead(0.0);
    let b = NodeProcess::start("b", &[], &TOLERANT);
    let c = NodeProcess::start("c", &[&b], &TOLERANT);
    let a = start_with("a", &clock, &[&b], &TOLERANT);
    until_linked(&[&a, &b, &c]);
    a.set("k", "before");
    until_equal(&[&a, &b, &c]);
    clock.set(-5.0);
    for n in 0..10 {
        a.set("k", &format!("after {n}"));
    }
    wait("what was written after the step stands", || {
        [&b, &c].iter().all(|node| node.get("k").as_deref() == Some("after 9"))
    });
    a.del("k");
    wait("and is deleted", || b.get("k").is_none() && c.get("k").is_none());
    assert_eq!([&a, &b, &c].map(NodeProcess::linked), [2, 2, 2]);
    until_equal(&[&a, &b, &c]);
}

#[test]
#[ignore = "needs libfaketime (Debian faketime)"]
fn a_live_node_whose_clock_jumps_is_parted_from_the_others_until_it_is_set_right() {
    for jump in [600.0, -600.0] {
        let clock = Clock::ahead(0.0);
        let a = NodeProcess::start("a", &[], &[]);
        let mut b = start("b", &clock, &[&a]);
        let c = NodeProcess::start("c", &[&a], &[]);
        until_linked(&[&a, &b, &c]);
        b.set("before", "x");
        until_equal(&[&a, &b, &c]);
        clock.set(jump);
        until_skewed(&a, &b);
        until_skewed(&c, &b);
        assert_eq!(a.state_of("c"), "linked");
        a.set("meanwhile", "x");
        wait("the others go on", || c.get("meanwhile").is_some());
        assert_eq!(b.get("meanwhile"), None);
        clock.set(0.0);
        if jump > 0.0 {
            // It has drawn timestamps that lie in the future, and nobody may follow it there: it must start anew.
            wait("it is refused for its timestamps", || {
                let rows = a.peers_in("skewed");
                rows.iter().any(|row| row["reason"].as_str().unwrap().contains("set back"))
            });
            b.kill();
            b.restart();
        }
        until_linked(&[&a, &b, &c]);
        until_equal(&[&a, &b, &c]);
        b.set("before", "after");
        wait("its writes stand", || a.get("before").as_deref() == Some("after"));
    }
}

#[test]
#[ignore = "needs libfaketime (Debian faketime)"]
fn a_node_restarted_with_a_clock_behind_overwrites_what_it_wrote_before() {
    let clock = Clock::ahead(4.0);
    let b = NodeProcess::start("b", &[], &TOLERANT);
    let mut a = start_with("a", &clock, &[&b], &TOLERANT);
    until_linked(&[&a, &b]);
    a.set("k", "before");
    a.set("deleted", "before");
    wait("replicated", || b.get("deleted").is_some());
    for n in 0..10 {
        a.kill();
        wait("b notices", || b.linked() == 0);
        clock.set(-4.0);
        a.restart();
        // At once: the first contact is made before the first client is served.
        a.set("k", &format!("after {n}"));
        a.set("deleted", "again");
        a.del("deleted");
        until_linked(&[&a, &b]);
        until_equal(&[&a, &b]);
        assert_eq!(b.get("k"), Some(format!("after {n}")), "its write lost to an earlier one of its own");
        assert_eq!(b.get("deleted"), None);
        clock.set(4.0);
    }
}

#[test]
#[ignore = "needs libfaketime (Debian faketime)"]
fn a_timestamp_near_the_end_of_time_is_refused_and_poisons_nobody() {
    let a = NodeProcess::start("a", &[], &[]);
    let c = NodeProcess::start("c", &[&a], &[]);
    until_linked(&[&a, &c]);
    // A few hours before the scale of timestamps ends, in 2106.
    let now = time(&a);
    let clock = Clock::ahead((i64::from(u32::MAX) - now - 10_000) as f64);
    let b = start("b", &clock, &[&a]);
    assert!(time(&b) > i64::from(u32::MAX) - 20_000, "libfaketime does nothing");
    b.set("poison", "x");
    wait("it is refused", || a.state_of("b") == "skewed");
    assert_eq!(a.get("poison"), None);
    // Set right, it keeps the timestamps that it drew, and stays out.
    clock.set(0.0);
    wait("it is refused for its timestamps", || {
        let rows = a.peers_in("skewed");
        rows.iter().any(|row| row["reason"].as_str().unwrap().contains("set back"))
    });
    a.set("k", "x");
    wait("the others are not affected", || c.get("k").is_some());
    assert!(time(&a) - now < 1000 && a.get("poison").is_none());
    wait("its stable time is of the present", || {
        let age = a.healing()["stable_age_ms"].as_i64().unwrap();
        (0..120_000).contains(&age)
    });
}
