//! Daemons that meet for the first time, or anew: what they held before is not lost, what was deleted stays so.

use std::time::Duration;

use crate::support::daemon::*;

const FAULTS: &[&str] = &["--enable-faults"];

fn addresses() -> (std::net::SocketAddr, std::net::SocketAddr) {
    (free_address(), free_address())
}

fn is_founded(daemon: &Daemon) -> bool {
    daemon.healing()["founded"].as_bool().unwrap()
}

#[test]
fn daemons_that_name_each_other_wait_for_the_missing_one_and_found_the_cluster_with_it() {
    let at = [addresses(), addresses(), addresses()];
    let join = at.map(|(_, peer)| peer);
    let start = |n: usize| Daemon::start_at(["a", "b", "c"][n], at[n], &join, &[]);
    let (a, b) = (start(0), start(1));
    until_linked(&[&a, &b]);
    a.set("k", "x");
    a.set("kept", "x");
    a.del("k");
    until_equal(&[&a, &b]);
    for daemon in [&a, &b] {
        assert!(!is_founded(daemon));
        assert_eq!(daemon.healing()["awaited"], serde_json::json!([join[2].to_string()]));
        assert_eq!(daemon.healing()["stable_age_ms"], -1);
        assert_eq!(daemon.tombstones(), 1);
    }
    assert!(a.said(&["status"]).contains("not founded"), "{}", a.said(&["status"]));

    let c = start(2);
    until_linked(&[&a, &b, &c]);
    for daemon in [&a, &b, &c] {
        wait("founded once all three have met", || is_founded(daemon));
    }
    until_equal(&[&a, &b, &c]);
    assert_eq!((c.get("k"), c.get("kept").as_deref()), (None, Some("x")));
    wait("the floor rises", || a.healing()["stable_age_ms"].as_i64() != Some(-1));
}

#[test]
fn an_operator_founds_a_cluster_whose_third_daemon_never_comes() {
    let at = [addresses(), addresses()];
    let missing = free_address();
    let join = [at[0].1, at[1].1, missing];
    let [a, b] = [("a", at[0]), ("b", at[1])].map(|(name, at)| Daemon::start_at(name, at, &join, &[]));
    until_linked(&[&a, &b]);
    a.set("k", "x");
    assert!(!is_founded(&a) && !is_founded(&b));
    a.said(&["found"]);
    assert!(is_founded(&a));
    wait("the other learns of it", || is_founded(&b));
    wait("the floor rises", || b.healing()["stable_age_ms"].as_i64() != Some(-1));
    let again = a.cli(&["found"]);
    assert_eq!(again.status.code(), Some(1), "{again:?}");
    assert!(String::from_utf8_lossy(&again.stderr).contains("founded already"), "{again:?}");
    until_equal(&[&a, &b]);
}

#[test]
fn with_join_first_clients_only_read_until_the_cluster_is_met() {
    let at = addresses();
    let b = Daemon::start_at("b", addresses(), &[at.1], &["--join-first"]);
    let mut on_b = b.connect();
    let refused = try_ask::<()>(&mut on_b, &["SET", "k", "v"]).unwrap_err();
    assert_eq!(refused.code(), Some("UNFOUNDED"), "{refused}");
    for words in [&["DEL", "k"][..], &["MSET", "k", "v"], &["EXPIRE", "k", "10"]] {
        let refused = try_ask::<redis::Value>(&mut on_b, words).unwrap_err();
        assert_eq!(refused.code(), Some("UNFOUNDED"), "{words:?}: {refused}");
    }
    assert_eq!(b.get("k"), None);
    assert_eq!(digest(&mut on_b).1, 0);

    let a = Daemon::start_at("a", at, &[], &[]);
    until_linked(&[&a, &b]);
    wait("writes are taken", || try_ask::<()>(&mut on_b, &["SET", "k", "v"]).is_ok());
    wait("and replicated", || a.get("k").is_some());
    assert!(is_founded(&b));
}

#[test]
fn a_lone_founder_that_restarts_empty_comes_home() {
    let mut a = Daemon::start("a", &[], &[]);
    let b = Daemon::start("b", &[&a], &[]);
    until_linked(&[&a, &b]);
    load(&mut a.connect(), 0..1000, b"x");
    a.del("key:0");
    until_equal(&[&a, &b]);
    let whole = digest(&mut b.connect());
    a.kill();
    wait("b notices", || b.linked() == 0);
    b.set("while a was away", "x");
    b.del("while a was away");
    // It founds a cluster of its own until b reaches it.
    a.restart();
    until_linked(&[&a, &b]);
    until_equal(&[&a, &b]);
    assert_eq!(digest(&mut a.connect()), whole);
    assert!(is_founded(&a) && is_founded(&b));
    wait("both are members again", || a.healing()["members"] == 2 && b.healing()["members"] == 2);
}

