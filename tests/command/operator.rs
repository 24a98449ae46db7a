//! What the operator of a cluster sees and types, against a node whose cluster is made up.

use std::io::{BufRead as _, BufReader};
use std::process::{Command, Output, Stdio};
use std::sync::{Arc, Mutex};

use crate::command::{sapwood, stderr, stdout};
use crate::one_peer::{self, OnePeer, verification};
use sapwood::internal::cluster::{Verification, VerificationState};
use sapwood::internal::env::{Env as _, SystemEnv};
use serde_json::{Value, json};
use tokio::runtime::Runtime;
use tokio_util::sync::CancellationToken;

/// A node of a made-up cluster: one peer, with which it is healing.
struct Made {
    address: String,
    calls: Arc<Mutex<Vec<String>>>,
    _runtime: Runtime,
}

impl Made {
    fn up() -> Made {
        Made::that_verified(Vec::new())
    }

    fn that_verified(verified: Vec<Verification>) -> Made {
        let runtime = Runtime::new().unwrap();
        let listener = runtime.block_on(SystemEnv.listen(([127, 0, 0, 1], 0).into())).unwrap();
        let (address, stop) = (listener.local_addr().unwrap(), CancellationToken::new());
        let cluster = OnePeer { verified, ..OnePeer::default() };
        let calls = Arc::clone(&cluster.calls);
        let server = one_peer::server(cluster, one_peer::settings(address, &stop));
        runtime.spawn(async move { server.run(listener, stop).await });
        Made { address: address.to_string(), calls, _runtime: runtime }
    }

    fn command(&self, args: &[&str]) -> Command {
        let mut command = sapwood(args);
        command.env("SAPWOOD_NODE", &self.address);
        command
    }

    fn run(&self, args: &[&str]) -> Output {
        self.command(args).output().unwrap()
    }

    /// What a command prints that succeeds.
    fn said(&self, args: &[&str]) -> String {
        let output = self.run(args);
        assert_eq!(output.status.code(), Some(0), "{args:?}: {}", stderr(&output));
        stdout(&output)
    }

    /// What a command prints with `--json`, and the code it ends with.
    fn json(&self, args: &[&str]) -> (Value, Option<i32>) {
        let output = self.run(&[args, &["--json"]].concat());
        let value = serde_json::from_slice(&output.stdout);
        (value.unwrap_or_else(|error| panic!("{args:?}: {error}: {output:?}")), output.status.code())
    }
}

