//! What a node does when `--max-memory` is reached.

use std::time::Duration;

use crate::support::node_process::*;

/// How long equal nodes may take to purge what all of them have deleted, in a debug build beside other tests.
const PURGE_LIMIT: Duration = Duration::from_secs(120);

const VALUE: &[u8] = &[b'v'; 1000];

/// Writes until the node says no; returns how many it took.
fn fill(connection: &mut redis::Connection) -> u32 {
    let value = std::str::from_utf8(VALUE).unwrap();
    for key in 0.. {
        match try_ask::<()>(connection, &["SET", &format!("key:{key}"), value]) {
            Ok(()) => assert!(key < 100_000, "the limit does nothing"),
            Err(error) => {
                assert_eq!(error.code(), Some("OOM"), "{error}");
                return key;
            }
        }
    }
    unreachable!()
}

#[test]
fn a_client_that_reaches_the_limit_gets_an_error_and_may_still_delete() {
    let a = NodeProcess::start("a", &[], &["--max-memory", "8MiB", "--max-value", "64KiB"]);
    let mut connection = a.connect();
    let taken = fill(&mut connection);
    assert!((4000..9000).contains(&taken), "{taken} keys of 1 kB in 8 MiB");
    for key in 0..taken {
        assert_eq!(ask::<usize>(&mut connection, &["STRLEN", &format!("key:{key}")]), VALUE.len());
    }
    for key in 0..100 {
        assert_eq!(ask::<u32>(&mut connection, &["DEL", &format!("key:{key}")]), 1);
    }
    ask::<()>(&mut connection, &["SET", "room", "again"]);
}

#[test]
fn replicated_data_is_taken_up_to_the_ceiling_and_the_rest_once_there_is_room() {
    let roomy = NodeProcess::start("roomy", &[], &[]);
    let tight = NodeProcess::start("tight", &[&roomy], &["--max-memory", "4MiB", "--max-value", "64KiB"]);
    until_linked(&[&roomy, &tight]);
    let mut on_roomy = roomy.connect();
    load(&mut on_roomy, 0..12_000, VALUE);
    wait("tight says that it is full", || tight.info("state") == "full");
    let used = tight.info("used_memory").parse::<u64>().unwrap();
    assert!(used > 3 << 20, "data is taken up to the ceiling, not {used}");
    assert!(used < 10 << 20, "a ceiling holds, not {used}");
    assert!(tight.log().contains("out of memory"), "the log says so");
    // A full node still reads, deletes, and refuses what would grow it.
    let mut on_tight = tight.connect();
    assert_eq!(ask::<String>(&mut on_tight, &["PING"]), "PONG");
    let refused = try_ask::<()>(&mut on_tight, &["SET", "one", "more"]).unwrap_err();
    assert_eq!(refused.code(), Some("OOM"), "{refused}");

    for keys in (500..12_000u32).collect::<Vec<_>>().chunks(500) {
        let mut delete = redis::cmd("DEL");
        for key in keys {
            delete.arg(format!("key:{key}"));
        }
        delete.exec(&mut on_roomy).unwrap();
    }
    until_equal(&[&roomy, &tight]);
    wait("tight is ready again", || tight.info("state") == "ready");
    assert_eq!(digest(&mut on_tight).1, 500);
    ask::<()>(&mut on_tight, &["SET", "room", "again"]);
    wait("replicated", || ask::<Option<String>>(&mut on_roomy, &["GET", "room"]).is_some());
}

/// Sets `NAME:0`, `NAME:1` and so on until the node refuses to grow; returns how many it took at least.
fn fill_with_own_keys(node: &NodeProcess, value: &str) -> u32 {
    /// Commands of one pipeline.
    const CHUNK: u32 = 500;
    let mut connection = node.connect();
    for first in (0..10_000_000).step_by(CHUNK as usize) {
        let mut pipeline = redis::pipe();
        for key in first..first + CHUNK {
            pipeline.cmd("SET").arg(format!("{}:{key}", node.name)).arg(value).ignore();
        }
        if let Err(error) = pipeline.exec(&mut connection) {
            assert!(error.to_string().contains("OOM"), "{:?}", error.kind());
            return first;
        }
    }
    panic!("{} never refuses", node.name);
}

/// Deletes what [`fill_with_own_keys`] may have set, but for the first `kept` keys.
fn delete_own_keys(node: &NodeProcess, kept: u32, taken: u32) {
    let mut connection = node.connect();
    for keys in (kept..taken + 500).collect::<Vec<_>>().chunks(500) {
        let mut delete = redis::cmd("DEL");
        for key in keys {
            delete.arg(format!("{}:{key}", node.name));
        }
        delete.exec(&mut connection).unwrap();
    }
}

