//! `WAIT`, `SAPWOOD WAITFOR` and tokens: whole nodes in one process, clients over TCP.

use std::sync::Arc;
use std::time::Duration;

use crate::support::*;
use sapwood::Node;
use sapwood::client::resp::Frame;
use sapwood::client::{ClientError, Connection, Options};
use sapwood::config::Config;
use tokio::task::JoinSet;
use tokio::time::{Instant, timeout};

/// A node whose links can be cut.
async fn faulty(name: &str, join: &[&Node], change: impl FnOnce(&mut Config)) -> Node {
    let join: Vec<_> = join.iter().map(|node| node.peer_addr()).collect();
    let mut config = Config { enable_faults: true, ..config(name, &join) };
    change(&mut config);
    Node::start(config).await.unwrap()
}

async fn three_faulty(change: impl Fn(&mut Config)) -> [Node; 3] {
    let a = faulty("a", &[], &change).await;
    let b = faulty("b", &[&a], &change).await;
    let c = faulty("c", &[&a, &b], &change).await;
    for node in [&a, &b, &c] {
        until("everyone is linked", || linked(node) == 2).await;
    }
    [a, b, c]
}

async fn connect(node: &Node) -> Connection {
    let options = Options { timeout: DEADLINE, ..Options::default() };
    Connection::connect(&node.client_addr().unwrap().to_string(), options).await.unwrap()
}

async fn call(connection: &mut Connection, request: &str) -> Frame {
    let args: Vec<_> = request.split(' ').map(str::as_bytes).collect();
    connection.call(&args).await.unwrap()
}

async fn wait(connection: &mut Connection, request: &str) -> i64 {
    match call(connection, request).await {
        Frame::Int(count) => count,
        other => panic!("{request}: {other:?}"),
    }
}

async fn names(connection: &mut Connection, request: &str) -> Vec<String> {
    let Frame::Array(names) = call(connection, request).await else { panic!("{request}") };
    names.iter().map(text).collect()
}

fn text(frame: &Frame) -> String {
    match frame {
        Frame::Bulk(bytes) => String::from_utf8(bytes.to_vec()).unwrap(),
        other => panic!("{other:?}"),
    }
}

async fn token(connection: &mut Connection) -> String {
    text(&call(connection, "SAPWOOD TOKEN").await)
}

async fn error(connection: &mut Connection, request: &str) -> String {
    let args: Vec<_> = request.split(' ').map(str::as_bytes).collect();
    match connection.call(&args).await {
        Err(ClientError::Server { code, message }) => format!("{code} {message}"),
        other => panic!("{request}: {other:?}"),
    }
}

#[tokio::test]
async fn wait_counts_the_peers_that_hold_all_and_no_more_while_one_is_cut_off() {
    let [a, _b, _c] = three_faulty(|_| ()).await;
    let mut client = connect(&a).await;
    let started = Instant::now();
    assert_eq!(wait(&mut client, "WAIT 9 0").await, 2, "nothing was written: no reason to wait");
    call(&mut client, "SET k v").await;
    assert_eq!(wait(&mut client, "WAIT 2 30000").await, 2);
    assert_eq!(names(&mut client, "SAPWOOD WAITFOR c,a,b 30000").await, ["c", "a", "b"]);
    assert!(started.elapsed() < DEADLINE);

    call(&mut client, "SAPWOOD CUT c").await;
    call(&mut client, "SET k w").await;
    assert_eq!(wait(&mut client, "WAIT 1 0").await, 1);
    assert_eq!(wait(&mut client, "WAIT 2 100").await, 1, "what c has not acknowledged counts");
    assert_eq!(names(&mut client, "SAPWOOD WAITFOR b 30000").await, ["b"]);
    assert_eq!(names(&mut client, "SAPWOOD WAITFOR b,c 100").await, ["b"]);
    call(&mut client, "SAPWOOD MEND c").await;
    assert_eq!(wait(&mut client, "WAIT 2 0").await, 2);
}

/// The property that matters most: what an overflow dropped is held only after a sync has brought it.
#[tokio::test(start_paused = true)]
async fn what_an_overflow_dropped_is_not_counted_before_a_sync_has_brought_it() {
    let [a, _b, c] = three_faulty(|config| {
        (config.max_key, config.max_value, config.peer_queue) = (256, 256, 2048);
    })
    .await;
    let mut client = connect(&a).await;
    for round in 0..5 {
        // c receives nothing, but its link stands for some seconds more.
        call(&mut client, "SAPWOOD CUT c OUT").await;
        let lost = format!("lost:{round}");
        call(&mut client, &format!("SET {lost} v")).await;
        for n in 0..50 {
            call(&mut client, &format!("SET fill:{n} {}", "x".repeat(200))).await;
        }
        let counted = wait(&mut client, "WAIT 2 50").await;
        assert!(counted < 2 || get(&c, lost.as_bytes()).is_some());
        call(&mut client, "SAPWOOD MEND c OUT").await;
        // The last of them arrives by a push at once; the first was dropped.
        call(&mut client, "SET last v").await;
        assert_eq!(wait(&mut client, "WAIT 2 0").await, 2);
        assert!(get(&c, lost.as_bytes()).is_some(), "counted, and c has never received it");
        assert_eq!(get(&c, b"last").as_deref(), Some(&b"v"[..]));
    }
}

