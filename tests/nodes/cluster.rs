//! Whole nodes in one process, over real sockets on loopback.

use std::collections::BTreeSet;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use crate::support::peer_frames;
use crate::support::*;
use sapwood::config::Config;
use sapwood::internal::Internals as _;
use sapwood::internal::env::{BoxFuture, BoxStream, Env, Listener, SystemEnv};
use sapwood::internal::model::{Time, timestamp};
use sapwood::internal::store::Write;
use sapwood::status::{EventKind, NodeState, PeerState};
use sapwood::{Deadline, Node};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

#[tokio::test]
async fn three_nodes_that_name_one_find_each_other_and_agree() {
    let nodes = three().await;
    for (n, node) in nodes.iter().enumerate() {
        set(node, format!("key:{n}").as_bytes(), b"value");
    }
    for node in &nodes {
        until("every node has every write", || {
            (0..3).all(|n| get(node, format!("key:{n}").as_bytes()).as_deref() == Some(b"value"))
        })
        .await;
        assert_eq!(node.state(), NodeState::Ready);
    }
    delete(&nodes[2], b"key:0");
    for node in &nodes {
        until("the delete has arrived", || get(node, b"key:0").is_none()).await;
    }
    until_equal(&[&nodes[0], &nodes[1], &nodes[2]]).await;
}

#[tokio::test]
async fn there_is_one_link_a_pair_even_if_both_dial() {
    let a = start("a", &[]).await;
    let b = start("b", &[a.peer_addr()]).await;
    let c = start("c", &[a.peer_addr(), b.peer_addr()]).await;
    let d = start("d", &[b.peer_addr(), c.peer_addr(), a.peer_addr()]).await;
    for node in [&a, &b, &c, &d] {
        until("everyone is linked once", || linked(node) == 3).await;
        assert_eq!(node.peers().len(), 3, "{:?}", node.peers());
    }
    // A second connection of a pair, or one that comes and goes, would show as a link that is up or down once more.
    until_equal(&[&a, &b, &c, &d]).await;
    for node in [&a, &b, &c, &d] {
        let events = node.cluster().recorded_events(0).into_iter().map(|recorded| recorded.event);
        let links = events.filter(|event| matches!(event.kind, EventKind::Up | EventKind::Down));
        let links: Vec<_> = links.map(|event| (event.kind, event.peer)).collect();
        let peers: BTreeSet<_> = links.iter().map(|(_, peer)| peer.clone()).collect();
        assert!(links.iter().all(|(kind, _)| *kind == EventKind::Up), "{links:?}");
        assert_eq!((links.len(), peers.len()), (3, 3), "{links:?}");
    }
}

#[tokio::test]
async fn a_node_that_joins_gets_the_full_state_while_writes_go_on() {
    let a = start("a", &[]).await;
    for key in 0..50_000u32 {
        set(&a, &key.to_le_bytes(), &[7; 100]);
    }
    delete(&a, &0u32.to_le_bytes());
    let b = start("b", &[a.peer_addr()]).await;
    for key in 50_000..60_000u32 {
        set(&a, &key.to_le_bytes(), &[8; 100]);
        tokio::task::yield_now().await;
    }
    until_equal(&[&a, &b]).await;
    assert_eq!(b.key_count(), 59_999);
    until("joined", || b.state() == NodeState::Ready).await;
}

#[tokio::test]
async fn two_nodes_with_different_data_both_end_with_the_merge() {
    let a = start("a", &[]).await;
    for key in 0..5_000u32 {
        set(&a, &key.to_le_bytes(), b"a");
    }
    let mut config = config("b", &[]);
    config.join = vec![a.peer_addr().unwrap().to_string()];
    let b = Node::start(config).await.unwrap();
    for key in 2_500..7_500u32 {
        set(&b, &key.to_le_bytes(), b"b");
    }
    until("all keys are everywhere", || a.key_count() == 7_500 && b.key_count() == 7_500).await;
    until_equal(&[&a, &b]).await;
    assert_eq!(get(&a, &3_000u32.to_le_bytes()).as_deref(), Some(&b"b"[..]));
}