/// Cuts nodes off from each other, fills each with keys of its own, mends, and deletes all but `kept` percent of the keys.
fn deletes_make_room_after_a_cut(names: &[&str], value: &str, kept: u32) {
    let flags = ["--max-memory=4MiB", "--max-key=1KiB", "--max-value=64KiB", "--enable-faults"];
    let mut nodes = Vec::<NodeProcess>::new();
    for name in names {
        let join: Vec<_> = nodes.iter().take(1).collect();
        nodes.push(NodeProcess::start(name, &join, &flags));
    }
    let all: Vec<_> = nodes.iter().collect();
    until_linked(&all);
    all.iter().for_each(|node| node.cut("*", "both"));
    wait("no node is linked", || all.iter().all(|node| node.linked() == 0));
    let taken: Vec<_> = std::thread::scope(|scope| {
        let fills: Vec<_> = all.iter().map(|&node| scope.spawn(|| fill_with_own_keys(node, value))).collect();
        fills.into_iter().map(|fill| fill.join().unwrap()).collect()
    });
    all.iter().for_each(|node| node.mend("*"));
    wait("some node is full", || all.iter().any(|node| node.info("state") == "full"));

    let left = |taken: u32| taken * kept / 100;
    std::thread::scope(|scope| {
        for (&node, &taken) in all.iter().zip(&taken) {
            scope.spawn(move || delete_own_keys(node, left(taken), taken));
        }
    });
    let left: u64 = taken.iter().map(|&taken| u64::from(left(taken))).sum();
    until_equal(&all);
    wait("all hold what is left", || all.iter().all(|node| digest(&mut node.connect()).1 == left));
    wait("all are ready", || all.iter().all(|node| node.info("state") == "ready"));
    wait_within(PURGE_LIMIT, "no tombstone is left", || {
        all.iter().all(|node| node.info("tombstones") == "0")
    });
    assert!(all.iter().all(|node| node.info("used_memory_tombstones") == "0"));
    for node in &all {
        node.set(&format!("room:{}", node.name), "again");
    }
    until_equal(&all);
    assert_eq!(digest(&mut nodes[0].connect()).1, left + names.len() as u64);
}

#[test]
#[ignore = "takes half a minute: tombstones have to be freed"]
fn two_nodes_that_filled_up_apart_have_room_again_once_all_is_deleted() {
    deletes_make_room_after_a_cut(&["a", "b"], "twenty bytes of value", 0);
}

#[test]
#[ignore = "takes half a minute: tombstones have to be freed"]
fn three_nodes_that_filled_up_apart_with_the_smallest_values_have_room_again_once_all_is_deleted() {
    deletes_make_room_after_a_cut(&["a", "b", "c"], "v", 0);
}

#[test]
#[ignore = "takes half a minute: tombstones have to be freed"]
fn two_nodes_that_filled_up_apart_are_equal_once_so_much_is_deleted_that_the_rest_fits() {
    deletes_make_room_after_a_cut(&["a", "b"], &"v".repeat(100), 45);
}

/// Waits until a node takes no more memory than 1.3 times what its cells need, and 20 MiB.
fn until_memory_is_returned(node: &NodeProcess, what: &str) {
    wait_within(Duration::from_secs(30), &format!("{} returns the memory of {what}", node.name), || {
        let used = node.info("used_memory").parse::<u64>().unwrap();
        let tombstones = node.info("used_memory_tombstones").parse::<u64>().unwrap();
        node.resident() <= used + used / 10 * 3 + (20 << 20) && tombstones == 0
    });
}

fn two_nodes() -> [NodeProcess; 2] {
    let a = NodeProcess::start("a", &[], &[]);
    let b = NodeProcess::start("b", &[&a], &[]);
    until_linked(&[&a, &b]);
    [a, b]
}

#[test]
#[ignore = "takes a minute and a gigabyte for each node: tombstones have to be purged"]
fn the_memory_of_a_thousand_large_values_is_returned_after_they_are_deleted() {
    let [a, b] = two_nodes();
    let mut connection = a.connect();
    let value = vec![b'v'; 1 << 20];
    for key in 0..1000 {
        redis::cmd("SET").arg(key).arg(&value).exec(&mut connection).unwrap();
    }
    until_equal(&[&a, &b]);
    assert!(a.resident() > 1000 << 20 && b.resident() > 1000 << 20);
    for key in 0..1000 {
        assert_eq!(redis::cmd("DEL").arg(key).query::<u32>(&mut connection), Ok(1));
    }
    [&a, &b].into_iter().for_each(|node| until_memory_is_returned(node, "values of 1 MiB"));
}

#[test]
#[ignore = "takes a minute: half a million keys have to expire and be purged"]
fn the_memory_of_half_a_million_keys_is_returned_after_they_have_expired() {
    let [a, b] = two_nodes();
    let mut connection = a.connect();
    let value = [b'v'; 60];
    for first in (0..500_000).step_by(1000) {
        let mut pipeline = redis::pipe();
        for key in first..first + 1000 {
            pipeline.cmd("SET").arg(format!("key:{key:016}")).arg(&value).arg("PX").arg(20_000).ignore();
        }
        pipeline.exec(&mut connection).unwrap();
    }
    until_equal(&[&a, &b]);
    assert!(a.resident() > 60 << 20 && b.resident() > 60 << 20);
    wait_within(Duration::from_secs(60), "they expire", || {
        [&a, &b].iter().all(|node| node.info("used_memory") == "0")
    });
    [&a, &b].into_iter().for_each(|node| until_memory_is_returned(node, "expired keys"));
}

#[test]
#[ignore = "takes a minute and half a gigabyte for each node"]
fn values_that_change_their_sizes_leave_no_gaps_that_add_up() {
    let [a, b] = two_nodes();
    let mut connection = a.connect();
    for size in [1000, 700, 1000] {
        for first in (0..500_000).step_by(1000) {
            let mut pipeline = redis::pipe();
            for key in first..first + 1000 {
                let value = vec![b'v'; size + key * 7919 % 300 - 150];
                pipeline.cmd("SET").arg(format!("key:{key:016}")).arg(value).ignore();
            }
            pipeline.exec(&mut connection).unwrap();
        }
        until_equal(&[&a, &b]);
        assert!(a.info("used_memory").parse::<u64>().unwrap() > 500_000 * size as u64);
        [&a, &b]
            .into_iter()
            .for_each(|node| until_memory_is_returned(node, &format!("values of {size} bytes")));
    }
}
