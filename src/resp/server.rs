//! Accepts and closes client connections.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::{Duration, UNIX_EPOCH};

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::sync::Semaphore;
use tokio::time::{Instant, MissedTickBehavior, interval, timeout};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::audit::Audit;
use super::clients::Clients;
use super::command;
use super::connection;
use super::events::EventReaders;
use super::hub::Hub;
use super::monitor::Monitors;
use super::observer::Observer;
use super::publication::deliver_backlog;
#[cfg(feature = "scripts")]
use super::scripts::Scripts;
use super::shared::{Settings, Shared};
use super::slowlog::SlowLog;
use super::tracking::Tracking;
use super::users::Users;
use crate::accept::Acceptor;
use crate::cluster::{Cluster, Event, Missed, Subscribers};
use crate::env::{BoxStream, Env, Listener};
use crate::log_limit::LogLimit;
use crate::model::timestamp;
use crate::stats::Stats;
use crate::store::Store;
use crate::watch::Watches;

/// Most clients over the limit that are being refused at one time; each takes one of the files reserved for that.
/// Further ones are closed at once.
const MAX_REFUSALS: usize = 8;
/// How long a client over the limit may take to read its error and leave.
const REFUSAL_LIMIT: Duration = Duration::from_millis(500);
/// How long a stopping server waits for clients to read their last replies: many times what a network needs, and too
/// short to matter to an operator.
const UNREAD_LIMIT: Duration = Duration::from_millis(500);
/// How long after that it waits for running commands, such as `FLUSHALL` of many keys.
const DRAIN_LIMIT: Duration = Duration::from_secs(5);
/// How often the file of users is looked at. It is read when two looks find the same change.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// Serves the Redis protocol to clients.
pub struct Server {
    shared: Arc<Shared>,
}

impl Server {
    /// Creates a server of this store. Its uptime counts from here.
    pub fn new(store: Arc<Store>, env: Arc<dyn Env>, cluster: Arc<dyn Cluster>, settings: Settings) -> Self {
        let watches = Arc::new(Watches::new(Arc::clone(&store)));
        Server::counting(watches, store, env, cluster, Arc::new(Stats::new(command::names())), settings)
    }

    /// Creates a server that shares its watches and counters with the node, whose commands are those of [`command_names`](super::command_names).
    pub(crate) fn counting(
        watches: Arc<Watches>,
        store: Arc<Store>,
        env: Arc<dyn Env>,
        cluster: Arc<dyn Cluster>,
        stats: Arc<Stats>,
        settings: Settings,
    ) -> Self {
        let (hub, tracking) = (Arc::new(Hub::default()), Arc::new(Tracking::default()));
        let events = settings.notify_keyspace_events;
        let observer = Observer::new(events, Arc::clone(&store), Arc::clone(&hub), Arc::clone(&tracking));
        let users = settings.users.clone().unwrap_or_else(|| {
            Arc::new(Users::of_default(settings.password.as_ref(), command::catalog(), &*env))
        });
        let shared = Shared {
            store,
            watches,
            env,
            cluster,
            settings,
            users,
            clients: Clients::default(),
            audit: Audit::default(),
            event_faults: LogLimit::new(LogLimit::ONE),
            monitors: Monitors::default(),
            event_readers: EventReaders::default(),
            hub,
            observer,
            tracking,
            stats,
            #[cfg(feature = "scripts")]
            scripts: Scripts::default(),
            slowlog: SlowLog::default(),
            started: Instant::now(),
            cut: CancellationToken::new(),
            kill: CancellationToken::new(),
        };
        Server { shared: Arc::new(shared) }
    }

    /// Delivers messages of peers' clients to this server's subscribers.
    pub fn subscribers(&self) -> Arc<dyn Subscribers> {
        self.shared.hub.clone()
    }

