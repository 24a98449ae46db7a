//! The client against real nodes in this process: fail-over, restarts, cut connections, many tasks.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use crate::support::*;
use sapwood::Node;
use sapwood::client::resp::Frame;
use sapwood::client::{
    Client, ClientError, ClientOptions, ResetReason, SetOptions, Ttl, Watch, WatchEvent, blocking,
};
use sapwood::config::Config;
use sapwood::internal::store::Write;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};

fn options() -> ClientOptions {
    let millis = Duration::from_millis;
    ClientOptions { backoff: (millis(1), millis(20)), request_timeout: DEADLINE, ..ClientOptions::default() }
}

async fn connect(nodes: &[&Node]) -> Client {
    let addrs = nodes.iter().map(|node| node.client_addr().unwrap().to_string());
    Client::connect_with(addrs, options()).await.unwrap()
}

/// The word after `cmdstat_NAME:calls=`: how often this node has executed a command.
async fn calls(node: &Node, name: &str) -> u64 {
    let frame = connect(&[node]).await.call(&[b"INFO", b"commandstats"]).await.unwrap();
    let Frame::Bulk(text) = frame else { panic!("{frame:?}") };
    let text = String::from_utf8(text.to_vec()).unwrap();
    let line = text.lines().find_map(|line| line.strip_prefix(&format!("cmdstat_{name}:calls=")));
    line.map_or(0, |line| line.split(',').next().unwrap().parse().unwrap())
}

#[tokio::test]
async fn every_method_means_what_it_says() {
    let node = start("a", &[]).await;
    for resp3 in [false, true] {
        let addr = node.client_addr().unwrap().to_string();
        let client = Client::connect_with([&addr], ClientOptions { resp3, ..options() }).await.unwrap();
        assert_eq!(client.get("k").await.unwrap(), None);
        assert_eq!(client.meta("never").await.unwrap(), None);
        client.set("k", b"\r\n\0\xff").await.unwrap();
        assert_eq!(client.get("k").await.unwrap().as_deref(), Some(&b"\r\n\0\xff"[..]));
        assert!(matches!(client.get_string("k").await, Err(ClientError::Value(_))));
        assert!(client.exists("k").await.unwrap() && !client.exists("nope").await.unwrap());
        assert_eq!(client.ttl("k").await.unwrap(), Ttl::Forever);
        assert_eq!(client.ttl("nope").await.unwrap(), Ttl::Missing);
        assert!(!client.persist("k").await.unwrap());
        assert!(client.expire("k", Duration::from_secs(100)).await.unwrap());
        assert!(!client.expire("nope", Duration::from_secs(100)).await.unwrap());
        assert!(matches!(client.ttl("k").await.unwrap(), Ttl::Left(left) if left.as_secs() > 90));
        assert!(client.set_with("k", "v", SetOptions::new().keep_ttl().if_present()).await.unwrap());
        let meta = client.meta("k").await.unwrap().unwrap();
        assert!(meta.live && meta.deadline.is_some() && meta.value_bytes == Some(1), "{meta:?}");
        assert!(meta.timestamp.at() > std::time::UNIX_EPOCH + Duration::from_secs(1_500_000_000));
        let year_9999 = std::time::UNIX_EPOCH + Duration::from_secs(253_402_300_799);
        assert!(client.set_with("k", "v", SetOptions::new().expire_at(year_9999)).await.unwrap());
        assert_eq!(client.meta("k").await.unwrap().unwrap().deadline, Some(year_9999));
        assert!(client.persist("k").await.unwrap());
        assert!(!client.set_with("k", "v", SetOptions::new().if_absent()).await.unwrap());
        assert_eq!(client.get_string("k").await.unwrap().as_deref(), Some("v"));
        client.set_json("json", &vec![1, 2], SetOptions::new().ttl(Duration::from_secs(9))).await.unwrap();
        assert_eq!(client.get_json::<Vec<i32>>("json").await.unwrap(), Some(vec![1, 2]));
        assert!(matches!(client.get_json::<i32>("json").await, Err(ClientError::Value(_))));
        assert!(client.delete("k").await.unwrap() && !client.delete("k").await.unwrap());
        let deleted = client.meta("k").await.unwrap().unwrap();
        assert!(!deleted.live && deleted.value_bytes.is_none() && deleted.timestamp > meta.timestamp);
        client.mset([("a", "1"), ("b", "2")]).await.unwrap();
        let values = client.mget(["a", "nope", "b"]).await.unwrap();
        assert_eq!(values, [Some("1".into()), None, Some("2".into())]);
        assert_eq!(client.delete_all(["a", "b", "nope"]).await.unwrap(), 2);
        client.mset([("", ""); 0]).await.unwrap();
        assert_eq!(client.mget([""; 0]).await.unwrap(), []);
        assert_eq!(client.delete_all([""; 0]).await.unwrap(), 0);
        assert!(matches!(client.call(&[b"NONSENSE"]).await, Err(ClientError::Server { .. })));
        assert!(matches!(
            client.call(&[b"INFO", b"server"]).await,
            Ok(Frame::Bulk(_) | Frame::Verbatim { .. })
        ));
    }
}