#[tokio::test]
async fn a_message_reaches_the_subscribers_of_every_linked_node_after_what_was_written_before_it() {
    let nodes = three().await;
    let mut listeners = Vec::new();
    for node in &nodes {
        let mut listener = TcpStream::connect(node.client_addr().unwrap()).await.unwrap();
        listener.write_all(b"HELLO 3\r\nSUBSCRIBE c\r\n").await.unwrap();
        read_until(&mut listener, b"subscribe\r\n$1\r\nc\r\n:1\r\n").await;
        listeners.push(listener);
    }
    let mut publisher = TcpStream::connect(nodes[0].client_addr().unwrap()).await.unwrap();
    for n in 0..300 {
        publisher.write_all(format!("SET k {n}\r\nPUBLISH c {n}\r\n").as_bytes()).await.unwrap();
        read_until(&mut publisher, b"+OK\r\n:1\r\n").await;
        for (node, listener) in nodes.iter().zip(&mut listeners) {
            let n = n.to_string();
            let message = format!(">3\r\n$7\r\nmessage\r\n$1\r\nc\r\n${}\r\n{n}\r\n", n.len());
            read_until(listener, message.as_bytes()).await;
            assert_eq!(get(node, b"k").as_deref(), Some(n.as_bytes()));
        }
    }
    nodes[0].cluster().publish(b"c", b"only to others");
    read_until(&mut listeners[1], b"only to others\r\n").await;
    publisher.write_all(b"PUBLISH c next\r\n").await.unwrap();
    let next = read_until(&mut listeners[0], b"next\r\n").await;
    assert!(!next.contains("only to others"), "{next}");
}

#[tokio::test]
async fn every_node_notifies_its_subscribers_of_writes_on_any_node() {
    let notifying =
        |name: &str| Config { notify_keyspace_events: "KEA".parse().expect("letters"), ..config(name, &[]) };
    let a = Node::start(notifying("a")).await.expect("starts");
    let b = Node::start(Config { join: vec![a.peer_addr().unwrap().to_string()], ..notifying("b") })
        .await
        .expect("starts");
    until("linked", || linked(&a) == 1 && linked(&b) == 1).await;
    let mut listener = TcpStream::connect(b.client_addr().unwrap()).await.unwrap();
    listener.write_all(b"HELLO 3\r\nPSUBSCRIBE __keyevent@0__:*\r\n").await.unwrap();
    read_until(&mut listener, b":1\r\n").await;
    let mut writer = TcpStream::connect(a.client_addr().unwrap()).await.unwrap();
    for (request, event) in [
        ("SET k v PX 60000", "expire"),
        ("PERSIST k", "persist"),
        ("SET k w", "set"),
        ("DEL k", "del"),
        ("SET brief v PX 50", "expired"),
    ] {
        writer.write_all(format!("{request}\r\n").as_bytes()).await.unwrap();
        let key = request.split(' ').nth(1).unwrap_or_default();
        let channel = format!("__keyevent@0__:{event}");
        let message = format!("${}\r\n{channel}\r\n${}\r\n{key}\r\n", channel.len(), key.len());
        read_until(&mut listener, message.as_bytes()).await;
    }
}