    /// Serves until `stop` is cancelled. Then it accepts no more, lets each connection execute the commands it has
    /// read and write their replies, and returns once all are closed. A client that does not read loses its remaining
    /// replies after 500 ms. A command that takes 5 s longer than that is aborted.
    pub async fn run(&self, listener: Box<dyn Listener>, stop: CancellationToken) {
        let connections = TaskTracker::new();
        let (observing, until) = (Arc::clone(&self.shared), stop.clone());
        connections.spawn(async move { observing.observer.run(until).await });
        let (hub, until) = (Arc::clone(&self.shared.hub), stop.clone());
        connections.spawn(async move { until.run_until_cancelled(deliver_backlog(&hub)).await });
        let (users, until) = (Arc::clone(&self.shared), stop.clone());
        connections.spawn(async move { until.run_until_cancelled(follow_users(&users)).await });
        let mut second = interval(Duration::from_secs(1));
        second.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut events = self.shared.cluster.events();
        let refusals = Arc::new(Semaphore::new(MAX_REFUSALS));
        let mut acceptor = Acceptor::new(listener, "cannot accept connections");
        loop {
            // Cancel-safe: a dropped accept loses no connection, a dropped wait loses no event, and a tick is merely
            // late.
            tokio::select! {
                biased;
                () = stop.cancelled() => break,
                _ = second.tick() => {
                    self.shared.stats.sample();
                    self.shared.stats.peak_memory(self.shared.store.memory());
                }
                Some(event) = events.next() => self.send_event(&event),
                (stream, peer) = acceptor.next() => {
                    if let Some(surplus) = self.welcome(&connections, stream, peer, &stop) {
                        refuse(surplus, &refusals, &connections).await;
                    }
                }
            }
        }
        drop(acceptor);
        connections.close();
        if timeout(UNREAD_LIMIT, connections.wait()).await.is_ok() {
            return;
        }
        tracing::info!(
            clients = self.shared.clients.len(),
            "closing connections of clients that do not read"
        );
        self.shared.cut.cancel();
        if timeout(DRAIN_LIMIT, connections.wait()).await.is_err() {
            tracing::info!(clients = self.shared.clients.len(), "breaking off commands that take too long");
            self.shared.kill.cancel();
            connections.wait().await;
        }
    }

    /// Starts to serve a client; returns the connection if there are too many.
    fn welcome(
        &self,
        connections: &TaskTracker,
        stream: BoxStream,
        peer: SocketAddr,
        stop: &CancellationToken,
    ) -> Option<BoxStream> {
        let shared = &self.shared;
        shared.stats.connections.fetch_add(1, Relaxed);
        let addresses = (peer, shared.settings.client_addr);
        let now = shared.store.now(shared.env.wall_clock());
        let kill = shared.kill.child_token();
        match shared.clients.add(shared.settings.max_clients, addresses, now, kill) {
            Some(client) => {
                shared.stats.open.fetch_add(1, Relaxed);
                connections.spawn(connection::serve(shared.clone(), stream, client, stop.child_token()));
                None
            }
            None => {
                shared.stats.refused_connections.fetch_add(1, Relaxed);
                Some(stream)
            }
        }
    }

    fn send_event(&self, event: &Result<Event, Missed>) {
        let now = UNIX_EPOCH + timestamp::distance(self.shared.env.wall_clock(), timestamp::ZERO);
        self.shared.event_readers.send(event, now);
    }
}

/// Reloads users when their file changes, and applies each reload to the connections.
async fn follow_users(shared: &Shared) {
    let mut second = interval(LOOK_EVERY);
    second.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        // Cancel-safe: a tick is merely late, and that users were installed is kept.
        tokio::select! {
            biased;
            () = shared.users.installed() => command::close_unwelcome(shared),
            _ = second.tick(), if shared.users.path().is_some() => {
                shared.users.look().await;
                shared.stats.denied.files.store(shared.users.failures(), Relaxed);
                shared.stats.denied.is_file_bad.store(shared.users.fault().is_some(), Relaxed);
            }
        }
    }
}

/// Sends a client the error that there are too many. Closing a connection with unread input resets it, and the client
/// may not see the error. So a task waits until the client leaves, if there is room for one.
async fn refuse(mut stream: BoxStream, refusals: &Arc<Semaphore>, connections: &TaskTracker) {
    const TEXT: &[u8] = b"-ERR max number of clients reached\r\n";
    // The client is refused either way. The socket is new, so it takes these few bytes at once.
    let _ = timeout(REFUSAL_LIMIT, async {
        stream.write_all(TEXT).await?;
        stream.shutdown().await
    })
    .await;
    if let Ok(permit) = Arc::clone(refusals).try_acquire_owned() {
        connections.spawn(async move {
            let leaving = async { while stream.read(&mut [0; 1024]).await.is_ok_and(|read| read > 0) {} };
            let _ = timeout(REFUSAL_LIMIT, leaving).await;
            drop((stream, permit));
        });
    }
}