#[tokio::test]
async fn a_scan_gives_every_key_once() {
    let node = start("a", &[]).await;
    for number in 0..5_000 {
        set(&node, format!("user:{number}").as_bytes(), b"x");
        set(&node, format!("other:{number}").as_bytes(), b"x");
    }
    let client = connect(&[&node]).await;
    let mut scan = client.scan("user:*");
    let mut keys = Vec::new();
    while let Some(key) = scan.next().await {
        keys.push(key.unwrap());
    }
    assert!(scan.next().await.is_none());
    keys.sort();
    keys.dedup();
    assert_eq!(keys.len(), 5_000);
}

#[tokio::test]
async fn sixty_four_tasks_share_one_connection() {
    let node = start("a", &[]).await;
    let client = connect(&[&node]).await;
    let tasks: Vec<_> = (0..64)
        .map(|task| {
            let client = client.clone();
            tokio::spawn(async move {
                for round in 0..100 {
                    let (key, value) = (format!("key:{task}"), format!("{task}:{round}"));
                    client.set(&key, &value).await.unwrap();
                    assert_eq!(client.get_string(&key).await.unwrap(), Some(value));
                }
            })
        })
        .collect();
    for task in tasks {
        task.await.unwrap();
    }
    assert_eq!((calls(&node, "set").await, calls(&node, "get").await), (6_400, 6_400));
    assert_eq!(client.requests_in_flight(), 0);
}

#[tokio::test]
async fn when_a_node_stops_the_next_takes_over() {
    let a = start("a", &[]).await;
    let b = start("b", &[a.peer_addr()]).await;
    until("linked", || linked(&b) == 1).await;
    let client = connect(&[&a, &b]).await;
    client.set("k", "before").await.unwrap();
    let writing = tokio::spawn({
        let client = client.clone();
        async move {
            for number in 0..2_000 {
                client.set("n", number.to_string()).await.unwrap();
            }
        }
    });
    until("writes are under way", || get(&a, b"n").is_some()).await;
    a.shutdown().await;
    writing.await.unwrap();
    assert_eq!(client.connected_to(), Some(b.client_addr().unwrap().to_string()));
    assert_eq!(client.get_string("k").await.unwrap().as_deref(), Some("before"));
    assert_eq!(client.get_string("n").await.unwrap().as_deref(), Some("1999"));
    assert!(matches!(
        client.wait(0, Duration::from_millis(1)).await,
        Err(ClientError::Replaced | ClientError::Server { .. })
    ));
}

