//! Nodes that a fault keeps apart: what each side wrote is on both once they meet again.

use std::time::{Duration, Instant};

use sapwood::internal::env::{Env as _, SystemEnv};

use crate::support::node_process::*;

/// What is cut can be mended by the test.
const FAULTS: &[&str] = &["--enable-faults"];

/// Two linked nodes that hold the same.
fn pair() -> [NodeProcess; 2] {
    pair_with(FAULTS)
}

fn pair_with(flags: &[&str]) -> [NodeProcess; 2] {
    let a = NodeProcess::start("a", &[], flags);
    let b = NodeProcess::start("b", &[&a], flags);
    until_linked(&[&a, &b]);
    load(&mut a.connect(), 0..500, b"before");
    until_equal(&[&a, &b]);
    [a, b]
}

/// Both sides write, overwrite and delete while `a` has its link to `b` cut; then they meet again.
fn a_cut_heals(way: &str) {
    let [a, b] = pair();
    a.cut("b", way);
    assert_eq!(a.state_of("b"), "cut");
    wait("b notices", || b.state_of("a") == "down");
    for (here, other) in [(&a, "a"), (&b, "b")] {
        load(&mut here.connect(), if other == "a" { 500..700 } else { 700..900 }, other.as_bytes());
        here.set("both", other);
        here.set(&format!("only {other}"), other);
    }
    a.del("key:1");
    b.del("key:2");
    // Overwritten on one side after it was deleted on the other.
    a.del("key:3");
    b.set("key:3", "later");
    assert_eq!(a.get("only b"), None, "the cut lets writes through");
    assert_eq!(b.get("only a"), None, "the cut lets writes through");
    assert_eq!(a.state_of("b"), "cut", "it shows although the link has ended");

    a.mend("b");
    let mended = Instant::now();
    until_equal(&[&a, &b]);
    until_linked(&[&a, &b]);
    assert!(mended.elapsed() < Duration::from_secs(10), "{:?} from the mend to equality", mended.elapsed());
    for node in [&a, &b] {
        assert_eq!(node.get("both").as_deref(), Some("b"), "the later write stands");
        assert_eq!(node.get("only a").as_deref(), Some("a"));
        assert_eq!(node.get("only b").as_deref(), Some("b"));
        assert_eq!(node.get("key:3").as_deref(), Some("later"));
        assert_eq!((node.get("key:1"), node.get("key:2")), (None, None));
        assert_eq!(digest(&mut node.connect()).1, 500 + 400 + 3 - 2);
    }
}

#[test]
fn a_cut_in_both_directions_heals_after_the_mend() {
    a_cut_heals("both");
}

#[test]
fn a_cut_of_what_arrives_heals_after_the_mend() {
    a_cut_heals("in");
}

#[test]
fn a_cut_of_what_is_sent_heals_after_the_mend() {
    a_cut_heals("out");
}

#[test]
fn a_cut_shorter_than_the_silence_limit_loses_nothing_and_ends_no_link() {
    let [a, b] = pair();
    let incarnation = |node: &NodeProcess| node.peers()[0]["since_ms"].as_u64().unwrap();
    let linked_for = incarnation(&a);
    a.cut("b", "both");
    a.set("during", "the cut");
    assert_eq!(b.get("during"), None);
    a.mend("b");
    wait("b has it", || b.get("during").is_some());
    assert!(incarnation(&a) >= linked_for, "the link was made anew");
}

#[test]
fn with_one_link_cut_the_third_node_relays_writes_within_a_second_or_so() {
    let nodes = three_nodes(FAULTS);
    let [a, b, c] = &nodes;
    a.cut("b", "both");
    wait("both notice", || b.state_of("a") == "down" && a.linked() == 1);
    assert_eq!((a.state_of("c"), b.state_of("c"), c.linked()), ("linked".into(), "linked".into(), 2));
    // From here on c knows, by their next heartbeats.
    a.set("first", "1");
    wait("b has what a wrote", || b.get("first").is_some());
    let mut on_b = b.connect();
    for n in 0..20 {
        let key = format!("relayed:{n}");
        a.set(&key, "x");
        let written = Instant::now();
        wait("c relays", || ask::<bool>(&mut on_b, &["EXISTS", &key]));
        assert!(written.elapsed() < Duration::from_secs(2), "{:?} from a by c to b", written.elapsed());
    }
    a.del("first");
    b.set("of b", "x");
    wait("a has what b wrote, b what a deleted", || a.get("of b").is_some() && b.get("first").is_none());
    until_equal(&[a, b, c]);
    a.mend("b");
    until_linked(&[a, b, c]);
    until_equal(&[a, b, c]);
}

/// Checks for a while, in which nodes that are not linked dial each other several times.
fn holds_meanwhile(mut check: impl FnMut()) {
    let until = Instant::now() + Duration::from_secs(6);
    wait("a while has passed", || {
        check();
        Instant::now() > until
    });
}

