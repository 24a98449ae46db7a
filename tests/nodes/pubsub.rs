//! Publish and subscribe over TCP, byte for byte as redis-server 7.0.15 answers.

use tokio::io::AsyncReadExt as _;
use tokio::net::TcpStream;
use tokio::time::timeout;

use crate::raw_client::{Client, PATIENCE, TestServer};
use crate::support::{linked, start, until};

/// A message or confirmation; `>` or `*` begins it, and a part that is a number is one.
fn push(kind: char, parts: &[&str]) -> String {
    let part = |part: &&str| match part.parse::<u32>() {
        Ok(number) => format!(":{number}\r\n"),
        Err(_) => bulk(part),
    };
    format!("{kind}{}\r\n{}", parts.len(), parts.iter().map(part).collect::<String>())
}

fn bulk(text: &str) -> String {
    format!("${}\r\n{text}\r\n", text.len())
}

fn refused(command: &str) -> String {
    format!(
        "-ERR Can't execute '{command}': only (P|S)SUBSCRIBE / (P|S)UNSUBSCRIBE / PING / QUIT / RESET are allowed in \
         this context\r\n"
    )
}

/// Waits until the node has nobody subscribed to `channel`.
async fn until_deserted(client: &mut Client, channel: &str) {
    let deserted = format!("*2\r\n{}:0\r\n", bulk(channel));
    let wait = async { while client.reply(&format!("PUBSUB NUMSUB {channel}")).await != deserted {} };
    timeout(PATIENCE, wait).await.expect("the subscription ends");
}

#[tokio::test]
async fn in_resp2_a_subscribed_connection_takes_few_commands() {
    let server = TestServer::start().await;
    let mut client = server.client().await;
    let confirmed = |parts: &[&str]| push('*', parts);
    let subscribed = ["x", "y", "x"].iter().zip(["1", "2", "2"]);
    let subscribed: String = subscribed.map(|(name, n)| confirmed(&["subscribe", name, n])).collect();
    client.ask("SUBSCRIBE x y x", &subscribed).await;
    for (request, reply) in [
        ("GET k", refused("get")),
        ("PUBLISH x 1", refused("publish")),
        ("client list", refused("client|list")),
        ("PUBSUB CHANNELS", refused("pubsub|channels")),
        ("HELLO 3", refused("hello")),
        ("PING", "*2\r\n$4\r\npong\r\n$0\r\n\r\n".into()),
        ("PING hi", "*2\r\n$4\r\npong\r\n$2\r\nhi\r\n".into()),
        ("PING a b", "-ERR wrong number of arguments for 'ping' command\r\n".into()),
        ("GET", "-ERR wrong number of arguments for 'get' command\r\n".into()),
        ("foo", "-ERR unknown command 'foo', with args beginning with: \r\n".into()),
        ("SUBSCRIBE", "-ERR wrong number of arguments for 'subscribe' command\r\n".into()),
        ("UNSUBSCRIBE z", confirmed(&["unsubscribe", "z", "2"])),
        ("PSUBSCRIBE *y", confirmed(&["psubscribe", "*y", "3"])),
        ("UNSUBSCRIBE", confirmed(&["unsubscribe", "x", "2"]) + &confirmed(&["unsubscribe", "y", "1"])),
        ("UNSUBSCRIBE", "*3\r\n$11\r\nunsubscribe\r\n$-1\r\n:1\r\n".into()),
        ("GET k", refused("get")),
        ("PUNSUBSCRIBE", confirmed(&["punsubscribe", "*y", "0"])),
        ("PUNSUBSCRIBE", "*3\r\n$12\r\npunsubscribe\r\n$-1\r\n:0\r\n".into()),
        ("GET k", "$-1\r\n".into()),
        ("SUBSCRIBE x", confirmed(&["subscribe", "x", "1"])),
        ("RESET", "+RESET\r\n".into()),
        ("PUBLISH x 1", ":0\r\n".into()),
        ("SUBSCRIBE x", confirmed(&["subscribe", "x", "1"])),
        ("QUIT", "+OK\r\n".into()),
    ] {
        client.ask(request, &reply).await;
    }
    assert_eq!(client.rest().await, b"");
}