/// A writer that never stops fills the queue again and again, so acknowledged pushes prove nothing. Each `WAIT` is
/// answered by a sync instead, which counts although pushes were lost while it ran.
#[tokio::test(flavor = "multi_thread")]
async fn waits_are_answered_by_syncs_while_the_queue_overflows_without_end() {
    const CLIENTS: usize = 8;
    const WAITS: usize = 5;
    const OVERFLOWS: u64 = 40;
    let small = |config: &mut Config| {
        (config.max_key, config.max_value, config.peer_queue) = (256, 256, 2048);
    };
    let a = Arc::new(faulty("a", &[], small).await);
    let b = Arc::new(faulty("b", &[&a], small).await);
    until("both are linked", || linked(&a) == 1 && linked(&b) == 1).await;
    let lost = |a: &Node| a.peers().iter().map(|peer| peer.overflows).sum::<u64>();
    let lost_before = lost(&a);
    let mut writer = connect(&a).await;
    let writer = tokio::spawn(async move {
        let value = "x".repeat(200);
        for n in (0..100).step_by(50).cycle() {
            let keys: Vec<_> = (n..n + 50).map(|n| format!("fill:{n}")).collect();
            let sets = keys.iter().map(|key| [b"SET", key.as_bytes(), value.as_bytes()]);
            let sets: Vec<_> = sets.collect();
            if writer.pipeline(sets.iter().map(|set| &set[..])).await.iter().any(Result::is_err) {
                // The node has ended, and the test with it.
                return;
            }
        }
    });
    until("the queue overflows", || lost(&a) > lost_before + 10).await;
    let mut clients = JoinSet::new();
    for client in 0..CLIENTS {
        let (mut connection, a, b) = (connect(&a).await, Arc::clone(&a), Arc::clone(&b));
        clients.spawn(async move {
            let (mut held, mut waits) = (0, 0);
            // How many overflows a `WAIT` takes depends on the machine.
            while waits < WAITS || lost(&a) <= lost_before + OVERFLOWS {
                let key = format!("kept:{client}:{waits}");
                call(&mut connection, &format!("SET {key} v")).await;
                // Many times what a sync takes, also beside other tests.
                let counted = wait(&mut connection, "WAIT 1 30000").await;
                assert!(counted == 0 || get(&b, key.as_bytes()).is_some(), "{key} is not there");
                held += counted;
                waits += 1;
                assert!(waits < 20 * WAITS, "too few overflows: the test shows nothing");
            }
            (held, waits)
        });
    }
    let outcomes = clients.join_all().await;
    writer.abort();
    let held = outcomes.iter().map(|(held, _)| held).sum::<i64>();
    let waits = outcomes.iter().map(|(_, waits)| waits).sum::<usize>();
    assert_eq!(held, i64::try_from(waits).unwrap(), "answered, of all");
}

#[tokio::test]
async fn a_connection_that_waits_holds_up_no_other_and_its_pipeline_goes_on_afterwards() {
    let a = faulty("a", &[], |_| ()).await;
    let (mut waits, mut other) = (connect(&a).await, connect(&a).await);
    let pipeline: [&[&[u8]]; 4] =
        [&[b"SET", b"k", b"1"], &[b"WAIT", b"1", b"300"], &[b"SET", b"k", b"2"], &[b"GET", b"k"]];
    let started = Instant::now();
    let (replies, ()) = tokio::join!(waits.pipeline(pipeline), async {
        until("it waits", || get(&a, b"k").as_deref() == Some(b"1")).await;
        assert_eq!(text(&call(&mut other, "GET k").await), "1");
        let clients = text(&call(&mut other, "CLIENT LIST").await);
        assert!(clients.contains("flags=b") && clients.contains("cmd=wait"), "{clients}");
        assert!(text(&call(&mut other, "INFO clients").await).contains("blocked_clients:1"));
    });
    let replies: Vec<_> = replies.into_iter().map(Result::unwrap).collect();
    assert!(started.elapsed() >= Duration::from_millis(300));
    assert_eq!(replies[1], Frame::Int(0));
    assert_eq!(text(&replies[3]), "2");
}

