//! The node as a program embeds it: no listener it did not ask for, reads and writes without I/O.

use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use crate::support::*;
use sapwood::config::ConfigError;
use sapwood::status::{EventKind, Events, NodeState, PeerState, Way};
use sapwood::{Node, NodeBuilder, NodeError, StartError, Watch, WatchEvent};

fn any_port() -> SocketAddr {
    (Ipv4Addr::LOCALHOST, 0).into()
}

fn builder(name: &str) -> NodeBuilder {
    Node::builder().name(name)
}

#[tokio::test]
async fn a_node_alone_reads_what_it_wrote_and_listens_nowhere() {
    let node = builder("a").start().await.unwrap();
    assert_eq!(node.state(), NodeState::Ready, "no peer to wait for: ready at once");
    assert_eq!((node.client_addr(), node.peer_addr()), (None, None));
    assert!(node.get("tree").is_none());
    node.set("tree", "oak").unwrap();
    assert_eq!(node.get("tree").unwrap(), "oak");
    assert!(node.delete(b"tree").unwrap());
    assert!(!node.delete("tree").unwrap());
    assert!(node.get(String::from("tree")).is_none());
    node.joined().await.unwrap();
    node.shutdown().await;
}

#[tokio::test]
async fn a_node_that_reaches_no_peer_is_ready_after_a_while_and_says_why_it_is_not_before() {
    let nobody = std::net::TcpListener::bind(any_port()).unwrap().local_addr().unwrap();
    let soon = |config: &mut sapwood::config::Config| config.ready_alone_after = Duration::from_millis(300);
    let node = builder("a").join([nobody]).configure(soon).start().await.unwrap();
    assert_eq!(node.state(), NodeState::Joining);
    assert_eq!(node.joining_reason().as_deref(), Some("the address to join leads to no peer yet"));
    node.joined().await.unwrap();
    assert_eq!((node.state(), node.joining_reason()), (NodeState::Ready, None));
}

#[tokio::test]
async fn a_node_whose_name_is_taken_is_never_ready_until_it_is_free() {
    let first = builder("a").peer(any_port()).start().await.unwrap();
    let hub = builder("hub").peer(any_port()).join(first.peer_addr()).start().await.unwrap();
    hub.joined().await.unwrap();
    let soon = |config: &mut sapwood::config::Config| config.ready_alone_after = Duration::from_millis(100);
    let second = builder("a").join(hub.peer_addr()).configure(soon).start().await.unwrap();
    let error = second.joined().await.unwrap_err().to_string();
    assert!(error.starts_with("the node has not joined: refused, and linked to nobody: "), "{error}");
    assert_eq!(second.state(), NodeState::Joining);
    first.shutdown().await;
    until("the name is free", || second.state() == NodeState::Ready).await;
    second.joined().await.unwrap();
}

#[tokio::test]
async fn a_value_that_was_read_stays_as_it_was() {
    let node = builder("a").start().await.unwrap();
    node.set("tree", "oak").unwrap();
    let before = node.get("tree").unwrap();
    node.set("tree", "elm").unwrap();
    node.delete("tree").unwrap();
    assert_eq!(before.as_str(), Ok("oak"));
    assert_eq!(format!("{before:?}"), "b\"oak\"");
}

#[tokio::test]
async fn what_has_a_time_to_live_ends_with_it() {
    let node = builder("a").start().await.unwrap();
    node.set_with("session", "x", Duration::from_secs(600)).unwrap();
    assert_eq!(node.get("session").unwrap(), "x");
    assert!(node.persist("session").unwrap());
    assert!(!node.persist("session").unwrap());
    assert!(node.expire("session", Duration::ZERO).unwrap());
    assert!(node.get("session").is_none());
    assert!(!node.expire("session", Duration::from_secs(1)).unwrap());
    node.set_with("short", "x", Duration::from_millis(20)).unwrap();
    until("the time to live is over", || node.get("short").is_none()).await;
}

#[tokio::test]
async fn members_that_cannot_be_dialled_agree_through_one_that_can() {
    let a = builder("a").peer(any_port()).start().await.unwrap();
    let b = builder("b").join(a.peer_addr()).start().await.unwrap();
    let c = builder("c").join(a.peer_addr()).start().await.unwrap();
    for node in [&b, &c] {
        node.joined().await.unwrap();
        until("linked", || linked(node) == 1).await;
    }
    b.set("from b", "1").unwrap();
    c.set("from c", "2").unwrap();
    for node in [&a, &b, &c] {
        until("every write is everywhere", || node.get("from b").is_some() && node.get("from c").is_some())
            .await;
    }
    b.delete("from c").unwrap();
    until("the delete too", || c.get("from c").is_none()).await;
    until_equal(&[&a, &b, &c]).await;
    let healing = a.healing();
    assert!(healing.members == 3, "{healing:?}");
    until("tombstones are purged, as all three are linked", || a.healing().tombstones == 0).await;
}