#[tokio::test]
async fn in_resp3_messages_are_pushes_between_the_replies_to_any_command() {
    let server = TestServer::start().await;
    let mut client = server.client().await;
    client.reply("HELLO 3").await;
    let pushed = |parts: &[&str]| push('>', parts);
    let delivered = |message: &str| {
        pushed(&["message", "s", message])
            + &pushed(&["pmessage", "?", "s", message])
            + &pushed(&["pmessage", "s*", "s", message])
    };
    let both = pushed(&["psubscribe", "s*", "2"]) + &pushed(&["psubscribe", "?", "3"]);
    for (request, reply) in [
        ("SUBSCRIBE s", pushed(&["subscribe", "s", "1"])),
        ("PSUBSCRIBE s* ?", both),
        ("PUBLISH s msg", delivered("msg") + ":3\r\n"),
        ("PING", "+PONG\r\n".into()),
        ("PING a", "$1\r\na\r\n".into()),
        ("SET k v", "+OK\r\n".into()),
        ("PUBSUB NUMSUB s t", "*4\r\n$1\r\ns\r\n:1\r\n$1\r\nt\r\n:0\r\n".into()),
        ("PUBSUB NUMSUB", "*0\r\n".into()),
        ("PUBSUB NUMPAT", ":2\r\n".into()),
        ("PUBSUB CHANNELS", "*1\r\n$1\r\ns\r\n".into()),
        ("PUBSUB CHANNELS t*", "*0\r\n".into()),
        ("PUBSUB CHANNELS [r-t]", "*1\r\n$1\r\ns\r\n".into()),
        ("CLIENT REPLY OFF", String::new()),
        ("PUBLISH s m2", delivered("m2")),
        ("SUBSCRIBE u", pushed(&["subscribe", "u", "4"])),
        ("UNSUBSCRIBE u", pushed(&["unsubscribe", "u", "3"])),
        ("CLIENT REPLY ON", "+OK\r\n".into()),
        ("CLIENT REPLY SKIP", String::new()),
        ("SUBSCRIBE v", pushed(&["subscribe", "v", "4"])),
        ("PING", "+PONG\r\n".into()),
        ("UNSUBSCRIBE w", pushed(&["unsubscribe", "w", "4"])),
        (
            "PUNSUBSCRIBE s* nothing",
            pushed(&["punsubscribe", "s*", "3"]) + &pushed(&["punsubscribe", "nothing", "3"]),
        ),
    ] {
        client.ask(request, &reply).await;
    }
}

