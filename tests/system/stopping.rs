//! The ways a daemon ends, and what the others hold then.

use crate::support::daemon::*;

/// Writes that nobody waited for are still handed over before the process ends.
fn a_signal_drains(signal: &str) {
    let mut a = Daemon::start("a", &[], &[]);
    let b = Daemon::start("b", &[&a], &[]);
    until_linked(&[&a, &b]);
    let mut connection = a.connect();
    load(&mut connection, 0..20_000, &[b'x'; 500]);
    let written = digest(&mut connection);
    a.signal(signal);
    let status = a.ended();
    assert_eq!(status.code(), Some(0), "{signal}: {}", a.log());
    assert_eq!(digest(&mut b.connect()), written, "the second daemon has not every write of the first");
    wait("the goodbye shows", || b.peers().iter().all(|peer| peer["state"] == "gone"));
}

#[test]
fn sigterm_drains_to_the_peers_and_exits_with_0() {
    a_signal_drains("TERM");
}

#[test]
fn ctrl_c_drains_to_the_peers_and_exits_with_0() {
    a_signal_drains("INT");
}

#[test]
fn the_shutdown_command_drains_and_exits_with_0() {
    let mut a = Daemon::start("a", &[], &[]);
    let b = Daemon::start("b", &[&a], &[]);
    until_linked(&[&a, &b]);
    let mut connection = a.connect();
    load(&mut connection, 0..1000, b"x");
    let written = digest(&mut connection);
    // It ends instead of answering.
    let _ = try_ask::<()>(&mut connection, &["SHUTDOWN"]);
    assert_eq!(a.ended().code(), Some(0), "{}", a.log());
    assert_eq!(digest(&mut b.connect()), written);
}

#[test]
fn a_lone_daemon_stops_at_once() {
    let mut a = Daemon::start("a", &[], &[]);
    load(&mut a.connect(), 0..1000, b"x");
    let started = std::time::Instant::now();
    a.signal("TERM");
    assert_eq!(a.ended().code(), Some(0), "{}", a.log());
    assert!(
        started.elapsed().as_secs() < 5,
        "{:?}: it waited for peers that are not there",
        started.elapsed()
    );
}

#[test]
fn a_daemon_that_never_met_those_it_dials_says_that_they_lose_its_writes() {
    let mut a = Daemon::start_at("a", (free_address(), free_address()), &[free_address()], &[]);
    a.set("k", "x");
    wait("nobody answers", || a.peers_in("down").len() == 1);
    a.signal("TERM");
    assert_eq!(a.ended().code(), Some(0), "{}", a.log());
    assert!(a.log().contains("stopping without a link to any peer"), "{}", a.log());
}

#[test]
fn a_daemon_killed_and_started_again_under_its_name_gets_everything_back() {
    let [a, mut b, c] = three_daemons(&[]);
    load(&mut a.connect(), 0..10_000, &[b'x'; 100]);
    until_equal(&[&a, &b, &c]);
    ask::<()>(&mut b.connect(), &["SET", "of b", "kept by the others"]);
    ask::<()>(&mut c.connect(), &["DEL", "key:0"]);
    until_equal(&[&a, &b, &c]);
    let whole = digest(&mut b.connect());
    b.kill();
    wait("a notices", || a.linked() == 1);
    b.restart();
    until_linked(&[&a, &b, &c]);
    until_equal(&[&a, &b, &c]);
    let mut connection = b.connect();
    assert_eq!(digest(&mut connection), whole);
    assert_eq!(ask::<String>(&mut connection, &["GET", "of b"]), "kept by the others");
    assert_eq!(ask::<Option<String>>(&mut connection, &["GET", "key:0"]), None);
    for daemon in [&a, &b, &c] {
        assert_eq!(daemon.peers().len(), 2, "{:?}", daemon.peers());
    }
}
