//! The options of a client.

use std::{fmt, time::Duration};

/// Options of a [`Client`](crate::Client). Every limit is shared by the client and all its clones.
///
/// ```
/// use std::time::Duration;
/// use sapwood_client::ClientOptions;
///
/// let options = ClientOptions {
///     password: Some("secret".into()),
///     request_timeout: Duration::from_millis(500),
///     ..ClientOptions::default()
/// };
/// ```
#[derive(Clone)]
pub struct ClientOptions {
    /// The user to log in as. Default: `default`. Without a password it has no effect.
    pub user: Option<String>,
    /// The user's password, if it has one. Default: none.
    pub password: Option<String>,
    /// Time limit for connecting to one node and for the reply to the first request. Default: 2 s.
    pub connect_timeout: Duration,
    /// Time limit of a request, from the call to the reply, waits for room and for a connection included. A
    /// connection that has received nothing for this long while a request was pending is closed. Default: 5 s.
    pub request_timeout: Duration,
    /// The shortest and the longest pause between passes over all nodes, if none could be reached. The pause doubles
    /// each time, and is cut by a random part of up to half. Default: 50 ms and 2 s.
    pub backoff: (Duration, Duration),
    /// Most requests that were accepted and have no reply yet; further ones wait for room. Default: 4,096, several
    /// times what keeps a node busy.
    pub max_requests_in_flight: usize,
    /// Most bytes of such requests. A larger request is sent alone. Default: 32 MiB, which keeps a node busy with
    /// large values.
    pub max_bytes_in_flight: usize,
    /// Use RESP3 for requests, so that [`Client::call`](crate::Client::call) returns maps as maps. Default: no.
    pub resp3: bool,
}

impl Default for ClientOptions {
    fn default() -> Self {
        Self {
            user: None,
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
        let Self { user, password, connect_timeout, request_timeout, backoff, .. } = self;
        f.debug_struct("ClientOptions")
            .field("user", user)
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