/// How many seconds the hybrid clock of a node leads the machine's.
fn lead(node: &NodeProcess) -> f64 {
    let token: String = ask(&mut node.connect(), &["SAPWOOD", "TOKEN"]);
    let time: u64 = token.split('.').nth(2).unwrap().parse().unwrap();
    time.wrapping_sub(SystemEnv.wall_clock().as_ntp64()).cast_signed() as f64 / f64::from(1 << 16).powi(2)
}

/// Moves the hybrid clock of a node so far ahead, as a client may that brings a token.
fn lead_by(node: &NodeProcess, seconds: u64) {
    let mut client = node.connect();
    let token: String = ask(&mut client, &["SAPWOOD", "TOKEN"]);
    let mut parts: Vec<String> = token.split('.').map(str::to_owned).collect();
    parts[2] = (parts[2].parse::<u64>().unwrap() + (seconds << 32)).to_string();
    ask::<u32>(&mut client, &["SAPWOOD", "READY", &parts.join("."), "0"]);
}

#[test]
fn a_node_that_is_restarted_behind_a_cut_of_all_neither_gets_nor_gives_anything() {
    // Clocks may lead by a minute and more, so that one that is moved shows for as long as the test takes.
    let [a, mut b] = pair_with(&["--enable-faults", "--max-clock-skew", "10s"]);
    let row = |node: &NodeProcess, field: &str| {
        node.peers().iter().map(|row| row[field].clone()).collect::<Vec<_>>()
    };
    let members = |node: &NodeProcess| node.healing()["members"].clone();
    a.cut("*", "both");
    b.signal("KILL");
    lead_by(&a, 60);
    b.restart();
    assert!(lead(&a) > 30.0, "the clock of a must lead while the two dial each other");
    a.set("of a", "1");
    b.set("of b", "1");
    let before = (row(&a, "incarnation"), members(&a));
    let digest_of_a = digest(&mut a.connect());
    holds_meanwhile(|| {
        assert_eq!(digest(&mut a.connect()), digest_of_a);
        assert_eq!(digest(&mut b.connect()).1, 1, "b has something of a");
        assert_eq!((row(&a, "incarnation"), members(&a)), before);
        assert_eq!(a.state_of("b"), "cut");
        assert!(row(&b, "name").iter().all(|name| name == ""), "b knows of a: {:?}", b.peers());
        assert_eq!(members(&b), 1);
        assert!(lead(&b) < 1.0, "the clock of b was moved");
    });
    a.mend("*");
    until_linked(&[&a, &b]);
    until_equal(&[&a, &b]);
    assert_eq!(b.get("of a").as_deref(), Some("1"));
    assert_eq!(a.get("of b").as_deref(), Some("1"));
}

#[test]
fn a_node_that_stops_behind_a_cut_says_no_goodbye_and_hands_over_nothing() {
    let [a, mut b] = pair();
    b.cut("*", "both");
    b.set("of b", "1");
    let stopped = Instant::now();
    b.signal("TERM");
    assert_eq!(b.ended().code(), Some(4), "a write is lost");
    assert!(stopped.elapsed() < Duration::from_secs(5), "it waited for a peer behind the cut");
    wait("a notices", || a.linked() == 0);
    assert_eq!(a.state_of("b"), "down", "not gone: a has received no goodbye");
    assert_eq!(a.get("of b"), None);
}

/// How long what `a` writes takes to `b`, by way of `c`, from the moment on at which `b` takes its link to `a` for dead. Writes
/// are made all the time, so that one is on its way at each moment. Returns the time from the cut to that moment, and of
/// the writes since then the longest.
fn relay_after(way: &str) -> (Duration, Duration) {
    let nodes = three_nodes(FAULTS);
    let [a, b, _c] = &nodes;
    let (mut on_a, mut on_b) = (a.connect(), b.connect());
    let cut = Instant::now();
    a.cut("b", way);
    let (mut written, mut noticed, mut worst) = (Vec::new(), None, Duration::ZERO);
    let mut arrived = 0;
    let mut looked = Instant::now();
    while noticed.is_none_or(|at: Instant| at.elapsed() < Duration::from_secs(6)) {
        assert!(cut.elapsed() < Duration::from_secs(60), "b has not noticed");
        ask::<()>(&mut on_a, &["SET", &format!("relayed:{}", written.len()), "x"]);
        written.push(Instant::now());
        while arrived < written.len() && ask::<bool>(&mut on_b, &["EXISTS", &format!("relayed:{arrived}")]) {
            if noticed.is_some_and(|at| written[arrived] > at) {
                worst = worst.max(written[arrived].elapsed());
            }
            arrived += 1;
        }
        if noticed.is_none() && looked.elapsed() > Duration::from_millis(50) {
            looked = Instant::now();
            let rows = peers(&mut on_b);
            noticed =
                rows.iter().any(|row| row["name"] == "a" && row["state"] != "linked").then(Instant::now);
        }
        // A pause: nobody else is there.
        ask::<u32>(&mut on_a, &["WAIT", "9", "5"]);
    }
    let waiting = written.get(arrived).map_or(Duration::ZERO, Instant::elapsed);
    (noticed.unwrap() - cut, worst.max(waiting))
}

