//! The ways a node ends, and what the others hold then.

use std::fs::File;
use std::io::{BufRead as _, BufReader, ErrorKind, Read as _, Write as _};
use std::net::TcpStream;
use std::path::Path;
use std::process::{Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use crate::support::node_process::*;

/// Writes that nobody waited for are still handed over before the process ends.
fn a_signal_drains(signal: &str) {
    let mut a = NodeProcess::start("a", &[], &[]);
    let b = NodeProcess::start("b", &[&a], &[]);
    until_linked(&[&a, &b]);
    let mut connection = a.connect();
    load(&mut connection, 0..20_000, &[b'x'; 500]);
    let written = digest(&mut connection);
    a.signal(signal);
    let status = a.ended();
    assert_eq!(status.code(), Some(0), "{signal}: {}", a.log());
    assert_eq!(digest(&mut b.connect()), written, "the second node has not every write of the first");
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

/// A node of its own.
const SERVE: &[&str] =
    &["serve", "--name", "a", "--client", "127.0.0.1:0", "--peer", "127.0.0.1:0", "--http", "none"];

/// Closes the terminal that the program was started on, once it has said what to try, and returns how it ended. Its stderr
/// is this file, else the terminal too, where nothing can be written any more.
#[cfg(target_os = "linux")]
fn on_a_terminal_that_closes(args: &[&str], stderr: Option<File>) -> ExitStatus {
    use rustix::{fs, pty};
    let master =
        pty::openpt(pty::OpenptFlags::RDWR | pty::OpenptFlags::NOCTTY | pty::OpenptFlags::CLOEXEC).unwrap();
    pty::grantpt(&master).unwrap();
    pty::unlockpt(&master).unwrap();
    let name = pty::ptsname(&master, Vec::new()).unwrap();
    let terminal =
        fs::open(name, fs::OFlags::RDWR | fs::OFlags::NOCTTY | fs::OFlags::CLOEXEC, fs::Mode::empty())
            .unwrap();
    let terminal = || Stdio::from(terminal.try_clone().unwrap());

    // Makes the terminal that of a session of its own, so that the system sends SIGHUP when it closes.
    let mut command = plain(Command::new("setsid"));
    command.args(["--ctty", env!("CARGO_BIN_EXE_sapwood")]).args(args);
    command.stdin(terminal()).stdout(terminal()).stderr(stderr.map_or_else(terminal, Stdio::from));
    let mut node = command.spawn().unwrap();
    drop(command);

    let mut screen = BufReader::new(File::from(master));
    let mut line = String::new();
    while !line.contains("sapwood set") {
        line.clear();
        screen.read_line(&mut line).unwrap();
    }
    drop(screen);
    let mut status = None;
    wait("the node ends", || {
        status = node.try_wait().unwrap();
        status.is_some()
    });
    status.unwrap()
}

#[cfg(target_os = "linux")]
#[test]
fn a_closed_terminal_stops_in_order_as_sigterm_does() {
    let dir = tempfile::tempdir().unwrap();
    let log = dir.path().join("log");
    let status = on_a_terminal_that_closes(SERVE, Some(File::create(&log).unwrap()));
    let log = std::fs::read_to_string(log).unwrap();
    assert_eq!(status.code(), Some(0), "{status}: {log}");
    assert!(log.contains("the terminal was closed") && log.contains("node stopped"), "{log}");
}

#[cfg(target_os = "linux")]
#[test]
fn a_log_that_nobody_can_read_any_more_does_not_disturb_the_stop() {
    let status = on_a_terminal_that_closes(SERVE, None);
    assert_eq!(status.code(), Some(0), "{status}");
}

#[cfg(target_os = "linux")]
#[test]
fn a_closed_terminal_stops_a_demo_in_order() {
    let status = on_a_terminal_that_closes(&["demo"], None);
    // What it shows may fail to be written before the signal comes; no signal ends it.
    assert!(status.code().is_some(), "{status}");
}

#[test]
fn sighup_without_a_terminal_reloads_the_log_filter_and_names_what_needs_a_restart() {
    let dir = tempfile::tempdir().unwrap();
    let (file, password) = (dir.path().join("sapwood.toml"), dir.path().join("password"));
    let write = |path: &Path, text: &str| {
        std::fs::write(path, text).unwrap();
        std::fs::set_permissions(path, std::os::unix::fs::PermissionsExt::from_mode(0o600)).unwrap();
    };
    let settings = |log: &str, clients: u32| {
        let password = password.display();
        write(
            &file,
            &format!("log = '{log}'\nmax-clients = {clients}\nclient-password-file = '{password}'\n"),
        );
    };
    write(&password, "heartwood-7");
    settings("info", 5);
    let a = NodeProcess::start("a", &[], &["--config", &file.display().to_string()]);
    // Sends it, and waits for a line that was not there before.
    let reload = |line: &str| {
        let seen = || a.log().matches(line).count();
        let before = seen();
        a.signal("HUP");
        wait(&format!("{line:?} is in the log"), || seen() > before);
    };
    reload("SIGHUP: no setting has changed");
    settings("debug", 6);
    write(&password, "sapling-7");
    reload("SIGHUP: the log filter was reloaded before=\"info\" log=\"debug\"");
    let restart = "SIGHUP: these settings have changed and need a restart \
                   settings=\"max-clients, client-password-file\"";
    wait("the others are named", || a.log().contains(restart));
    a.until_up();
    wait("debug lines are written", || a.log().contains("connection opened"));

    settings("inof", 5);
    reload("SIGHUP: not reloaded, all settings stay as they are");
    settings("error", 5);
    reload("SIGHUP: the log filter was reloaded before=\"debug\" log=\"error\"");
    settings("info", 6);
    reload("SIGHUP: the log filter was reloaded before=\"error\" log=\"info\"");
    a.until_up();
    assert!(!a.log().contains("sapling-7") && !a.log().contains("heartwood-7"), "{}", a.log());
}

#[test]
fn sighup_without_a_config_file_is_a_line_and_nothing_else() {
    let mut a = NodeProcess::start("a", &[], &[]);
    a.signal("HUP");
    wait("it says so", || a.log().contains("no --config file, so there are no settings to reload"));
    a.set("k", "v");
    assert_eq!(a.get("k").as_deref(), Some("v"));
    a.signal("TERM");
    a.ended();
    assert!(a.log().contains("node stopped"), "{}", a.log());
}

#[test]
fn the_shutdown_command_drains_and_exits_with_0() {
    let mut a = NodeProcess::start("a", &[], &[]);
    let b = NodeProcess::start("b", &[&a], &[]);
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
fn unread(node: &NodeProcess, requests: &[u8]) -> TcpStream {
    let mut stream = node.stream();
    stream.write_all(requests).unwrap();
    stream.peek(&mut [0]).unwrap();
    stream
}

#[test]
fn clients_that_do_not_read_delay_a_stop_by_less_than_a_second() {
    const PLENTY: u32 = 32;
    let mut a = NodeProcess::start("a", &[], &[]);
    let b = NodeProcess::start("b", &[&a], &[]);
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
fn until_known(node: &NodeProcess) {
    wait("others have had the time to dial", || node.info("uptime_in_seconds").parse::<u64>().unwrap() > 8);
}

#[test]
fn a_node_that_nobody_ever_dialled_stops_at_once_and_says_what_was_in_its_memory_only() {
    let mut a = NodeProcess::start("a", &[], &[]);
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
    let mut a = NodeProcess::start_at("a", (free_address(), free_address()), &[free_address()], &[]);
    let started = Instant::now();
    a.signal("TERM");
    assert_eq!(a.ended().code(), Some(0), "{}", a.log());
    assert!(started.elapsed().as_secs() < 4, "{:?}", started.elapsed());
}

#[test]
fn a_node_that_reaches_none_of_its_peers_waits_for_the_drain_time_and_counts_what_is_lost() {
    let addresses = (free_address(), free_address());
    let mut a = NodeProcess::start_at("a", addresses, &[free_address()], &["--drain-timeout=1s"]);
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
    let mut a = NodeProcess::start("a", &[], &["--drain-timeout=1s"]);
    let mut b = NodeProcess::start("b", &[&a], &[]);
    until_linked(&[&a, &b]);
    ask::<()>(&mut a.connect(), &["MSET", "held:1", "x", "held:2", "x"]);
    b.signal("TERM");
    assert_eq!(b.ended().code(), Some(0), "{}", b.log());
    a.set("k", "x");
    a.signal("TERM");
    assert_eq!(a.ended().code(), Some(4), "{}", a.log());
    assert!(a.log().contains("writes=1"), "{}", a.log());
}

/// The node has nobody to dial, and its peer has not dialled it yet when it receives SIGTERM.
#[test]
fn a_node_that_is_stopped_right_after_its_start_waits_for_the_peer_that_knows_its_address() {
    let mut a = NodeProcess::start("a", &[], &["--drain-timeout=30s"]);
    let b = NodeProcess::start("b", &[&a], &[]);
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
    let mut a = NodeProcess::start("a", &[], &[]);
    let b = NodeProcess::start("b", &[&a], &[]);
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
    let mut a = NodeProcess::start_at("a", addresses, &[free_address()], &["--drain-timeout=10m"]);
    a.set("k", "x");
    a.signal("INT");
    wait("it waits", || a.log().contains("waiting for one to link"));
    a.signal("INT");
    assert_eq!(a.ended().code(), Some(1), "{}", a.log());
}

#[test]
fn a_node_killed_and_started_again_under_its_name_gets_everything_back() {
    let [a, mut b, c] = three_nodes(&[]);
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
    for node in [&a, &b, &c] {
        assert_eq!(node.peers().len(), 2, "{:?}", node.peers());
    }
}
