//! Networks that drop packets, between nodes in network namespaces of their own. Each test fails where `ip` or
//! `nft` is missing or may not be used.

use std::time::{Duration, Instant};

use crate::support::network::Network;
use crate::support::node_process::*;

/// Three linked nodes on three hosts; the network must be dropped after them.
fn three_hosts() -> ([NodeProcess; 3], Network) {
    let network = Network::new(3);
    let a = network.spawn("a", 0, &[]);
    a.until_up();
    let [b, c] = [("b", 1), ("c", 2)].map(|(name, host)| network.spawn(name, host, &[&a]));
    b.until_up();
    c.until_up();
    until_linked(&[&a, &b, &c]);
    load(&mut a.connect(), 0..500, b"x");
    until_equal(&[&a, &b, &c]);
    ([a, b, c], network)
}

#[test]
#[ignore = "needs root, ip and nft (Debian iproute2, nftables)"]
fn a_partition_that_drops_every_packet_heals_and_brings_nothing_back() {
    let ([a, b, c], network) = three_hosts();
    network.part(0, 1);
    network.part(0, 2);
    b.del("key:0");
    a.set("of a", "x");
    load(&mut a.connect(), 500..700, b"a");
    load(&mut c.connect(), 700..900, b"c");
    wait("the partition is noticed", || a.linked() == 0 && b.linked() == 1 && c.linked() == 1);
    assert_eq!((a.state_of("b"), b.state_of("a")), ("down".into(), "down".into()));
    c.del("key:1");
    assert_eq!(a.get("key:0").as_deref(), Some("x"));
    network.heal();
    let healed = Instant::now();
    until_linked(&[&a, &b, &c]);
    until_equal(&[&a, &b, &c]);
    eprintln!("equal {:?} after the network was", healed.elapsed());
    for node in [&a, &b, &c] {
        assert_eq!((node.get("key:0"), node.get("key:1")), (None, None));
        assert_eq!(digest(&mut node.connect()).1, 500 + 400 + 1 - 2);
    }
    assert!(healed.elapsed() < Duration::from_secs(30), "{:?}", healed.elapsed());
}

#[test]
#[ignore = "needs root, ip and nft (Debian iproute2, nftables)"]
fn a_network_that_loses_a_fifth_of_all_packets_each_way_still_replicates() {
    let ([a, b, c], network) = three_hosts();
    for (one, other) in [(0, 1), (0, 2), (1, 2)] {
        network.drop(one, other, 20);
        network.drop(other, one, 20);
    }
    for (n, node) in [&a, &b, &c].into_iter().enumerate() {
        let from = 1000 + 1000 * u32::try_from(n).unwrap();
        load(&mut node.connect(), from..from + 500, &[b'v'; 200]);
        node.del(&format!("key:{n}"));
    }
    // Retransmissions back off; links may come and go.
    until_equal_within(Duration::from_secs(120), &[&a, &b, &c]);
    assert_eq!(digest(&mut a.connect()).1, 500 + 1500 - 3);
    network.heal();
    until_linked(&[&a, &b, &c]);
    a.set("after", "x");
    wait("replicated", || b.get("after").is_some() && c.get("after").is_some());
    until_equal(&[&a, &b, &c]);
}

#[test]
#[ignore = "needs root, ip and nft (Debian iproute2, nftables)"]
fn a_direction_that_is_dropped_parts_two_nodes_and_a_third_relays() {
    let ([a, b, c], network) = three_hosts();
    network.drop(0, 1, 100);
    wait("both notice", || a.linked() == 1 && b.linked() == 1 && c.linked() == 2);
    a.set("of a", "x");
    b.set("of b", "x");
    c.del("key:0");
    wait("c relays", || a.get("of b").is_some() && b.get("of a").is_some());
    until_equal(&[&a, &b, &c]);
    network.heal();
    until_linked(&[&a, &b, &c]);
    until_equal(&[&a, &b, &c]);
    assert_eq!(b.get("key:0"), None);
}

#[test]
#[ignore = "needs root, ip and nft (Debian iproute2, nftables)"]
fn a_test_leaves_no_network_behind() {
    let listed = |words: &[&str]| {
        let output = std::process::Command::new("ip").args(words).output().unwrap();
        String::from_utf8(output.stdout).unwrap()
    };
    let everything = || listed(&["netns", "list"]) + &listed(&["-o", "link"]);
    let (sender, receiver) = std::sync::mpsc::channel();
    let failed = std::panic::catch_unwind(move || {
        let network = Network::new(2);
        sender.send(network.prefix().to_owned()).unwrap();
        panic!("as a test that fails does");
    });
    let prefix = receiver.recv().unwrap();
    assert!(failed.is_err());
    assert!(!everything().contains(&prefix), "{prefix}: {}", everything());
    let network = Network::new(1);
    assert!(everything().contains(network.prefix()), "this test looks for the wrong thing");
}
