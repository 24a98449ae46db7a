//! What the connections of a server share.

use std::net::SocketAddr;
use std::sync::Arc;

use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::Limits;
use super::audit::Audit;
use super::clients::Clients;
use super::events::EventReaders;
use super::hub::Hub;
use super::monitor::Monitors;
use super::observer::Observer;
use super::tracking::Tracking;
use crate::cluster::Cluster;
use crate::config::{KeyspaceEvents, Secret};
use crate::env::Env;
use crate::log_limit::LogLimit;
use crate::model::Incarnation;
use crate::stats::Stats;
use crate::store::Store;

/// What a server is told about itself.
#[derive(Clone)]
pub struct Settings {
    /// The node's stable name.
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
    /// Whether absent keys are shown as such while the peers' states are being fetched.
    pub serve_while_joining: bool,
    /// Which changes of keys subscribers are told, until `CONFIG SET` says otherwise.
    pub notify_keyspace_events: KeyspaceEvents,
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
    pub(super) audit: Audit,
    pub(super) event_faults: LogLimit,
    pub(super) monitors: Monitors,
    pub(super) event_readers: EventReaders,
    pub(super) hub: Arc<Hub>,
    pub(super) observer: Observer,
    pub(super) tracking: Tracking,
    pub(super) stats: Arc<Stats>,
    pub(super) started: Instant,
    /// Ends every connection that waits for its client to read.
    pub(super) cut: CancellationToken,
    /// Ends every connection at once; each holds a child of it.
    pub(super) kill: CancellationToken,
}

impl Shared {
    /// Whether reads of absent keys are answered with `-LOADING`: peers may hold them.
    pub(super) fn is_loading(&self) -> bool {
        !self.settings.serve_while_joining && self.cluster.is_fetching()
    }

    /// To be called whenever a client has come to want changes, or ceased to. For events, which are best effort, it does
    /// not matter whether they can be followed.
    pub(super) fn adjust_observer(&self) {
        if let Err(error) = self.observer.adjust(self) {
            self.event_faults.write(Instant::now(), |left_out| {
                tracing::warn!(%error, left_out, "no keyspace events");
            });
        }
    }
}
