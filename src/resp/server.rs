//! The server: accepts connections, and holds what they share.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use tokio::io::AsyncWriteExt as _;
use tokio::time::{Instant, MissedTickBehavior, interval, sleep, timeout};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::Limits;
use super::clients::Clients;
use super::connection;
use super::monitor::Monitors;
use super::stats::Stats;
use crate::cluster::Cluster;
use crate::config::Secret;
use crate::env::{BoxStream, Env, Listener};
use crate::model::Incarnation;
use crate::store::Store;

/// How long accepting rests after an error, such as too many open files: they end when other connections do.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);
/// How long a client over the limit may take to accept its error.
const REFUSAL_LIMIT: Duration = Duration::from_secs(1);
/// How long a stopping server waits for clients to take their last replies.
const DRAIN_LIMIT: Duration = Duration::from_secs(5);

/// What a server is told about itself.
#[derive(Clone)]
pub struct Settings {
    /// The daemon's stable name.
    pub name: String,
    /// The cluster's name.
    pub cluster_name: String,
    /// This process's id.
    pub incarnation: Incarnation,
    /// The address clients connect to, as `CONFIG GET` and `CLIENT LIST` show it.
    pub client_addr: SocketAddr,
    /// The password of the only user, `default`; `None` lets everybody in.
    pub password: Option<Secret>,
    /// What one request may be.
    pub limits: Limits,
    /// Most connections at a time; one more gets an error and is closed.
    pub max_clients: usize,
    /// `--max-memory` in bytes, to be shown; the store enforces it.
    pub max_memory: Option<u64>,
    /// Longest key in bytes that may be written; at most [`MAX_KEY`](crate::store::MAX_KEY).
    pub max_key: usize,
    /// Longest value in bytes that may be written.
    pub max_value: usize,
    /// Whether `FLUSHALL` is executed.
    pub enable_flush: bool,
    /// Cancelled by the command `SHUTDOWN`.
    pub shutdown: CancellationToken,
}

/// What all connections of a server share.
pub(super) struct Shared {
    pub(super) store: Arc<Store>,
    pub(super) env: Arc<dyn Env>,
    pub(super) cluster: Arc<dyn Cluster>,
    pub(super) settings: Settings,
    pub(super) clients: Clients,
    pub(super) monitors: Monitors,
    pub(super) stats: Stats,
    pub(super) started: Instant,
    /// Ends every connection at once; each holds a child of it.
    kill: CancellationToken,
}

/// Serves the Redis protocol to clients.
pub struct Server {
    shared: Arc<Shared>,
}

impl Server {
    /// A server of this store. Its uptime counts from here.
    pub fn new(store: Arc<Store>, env: Arc<dyn Env>, cluster: Arc<dyn Cluster>, settings: Settings) -> Self {
        debug_assert!(
            settings.max_key <= crate::store::MAX_KEY,
            "a cell holds every key that may be written"
        );
        let shared = Shared {
            store,
            env,
            cluster,
            settings,
            clients: Clients::default(),
            monitors: Monitors::default(),
            stats: Stats::new(),
            started: Instant::now(),
            kill: CancellationToken::new(),
        };
        Server { shared: Arc::new(shared) }
    }

    /// Serves until `stop` is cancelled. Then it accepts no more, lets each connection finish the commands it has read
    /// and write their replies, and returns once all are closed: after five seconds at the latest.
    pub async fn run(&self, mut listener: Box<dyn Listener>, stop: CancellationToken) {
        let connections = TaskTracker::new();
        let mut second = interval(Duration::from_secs(1));
        second.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            // Cancel-safe: an accept that is dropped has lost no connection, and a tick is merely late.
            tokio::select! {
                biased;
                () = stop.cancelled() => break,
                _ = second.tick() => self.shared.stats.sample(),
                accepted = listener.accept() => match accepted {
                    Ok((stream, peer)) => self.welcome(&connections, stream, peer, &stop),
                    Err(error) => self.rest(&error, &stop).await,
                },
            }
        }
        drop(listener);
        connections.close();
        if timeout(DRAIN_LIMIT, connections.wait()).await.is_err() {
            tracing::info!(clients = self.shared.clients.len(), "closing connections that do not drain");
            self.shared.kill.cancel();
            connections.wait().await;
        }
    }

    fn welcome(
        &self,
        connections: &TaskTracker,
        stream: BoxStream,
        peer: SocketAddr,
        stop: &CancellationToken,
    ) {
        let shared = &self.shared;
        shared.stats.connections.fetch_add(1, Relaxed);
        let addresses = (peer, shared.settings.client_addr);
        let now = shared.store.now(shared.env.wall_clock());
        let kill = shared.kill.child_token();
        match shared.clients.add(shared.settings.max_clients, addresses, now, kill) {
            Some(client) => {
                connections.spawn(connection::serve(shared.clone(), stream, client, stop.child_token()));
            }
            None => {
                shared.stats.refused_connections.fetch_add(1, Relaxed);
                connections.spawn(refuse(stream));
            }
        }
    }

    async fn rest(&self, error: &io::Error, stop: &CancellationToken) {
        tracing::warn!(%error, "cannot accept connections");
        tokio::select! {
            () = stop.cancelled() => {}
            () = sleep(ACCEPT_PAUSE) => {}
        }
    }
}

async fn refuse(mut stream: BoxStream) {
    const TEXT: &[u8] = b"-ERR max number of clients reached\r\n";
    let refusal = async {
        stream.write_all(TEXT).await?;
        stream.shutdown().await
    };
    // The client is turned away either way.
    let _ = timeout(REFUSAL_LIMIT, refusal).await;
}