#[tokio::test]
async fn a_message_is_in_each_listeners_own_dialect() {
    let server = TestServer::start().await;
    let (mut old, mut new, mut other) = (server.client().await, server.client().await, server.client().await);
    new.reply("HELLO 3").await;
    old.ask("SUBSCRIBE c", &push('*', &["subscribe", "c", "1"])).await;
    new.ask("SUBSCRIBE c", &push('>', &["subscribe", "c", "1"])).await;
    other.ask("PUBLISH c hello", ":2\r\n").await;
    old.expect(push('*', &["message", "c", "hello"])).await;
    new.expect(push('>', &["message", "c", "hello"])).await;
    let binary: Vec<u8> = (0..=255).chain(*b"\r\n").collect();
    other.send([&b"*3\r\n$7\r\nPUBLISH\r\n$1\r\nc\r\n$258\r\n"[..], &binary, b"\r\n"].concat()).await;
    other.expect(":2\r\n").await;
    old.expect([&b"*3\r\n$7\r\nmessage\r\n$1\r\nc\r\n$258\r\n"[..], &binary, b"\r\n"].concat()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_message_comes_before_the_first_confirmation_or_after_the_last() {
    let server = TestServer::start().await;
    let mut publisher = server.client().await;
    let publishing = tokio::spawn(async move {
        loop {
            publisher.send("PUBLISH c m\r\n".repeat(50)).await;
            let mut replies = vec![0; 50 * 4];
            publisher.0.read_exact(&mut replies).await.unwrap();
        }
    });
    let mut client = server.client().await;
    let mut received = 0;
    while received < 200 {
        let mut bytes = Vec::new();
        for (request, end) in
            [("SUBSCRIBE c", &b"m\r\n"[..]), ("UNSUBSCRIBE c\r\nECHO end", b"$3\r\nend\r\n")]
        {
            client.send(format!("{request}\r\n")).await;
            while !bytes.ends_with(end) {
                assert!(timeout(PATIENCE, client.0.read_buf(&mut bytes)).await.unwrap().unwrap() > 0);
            }
        }
        let text = String::from_utf8(bytes).unwrap();
        let inside = text.strip_prefix(&push('*', &["subscribe", "c", "1"])).expect(&text);
        let inside = inside.strip_suffix("$3\r\nend\r\n").unwrap();
        let inside = inside.strip_suffix(&push('*', &["unsubscribe", "c", "0"])).expect(&text);
        received += inside.matches("message").count();
    }
    publishing.abort();
}

#[tokio::test]
async fn a_listener_that_leaves_is_forgotten_and_one_that_does_not_read_is_cut_off() {
    let server = TestServer::start().await;
    let (mut leaver, mut deaf, mut client) =
        (server.client().await, server.client().await, server.client().await);
    leaver.ask("SUBSCRIBE c", &push('*', &["subscribe", "c", "1"])).await;
    client.ask("PUBLISH c x", ":1\r\n").await;
    drop(leaver);
    until_deserted(&mut client, "c").await;

    deaf.ask("SUBSCRIBE c", &push('*', &["subscribe", "c", "1"])).await;
    let message = format!("*3\r\n$7\r\nPUBLISH\r\n$1\r\nc\r\n{}", bulk(&"m".repeat(1 << 20)));
    let cut_off = async {
        let mut reply = *b":1\r\n";
        while reply == *b":1\r\n" {
            client.send(&message).await;
            client.0.read_exact(&mut reply).await.unwrap();
        }
        assert_eq!(reply, *b":0\r\n");
    };
    timeout(PATIENCE, cut_off).await.expect("the deaf listener is cut off");
    until_deserted(&mut client, "c").await;
    assert!(client.reply("INFO stats").await.contains("client_output_buffer_limit_disconnections:1\r\n"));
}

#[tokio::test]
async fn client_list_shows_who_listens() {
    let server = TestServer::start().await;
    let (mut listener, mut client) = (server.client().await, server.client().await);
    listener.ask("SUBSCRIBE a", &push('*', &["subscribe", "a", "1"])).await;
    listener.ask("PSUBSCRIBE b*", &push('*', &["psubscribe", "b*", "2"])).await;
    let list = client.reply("CLIENT LIST TYPE pubsub").await;
    assert!(list.contains(" flags=P db=0 sub=1 psub=1 ssub=0 ") && list.contains("id=1 "), "{list}");
    let list = client.reply("CLIENT LIST TYPE normal").await;
    assert!(list.contains(" flags=N db=0 sub=0 psub=0 ") && list.contains("id=2 "), "{list}");
    let info = client.reply("INFO").await;
    for line in ["pubsub_clients:1", "pubsub_channels:1", "pubsub_patterns:1"] {
        assert!(info.contains(line), "{line}");
    }
    client.ask("CLIENT KILL TYPE pubsub", ":1\r\n").await;
    assert_eq!(listener.rest().await, b"");
    until_deserted(&mut client, "a").await;
}

#[tokio::test]
async fn what_is_published_goes_to_the_peers_and_what_peers_publish_is_delivered_here_alone() {
    let server = TestServer::start().await;
    let (mut listener, mut client) = (server.client().await, server.client().await);
    listener.ask("PSUBSCRIBE *", &push('*', &["psubscribe", "*", "1"])).await;
    client.ask("PUBLISH c mine", ":1\r\n").await;
    listener.expect(push('*', &["pmessage", "*", "c", "mine"])).await;
    server.subscribers.deliver(b"c", b"theirs");
    listener.expect(push('*', &["pmessage", "*", "c", "theirs"])).await;
    assert_eq!(*server.calls.lock().unwrap(), ["publish c mine"]);
}

#[tokio::test]
async fn what_is_over_a_limit_is_refused_whole() {
    let server = TestServer::start().await;
    let mut client = server.client().await;
    let long = "p".repeat(1025);
    client.ask(&format!("PSUBSCRIBE a {long}"), "-ERR pattern is longer than 1024 bytes\r\n").await;
    client.ask(&format!("PUBSUB CHANNELS {long}"), "-ERR pattern is longer than 1024 bytes\r\n").await;
    let long = bulk(&"c".repeat((128 << 10) + 1));
    client.send(format!("*3\r\n$7\r\nPUBLISH\r\n{long}$1\r\nm\r\n")).await;
    client.expect("-ERR channel is longer than 131072 bytes\r\n").await;
    client.send(format!("*3\r\n$9\r\nSUBSCRIBE\r\n$1\r\na\r\n{long}")).await;
    client.expect("-ERR channel is longer than 131072 bytes\r\n").await;
    let many: String = (0..=65_536).map(|n| bulk(&n.to_string())).collect();
    client.send(format!("*65538\r\n$9\r\nSUBSCRIBE\r\n{many}")).await;
    client.expect("-ERR a connection has at most 65536 subscriptions\r\n").await;
    client.ask("PUBSUB CHANNELS", "*0\r\n").await;
    for command in ["SSUBSCRIBE", "SPUBLISH"] {
        let why = "there are no shards. SUBSCRIBE and PUBLISH reach every node";
        client.ask(&format!("{command} c m"), &format!("-UNSUPPORTED {command}: {why}\r\n")).await;
    }
}

/// Reads messages of a subscriber to patterns up to one with this channel and text; returns all, a line each.
async fn events(client: &mut Client, last: &str) -> Vec<String> {
    let mut seen = Vec::new();
    while seen.last().is_none_or(|event| event != last) {
        let mut parts = Vec::new();
        assert_eq!(line(client).await, "*4");
        for _ in 0..4 {
            line(client).await;
            parts.push(line(client).await);
        }
        seen.push(format!("{} {}", parts[2].replace("__", ""), parts[3]));
    }
    seen
}

async fn line(client: &mut Client) -> String {
    let mut bytes = Vec::new();
    while !bytes.ends_with(b"\r\n") {
        bytes.push(timeout(PATIENCE, client.0.read_u8()).await.expect("a line comes").expect("open"));
    }
    String::from_utf8_lossy(&bytes[..bytes.len() - 2]).into_owned()
}

/// The expected lists were taken from redis-server 7.0.15.
#[tokio::test]
async fn keyspace_events_are_those_of_redis() {
    let server = TestServer::start().await;
    let (mut listener, mut client) = (server.client().await, server.client().await);
    listener.ask("PSUBSCRIBE __key*", &push('*', &["psubscribe", "__key*", "1"])).await;
    client.ask("SET before 1", "+OK\r\n").await;
    client.ask("CONFIG SET notify-keyspace-events KEAn", "+OK\r\n").await;
    client.ask("CONFIG GET notify*", "*2\r\n$22\r\nnotify-keyspace-events\r\n$4\r\nAnKE\r\n").await;
    for (request, expected) in [
        ("SET k 1", &["new k", "set k"][..]),
        ("SET k 2", &["set k"]),
        ("SET k 2 EX 100", &["set k", "expire k"]),
        ("SET k 3 KEEPTTL", &["set k"]),
        ("SET k 4 EX 200", &["set k", "expire k"]),
        ("EXPIRE k 50", &["expire k"]),
        ("PERSIST k", &["persist k"]),
        ("GETEX k EX 9", &["expire k"]),
        ("GETDEL k", &["del k"]),
        ("DEL k", &[]),
        ("MSET a 1 b 2", &["new a", "set a", "new b", "set b"]),
        ("DEL a b", &["del a", "del b"]),
        ("SETNX a 1", &["new a", "set a"]),
        ("EXPIRE a -1", &["del a"]),
        ("SET a 1 PX 20", &["new a", "set a", "expire a", "expired a"]),
    ] {
        client.send(format!("{request}\r\n")).await;
        let mut wanted = Vec::new();
        for event in expected {
            let (event, key) = event.split_once(' ').unwrap();
            wanted.push(format!("keyspace@0:{key} {event}"));
            wanted.push(format!("keyevent@0:{event} {key}"));
        }
        if let Some(last) = wanted.last() {
            if request.contains("PX") {
                while client.reply("DBSIZE").await.ends_with(":2\r\n") {}
                // Sweeps what has expired, as a node does every so often.
                client.reply("SAPWOOD DIGEST").await;
            }
            assert_eq!(events(&mut listener, last).await, wanted, "{request}");
        }
    }
    // A counter that nobody has set is as new as any key.
    for (request, expected) in [
        ("INCR n", &["new n", "incrby n"][..]),
        ("INCRBY n 5", &["incrby n"]),
        ("DECR n", &["incrby n"]),
        ("EXPIRE n 50", &["expire n"]),
        ("INCR n", &["incrby n"]),
        ("PERSIST n", &["persist n"]),
        ("DEL n", &["del n"]),
        ("DECRBY n 5", &["new n", "incrby n"]),
        ("SET n 7", &["set n"]),
        ("INCR n", &["incrby n"]),
        ("GETDEL n", &["del n"]),
        ("INCR n", &["new n", "incrby n"]),
        ("PEXPIRE n 20", &["expire n", "expired n"]),
        ("INCR n", &["new n", "incrby n"]),
    ] {
        client.send(format!("{request}\r\n")).await;
        let both = |event: &&str| {
            let (event, key) = event.split_once(' ').unwrap();
            [format!("keyspace@0:{key} {event}"), format!("keyevent@0:{event} {key}")]
        };
        let wanted: Vec<String> = expected.iter().flat_map(both).collect();
        if request.contains("PEXPIRE") {
            while client.reply("DBSIZE").await.ends_with(":2\r\n") {}
            // Sweeps what has expired, as a node does every so often.
            client.reply("SAPWOOD DIGEST").await;
        }
        assert_eq!(events(&mut listener, wanted.last().unwrap()).await, wanted, "{request}");
    }
    client.reply("CONFIG SET notify-keyspace-events Kx").await;
    client.reply("SET a 1").await;
    client.reply("CONFIG SET notify-keyspace-events Eg").await;
    client.reply("DEL a").await;
    assert_eq!(events(&mut listener, "keyevent@0:del a").await, ["keyevent@0:del a"]);
    client.reply("CONFIG SET notify-keyspace-events \"\"").await;
    client.reply("SET a 1").await;
    client.reply("PUBLISH __keytest end").await;
    assert_eq!(events(&mut listener, "keytest end").await, ["keytest end"]);
    let refusal = "-ERR CONFIG SET failed (possibly related to argument 'notify-keyspace-events') - Invalid event class \
                   character. Use 'Ag$lshzxeKEtdn'.\r\n";
    client.reply("PING").await;
    client.ask("CONFIG SET notify-keyspace-events q", refusal).await;
}

/// What is counted elsewhere is published here like what is counted here.
#[tokio::test]
async fn keyspace_events_of_counters_come_from_every_node() {
    let a = start("a", &[]).await;
    let b = start("b", &[a.peer_addr()]).await;
    until("linked", || linked(&a) == 1 && linked(&b) == 1).await;
    let mut listener = Client(TcpStream::connect(a.client_addr().unwrap()).await.unwrap());
    let mut there = Client(TcpStream::connect(b.client_addr().unwrap()).await.unwrap());
    listener.reply("CONFIG SET notify-keyspace-events EAn").await;
    listener.ask("PSUBSCRIBE __key*", &push('*', &["psubscribe", "__key*", "1"])).await;
    for (request, reply, expected) in [
        ("INCR n", ":1\r\n", &["new", "incrby"][..]),
        ("INCR n", ":2\r\n", &["incrby"]),
        ("EXPIRE n 100", ":1\r\n", &["expire"]),
        ("DEL n", ":1\r\n", &["del"]),
        ("INCR n", ":1\r\n", &["new", "incrby"]),
        ("PEXPIRE n 50", ":1\r\n", &["expire", "expired"]),
    ] {
        there.ask(request, reply).await;
        let expected: Vec<String> = expected.iter().map(|event| format!("keyevent@0:{event} n")).collect();
        assert_eq!(events(&mut listener, expected.last().unwrap()).await, expected, "{request}");
    }
}

fn changed(key: &str) -> String {
    format!(">2\r\n$10\r\ninvalidate\r\n*1\r\n{}", bulk(key))
}

const ALL_CHANGED: &str = ">2\r\n$10\r\ninvalidate\r\n_\r\n";

/// What `CLIENT TRACKINGINFO` says in RESP3.
fn tracking_info(flags: &[&str], redirect: i64, prefixes: &[&str]) -> String {
    let list = |words: &[&str]| words.iter().map(|word| bulk(word)).collect::<String>();
    format!(
        "%3\r\n$5\r\nflags\r\n~{}\r\n{}$8\r\nredirect\r\n:{redirect}\r\n$8\r\nprefixes\r\n*{}\r\n{}",
        flags.len(),
        list(flags),
        prefixes.len(),
        list(prefixes)
    )
}

/// Replies and errors are those of redis-server 7.0.15.
#[tokio::test]
async fn tracking_is_switched_as_in_redis() {
    let server = TestServer::start().await;
    let mut client = server.client().await;
    client.ask("CLIENT TRACKING on", "+OK\r\n").await;
    client.ask("CLIENT TRACKING off", "+OK\r\n").await;
    client.reply("HELLO 3").await;
    let ok = || "+OK\r\n".to_owned();
    let error = |text: &str| format!("-ERR {text}\r\n");
    let switched = |what: &str| {
        error(&format!(
            "You can't switch {what} before disabling tracking for this client, and then re-enabling it with a \
             different mode."
        ))
    };
    let overlap = |what: &str| error(&format!("{what}. Prefixes for a single client must not overlap."));
    for (request, reply) in [
        ("TRACKINGINFO", tracking_info(&["off"], -1, &[])),
        ("GETREDIR", ":-1\r\n".into()),
        (
            "CACHING yes",
            error(
                "CLIENT CACHING can be called only when the client is in tracking mode with OPTIN or OPTOUT mode enabled",
            ),
        ),
        ("TRACKING ON BCAST OPTIN", error("OPTIN and OPTOUT are not compatible with BCAST")),
        ("TRACKING ON OPTIN OPTOUT", error("You can't specify both OPTIN mode and OPTOUT mode")),
        ("TRACKING ON PREFIX a", error("PREFIX option requires BCAST mode to be enabled")),
        ("TRACKING ON foo", error("syntax error")),
        ("TRACKING foo", error("syntax error")),
        ("TRACKING", error("wrong number of arguments for 'client|tracking' command")),
        (
            "TRACKING ON BCAST PREFIX ab PREFIX abc",
            overlap("Prefix 'ab' overlaps with another provided prefix 'abc'"),
        ),
        ("TRACKING ON BCAST PREFIX ab PREFIX cd", ok()),
        ("TRACKINGINFO", tracking_info(&["on", "bcast"], 0, &["ab", "cd"])),
        ("GETREDIR", ":0\r\n".into()),
        ("TRACKING ON", switched("BCAST mode on/off")),
        ("TRACKING ON BCAST PREFIX a", overlap("Prefix 'a' overlaps with an existing prefix 'ab'")),
        ("TRACKING OFF", ok()),
        ("TRACKING ON BCAST", ok()),
        ("TRACKINGINFO", tracking_info(&["on", "bcast"], 0, &[""])),
        ("TRACKING OFF", ok()),
        ("TRACKING ON OPTIN", ok()),
        ("CACHING no", error("CLIENT CACHING NO is only valid when tracking is enabled in OPTOUT mode.")),
        ("CACHING foo", error("syntax error")),
        ("CACHING yes", ok()),
        ("TRACKINGINFO", tracking_info(&["on", "optin", "caching-yes"], 0, &[])),
        ("TRACKING ON OPTOUT", switched("OPTIN/OPTOUT mode")),
        ("TRACKING OFF", ok()),
        ("TRACKING ON OPTOUT", ok()),
        ("CACHING yes", error("CLIENT CACHING YES is only valid when tracking is enabled in OPTIN mode.")),
        ("CACHING no", ok()),
        ("TRACKINGINFO", tracking_info(&["on", "optout", "caching-no"], 0, &[])),
        ("TRACKING OFF", ok()),
        ("TRACKING ON NOLOOP", ok()),
        ("TRACKINGINFO", tracking_info(&["on", "noloop"], 0, &[])),
    ] {
        client.ask(&format!("CLIENT {request}"), &reply).await;
    }
    assert!(client.reply("CLIENT LIST").await.contains(" flags=t "));
    assert!(client.reply("INFO clients").await.contains("tracking_clients:1\r\n"));
    for refused in ["REDIRECT 1", "BCAST NOLOOP"] {
        let reply = client.reply(&format!("CLIENT TRACKING ON {refused}")).await;
        assert!(reply.starts_with("-UNSUPPORTED CLIENT TRACKING "), "{reply}");
    }
    client.reply("HELLO 2").await;
    assert!(client.reply("INFO clients").await.contains("tracking_clients:1\r\n"));
    client.ask("RESET", "+RESET\r\n").await;
    assert!(client.reply("INFO clients").await.contains("tracking_clients:0\r\n"));
}

#[tokio::test]
async fn a_client_that_wants_no_loop_gets_invalidations_of_what_others_write_only() {
    let server = TestServer::start().await;
    let (mut tracker, mut writer) = (server.client().await, server.client().await);
    tracker.reply("HELLO 3").await;
    writer.ask("MSET a 1 b 1 c 1", "+OK\r\n").await;
    tracker.ask("CLIENT TRACKING on NOLOOP", "+OK\r\n").await;
    tracker.ask("MGET a b c", "*3\r\n$1\r\n1\r\n$1\r\n1\r\n$1\r\n1\r\n").await;
    tracker.ask("SET a 2", "+OK\r\n").await;
    tracker.ask("MULTI\r\nINCR b\r\nEXEC", "+OK\r\n+QUEUED\r\n*1\r\n:2\r\n").await;
    writer.ask("SET c 2", "+OK\r\n").await;
    // It comes after those of the tracker's own writes would have come.
    tracker.expect(">2\r\n$10\r\ninvalidate\r\n*1\r\n$1\r\nc\r\n").await;
    tracker.ask("GET a", "$1\r\n2\r\n").await;
    writer.ask("SET a 3", "+OK\r\n").await;
    tracker.expect(">2\r\n$10\r\ninvalidate\r\n*1\r\n$1\r\na\r\n").await;
}

#[tokio::test]
async fn a_tracking_client_is_notified_when_what_it_has_read_changes() {
    let server = TestServer::start().await;
    let (mut tracker, mut writer) = (server.client().await, server.client().await);
    tracker.reply("HELLO 3").await;
    writer.ask("MSET a 1 b 1 c 1", "+OK\r\n").await;
    tracker
        .ask("CLIENT TRACKING on\r\nMGET a b\r\nTTL none", "+OK\r\n*2\r\n$1\r\n1\r\n$1\r\n1\r\n:-2\r\n")
        .await;
    for (request, reply, expected) in [
        ("SET c 2", "+OK\r\n", None),
        ("SET a 2", "+OK\r\n", Some("a")),
        ("SET a 3", "+OK\r\n", None),
        ("SET none 1", "+OK\r\n", Some("none")),
        ("EXPIRE b 100", ":1\r\n", Some("b")),
        ("INCR c", ":3\r\n", None),
    ] {
        writer.ask(request, reply).await;
        if let Some(key) = expected {
            tracker.expect(changed(key)).await;
        }
    }
    // Its own writes are announced too, and after the replies.
    tracker.ask("GET a\r\nSET a 4\r\nPING", "$1\r\n3\r\n+OK\r\n+PONG\r\n").await;
    tracker.expect(changed("a")).await;
    tracker.ask("CLIENT TRACKING off\r\nGET a", "+OK\r\n$1\r\n4\r\n").await;
    tracker
        .ask(
            "CLIENT TRACKING on OPTIN\r\nGET a\r\nCLIENT CACHING yes\r\nGET b",
            "+OK\r\n$1\r\n4\r\n+OK\r\n$1\r\n1\r\n",
        )
        .await;
    writer.ask("DEL a b", ":2\r\n").await;
    tracker.expect(changed("b")).await;
    tracker.ask("CLIENT TRACKING off\r\nCLIENT TRACKING on OPTOUT", "+OK\r\n+OK\r\n").await;
    tracker.ask("GET a\r\nCLIENT CACHING no\r\nGET b", "_\r\n+OK\r\n_\r\n").await;
    writer.ask("MSET b 1 a 1", "+OK\r\n").await;
    tracker.expect(changed("a")).await;
    tracker.ask("CLIENT TRACKING off\r\nCLIENT TRACKING on\r\nGET a", "+OK\r\n+OK\r\n$1\r\n1\r\n").await;
    writer.ask("PEXPIRE a 1000", ":1\r\n").await;
    tracker.expect(changed("a")).await;
    tracker.ask("EXISTS a b", ":2\r\n").await;
    // Nothing sweeps in this server without a cluster; counting all keys does.
    while writer.reply("DBSIZE").await.ends_with(":4\r\n") {}
    // Sweeps what has expired, as a node does every so often.
    writer.reply("SAPWOOD DIGEST").await;
    tracker.expect(changed("a")).await;
    // A flush is one invalidation for all that was read.
    writer.ask("FLUSHALL", "+OK\r\n").await;
    tracker.expect(ALL_CHANGED).await;
    // In RESP2 nothing is sent, and tracking goes on.
    tracker.reply("HELLO 2").await;
    tracker.ask("GET a", "$-1\r\n").await;
    writer.ask("SET a 1\r\nGET a", "+OK\r\n$1\r\n1\r\n").await;
    tracker.ask("GET b\r\nPING", "$-1\r\n+PONG\r\n").await;
    tracker.reply("HELLO 3").await;
    writer.ask("SET b 1", "+OK\r\n").await;
    tracker.expect(changed("b")).await;
}

#[tokio::test]
async fn a_tracking_client_is_notified_when_a_counter_counts_expires_and_begins_anew() {
    let server = TestServer::start().await;
    let (mut tracker, mut writer) = (server.client().await, server.client().await);
    tracker.reply("HELLO 3").await;
    tracker.ask("CLIENT TRACKING on\r\nGET n", "+OK\r\n_\r\n").await;
    for (request, reply, read) in [
        ("INCR n", ":1\r\n", "$1\r\n1\r\n"),
        ("INCRBY n 4", ":5\r\n", "$1\r\n5\r\n"),
        ("EXPIRE n 100", ":1\r\n", "$1\r\n5\r\n"),
        ("DEL n", ":1\r\n", "_\r\n"),
        ("DECR n", ":-1\r\n", "$2\r\n-1\r\n"),
    ] {
        writer.ask(request, reply).await;
        tracker.expect(changed("n")).await;
        tracker.ask("GET n", read).await;
    }
    writer.ask("PEXPIRE n 1", ":1\r\n").await;
    tracker.expect(changed("n")).await;
}

#[tokio::test]
async fn a_client_that_tracks_prefixes_is_notified_of_every_change_under_them() {
    let server = TestServer::start().await;
    let (mut tracker, mut writer) = (server.client().await, server.client().await);
    tracker.reply("HELLO 3").await;
    tracker.ask("CLIENT TRACKING on BCAST PREFIX ab PREFIX cd", "+OK\r\n").await;
    writer.ask("MSET ab1 1 x 1 cd2 1 ab1 2", "+OK\r\n").await;
    tracker.expect(["ab1", "cd2", "ab1"].map(changed).concat()).await;
    tracker.ask("CLIENT REPLY off\r\nSET abc 1", &changed("abc")).await;
    drop(tracker);
    let gone = async { while !writer.reply("INFO clients").await.contains("tracking_clients:0\r\n") {} };
    timeout(PATIENCE, gone).await.expect("it is forgotten");
}

/// Two writers and a tracker that keeps a copy by the rules of a client-side cache: once all is quiet, the copy is right.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_copy_that_is_dropped_when_invalidated_is_never_stale() {
    let server = TestServer::start().await;
    let (mut tracker, mut writer) = (server.client().await, server.client().await);
    tracker.reply("HELLO 3").await;
    tracker.ask("CLIENT TRACKING on", "+OK\r\n").await;
    let writing = tokio::spawn(async move {
        for n in 0..20_000 {
            writer.ask(&format!("SET k {n}"), "+OK\r\n").await;
        }
    });
    let mut copy: Option<String> = None;
    let mut quiet = 0;
    while quiet < 200 {
        if copy.is_none() {
            tracker.send("GET k\r\n").await;
        }
        // A message is one line of `>2` and more; a reply is a bulk string or null.
        let anything = timeout(std::time::Duration::from_millis(5), tracker.0.peek(&mut [0])).await;
        if anything.is_err() {
            quiet += u32::from(writing.is_finished());
            continue;
        }
        match line(&mut tracker).await.as_str() {
            ">2" => {
                for _ in 0..5 {
                    line(&mut tracker).await;
                }
                (copy, quiet) = (None, 0);
            }
            "_" => copy = Some(String::new()),
            _ => copy = Some(line(&mut tracker).await),
        }
    }
    assert_eq!(copy.as_deref(), Some("19999"));
}

/// On one thread a command that does not give way is executed while nobody else is served: but for a ping or two on either
/// side of it none is answered before it.
const SOME: usize = 8;

#[tokio::test]
async fn ending_very_many_subscriptions_lets_other_clients_be_served() {
    const NAMES: usize = 60_000;
    let server = TestServer::start().await;
    let (mut client, mut other) = (server.client().await, server.client().await);
    let names: Vec<String> = (0..NAMES).map(|n| format!("{n:05}")).collect();
    let all: String = names.iter().map(|name| bulk(name)).collect();
    let confirmed = |word, count: fn(usize) -> usize| -> String {
        let each = names.iter().enumerate();
        each.map(|(n, name)| format!("*3\r\n{}{}:{}\r\n", bulk(word), bulk(name), count(n))).collect()
    };
    for (end, reply) in
        [("UNSUBSCRIBE", confirmed("unsubscribe", |n| NAMES - 1 - n)), ("RESET", "+RESET\r\n".to_owned())]
    {
        client.send(format!("*{}\r\n$9\r\nSUBSCRIBE\r\n{all}", NAMES + 1)).await;
        client.expect(confirmed("subscribe", |n| n + 1)).await;
        let pings = client.pings_before_the_reply(&mut other, end).await;
        client.expect(reply).await;
        assert!(pings >= SOME, "{pings} pings were answered before {end}");
        other.ask("PUBSUB CHANNELS", "*0\r\n").await;
    }
    // A client that leaves has its subscriptions ended the same way.
    client.send(format!("*{}\r\n$9\r\nSUBSCRIBE\r\n{all}", NAMES + 1)).await;
    client.expect(confirmed("subscribe", |n| n + 1)).await;
    drop(client);
    let last = names.last().unwrap();
    let subscribed = format!("*2\r\n{}:1\r\n", bulk(last));
    let mut asked = 0;
    while other.reply(&format!("PUBSUB NUMSUB {last}")).await == subscribed {
        asked += 1;
    }
    assert!(asked >= SOME, "{asked} requests were answered while the subscriptions ended");
    other.ask("PUBSUB CHANNELS", "*0\r\n").await;
}
