//! Processes that stand still and go on.

use std::time::{Duration, Instant};

use crate::support::node_process::*;

/// The local ports of the established connections to an address on this machine.
#[cfg(target_os = "linux")]
fn connections_to(port: u16) -> Vec<String> {
    const ESTABLISHED: &str = "01";
    let table = std::fs::read_to_string("/proc/net/tcp").unwrap();
    let remote = format!(":{port:04X}");
    let rows = table.lines().map(|line| line.split_whitespace().collect::<Vec<_>>());
    let found = rows.filter(|row| row[2].ends_with(&remote) && row[3] == ESTABLISHED);
    found.map(|row| row[1].to_owned()).collect()
}

/// The hellos of the node that goes on dialling wait in the backlog of the one that is stopped, and grow old there.
#[test]
#[cfg(target_os = "linux")]
fn a_node_that_was_stopped_for_longer_than_the_clock_limit_links_again_and_is_not_called_skewed() {
    const CLOCK_LIMIT: Duration = Duration::from_millis(500);
    let a = NodeProcess::start("a", &[], &[]);
    let b = NodeProcess::start("b", &[&a], &[]);
    until_linked(&[&a, &b]);
    for _ in 0..2 {
        b.signal("STOP");
        wait("a has lost its link to b", || a.state_of("b") == "down");
        let mut dialled: Option<(String, Instant)> = None;
        wait("a hello of a waits for longer than the clocks may be apart", || {
            let present = connections_to(b.peer.port());
            dialled = dialled.take().filter(|(port, _)| present.contains(port));
            let (_, since) = match &dialled {
                Some(dialled) => dialled,
                None => {
                    dialled = present.first().map(|port| (port.clone(), Instant::now()));
                    return false;
                }
            };
            since.elapsed() > 2 * CLOCK_LIMIT
        });
        b.signal("CONT");
        until_linked(&[&a, &b]);
    }
    for node in [&a, &b] {
        assert!(!node.log().contains("skewed"), "{}", node.log());
    }
}