#[tokio::test]
async fn a_restarted_node_is_found_again_and_what_waited_is_sent() {
    let a = start("a", &[]).await;
    let addr = a.client_addr().unwrap();
    let client = connect(&[&a]).await;
    client.set("k", "v").await.unwrap();
    a.shutdown().await;
    drop(a);
    until("the end is noticed", || client.connected_to().is_none()).await;
    let waiting = tokio::spawn({
        let client = client.clone();
        async move { client.call(&[b"SET", b"waited", b"1", b"NX"]).await }
    });
    until("the request waits", || client.requests_in_flight() == 1).await;
    let a = loop {
        // The port may be taken by a connection of another test for a moment.
        match Node::start(Config { client: Some(addr), ..config("a", &[]) }).await {
            Ok(node) => break node,
            Err(_) => tokio::task::yield_now().await,
        }
    };
    assert_eq!(waiting.await.unwrap().unwrap(), Frame::Simple("OK".into()));
    assert_eq!(client.get("k").await.unwrap(), None, "a node alone restarts empty");
    assert_eq!(get(&a, b"waited").as_deref(), Some(&b"1"[..]));
}

/// A proxy that passes requests on and can hold all replies back.
struct Deaf {
    addr: SocketAddr,
    holding: Arc<AtomicBool>,
}

impl Deaf {
    async fn new(target: SocketAddr) -> Deaf {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let addr = listener.local_addr().unwrap();
        let holding = Arc::new(AtomicBool::new(false));
        let held = Arc::clone(&holding);
        tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                let server = TcpStream::connect(target).await.unwrap();
                let (mut from_client, mut to_client) = client.into_split();
                let (mut from_server, mut to_server) = server.into_split();
                tokio::spawn(async move { tokio::io::copy(&mut from_client, &mut to_server).await });
                let held = Arc::clone(&held);
                tokio::spawn(async move {
                    let mut buffer = vec![0; 1 << 16];
                    while let Ok(len @ 1..) = from_server.read(&mut buffer).await {
                        if !held.load(Ordering::Relaxed) && to_client.write_all(&buffer[..len]).await.is_err()
                        {
                            break;
                        }
                    }
                });
            }
        });
        Deaf { addr, holding }
    }
}

#[tokio::test]
async fn a_request_that_timed_out_is_reported_as_possibly_applied_and_not_repeated() {
    let node = start("a", &[]).await;
    let proxy = Deaf::new(node.client_addr().unwrap()).await;
    let patient = ClientOptions { request_timeout: Duration::from_millis(300), ..options() };
    let client = Client::connect_with([proxy.addr.to_string()], patient).await.unwrap();
    assert_eq!(client.incr("k").await.unwrap(), 1);
    proxy.holding.store(true, Ordering::Relaxed);
    let error = client.incr("k").await.unwrap_err();
    assert!(error.may_be_applied(), "{error}");
    proxy.holding.store(false, Ordering::Relaxed);
    until_async("the client is connected again", async || client.get("k").await.is_ok()).await;
    assert_eq!((calls(&node, "incr").await, get(&node, b"k")), (2, Some(b"2".to_vec())));
}

async fn until_async(what: &str, mut condition: impl AsyncFnMut() -> bool) {
    let started = tokio::time::Instant::now();
    while !condition().await {
        assert!(started.elapsed() < DEADLINE, "not within {DEADLINE:?}: {what}");
        tokio::task::yield_now().await;
    }
}

/// Each task drops requests at whatever point they have got to, among others that are awaited.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn requests_dropped_at_any_point_do_not_disturb_the_others() {
    let node = start("a", &[]).await;
    let addr = node.client_addr().unwrap().to_string();
    let tight = ClientOptions { max_requests_in_flight: 7, ..options() };
    let client = Client::connect_with([addr], tight).await.unwrap();
    let dropped = Arc::new(AtomicUsize::new(0));
    let tasks: Vec<_> = (0..32_usize)
        .map(|task| {
            let (client, dropped) = (client.clone(), Arc::clone(&dropped));
            tokio::spawn(async move {
                for round in 0..200_usize {
                    let text = format!("{task}:{round}");
                    let args: &[&[u8]] = &[b"ECHO", text.as_bytes()];
                    let mut request = Box::pin(client.call(args));
                    let mut polls = (task * 31 + round * 17) % 5;
                    let reply = std::future::poll_fn(|cx| match request.as_mut().poll(cx) {
                        std::task::Poll::Pending if polls == 0 => std::task::Poll::Ready(None),
                        std::task::Poll::Pending => {
                            polls -= 1;
                            std::task::Poll::Pending
                        }
                        ready => ready.map(Some),
                    })
                    .await;
                    match reply {
                        Some(reply) => assert_eq!(reply.unwrap(), Frame::Bulk(text.clone().into())),
                        None => drop(dropped.fetch_add(1, Ordering::Relaxed)),
                    }
                    assert!(client.requests_in_flight() <= 7);
                }
            })
        })
        .collect();
    for task in tasks {
        task.await.unwrap();
    }
    assert!(dropped.load(Ordering::Relaxed) > 1_000);
    until("the last replies are counted off", || client.requests_in_flight() == 0).await;
    assert_eq!(client.call(&[b"ECHO", b"still in step"]).await.unwrap(), Frame::Bulk("still in step".into()));
}

