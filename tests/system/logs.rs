//! What the log holds, and what it never does.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;

use crate::support::node_process::*;
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
    let mut a = NodeProcess::start("a", &[], &["--log", "debug"]);
    let mut b = NodeProcess::start("b", &[&a], &["--log", "debug", "--log-format", "json"]);
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

    for node in [&a, &b] {
        throw(node.client, format!("*3\r\n$3\r\nSET\r\n$1\r\nk\r\n$x\r\n{SECRET}\r\n").as_bytes());
        throw(node.client, format!("*3\r\n$3\r\nSET\r\n$1\r\nk\r\n$17\r\n{SECRET}{SECRET}\r\n").as_bytes());
        throw(node.client, format!("SET k \"{SECRET}\r\n").as_bytes());
        throw(node.client, format!("*3\r\n$3\r\nSET\r\n$1\r\nk\r\n$1000\r\n{SECRET}").as_bytes());
        throw(node.peer, SECRET.as_bytes());
        throw(node.peer, &peer_frames::frame(SECRET.as_bytes()));
    }
    until_linked(&[&a, &b]);
    for node in [&mut a, &mut b] {
        node.signal("TERM");
        assert_eq!(node.ended().code(), Some(0));
        assert!(!node.log().contains(SECRET), "{}", node.log());
        assert!(node.log().to_lowercase().contains("debug"), "debug lines are there: {}", node.log());
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

/// The log lines that hold all of these words.
fn lines(node: &NodeProcess, words: &[&str]) -> Vec<String> {
    let log = node.log();
    log.lines().filter(|line| words.iter().all(|word| line.contains(word))).map(str::to_owned).collect()
}

#[test]
fn a_failed_auth_is_a_warning_with_the_address_and_without_the_password() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("password");
    std::fs::write(&file, "heartwood-7\n").unwrap();
    std::fs::set_permissions(&file, std::os::unix::fs::PermissionsExt::from_mode(0o600)).unwrap();
    let a = NodeProcess::start(
        "a",
        &[],
        &["--client-password-file", &file.display().to_string(), "--log", "debug"],
    );

    let mut stream = a.stream();
    let address = stream.local_addr().unwrap().to_string();
    let attempts = format!("AUTH {SECRET}\r\nHELLO 3 AUTH default {SECRET}\r\nAUTH {SECRET} heartwood-7\r\n")
        .repeat(100);
    stream.write_all(format!("{attempts}AUTH heartwood-7\r\nQUIT\r\n").as_bytes()).unwrap();
    stream.read_to_end(&mut Vec::new()).unwrap();

    let warned = || lines(&a, &["WARN", "failed AUTH", &format!("client={address}")]);
    wait("the first of them is in the log", || !warned().is_empty());
    // One a second: 300 attempts take far less than a minute.
    assert!(warned().len() < 60, "{:?}", warned());
    // The next line says how many were left out.
    let mut again = a.stream();
    wait("a second has passed", || {
        again.write_all(b"AUTH wrong\r\n").unwrap();
        again.read_exact(&mut [0; 1]).unwrap();
        !lines(&a, &["failed AUTH", "left_out="]).is_empty()
    });
    assert!(!a.log().contains(SECRET) && !a.log().contains("heartwood-7"), "{}", a.log());
}

#[test]
fn what_an_operator_has_done_is_in_the_log_with_the_address_it_came_from() {
    let a = NodeProcess::start("a", &[], &["--enable-flush", "--enable-faults"]);
    let mut b = NodeProcess::start("b", &[&a], &[]);
    until_linked(&[&a, &b]);
    b.signal("TERM");
    b.ended();
    wait("b has gone", || a.state_of("b") == "gone");

    let mut other = a.stream();
    other.write_all(b"CLIENT ID\r\n").unwrap();
    let mut id = [0; 16];
    let read = other.read(&mut id).unwrap();
    let id = String::from_utf8_lossy(&id[1..read]).trim().to_owned();

    let mut stream = a.stream();
    let address = format!("client={}", stream.local_addr().unwrap());
    let said = [
        ("FLUSHALL", "FLUSHALL", ""),
        ("flushdb async", "FLUSHDB", ""),
        ("CONFIG SET notify-keyspace-events KEA", "CONFIG SET", "notify-keyspace-events"),
        (&format!("CLIENT KILL ID {id}"), "CLIENT KILL", "1 closed"),
        ("SAPWOOD CUT * IN", "SAPWOOD CUT", "* in"),
        ("SAPWOOD MEND * IN", "SAPWOOD MEND", "* in"),
        ("SAPWOOD REJOIN DISCARD", "SAPWOOD REJOIN", ""),
        ("SHUTDOWN", "SHUTDOWN", ""),
    ];
    for (command, ..) in said {
        stream.write_all(format!("{command}\r\n").as_bytes()).unwrap();
    }
    stream.read_to_end(&mut Vec::new()).unwrap();
    for (_, command, detail) in said {
        let command = format!("command=\"{command}\"");
        let words = ["INFO", "command of an operator", &address, &command, detail];
        wait(&format!("{words:?} are in the log"), || lines(&a, &words).len() == 1);
    }
}