/// Reads up to `end`; returns what was read.
async fn read_until(stream: &mut TcpStream, end: &[u8]) -> String {
    let mut bytes = Vec::new();
    let read = async {
        while !bytes.ends_with(end) {
            assert!(stream.read_buf(&mut bytes).await.is_ok_and(|read| read > 0), "closed");
        }
    };
    if tokio::time::timeout(DEADLINE, read).await.is_err() {
        panic!("not read: {}, but {}", end.escape_ascii(), bytes.escape_ascii());
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

#[tokio::test]
async fn after_a_cut_the_later_write_stands_everywhere() {
    let (a, b, proxy) = pair_with_proxy().await;
    set(&a, b"both", b"before");
    until("replicated", || get(&b, b"both").is_some()).await;
    proxy.cut();
    until("both notice", || linked(&a) == 0 && linked(&b) == 0).await;
    set(&a, b"only a", b"1");
    set(&b, b"only b", b"2");
    set(&a, b"both", b"earlier");
    set(&b, b"both", b"later");
    set(&b, b"gone", b"x");
    delete(&b, b"gone");
    set(&a, b"expiring", b"x");
    proxy.mend();
    until_equal(&[&a, &b]).await;
    for node in [&a, &b] {
        assert_eq!(get(node, b"both").as_deref(), Some(&b"later"[..]));
        assert!(get(node, b"only a").is_some() && get(node, b"only b").is_some());
        assert!(get(node, b"gone").is_none());
    }
}

#[tokio::test]
async fn a_restarted_node_takes_the_place_of_its_earlier_incarnation() {
    let a = start("a", &[]).await;
    let b = start("b", &[a.peer_addr()]).await;
    set(&b, b"kept by a", b"1");
    until("replicated", || get(&a, b"kept by a").is_some()).await;
    b.shutdown().await;
    until("the goodbye has arrived", || peer(&a, PeerState::Gone).is_some()).await;
    let b = start("b", &[a.peer_addr()]).await;
    until("the state came back", || get(&b, b"kept by a").is_some()).await;
    until("linked again", || linked(&a) == 1).await;
    assert_eq!(a.peers().len(), 1);
}

#[tokio::test]
async fn a_stopping_node_hands_its_last_writes_over_first() {
    let a = start("a", &[]).await;
    let b = start("b", &[a.peer_addr()]).await;
    until("linked", || linked(&b) == 1).await;
    for key in 0..20_000u32 {
        set(&b, &key.to_le_bytes(), &[1; 200]);
    }
    b.shutdown().await;
    assert_eq!(a.key_count(), 20_000);
}

/// A clean stop once lost what a peer was still being sent in its first sync.
#[tokio::test]
async fn a_node_that_stops_right_after_a_peer_joined_hands_its_whole_state_over() {
    // A debug build beside other tests may need longer than the default.
    let a = Node::start(Config { drain_timeout: DEADLINE, ..config("a", &[]) }).await.unwrap();
    for key in 0..100_000u32 {
        set(&a, &key.to_le_bytes(), &[1; 100]);
    }
    let b = start("b", &[a.peer_addr()]).await;
    until("the sync has begun", || b.key_count() > 0).await;
    a.shutdown().await;
    until("the goodbye has arrived", || peer(&b, PeerState::Gone).is_some()).await;
    assert_eq!(b.key_count(), 100_000);
}

/// It once said goodbye at once: nothing had been pushed, so nothing seemed to wait for an acknowledgement.
#[tokio::test]
async fn a_stop_waits_for_a_peer_that_had_to_refuse_the_state() {
    let drain_timeout = Duration::from_millis(700);
    let a = Node::start(Config { drain_timeout, ..config("a", &[]) }).await.unwrap();
    for key in 0..20_000u32 {
        set(&a, &key.to_le_bytes(), &[7; 1000]);
    }
    let small = Config { max_value: 1 << 20, max_memory: Some(2 << 20), ..config("b", &[a.peer_addr()]) };
    let b = Node::start(small).await.unwrap();
    until("b is full", || b.state() == NodeState::Full).await;
    let started = std::time::Instant::now();
    a.shutdown().await;
    assert!(started.elapsed() >= drain_timeout, "stopped after {:?}", started.elapsed());
    assert!(b.key_count() < 20_000);
}

/// Frames are filled to a fixed size and values of others are passed on, whatever this node's own clients may set.
#[tokio::test]
async fn limits_on_clients_do_not_limit_what_peers_exchange() {
    let a = start("a", &[]).await;
    set(&a, b"large", &vec![1; 3 << 20]);
    for key in 0..20_000u32 {
        set(&a, &key.to_le_bytes(), &[1; 100]);
    }
    let small = |name, join| Config { max_key: 1 << 10, max_value: 1 << 10, ..config(name, &[join]) };
    let b = Node::start(small("b", a.peer_addr())).await.unwrap();
    until_equal(&[&a, &b]).await;
    let c = Node::start(small("c", b.peer_addr())).await.unwrap();
    until_equal(&[&a, &b, &c]).await;
    assert_eq!(c.key_count(), 20_001);
}

#[tokio::test]
async fn a_namesake_is_refused_while_the_first_is_linked() {
    let a = start("a", &[]).await;
    let b = start("b", &[a.peer_addr()]).await;
    until("linked", || linked(&a) == 1).await;
    let namesake = start("b", &[a.peer_addr()]).await;
    until("the refusal shows on both sides", || {
        peer(&a, PeerState::Duplicate).is_some() && peer(&namesake, PeerState::Duplicate).is_some()
    })
    .await;
    assert!(peer(&namesake, PeerState::Duplicate).unwrap().reason.contains("--name"));
    assert_eq!((linked(&a), linked(&b), linked(&namesake)), (1, 1, 0));
}

#[tokio::test]
async fn a_node_of_another_cluster_is_refused_with_the_reason() {
    let a = start("a", &[]).await;
    let elm = Config { cluster: "elm".into(), ..config("b", &[a.peer_addr()]) };
    let elm = Node::start(elm).await.unwrap();
    until("the refusal shows on both sides", || {
        peer(&a, PeerState::WrongCluster).is_some() && peer(&elm, PeerState::WrongCluster).is_some()
    })
    .await;
    let reason = peer(&elm, PeerState::WrongCluster).unwrap().reason;
    assert!(reason.contains("\"elm\"") && reason.contains("\"sapwood\""), "{reason}");
}

/// The real world, with a clock that is off and a name that means several addresses.
#[derive(Default)]
struct Altered {
    millis: i64,
    everyone: Vec<SocketAddr>,
}

impl Env for Altered {
    fn wall_clock(&self) -> Time {
        let by = Duration::from_millis(self.millis.unsigned_abs());
        let here = SystemEnv.wall_clock();
        if self.millis < 0 {
            Time::from_ntp64(here.as_ntp64() - timestamp::time_since_epoch(by).as_ntp64())
        } else {
            timestamp::later(here, by)
        }
    }
    fn random(&self) -> u64 {
        SystemEnv.random()
    }
    fn listen(&self, address: SocketAddr) -> BoxFuture<'_, io::Result<Box<dyn Listener>>> {
        SystemEnv.listen(address)
    }
    fn connect(&self, address: SocketAddr) -> BoxFuture<'_, io::Result<BoxStream>> {
        SystemEnv.connect(address)
    }
    fn resolve<'a>(&'a self, host_port: &'a str) -> BoxFuture<'a, io::Result<Vec<SocketAddr>>> {
        match host_port {
            "all.example:7172" => Box::pin(async { Ok(self.everyone.clone()) }),
            other => SystemEnv.resolve(other),
        }
    }
}

