//! What nodes do at `--max-memory` with a policy that evicts.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use rand::rngs::StdRng;
use rand::{Rng as _, SeedableRng as _};
use sapwood::Node;
use sapwood::config::{Config, EvictionPolicy};
use sapwood::internal::Internals as _;
use tokio::io::AsyncReadExt as _;
use tokio::net::TcpStream;

use crate::raw_client::Client;
use crate::support::node_process::request;
use crate::support::{config, linked, until, until_equal};

const MAX_MEMORY: u64 = 1 << 20;
/// The bytes of a cell with a key of eight bytes and [`value`].
const CELL: u64 = 54 + 8 + 200;
const OOM: &str = "-OOM command not allowed when used memory > 'maxmemory'.\r\n";

fn value() -> String {
    "v".repeat(200)
}

fn evicting(name: &str, join: &[&Node], policy: EvictionPolicy) -> Config {
    let join: Vec<_> = join.iter().map(|node| node.peer_addr()).collect();
    Config {
        max_memory: Some(MAX_MEMORY),
        max_memory_policy: policy,
        max_key: 1 << 10,
        max_value: 700 << 10,
        enable_scripts: cfg!(feature = "scripts"),
        ..config(name, &join)
    }
}

async fn start(name: &str, join: &[&Node], policy: EvictionPolicy) -> Node {
    Node::start(evicting(name, join, policy)).await.unwrap()
}

async fn client(node: &Node) -> Client {
    Client(TcpStream::connect(node.client_addr().unwrap()).await.unwrap())
}

/// Sets keys `from` to `to`, forty in each pipeline; no reply is an error.
async fn fill(client: &mut Client, keys: std::ops::Range<u64>, options: &str) {
    let all: Vec<u64> = keys.collect();
    for part in all.chunks(40) {
        let requests: String = part.iter().map(|n| format!("SET {n:08} {}{options}\r\n", value())).collect();
        client.send(requests).await;
        client.expect("+OK\r\n".repeat(part.len())).await;
    }
}

/// A number of `INFO`.
async fn info(client: &mut Client, field: &str) -> u64 {
    let all = client.reply("INFO").await;
    let found = all.lines().find_map(|line| line.strip_prefix(field)?.strip_prefix(':'));
    found.unwrap_or_else(|| panic!("no {field} in {all}")).trim().parse().unwrap()
}