/// A history: the two that had lost each other said so with their next heartbeats, the third looked a second later whether to
/// relay, and what was written meanwhile waited for the next verification, for up to 7 s.
#[test]
fn writes_take_the_way_sync_a_cut_as_soon_as_the_link_is_known_to_be_lost() {
    // A busy machine may spoil a run.
    let soon = |_| relay_after("in").1 < Duration::from_millis(800);
    assert!((0..3).any(soon), "writes waited for something that happens once a second");
}

#[test]
#[ignore = "takes minutes: measures what docs/consistency.md says of relays"]
fn what_a_relay_sync_a_cut_takes() {
    for loaded in [false, true] {
        for way in ["in", "out"] {
            let mut runs = Vec::new();
            for _ in 0..5 {
                let stop = std::sync::atomic::AtomicBool::new(false);
                let run = std::thread::scope(|scope| {
                    if loaded {
                        for _ in 0..2 {
                            scope.spawn(|| {
                                while !stop.load(std::sync::atomic::Ordering::Relaxed) {
                                    std::hint::spin_loop();
                                }
                            });
                        }
                    }
                    let run = relay_after(way);
                    stop.store(true, std::sync::atomic::Ordering::Relaxed);
                    run
                });
                runs.push(run);
            }
            println!("cut {way}, loaded {loaded}: noticed after, then longest way round: {runs:.2?}");
        }
    }
}

#[test]
fn an_isolated_node_serves_on_and_comes_back() {
    let nodes = three_nodes(FAULTS);
    let [a, b, c] = &nodes;
    a.set("deleted by the others", "x");
    until_equal(&[a, b, c]);
    a.cut("*", "both");
    wait("nobody is linked to a", || b.linked() == 1 && c.linked() == 1 && a.linked() == 0);
    assert_eq!((a.state_of("b"), a.state_of("c")), ("cut".into(), "cut".into()));
    assert_eq!((b.state_of("a"), c.state_of("a")), ("down".into(), "down".into()));
    a.set("of a", "1");
    b.set("of b", "1");
    c.del("deleted by the others");
    wait("b and c go on together", || c.get("of b").is_some());
    assert_eq!(a.get("of b"), None);
    assert!(a.get("deleted by the others").is_some(), "the delete could not reach it");
    a.mend("*");
    until_linked(&[a, b, c]);
    until_equal(&[a, b, c]);
    for node in [a, b, c] {
        assert!(node.get("of a").is_some() && node.get("of b").is_some());
        assert_eq!(node.get("deleted by the others"), None);
    }
}

#[test]
fn a_link_that_flaps_converges_and_brings_nothing_back() {
    let [a, b] = pair();
    let (mut on_a, mut on_b) = (a.connect(), b.connect());
    ask::<u32>(&mut on_a, &["DEL", "key:0"]);
    wait("deleted on both", || !ask::<bool>(&mut on_b, &["EXISTS", "key:0"]));
    for round in 0..20u32 {
        a.cut("b", ["in", "out", "both"][round as usize % 3]);
        load(&mut on_a, 1000 + round * 20..1020 + round * 20, b"a");
        load(&mut on_b, 2000 + round * 20..2020 + round * 20, b"b");
        ask::<u32>(&mut on_a, &["DEL", &format!("key:{}", 2000 + round * 20)]);
        assert!(!ask::<bool>(&mut on_b, &["EXISTS", "key:0"]), "it came back at flap {round}");
        a.mend("b");
    }
    until_equal(&[&a, &b]);
    until_linked(&[&a, &b]);
    assert_eq!(ask::<u32>(&mut on_b, &["EXISTS", "key:0", "key:1000", "key:1399", "key:2399"]), 3);
}

#[test]
fn faults_need_the_flag_and_a_peer_that_is_known() {
    let a = NodeProcess::start("a", &[], &[]);
    let refused = a.cli(&["cut", "*"]);
    assert_eq!(refused.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&refused.stderr).contains("--enable-faults"), "{refused:?}");
    let b = NodeProcess::start("b", &[&a], FAULTS);
    let unknown = b.cli(&["cut", "nobody"]);
    assert_eq!(unknown.status.code(), Some(1), "{unknown:?}");
    assert!(String::from_utf8_lossy(&unknown.stderr).contains("nobody"), "{unknown:?}");
}