#[tokio::test]
async fn a_shutdown_and_client_kill_end_a_wait() {
    let a = faulty("a", &[], |_| ()).await;
    let (mut killed, mut left, mut other) = (connect(&a).await, connect(&a).await, connect(&a).await);
    call(&mut killed, "CLIENT SETNAME killed").await;
    for client in [&mut killed, &mut left] {
        call(client, "SET k v").await;
    }
    let killed = tokio::spawn(async move { killed.call(&[b"WAIT", b"1", b"0"]).await });
    let left = tokio::spawn(async move { left.call(&[b"WAIT", b"1", b"0"]).await });
    let waiting = "both wait";
    let started = Instant::now();
    let line = loop {
        let clients = text(&call(&mut other, "CLIENT LIST").await);
        if clients.matches("flags=b").count() == 2 {
            break clients.lines().find(|line| line.contains("name=killed")).unwrap().to_owned();
        }
        assert!(started.elapsed() < DEADLINE, "not within {DEADLINE:?}: {waiting}");
    };
    let id = line.split(' ').next().unwrap().trim_start_matches("id=").to_owned();
    call(&mut other, &format!("CLIENT KILL ID {id}")).await;
    assert!(timeout(DEADLINE, killed).await.unwrap().unwrap().is_err());
    a.shutdown().await;
    assert_eq!(timeout(DEADLINE, left).await.unwrap().unwrap().unwrap(), Frame::Int(0));
}

#[tokio::test]
async fn a_client_that_leaves_while_it_waits_is_noticed() {
    let a = faulty("a", &[], |_| ()).await;
    let (mut waits, mut other) = (connect(&a).await, connect(&a).await);
    call(&mut waits, "SET k v").await;
    assert!(timeout(Duration::from_millis(50), waits.call(&[b"WAIT", b"1", b"0"])).await.is_err());
    drop(waits);
    let started = Instant::now();
    while !text(&call(&mut other, "INFO clients").await).contains("connected_clients:1\r\n") {
        assert!(started.elapsed() < DEADLINE, "it is still there");
    }
}

#[tokio::test(start_paused = true)]
async fn what_was_written_with_a_token_is_read_on_every_other_node_under_load() {
    let nodes = three_faulty(|config| {
        (config.max_key, config.max_value, config.peer_queue) = (256, 8 << 10, 10 << 10);
    })
    .await;
    let clients = (0..4u32).map(|client| {
        let nodes = &nodes;
        async move {
            let mut connections =
                [connect(&nodes[0]).await, connect(&nodes[1]).await, connect(&nodes[2]).await];
            for n in 0..100u32 {
                let from = (client + n) as usize % 3;
                let to = (from + 1 + n as usize % 2) % 3;
                // Enough to overflow a queue now and then.
                let value = format!("{client}.{n}.{}", "x".repeat(4000));
                let key = format!("key:{client}:{}", n % 7);
                call(&mut connections[from], &format!("SET {key} {value}")).await;
                let token = token(&mut connections[from]).await;
                assert_eq!(wait(&mut connections[to], &format!("SAPWOOD READY {token} 30000")).await, 1);
                let read = text(&call(&mut connections[to], &format!("GET {key}")).await);
                assert_eq!(read, value, "client {client} does not read its write {n}");
            }
        }
    });
    let mut clients: Vec<_> = clients.map(Box::pin).collect();
    let (c3, c2, c1, c0) =
        (clients.pop().unwrap(), clients.pop().unwrap(), clients.pop().unwrap(), clients.pop().unwrap());
    tokio::join!(c0, c1, c2, c3);
}

#[tokio::test(start_paused = true)]
async fn a_token_is_waited_for_and_says_no_while_the_nodes_are_cut_apart() {
    let [a, b, c] = three_faulty(|_| ()).await;
    let (mut on_a, mut on_b, mut on_c) = (connect(&a).await, connect(&b).await, connect(&c).await);
    call(&mut on_b, "SAPWOOD CUT *").await;
    call(&mut on_a, "SET k v").await;
    let issued = token(&mut on_a).await;
    assert_eq!(wait(&mut on_a, &format!("SAPWOOD READY {issued} 0")).await, 1, "it is its own");
    assert_eq!(wait(&mut on_b, &format!("SAPWOOD READY {issued} 50")).await, 0);
    assert_eq!(wait(&mut on_c, &format!("SAPWOOD READY {issued} 0 STATE")).await, 1);
    call(&mut on_b, "SAPWOOD MEND *").await;
    assert_eq!(wait(&mut on_b, &format!("SAPWOOD READY {issued} 0")).await, 1);
    assert_eq!(text(&call(&mut on_b, "GET k").await), "v");

    // What c reads of a third node's is covered by STATE.
    call(&mut on_a, "SET of-a v").await;
    until("c has it", || get(&c, b"of-a").is_some()).await;
    let read = token(&mut on_c).await;
    assert_eq!(wait(&mut on_b, &format!("SAPWOOD READY {read} 0 STATE")).await, 1);
    assert!(get(&b, b"of-a").is_some());
}