#[test]
fn what_a_restarted_founder_takes_before_it_comes_home_is_kept() {
    let mut a = Daemon::start("a", &[], FAULTS);
    let b = Daemon::start("b", &[&a], FAULTS);
    until_linked(&[&a, &b]);
    load(&mut a.connect(), 0..100, b"x");
    until_equal(&[&a, &b]);
    b.cut("a", "both");
    a.kill();
    wait("b notices", || b.linked() == 0);
    a.restart();
    a.set("of the lone founder", "kept");
    a.set("key:7", "later");
    b.mend("a");
    until_linked(&[&a, &b]);
    until_equal(&[&a, &b]);
    for daemon in [&a, &b] {
        assert_eq!(daemon.get("of the lone founder").as_deref(), Some("kept"));
        assert_eq!(daemon.get("key:7").as_deref(), Some("later"));
        assert_eq!(digest(&mut daemon.connect()).1, 101);
    }
}

#[test]
fn two_clusters_refuse_each_other_until_one_is_discarded() {
    // Of the first two, d also names a, which is not there yet.
    let at_a = addresses();
    let has_floor = |daemon: &Daemon| daemon.healing()["stable_age_ms"].as_i64() != Some(-1);
    let mut c = Daemon::start("c", &[], FAULTS);
    let d = Daemon::start_at("d", addresses(), &[c.peer, at_a.1], FAULTS);
    until_linked(&[&c, &d]);
    load(&mut c.connect(), 0..100, b"c");
    d.set("of d", "d");
    until_equal(&[&c, &d]);
    wait("c and d count on each other", || has_floor(&c) && has_floor(&d));
    d.cut("*", "both");
    let a = Daemon::start_at("a", at_a, &[], &[]);
    let b = Daemon::start("b", &[&a], &[]);
    until_linked(&[&a, &b]);
    load(&mut a.connect(), 50..150, b"a");
    until_equal(&[&a, &b]);
    wait("a and b count on each other", || has_floor(&a) && has_floor(&b));
    let whole = digest(&mut a.connect());

    d.mend("*");
    wait("the refusal shows on both sides", || {
        d.state_of("a") == "stranger" && a.state_of("d") == "stranger"
    });
    until_linked(&[&c, &d]);
    let row = d.peers_in("stranger").remove(0);
    assert!(row["reason"].as_str().unwrap().contains("sapwood rejoin --discard"), "{row:?}");
    assert_eq!((digest(&mut a.connect()), a.linked(), d.get("of d").is_some()), (whole.clone(), 1, true));

    let careful = d.cli(&["rejoin"]);
    assert_eq!(careful.status.code(), Some(2), "{careful:?}");
    // One daemon alone: beside c, it might join that again.
    c.signal("TERM");
    c.ended();
    d.said(&["rejoin", "--discard", "--yes"]);
    until_linked(&[&a, &b, &d]);
    c.restart();
    until_linked(&[&a, &b, &c, &d]);
    until_equal(&[&a, &b, &c, &d]);
    assert_eq!(digest(&mut d.connect()), whole);
    c.set("of c", "x");
    wait("it is one cluster", || b.get("of c").is_some());
}

#[test]
#[ignore = "takes half a minute: the floor has to pass what the newcomer wrote"]
fn a_daemon_with_data_of_its_own_joins_a_cluster_with_a_floor_and_loses_nothing() {
    let at_a = addresses();
    let x = Daemon::start_at("x", addresses(), &[at_a.1], FAULTS);
    x.cut("*", "both");
    load(&mut x.connect(), 0..1000, b"x");
    x.del("key:0");
    x.set("deleted by the others", "before they did");
    let written = std::time::Instant::now();
    let a = Daemon::start_at("a", at_a, &[], &[]);
    let b = Daemon::start("b", &[&a], &[]);
    until_linked(&[&a, &b]);
    load(&mut a.connect(), 500..1500, b"a");
    wait("the floor has passed what x wrote", || {
        let floor = b.healing()["stable_age_ms"].as_i64().unwrap();
        floor >= 0 && Duration::from_millis(floor.unsigned_abs()) + Duration::from_secs(1) < written.elapsed()
    });
    x.mend("*");
    until_linked(&[&a, &b, &x]);
    until_equal(&[&a, &b, &x]);
    for daemon in [&a, &b, &x] {
        assert_eq!(digest(&mut daemon.connect()).1, 1500);
        assert_eq!(daemon.get("key:0"), None);
        assert_eq!(daemon.get("key:499").as_deref(), Some("x"));
        assert_eq!(daemon.get("key:500").as_deref(), Some("a"), "the later write");
        assert_eq!(daemon.healing()["lost"], 0);
        assert_eq!(daemon.healing()["kills"], 0);
    }
}
