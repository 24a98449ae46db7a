//! Two Rust clients of Redis, in both dialects, against three nodes: what is written to one is read from the others.

use std::collections::HashSet;
use std::time::{Duration, Instant};

use fred::prelude::{Builder, ClientLike as _, Expiration, KeysInterface as _, ServerInterface as _};
use redis::AsyncTypedCommands as _;
use redis::aio::MultiplexedConnection;
use tokio::sync::mpsc::UnboundedReceiver;

use crate::support::node_process::*;

/// Every byte there is, what ends lines, what ends strings in C, and what is no UTF-8.
fn binary() -> Vec<u8> {
    (0..=255).chain(*b"\r\n$3\r\n\0").collect()
}

async fn eventually(what: &str, mut holds: impl AsyncFnMut() -> bool) {
    let started = Instant::now();
    while !holds().await {
        assert!(started.elapsed() < PATIENCE, "not within {PATIENCE:?}: {what}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

async fn connect(node: &NodeProcess, protocol: &str) -> MultiplexedConnection {
    let client = redis::Client::open(format!("{}?protocol={protocol}", node.url())).unwrap();
    client.get_multiplexed_async_connection().await.unwrap()
}

async fn redis_crate(protocol: &str) {
    let nodes = three_nodes(&[]);
    let mut a = connect(&nodes[0], protocol).await;
    let mut b = connect(&nodes[1], protocol).await;
    let mut c = connect(&nodes[2], protocol).await;

    a.set("text", "value").await.unwrap();
    a.set(binary(), binary()).await.unwrap();
    a.set("empty", "").await.unwrap();
    for other in [&mut b, &mut c] {
        eventually("written on a, read elsewhere", async || other.exists("empty").await.unwrap()).await;
        assert_eq!(other.get("text").await.unwrap().as_deref(), Some("value"));
        assert_eq!(other.get("empty").await.unwrap().as_deref(), Some(""));
        let bytes: Vec<u8> = redis::cmd("GET").arg(binary()).query_async(other).await.unwrap();
        assert_eq!(bytes, binary());
        assert_eq!(other.get("never").await.unwrap(), None);
    }

    b.set_ex("brief", "x", 100).await.unwrap();
    eventually("the deadline is on c", async || c.exists("brief").await.unwrap()).await;
    let ttl: i64 = redis::cmd("TTL").arg("brief").query_async(&mut c).await.unwrap();
    assert!((90..=100).contains(&ttl), "{ttl}");
    assert!(c.expire("brief", 5000).await.unwrap());
    eventually("a longer life on a", async || {
        let ttl: i64 = redis::cmd("TTL").arg("brief").query_async(&mut a).await.unwrap();
        ttl > 4000
    })
    .await;
    assert!(c.persist("brief").await.unwrap());
    eventually("an endless life on a", async || {
        let ttl: i64 = redis::cmd("TTL").arg("brief").query_async(&mut a).await.unwrap();
        ttl == -1
    })
    .await;
    assert!(c.pexpire("brief", 50).await.unwrap());
    eventually("expired on a", async || !a.exists("brief").await.unwrap()).await;

    c.mset(&[("m:1", "1"), ("m:2", "2"), ("m:3", "3")]).await.unwrap();
    let held: i64 = redis::cmd("WAIT").arg(2).arg(30_000).query_async(&mut c).await.unwrap();
    assert_eq!(held, 2);
    eventually("the three are on a", async || a.exists("m:3").await.unwrap()).await;
    let many: Vec<Option<String>> =
        redis::cmd("MGET").arg(&["m:1", "m:2", "m:3", "m:4"]).query_async(&mut a).await.unwrap();
    assert_eq!(many, [Some("1".into()), Some("2".into()), Some("3".into()), None]);

    let mut pipeline = redis::pipe();
    for n in 0..2000 {
        pipeline.set(format!("p:{n}"), n).ignore();
    }
    pipeline.get("p:1999").del("p:0").exists("p:0");
    let (last, deleted, exists): (u32, u32, bool) = pipeline.query_async(&mut b).await.unwrap();
    assert_eq!((last, deleted, exists), (1999, 1, false));

    eventually("all are on c, and the delete too", async || {
        let mut keys = c.scan_match::<_, String>("p:*").await.unwrap();
        let mut found = HashSet::new();
        while let Some(key) = keys.next_item().await {
            found.insert(key.unwrap());
        }
        found.len() == 1999 && !found.contains("p:0")
    })
    .await;

    assert_eq!(a.del(&["text", "empty", "never"]).await.unwrap(), 2);
    eventually("deleted on b", async || {
        !b.exists("text").await.unwrap() && !b.exists("empty").await.unwrap()
    })
    .await;
    let refused = redis::cmd("RPUSH").arg("list").arg("x").query_async::<()>(&mut a).await.unwrap_err();
    assert!(refused.to_string().len() > 10, "{refused}");
    until_equal(&nodes.each_ref());
}

#[tokio::test]
async fn the_redis_crate_works_in_resp2() {
    redis_crate("resp2").await;
}

#[tokio::test]
async fn the_redis_crate_works_in_resp3() {
    redis_crate("resp3").await;
}

/// The next push of this kind, as text; others are passed over.
async fn pushed(pushes: &mut UnboundedReceiver<redis::PushInfo>, kind: &redis::PushKind) -> String {
    let next = async {
        loop {
            let push = pushes.recv().await.unwrap();
            if push.kind == *kind {
                return format!("{:?}", push.data);
            }
        }
    };
    tokio::time::timeout(PATIENCE, next).await.unwrap_or_else(|_| panic!("no {kind:?}"))
}

#[tokio::test]
async fn the_redis_crate_receives_events_of_another_node() {
    let nodes = three_nodes(&["--notify-keyspace-events=KEA"]);
    let client = redis::Client::open(format!("{}?protocol=resp3", nodes[1].url())).unwrap();
    let (sender, mut pushes) = tokio::sync::mpsc::unbounded_channel();
    let config = redis::AsyncConnectionConfig::new().set_push_sender(sender);
    let mut b = client.get_multiplexed_async_connection_with_config(&config).await.unwrap();
    let mut a = connect(&nodes[0], "resp2").await;

    b.subscribe("news").await.unwrap();
    b.psubscribe("__keyevent@0__:*").await.unwrap();
    let nobody_there: u32 = a.publish("news", binary()).await.unwrap().try_into().unwrap();
    assert_eq!(nobody_there, 0, "deliveries are counted where the message was published");
    let message = pushed(&mut pushes, &redis::PushKind::Message).await;
    assert_eq!(
        message,
        format!("{:?}", [redis::Value::BulkString(b"news".into()), redis::Value::BulkString(binary())])
    );

    redis::cmd("CLIENT").arg(&["TRACKING", "ON"]).exec_async(&mut b).await.unwrap();
    assert_eq!(b.get("copied").await.unwrap(), None);
    a.set_ex("copied", "x", 100).await.unwrap();
    assert!(pushed(&mut pushes, &redis::PushKind::Invalidate).await.contains("copied"));
    for event in ["set", "expire"] {
        let message = pushed(&mut pushes, &redis::PushKind::PMessage).await;
        assert!(
            message.contains(&format!("__keyevent@0__:{event}")) && message.contains("copied"),
            "{message}"
        );
    }
}

async fn fred_client(node: &NodeProcess, version: fred::types::RespVersion) -> fred::clients::Client {
    let mut config = fred::types::config::Config::from_url(&node.url()).unwrap();
    config.version = version;
    let client = Builder::from_config(config).build().unwrap();
    tokio::time::timeout(PATIENCE, client.init()).await.unwrap().unwrap();
    client
}

async fn fred_crate(version: fred::types::RespVersion) {
    let nodes = three_nodes(&[]);
    let a = fred_client(&nodes[0], version.clone()).await;
    let b = fred_client(&nodes[1], version.clone()).await;
    let c = fred_client(&nodes[2], version).await;
    let binary = bytes::Bytes::from(binary());

    a.set::<(), _, _>("text", "value", None, None, false).await.unwrap();
    a.set::<(), _, _>(binary.clone(), binary.clone(), None, None, false).await.unwrap();
    a.set::<(), _, _>("empty", "", None, None, false).await.unwrap();
    for other in [&b, &c] {
        eventually("written on a, read elsewhere", async || {
            other.exists::<u32, _>("empty").await.unwrap() == 1
        })
        .await;
        assert_eq!(other.get::<String, _>("text").await.unwrap(), "value");
        assert_eq!(other.get::<String, _>("empty").await.unwrap(), "");
        assert_eq!(other.get::<bytes::Bytes, _>(binary.clone()).await.unwrap(), binary);
        assert_eq!(other.get::<Option<String>, _>("never").await.unwrap(), None);
    }

    b.set::<(), _, _>("brief", "x", Some(Expiration::EX(100)), None, false).await.unwrap();
    eventually("the deadline is on c", async || {
        (90..=100).contains(&c.ttl::<i64, _>("brief").await.unwrap())
    })
    .await;
    assert_eq!(c.expire::<u32, _>("brief", 5000, None).await.unwrap(), 1);
    eventually("a longer life on a", async || a.ttl::<i64, _>("brief").await.unwrap() > 4000).await;
    assert_eq!(c.persist::<u32, _>("brief").await.unwrap(), 1);
    eventually("an endless life on a", async || a.ttl::<i64, _>("brief").await.unwrap() == -1).await;
    assert_eq!(c.pexpire::<u32, _>("brief", 50, None).await.unwrap(), 1);
    eventually("expired on a", async || a.exists::<u32, _>("brief").await.unwrap() == 0).await;

    c.mset(vec![("m:1", "1"), ("m:2", "2"), ("m:3", "3")]).await.unwrap();
    assert_eq!(c.wait::<i64>(2, 30_000).await.unwrap(), 2);
    eventually("the three are on a", async || a.exists::<u32, _>("m:3").await.unwrap() == 1).await;
    let many: Vec<Option<String>> = a.mget(vec!["m:1", "m:2", "m:3", "m:4"]).await.unwrap();
    assert_eq!(many, [Some("1".into()), Some("2".into()), Some("3".into()), None]);

    let pipeline = b.pipeline();
    for n in 0..500 {
        pipeline.set::<(), _, _>(format!("p:{n}"), n, None, None, false).await.unwrap();
    }
    pipeline.del::<(), _>("p:0").await.unwrap();
    let replies: Vec<fred::types::Value> = pipeline.all().await.unwrap();
    assert_eq!(replies.len(), 501);

    eventually("all are on c, and the delete too", async || {
        let (mut cursor, mut found) = (String::from("0"), HashSet::new());
        loop {
            let (next, keys): (String, Vec<String>) =
                c.scan_page(cursor, "p:*", Some(100), None).await.unwrap();
            found.extend(keys);
            if next == "0" {
                break found.len() == 499 && !found.contains("p:0");
            }
            cursor = next;
        }
    })
    .await;

    assert_eq!(a.del::<u32, _>(vec!["text", "empty", "never"]).await.unwrap(), 2);
    eventually("deleted on b", async || b.exists::<u32, _>(vec!["text", "empty"]).await.unwrap() == 0).await;
    for client in [a, b, c] {
        client.quit().await.unwrap();
    }
    until_equal(&nodes.each_ref());
}

#[tokio::test]
async fn fred_works_in_resp2() {
    fred_crate(fred::types::RespVersion::RESP2).await;
}

#[tokio::test]
async fn fred_works_in_resp3() {
    fred_crate(fred::types::RespVersion::RESP3).await;
}
