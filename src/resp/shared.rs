//! The state that the connections of a server share.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::Limits;
use super::audit::Audit;
use super::clients::Clients;
use super::events::EventReaders;
use super::hub::Hub;
use super::monitor::Monitors;
use super::observer::Observer;
#[cfg(feature = "scripts")]
use super::scripts::Scripts;
use super::slowlog::SlowLog;
use super::tracking::Tracking;
use super::users::Users;
use crate::cluster::Cluster;
use crate::config::{KeyspaceEvents, Secret};
use crate::env::Env;
use crate::log_limit::LogLimit;
use crate::model::Incarnation;
use crate::stats::Stats;
use crate::store::Store;
use crate::watch::Watches;

/// The settings of a server.
#[derive(Clone)]
pub struct Settings {
    /// The node's stable name.
    pub name: String,
    /// The cluster's name.
    pub cluster_name: String,
    /// The incarnation of this process.
    pub incarnation: Incarnation,
    /// The address clients connect to, as `CONFIG GET` and `CLIENT LIST` show it.
    pub client_addr: SocketAddr,
    /// The password of the only user, `default`; `None` admits every client. Not used if there are `users`.
    pub password: Option<Secret>,
    /// The users, if they come from a file.
    pub users: Option<Arc<Users>>,
    /// The limits of one request.
    pub limits: Limits,
    /// How many databases clients may select, from 0 on: 1 to 256.
    pub databases: u16,
    /// Most connections at a time; further ones get an error and are closed.
    pub max_clients: usize,
    /// `--max-memory` in bytes, to display; the store enforces it.
    pub max_memory: Option<u64>,
    /// Whether `FLUSHALL` is executed.
    pub enable_flush: bool,
    /// Whether scripts are executed.
    pub enable_scripts: bool,
    /// How long a script may run.
    pub script_time_limit: Duration,
    /// Whether reads of absent keys report them as absent while the peers' states are being fetched.
    pub serve_while_joining: bool,
    /// The enabled keyspace events, until `CONFIG SET` changes them.
    pub notify_keyspace_events: KeyspaceEvents,
    /// Cancelled by the command `SHUTDOWN`.
    pub shutdown: CancellationToken,
}

/// The state that all connections of a server share.
pub(super) struct Shared {
    pub(super) store: Arc<Store>,
    pub(super) watches: Arc<Watches>,
    pub(super) env: Arc<dyn Env>,
    pub(super) cluster: Arc<dyn Cluster>,
    pub(super) settings: Settings,
    pub(super) users: Arc<Users>,
    pub(super) clients: Clients,
    pub(super) audit: Audit,
    pub(super) event_faults: LogLimit,
    pub(super) monitors: Monitors,
    pub(super) event_readers: EventReaders,
    pub(super) hub: Arc<Hub>,
    pub(super) observer: Observer,
    pub(super) tracking: Arc<Tracking>,
    pub(super) stats: Arc<Stats>,
    #[cfg(feature = "scripts")]
    pub(super) scripts: Scripts,
    pub(super) slowlog: SlowLog,
    pub(super) started: Instant,
    /// Closes every connection that waits for its client to read.
    pub(super) cut: CancellationToken,
    /// Closes every connection at once; each holds a child token.
    pub(super) kill: CancellationToken,
}

impl Shared {
    /// Whether reads of absent keys are answered with `-LOADING`, because peers may hold them.
    pub(super) fn is_loading(&self) -> bool {
        !self.settings.serve_while_joining && self.cluster.is_fetching()
    }

    /// Completes a write to a client; fails once [`cut`](Self::cut) is cancelled while the write waits for the client.
    pub(super) async fn unless_cut(&self, write: impl Future<Output = io::Result<()>>) -> io::Result<()> {
        tokio::select! {
            biased;
            written = write => written,
            () = self.cut.cancelled() => Err(io::ErrorKind::TimedOut.into()),
        }
    }

    /// Must be called whenever a client has begun or ceased to want changes. Events are best effort, so a failure to
    /// follow changes is ignored for them.
    pub(super) fn adjust_observer(&self) {
        if let Err(error) = self.observer.adjust() {
            self.event_faults.write(Instant::now(), |left_out| {
                tracing::warn!(%error, left_out, "no keyspace events");
            });
        }
    }
}
