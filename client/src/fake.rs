//! Fake nodes for tests, which follow a script.

use std::future::Future;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};

use crate::resp::encode_request;

/// A fake node that runs `script` for every connection, numbered from 0. Returns its address.
pub(crate) async fn node<F: Future<Output = ()> + Send + 'static>(
    script: impl Fn(usize, Client) -> F + Send + 'static,
) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let addr = listener.local_addr().unwrap().to_string();
    tokio::spawn(async move {
        for number in 0.. {
            let stream = listener.accept().await.unwrap().0;
            stream.set_nodelay(true).unwrap();
            tokio::spawn(script(number, Client { stream }));
        }
    });
    addr
}

/// The node's end of a connection.
pub(crate) struct Client {
    pub(crate) stream: TcpStream,
}

impl Client {
    /// Answers the greeting.
    pub(crate) async fn welcome(&mut self) {
        self.answer(&["PING"], "+PONG\r\n").await;
    }

    /// Reads one request, and panics if it is another one.
    pub(crate) async fn expect(&mut self, words: &[&str]) {
        let mut request = Vec::new();
        encode_request(&mut request, &words.iter().map(|word| word.as_bytes()).collect::<Vec<_>>());
        let mut received = vec![0; request.len()];
        self.stream.read_exact(&mut received).await.unwrap();
        assert_eq!(received.escape_ascii().to_string(), request.escape_ascii().to_string());
    }

    /// Reads one request, as [`expect`](Self::expect) does, and replies.
    pub(crate) async fn answer(&mut self, words: &[&str], reply: &str) {
        self.expect(words).await;
        self.say(reply).await;
    }

    pub(crate) async fn say(&mut self, reply: &str) {
        self.stream.write_all(reply.as_bytes()).await.unwrap();
    }

    /// Waits until the client closes, and panics if it sends more.
    pub(crate) async fn silence(&mut self) {
        assert_eq!(self.stream.read(&mut [0; 1]).await.unwrap_or(0), 0, "a request that was not expected");
    }

    /// Reads everything until the client closes.
    pub(crate) async fn drain(&mut self) {
        while self.stream.read(&mut [0; 4096]).await.is_ok_and(|len| len > 0) {}
    }
}
