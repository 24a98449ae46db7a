//! Databases: on one node as its clients see them, and between nodes.

use sapwood::config::Config;
use sapwood::{Node, WatchEvent};
use tokio::io::AsyncReadExt as _;
use tokio::net::TcpStream;
use tokio::time::timeout;

use crate::raw_client::{Client, PATIENCE, TestServer};
use crate::support::node_process::request;

fn bulk(value: &[u8]) -> Vec<u8> {
    [format!("${}\r\n", value.len()).as_bytes(), value, b"\r\n"].concat()
}

/// What arrives until `is_all` of it is there.
async fn read_until(client: &mut Client, is_all: impl Fn(&[u8]) -> bool) -> String {
    let mut bytes = Vec::new();
    while !is_all(&bytes) {
        let read = timeout(PATIENCE, client.0.read_buf(&mut bytes)).await.unwrap().unwrap();
        assert!(read > 0, "closed after {}", bytes.escape_ascii());
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

/// What a watch sends up to the cursor of the next message of a kind.
async fn read_to(client: &mut Client, kind: &str) -> String {
    let parts = if kind == "live" { 2 } else { 12 };
    read_until(client, |bytes| {
        let text = String::from_utf8_lossy(bytes);
        let after = text.rsplit_once(&format!("{kind}\r\n")).map(|(_, after)| after.to_owned());
        after.is_some_and(|after| after.matches("\r\n").count() >= parts)
    })
    .await
}

/// Keys whose stored forms would be the easiest to confuse.
const KEYS: &[&[u8]] = &[
    b"",
    b"k",
    b"\xff",
    b"\xff\xff",
    b"\xff\0",
    b"\xff\0k",
    b"\xff\0\xff",
    b"\xff\x01",
    b"\xff\x01k",
    b"\0",
    b"\x01k",
];

#[tokio::test]
async fn no_key_of_a_database_is_that_of_another() {
    let server = TestServer::with(|settings| settings.databases = 256).await;
    let mut client = server.client().await;
    let databases = ["0", "1", "255"];
    for database in databases {
        client.ask(&format!("SELECT {database}"), "+OK\r\n").await;
        for key in KEYS {
            client.send(request(&[b"EXISTS", key])).await;
            client.expect(":0\r\n").await;
            client.send(request(&[b"SET", key, &[key, database.as_bytes()].concat()])).await;
            client.expect("+OK\r\n").await;
        }
    }
    for database in databases {
        client.ask(&format!("SELECT {database}"), "+OK\r\n").await;
        client.ask("DBSIZE", &format!(":{}\r\n", KEYS.len())).await;
        client.send(request(&[b"KEYS", b"\xff*"])).await;
        let under: Vec<_> = KEYS.iter().filter(|key| key.first() == Some(&0xFF)).collect();
        let (count, listed) = (under.len(), under.iter().map(|key| bulk(key).len()).sum::<usize>());
        let reply = read_until(&mut client, |bytes| bytes.len() >= 4 + listed).await;
        assert!(reply.starts_with(&format!("*{count}\r\n")), "{reply}");
        for key in KEYS {
            client.send(request(&[b"GET", key])).await;
            client.expect(bulk(&[key, database.as_bytes()].concat())).await;
        }
        client.send(request(&[b"DEL", KEYS[1], KEYS[2]])).await;
        client.expect(":2\r\n").await;
    }
    for database in databases {
        client.ask(&format!("SELECT {database}"), "+OK\r\n").await;
        client.ask("DBSIZE", &format!(":{}\r\n", KEYS.len() - 2)).await;
    }
    client.ask("SELECT 1", "+OK\r\n").await;
    client.ask("FLUSHDB", "+OK\r\n").await;
    client.ask("DBSIZE", ":0\r\n").await;
    client.ask("SELECT 0", "+OK\r\n").await;
    client.ask("DBSIZE", &format!(":{}\r\n", KEYS.len() - 2)).await;
}

#[tokio::test]
async fn the_longest_key_is_as_long_in_every_database() {
    let server = TestServer::start().await;
    let mut client = server.client().await;
    let longest = 1024;
    for database in ["0", "9"] {
        client.ask(&format!("SELECT {database}"), "+OK\r\n").await;
        for byte in [b'k', 0xFF] {
            client.send(request(&[b"SET", &vec![byte; longest], b"v"])).await;
            client.expect("+OK\r\n").await;
            client.send(request(&[b"INCR", &vec![byte; longest + 1]])).await;
            client.expect(format!("-ERR key is larger than {longest} bytes (--max-key)\r\n")).await;
        }
    }
}

#[tokio::test]
async fn a_scan_of_a_small_database_beside_a_large_one_returns_its_keys_once() {
    let server = TestServer::start().await;
    let mut client = server.client().await;
    for chunk in 0..120 {
        let pairs: String = (0..1000).map(|i| format!(" key:{} v", chunk * 1000 + i)).collect();
        client.ask(&format!("MSET{pairs}"), "+OK\r\n").await;
    }
    client.ask("SELECT 1", "+OK\r\n").await;
    client.ask("SCAN 0", "*2\r\n$1\r\n0\r\n*0\r\n").await;
    client.ask("MSET a 1 b 2 c 3", "+OK\r\n").await;
    let (mut cursor, mut found, mut calls) = ("0".to_owned(), 0, 0);
    loop {
        let reply = client.reply(&format!("SCAN {cursor}")).await;
        let mut lines = reply.split("\r\n").skip(2);
        cursor = lines.next().unwrap().to_owned();
        found += lines.next().unwrap()[1..].parse::<usize>().unwrap();
        calls += 1;
        if cursor == "0" {
            break;
        }
    }
    assert_eq!(found, 3);
    assert!((2..10).contains(&calls), "{calls} calls, each of which visits a bounded number of other keys");
}

#[tokio::test]
async fn events_and_lists_name_the_database() {
    let server = TestServer::start().await;
    let (mut client, mut events, mut monitor) =
        (server.client().await, server.client().await, server.client().await);
    client.ask("CONFIG SET notify-keyspace-events KEA", "+OK\r\n").await;
    events.ask("PSUBSCRIBE __key*", "*3\r\n$10\r\npsubscribe\r\n$6\r\n__key*\r\n:1\r\n").await;
    monitor.ask("MONITOR", "+OK\r\n").await;
    client.ask("SELECT 12", "+OK\r\n").await;
    client.send(request(&[b"SET", b"\xffk", b"v"])).await;
    client.expect("+OK\r\n").await;
    events
        .expect(
            b"*4\r\n$8\r\npmessage\r\n$6\r\n__key*\r\n$18\r\n__keyspace@12__:\xffk\r\n$3\r\nset\r\n\
              *4\r\n$8\r\npmessage\r\n$6\r\n__key*\r\n$19\r\n__keyevent@12__:set\r\n$2\r\n\xffk\r\n",
        )
        .await;
    assert!(client.reply("CLIENT INFO").await.contains(" db=12 "));
    client
        .ask("MULTI\r\nSELECT 3\r\nGET k\r\nEXEC", "+OK\r\n+QUEUED\r\n+QUEUED\r\n*2\r\n+OK\r\n$-1\r\n")
        .await;
    let lines = read_until(&mut monitor, |bytes| bytes.ends_with(b"\"EXEC\"\r\n")).await;
    for line in [r#"[12 127.0.0.1:"#, r#""SELECT" "12""#, r#""SET" "\xffk" "v""#, r#"[3 127.0.0.1:"#] {
        assert!(lines.contains(line), "{line} in {lines}");
    }
    assert!(!lines.contains("[0 "), "{lines}");
}

/// As with Redis, an invalidation names the key and no database.
#[tokio::test]
async fn who_tracks_hears_of_the_key_in_whichever_database() {
    let server = TestServer::start().await;
    let (mut tracker, mut client) = (server.client().await, server.client().await);
    tracker.reply("HELLO 3").await;
    tracker.ask("CLIENT TRACKING on BCAST PREFIX k", "+OK\r\n").await;
    client.ask("SELECT 5", "+OK\r\n").await;
    client.ask("SET k v", "+OK\r\n").await;
    tracker.expect(">2\r\n$10\r\ninvalidate\r\n*1\r\n$1\r\nk\r\n").await;
}

#[tokio::test]
async fn a_watch_receives_the_keys_of_its_database() {
    let server = TestServer::start().await;
    let (mut all, mut some, mut client) =
        (server.client().await, server.client().await, server.client().await);
    for database in [0, 5] {
        client
            .ask(&format!("SELECT {database}\r\nMSET \"\\xffa\" {database} a {database}"), "+OK\r\n+OK\r\n")
            .await;
    }
    some.ask("SELECT 5", "+OK\r\n").await;
    all.send("SAPWOOD WATCH \"\"\r\n").await;
    some.send("SAPWOOD WATCH a\r\n").await;
    let (seen_by_all, seen_by_some) = (read_to(&mut all, "live").await, read_to(&mut some, "live").await);
    assert_eq!(seen_by_all.matches("entry").count(), 2, "{seen_by_all}");
    assert!(!seen_by_all.contains("\r\n5\r\n"), "{seen_by_all}");
    assert_eq!(seen_by_some.matches("entry\r\n$1\r\na\r\n$1\r\n5\r\n").count(), 1, "{seen_by_some}");
    client.ask("SET a 6\r\nSELECT 0\r\nSET b 7", "+OK\r\n+OK\r\n+OK\r\n").await;
    let (seen_by_all, seen_by_some) = (read_to(&mut all, "change").await, read_to(&mut some, "change").await);
    assert!(seen_by_all.contains("$1\r\nb\r\n$1\r\n7\r\n"), "{seen_by_all}");
    assert!(seen_by_some.contains("$1\r\na\r\n$1\r\n6\r\n"), "{seen_by_some}");
}

async fn node(name: &str, join: Vec<String>, databases: u16) -> Node {
    let any = "127.0.0.1:0".parse().ok();
    let config = Config {
        name: Some(name.into()),
        client: any,
        peer: any,
        http: None,
        join,
        databases,
        enable_flush: true,
        ..Config::default()
    };
    Node::start(config).await.unwrap()
}

async fn client_of(node: &Node) -> Client {
    Client(TcpStream::connect(node.client_addr().unwrap()).await.unwrap())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_database_is_replicated_to_nodes_that_have_fewer_too() {
    let a = node("a", Vec::new(), 16).await;
    let b = node("b", vec![a.peer_addr().unwrap().to_string()], 2).await;
    let c = node("c", vec![b.peer_addr().unwrap().to_string()], 16).await;
    let (mut at_a, mut at_b, mut at_c) = (client_of(&a).await, client_of(&b).await, client_of(&c).await);
    for key in KEYS {
        at_a.send(request(&[b"SET", key, b"zero"])).await;
        at_a.expect("+OK\r\n").await;
    }
    at_a.ask("SELECT 5", "+OK\r\n").await;
    for key in KEYS {
        at_a.send(request(&[b"SET", key, b"five"])).await;
        at_a.expect("+OK\r\n").await;
    }
    at_a.ask("INCR n\r\nINCR n", ":1\r\n:2\r\n").await;
    let digest = at_a.reply("SAPWOOD DIGEST").await;
    for other in [&mut at_b, &mut at_c] {
        while other.reply("SAPWOOD DIGEST").await != digest {}
        other.ask("DBSIZE", &format!(":{}\r\n", KEYS.len())).await;
        let info = other.reply("INFO keyspace").await;
        assert!(info.contains(&format!("db5:keys={},expires=0", KEYS.len() + 1)), "{info}");
        for key in KEYS {
            other.send(request(&[b"GET", key])).await;
            other.expect("$4\r\nzero\r\n").await;
        }
    }
    at_b.ask("SELECT 5", "-ERR DB index is out of range\r\n").await;
    at_c.ask("SELECT 5", "+OK\r\n").await;
    at_c.ask("INCR n", ":3\r\n").await;
    for key in KEYS {
        at_c.send(request(&[b"GETDEL", key])).await;
        at_c.expect("$4\r\nfive\r\n").await;
    }
    while at_a.reply("DBSIZE").await != ":1\r\n" {}
    while at_a.reply("GET n").await != "$1\r\n3\r\n" {}
    at_a.ask("MOVE n 0", ":1\r\n").await;
    while at_b.reply("GET n").await != "$1\r\n3\r\n" {}
    at_a.ask("SELECT 0", "+OK\r\n").await;
    at_a.ask("FLUSHDB", "+OK\r\n").await;
    while at_c.reply("INFO keyspace").await != "$12\r\n# Keyspace\r\n\r\n" {}
    for node in [a, b, c] {
        node.shutdown().await;
    }
}

#[tokio::test]
async fn an_embedded_node_reads_and_writes_database_0() {
    let node = node("a", Vec::new(), 16).await;
    let mut client = client_of(&node).await;
    for key in KEYS {
        node.set(key, "zero").unwrap();
        client.send(request(&[b"GET", key])).await;
        client.expect("$4\r\nzero\r\n").await;
    }
    client.ask("SELECT 1", "+OK\r\n").await;
    client.ask("MSET k one l one", "+OK\r\n").await;
    assert_eq!(node.get("k").unwrap(), "zero");
    assert!(node.get("l").is_none());
    let mut watch = node.watch([""]).unwrap();
    let mut found = Vec::new();
    while let Some(event) = watch.next().await {
        match event {
            WatchEvent::Entry(item) => found.push(item.key().to_vec()),
            WatchEvent::Live { .. } => break,
            _ => {}
        }
    }
    found.sort_unstable();
    let mut keys: Vec<Vec<u8>> = KEYS.iter().map(|key| key.to_vec()).collect();
    keys.sort_unstable();
    assert_eq!(found, keys);
    assert!(KEYS.iter().all(|key| node.delete(key).unwrap()));
    client.ask("DBSIZE", ":2\r\n").await;
    node.shutdown().await;
}
