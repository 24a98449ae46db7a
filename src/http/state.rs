//! What all requests share: the nodes, the settings, the token and the streams.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::http::StatusCode;
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;

use super::host::{Host, NodeApi};
use super::problem::Problem;
use super::topics::Topics;
use crate::env::Env;

/// Most bytes of a request's body. Larger values must be written over the Redis protocol.
pub(super) const MAX_BODY: usize = 1 << 20;

/// Time limit of a request until its response begins, the arrival of its body included. Starting and stopping the
/// nodes of a demonstration takes seconds.
pub(super) const REQUEST_LIMIT: Duration = Duration::from_secs(30);

/// Event streams may take one in this many connections, so that there is always one for health checks and scrapers.
const ONE_STREAM_IN: usize = 2;

/// The settings of a server.
#[derive(Clone)]
pub struct Options {
    /// The address it was bound to.
    pub address: SocketAddr,
    /// The source of its secrets.
    pub env: Arc<dyn Env>,
    /// Most connections at a time, up to 256. Streams of events get half of them.
    pub connections: usize,
    /// Whether requests may change anything.
    pub writes: bool,
    /// Whether values are shown.
    pub values: bool,
    /// Whether links may be cut; `writes` is required too.
    pub faults: bool,
}

/// The state that all requests share.
pub(super) struct App {
    pub(super) host: Arc<dyn Host>,
    pub(super) options: Options,
    pub(super) address: SocketAddr,
    /// The token that a request must carry to change anything; only this server's page contains it.
    pub(super) token: String,
    /// The topics of streams.
    pub(super) topics: Topics,
    /// Permits for streams.
    pub(super) streams: Arc<Semaphore>,
}

impl App {
    pub(super) fn new(host: Arc<dyn Host>, options: Options, stop: CancellationToken) -> App {
        App {
            host,
            address: options.address,
            token: format!("{:016x}{:016x}", options.env.random(), options.env.random()),
            streams: Arc::new(Semaphore::new((options.connections / ONE_STREAM_IN).max(1))),
            options,
            topics: Topics::new(stop),
        }
    }

    /// The node with this name; the first without a name.
    pub(super) fn api(&self, name: Option<&str>) -> Result<NodeApi, Problem> {
        let mut nodes = self.host.nodes().into_iter();
        match name {
            None => nodes.next().ok_or_else(|| Problem::new(StatusCode::SERVICE_UNAVAILABLE, "no node runs")),
            Some(name) => nodes
                .find(|api| api.name == name)
                .ok_or_else(|| Problem::unknown(format!("no node is named {name:?} here"))),
        }
    }
}
