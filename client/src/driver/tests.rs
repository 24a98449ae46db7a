use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use tokio::net::TcpListener;
use tokio::sync::Notify;
use tokio::time::{Instant, timeout};

use crate::fake::{self, node};
use crate::resp::Frame;
use crate::{Client, ClientError, ClientOptions, SetOptions};

fn millis(millis: u64) -> Duration {
    Duration::from_millis(millis)
}

fn options() -> ClientOptions {
    ClientOptions {
        backoff: (millis(1), millis(20)),
        connect_timeout: Duration::from_secs(5),
        request_timeout: Duration::from_secs(10),
        ..ClientOptions::default()
    }
}

async fn connect(addrs: &[&str]) -> Client {
    Client::connect_with(addrs, options()).await.unwrap()
}

/// Waits until the client has noticed that its connection is lost.
async fn until_lost(client: &Client) {
    while client.connected_to().is_some() {
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn replies_cut_anywhere_reach_the_tasks_that_asked() {
    let addr = node(|_, mut client| async move {
        client.welcome().await;
        for _ in 0..3 {
            client.expect(&["GET", "k"]).await;
        }
        for byte in ["$", "1\r", "\n", "a", "\r", "\n", "$-", "1\r\n$2\r\n", "\r\n\r", "\n"] {
            client.say(byte).await;
            tokio::task::yield_now().await;
        }
        client.drain().await;
    })
    .await;
    let client = connect(&[&addr]).await;
    let (a, b, c) = tokio::join!(client.get("k"), client.get("k"), client.get("k"));
    assert_eq!(a.unwrap().as_deref(), Some(&b"a"[..]));
    assert_eq!(b.unwrap(), None);
    assert_eq!(c.unwrap().as_deref(), Some(&b"\r\n"[..]));
}

#[tokio::test]
async fn an_error_reply_goes_to_its_own_request_alone() {
    let addr = node(|_, mut client| async move {
        client.welcome().await;
        client.expect(&["GET", "a"]).await;
        client.answer(&["INCR", "b"], ">1\r\n+push\r\n$1\r\n1\r\n-ERR not an integer\r\n").await;
        client.drain().await;
    })
    .await;
    let client = connect(&[&addr]).await;
    let (a, b) = tokio::join!(client.get_string("a"), client.incr("b"));
    assert_eq!(a.unwrap().as_deref(), Some("1"));
    let error = b.unwrap_err();
    assert!(matches!(&error, ClientError::Server { code, .. } if code == "ERR") && !error.may_be_applied());
}

#[tokio::test]
async fn a_connection_cut_inside_a_reply_repeats_the_read_and_not_the_increment() {
    let addr = node(|number, mut client| async move {
        client.welcome().await;
        if number == 0 {
            client.expect(&["INCR", "n"]).await;
            client.answer(&["GET", "k"], ":").await;
        } else {
            client.answer(&["GET", "k"], "$1\r\nv\r\n").await;
            client.silence().await;
        }
    })
    .await;
    let client = connect(&[&addr]).await;
    let (incr, get) = tokio::join!(client.incr("n"), client.get("k"));
    let error = incr.unwrap_err();
    assert!(error.may_be_applied(), "{error}");
    assert_eq!(get.unwrap().as_deref(), Some(&b"v"[..]));
}

#[tokio::test]
async fn what_is_repeated_and_what_is_not() {
    let addr = node(|_, mut client| async move {
        client.welcome().await;
        let mut request = [0; 1];
        let _ = tokio::io::AsyncReadExt::read(&mut client.stream, &mut request).await;
    })
    .await;
    let impatient = ClientOptions { request_timeout: millis(200), ..options() };
    let client = &Client::connect_with([&addr], impatient).await.unwrap();
    let started = Instant::now();
    let once = [
        client.incr("k").await.unwrap_err(),
        client.incr_by("k", 2).await.unwrap_err(),
        client.set_with("k", "v", SetOptions::new().if_absent()).await.unwrap_err(),
        client.persist("k").await.unwrap_err(),
        client.publish("c", "m").await.unwrap_err(),
        client.call(&[b"GETDEL", b"k"]).await.unwrap_err(),
    ];
    assert!(once.iter().all(ClientError::may_be_applied), "{once:?}");
    assert!(started.elapsed() < Duration::from_secs(5), "nothing was waited for");
    for _ in 0..2 {
        let started = Instant::now();
        let error = client.set("k", "v").await.unwrap_err();
        assert!(error.may_be_applied() && started.elapsed() >= millis(200), "{error}");
    }
}

/// Requests that are not written when the connection fails are kept, in order.
#[tokio::test]
async fn requests_wait_for_the_next_connection_and_are_sent_once() {
    let down = Arc::new(Notify::new());
    let signal = Arc::clone(&down);
    let addr = node(move |number, mut client| {
        let down = Arc::clone(&signal);
        async move {
            if number == 0 {
                client.welcome().await;
                down.notified().await;
            } else {
                client.welcome().await;
                client.expect(&["INCR", "a"]).await;
                client.answer(&["INCR", "b"], ":1\r\n:2\r\n").await;
                client.silence().await;
            }
        }
    })
    .await;
    let client = connect(&[&addr]).await;
    down.notify_one();
    until_lost(&client).await;
    let (a, b) = tokio::join!(client.incr("a"), client.incr("b"));
    assert_eq!((a.unwrap(), b.unwrap()), (1, 2));
}

#[tokio::test]
async fn the_next_node_takes_over() {
    let first = node(|_, mut client| async move {
        client.welcome().await;
        client.expect(&["GET", "k"]).await;
    })
    .await;
    let second = node(|_, mut client| async move {
        client.welcome().await;
        client.answer(&["GET", "k"], "$6\r\nsecond\r\n").await;
        client.drain().await;
    })
    .await;
    let client = connect(&[&first, &second]).await;
    assert_eq!(client.connected_to().as_ref(), Some(&first));
    assert_eq!(client.get("k").await.unwrap().as_deref(), Some(&b"second"[..]));
    assert_eq!(client.connected_to(), Some(second));
}

#[tokio::test]
async fn a_node_that_falls_silent_is_given_up_for_the_next() {
    let silent = node(|_, mut client| async move {
        client.welcome().await;
        client.drain().await;
    })
    .await;
    let second = node(|_, mut client| async move {
        client.welcome().await;
        client.answer(&["INCR", "n"], ":7\r\n").await;
        client.drain().await;
    })
    .await;
    let client =
        Client::connect_with([&silent, &second], ClientOptions { request_timeout: millis(300), ..options() });
    let client = client.await.unwrap();
    let error = client.incr("n").await.unwrap_err();
    assert!(error.may_be_applied(), "{error}");
    assert_eq!(client.incr("n").await.unwrap(), 7);
}

/// A node that answers other requests stays connected while one request times out; its late reply is discarded.
#[tokio::test]
async fn a_late_reply_is_never_taken_for_the_answer_to_another_request() {
    let go = Arc::new(Notify::new());
    let signal = Arc::clone(&go);
    let addr = node(move |number, mut client| {
        let go = Arc::clone(&signal);
        async move {
            assert_eq!(number, 0, "the connection stays");
            client.welcome().await;
            client.expect(&["GET", "slow"]).await;
            // Replies to others, while this request is late.
            let mut heartbeat = tokio::time::interval(millis(20));
            for _ in 0..20 {
                heartbeat.tick().await;
                client.say(">1\r\n:1\r\n").await;
            }
            client.say("$4\r\nlate\r\n").await;
            client.answer(&["GET", "next"], "$4\r\nnext\r\n").await;
            go.notified().await;
        }
    })
    .await;
    let client = Client::connect_with([&addr], ClientOptions { request_timeout: millis(200), ..options() });
    let client = client.await.unwrap();
    let error = client.get("slow").await.unwrap_err();
    assert!(matches!(error, ClientError::Timeout { .. }), "{error}");
    // The time-out may come before the node has sent all its heartbeats.
    let mut next = client.get("next").await;
    while matches!(next, Err(ClientError::Timeout { .. })) {
        next = client.get("next").await;
    }
    assert_eq!(next.unwrap().as_deref(), Some(&b"next"[..]));
    go.notify_one();
}

#[tokio::test]
async fn a_dropped_request_leaves_the_connection_in_step() {
    let addr = node(|_, mut client| async move {
        client.welcome().await;
        client.expect(&["GET", "dropped"]).await;
        client.answer(&["GET", "kept"], "$1\r\nd\r\n$1\r\nk\r\n").await;
        client.drain().await;
    })
    .await;
    let client = connect(&[&addr]).await;
    let mut dropped = Box::pin(client.get("dropped"));
    assert!(timeout(millis(20), dropped.as_mut()).await.is_err());
    drop(dropped);
    assert_eq!(client.get("kept").await.unwrap().as_deref(), Some(&b"k"[..]));
}

#[tokio::test]
async fn requests_in_flight_are_bounded_and_the_rest_wait_their_turn() {
    let most = Arc::new(AtomicUsize::new(0));
    let seen = Arc::clone(&most);
    let addr = node(move |_, mut client| {
        let most = Arc::clone(&seen);
        async move {
            client.welcome().await;
            let request = "*1\r\n$4\r\nPING\r\n".len();
            let mut buffer = vec![0; 1 << 16];
            let mut answered = 0;
            while answered < 64 {
                // All requests that arrive within a while, which are all that may be in flight.
                let mut len = 0;
                while let Ok(Ok(more @ 1..)) =
                    timeout(millis(20), tokio::io::AsyncReadExt::read(&mut client.stream, &mut buffer[len..]))
                        .await
                {
                    len += more;
                }
                most.fetch_max(len / request, Ordering::Relaxed);
                if len > 0 {
                    client.say(&"+PONG\r\n".repeat(len / request)).await;
                    answered += len / request;
                }
            }
            client.drain().await;
        }
    })
    .await;
    let client = Client::connect_with([&addr], ClientOptions { max_requests_in_flight: 8, ..options() });
    let client = client.await.unwrap();
    let tasks: Vec<_> = (0..64)
        .map(|_| {
            let client = client.clone();
            tokio::spawn(async move { client.call(&[b"PING"]).await })
        })
        .collect();
    for task in tasks {
        assert_eq!(task.await.unwrap().unwrap(), Frame::Simple("PONG".into()));
    }
    assert_eq!(most.load(Ordering::Relaxed), 8);
}

#[tokio::test]
async fn without_room_or_connection_a_request_is_reported_as_not_sent() {
    let addr = node(|_, mut client| async move {
        client.welcome().await;
        client.expect(&["GET", "stuck"]).await;
        client.drain().await;
    })
    .await;
    let tight = ClientOptions { max_requests_in_flight: 1, request_timeout: millis(200), ..options() };
    let client = Client::connect_with([&addr], tight).await.unwrap();
    let (stuck, waiting) = tokio::join!(client.call(&[b"GET", b"stuck"]), client.incr("n"));
    assert!(stuck.unwrap_err().may_be_applied());
    let error = waiting.unwrap_err();
    assert!(!error.may_be_applied(), "{error}");
    assert!(error.to_string().contains("not sent"), "{error}");
}

#[tokio::test]
async fn while_no_node_can_be_reached_the_error_says_why() {
    let gone = Arc::new(Notify::new());
    let signal = Arc::clone(&gone);
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let addr = listener.local_addr().unwrap().to_string();
    tokio::spawn(async move {
        let mut client = fake::Client { stream: listener.accept().await.unwrap().0 };
        drop(listener);
        client.welcome().await;
        signal.notified().await;
    });
    let client = Client::connect_with([&addr], ClientOptions { request_timeout: millis(100), ..options() });
    let client = client.await.unwrap();
    gone.notify_one();
    until_lost(&client).await;
    let error = client.incr("n").await.unwrap_err();
    assert!(error.to_string().contains("connection refused") && !error.may_be_applied(), "{error}");
    let error = Client::connect([&addr]).await.unwrap_err();
    assert!(matches!(error, ClientError::Unreachable { .. }), "{error}");
    let none = Client::connect(Vec::<String>::new()).await.unwrap_err();
    assert!(matches!(none, ClientError::NoAddress));
}

#[tokio::test]
async fn garbage_ends_the_connection_and_is_reported() {
    let addr = node(|number, mut client| async move {
        client.welcome().await;
        client.expect(&["INCR", "n"]).await;
        client.say(if number == 0 { "HTTP/1.1 400\r\n" } else { ":1\r\n" }).await;
        client.drain().await;
    })
    .await;
    let client = connect(&[&addr]).await;
    let error = client.incr("n").await.unwrap_err();
    assert!(matches!(error, ClientError::Protocol(_)) && error.may_be_applied(), "{error}");
    assert_eq!(client.incr("n").await.unwrap(), 1);
}

#[tokio::test]
async fn a_reply_to_no_request_ends_the_connection() {
    let go = Arc::new(Notify::new());
    let signal = Arc::clone(&go);
    let addr = node(move |number, mut client| {
        let go = Arc::clone(&signal);
        async move {
            client.welcome().await;
            if number == 0 {
                go.notified().await;
                client.say("+WHAT\r\n").await;
            } else {
                client.answer(&["GET", "k"], "$1\r\nv\r\n").await;
            }
            client.drain().await;
        }
    })
    .await;
    let client = connect(&[&addr]).await;
    go.notify_one();
    until_lost(&client).await;
    assert_eq!(client.get("k").await.unwrap().as_deref(), Some(&b"v"[..]));
}

/// The system accepts connections for a stopped process.
#[tokio::test]
async fn a_node_that_never_greets_is_passed_over() {
    let mute = node(|_, mut client| async move { client.drain().await }).await;
    let second = node(|_, mut client| async move {
        client.welcome().await;
        client.drain().await;
    })
    .await;
    let quick = ClientOptions { connect_timeout: millis(100), ..options() };
    let client = Client::connect_with([&mute, &second], quick.clone()).await.unwrap();
    assert_eq!(client.connected_to(), Some(second));
    let error = Client::connect_with([&mute], quick).await.unwrap_err();
    assert!(matches!(error, ClientError::ConnectTimeout { .. }), "{error}");
}

#[tokio::test]
async fn the_password_is_shown_on_every_connection() {
    let addr = node(|number, mut client| async move {
        client.answer(&["AUTH", "secret"], "+OK\r\n").await;
        client.welcome().await;
        client.expect(&["GET", "k"]).await;
        if number == 1 {
            client.say("$1\r\nv\r\n").await;
            client.drain().await;
        }
    })
    .await;
    let secret = ClientOptions { password: Some("secret".into()), ..options() };
    assert!(!format!("{secret:?}").contains("secret"));
    let client = Client::connect_with([&addr], secret).await.unwrap();
    assert_eq!(client.get("k").await.unwrap().as_deref(), Some(&b"v"[..]));
}

#[tokio::test]
async fn the_connection_closes_with_the_last_clone() {
    let closed = Arc::new(Notify::new());
    let signal = Arc::clone(&closed);
    let addr = node(move |_, mut client| {
        let closed = Arc::clone(&signal);
        async move {
            client.welcome().await;
            client.silence().await;
            closed.notify_one();
        }
    })
    .await;
    let client = connect(&[&addr]).await;
    let clone = client.clone();
    drop(client);
    assert!(timeout(millis(20), closed.notified()).await.is_err());
    drop(clone);
    timeout(Duration::from_secs(10), closed.notified()).await.unwrap();
}

#[test]
fn when_the_runtime_ends_nobody_waits_for_ever() {
    let runtime =
        || tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    let (servers, home, other) = (runtime(), runtime(), runtime());
    let addr = servers.block_on(node(|_, mut client| async move {
        client.welcome().await;
        client.drain().await;
    }));
    let client = home.block_on(connect(&[&addr]));
    let waiting = other.spawn({
        let client = client.clone();
        async move { client.get("k").await }
    });
    other.block_on(async {
        // Until the request is in flight.
        while client.requests_in_flight() == 0 {
            tokio::task::yield_now().await;
        }
    });
    home.shutdown_background();
    let error = other.block_on(waiting).unwrap().unwrap_err();
    assert!(matches!(error, ClientError::Stopped), "{error}");
    assert!(matches!(other.block_on(client.get("k")), Err(ClientError::Stopped)));
}

#[tokio::test]
async fn a_wait_for_a_write_fails_when_the_connection_was_replaced() {
    let addr = node(|number, mut client| async move {
        client.welcome().await;
        if number == 0 {
            client.answer(&["SET", "k", "v"], "+OK\r\n").await;
        } else {
            client.answer(&["WAIT", "1", "100"], ":1\r\n").await;
            client.answer(&["SET", "k", "v"], "+OK\r\n").await;
            client.answer(&["WAIT", "1", "100"], ":1\r\n").await;
            client.drain().await;
        }
    })
    .await;
    let client = connect(&[&addr]).await;
    client.set("k", "v").await.unwrap();
    until_lost(&client).await;
    assert!(matches!(client.wait(1, millis(100)).await, Err(ClientError::Replaced)));
    client.set("k", "v").await.unwrap();
    assert_eq!(client.wait(1, millis(100)).await.unwrap(), 1);
}

#[tokio::test]
async fn a_write_on_the_new_connection_is_confirmed_after_a_wait_failed_with_the_old_one() {
    let addr = node(|number, mut client| async move {
        client.welcome().await;
        client.answer(&["SET", "k", "v"], "+OK\r\n").await;
        client.expect(&["WAIT", "1", "100"]).await;
        if number > 0 {
            client.say(":1\r\n").await;
            client.drain().await;
        }
    })
    .await;
    let client = connect(&[&addr]).await;
    client.set("k", "v").await.unwrap();
    let error = client.wait(1, millis(100)).await.unwrap_err();
    assert!(error.may_be_applied(), "{error}");
    client.set("k", "v").await.unwrap();
    assert_eq!(client.wait(1, millis(100)).await.unwrap(), 1);
}

#[tokio::test]
async fn a_clone_that_wrote_on_the_new_connection_alone_can_wait() {
    let addr = node(|number, mut client| async move {
        client.welcome().await;
        client.answer(&["SET", "k", "v"], "+OK\r\n").await;
        if number > 0 {
            client.answer(&["WAIT", "1", "100"], ":1\r\n").await;
            client.answer(&["WAIT", "1", "100"], ":1\r\n").await;
            client.drain().await;
        }
    })
    .await;
    let client = connect(&[&addr]).await;
    client.set("k", "v").await.unwrap();
    until_lost(&client).await;
    let clone = client.clone();
    clone.set("k", "v").await.unwrap();
    assert_eq!(clone.wait(1, millis(100)).await.unwrap(), 1);
    assert!(matches!(client.wait(1, millis(100)).await, Err(ClientError::Replaced)));
}

#[tokio::test]
async fn who_has_only_read_and_published_on_the_old_connection_can_wait() {
    let addr = node(|number, mut client| async move {
        client.welcome().await;
        if number == 0 {
            client.answer(&["PUBLISH", "c", "m"], ":0\r\n").await;
            client.answer(&["get", "k"], "$-1\r\n").await;
        } else {
            client.answer(&["SET", "k", "v"], "+OK\r\n").await;
            client.answer(&["WAIT", "1", "100"], ":1\r\n").await;
            client.drain().await;
        }
    })
    .await;
    let client = connect(&[&addr]).await;
    client.publish("c", "m").await.unwrap();
    client.call(&[b"get", b"k"]).await.unwrap();
    until_lost(&client).await;
    client.set("k", "v").await.unwrap();
    assert_eq!(client.wait(1, millis(100)).await.unwrap(), 1);
}
