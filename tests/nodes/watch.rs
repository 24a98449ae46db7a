//! `SAPWOOD WATCH` over TCP, on one node and between nodes.

use std::collections::BTreeMap;
use std::net::SocketAddr;

use sapwood::Deadline;
use sapwood::client::resp::Frame;
use sapwood::client::{ClientError, Connection, Options};
use sapwood::internal::Internals as _;
use sapwood::internal::store::Write;
use tokio::io::AsyncReadExt as _;
use tokio::time::timeout;

use crate::raw_client::{Client, PATIENCE, TestServer};
use crate::support::{delete, set, start, three, until_equal, write};

/// One message, its parts as text: `nil` for none.
type Message = Vec<String>;

struct Watch {
    connection: Connection,
    /// What a client that believes every message holds, and the timestamp of each key.
    held: BTreeMap<String, String>,
    timestamps: BTreeMap<String, (u64, String)>,
    cursor: String,
}

impl Watch {
    async fn start(address: SocketAddr, words: &str, resp3: bool) -> Watch {
        let options = Options { resp3, timeout: PATIENCE, ..Options::default() };
        let mut connection = Connection::connect(&address.to_string(), options).await.unwrap();
        let request: Vec<&[u8]> =
            ["SAPWOOD", "WATCH"].into_iter().chain(words.split(' ')).map(str::as_bytes).collect();
        connection.stream(&request).await.unwrap();
        Watch { connection, held: BTreeMap::new(), timestamps: BTreeMap::new(), cursor: String::new() }
    }

    async fn next(&mut self) -> Message {
        let frame = timeout(PATIENCE, self.connection.receive()).await.expect("a message comes").unwrap();
        let (Frame::Push(parts) | Frame::Array(parts)) = frame else { panic!("{frame:?}") };
        let text = |part: &Frame| match part {
            Frame::Bulk(bytes) => String::from_utf8(bytes.to_vec()).unwrap(),
            Frame::Int(number) => number.to_string(),
            Frame::Null => "nil".into(),
            other => panic!("{other:?}"),
        };
        let message: Message = parts.iter().map(text).collect();
        assert_eq!(message[0], "watch");
        self.apply(&message);
        message[1..].to_vec()
    }

    fn apply(&mut self, message: &[String]) {
        let (key, value, time, origin) = match message[1].as_str() {
            "reset" => {
                self.held.clear();
                self.timestamps.clear();
                return;
            }
            "live" => {
                self.cursor = message[2].clone();
                return;
            }
            "entry" => (&message[2], &message[3], &message[5], &message[6]),
            "change" => {
                self.cursor = message[8].clone();
                (&message[3], &message[4], &message[6], &message[7])
            }
            _ => return,
        };
        let timestamp = (time.parse().unwrap(), origin.clone());
        let before = self.timestamps.insert(key.clone(), timestamp.clone());
        assert!(before.is_none_or(|before| before.0 <= timestamp.0), "{message:?}");
        if value == "nil" {
            self.held.remove(key);
        } else {
            self.held.insert(key.clone(), value.clone());
        }
    }

    /// The next message, less time, origin and cursor.
    async fn next_line(&mut self) -> String {
        let mut message = self.next().await;
        match message[0].as_str() {
            "live" => message.truncate(1),
            "entry" => message.truncate(4),
            "change" => message.truncate(5),
            _ => {}
        }
        message.join(" ")
    }

    async fn expect(&mut self, messages: &[&str]) {
        for message in messages {
            assert_eq!(self.next_line().await, *message);
        }
    }

    async fn until(&mut self, condition: impl Fn(&Watch) -> bool) {
        while !condition(self) {
            self.next().await;
        }
    }
}

