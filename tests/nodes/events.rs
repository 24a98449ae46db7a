//! `SAPWOOD EVENTS` over TCP, byte for byte, against a cluster that is made up.

use std::time::{Duration, UNIX_EPOCH};

use crate::raw_client::TestServer;
use sapwood::status::{Event, EventKind};

fn event(kind: EventKind, reason: &str) -> Event {
    Event::new(kind, "b", reason, UNIX_EPOCH + Duration::from_millis(1500))
}

#[tokio::test]
async fn subscribers_of_events_receive_them_in_the_protocol_of_their_connection() {
    let server = TestServer::start().await;
    let (mut old, mut new, mut other) = (server.client().await, server.client().await, server.client().await);
    old.ask("SAPWOOD EVENTS", "+OK\r\n").await;
    new.reply("HELLO 3").await;
    new.ask("SAPWOOD EVENTS", "+OK\r\n").await;
    new.ask("sapwood events", "+OK\r\n").await;
    server.events.send(event(EventKind::Up, ""));
    server.events.send(event(EventKind::Down, "it shut down"));
    let pushed = "5\r\n$5\r\nevent\r\n$2\r\nup\r\n$1\r\nb\r\n$0\r\n\r\n:1500\r\n\
                X5\r\n$5\r\nevent\r\n$4\r\ndown\r\n$1\r\nb\r\n$12\r\nit shut down\r\n:1500\r\n";
    old.expect(format!("*{}", pushed.replace('X', "*"))).await;
    new.expect(format!(">{}", pushed.replace('X', ">"))).await;
    other.ask("PING", "+PONG\r\n").await;
}

#[tokio::test]
async fn in_resp2_a_subscriber_of_events_may_send_few_commands_until_reset() {
    let server = TestServer::start().await;
    let mut client = server.client().await;
    client.ask("SAPWOOD EVENTS", "+OK\r\n").await;
    let refusal = "-ERR Can't execute 'get': only (P|S)SUBSCRIBE / (P|S)UNSUBSCRIBE / PING / QUIT / RESET are allowed \
                   in this context\r\n";
    client.ask("GET k", refusal).await;
    client.ask("PING", "*2\r\n$4\r\npong\r\n$0\r\n\r\n").await;
    client.ask("RESET", "+RESET\r\n").await;
    server.events.send(event(EventKind::Up, ""));
    client.ask("GET k", "$-1\r\n").await;
}
