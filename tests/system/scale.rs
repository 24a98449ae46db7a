//! Many keys. Figures are printed: run with `--nocapture` to see them.

use std::time::{Duration, Instant};

use crate::support::node_process::*;

/// Long enough for a shared machine; a release build on an idle one needs a few seconds.
const LONG: Duration = Duration::from_secs(240);

#[test]
#[ignore = "takes minutes unless built in release"]
fn a_million_keys_reach_two_peers_and_a_fresh_node() {
    const KEYS: u32 = 1_000_000;
    let nodes = three_nodes(&[]);
    let started = Instant::now();
    load(&mut nodes[0].connect(), 0..KEYS, &[b'v'; 100]);
    let loaded = started.elapsed();
    until_equal_within(LONG, &nodes.each_ref());
    let replicated = started.elapsed();
    assert_eq!(digest(&mut nodes[2].connect()).1, u64::from(KEYS));

    let started = Instant::now();
    let fresh = NodeProcess::start("d", &[&nodes[1]], &[]);
    let mut on_fresh = fresh.connect();
    wait_within(LONG, "the fresh node has them all", || digest(&mut on_fresh).1 == u64::from(KEYS));
    eprintln!("loaded in {loaded:?}, on both peers after {replicated:?}, joined in {:?}", started.elapsed());
    let [a, b, c] = &nodes;
    until_equal_within(LONG, &[a, b, c, &fresh]);
    until_linked(&[a, b, c, &fresh]);
    for key in [0, 1, KEYS / 2, KEYS - 1] {
        assert_eq!(ask::<usize>(&mut on_fresh, &["STRLEN", &format!("key:{key}")]), 100);
    }
    for node in [a, b, c, &fresh] {
        let per_key = node.resident() / u64::from(KEYS);
        eprintln!("{}: {per_key} resident bytes a key", node.name);
        assert!(per_key < 1000, "{}: {per_key} resident bytes a key", node.name);
    }
}

#[test]
#[ignore = "takes minutes unless built in release"]
fn half_a_million_keys_survive_a_rolling_restart_of_all_three() {
    const KEYS: u32 = 500_000;
    let [mut a, b, c] = three_nodes(&[]);
    a.join_when_restarted(&b);
    a.join_when_restarted(&c);
    let mut nodes = [a, b, c];
    load(&mut nodes[0].connect(), 0..KEYS, &[b'v'; 100]);
    until_equal_within(LONG, &nodes.each_ref());
    assert_eq!(ask::<u32>(&mut nodes[1].connect(), &["DEL", "key:0"]), 1);
    until_equal_within(LONG, &nodes.each_ref());
    let whole = digest(&mut nodes[0].connect());
    assert_eq!(whole.1, u64::from(KEYS) - 1);

    for turn in 0..3 {
        let started = Instant::now();
        nodes[turn].signal("TERM");
        assert_eq!(nodes[turn].ended().code(), Some(0), "{}", nodes[turn].log());
        nodes[turn].restart();
        wait_within(LONG, "it is ready", || nodes[turn].info("state") == "ready");
        until_linked(&nodes.each_ref());
        until_equal_within(LONG, &nodes.each_ref());
        eprintln!("{} stopped, started and whole again in {:?}", nodes[turn].name, started.elapsed());
    }
    for node in &nodes {
        assert_eq!(digest(&mut node.connect()), whole, "{}", node.name);
    }
}
