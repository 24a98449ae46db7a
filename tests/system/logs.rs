//! What the log holds, and what it never does.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;

use crate::support::daemon::*;
use crate::support::peer_frames;

const SECRET: &str = "xylem-9F3A-secret";

/// Sends bytes to a port and waits for it to close the connection; what it answers is of no interest.
fn throw(address: std::net::SocketAddr, bytes: &[u8]) {
    let mut stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    // It may have closed before all of it was sent.
    let _ = stream.write_all(bytes).and_then(|()| stream.shutdown(std::net::Shutdown::Write));
    let _ = stream.read_to_end(&mut Vec::new());
}

#[test]
fn no_value_ever_reaches_the_log_even_at_debug_level() {
    let mut a = Daemon::start("a", &[], &["--log", "debug"]);
    let mut b = Daemon::start("b", &[&a], &["--log", "debug", "--log-format", "json"]);
    until_linked(&[&a, &b]);
    let (mut on_a, mut on_b) = (a.connect(), b.connect());
    ask::<()>(&mut on_a, &["SET", "k", SECRET]);
    wait("replicated", || ask::<Option<String>>(&mut on_b, &["GET", "k"]).as_deref() == Some(SECRET));
    ask::<()>(&mut on_b, &["SET", "k", &format!("{SECRET} again"), "PX", "100000"]);
    wait("overwritten", || ask::<String>(&mut on_a, &["GET", "k"]).ends_with("again"));
    ask::<()>(&mut on_a, &["MSET", "k", SECRET, "l", SECRET]);
    let refused = [
        &["SET", "k", SECRET, "SOON"][..],
        &["GETSET", SECRET],
        &["WOODWORM", SECRET],
        &["INCRBY", "k", SECRET],
    ];
    for words in refused {
        try_ask::<()>(&mut on_a, words).unwrap_err();
    }
    until_equal(&[&a, &b]);
    ask::<()>(&mut on_b, &["DEL", "k", "l"]);
    wait("deleted", || ask::<u32>(&mut on_a, &["EXISTS", "k", "l"]) == 0);

    for daemon in [&a, &b] {
        throw(daemon.client, format!("*3\r\n$3\r\nSET\r\n$1\r\nk\r\n$x\r\n{SECRET}\r\n").as_bytes());
        throw(daemon.client, format!("*3\r\n$3\r\nSET\r\n$1\r\nk\r\n$17\r\n{SECRET}{SECRET}\r\n").as_bytes());
        throw(daemon.client, format!("SET k \"{SECRET}\r\n").as_bytes());
        throw(daemon.client, format!("*3\r\n$3\r\nSET\r\n$1\r\nk\r\n$1000\r\n{SECRET}").as_bytes());
        throw(daemon.peer, SECRET.as_bytes());
        throw(daemon.peer, &peer_frames::frame(SECRET.as_bytes()));
    }
    until_linked(&[&a, &b]);
    for daemon in [&mut a, &mut b] {
        daemon.signal("TERM");
        assert_eq!(daemon.ended().code(), Some(0));
        assert!(!daemon.log().contains(SECRET), "{}", daemon.log());
        assert!(daemon.log().to_lowercase().contains("debug"), "debug lines are there: {}", daemon.log());
    }
    let log = b.log();
    for line in log.lines() {
        let parsed: serde_json::Value =
            serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}"));
        let object = parsed.as_object().unwrap_or_else(|| panic!("no object: {line}"));
        for field in ["timestamp", "level", "message", "target"] {
            assert!(object.contains_key(field), "no {field} in {line}");
        }
    }
    assert!(log.lines().count() > 3, "{log}");
}