#[tokio::test]
async fn a_slow_reader_of_large_values_does_not_lock_up() {
    let node = start("a", &[]).await;
    let addr = node.client_addr().unwrap().to_string();
    let client = Client::connect_with([addr], ClientOptions { max_bytes_in_flight: 4 << 20, ..options() });
    let client = client.await.unwrap();
    let value = vec![7_u8; 1 << 20];
    let tasks: Vec<_> = (0..48)
        .map(|task| {
            let (client, value) = (client.clone(), value.clone());
            tokio::spawn(async move {
                client.set(format!("large:{task}"), &value).await.unwrap();
                client.get(format!("large:{task}")).await.unwrap().map(|value| value.len())
            })
        })
        .collect();
    for task in tasks {
        assert_eq!(task.await.unwrap(), Some(1 << 20));
    }
}

#[test]
fn the_blocking_client_serves_threads() {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    let node = runtime.block_on(start("a", &[]));
    let client =
        blocking::Client::connect_with([node.client_addr().unwrap().to_string()], options()).unwrap();
    std::thread::scope(|scope| {
        for thread in 0..8 {
            let client = client.clone();
            scope.spawn(move || {
                for round in 0..50 {
                    let (key, value) = (format!("key:{thread}"), format!("{thread}:{round}"));
                    client.set(&key, &value).unwrap();
                    assert_eq!(client.get_string(&key).unwrap(), Some(value));
                }
            });
        }
    });
    let keys: Result<Vec<_>, _> = client.scan("key:*").collect();
    assert_eq!(keys.unwrap().len(), 8);
    assert_eq!(client.mget(["key:0", "nope"]).unwrap(), [Some("0:49".into()), None]);
    assert_eq!(client.connected_to(), Some(node.client_addr().unwrap().to_string()));
    // Dropping it where blocking is forbidden is fine.
    runtime.block_on(async { drop(client) });
    runtime.block_on(node.shutdown());
}

#[tokio::test]
async fn a_subscription_receives_what_is_published_once_it_has_begun() {
    let a = start("a", &[]).await;
    let b = start("b", &[a.peer_addr()]).await;
    until("linked", || linked(&a) == 1 && linked(&b) == 1).await;
    let (there, here) = (connect(&[&a]).await, connect(&[&b]).await);
    let mut exact = there.subscribe(["news"]).await.unwrap();
    let mut matching = there.subscribe_matching(["n*"]).await.unwrap();
    here.publish("news", "hello").await.unwrap();
    let message = exact.next().await.unwrap().unwrap();
    assert_eq!(
        (&message.channel[..], message.pattern, &message.payload[..]),
        (&b"news"[..], None, &b"hello"[..])
    );
    assert_eq!(matching.next().await.unwrap().unwrap().pattern.as_deref(), Some(&b"n*"[..]));
}

#[tokio::test]
async fn who_holds_a_write_and_when_another_node_does() {
    let a = start("a", &[]).await;
    let b = start("b", &[a.peer_addr()]).await;
    until("linked", || linked(&a) == 1 && linked(&b) == 1).await;
    let (on_a, on_b) = (connect(&[&a]).await, connect(&[&b]).await);
    on_a.set("k", "v").await.unwrap();
    let token = on_a.token().await.unwrap();
    assert!(on_b.ready(&token, DEADLINE).await.unwrap());
    assert_eq!(on_b.get_string("k").await.unwrap().as_deref(), Some("v"));
    on_a.set("k", "w").await.unwrap();
    assert_eq!(on_a.wait(1, DEADLINE).await.unwrap(), 1);
    assert_eq!(get(&b, b"k").as_deref(), Some(&b"w"[..]));
    // No second peer will ever hold it; for ever is not meant by no time at all.
    on_a.set("k", "x").await.unwrap();
    assert!(on_a.wait(2, Duration::ZERO).await.unwrap() <= 1);
}

