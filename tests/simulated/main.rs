//! Whole nodes on simulated time over a simulated network: nothing below `Env` may use the machine's own clock,
//! threads or sockets, or these tests hang, differ between runs, or do not build.

#![allow(clippy::unwrap_used, reason = "a helper of tests fails as a test does")]

mod cluster;
mod healing;

use std::sync::atomic::Ordering;
use std::time::Duration;

use sapwood::internal::Internals as _;
use sapwood::status::NodeState;

use cluster::Cluster;

#[test]
fn after_a_partition_in_simulated_time_the_later_write_stands_and_the_dead_stay_dead() {
    for seed in 1..=10 {
        let mut cluster = Cluster::new(&["a", "b", "c"], seed);
        cluster.set("a", b"deleted", b"x");
        cluster.until("the first write is everywhere", |cluster| {
            ["b", "c"].iter().all(|name| cluster.get(name, b"deleted").is_some())
        });

        cluster.sim.partition("a", "b");
        cluster.sim.partition("a", "c");
        cluster.until("the cut is noticed", |cluster| cluster.links("a") == 0 && cluster.links("b") == 1);
        cluster.set("a", b"both", b"earlier");
        cluster.delete("b", b"deleted");
        cluster.run_for(Duration::from_millis(100));
        cluster.set("b", b"both", b"later");
        cluster.set("a", b"only a", b"1");
        cluster.until("c has what b wrote", |cluster| cluster.get("c", b"both").is_some());

        cluster.sim.repair("a", "b");
        cluster.sim.repair("a", "c");
        cluster.until_equal();
        for name in ["a", "b", "c"] {
            assert_eq!(cluster.get(name, b"both").as_deref(), Some(&b"later"[..]), "seed {seed}, {name}");
            assert_eq!(cluster.get(name, b"deleted"), None, "seed {seed}, {name}");
            assert!(cluster.get(name, b"only a").is_some(), "seed {seed}, {name}");
        }
    }
}

#[test]
fn a_crashed_node_comes_back_empty_and_takes_the_state() {
    let mut cluster = Cluster::new(&["a", "b", "c"], 7);
    for key in 0..3_000u32 {
        cluster.set("b", &key.to_le_bytes(), &[7; 50]);
    }
    cluster.until_equal();
    cluster.crash("b");
    cluster.sim.bounce("b");
    cluster.until("b is linked again", |cluster| cluster.links("b") == 2);
    cluster.until_equal();
    assert_eq!(cluster.node("b").unwrap().key_count(), 3_000);
}

#[test]
fn the_same_seed_gives_the_same_history() {
    let history = |seed| {
        let mut cluster = Cluster::new(&["a", "b", "c"], seed);
        for key in 0..50u32 {
            cluster.set(["a", "b", "c"][key as usize % 3], &key.to_le_bytes(), b"v");
            cluster.step();
        }
        cluster.until_equal();
        (cluster.sim.elapsed(), cluster.node("a").unwrap().store().totals())
    };
    assert_eq!(history(3), history(3));
    assert_ne!(history(3).1, history(4).1);
}

/// A dial task that was cancelled because its name resolved elsewhere once left its link in the table for ever.
#[test]
fn a_name_that_resolves_elsewhere_for_a_while_leaves_no_dead_link() {
    for seed in 1..=4 {
        let mut cluster = Cluster::new(&["a", "b", "c"], seed);
        cluster.misled.store(true, Ordering::Relaxed);
        cluster.run_for(Duration::from_secs(12));
        cluster.misled.store(false, Ordering::Relaxed);
        cluster.until("everyone is linked again", |cluster| {
            ["a", "b", "c"].iter().all(|name| cluster.links(name) == 2)
        });
        cluster.set("a", b"x", b"1");
        cluster.until_equal();
    }
}

#[test]
fn what_reached_only_one_peer_before_its_writer_died_reaches_the_others() {
    let mut cluster = Cluster::new(&["a", "b", "c"], 3);
    // Until b knows by their heartbeats that a and c are linked: it relays before.
    cluster.run_for(Duration::from_secs(3));
    cluster.sim.partition("a", "c");
    cluster.set("a", b"x", b"1");
    cluster.until("b has it", |cluster| cluster.get("b", b"x").is_some());
    assert_eq!(cluster.get("c", b"x"), None);
    cluster.crash("a");
    cluster.until("c has it from b", |cluster| cluster.get("c", b"x").is_some());
    assert_eq!(cluster.links("b"), 1);
}

/// Of a name with many addresses the node's own is dialled too, and answers first.
#[test]
fn a_node_is_not_ready_before_it_has_the_state_of_all_behind_a_name() {
    let mut cluster = Cluster::joining(&["a", "b", "c"], 3, "everyone");
    for key in 0..3_000u32 {
        cluster.set("b", &key.to_le_bytes(), &[7; 50]);
    }
    cluster.until_equal();
    cluster.crash("c");
    cluster.sim.bounce("c");
    cluster.until("c is ready", |cluster| {
        cluster.node("c").is_some_and(|node| node.state() == NodeState::Ready)
    });
    assert_eq!(cluster.node("c").unwrap().key_count(), 3_000);
}