#[tokio::test]
async fn an_embedded_node_and_a_serving_node_are_members_alike() {
    let serving = start("serving", &[]).await;
    let node = builder("app").join(serving.peer_addr()).client(any_port()).start().await.unwrap();
    node.set("tree", "oak").unwrap();
    until("written here, read there", || serving.get("tree").is_some()).await;
    let [peer] = &node.peers()[..] else { panic!("{:?}", node.peers()) };
    assert_eq!(peer.name, "serving");
    assert_ne!(node.client_addr().unwrap().port(), 0);
    node.shutdown().await;
    until("it said goodbye", || serving.peers()[0].reason == "it shut down").await;
}

#[tokio::test]
async fn a_write_that_cannot_be_is_refused_by_its_reason() {
    let small = builder("a").configure(|config| (config.max_key, config.max_value) = (4, 5));
    let node = small.start().await.unwrap();
    assert_eq!(node.set("12345", ""), Err(NodeError::KeyTooLong { bytes: 5, limit: 4 }));
    assert_eq!(node.set("key", "123456"), Err(NodeError::ValueTooLong { bytes: 6, limit: 5 }));
    node.set("key", "12345").unwrap();
    node.shutdown().await;
    assert_eq!(node.set("key", "x"), Err(NodeError::Stopped));
    assert_eq!(node.get("key").unwrap(), "12345", "what it held can still be read");

    let full = builder("a").max_memory(1 << 10);
    let full = full.configure(|config| (config.max_key, config.max_value) = (100, 600));
    let node = full.start().await.unwrap();
    node.set("a", [0; 500]).unwrap();
    assert_eq!(node.set("b", [0; 500]), Err(NodeError::OutOfMemory));
    node.delete("a").unwrap();
}

#[tokio::test]
async fn nodes_that_wrote_before_they_met_hold_what_both_wrote() {
    let a = builder("a").peer(any_port()).start().await.unwrap();
    a.set("of a", "1").unwrap();
    a.set("both", "earlier").unwrap();
    a.set("deleted", "x").unwrap();
    a.delete("deleted").unwrap();
    let nobody = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let b = builder("b").join([nobody]).join(a.peer_addr()).start().await.unwrap();
    b.set("both", "later").unwrap();
    b.set("of b", "2").unwrap();
    until("both have met", || a.get("of b").is_some() && b.get("of a").is_some()).await;
    until_equal(&[&a, &b]).await;
    for node in [&a, &b] {
        assert_eq!(node.get("both").unwrap(), "later");
        assert_eq!(node.get("deleted"), None);
        assert_eq!(node.healing().members, 2);
    }
    assert!(a.lost().is_empty() && b.lost().is_empty());
}

#[tokio::test]
async fn a_node_without_listeners_must_be_named() {
    let error = Node::builder().start().await.err().unwrap();
    assert!(matches!(error, StartError::Config(ConfigError::Nameless)), "{error}");
}

#[tokio::test]
async fn a_start_that_fails_says_which_address_is_taken() {
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let error = builder("a").client(taken.local_addr().unwrap()).start().await.err().unwrap();
    assert!(matches!(error, StartError::Bind { flag: "--client", .. }), "{error}");
}

/// The next event that is of one kind.
async fn next(events: &mut Events, kind: EventKind) -> (String, String) {
    let found = async {
        loop {
            let event = events.next().await.expect("the node runs").expect("the reader keeps up");
            if event.kind == kind {
                return (event.peer, event.reason);
            }
        }
    };
    tokio::time::timeout(DEADLINE, found).await.unwrap_or_else(|_| panic!("no event {kind:?}"))
}

