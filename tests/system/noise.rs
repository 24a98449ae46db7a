//! A live node under hostile bytes, at its client port and at its peer port.
//!
//! Method: pieces of valid traffic, damaged and mixed with noise. For the peer port the traffic is recorded from a
//! real link through a proxy, and checksums are made to fit, so that damage reaches what lies behind the hello. Afterwards
//! the node must answer, still be linked, and have grown by little.
//!
//! `SAPWOOD_FUZZ_CASES_LIVE` says how many cases (default 10,000 a port), `SAPWOOD_FUZZ_SEED` the first one's seed. A
//! case that fails prints its own seed.

use std::io::{ErrorKind, Read as _, Write as _};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex};

use rand::rngs::StdRng;
use rand::{Rng as _, SeedableRng as _};

use crate::support::node_process::*;
use crate::support::peer_frames;

/// Most that a node may grow under noise, in bytes.
const GROWTH: u64 = 64 << 20;

/// Cases after which a node has its buffers and threads, so that growth counts from there.
const WARM_UP: usize = 200;

fn from_env(name: &str) -> Option<u64> {
    std::env::var(name).ok().map(|value| value.parse().unwrap())
}

fn seeds() -> std::ops::Range<u64> {
    let cases = from_env("SAPWOOD_FUZZ_CASES_LIVE").unwrap_or(10_000);
    let first = from_env("SAPWOOD_FUZZ_SEED").unwrap_or_else(|| StdRng::from_os_rng().random::<u32>().into());
    first..first + cases
}

/// Flips, drops, repeats or inserts a few bytes.
fn damage(bytes: &mut Vec<u8>, rng: &mut StdRng) {
    for _ in 0..rng.random_range(1..6) {
        let at = rng.random_range(0..=bytes.len());
        match rng.random_range(0..5) {
            0 => bytes.insert(at, rng.random()),
            1 => bytes.truncate(at),
            2 => {
                let piece = bytes[at..].iter().take(16).copied().collect::<Vec<_>>();
                bytes.splice(at..at, piece);
            }
            _ if at < bytes.len() => bytes[at] = rng.random(),
            _ => {}
        }
    }
}

/// Sends bytes to a port, ends the stream and requires the node to end it too.
fn throw(address: SocketAddr, bytes: &[u8], seed: u64) {
    let mut stream = TcpStream::connect(address).unwrap_or_else(|error| panic!("seed {seed}: {error}"));
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream.set_write_timeout(Some(PATIENCE)).unwrap();
    let thrown = stream.write_all(bytes).and_then(|()| stream.shutdown(Shutdown::Write));
    let ended = thrown.and_then(|()| stream.read_to_end(&mut Vec::new()).map(drop));
    if let Err(error) = ended {
        let kind = error.kind();
        let hung = matches!(kind, ErrorKind::WouldBlock | ErrorKind::TimedOut);
        assert!(!hung, "SAPWOOD_FUZZ_SEED={seed}: not closed after {}", bytes.escape_ascii());
    }
}

/// What must hold of a node whatever it was sent, and of its peer.
fn check(a: &NodeProcess, b: &NodeProcess, resident_before: u64) {
    let mut on_a = a.connect();
    assert_eq!(ask::<String>(&mut on_a, &["PING"]), "PONG");
    wait("still linked", || a.peers_in("linked").iter().any(|peer| peer["name"] == "b"));
    wait("still linked", || b.linked() == 1);
    ask::<()>(&mut on_a, &["SET", "after", "noise"]);
    let mut on_b = b.connect();
    wait("still replicating", || ask::<Option<String>>(&mut on_b, &["GET", "after"]).is_some());
    wait("connections are gone", || a.info("connected_clients").parse::<u32>().unwrap() < 5);
    let growth = a.resident().saturating_sub(resident_before);
    assert!(growth < GROWTH, "grew by {growth} bytes");
    assert!(!a.log().contains("panicked"), "a task panicked");
    assert!(!b.log().contains("panicked"), "a task panicked");
}

#[test]
fn a_live_node_stands_random_and_mutated_bytes_from_clients() {
    const PIECES: &[&[u8]] = &[
        b"*3\r\n$3\r\nSET\r\n$1\r\nk\r\n$5\r\nvalue\r\n",
        b"*3\r\n$6\r\nEXPIRE\r\n$1\r\nk\r\n$3\r\n100\r\n",
        b"*4\r\n$4\r\nSCAN\r\n$1\r\n0\r\n$5\r\nMATCH\r\n$9\r\n*?[a-z]\\*\r\n",
        b"*2\r\n$4\r\nMGET\r\n$0\r\n\r\n",
        b"*2\r\n$5\r\nHELLO\r\n$1\r\n3\r\n",
        b"*14\r\n",
        b"*2147483647\r\n",
        b"*1048576\r\n",
        b"$536870912\r\n",
        b"*2\r\n$3\r\nGET\r\n$16777216\r\n",
        b"*0\r\n*-1\r\n\r\n",
        b"SET \"a\\x41\\n\" 'b\\'c' EX 100\r\n",
        b"KEYS [^a-\\\\*]*?*\r\n",
        b"SAPWOOD META k\r\nSAPWOOD PEERS\r\nSAPWOOD DIGEST\r\n",
        b"INFO everything\r\nCLIENT LIST\r\nCOMMAND DOCS\r\nCONFIG GET *\r\n",
        b"MONITOR\r\n",
        b"GETEX k PXAT 99999999999999\r\nSETEX k -1 v\r\nPEXPIRE k 9223372036854775807\r\n",
        b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
    ];
    let a = NodeProcess::start("a", &[], &[]);
    let b = NodeProcess::start("b", &[&a], &[]);
    until_linked(&[&a, &b]);
    let mut before = a.resident();
    for (n, seed) in seeds().enumerate() {
        if n == WARM_UP {
            before = a.resident();
        }
        let rng = &mut StdRng::seed_from_u64(seed);
        let mut bytes = Vec::new();
        for _ in 0..rng.random_range(1..8) {
            match rng.random_range(0..6) {
                0 => bytes.extend((0..rng.random_range(0..200)).map(|_| rng.random::<u8>())),
                _ => bytes.extend_from_slice(PIECES[rng.random_range(0..PIECES.len())]),
            }
        }
        if rng.random_bool(0.7) {
            damage(&mut bytes, rng);
        }
        throw(a.client, &bytes, seed);
    }
    check(&a, &b, before);
}