#[tokio::test]
async fn the_snapshot_comes_first_and_then_every_change_with_its_cause() {
    let server = TestServer::start().await;
    let mut client = server.client().await;
    client.ask("MSET a:1 one b:1 other", "+OK\r\n").await;
    client.ask("SET a:2 two PXAT 4000000000000", "+OK\r\n").await;
    for resp3 in [false, true] {
        let mut watch = Watch::start(server.address, "a:", resp3).await;
        watch.expect(&["reset start"]).await;
        let mut entries = [watch.next_line().await, watch.next_line().await];
        entries.sort();
        assert_eq!(entries, ["entry a:1 one -1", "entry a:2 two 4000000000000"]);
        watch.expect(&["live"]).await;
        for (request, reply, message) in [
            ("SET a:3 three", "+OK\r\n", "change set a:3 three -1"),
            ("SET b:2 unseen", "+OK\r\n", ""),
            ("PEXPIREAT a:3 4000000001000", ":1\r\n", "change expire a:3 three 4000000001000"),
            ("PERSIST a:3", ":1\r\n", "change persist a:3 three -1"),
            ("DEL a:3", ":1\r\n", "change del a:3 nil -1"),
            ("DEL a:3", ":0\r\n", ""),
        ] {
            client.ask(request, reply).await;
            if !message.is_empty() {
                watch.expect(&[message]).await;
            }
        }
    }
}

/// Reads until what has come is as it should be.
async fn until(client: &mut Client, mut condition: impl FnMut(&str) -> bool) -> String {
    let mut text = String::new();
    while !condition(&text) {
        let byte = timeout(PATIENCE, client.0.read_u8()).await;
        text.push(char::from(byte.unwrap_or_else(|_| panic!("no more came after {text}")).unwrap()));
    }
    text
}

#[tokio::test]
async fn messages_have_their_golden_bytes() {
    let server = TestServer::start().await;
    let mut client = server.client().await;
    for (hello, push, null) in [("HELLO 2", '*', "$-1"), ("HELLO 3", '>', "_")] {
        let mut watch = server.client().await;
        watch.reply(hello).await;
        watch.send("SAPWOOD WATCH k\r\n").await;
        watch.expect(format!("{push}3\r\n$5\r\nwatch\r\n$5\r\nreset\r\n$5\r\nstart\r\n")).await;
        watch.expect(format!("{push}3\r\n$5\r\nwatch\r\n$4\r\nlive\r\n$")).await;
        client.reply("SET k v").await;
        client.reply("DEL k").await;
        // The rest of the cursor, 18 lines and 17.
        let bytes = until(&mut watch, |text| text.matches("\r\n").count() == 2 + 18 + 17).await;
        let (_, changes) = bytes.split_once(&format!("{push}9\r\n")).unwrap();
        assert!(
            changes.starts_with(
                "$5\r\nwatch\r\n$6\r\nchange\r\n$3\r\nset\r\n$1\r\nk\r\n$1\r\nv\r\n:-1\r\n$19\r\n"
            )
        );
        let deleted = format!(
            "{push}9\r\n$5\r\nwatch\r\n$6\r\nchange\r\n$3\r\ndel\r\n$1\r\nk\r\n{null}\r\n:-1\r\n$19\r\n"
        );
        assert!(changes.contains(&deleted), "{changes}");
    }
}

