//! The ways a daemon ends, and what the others hold then.

use std::io::{ErrorKind, Read as _, Write as _};
use std::net::TcpStream;
use std::time::{Duration, Instant};

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

/// A client that has asked for many times what two sockets take, has begun to be answered and reads nothing of it.
fn unread(daemon: &Daemon, requests: &[u8]) -> TcpStream {
    let mut stream = daemon.stream();
    stream.write_all(requests).unwrap();
    stream.peek(&mut [0]).unwrap();
    stream
}

#[test]
fn clients_that_do_not_read_delay_a_stop_by_less_than_a_second() {
    const PLENTY: u32 = 32;
    let mut a = Daemon::start("a", &[], &[]);
    let b = Daemon::start("b", &[&a], &[]);
    until_linked(&[&a, &b]);
    let mut connection = a.connect();
    load(&mut connection, 0..PLENTY, &vec![b'x'; 1 << 20]);
    let mut clients = vec![
        unread(&a, b"SAPWOOD WATCH \"\"\r\n"),
        unread(&a, &b"GET key:0\r\n".repeat(PLENTY as usize)),
        unread(&a, b"SUBSCRIBE news\r\n"),
        unread(&a, b"MONITOR\r\n"),
    ];
    // More than sockets take, and less than what a subscriber is cut off for.
    for _ in 0..12 {
        let text = "x".repeat(1 << 20);
        ask::<u32>(&mut connection, &["PUBLISH", "news", &text]);
    }
    until_equal(&[&a, &b]);
    let started = Instant::now();
    a.signal("TERM");
    assert_eq!(a.ended().code(), Some(0), "{}", a.log());
    let took = started.elapsed();
    eprintln!("stopped after {took:?}");
    // A second, and what a busy machine takes.
    assert!(took < Duration::from_secs(4), "{took:?}: it waited for those who do not read");
    for client in &mut clients {
        let mut begun = Vec::new();
        let end = client.read_to_end(&mut begun);
        assert!(!begun.is_empty(), "it gets what its socket has taken");
        assert!(end.is_ok() || end.is_err_and(|error| error.kind() == ErrorKind::ConnectionReset));
    }
}

/// Long enough after its start that every node which knows its address would have dialled it.
fn until_known(daemon: &Daemon) {
    wait("others have had the time to dial", || daemon.info("uptime_in_seconds").parse::<u64>().unwrap() > 8);
}

#[test]
fn a_node_that_nobody_ever_dialled_stops_at_once_and_says_what_was_in_its_memory_only() {
    let mut a = Daemon::start("a", &[], &[]);
    load(&mut a.connect(), 0..1000, b"x");
    until_known(&a);
    let started = Instant::now();
    a.signal("TERM");
    assert_eq!(a.ended().code(), Some(0), "{}", a.log());
    assert!(
        started.elapsed().as_secs() < 4,
        "{:?}: it waited for peers that are not there",
        started.elapsed()
    );
    let log = a.log();
    assert!(log.contains("this node was alone") && log.contains("writes=1000"), "{log}");
    assert!(!log.contains("WARN"), "{log}");
}

#[test]
fn a_node_without_writes_of_its_own_stops_at_once() {
    let mut a = Daemon::start_at("a", (free_address(), free_address()), &[free_address()], &[]);
    let started = Instant::now();
    a.signal("TERM");
    assert_eq!(a.ended().code(), Some(0), "{}", a.log());
    assert!(started.elapsed().as_secs() < 4, "{:?}", started.elapsed());
}

#[test]
fn a_node_that_reaches_none_of_its_peers_waits_for_the_drain_time_and_counts_what_is_lost() {
    let addresses = (free_address(), free_address());
    let mut a = Daemon::start_at("a", addresses, &[free_address()], &["--drain-timeout=1s"]);
    a.set("k", "x");
    ask::<i64>(&mut a.connect(), &["INCR", "n"]);
    a.del("k");
    let started = Instant::now();
    a.signal("TERM");
    assert_eq!(a.ended().code(), Some(4), "{}", a.log());
    assert!(started.elapsed().as_secs() >= 1, "{:?}: it did not wait", started.elapsed());
    let log = a.log();
    assert!(
        log.contains("no peer holds the latest writes: they are lost") && log.contains("writes=3"),
        "{log}"
    );
}

#[test]
fn what_was_written_after_the_last_peer_had_left_is_counted_as_lost() {
    let mut a = Daemon::start("a", &[], &["--drain-timeout=1s"]);
    let mut b = Daemon::start("b", &[&a], &[]);
    until_linked(&[&a, &b]);
    ask::<()>(&mut a.connect(), &["MSET", "held:1", "x", "held:2", "x"]);
    b.signal("TERM");
    assert_eq!(b.ended().code(), Some(0), "{}", b.log());
    a.set("k", "x");
    a.signal("TERM");
    assert_eq!(a.ended().code(), Some(4), "{}", a.log());
    assert!(a.log().contains("writes=1"), "{}", a.log());
}

/// The node has nobody to dial, and its peer has not dialled it yet when it is told to stop.
#[test]
fn a_node_that_is_stopped_right_after_its_start_waits_for_the_peer_that_knows_its_address() {
    let mut a = Daemon::start("a", &[], &["--drain-timeout=30s"]);
    let b = Daemon::start("b", &[&a], &[]);
    until_linked(&[&a, &b]);
    a.kill();
    wait("b notices", || b.linked() == 0);
    b.signal("STOP");
    a.restart();
    load(&mut a.connect(), 0..100, b"x");
    a.signal("TERM");
    wait("it waits", || a.log().contains("waiting for one to link"));
    assert!(TcpStream::connect(a.client).is_err(), "clients are served");
    b.signal("CONT");
    assert_eq!(a.ended().code(), Some(0), "{}", a.log());
    assert_eq!(digest(&mut b.connect()).1, 100, "{}", a.log());
}

#[test]
fn writes_of_a_node_that_is_stopped_right_after_its_start_are_handed_over_or_counted() {
    let mut a = Daemon::start("a", &[], &[]);
    let b = Daemon::start("b", &[&a], &[]);
    until_linked(&[&a, &b]);
    a.kill();
    a.restart();
    load(&mut a.connect(), 0..100, b"x");
    a.signal("TERM");
    match a.ended().code() {
        Some(0) => assert_eq!(digest(&mut b.connect()).1, 100, "{}", a.log()),
        Some(4) => assert!(a.log().contains("writes=100"), "{}", a.log()),
        other => panic!("{other:?}: {}", a.log()),
    }
}

#[test]
fn a_second_signal_ends_the_wait_for_a_peer() {
    let addresses = (free_address(), free_address());
    let mut a = Daemon::start_at("a", addresses, &[free_address()], &["--drain-timeout=10m"]);
    a.set("k", "x");
    a.signal("INT");
    wait("it waits", || a.log().contains("waiting for one to link"));
    a.signal("INT");
    assert_eq!(a.ended().code(), Some(1), "{}", a.log());
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