/// Passes bytes between one dialling node and `target`, and keeps what each of them sent first.
fn record(target: SocketAddr, listener: TcpListener) -> Arc<Mutex<[Vec<u8>; 2]>> {
    const MOST: usize = 1 << 20;
    let tape = Arc::new(Mutex::new([Vec::new(), Vec::new()]));
    let kept = Arc::clone(&tape);
    std::thread::spawn(move || {
        let inside = listener.accept().unwrap().0;
        let outside = TcpStream::connect(target).unwrap();
        for (track, from, to) in [(0, &inside, &outside), (1, &outside, &inside)] {
            let (mut from, mut to) = (from.try_clone().unwrap(), to.try_clone().unwrap());
            let tape = Arc::clone(&tape);
            std::thread::spawn(move || {
                let mut chunk = [0; 16 << 10];
                while let Ok(read @ 1..) = from.read(&mut chunk) {
                    let mut tape = tape.lock().unwrap();
                    if tape[track].len() < MOST {
                        tape[track].extend_from_slice(&chunk[..read]);
                    }
                    drop(tape);
                    if to.write_all(&chunk[..read]).is_err() {
                        break;
                    }
                }
                let _ = to.shutdown(Shutdown::Both);
            });
        }
    });
    kept
}

/// The messages of recorded traffic.
fn messages(mut bytes: &[u8]) -> Vec<Vec<u8>> {
    let mut messages = Vec::new();
    while let Some((message, rest)) = peer_frames::split(bytes) {
        messages.push(message.to_vec());
        bytes = rest;
    }
    messages
}

#[test]
fn a_live_node_stands_random_and_mutated_bytes_from_peers() {
    // A recorded hello stays acceptable for as long as the test may take.
    let flags = ["--max-clock-skew", "10m"];
    let a = NodeProcess::start("a", &[], &flags);
    let b = NodeProcess::start("b", &[&a], &flags);
    until_linked(&[&a, &b]);

    let tape = {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let through = format!("--join={}", listener.local_addr().unwrap());
        let tape = record(a.peer, listener);
        // It advertises an address that nobody listens on, so that every link of its is dialled through the proxy.
        let advertised = free_address().to_string();
        let model =
            NodeProcess::start("model", &[], &[&flags[..], &[&through, "--advertise", &advertised]].concat());
        wait("recorded a link", || model.peers_in("linked").iter().any(|peer| peer["name"] == "a"));
        load(&mut a.connect(), 0..100, b"of a");
        load(&mut model.connect(), 100..200, b"of the model");
        until_equal(&[&a, &model]);
        Arc::clone(&tape)
    };
    let [dialled, answered] = tape.lock().unwrap().clone();
    let (dialled, answered) = (messages(&dialled), messages(&answered));
    assert!(dialled.len() > 3 && answered.len() > 3, "{} and {} frames", dialled.len(), answered.len());
    let others: Vec<&Vec<u8>> = dialled[1..].iter().chain(&answered).collect();

    let mut before = a.resident();
    for (n, seed) in seeds().enumerate() {
        if n == WARM_UP {
            before = a.resident();
        }
        let rng = &mut StdRng::seed_from_u64(seed);
        // The hello and the welcome open the link; what is kept of them lets the rest come further.
        let mut messages = dialled[..rng.random_range(0..=3).min(2)].to_vec();
        let opening = if rng.random_bool(0.8) { messages.len() } else { 0 };
        for _ in 0..rng.random_range(0..5) {
            messages.push(others[rng.random_range(0..others.len())].clone());
        }
        for message in &mut messages[opening..] {
            if rng.random_bool(0.3) {
                damage(message, rng);
            }
        }
        let mut bytes = Vec::new();
        for message in messages {
            let length =
                if rng.random_bool(0.02) { rng.random() } else { u32::try_from(message.len()).unwrap() };
            bytes.extend_from_slice(&peer_frames::header(length, &message));
            bytes.extend_from_slice(&message);
        }
        match rng.random_range(0..10) {
            0 => bytes = (0..rng.random_range(0..300)).map(|_| rng.random()).collect(),
            1 => damage(&mut bytes, rng),
            _ => {}
        }
        throw(a.peer, &bytes, seed);
    }
    check(&a, &b, before);
}
