//! `sapwood watch`, as a terminal and a script see it.

use std::io::{BufRead as _, BufReader, Read as _};
use std::process::{Child, ChildStdout, Command, Stdio};
use std::sync::mpsc::{Receiver, channel};

use serde_json::Value;

use crate::support::node_process::*;

/// A `sapwood watch` that runs, and the lines that it has written.
struct Watch {
    child: Child,
    lines: Receiver<String>,
}

impl Watch {
    fn start(node: &NodeProcess, args: &[&str]) -> Watch {
        let mut command = sapwood(["watch", "--node", &node.client.to_string()]);
        let mut child = command.args(args).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let out: ChildStdout = child.stdout.take().unwrap();
        let (send, lines) = channel();
        std::thread::spawn(move || {
            BufReader::new(out).lines().map_while(Result::ok).try_for_each(|line| send.send(line))
        });
        Watch { child, lines }
    }

    fn line(&self) -> String {
        self.lines.recv_timeout(PATIENCE).expect("a line comes")
    }

    fn expect(&self, lines: &[&str]) {
        for line in lines {
            assert_eq!(self.line(), *line);
        }
    }

    fn object(&self) -> Value {
        serde_json::from_str(&self.line()).unwrap()
    }

    /// Asks it to end; returns its exit code and what it wrote to stderr.
    fn interrupt(mut self) -> (Option<i32>, String) {
        let pid = self.child.id().to_string();
        assert!(Command::new("kill").args(["-s", "INT", &pid]).status().unwrap().success());
        let status = self.child.wait().unwrap();
        let mut said = String::new();
        self.child.stderr.take().unwrap().read_to_string(&mut said).unwrap();
        (status.code(), said)
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[test]
fn a_person_sees_keys_and_changes_of_every_node_until_ctrl_c() {
    let [a, b, c] = three_nodes(&[]);
    a.said(&["set", "user:1", "Ada"]);
    until_equal(&[&a, &b, &c]);
    let watch = Watch::start(&b, &["user:"]);
    watch.expect(&[
        "reset    the keys as they are now",
        "entry    user:1 = Ada",
        "live     1 key; changes follow",
    ]);
    c.said(&["set", "user:2", "Grace\nHopper"]);
    watch.expect(&["set      user:2 = Grace\\nHopper"]);
    c.said(&["set", "other", "unseen"]);
    a.said(&["set", "user:2", "Barbara", "--ttl", "1h"]);
    let line = watch.line();
    assert!(
        line == "set      user:2 = Barbara (59m left)" || line == "set      user:2 = Barbara (1h left)",
        "{line}"
    );
    b.said(&["del", "user:1"]);
    watch.expect(&["del      user:1"]);
    c.said(&["incr", "user:logins", "7"]);
    watch.expect(&["counter  user:logins = 7"]);
    assert_eq!(watch.interrupt(), (Some(0), String::new()));
}

#[test]
fn a_script_goes_on_from_its_cursor_and_over_a_restart() {
    let [mut a, b, c] = three_nodes(&[]);
    let watch = Watch::start(&a, &["flag:", "--json"]);
    assert_eq!(watch.object()["reason"], "start");
    assert_eq!(watch.object()["event"], "live");
    a.said(&["set", "flag:1", "on"]);
    let change = watch.object();
    assert_eq!(
        (
            change["event"].as_str(),
            change["cause"].as_str(),
            change["key"].as_str(),
            change["value"].as_str()
        ),
        (Some("change"), Some("set"), Some("flag:1"), Some("on"))
    );
    assert_eq!((change["deadline_ms"].as_i64(), change["time"].is_string()), (Some(-1), true));
    let cursor = change["cursor"].as_str().unwrap();
    assert_eq!(watch.interrupt().0, Some(0));

    b.said(&["set", "flag:1", "off"]);
    until_equal(&[&a, &b, &c]);
    let watch = Watch::start(&a, &["flag:", "--json", "--from", cursor]);
    assert_eq!(watch.object()["event"], "live");
    assert_eq!(watch.object()["value"], "off");

    // The node is another one when it comes back; the others have kept the keys for it.
    a.signal("TERM");
    a.restart();
    let reset = watch.object();
    assert_eq!((reset["event"].as_str(), reset["reason"].as_str()), (Some("reset"), Some("other-node")));
    c.said(&["set", "flag:2", "on"]);
    while watch.object()["key"] != "flag:2" {}
}

#[test]
fn what_cannot_be_watched_ends_with_1_and_the_reason() {
    let node = NodeProcess::start("a", &[], &[]);
    let output = node.cli(&["watch", "a", "--from", "here"]);
    assert_eq!(output.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&output.stderr).contains("a cursor is"), "{output:?}");
}
