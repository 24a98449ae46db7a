//! The first minutes of someone new: three nodes on one machine and the `sapwood` command, nothing else.

use crate::support::node_process::*;

#[test]
fn three_nodes_and_the_command_are_all_it_takes() {
    let [a, b, c] = three_nodes(&[]);
    assert!(a.greeting().contains(&a.client.to_string()), "{}", a.greeting());

    a.said(&["set", "hello", "world"]);
    for node in [&b, &c] {
        wait("the write is everywhere", || node.cli(&["get", "hello"]).stdout == b"world");
    }
    let found = c.json(&["get", "hello"]);
    assert_eq!((found["found"].as_bool(), found["value"].as_str()), (Some(true), Some("world")));

    b.said(&["set", "from", "b", "--ttl", "1h"]);
    wait("b's write is on c", || c.cli(&["get", "from"]).stdout == b"b");
    let mut keys: Vec<_> = c.said(&["keys"]).lines().map(String::from).collect();
    keys.sort();
    assert_eq!(keys, ["from", "hello"]);
    for line in c.said(&["keys", "h*", "--json"]).lines() {
        assert_eq!(serde_json::from_str::<serde_json::Value>(line).unwrap()["key"], "hello");
    }

    assert_eq!(c.said(&["del", "hello", "never"]), "1");
    for node in [&a, &b, &c] {
        wait("the delete is everywhere", || node.cli(&["get", "hello"]).status.code() == Some(3));
    }
    let gone = a.cli(&["get", "hello", "--json"]);
    assert_eq!(serde_json::from_slice::<serde_json::Value>(&gone.stdout).unwrap()["found"], false);
    assert_eq!(a.cli(&["del", "hello"]).status.code(), Some(3));

    for (node, others) in [(&a, ["b", "c"]), (&b, ["a", "c"]), (&c, ["a", "b"])] {
        let peers = node.json(&["peers"]);
        let peers = peers.as_array().unwrap();
        let shown: Vec<_> = peers
            .iter()
            .map(|peer| (peer["name"].as_str().unwrap(), peer["state"].as_str().unwrap()))
            .collect();
        assert_eq!(shown, others.map(|name| (name, "linked")));
        let table = node.said(&["peers"]);
        assert_eq!(table.matches("linked").count(), 2, "{table}");
    }

    until_equal(&[&a, &b, &c]);
    let status = [&a, &b, &c].map(|node| node.json(&["status"]));
    for (status, name) in status.iter().zip(["a", "b", "c"]) {
        assert_eq!(status["name"], name);
        assert_eq!(status["state"], "ready");
        assert_eq!(status["keys"], 1);
        assert_eq!(status["linked_peers"], 2);
    }
    assert_eq!(status[0]["digest"], status[1]["digest"]);
    assert_eq!(status[0]["digest"], status[2]["digest"]);
}
