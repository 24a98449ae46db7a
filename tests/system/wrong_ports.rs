//! Programs that talk to the wrong port: each gets an answer that says so, in its own protocol and in the log.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};

use crate::support::node_process::*;

/// Answers every connection with `answer` once it has said something, and keeps it open.
fn server(answer: &'static [u8]) -> SocketAddr {
    server_after(b"", answer)
}

/// The same once a connection has said `end`.
fn server_after(end: &'static [u8], answer: &'static [u8]) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    std::thread::spawn(move || {
        let mut kept = Vec::new();
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            let (mut said, mut chunk) = (Vec::new(), [0; 1024]);
            while let Ok(read @ 1..) = stream.read(&mut chunk) {
                said.extend_from_slice(&chunk[..read]);
                if said.ends_with(end) {
                    let _ = stream.write_all(answer);
                    break;
                }
            }
            kept.push(stream);
        }
    });
    address
}

fn http_port(node: &NodeProcess) -> SocketAddr {
    wait("the greeting is written", || node.greeting().contains("http://"));
    let greeting = node.greeting();
    let (_, rest) = greeting.split_once("http://").unwrap();
    rest.split(['/', '\n']).next().unwrap().parse().unwrap()
}

/// All that a port answers to `request`, until it closes.
fn answer(address: SocketAddr, request: &[u8]) -> String {
    let mut stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream.write_all(request).unwrap();
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).unwrap();
    String::from_utf8(answer).unwrap()
}

#[test]
fn a_join_address_that_is_no_peer_port_is_reported_with_the_port_that_was_meant() {
    let b = NodeProcess::start("b", &[], &[]);
    let redis = server(b"-NOAUTH Authentication required.\r\n");
    let http = server(b"HTTP/1.1 400 Bad Request\r\n\r\n");
    let tls = server(b"\x15\x03\x01\x00\x02\x02\x46");
    let http_of_lines = server_after(b"\r\n\r\n", b"<!DOCTYPE HTML>\n<html>Bad request");
    let silent = server(b"");
    let redis_answer = "it answers in the Redis protocol, as a client port does";
    let http_answer = "it answers in HTTP, as an http port does";
    let expected = [
        (b.client, redis_answer),
        (redis, redis_answer),
        (http_port(&b), http_answer),
        (http, http_answer),
        (http_of_lines, http_answer),
        (tls, "it answers in TLS"),
        (silent, "connected, but no answer within 5s: is this a Sapwood peer port?"),
    ];
    let join = expected.map(|(address, _)| address);
    let a = NodeProcess::start_at("a", (free_address(), free_address()), &join, &[]);
    for (address, reason) in expected {
        let line = || {
            let log = a.log();
            let lines = log.lines().filter(|line| line.contains(&format!("address=\"{address}\"")));
            lines.filter(|line| line.contains("WARN")).map(str::to_owned).collect::<Vec<_>>().join("\n")
        };
        wait(&format!("{address} is reported: {reason}"), || !line().is_empty());
        assert!(line().contains(reason), "{}", line());
        assert!(address == silent || line().contains("want a peer port, 7172 by default"), "{}", line());
        let address = address.to_string();
        let row = a.peers().into_iter().find(|row| row["address"] == address.as_str()).unwrap();
        assert_eq!(row["state"], "down");
        assert!(row["reason"].as_str().unwrap().contains(reason), "{row:?}");
    }
    assert!(b.log().contains("this is the client port of a Sapwood node"), "{}", b.log());
}

#[test]
fn the_peer_port_answers_clients_of_other_protocols_in_these_and_logs_each_once() {
    let a = NodeProcess::start("a", &[], &[]);
    let said =
        format!("this is the peer port of a Sapwood node: clients use its client port, {}", a.client.port());
    for _ in 0..2 {
        assert_eq!(answer(a.peer, b"*1\r\n$4\r\nPING\r\n"), format!("-ERR {said}\r\n"));
        let http = answer(a.peer, b"GET / HTTP/1.1\r\nhost: a\r\n\r\n");
        assert!(http.starts_with("HTTP/1.1 400 ") && http.ends_with(&format!("{said}\n")), "{http}");
        assert_eq!(answer(a.peer, b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03"), "");
    }
    let log = a.log();
    for protocol in ["the Redis protocol", "HTTP", "TLS"] {
        let lines = log.lines().filter(|line| line.contains(&format!("it speaks {protocol}, but")));
        let warned: Vec<_> = lines.filter(|line| line.contains("WARN")).collect();
        assert_eq!(warned.len(), 1, "{protocol}: {log}");
    }
}

#[test]
fn the_client_and_http_ports_name_the_port_that_was_meant() {
    let a = NodeProcess::start("a", &[], &[]);
    let http = answer(http_port(&a), b"*1\r\n$4\r\nPING\r\n");
    assert!(http.starts_with("-ERR this is the http port") && http.contains("7171"), "{http}");
    assert!(answer(a.client, b"\0\0\0\x50").contains("--join wants its peer port, 7172 by default"));
    assert_eq!(answer(a.client, b"\x16\x03\x01"), "");
}

#[test]
fn a_command_that_names_a_peer_or_http_port_says_which_port_it_wants() {
    let a = NodeProcess::start("a", &[], &[]);
    let own =
        format!("this is the peer port of a Sapwood node: clients use its client port, {}", a.client.port());
    for (address, reason, port) in [
        (a.peer, &*own, ""),
        (http_port(&a), "this is the http port of a Sapwood node", "7171 by default"),
        (
            server(b"HTTP/1.1 400 Bad Request\r\n\r\n"),
            "it answers in HTTP, so it is no client port",
            "7171 by default",
        ),
    ] {
        for command in [&["get", "k"][..], &["status"], &["peers"]] {
            let failed = sapwood(command).arg("--node").arg(address.to_string()).output().unwrap();
            let text = String::from_utf8_lossy(&failed.stderr);
            assert_eq!(failed.status.code(), Some(1), "{text}");
            assert!(text.contains(reason) && text.contains(port), "{text}");
        }
    }
}
