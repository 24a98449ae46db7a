//! A peer that stands still costs the others nothing.

use std::time::{Duration, Instant};

use crate::support::node_process::*;
use redis::Connection;

/// The time of each of so many writes of 1 kB, one after the other.
fn latencies(connection: &mut Connection, prefix: &str, writes: u32) -> Vec<Duration> {
    let mut taken: Vec<_> = (0..writes)
        .map(|n| {
            let started = Instant::now();
            redis::cmd("SET").arg(format!("{prefix}:{n}")).arg(&[b'v'; 1000]).exec(connection).unwrap();
            started.elapsed()
        })
        .collect();
    taken.sort();
    taken
}

/// The most that ever waits for any peer.
fn queued(connection: &mut Connection) -> u64 {
    peers(connection).iter().map(|peer| peer["queued_bytes"].as_u64().unwrap()).max().unwrap()
}

#[test]
#[ignore = "compares times: nothing else may run beside it"]
fn a_stopped_peer_slows_no_writer_and_catches_up() {
    const QUEUE: u64 = 8 << 20;
    let flags = ["--peer-queue", "8MiB", "--max-value", "1MiB"];
    let a = NodeProcess::start("a", &[], &flags);
    let b = NodeProcess::start("b", &[&a], &flags);
    let c = NodeProcess::start("c", &[&a], &flags);
    until_linked(&[&a, &b, &c]);
    let (mut writer, mut observer) = (a.connect(), a.connect());
    latencies(&mut writer, "warm", 500);
    let before = latencies(&mut writer, "before", 3000);

    b.signal("STOP");
    let mut during = Vec::new();
    for part in 0..10 {
        during.extend(latencies(&mut writer, &format!("during:{part}"), 1000));
        let queued = queued(&mut observer);
        assert!(queued <= QUEUE, "{queued} bytes wait");
    }
    during.sort();
    let (median_before, median) = (before[before.len() / 2], during[during.len() / 2]);
    let worst = during[during.len() - 1];
    eprintln!(
        "median before {median_before:?}, during {median:?}; worst before {:?}, during {worst:?}",
        before[before.len() - 1]
    );
    assert!(median <= median_before * 5, "median {median:?}, without the stop {median_before:?}");
    assert!(worst < Duration::from_secs(1), "one write took {worst:?}");
    // The third is not held up either.
    until_equal(&[&a, &c]);

    b.signal("CONT");
    until_equal(&[&a, &b, &c]);
    until_linked(&[&a, &b, &c]);
}

#[test]
fn a_queue_that_overflows_stays_bounded_and_heals_by_a_sync() {
    const QUEUE: u64 = 1 << 20;
    let flags = ["--peer-queue", "1MiB", "--max-value", "64KiB", "--max-key", "1KiB"];
    let a = NodeProcess::start("a", &[], &flags);
    let b = NodeProcess::start("b", &[&a], &flags);
    until_linked(&[&a, &b]);
    let (mut writer, mut observer) = (a.connect(), a.connect());
    load(&mut writer, 0..1000, &[b'v'; 1000]);
    until_equal(&[&a, &b]);

    b.signal("STOP");
    // Many times what the queue and both sockets can hold.
    let (mut most, mut worst) = (0, Duration::ZERO);
    for part in 0..80 {
        let started = Instant::now();
        load(&mut writer, part * 500..(part + 1) * 500, &[b'w'; 1000]);
        worst = worst.max(started.elapsed());
        let queued = queued(&mut observer);
        assert!(queued <= QUEUE, "{queued} bytes wait");
        most = most.max(queued);
    }
    eprintln!("at most {most} bytes waited; the slowest pipeline of 500 writes took {worst:?}");
    assert!(most > 0, "nothing ever waited: the peer was not stopped");
    assert!(worst < Duration::from_secs(2), "a pipeline of 500 writes took {worst:?}");
    ask::<u32>(&mut writer, &["DEL", "key:0", "key:39999"]);

    b.signal("CONT");
    until_equal(&[&a, &b]);
    let mut on_b = b.connect();
    assert_eq!(digest(&mut on_b).1, 39_998);
    assert_eq!(ask::<u32>(&mut on_b, &["EXISTS", "key:0", "key:39999"]), 0);
    until_linked(&[&a, &b]);
}
