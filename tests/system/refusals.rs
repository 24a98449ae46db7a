//! What a node turns away, and how it says so; and odd things that it takes.

use std::io::{ErrorKind, Read as _, Write as _};
use std::net::TcpStream;

use crate::support::node_process::*;

#[test]
fn a_key_is_any_bytes_be_they_a_list_or_a_term_of_erlang() {
    let a = NodeProcess::start("a", &[], &[]);
    let b = NodeProcess::start("b", &[&a], &[]);
    until_linked(&[&a, &b]);
    // The term {user, [1,2,3]} in Erlang's external format.
    let term = b"\x83h\x02d\x00\x04userk\x00\x03\x01\x02\x03";
    let (mut on_a, mut on_b) = (a.connect(), b.connect());
    for key in [&b"[1,2,3]"[..], term, b"", b"{hash}tag", b"*?[a-z]\\"] {
        redis::cmd("SET").arg(key).arg("value").exec(&mut on_a).unwrap();
        let mut get = redis::cmd("GET");
        get.arg(key);
        wait("replicated", || get.query::<Option<String>>(&mut on_b).unwrap().as_deref() == Some("value"));
        let (_, keys): (u64, Vec<Vec<u8>>) =
            redis::cmd("SCAN").arg(0).arg("COUNT").arg(100_000).query(&mut on_b).unwrap();
        assert!(keys.iter().any(|found| found == key), "{}", key.escape_ascii());
    }
    assert_eq!(b.said(&["get", "[1,2,3]"]), "value");
}

#[test]
fn a_value_of_50_mb_is_refused_and_the_connection_lives() {
    let a = NodeProcess::start("a", &[], &[]);
    let mut connection = a.connect();
    ask::<()>(&mut connection, &["SET", "k", "before"]);
    let value = vec![b'v'; 50_000_000];
    let refused = redis::cmd("SET").arg("k").arg(&value).exec(&mut connection).unwrap_err();
    assert!(refused.to_string().contains("--max-value"), "{refused}");
    assert_eq!(ask::<String>(&mut connection, &["GET", "k"]), "before");
    let kept = a.resident();
    assert!(kept < 100 << 20, "{kept} bytes are resident after it");
}

#[test]
fn a_connection_made_while_the_node_starts_is_refused_or_served() {
    let a = NodeProcess::start("a", &[], &[]);
    load(&mut a.connect(), 0..20_000, &[b'x'; 100]);
    let b = NodeProcess::spawn("b", &[&a], &[]);
    let (mut refused, mut served) = (0, 0);
    wait("b has served 200 connections", || {
        let Ok(mut stream) = TcpStream::connect(b.client).map_err(|error| {
            assert_eq!(error.kind(), ErrorKind::ConnectionRefused, "{error}");
            refused += 1;
        }) else {
            return false;
        };
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream.write_all(b"SET early bird\r\nGET early\r\nGET key:7\r\n").unwrap();
        let mut reply = [0; 5 + 10];
        stream.read_exact(&mut reply).unwrap();
        assert_eq!(&reply, b"+OK\r\n$4\r\nbird\r\n");
        // The state of a may have come or not: then the key is not said to be absent.
        let mut start = [0; 1];
        stream.read_exact(&mut start).unwrap();
        assert!(start == *b"$" || start == *b"-", "{start:?}");
        served += 1;
        served >= 200
    });
    assert!(refused + served >= 200);
    until_equal(&[&a, &b]);
    assert_eq!(ask::<String>(&mut a.connect(), &["GET", "early"]), "bird");
}

#[test]
fn a_namesake_shows_in_peers_and_in_the_log() {
    let a = NodeProcess::start("a", &[], &[]);
    let b = NodeProcess::start("b", &[&a], &[]);
    until_linked(&[&a, &b]);
    let namesake = NodeProcess::start("b", &[&a], &[]);
    for node in [&a, &namesake] {
        wait("the refusal shows", || !node.peers_in("duplicate").is_empty());
        assert!(node.said(&["peers"]).contains("duplicate"), "{}", node.said(&["peers"]));
        wait("the log says why", || node.log().contains("--name"));
    }
    assert_eq!((a.linked(), b.linked(), namesake.linked()), (1, 1, 0));
}

#[test]
fn a_foreign_cluster_shows_in_peers_and_in_the_log() {
    let a = NodeProcess::start("a", &[], &[]);
    let elm = NodeProcess::start("b", &[&a], &["--cluster", "elm"]);
    ask::<()>(&mut elm.connect(), &["SET", "k", "stays out"]);
    for node in [&a, &elm] {
        wait("the refusal shows", || !node.peers_in("wrong-cluster").is_empty());
        let table = node.said(&["peers"]);
        assert!(table.contains("wrong-cluster") && table.contains("elm"), "{table}");
        wait("the log says why", || node.log().contains("--cluster"));
    }
    assert_eq!(ask::<Option<String>>(&mut a.connect(), &["GET", "k"]), None);
}

#[test]
fn without_the_password_nothing_is_shown_and_with_it_everything_works() {
    let dir = tempfile::tempdir().unwrap();
    let file = |name: &str, text: &str| {
        let path = dir.path().join(name);
        std::fs::write(&path, text).unwrap();
        std::fs::set_permissions(&path, std::os::unix::fs::PermissionsExt::from_mode(0o600)).unwrap();
        path.display().to_string()
    };
    let (right, wrong) = (file("right", "heartwood-7\n"), file("wrong", "sapling-7\n"));
    let a = NodeProcess::start("a", &[], &["--client-password-file", &right, "--log", "debug"]);

    let mut stream = a.stream();
    stream.write_all(b"GET k\r\nAUTH sapling-7\r\nAUTH heartwood-7\r\nSET k v\r\n").unwrap();
    let mut replies = Vec::new();
    wait("the last reply", || {
        let mut chunk = [0; 512];
        let read = stream.read(&mut chunk).unwrap();
        replies.extend_from_slice(&chunk[..read]);
        assert!(read > 0, "closed after {}", replies.escape_ascii());
        replies.iter().filter(|&&byte| byte == b'\n').count() >= 4
    });
    let replies = String::from_utf8(replies).unwrap();
    let lines: Vec<_> = replies.lines().collect();
    assert!(lines[0].starts_with("-NOAUTH ") && lines[1].starts_with("-WRONGPASS "), "{replies}");
    assert_eq!(lines[2..], ["+OK", "+OK"]);

    assert_eq!(a.said(&["get", "k", "--password-file", &right]), "v");
    let refused = a.cli(&["get", "k", "--password-file", &wrong]);
    assert_eq!((refused.status.code(), &refused.stdout[..]), (Some(1), &b""[..]));
    assert!(String::from_utf8_lossy(&refused.stderr).contains("--password-file"), "{refused:?}");
    let refused = a.cli(&["get", "k"]);
    assert!(String::from_utf8_lossy(&refused.stderr).contains("--password-file"), "{refused:?}");
    for secret in ["heartwood-7", "sapling-7"] {
        assert!(!a.log().contains(secret) && !a.greeting().contains(secret), "a password is in the log");
    }
}