/// Clients of three nodes write three times what one node may hold, each its own keys.
///
/// The goal: no write is refused, each node stays within its limit, the nodes end up equal, and together they evict what
/// was added and not three times that.
async fn three_nodes_take_three_times_what_they_hold(policy: EvictionPolicy, options: &'static str) {
    let a = start("a", &[], policy).await;
    let b = start("b", &[&a], policy).await;
    let c = start("c", &[&a], policy).await;
    let nodes = [&a, &b, &c];
    for node in nodes {
        until("all are linked", || linked(node) == 2).await;
    }
    let each = MAX_MEMORY / CELL;
    let mut clients = Vec::new();
    for (n, node) in (0..).zip(nodes) {
        let mut client = client(node).await;
        clients.push(tokio::spawn(async move { fill(&mut client, n * each..(n + 1) * each, options).await }));
    }
    let peak = AtomicU64::new(0);
    until("all is written", || {
        nodes.iter().for_each(|node| _ = peak.fetch_max(node.store().memory(), Ordering::Relaxed));
        clients.iter().all(|client| client.is_finished())
    })
    .await;
    for client in clients {
        client.await.unwrap();
    }
    until_equal(&nodes).await;
    // What writes on several nodes left above the mark is evicted in the background.
    until("each is within its limit", || nodes.iter().all(|node| node.store().memory() <= MAX_MEMORY)).await;
    until_equal(&nodes).await;
    let kept = a.store().totals().live_cells;
    let (added, evicted) =
        (3 * each - kept, nodes.iter().map(|node| node.store().evicted_keys()).sum::<u64>());
    let peak = peak.into_inner();
    println!(
        "{policy}: {kept} of {} keys kept, {added} had to go, {evicted} evicted, peak {peak} B",
        3 * each
    );
    assert!(kept > each * 8 / 10, "{kept} of {each} keys kept");
    assert!(evicted >= added && evicted < added * 2, "{evicted} evicted of {added}");
    for node in nodes {
        node.shutdown().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nodes_under_writes_of_all_their_clients_evict_once_what_was_added_by_lru() {
    three_nodes_take_three_times_what_they_hold(EvictionPolicy::AllKeysLru, "").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nodes_under_writes_of_all_their_clients_evict_once_what_was_added_by_lfu() {
    three_nodes_take_three_times_what_they_hold(EvictionPolicy::AllKeysLfu, "").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nodes_under_writes_of_all_their_clients_evict_once_what_was_added_by_ttl() {
    three_nodes_take_three_times_what_they_hold(EvictionPolicy::VolatileTtl, " EX 1000").await;
}

#[tokio::test]
async fn a_node_that_only_its_peers_grow_makes_room_too() {
    let large =
        Config { max_memory: Some(10 * MAX_MEMORY), ..evicting("a", &[], EvictionPolicy::AllKeysLru) };
    let a = Node::start(large).await.unwrap();
    let b = start("b", &[&a], EvictionPolicy::AllKeysLru).await;
    until("they are linked", || linked(&b) == 1).await;
    fill(&mut client(&a).await, 0..MAX_MEMORY / CELL * 3 / 2, "").await;
    until("b is within its limit, and a deletes the same keys", || {
        b.store().memory() <= MAX_MEMORY && a.store().totals() == b.store().totals()
    })
    .await;
    assert!(a.store().evicted_keys() == 0 && b.store().evicted_keys() > 0);
}

/// Sends a request that is too long for one line.
async fn send(client: &mut Client, args: &[&str], reply: &str) {
    let args: Vec<&[u8]> = args.iter().map(|arg| arg.as_bytes()).collect();
    client.send(request(&args)).await;
    client.expect(reply).await;
}

/// A request with twenty keys that begin with `name`, each followed by `value` if there is one.
fn with_keys(command: &[&str], name: &str, value: Option<&str>) -> Vec<String> {
    let keys =
        (0..20).flat_map(|n| [Some(format!("{name}:{n}")), value.map(str::to_owned)].into_iter().flatten());
    command.iter().map(|&word| word.to_owned()).chain(keys).collect()
}

/// Each of two nodes is full of keys that the other has not, and then they meet: both cannot be kept.
#[tokio::test]
async fn nodes_that_were_full_of_different_keys_when_they_met_converge() {
    let (a, b) = (
        start("a", &[], EvictionPolicy::AllKeysLru).await,
        start("b", &[], EvictionPolicy::AllKeysLru).await,
    );
    fill(&mut client(&a).await, 0..MAX_MEMORY / CELL, "").await;
    fill(&mut client(&b).await, 100_000..100_000 + MAX_MEMORY / CELL, "").await;
    let started = std::time::Instant::now();
    let c = start("c", &[&a, &b], EvictionPolicy::AllKeysLru).await;
    let nodes = [&a, &b, &c];
    until("all are linked", || nodes.iter().all(|node| linked(node) == 2)).await;
    until("each is within its limit, and all are equal", || {
        let totals = nodes.map(|node| node.store().totals());
        nodes.iter().all(|node| node.store().memory() <= MAX_MEMORY)
            && totals[1..].iter().all(|it| *it == totals[0])
    })
    .await;
    let kept = a.store().totals().live_cells;
    println!("{kept} keys kept after {:?}", started.elapsed());
    assert!(kept * CELL > MAX_MEMORY / 2, "{kept} keys kept");
}

#[tokio::test]
async fn whatever_a_client_sends_to_a_full_node_is_executed() {
    let node = start("a", &[], EvictionPolicy::AllKeysLru).await;
    let mut client = client(&node).await;
    fill(&mut client, 0..MAX_MEMORY / CELL, "").await;
    client.ask("SET dumped 1", "+OK\r\n").await;
    client.send("DUMP dumped\r\n").await;
    client.expect("$13\r\n").await;
    let mut payload = [0; 15];
    client.0.read_exact(&mut payload).await.unwrap();
    let mut rng = StdRng::seed_from_u64(7);
    for n in 0..30 {
        let (value, large) = ("x".repeat(rng.random_range(1..5_000)), "y".repeat(30_000));
        let key = |name: &str| format!("{name}{n}");
        client.ask(&format!("SET {} {value}", key("set")), "+OK\r\n").await;
        client.ask(&format!("APPEND {} {value}", key("append")), &format!(":{}\r\n", value.len())).await;
        client.ask(&format!("SETRANGE {} 200000 z", key("range")), ":200001\r\n").await;
        client.ask(&format!("SETBIT {} 80000 1", key("bit")), ":0\r\n").await;
        client.ask(&format!("INCR {}", key("counter")), ":1\r\n").await;
        // All keys that were written within one tick of the LRU clock, 4 ms, are equally old: the source may be gone.
        let copied = client.reply(&format!("COPY {} {}", key("range"), key("copy"))).await;
        assert!([":0\r\n", ":1\r\n"].contains(&copied.as_str()), "{copied}");
        client.ask(&format!("GETSET {} {value}", key("getset")), "$-1\r\n").await;
        client.send(request(&[b"RESTORE", key("restored").as_bytes(), b"0", &payload[..13]])).await;
        client.expect("+OK\r\n").await;
        for (command, name, value, reply) in [
            (&["MSET"][..], "many", &value, "+OK\r\n"),
            (&["MSETNX"], "new", &value, ":1\r\n"),
            (&["MSET"], "large", &large, "+OK\r\n"),
        ] {
            let request = with_keys(command, &key(name), Some(value));
            send(&mut client, &request.iter().map(String::as_str).collect::<Vec<_>>(), reply).await;
        }
        client.ask("MULTI", "+OK\r\n").await;
        for m in 0..20 {
            client.ask(&format!("SET {}:{m} {large}", key("exec")), "+QUEUED\r\n").await;
        }
        client.ask("EXEC", &format!("*20\r\n{}", "+OK\r\n".repeat(20))).await;
        if cfg!(feature = "scripts") {
            let script = "for i = 1, #KEYS do redis.call('SET', KEYS[i], ARGV[1]) end return #KEYS";
            let mut request = with_keys(&["EVAL", script, "20"], &key("script"), None);
            request.push(value);
            send(&mut client, &request.iter().map(String::as_str).collect::<Vec<_>>(), ":20\r\n").await;
        }
        assert!(node.store().memory() <= MAX_MEMORY, "after {n} rounds");
    }
    let failed = client.reply("INFO commandstats").await;
    let failed =
        failed.lines().find(|line| line.starts_with("cmdstat_") && !line.ends_with("failed_calls=0"));
    assert_eq!(failed, None, "what is tried again has not failed");
}

#[tokio::test]
async fn a_value_that_needs_the_room_of_thousands_of_keys_gets_it_while_others_are_served() {
    let node = start("a", &[], EvictionPolicy::AllKeysLru).await;
    let mut filling = client(&node).await;
    fill(&mut filling, 0..MAX_MEMORY / CELL * 2, "").await;
    let (mut large, mut other) = (client(&node).await, client(&node).await);
    let value = "x".repeat(600 << 10);
    let set = String::from_utf8(request(&[b"SET", b"large", value.as_bytes()])).unwrap();
    let pings = large.pings_before_the_reply(&mut other, set.trim_end()).await;
    large.expect("+OK\r\n").await;
    assert!(pings > 1, "it makes room in steps: {pings} pings were answered meanwhile");
    large.ask("STRLEN large", &format!(":{}\r\n", value.len())).await;
    // Before a transaction begins, and without its locks.
    fill(&mut filling, 0..MAX_MEMORY / CELL, "").await;
    large.ask("MULTI", "+OK\r\n").await;
    large.ask("DEL 00000001", "+QUEUED\r\n").await;
    send(&mut large, &["SET", "larger", &value], "+QUEUED\r\n").await;
    let reply = large.reply("EXEC").await;
    assert!(reply.starts_with("*2\r\n:") && reply.ends_with("+OK\r\n"), "{reply}");
    large.ask("EXISTS larger", ":1\r\n").await;
    assert!(node.store().memory() <= MAX_MEMORY);
}

#[tokio::test]
async fn what_is_read_stays_and_tools_see_when_and_how_often() {
    for policy in [EvictionPolicy::AllKeysLru, EvictionPolicy::AllKeysLfu] {
        let node = start("a", &[], policy).await;
        let mut client = client(&node).await;
        client.ask("MSET hot1 1 hot2 2 hot3 3", "+OK\r\n").await;
        let mut written = 0;
        while node.store().evicted_keys() < 5_000 {
            fill(&mut client, written..written + 200, "").await;
            written += 200;
            client.ask("GET hot1", "$1\r\n1\r\n").await;
            client.ask("TOUCH hot2", ":1\r\n").await;
            client.ask("MULTI", "+OK\r\n").await;
            client.ask("GET hot3", "+QUEUED\r\n").await;
            client.ask("EXEC", "*1\r\n$1\r\n3\r\n").await;
        }
        let shown = format!("*2\r\n$16\r\nmaxmemory-policy\r\n${}\r\n{policy}\r\n", policy.as_str().len());
        client.ask("CONFIG GET maxmemory-policy", &shown).await;
        assert!(client.reply("INFO memory").await.contains(&format!("maxmemory_policy:{policy}\r\n")));
        assert_eq!(info(&mut client, "evicted_keys").await, node.store().evicted_keys());
        assert_eq!(info(&mut client, "maxmemory_policy_bytes").await, MAX_MEMORY / 32);
        let (idle, freq) =
            (client.reply("OBJECT IDLETIME hot1").await, client.reply("OBJECT FREQ hot1").await);
        if policy == EvictionPolicy::AllKeysLru {
            assert!(idle == ":0\r\n" && freq.starts_with("-ERR An LFU maxmemory policy is not selected"));
        } else {
            assert!(idle.starts_with("-ERR An LFU maxmemory policy is selected"), "{idle}");
            let freq: u32 = freq.trim().trim_start_matches(':').parse().unwrap();
            assert!((6..50).contains(&freq), "{freq}");
        }
        // Of reads that are no access, only TOUCH is one.
        let rank = async |client: &mut Client| {
            let idle = client.reply("OBJECT IDLETIME 00000000").await;
            let freq = client.reply("OBJECT FREQ 00000000").await;
            format!("{idle}{freq}")
        };
        client.ask("SET 00000000 v", "+OK\r\n").await;
        client.ask("CLIENT NO-TOUCH on", "+OK\r\n").await;
        assert!(client.reply("CLIENT INFO").await.contains("flags=T"));
        let before = rank(&mut client).await;
        for _ in 0..20 {
            client.ask("GET 00000000", "$1\r\nv\r\n").await;
            client.ask("EXISTS 00000000", ":1\r\n").await;
        }
        if policy == EvictionPolicy::AllKeysLfu {
            assert_eq!(rank(&mut client).await, before);
            for _ in 0..20 {
                client.ask("TOUCH 00000000", ":1\r\n").await;
            }
            assert_ne!(rank(&mut client).await, before);
        }
        client.ask("OBJECT FREQ absent", "$-1\r\n").await;
        client.ask("OBJECT IDLETIME absent", "$-1\r\n").await;
        node.shutdown().await;
    }
}

#[tokio::test]
async fn the_node_that_evicts_publishes_evicted_and_the_others_del() {
    let a = start("a", &[], EvictionPolicy::VolatileTtl).await;
    let b = start("b", &[&a], EvictionPolicy::VolatileTtl).await;
    until("they are linked", || linked(&a) == 1 && linked(&b) == 1).await;
    let (mut writer, mut here, mut there) = (client(&a).await, client(&a).await, client(&b).await);
    writer.ask("CONFIG SET notify-keyspace-events Ee", "+OK\r\n").await;
    there.ask("CONFIG SET notify-keyspace-events Eg", "+OK\r\n").await;
    let subscribed = "*3\r\n$9\r\nsubscribe\r\n$23\r\n__keyevent@0__:";
    here.ask(
        "SUBSCRIBE __keyevent@0__:evicted",
        &format!("{}evicted\r\n:1\r\n", subscribed.replace("23", "22")),
    )
    .await;
    there
        .ask("SUBSCRIBE __keyevent@0__:del", &format!("{}del\r\n:1\r\n", subscribed.replace("23", "18")))
        .await;
    // The only key that can be evicted.
    writer.ask("SET victim v EX 1000", "+OK\r\n").await;
    let mut n = 0;
    while a.store().evicted_keys() == 0 {
        fill(&mut writer, n..n + 1, "").await;
        n += 1;
    }
    here.expect("*3\r\n$7\r\nmessage\r\n$22\r\n__keyevent@0__:evicted\r\n$6\r\nvictim\r\n").await;
    there.expect("*3\r\n$7\r\nmessage\r\n$18\r\n__keyevent@0__:del\r\n$6\r\nvictim\r\n").await;
    // Nothing else can: up to the limit, and no further.
    let full = loop {
        let reply = writer.reply(&format!("SET {n:08} {}", value())).await;
        n += 1;
        if reply != "+OK\r\n" {
            break reply;
        }
    };
    assert_eq!(full, OOM);
    assert!(a.store().memory() + CELL > MAX_MEMORY);
    writer.ask("DEL 00000001", ":1\r\n").await;
    writer.ask(&format!("SET 00000001 {}", value()), "+OK\r\n").await;
}

#[tokio::test]
async fn an_embedded_node_evicts_as_well() {
    let builder = Node::builder().name("a").configure(|config| {
        (config.max_key, config.max_value) = (1 << 10, 700 << 10);
    });
    let builder = builder.max_memory(MAX_MEMORY).max_memory_policy(EvictionPolicy::AllKeysLru);
    let node = builder.start().await.unwrap();
    for n in 0..3 * MAX_MEMORY / CELL {
        node.set(format!("{n:08}"), value()).unwrap();
        if n % 100 == 0 {
            // Reads are recorded by the clock of the last write.
            node.get(format!("{:08}", 7));
            tokio::time::timeout(Duration::from_secs(1), tokio::task::yield_now()).await.unwrap();
        }
    }
    assert!(node.get(format!("{:08}", 7)).is_some());
    assert!(node.store().memory() <= MAX_MEMORY && node.store().evicted_keys() > 0);
}