#[tokio::test(start_paused = true)]
async fn subscribers_receive_events_of_links_healing_and_refusals() {
    let a = builder("a").peer(any_port()).configure(|config| config.enable_faults = true);
    let a = a.start().await.unwrap();
    a.set("tree", "oak").unwrap();
    let mut events = a.events();
    let b = builder("b").join(a.peer_addr()).start().await.unwrap();
    assert_eq!(next(&mut events, EventKind::Up).await.0, "b");
    assert_eq!(next(&mut events, EventKind::Healing).await.0, "b");
    let (peer, reason) = next(&mut events, EventKind::Healed).await;
    assert!(peer == "b" && reason.starts_with("0 cells in, 1 out"), "{reason}");

    a.cut("b", Way::Both).unwrap();
    assert_eq!(next(&mut events, EventKind::Down).await.0, "b");
    a.set("tree", "elm").unwrap();
    a.mend("b", Way::Both).unwrap();
    assert_eq!(next(&mut events, EventKind::Up).await.0, "b");
    assert_eq!(next(&mut events, EventKind::Healed).await.0, "b");
    assert_eq!(b.get("tree").unwrap(), "elm");

    let elm = builder("c").cluster("elm").join(a.peer_addr()).start().await.unwrap();
    let (peer, reason) = next(&mut events, EventKind::Refused).await;
    assert!(peer == "c" && reason.starts_with("wrong-cluster: "), "{reason}");
    elm.shutdown().await;

    b.shutdown().await;
    let (peer, reason) = next(&mut events, EventKind::Down).await;
    assert_eq!((&*peer, &*reason), ("b", "it shut down"));
    assert_eq!(a.peers()[0].state, PeerState::Gone);
    a.shutdown().await;
}

#[tokio::test]
async fn events_end_behind_the_last_when_the_node_shuts_down() {
    let a = builder("a").peer(any_port()).start().await.unwrap();
    let mut events = a.events();
    let b = builder("b").join(a.peer_addr()).start().await.unwrap();
    assert_eq!(next(&mut events, EventKind::Healed).await.0, "b");
    a.shutdown().await;
    assert_eq!(next(&mut events, EventKind::Down).await.0, "b");
    let end = async { while events.next().await.is_some() {} };
    tokio::time::timeout(DEADLINE, end).await.expect("the events end although the node is still there");
    let late = tokio::time::timeout(DEADLINE, async { a.events().next().await });
    assert_eq!(late.await.expect("so do those of whoever asks later"), None);
    b.shutdown().await;
}

#[tokio::test]
async fn whoever_waits_for_a_node_to_have_joined_is_let_go_when_it_shuts_down() {
    let silent = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let a = builder("a").join(Some(silent.local_addr().unwrap()));
    let a = a.configure(|config| config.drain_timeout = Duration::ZERO).start().await.unwrap();
    assert_eq!(a.state(), NodeState::Joining);
    a.shutdown().await;
    let joined =
        tokio::time::timeout(Duration::from_secs(5), a.joined()).await.expect("nothing is waited for");
    assert_eq!(joined.unwrap_err().to_string(), "the node has not joined: it was stopped");
}

#[tokio::test]
async fn a_node_says_when_it_has_joined() {
    let a = builder("a").peer(any_port()).start().await.unwrap();
    a.set("tree", "oak").unwrap();
    let b = builder("b").join(a.peer_addr()).start().await.unwrap();
    let mut events = b.events();
    if b.state() == NodeState::Joining {
        next(&mut events, EventKind::Joined).await;
    }
    b.joined().await.unwrap();
    assert_eq!(b.get("tree").unwrap(), "oak");
}

/// Returns the next event as a line: key and value of an entry or a change, the marker, or why it begins anew.
async fn next_line(watch: &mut Watch) -> String {
    let event = tokio::time::timeout(DEADLINE, watch.next()).await.expect("an event comes");
    let text = |bytes: Option<&[u8]>| bytes.map_or("nothing".into(), |b| b.escape_ascii().to_string());
    match event.expect("the node runs") {
        WatchEvent::Reset { reason } => format!("reset {}", reason.name()),
        WatchEvent::Entry(item) => format!("entry {} {}", text(Some(item.key())), text(item.value())),
        WatchEvent::Live { .. } => "live".into(),
        WatchEvent::Change { cause, item, .. } => {
            format!("{} {} {}", cause.name(), text(Some(item.key())), text(item.value()))
        }
        other => format!("{other:?}"),
    }
}

#[tokio::test]
async fn a_watch_sends_what_there_is_and_then_what_changes_on_any_node() {
    let a = builder("a").peer(any_port()).start().await.unwrap();
    let b = builder("b").join(a.peer_addr()).start().await.unwrap();
    a.set("tree/1", "oak").unwrap();
    a.set("rock/1", "flint").unwrap();
    let mut watch = a.watch(["tree/"]).unwrap();
    assert_eq!(next_line(&mut watch).await, "reset start");
    assert_eq!(next_line(&mut watch).await, "entry tree/1 oak");
    assert_eq!(next_line(&mut watch).await, "live");
    b.set("rock/2", "slate").unwrap();
    b.set("tree/2", "elm").unwrap();
    assert_eq!(next_line(&mut watch).await, "set tree/2 elm");
    a.delete("tree/2").unwrap();
    assert_eq!(next_line(&mut watch).await, "del tree/2 nothing");
    a.set_with("tree/3", "ash", Duration::from_millis(20)).unwrap();
    assert_eq!(next_line(&mut watch).await, "set tree/3 ash");
    assert_eq!(next_line(&mut watch).await, "expired tree/3 nothing");
    a.shutdown().await;
    assert!(watch.next().await.is_none(), "a watch ends with the node");
    assert!(watch.next().await.is_none());
}