#[test]
fn what_an_operator_was_refused_is_no_line() {
    let a = NodeProcess::start("a", &[], &[]);
    let mut connection = a.connect();
    for words in [
        &["FLUSHALL"][..],
        &["SAPWOOD", "CUT", "*"],
        &["SAPWOOD", "FORGET", "nobody"],
        &["CONFIG", "SET", "port", "1"],
        &["SHUTDOWN", "SOON"],
    ] {
        try_ask::<()>(&mut connection, words).unwrap_err();
    }
    assert_eq!(lines(&a, &["command of an operator"]), [""; 0]);
}

#[test]
fn a_lost_link_is_a_warning_and_a_goodbye_is_not() {
    let a = NodeProcess::start("a", &[], &[]);
    let mut b = NodeProcess::start("b", &[&a], &[]);
    let mut c = NodeProcess::start("c", &[&a], &[]);
    until_linked(&[&a, &b, &c]);
    b.kill();
    c.signal("TERM");
    c.ended();
    let unlinked =
        |peer: &str, level: &str| !lines(&a, &[level, "peer unlinked", &format!("peer={peer} ")]).is_empty();
    wait("both are unlinked", || a.state_of("b") == "down" && a.state_of("c") == "gone");
    wait("the loss is a warning", || unlinked("b", "WARN"));
    wait("the goodbye is a line", || unlinked("c", "INFO"));
    assert!(!unlinked("c", "WARN"), "{}", a.log());
}

/// Each password and each hash is looked for in all that a node shows to operators, and in its log.
#[test]
fn passwords_of_users_are_shown_nowhere_and_their_hashes_only_by_acl() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("users.acl");
    let hash = "72b4b77a45ed0f7cc314b530a3094f6fb0cfa5ce00e550e067c5722510b85d25";
    let slow =
        "$argon2id$v=19$m=8,t=1,p=1$c2FsdHNhbHRzYWx0c2FsdA$D9h7HNM9kP2GHrrZDwva9GAvrMZoLL1OUrLhw+VBUe0";
    std::fs::write(&file, format!("user root on #{hash} ~* &* +@all\nuser slow on {slow} ~* &* +@all\n"))
        .unwrap();
    std::fs::set_permissions(&file, std::os::unix::fs::PermissionsExt::from_mode(0o600)).unwrap();
    let a = NodeProcess::spawn("a", &[], &["--users-file", &file.display().to_string(), "--log", "debug"]);
    let mut stream = None;
    wait("the node listens", || {
        stream = TcpStream::connect(a.client).ok();
        stream.is_some()
    });
    let mut replies = String::new();
    let mut stream = stream.unwrap();
    let mut say = |requests: &str| {
        stream.write_all(format!("{requests}\r\nECHO end-of-replies\r\n").as_bytes()).unwrap();
        let mut bytes = Vec::new();
        while !bytes.ends_with(b"end-of-replies\r\n") {
            let mut chunk = [0; 4096];
            let read = stream.read(&mut chunk).unwrap();
            assert!(read > 0, "closed after {}", bytes.escape_ascii());
            bytes.extend_from_slice(&chunk[..read]);
        }
        let text = String::from_utf8_lossy(&bytes).into_owned();
        replies.push_str(&text);
        text
    };
    say("AUTH root fast-canary-2");
    let mut monitor = TcpStream::connect(a.client).unwrap();
    monitor.write_all(b"AUTH root fast-canary-2\r\nMONITOR\r\n").unwrap();
    let mut seen = [0; 10];
    monitor.read_exact(&mut seen).unwrap();
    say("CONFIG SET slowlog-log-slower-than 0");
    say("AUTH slow slow-canary-1\r\nAUTH slow wrong-canary-3\r\nHELLO 2 AUTH root wrong-canary-4");
    say(
        "AUTH wrong-canary-5\r\nAUTH nobody-canary-6 x\r\nAUTH a b wrong-canary-7\r\nAUTH root fast-canary-2",
    );
    std::fs::write(&file, "user root on >file-canary-8\n").unwrap();
    say("ACL LOAD");
    let shown = say(
        "INFO all\r\nCONFIG GET *\r\nCLIENT LIST\r\nSLOWLOG GET 100\r\nACL LOG\r\nLATENCY LATEST\r\nMEMORY DOCTOR",
    );
    assert!(!shown.contains(hash) && !shown.contains(slow), "{shown}");
    assert!(say("ACL LIST").contains(hash));
    let mut monitored = Vec::new();
    wait("the monitor has seen all", || {
        let mut chunk = [0; 4096];
        let read = monitor.read(&mut chunk).unwrap();
        monitored.extend_from_slice(&chunk[..read]);
        String::from_utf8_lossy(&monitored).contains("MEMORY")
    });
    let monitored = String::from_utf8_lossy(&monitored).into_owned();
    for text in [&replies, &monitored, &a.log(), &a.greeting()] {
        assert!(!text.contains("canary"), "{text}");
    }
    assert!(!a.log().contains(hash) && !a.log().contains(slow));
    assert!(a.log().contains("users were not reloaded"), "{}", a.log());
}