fn clock_off_by(millis: i64) -> Arc<Altered> {
    Arc::new(Altered { millis, ..Altered::default() })
}

#[tokio::test]
async fn a_clock_400_seconds_off_is_refused_and_what_it_wrote_stays_out() {
    for millis in [400_000, -400_000] {
        let a = start("a", &[]).await;
        let skewed = Node::start_in(config("b", &[a.peer_addr()]), clock_off_by(millis)).await.unwrap();
        set(&skewed, b"stays out", b"v");
        until("the refusal shows on both sides", || {
            peer(&a, PeerState::Skewed).is_some() && peer(&skewed, PeerState::Skewed).is_some()
        })
        .await;
        assert_eq!((linked(&a), linked(&skewed)), (0, 0));
        assert_eq!(get(&a, b"stays out"), None);
        let why = skewed.joining_reason().unwrap_or_default();
        assert!(skewed.state() == NodeState::Joining && why.starts_with("refused"), "{why}");
    }
}

#[tokio::test]
async fn a_clock_within_the_limit_is_accepted_and_later_writes_still_win() {
    let a = start("a", &[]).await;
    let behind = Node::start_in(config("b", &[a.peer_addr()]), clock_off_by(-300)).await.unwrap();
    until("linked", || linked(&behind) == 1).await;
    set(&a, b"k", b"first");
    until("replicated", || get(&behind, b"k").is_some()).await;
    set(&behind, b"k", b"second");
    until("the later write wins on a", || get(&a, b"k").as_deref() == Some(b"second")).await;
}