#[tokio::test]
async fn a_connection_watches_once_and_in_resp2_does_little_else() {
    let server = TestServer::start().await;
    let mut client = server.client().await;
    client.ask("SAPWOOD UNWATCH", "+OK\r\n").await;
    for (request, error) in [
        ("SAPWOOD WATCH", "-ERR wrong number of arguments for 'sapwood|watch' command\r\n"),
        ("SAPWOOD WATCH a FROM here", "-ERR a cursor is an incarnation, a dash and a number\r\n"),
        (
            &format!("SAPWOOD WATCH{}", " a".repeat(65)),
            "-ERR more than 64 prefixes, or 65536 bytes of them\r\n",
        ),
    ] {
        client.ask(request, error).await;
    }
    let again = "-ERR this connection watches already: SAPWOOD UNWATCH ends it\r\n";
    client.send("SAPWOOD WATCH a\r\n").await;
    client
        .expect("*3\r\n$5\r\nwatch\r\n$5\r\nreset\r\n$5\r\nstart\r\n*3\r\n$5\r\nwatch\r\n$4\r\nlive\r\n$")
        .await;
    let reply = client.reply("SAPWOOD WATCH b\r\nGET k\r\nPING\r\nSAPWOOD UNWATCH\r\nGET k").await;
    let (_, replies) =
        reply.split_once('-').map(|(cursor, rest)| (cursor, rest.split_once("\r\n").unwrap().1)).unwrap();
    let refused = "-ERR Can't execute 'get': only (P|S)SUBSCRIBE / (P|S)UNSUBSCRIBE / PING / QUIT / RESET are allowed in \
                   this context\r\n";
    assert_eq!(replies, format!("{again}{refused}*2\r\n$4\r\npong\r\n$0\r\n\r\n+OK\r\n$-1\r\n"));
    client.reply("SET a 1").await;
    client.ask("GET a", "$1\r\n1\r\n").await;
}

#[tokio::test]
async fn in_resp3_a_watching_connection_goes_on_with_its_commands() {
    let server = TestServer::start().await;
    let mut client = server.client().await;
    client.reply("HELLO 3").await;
    client.send("SAPWOOD WATCH a\r\n").await;
    client.expect(">3\r\n$5\r\nwatch\r\n$5\r\nreset\r\n").await;
    client.send("SET a:1 one\r\n").await;
    // The reply may come before what the watch sends, or after it.
    until(&mut client, |text| {
        text.contains("+OK\r\n")
            && text.contains("change")
            && text.contains("live")
            && text.ends_with("-2\r\n")
    })
    .await;
    assert!(client.reply("RESET").await.contains("+RESET\r\n"));
    client.ask("SET a:2 two", "+OK\r\n").await;
    client.ask("GET a:2", "$3\r\ntwo\r\n").await;
}

#[tokio::test]
async fn what_is_written_deleted_or_expires_elsewhere_is_watched_here() {
    let [a, b, c] = three().await;
    set(&a, b"a:old", b"1");
    until_equal(&[&a, &b, &c]).await;
    let mut watch = Watch::start(b.client_addr().unwrap(), "a:", true).await;
    watch.expect(&["reset start", "entry a:old 1 -1", "live"]).await;
    set(&a, b"a:new", b"2");
    watch.expect(&["change set a:new 2 -1"]).await;
    delete(&c, b"a:old");
    watch.expect(&["change del a:old nil -1"]).await;
    let soon = Deadline::from_unix_millis(now().as_unix_millis() + 300);
    write(&c, b"a:new", Write::Deadline(Some(soon)));
    assert!(watch.next_line().await.starts_with("change expire a:new 2 "));
    watch.expect(&["change expired a:new nil -1"]).await;
    assert!(watch.held.is_empty());
}

#[tokio::test]
async fn a_counter_is_shown_in_digits_whoever_counts() {
    let [a, b, c] = three().await;
    write(&a, b"a:n", Write::Add(40));
    until_equal(&[&a, &b, &c]).await;
    let mut watch = Watch::start(b.client_addr().unwrap(), "a:", true).await;
    watch.expect(&["reset start", "entry a:n 40 -1", "live"]).await;
    write(&a, b"a:n", Write::Add(1));
    watch.expect(&["change counter a:n 41 -1"]).await;
    write(&c, b"a:n", Write::Add(-2));
    watch.expect(&["change counter a:n 39 -1"]).await;
    write(&b, b"a:n", Write::Add(3));
    watch.expect(&["change counter a:n 42 -1"]).await;
    until_equal(&[&a, &b, &c]).await;
    delete(&c, b"a:n");
    watch.expect(&["change del a:n nil -1"]).await;
    write(&a, b"a:new", Write::Add(-7));
    watch.expect(&["change counter a:new -7 -1"]).await;
    let soon = Deadline::from_unix_millis(now().as_unix_millis() + 300);
    write(&a, b"a:new", Write::Deadline(Some(soon)));
    assert!(watch.next_line().await.starts_with("change expire a:new -7 "));
    watch.expect(&["change expired a:new nil -1"]).await;
}