#[tokio::test(start_paused = true)]
async fn a_token_outlives_the_link_but_not_a_restart_of_its_node() {
    let [a, b, c] = three_faulty(|_| ()).await;
    let (mut on_a, mut on_b, mut on_c) = (connect(&a).await, connect(&b).await, connect(&c).await);
    call(&mut on_a, "SET k v").await;
    let held = token(&mut on_a).await;
    assert_eq!(wait(&mut on_a, "WAIT 2 0").await, 2);
    call(&mut on_c, "SAPWOOD CUT *").await;
    until("c has lost its links", || linked(&a) == 1).await;
    call(&mut on_a, "SET only-b v").await;
    let lost = token(&mut on_a).await;
    assert_eq!(wait(&mut on_b, &format!("SAPWOOD READY {lost} 0")).await, 1);
    a.shutdown().await;
    drop(a);
    assert_eq!(wait(&mut on_b, &format!("SAPWOOD READY {lost} 0")).await, 1, "b had it all");
    assert_eq!(wait(&mut on_c, &format!("SAPWOOD READY {held} 0")).await, 1, "c had as much");
    assert_eq!(wait(&mut on_c, &format!("SAPWOOD READY {lost} 50")).await, 0);
    call(&mut on_b, "SAPWOOD CUT *").await;
    // It starts anew under its name: the incarnation of the token is gone.
    let a = faulty("a", &[&c], |_| ()).await;
    call(&mut on_c, "SAPWOOD MEND *").await;
    until("a is back at c", || linked(&c) == 1).await;
    let said = error(&mut on_c, &format!("SAPWOOD READY {lost} 0")).await;
    assert!(said.contains("gone"), "{said}");
    drop(a);
}

#[tokio::test]
async fn a_token_that_is_none_or_of_the_far_future_is_an_error() {
    let a = faulty("a", &[], |_| ()).await;
    let mut client = connect(&a).await;
    call(&mut client, "SET k v").await;
    let issued = token(&mut client).await;
    for bad in ["x", "1.2.3", "2.1.1.1.7.a", "1.1.-1.1.7.a", "1.1.1.1.0.a"] {
        let said = error(&mut client, &format!("SAPWOOD READY {bad} 0")).await;
        assert!(said.contains("no token"), "{bad}: {said}");
    }
    let parts: Vec<_> = issued.splitn(6, '.').collect();
    let ahead = parts[2].parse::<u64>().unwrap() + (60 << 32);
    let future = format!("1.{}.{ahead}.1.77.b", parts[1]);
    let said = error(&mut client, &format!("SAPWOOD READY {future} 0")).await;
    assert!(said.contains("ahead"), "{said}");
    call(&mut client, "SET k w").await;
    let after = token(&mut client).await;
    assert!(after.split('.').nth(2).unwrap().parse::<u64>().unwrap() < ahead, "the clock has jumped");

    // Within the bound, every later write is stamped above it.
    let ahead = after.split('.').nth(2).unwrap().parse::<u64>().unwrap() + (2 << 32);
    let soon = format!("1.1.{ahead}.1.77.b");
    assert_eq!(wait(&mut client, &format!("SAPWOOD READY {soon} 10")).await, 0);
    assert!(token(&mut client).await.split('.').nth(2).unwrap().parse::<u64>().unwrap() > ahead);
}

#[tokio::test]
async fn bad_arguments_of_waits_get_the_errors_of_redis() {
    let a = faulty("a", &[], |_| ()).await;
    let mut client = connect(&a).await;
    for (request, expected) in [
        ("WAIT x 0", "ERR value is not an integer or out of range"),
        ("WAIT 1 x", "ERR timeout is not an integer or out of range"),
        ("WAIT 1 -1", "ERR timeout is negative"),
        ("WAIT 1", "ERR wrong number of arguments for 'wait' command"),
        ("SAPWOOD WAITFOR a,nobody 10", "ERR no member is named \"nobody\": see SAPWOOD PEERS"),
        ("SAPWOOD READY x 10 NOW", "ERR that is no token: SAPWOOD TOKEN returns one"),
    ] {
        assert_eq!(error(&mut client, request).await, expected, "{request}");
    }
    call(&mut client, "SET k v").await;
    assert_eq!(wait(&mut client, "WAIT 0 0").await, 0);
    assert_eq!(wait(&mut client, "WAIT -1 0").await, 0);
    assert_eq!(names(&mut client, "SAPWOOD WAITFOR a 0").await, ["a"]);
}
