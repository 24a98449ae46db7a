//! What healing promises of whole nodes, where time costs nothing: partial topologies, stable time, slow networks.

use std::time::Duration;

use crate::cluster::Cluster;

const NAMES: &[&str] = &["a", "b", "c"];

/// Within this long of the last delete no tombstone may be left, while all members are up.
const PURGE_LIMIT: Duration = Duration::from_secs(20);

/// Links `a` and `b`, and `b` and `c`, alone.
fn line(seed: u64) -> Cluster<'static> {
    let mut cluster = Cluster::new(NAMES, seed);
    cluster.sim.partition("a", "c");
    cluster.until("a line", |cluster| cluster.links("a") == 1 && cluster.links("c") == 1);
    // Until the one in the middle knows by their heartbeats.
    cluster.run_for(Duration::from_secs(3));
    cluster
}

/// Writes and deletes on all nodes; all is equal afterwards, and no tombstone is left in time.
fn purges_in_time(cluster: &mut Cluster<'_>) {
    for key in 0..300u32 {
        cluster.set(NAMES[key as usize % 3], &key.to_le_bytes(), b"v");
    }
    cluster.until_equal();
    for key in 0..150u32 {
        cluster.delete(NAMES[key as usize / 2 % 3], &key.to_le_bytes());
    }
    let deleted = cluster.sim.elapsed();
    cluster.until("the deletes are everywhere", |cluster| cluster.tombstones() == 450);
    cluster.until("no tombstone is left", |cluster| cluster.tombstones() == 0);
    let took = cluster.sim.elapsed() - deleted;
    assert!(took < PURGE_LIMIT, "{took:?} from the last delete");
    cluster.until_equal();
    for name in NAMES {
        assert_eq!(cluster.node(name).unwrap().key_count(), 150, "{name}");
    }
}

#[test]
fn tombstones_are_freed_within_twenty_seconds_in_a_mesh() {
    for seed in 1..=2 {
        purges_in_time(&mut Cluster::new(NAMES, seed));
    }
}

#[test]
fn tombstones_are_freed_within_twenty_seconds_in_a_line() {
    for seed in 1..=2 {
        purges_in_time(&mut line(seed));
    }
}

#[test]
fn the_one_in_the_middle_of_a_line_relays_within_a_second() {
    for seed in 1..=2 {
        let mut cluster = line(seed);
        for n in 0..20u32 {
            let (from, to) = if n % 2 == 0 { ("a", "c") } else { ("c", "a") };
            cluster.set(from, &n.to_le_bytes(), b"v");
            let written = cluster.sim.elapsed();
            cluster.until("it is at the other end", |cluster| cluster.get(to, &n.to_le_bytes()).is_some());
            let took = cluster.sim.elapsed() - written;
            assert!(took < Duration::from_secs(1), "seed {seed}, write {n}: {took:?}");
        }
        cluster.sim.repair("a", "c");
        cluster.until("a mesh again", |cluster| NAMES.iter().all(|name| cluster.links(name) == 2));
        cluster.until_equal();
    }
}

#[test]
fn what_was_deleted_during_a_partition_is_never_seen_again_by_those_who_deleted_it() {
    for seed in 1..=2 {
        let mut cluster = Cluster::new(NAMES, seed);
        for key in 0..100u32 {
            cluster.set("a", &key.to_le_bytes(), b"v");
        }
        cluster.until_equal();
        cluster.sim.partition("a", "b");
        cluster.sim.partition("a", "c");
        // Some before the cut is noticed, some long after.
        for key in 0..50u32 {
            cluster.delete("b", &key.to_le_bytes());
        }
        cluster.run_for(Duration::from_secs(60));
        for key in 50..80u32 {
            cluster.delete("c", &key.to_le_bytes());
        }
        cluster.set("a", &99u32.to_le_bytes(), b"later");
        cluster.run_for(Duration::from_secs(30));
        assert!(cluster.tombstones() > 0, "a member is away, and not waited for");
        let dead = |cluster: &Cluster<'_>, name| {
            (0..80u32).all(|key| cluster.get(name, &key.to_le_bytes()).is_none())
        };
        assert!(dead(&cluster, "b") && dead(&cluster, "c") && !dead(&cluster, "a"));
        cluster.sim.repair("a", "b");
        cluster.sim.repair("a", "c");
        let mended = cluster.sim.elapsed();
        while !dead(&cluster, "a") {
            cluster.run_for(Duration::from_millis(10));
            assert!(dead(&cluster, "b") && dead(&cluster, "c"), "seed {seed}: a deleted key is back");
            assert!(
                cluster.sim.elapsed() - mended < Duration::from_secs(30),
                "seed {seed}: a still has them"
            );
        }
        cluster.until_equal();
        cluster.until("the stable time goes on", |cluster| cluster.tombstones() == 0);
        for name in NAMES {
            assert!(dead(&cluster, name), "seed {seed}, {name}");
            assert_eq!(cluster.get(name, &99u32.to_le_bytes()).as_deref(), Some(&b"later"[..]));
        }
    }
}

#[test]
fn a_node_that_crashed_and_missed_deletes_comes_back_without_those_keys() {
    for seed in 1..=2 {
        let mut cluster = Cluster::new(NAMES, seed);
        for key in 0..200u32 {
            cluster.set("b", &key.to_le_bytes(), b"v");
        }
        cluster.until_equal();
        cluster.crash("b");
        for key in 0..100u32 {
            cluster.delete("c", &key.to_le_bytes());
        }
        cluster.run_for(Duration::from_secs(seed * 3));
        cluster.sim.bounce("b");
        cluster.until("b is linked again", |cluster| cluster.links("b") == 2);
        cluster.until_equal();
        assert_eq!(cluster.node("b").unwrap().key_count(), 100, "seed {seed}");
        cluster
            .until("the stable time goes on with its new incarnation", |cluster| cluster.tombstones() == 0);
    }
}

#[test]
fn a_network_with_seconds_of_latency_converges_and_frees_tombstones() {
    for seed in 1..=2 {
        let mut cluster = Cluster::new(NAMES, seed);
        cluster.sim.set_max_message_latency(Duration::from_secs(2));
        for key in 0..200u32 {
            cluster.set(NAMES[key as usize % 3], &key.to_le_bytes(), b"v");
            cluster.step();
        }
        cluster.until_equal();
        for key in 0..100u32 {
            cluster.delete(NAMES[key as usize / 7 % 3], &key.to_le_bytes());
        }
        cluster.until("no tombstone is left", |cluster| {
            cluster.tombstones() == 0 && NAMES.iter().all(|name| cluster.get(name, &[0; 4]).is_none())
        });
        cluster.until_equal();
        for name in NAMES {
            assert_eq!(cluster.node(name).unwrap().key_count(), 100, "seed {seed}, {name}");
        }
    }
}