#[tokio::test]
async fn a_watch_goes_on_where_another_was() {
    let node = builder("a").start().await.unwrap();
    let mut watch = node.watch([""]).unwrap();
    assert_eq!(next_line(&mut watch).await, "reset start");
    let Some(WatchEvent::Live { cursor }) = watch.next().await else { panic!("no marker") };
    drop(watch);
    node.set("tree", "oak").unwrap();
    let mut watch = node.watch_from([""], cursor).unwrap();
    assert_eq!(next_line(&mut watch).await, "live");
    assert_eq!(next_line(&mut watch).await, "set tree oak");
    assert!(node.watch(vec!["x"; 1000]).is_err(), "so many prefixes cannot be watched");
}

#[tokio::test]
async fn a_ttl_beyond_the_end_of_the_clock_is_kept_on_every_node() {
    let a = builder("a").peer(any_port()).start().await.unwrap();
    let b = builder("b").join(a.peer_addr()).start().await.unwrap();
    let mut watch = b.watch([""]).unwrap();
    a.set("tree", "oak").unwrap();
    for (ttl, millis) in [(Duration::from_secs(1 << 40), 1000 << 40), (Duration::MAX, i64::MAX as u64)] {
        assert_eq!(a.expire("tree", ttl), Ok(true));
        let has_arrived = |event| match event {
            Some(WatchEvent::Change { item, .. }) => {
                item.deadline().is_some_and(|deadline| deadline.as_unix_millis() >= millis)
            }
            _ => false,
        };
        while !has_arrived(tokio::time::timeout(DEADLINE, watch.next()).await.expect("an event comes")) {}
        assert!(a.get("tree").is_some() && b.get("tree").is_some());
    }
}

#[tokio::test]
async fn what_several_nodes_count_at_the_same_time_counts_once_each() {
    let a = builder("a").peer(any_port()).start().await.unwrap();
    let b = builder("b").join(a.peer_addr()).start().await.unwrap();
    a.set("visits", "5").unwrap();
    until("the beginning is everywhere", || b.get("visits").is_some()).await;
    assert_eq!(a.incr("visits"), Ok(6));
    for _ in 0..10 {
        a.incr("visits").unwrap();
        b.incr_by("visits", 2).unwrap();
    }
    b.incr_by("visits", -4).unwrap();
    for node in [&a, &b] {
        until("both count all", || node.get("visits").is_some_and(|digits| digits == "32")).await;
    }
    a.set("tree", "oak").unwrap();
    assert_eq!(a.incr("tree"), Err(NodeError::NotAnInteger));
    a.set("most", i64::MAX.to_string()).unwrap();
    assert_eq!(a.incr("most"), Err(NodeError::Overflow));
    assert_eq!(a.get("most").unwrap(), i64::MAX.to_string());
    a.expire("visits", Duration::ZERO).unwrap();
    assert!(a.get("visits").is_none());
}

#[tokio::test]
async fn a_shutdown_reports_the_writes_that_no_peer_holds() {
    // Nobody can know a port that the system picked.
    let alone = builder("alone").peer(any_port()).start().await.unwrap();
    alone.set("tree", "oak").unwrap();
    let report = alone.shutdown().await;
    assert_eq!((report.unheld_writes, report.is_alone, report.lost_writes()), (1, true, 0));

    let nobody = std::net::TcpListener::bind(any_port()).unwrap().local_addr().unwrap();
    let short = |config: &mut sapwood::config::Config| config.drain_timeout = Duration::from_millis(50);
    let apart = builder("apart").join(Some(nobody)).configure(short).start().await.unwrap();
    apart.set("tree", "oak").unwrap();
    apart.set("tree", "elm").unwrap();
    let report = apart.shutdown().await;
    assert_eq!((report.unheld_writes, report.is_alone, report.lost_writes()), (2, false, 2));
    assert_eq!(apart.shutdown().await, report, "a second call waits no longer");

    let a = builder("a").peer(any_port()).start().await.unwrap();
    let b = builder("b").join(a.peer_addr()).start().await.unwrap();
    until("they are linked", || linked(&a) == 1 && linked(&b) == 1).await;
    a.set("tree", "oak").unwrap();
    assert_eq!(a.shutdown().await.unheld_writes, 0);
    assert_eq!(b.get("tree").unwrap(), "oak");
    assert_eq!(b.shutdown().await.unheld_writes, 0, "it has written nothing");
}
