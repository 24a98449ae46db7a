//! A server of the Redis protocol and clients that speak it in raw bytes.
#![allow(clippy::unwrap_used, reason = "a helper of tests fails as a test does")]
#![allow(dead_code, unreachable_pub, reason = "each test binary uses its own part")]

use std::net::SocketAddr;
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use sapwood::internal::cluster::{EventSender, Subscribers, VerificationState};
use sapwood::internal::env::{Env, Listener, SystemEnv};
use sapwood::internal::resp::Settings;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::task::JoinHandle;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use super::one_peer::{self, OnePeer, verification};

/// Long enough for any machine; reached only by a test that fails.
pub const PATIENCE: Duration = Duration::from_secs(30);

/// A server of the Redis protocol with one peer that never changes.
pub struct TestServer {
    pub address: SocketAddr,
    /// The calls of the cluster that would change it.
    pub calls: Arc<Mutex<Vec<String>>>,
    /// What happens to the cluster.
    pub events: EventSender,
    /// Receives what the clients of a peer would publish.
    pub subscribers: Arc<dyn Subscribers>,
    pub stop: CancellationToken,
    pub task: JoinHandle<()>,
    /// Whether the state of its peer is being fetched.
    pub fetching: Arc<AtomicBool>,
}

impl TestServer {
    pub async fn start() -> TestServer {
        TestServer::with(|_| ()).await
    }

    pub async fn with(change: impl FnOnce(&mut Settings)) -> TestServer {
        TestServer::at(SystemEnv.listen(([127, 0, 0, 1], 0).into()).await.unwrap(), change).await
    }

    pub async fn at(listener: Box<dyn Listener>, change: impl FnOnce(&mut Settings)) -> TestServer {
        let address = listener.local_addr().unwrap();
        let stop = CancellationToken::new();
        let mut settings = one_peer::settings(address, &stop);
        change(&mut settings);
        let failed = VerificationState::Failed("the link was lost".into());
        let verified = vec![verification("c", VerificationState::Waiting, 0), verification("b", failed, 2)];
        let cluster = OnePeer { verified, ..OnePeer::default() };
        let calls = Arc::clone(&cluster.calls);
        let events = cluster.events.clone();
        let fetching = Arc::clone(&cluster.fetching);
        let server = one_peer::server(cluster, settings);
        let subscribers = server.subscribers();
        let until = stop.clone();
        let task = tokio::spawn(async move { server.run(listener, until).await });
        TestServer { address, calls, events, fetching, subscribers, stop, task }
    }

    pub async fn client(&self) -> Client {
        Client(TcpStream::connect(self.address).await.unwrap())
    }

    pub async fn stopped(self) {
        timeout(PATIENCE, self.task).await.expect("the server stops").unwrap();
    }
}

pub struct Client(pub TcpStream);

impl Client {
    pub async fn send(&mut self, bytes: impl AsRef<[u8]>) {
        self.0.write_all(bytes.as_ref()).await.unwrap();
    }

    /// Reads as many bytes as expected, which must be these.
    pub async fn expect(&mut self, expected: impl AsRef<[u8]>) {
        let expected = expected.as_ref();
        let mut bytes = vec![0; expected.len()];
        let mut got = 0;
        while got < bytes.len() && bytes[..got] == expected[..got] {
            match timeout(PATIENCE, self.0.read(&mut bytes[got..])).await {
                Ok(Ok(read)) if read > 0 => got += read,
                end => panic!("{end:?} after {}", bytes[..got].escape_ascii()),
            }
        }
        assert_eq!(
            bytes[..got].escape_ascii().to_string(),
            expected[..got].escape_ascii().to_string(),
            "instead of {}",
            expected.escape_ascii()
        );
    }

    pub async fn ask(&mut self, request: &str, reply: &str) {
        self.send(format!("{request}\r\n")).await;
        self.expect(reply).await;
    }

    /// The reply to a request, up to a marker sent after it.
    pub async fn reply(&mut self, request: &str) -> String {
        const MARK: &[u8] = b"$4\r\nmark\r\n";
        self.send(format!("{request}\r\nECHO mark\r\n")).await;
        let mut bytes = Vec::new();
        while !bytes.ends_with(MARK) {
            let read = timeout(PATIENCE, self.0.read_buf(&mut bytes)).await.unwrap().unwrap();
            assert!(read > 0, "closed after {}", bytes.escape_ascii());
        }
        String::from_utf8_lossy(&bytes[..bytes.len() - MARK.len()]).into_owned()
    }

    /// Sends a request and counts the pings of another client that are answered before it is.
    pub async fn pings_before_the_reply(&mut self, other: &mut Client, request: &str) -> usize {
        self.send(format!("{request}\r\n")).await;
        let (mut pings, mut first) = (0, [0]);
        loop {
            other.send("PING\r\n").await;
            let is_answered = tokio::select! {
                biased;
                read = self.0.peek(&mut first) => read.unwrap() > 0,
                ready = other.0.readable() => ready.is_err(),
            };
            other.expect("+PONG\r\n").await;
            if is_answered {
                return pings;
            }
            pings += 1;
        }
    }

    /// What is read up to this end.
    pub async fn until(&mut self, end: &str) -> String {
        let mut seen = Vec::new();
        while !seen.ends_with(end.as_bytes()) {
            let read = timeout(PATIENCE, self.0.read_buf(&mut seen)).await.unwrap().unwrap();
            assert!(read > 0, "the connection was closed after {}", String::from_utf8_lossy(&seen));
        }
        String::from_utf8(seen).unwrap()
    }

    /// What is left to read, up to the server closing the connection.
    pub async fn rest(&mut self) -> Vec<u8> {
        let mut bytes = Vec::new();
        timeout(PATIENCE, self.0.read_to_end(&mut bytes)).await.expect("the server closes").ok();
        bytes
    }
}