fn now() -> sapwood::internal::model::Time {
    sapwood::internal::env::Env::wall_clock(&sapwood::internal::env::SystemEnv)
}

#[tokio::test]
async fn after_a_disconnect_the_cursor_misses_nothing_and_on_another_node_there_is_a_reset() {
    let [a, b, c] = three().await;
    let mut watch = Watch::start(a.client_addr().unwrap(), "a:", true).await;
    watch.expect(&["reset start", "live"]).await;
    set(&a, b"a:1", b"1");
    watch.expect(&["change set a:1 1 -1"]).await;
    let cursor = watch.cursor.clone();
    drop(watch);
    set(&b, b"a:1", b"2");
    until_equal(&[&a, &b, &c]).await;
    set(&a, b"a:2", b"3");
    let mut watch = Watch::start(a.client_addr().unwrap(), &format!("a: FROM {cursor}"), true).await;
    watch.expect(&["live", "change set a:1 2 -1", "change set a:2 3 -1"]).await;
    until_equal(&[&a, &b, &c]).await;
    let mut elsewhere =
        Watch::start(c.client_addr().unwrap(), &format!("a: FROM {}", watch.cursor), true).await;
    elsewhere.expect(&["reset other-node"]).await;
    elsewhere.until(|watch| !watch.cursor.is_empty()).await;
    assert_eq!(elsewhere.held, watch_of(&[("a:1", "2"), ("a:2", "3")]));
}

fn watch_of(held: &[(&str, &str)]) -> BTreeMap<String, String> {
    held.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect()
}

/// Watchers that read nothing while far more is written than any buffer takes: all the same each ends with the last value
/// of every key, learns that others were left out, and is never reset.
#[tokio::test]
async fn a_watcher_that_does_not_read_ends_with_the_last_values() {
    const KEYS: usize = 50;
    const ROUNDS: usize = 400;
    let node = start("a", &[]).await;
    let address = node.client_addr().unwrap();
    let mut watches = Vec::new();
    for n in 0..20 {
        let mut watch = Watch::start(address, "k", n % 2 == 0).await;
        watch.expect(&["reset start", "live"]).await;
        watches.push(watch);
    }
    let padding = "x".repeat(1000);
    let mut last = BTreeMap::new();
    for round in 0..ROUNDS {
        for key in 0..KEYS {
            let (key, value) = (format!("k{key}"), format!("{round}{padding}"));
            set(&node, key.as_bytes(), value.as_bytes());
            last.insert(key, value);
        }
        tokio::task::yield_now().await;
    }
    for watch in &mut watches {
        let mut skipped = 0;
        while watch.held != last {
            let message = watch.next().await;
            assert_ne!(message[0], "reset");
            skipped += if message[0] == "skipped" { message[1].parse::<u64>().unwrap() } else { 0 };
        }
        assert!(skipped > 0);
    }
}

#[tokio::test]
async fn info_counts_the_connections_that_watch() {
    let server = TestServer::start().await;
    let (mut client, mut watcher) = (server.client().await, server.client().await);
    let mut count = async |expected: &str| {
        let info = client.reply("INFO clients").await;
        assert!(info.contains(&format!("watching_clients:{expected}\r\n")), "{info}");
    };
    count("0").await;
    watcher.send("SAPWOOD WATCH a\r\n").await;
    until(&mut watcher, |text| text.contains("live")).await;
    count("1").await;
    watcher.send("SAPWOOD UNWATCH\r\n").await;
    until(&mut watcher, |text| text.ends_with("+OK\r\n")).await;
    count("0").await;
}