#[test]
fn an_operators_word_reaches_the_node() {
    let node = Made::up();
    for args in [
        &["forget", "b"][..],
        &["cut", "b"],
        &["cut", "*", "--direction", "in"],
        &["mend", "b", "--direction=out"],
        &["mend", "*"],
        &["rejoin", "--discard"],
    ] {
        assert_eq!(node.said(args), "", "{args:?} says nothing in a pipe");
    }
    let calls = node.calls.lock().unwrap().join(", ");
    assert_eq!(calls, "forget b, cut b both, cut * in, mend b out, mend * both, rejoin");

    let json = |args| node.json(args).0.to_string();
    assert_eq!(json(&["forget", "b"]), r#"{"forgotten":"b"}"#);
    assert_eq!(json(&["cut", "b"]), r#"{"cut":"b","direction":"both"}"#);
    assert_eq!(json(&["mend", "b", "--direction", "in"]), r#"{"direction":"in","mend":"b"}"#);
    assert_eq!(json(&["rejoin", "--discard"]), r#"{"rejoined":true}"#);
}

#[test]
fn an_operators_word_that_cannot_be_done_ends_with_1_and_the_reason() {
    let node = Made::up();
    for (args, reason) in [
        (&["forget", "x"][..], "no member is named \"x\""),
        (&["cut", "x"], "no member is named \"x\""),
        (&["mend", "x"], "no member is named \"x\""),
    ] {
        let output = node.run(args);
        assert_eq!(output.status.code(), Some(1), "{args:?}");
        assert!(stderr(&output).contains(reason), "{args:?}: {}", stderr(&output));
    }
    assert_eq!(node.run(&["rejoin"]).status.code(), Some(2));
    assert!(node.calls.lock().unwrap().is_empty(), "nothing was done");
}

#[test]
fn the_status_is_one_screen_of_the_node_and_its_peers() {
    let screen = Made::up().said(&["status"]);
    for line in [
        "node        a of cluster test, up ",
        "state       ready\n",
        "digest      0000000000000000\n",
        "keys        0\n",
        "memory      0B\n",
        "members     2\n",
        "linked      1 of 1\n",
        "stable      12s ago\n",
        "tombstones  0\n",
        "retracted   4\n",
        "lost        2 keys given up",
        "\n\nPEER  STATE ",
        "b     healing  0ms  1B      4          never     \
         [############--------]  61%  7 cells left, in 50B, out 60B, 9ms to go\n",
    ] {
        assert!(screen.contains(line), "{line:?} is not in\n{screen}");
    }
    assert!(!screen.contains('\x1b'));
}

#[test]
fn the_status_in_json_has_the_node_healing_and_the_peers() {
    let node = Made::up();
    let (status, code) = node.json(&["status"]);
    assert_eq!(code, Some(0));
    assert_eq!(status["digest"], "0000000000000000");
    assert_eq!(status["name"], "a");
    assert_eq!(status["node"], node.address);
    assert_eq!(status["healing"]["members"], 2);
    assert_eq!(status["healing"]["retractions"], 4);
    assert_eq!(status["healing"]["waits_for"], json!(["b", "c"]));
    assert_eq!(status["peers"][0]["name"], "b");
    assert_eq!(status["peers"][0]["heal_cells_left"], 7);
    assert_eq!(node.json(&["peers"]).0, status["peers"]);
}

#[cfg(unix)]
#[test]
fn a_watched_status_goes_on_until_it_is_interrupted() {
    let node = Made::up();
    for (args, shown) in [
        (&["status", "--watch", "--interval=100ms"][..], "digest      0000000000000000"),
        (&["status", "--watch", "--interval=100ms", "--json"], "\"digest\":\"0000000000000000\""),
    ] {
        let mut process = node.command(args).stdout(Stdio::piped()).spawn().unwrap();
        let mut seen = 0;
        let mut lines = BufReader::new(process.stdout.take().unwrap()).lines();
        while seen < 3 {
            let line = lines.next().expect("it goes on").unwrap();
            assert!(!line.contains('\x1b'), "{line}");
            seen += u32::from(line.contains(shown));
        }
        let kill = Command::new("kill").args(["-s", "INT", &process.id().to_string()]).status();
        assert!(kill.unwrap().success());
        assert_eq!(process.wait().unwrap().code(), Some(0), "{args:?}");
    }
}

#[test]
fn a_watched_status_whose_reader_has_seen_enough_ends_in_peace() {
    let node = Made::up();
    let mut watch = node.command(&["status", "--watch", "--interval=100ms"]);
    let mut process = watch.stdout(Stdio::piped()).spawn().unwrap();
    drop(process.stdout.take());
    assert_eq!(process.wait().unwrap().code(), Some(0));
}

#[test]
fn peers_shows_what_differs_and_since_when_it_was_known_not_to() {
    let table = Made::up().said(&["peers"]);
    let lines: Vec<Vec<&str>> = table.lines().map(|line| line.split_whitespace().collect()).collect();
    assert_eq!(lines[0][5..], ["LAG", "QUEUED", "DIFFERING", "VERIFIED", "REASON"]);
    assert_eq!(lines[1], ["b", "healing", "5ms", "127.0.0.1:7172", "out", "0ms", "1B", "4", "never"]);
}

#[test]
fn what_was_lost_is_listed() {
    let node = Made::up();
    let table = node.said(&["lost"]);
    let lines: Vec<&str> = table.lines().collect();
    assert!(lines[0].starts_with("DB  KEY ") && lines.len() == 3, "{table}");
    assert!(
        lines[1].starts_with("0   base64:a/8= ") && lines[1].ends_with(" ago  1B      b     v"),
        "{table}"
    );
    assert!(lines[2].starts_with("0   l ") && lines[2].ends_with(" 8.5MiB  b"), "{table}");

    let (lost, code) = node.json(&["lost"]);
    assert_eq!((&lost[0]["key_base64"], &lost[1]["key"], code), (&"a/8=".into(), &"l".into(), Some(0)));
    assert_eq!((&lost[1]["value"], &lost[1]["value_bytes"]), (&Value::Null, &9_000_000.into()));
}

#[test]
fn verify_ends_with_0_only_when_all_was_compared_and_nothing_differed() {
    use VerificationState::{Done, Failed, Running};
    let failed = || Failed("the link was lost".into());
    let cases = [
        (
            vec![verification("b", Done, 0), verification("c", Done, 0)],
            0,
            "equal: 1,000 keys and deletes, with 2 peers",
            "",
        ),
        (
            vec![verification("b", Done, 3), verification("c", Done, 0)],
            1,
            "b     done   4ms   1,000  3 ",
            "made equal",
        ),
        (
            vec![verification("b", Done, 0), verification("c", failed(), 0)],
            1,
            "the link was lost",
            "not every peer",
        ),
        (vec![verification("b", Running, 0)], 1, "b     running", "not done within 300ms"),
        (Vec::new(), 1, "", "no peer is linked"),
    ];
    for (verified, code, shown, why) in cases {
        let node = Made::that_verified(verified.clone());
        let output = node.run(&["verify", "--within", "300ms"]);
        let (out, err) = (stdout(&output), stderr(&output));
        assert_eq!(output.status.code(), Some(code), "{out}{err}");
        assert!(out.contains(shown) && err.contains(why), "{out}{err}");
        assert!(!err.contains('\x1b'), "no progress where nobody sees it");
        assert_eq!(*node.calls.lock().unwrap(), ["verify"]);

        let (rows, json_code) = node.json(&["verify", "--within", "300ms"]);
        assert_eq!((rows.as_array().unwrap().len(), json_code), (verified.len(), Some(code)));
    }
}