/// A watch, and what one who believes it holds.
struct Watched {
    watch: Watch,
    held: BTreeMap<String, String>,
}

impl Watched {
    async fn start(client: &Client) -> Watched {
        let mut watched = Watched { watch: client.watch(["k"]), held: BTreeMap::new() };
        assert_eq!(watched.next().await, WatchEvent::Reset(ResetReason::Start));
        assert!(matches!(watched.next().await, WatchEvent::Live { .. }));
        watched
    }

    async fn next(&mut self) -> WatchEvent {
        let next = tokio::time::timeout(DEADLINE, self.watch.next());
        let event = next.await.expect("an event comes").unwrap().unwrap();
        let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
        match &event {
            WatchEvent::Reset(_) => self.held.clear(),
            WatchEvent::Entry(item) | WatchEvent::Change { item, .. } => match &item.value {
                Some(value) => _ = self.held.insert(text(&item.key), text(value)),
                None => _ = self.held.remove(&text(&item.key)),
            },
            _ => {}
        }
        event
    }

    /// Reads until what is held is `held`.
    async fn until(&mut self, held: &[(&str, &str)]) {
        let held = held.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect();
        while self.held != held {
            self.next().await;
        }
    }
}

#[tokio::test]
async fn a_watch_goes_over_to_another_node_with_a_reset_and_sees_the_last_write() {
    let a = start("a", &[]).await;
    let b = start("b", &[a.peer_addr()]).await;
    until("linked", || linked(&a) == 1 && linked(&b) == 1).await;
    let client = connect(&[&a, &b]).await;
    let mut watched = Watched::start(&client).await;
    client.set("k:1", "first").await.unwrap();
    watched.until(&[("k:1", "first")]).await;
    set(&a, b"k:2", b"last");
    a.shutdown().await;
    let reset = loop {
        match watched.next().await {
            WatchEvent::Reset(reason) => break reason,
            WatchEvent::Change { item, .. } => assert_eq!(item.key, "k:2"),
            other => panic!("{other:?}"),
        }
    };
    assert_eq!(reset, ResetReason::OtherNode);
    while !matches!(watched.next().await, WatchEvent::Live { .. }) {}
    watched.until(&[("k:1", "first"), ("k:2", "last")]).await;
    write(&b, b"k:3", Write::Add(1));
    watched.until(&[("k:1", "first"), ("k:2", "last"), ("k:3", "1")]).await;
}

#[tokio::test]
async fn a_watch_whose_connection_is_killed_goes_on_where_it_was() {
    let node = start("a", &[]).await;
    let mut watched = Watched::start(&connect(&[&node]).await).await;
    set(&node, b"k:1", b"before");
    watched.until(&[("k:1", "before")]).await;
    let other = connect(&[&node]).await;
    let Frame::Int(killed) = other.call(&[b"CLIENT", b"KILL", b"SKIPME", b"yes"]).await.unwrap() else {
        panic!("the killed are counted")
    };
    assert!(killed >= 1);
    set(&node, b"k:1", b"meanwhile");
    other.set("k:2", "too").await.unwrap();
    other.delete("k:1").await.unwrap();
    // One change may still have come on the old connection: nothing is missed, and nothing begins anew.
    while watched.held != BTreeMap::from([("k:2".into(), "too".into())]) {
        let event = watched.next().await;
        assert!(matches!(event, WatchEvent::Live { .. } | WatchEvent::Change { .. }), "{event:?}");
    }
    // A connection that had not broken would have proved nothing.
    until_async("the watch was asked for twice", async || calls(&node, "sapwood|watch").await == 2).await;
}
