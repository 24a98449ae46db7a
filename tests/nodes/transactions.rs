//! Transactions against a live server: what other clients of the node see of them.

use crate::raw_client::TestServer;
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

const MAX_BULK: usize = 1000;

#[tokio::test]
async fn a_transaction_of_which_a_command_was_refused_leaves_nothing() {
    let server = TestServer::with(|settings| settings.limits.max_bulk = MAX_BULK).await;
    let mut client = server.client().await;
    client.send("MULTI\r\nSET tx 1\r\nINCR tx\r\nNOSUCH\r\nEXEC\r\nEXISTS tx\r\n").await;
    client
        .expect(
            "+OK\r\n+QUEUED\r\n+QUEUED\r\n-ERR unknown command 'NOSUCH', with args beginning with: \r\n\
             -EXECABORT Transaction discarded because of previous errors.\r\n:0\r\n",
        )
        .await;
    // A request over a limit was not queued either.
    client.ask("MULTI", "+OK\r\n").await;
    client.ask("SET tx 1", "+QUEUED\r\n").await;
    let large = "x".repeat(MAX_BULK + 1);
    client.send(format!("*3\r\n$3\r\nSET\r\n$2\r\ntx\r\n${}\r\n{large}\r\n", large.len())).await;
    client.expect(format!("-ERR value is larger than {MAX_BULK} bytes (--max-value)\r\n")).await;
    client.ask("EXEC", "-EXECABORT Transaction discarded because of previous errors.\r\n").await;
    client.ask("EXISTS tx", ":0\r\n").await;
}

#[tokio::test]
async fn a_watched_key_that_expires_has_changed() {
    let server = TestServer::start().await;
    let (mut client, mut other) = (server.client().await, server.client().await);
    // On a busy machine the key may expire before it is watched: then it gets more time.
    let mut ttl = 20;
    loop {
        client.ask("UNWATCH", "+OK\r\n").await;
        client.ask(&format!("SET k 1 PX {ttl}"), "+OK\r\n").await;
        client.ask("WATCH k", "+OK\r\n").await;
        if other.reply("EXISTS k").await == ":1\r\n" {
            break;
        }
        ttl *= 2;
    }
    while other.reply("EXISTS k").await != ":0\r\n" {}
    client.ask("MULTI", "+OK\r\n").await;
    client.ask("PING", "+QUEUED\r\n").await;
    client.ask("EXEC", "*-1\r\n").await;
    // And one that had expired before has not.
    client.ask("WATCH k", "+OK\r\n").await;
    other.ask("DEL k", ":0\r\n").await;
    client.ask("MULTI", "+OK\r\n").await;
    client.ask("PING", "+QUEUED\r\n").await;
    client.ask("EXEC", "*1\r\n+PONG\r\n").await;
}

/// Eight clients move random amounts between twenty keys by `WATCH`, others read all keys in one transaction. With what
/// `EXEC` would execute one key after the other, a reader sees another sum within a few transfers.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn whoever_reads_while_clients_transfer_sees_the_same_sum() {
    const KEYS: usize = 20;
    const TRANSFERS: usize = 300;
    let server = TestServer::start().await;
    let mut client = server.client().await;
    for n in 0..KEYS {
        client.ask(&format!("SET account:{n} 100"), "+OK\r\n").await;
    }
    let all: String = (0..KEYS).map(|n| format!(" account:{n}")).collect();
    let sum = |reply: &str| -> i64 { reply.split("\r\n").filter_map(|line| line.parse::<i64>().ok()).sum() };
    let work = |seed: u64| {
        let address = server.address;
        tokio::spawn(async move {
            let mut random = StdRng::seed_from_u64(seed);
            let mut client =
                crate::raw_client::Client(tokio::net::TcpStream::connect(address).await.unwrap());
            let mut lost = 0;
            for _ in 0..TRANSFERS {
                let (from, to) = (random.random_range(0..KEYS), random.random_range(0..KEYS));
                if from == to {
                    continue;
                }
                loop {
                    client.ask(&format!("WATCH account:{from} account:{to}"), "+OK\r\n").await;
                    let held = client.reply(&format!("GET account:{from}")).await;
                    let held: i64 = held.split("\r\n").nth(1).unwrap().parse().unwrap();
                    let amount = random.random_range(0..=held);
                    let transfer = format!(
                        "MULTI\r\nDECRBY account:{from} {amount}\r\nINCRBY account:{to} {amount}\r\nEXEC"
                    );
                    if !client.reply(&transfer).await.ends_with("*-1\r\n") {
                        break;
                    }
                    lost += 1;
                }
            }
            lost
        })
    };
    let workers: Vec<_> = (0..8).map(work).collect();
    let mut looks = 0;
    while workers.iter().any(|worker| !worker.is_finished()) {
        let reply = client.reply(&format!("MULTI\r\nMGET{all}\r\nEXEC")).await;
        assert_eq!(sum(&reply), 100 * KEYS as i64, "{reply}");
        looks += 1;
    }
    let mut lost = 0;
    for worker in workers {
        lost += worker.await.unwrap();
    }
    assert!(looks > 10 && lost > 10, "{looks} looks, {lost} transfers tried again");
    assert_eq!(sum(&client.reply(&format!("MGET{all}")).await), 100 * KEYS as i64);
}