#[tokio::test]
async fn a_stopping_node_ends_its_watches() {
    let server = TestServer::start().await;
    let mut watch = Watch::start(server.address, "a", true).await;
    watch.expect(&["reset start", "live"]).await;
    server.stop.cancel();
    let end = timeout(PATIENCE, watch.connection.receive()).await.unwrap();
    assert!(matches!(end, Err(ClientError::Closed | ClientError::Io(_))));
    server.stopped().await;
}

/// Returns time and origin of the last write of `k`, as in the reply of `SAPWOOD META`.
async fn timestamp_in_meta(connection: &mut Connection) -> (String, String) {
    let fields = connection.call(&[b"SAPWOOD", b"META", b"k"]).await.unwrap();
    let (Frame::Map(pairs), text) = (fields, |frame: &Frame| match frame {
        Frame::Bulk(bytes) => String::from_utf8(bytes.to_vec()).unwrap(),
        other => panic!("{other:?}"),
    }) else {
        panic!("META is a map");
    };
    let field =
        |name: &str| pairs.iter().find(|(key, _)| text(key) == name).map(|(_, value)| text(value)).unwrap();
    (field("timestamp"), field("origin"))
}

#[tokio::test]
async fn watch_meta_and_the_copy_of_a_key_show_the_same_last_write_on_every_node() {
    let nodes = three().await;
    let mut connections = Vec::new();
    for node in &nodes {
        let options = Options { resp3: true, timeout: PATIENCE, ..Options::default() };
        connections
            .push(Connection::connect(&node.client_addr().unwrap().to_string(), options).await.unwrap());
    }
    let mut before: Option<(String, String)> = None;
    // Each with the node that writes, and whether it is a write of the value.
    let writes: [(usize, &[&[u8]], bool); 9] = [
        (0, &[b"SET", b"k", b"5"], true),
        (1, &[b"INCR", b"k"], true),
        (2, &[b"EXPIRE", b"k", b"1000"], false),
        (0, &[b"INCRBY", b"k", b"-2"], true),
        (1, &[b"PERSIST", b"k"], false),
        (2, &[b"DEL", b"k"], true),
        (1, &[b"INCR", b"k"], true),
        (0, &[b"EXPIRE", b"k", b"1000"], false),
        (2, &[b"SET", b"k", b"text"], true),
    ];
    for (writer, command, is_write) in writes {
        let mut watches = Vec::new();
        for node in &nodes {
            let mut watch = Watch::start(node.client_addr().unwrap(), "k", true).await;
            watch.until(|watch| !watch.cursor.is_empty()).await;
            let entry = watch.timestamps.get("k").map(|(time, origin)| (time.to_string(), origin.clone()));
            // What was deleted is in no snapshot.
            assert!(entry.is_none() || entry == before, "{entry:?} {before:?}");
            watches.push(watch);
        }
        connections[writer].call(command).await.unwrap();
        let mut timestamps = Vec::new();
        for ((node, connection), watch) in nodes.iter().zip(&mut connections).zip(&mut watches) {
            let watched = loop {
                let message = watch.next().await;
                if message[0] == "change" {
                    break (message[5].clone(), message[6].clone());
                }
            };
            let meta = timestamp_in_meta(connection).await;
            let copy =
                node.store().copy(b"k", sapwood::internal::model::timestamp::ZERO, 0).timestamp.unwrap();
            assert_eq!(watched, meta, "{command:?}");
            assert_eq!(
                meta,
                (copy.time().as_ntp64().to_string(), copy.incarnation().to_string()),
                "{command:?}"
            );
            timestamps.push(meta);
        }
        assert!(timestamps.windows(2).all(|pair| pair[0] == pair[1]), "{command:?}: {timestamps:?}");
        let timestamp = timestamps.pop().unwrap();
        if is_write {
            assert_eq!(timestamp.1, nodes[writer].cluster().token().incarnation.to_string(), "{command:?}");
        } else {
            assert_eq!(Some(&timestamp), before.as_ref(), "{command:?} is no write of the value");
        }
        before = Some(timestamp);
    }
}
