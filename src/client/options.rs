//! How a client behaves.

use std::{fmt, time::Duration};

/// How a [`Client`](super::Client) behaves. Every limit holds for the client with all its clones.
///
/// ```
/// use std::time::Duration;
/// use sapwood::client::ClientOptions;
///
/// let options = ClientOptions {
///     password: Some("secret".into()),
///     request_timeout: Duration::from_millis(500),
///     ..ClientOptions::default()
/// };
/// ```
#[derive(Clone)]
pub struct ClientOptions {
    /// The nodes' client password, if they have one. Default: none.
    pub password: Option<String>,
    /// The longest wait for one node to take the connection and answer its first question. Default: 2 s.
    pub connect_timeout: Duration,
    /// The longest a request may take, waiting for room, for a connection and for its reply included. A connection on
    /// which a request was out that long and nothing was heard is given up. Default: 5 s.
    pub request_timeout: Duration,
    /// The shortest and the longest pause between attempts to reach any node, once all were tried. The pause doubles
    /// from one to the other, and each is cut by a random part of up to half. Default: 50 ms and 2 s.
    pub backoff: (Duration, Duration),
    /// Most requests that were accepted and have no reply yet; more wait for room. Default: 4,096, some times what
    /// keeps a node busy.
    pub max_requests_in_flight: usize,
    /// Most bytes of such requests. A larger request goes alone. Default: 32 MiB, the same for large values.
    pub max_bytes_in_flight: usize,
    /// Speak RESP3 for requests, so that [`Client::call`](super::Client::call) returns maps as maps. Default: no.
    pub resp3: bool,
}

impl Default for ClientOptions {
    fn default() -> Self {
        Self {
            password: None,
            connect_timeout: Duration::from_secs(2),
            request_timeout: Duration::from_secs(5),
            backoff: (Duration::from_millis(50), Duration::from_secs(2)),
            max_requests_in_flight: 4096,
            max_bytes_in_flight: 32 << 20,
            resp3: false,
        }
    }
}

impl fmt::Debug for ClientOptions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { password, connect_timeout, request_timeout, backoff, .. } = self;
        f.debug_struct("ClientOptions")
            .field("password", &password.as_ref().map(|_| "…"))
            .field("connect_timeout", connect_timeout)
            .field("request_timeout", request_timeout)
            .field("backoff", backoff)
            .field("max_requests_in_flight", &self.max_requests_in_flight)
            .field("max_bytes_in_flight", &self.max_bytes_in_flight)
            .field("resp3", &self.resp3)
            .finish()
    }
}
