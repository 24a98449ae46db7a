//! The server: accepts connections, and ends them.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::{Duration, UNIX_EPOCH};

use tokio::io::AsyncWriteExt as _;
use tokio::time::{Instant, MissedTickBehavior, interval, sleep, timeout};
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
use super::shared::{Settings, Shared};
use super::tracking::Tracking;
use crate::cluster::{Audience, Cluster, Event, Missed};
use crate::env::{BoxStream, Env, Listener};
use crate::log_limit::LogLimit;
use crate::model::stamp;
use crate::stats::Stats;
use crate::store::Store;

/// How long accepting rests after an error, such as too many open files: they end when other connections do.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);
/// How long a client over the limit may take to accept its error.
const REFUSAL_LIMIT: Duration = Duration::from_secs(1);
/// How long a stopping server waits for clients to take their last replies.
const DRAIN_LIMIT: Duration = Duration::from_secs(5);

/// Serves the Redis protocol to clients.
pub struct Server {
    shared: Arc<Shared>,
}

impl Server {
    /// A server of this store. Its uptime counts from here.
    pub fn new(store: Arc<Store>, env: Arc<dyn Env>, cluster: Arc<dyn Cluster>, settings: Settings) -> Self {
        Server::counting(store, env, cluster, Arc::new(Stats::new(command::names())), settings)
    }

    /// The same, with the counters to write: those of [`command_names`](super::command_names).
    pub(crate) fn counting(
        store: Arc<Store>,
        env: Arc<dyn Env>,
        cluster: Arc<dyn Cluster>,
        stats: Arc<Stats>,
        settings: Settings,
    ) -> Self {
        debug_assert!(
            settings.max_key <= crate::store::MAX_KEY,
            "a cell holds every key that may be written"
        );
        let observer = Observer::new(settings.notify_keyspace_events);
        let shared = Shared {
            store,
            env,
            cluster,
            settings,
            clients: Clients::default(),
            audit: Audit::default(),
            event_faults: LogLimit::new(LogLimit::ONE),
            monitors: Monitors::default(),
            event_readers: EventReaders::default(),
            hub: Arc::new(Hub::default()),
            observer,
            tracking: Tracking::default(),
            stats,
            started: Instant::now(),
            kill: CancellationToken::new(),
        };
        Server { shared: Arc::new(shared) }
    }

    /// The clients of this server, as hearers of what the peers' clients publish.
    pub fn audience(&self) -> Arc<dyn Audience> {
        self.shared.hub.clone()
    }

    /// Serves until `stop` is cancelled. Then it accepts no more, lets each connection finish the commands it has read
    /// and write their replies, and returns once all are closed: after five seconds at the latest.
    pub async fn run(&self, mut listener: Box<dyn Listener>, stop: CancellationToken) {
        let connections = TaskTracker::new();
        let (observing, until) = (Arc::clone(&self.shared), stop.clone());
        connections.spawn(async move { observing.observer.run(&observing, until).await });
        let mut second = interval(Duration::from_secs(1));
        second.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut events = self.shared.cluster.events();
        let faults = LogLimit::new(LogLimit::ONE);
        loop {
            // Cancel-safe: an accept that is dropped has lost no connection, nor a wait an event, and a tick is merely
            // late.
            tokio::select! {
                biased;
                () = stop.cancelled() => break,
                _ = second.tick() => self.shared.stats.sample(),
                Some(event) = events.next() => self.tell(&event),
                accepted = listener.accept() => match accepted {
                    Ok((stream, peer)) => self.welcome(&connections, stream, peer, &stop),
                    Err(error) => {
                        faults.write(Instant::now(), |left_out| {
                            tracing::warn!(%error, left_out, "cannot accept connections");
                        });
                        stop.run_until_cancelled(sleep(ACCEPT_PAUSE)).await;
                    }
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
                shared.stats.open.fetch_add(1, Relaxed);
                connections.spawn(connection::serve(shared.clone(), stream, client, stop.child_token()));
            }
            None => {
                shared.stats.refused_connections.fetch_add(1, Relaxed);
                connections.spawn(refuse(stream));
            }
        }
    }

    fn tell(&self, event: &Result<Event, Missed>) {
        let now = UNIX_EPOCH + stamp::distance(self.shared.env.wall_clock(), stamp::ZERO);
        self.shared.event_readers.tell(event, now);
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