#[tokio::test]
async fn expiry_needs_no_message_and_holds_everywhere() {
    let a = start("a", &[]).await;
    let b = start("b", &[a.peer_addr()]).await;
    until("linked", || linked(&b) == 1).await;
    let now = a.store().now(SystemEnv.wall_clock());
    let deadline = Deadline::from_unix_millis(now.as_unix_millis() + 300);
    write(&a, b"k", Write::Set { value: b"v", deadline: Some(deadline) });
    until("replicated", || get(&b, b"k").is_some()).await;
    until("expired on both", || get(&a, b"k").is_none() && get(&b, b"k").is_none()).await;
    until("swept on both", || a.store().totals().dead_cells == 1 && b.store().totals().dead_cells == 1).await;
    until_equal(&[&a, &b]).await;
}

#[tokio::test]
async fn names_that_resolve_to_many_addresses_mean_all_of_them_and_this_node_is_noticed() {
    // Ports that were free a moment ago: the name must resolve before the nodes are bound.
    let reserved: Vec<_> = (0..3).map(|_| std::net::TcpListener::bind("127.0.0.1:0").unwrap()).collect();
    let addresses: Vec<SocketAddr> = reserved.iter().map(|l| l.local_addr().unwrap()).collect();
    drop(reserved);
    let env = Arc::new(Altered { everyone: addresses.clone(), ..Altered::default() });
    let mut nodes = Vec::new();
    for (name, &peer) in ["a", "b", "c"].into_iter().zip(&addresses) {
        let config = Config { peer: Some(peer), join: vec!["all.example:7172".into()], ..config(name, &[]) };
        nodes.push(Node::start_in(config, env.clone()).await.unwrap());
    }
    for node in &nodes {
        until("everyone is linked", || linked(node) == 2 && node.peers().len() == 2).await;
    }
}

/// Bytes that no honest peer sends: each closes its own connection, and nothing else happens.
#[tokio::test]
async fn malformed_frames_close_only_their_own_connection() {
    let a = start("a", &[]).await;
    let b = start("b", &[a.peer_addr()]).await;
    until("linked", || linked(&a) == 1).await;
    let too_large = peer_frames::header(1 << 30, b"");
    let truncated_hello = peer_frames::frame(b"sapwood\0");
    let http = b"GET / HTTP/1.1\r\nHost: x\r\n\r\n";
    for bytes in [&too_large[..], &truncated_hello, http, &[0; 4096]] {
        let mut stream = TcpStream::connect(a.peer_addr().unwrap()).await.unwrap();
        stream.write_all(bytes).await.unwrap();
        let mut answer = Vec::new();
        let closed = tokio::time::timeout(DEADLINE, stream.read_to_end(&mut answer)).await;
        assert!(closed.is_ok(), "the connection was not closed");
    }
    set(&a, b"still", b"replicating");
    until("the link still works", || get(&b, b"still").is_some()).await;
}

/// On one thread: a command that does not give way is executed while nobody else is served.
#[tokio::test]
async fn a_node_that_discards_very_many_keys_serves_its_clients_while_their_memory_is_freed() {
    let node = start("a", &[]).await;
    (0..60_000).for_each(|n| node.set(format!("key:{n}"), "value").unwrap());
    let mut client = TcpStream::connect(node.client_addr().unwrap()).await.unwrap();
    client.write_all(b"SAPWOOD REJOIN DISCARD\r\n").await.unwrap();
    read_until(&mut client, b"+OK\r\n").await;
    assert!(node.get("key:0").is_none() && node.get("key:59999").is_none());
    let mut served = 0;
    loop {
        client.write_all(b"INFO memory\r\nECHO end\r\n").await.unwrap();
        let info = read_until(&mut client, b"end\r\n").await;
        if info.contains("used_memory:0\r\n") {
            break;
        }
        served += 1;
    }
    assert!(served >= 8, "{served} requests were served while 60,000 keys were freed");
    node.shutdown().await;
}
