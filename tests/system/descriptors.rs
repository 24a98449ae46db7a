//! A node that may have few files open: whom it serves, and whom it turns away.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;

use crate::support::node_process::*;

/// How many clients a node has room for that may open 64 files.
const CLIENTS: usize = 32;

fn start_with_64_files() -> NodeProcess {
    let command = ["sh", "-c", "ulimit -n 64 && exec \"$@\"", "sh"].map(String::from).into();
    let surroundings = Surroundings { command, ..Surroundings::default() };
    let node = NodeProcess::spawn_in(surroundings, "a", (free_address(), free_address()), &[], &[]);
    node.until_up();
    node
}

/// A connection on which a request was answered, unless the node turns it away.
fn served(node: &NodeProcess) -> Option<TcpStream> {
    let mut stream = node.stream();
    let mut reply = [0];
    stream.write_all(b"PING\r\n").ok()?;
    stream.read_exact(&mut reply).ok()?;
    (reply == *b"+").then_some(stream)
}

fn until_full(node: &NodeProcess) -> Vec<TcpStream> {
    let mut clients = Vec::new();
    wait("every place of a client is taken", || {
        clients.extend(served(node));
        clients.len() == CLIENTS
    });
    clients
}

#[test]
fn a_node_that_may_open_few_files_says_how_many_clients_it_takes_and_turns_the_others_away() {
    let a = start_with_64_files();
    let warned = a.log().lines().any(|line| line.contains("WARN") && line.contains("max_clients=32"));
    assert!(warned, "{}", a.log());
    assert_eq!(a.info("maxclients"), CLIENTS.to_string());
    let mut clients = until_full(&a);
    // More at one time than there are files.
    let surplus: Vec<_> = (0..100).map(|_| a.stream()).collect();
    for mut stream in surplus {
        let mut reply = String::new();
        stream.read_to_string(&mut reply).unwrap();
        assert_eq!(reply, "-ERR max number of clients reached\r\n");
    }
    clients.pop();
    wait("a place that was left is given away", || served(&a).is_some());
    assert!(!a.log().contains("cannot accept"), "{}", a.log());
}

#[test]
fn clients_that_take_every_place_leave_room_for_a_peer_that_restarts_and_for_a_probe() {
    let a = start_with_64_files();
    let mut b = NodeProcess::start("b", &[&a], &[]);
    until_linked(&[&a, &b]);
    let mut clients = until_full(&a);
    // More at one time than there are files, and none of them leaves by itself.
    let _surplus: Vec<_> = (0..100).map(|_| a.stream()).collect();
    for round in 0..3 {
        b.kill();
        b.restart();
        wait("the peer links again", || b.linked() == 1);
        let key = format!("round:{round}");
        clients[0].write_all(format!("SET {key} x\r\n").as_bytes()).unwrap();
        wait("writes come there", || b.get(&key).is_some());
    }
    let mut probe = TcpStream::connect(a.page()).unwrap();
    probe.set_read_timeout(Some(PATIENCE)).unwrap();
    probe.write_all(b"GET /healthz HTTP/1.1\r\nhost: 127.0.0.1\r\nconnection: close\r\n\r\n").unwrap();
    let mut answer = String::new();
    probe.read_to_string(&mut answer).unwrap();
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    assert!(!a.log().contains("cannot accept"), "{}", a.log());
}
