//! The node: wires the parts, starts and stops them.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::cluster::{
    Cluster, ClusterError, HealingStatus, LostCell, NodeState, PeerStatus, Verification, Way,
};
use crate::config::{Config, ConfigError};
use crate::env::{Env, Listener, SystemEnv, draw_incarnation};
use crate::model::{HashSeed, Incarnation, RangeCount};
use crate::replication::{HealingConfig, Identity, Replication, Setup};
use crate::resp::{Limits, Server, Settings};
use crate::store::{Store, StoreConfig};

/// A node could not start. Nothing of it is left running.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StartError {
    /// The configuration cannot be.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// A listening address could not be taken.
    #[error("cannot listen on {address}: choose another with {flag}")]
    Bind {
        /// The setting that names the address.
        flag: &'static str,
        /// The address.
        address: SocketAddr,
        /// What the system said.
        source: io::Error,
    },
    /// The file for lost cells cannot be written.
    #[error("cannot open the --lost-file: {0}")]
    LostFile(io::Error),
}

/// A running member of a cluster.
///
/// ```no_run
/// # async fn run() -> Result<(), sapwood::StartError> {
/// let node = sapwood::Node::start(sapwood::config::Config::default()).await?;
/// println!("clients connect to {}", node.client_addr());
/// node.shutdown().await;
/// # Ok(())
/// # }
/// ```
pub struct Node {
    name: String,
    client: SocketAddr,
    peer: SocketAddr,
    store: Arc<Store>,
    cluster: Arc<View>,
    stop: CancellationToken,
    tracker: TaskTracker,
    drain_timeout: Duration,
}

impl Node {
    /// Starts a node on the ambient tokio runtime.
    ///
    /// # Errors
    /// [`StartError`] if the configuration is invalid or an address cannot be taken.
    pub async fn start(config: Config) -> Result<Node, StartError> {
        Node::start_in(config, Arc::new(SystemEnv)).await
    }

    /// Starts a node that takes network, wall clock and randomness from `env`.
    ///
    /// # Errors
    /// As [`start`](Self::start).
    pub async fn start_in(config: Config, env: Arc<dyn Env>) -> Result<Node, StartError> {
        config.validate()?;
        let (clients, client) = listen(&*env, "--client", config.client).await?;
        let (peers, peer) = listen(&*env, "--peer", config.peer).await?;
        let incarnation = draw_incarnation(&*env);
        let name = config.name_at(client);
        let store = Arc::new(Store::new(StoreConfig {
            seed: HashSeed::of_cluster(&config.cluster),
            ranges: RangeCount::FULL,
            incarnation,
            max_memory: config.max_memory,
            feed_limit: config.peer_queue as u64,
        }));
        let own = Identity {
            cluster: config.cluster.clone(),
            name: name.clone(),
            advertise: advertise(&config, peer),
            max_clock_skew: config.max_clock_skew,
        };
        tracing::info!(name, cluster = config.cluster, %client, %peer, %incarnation, "node started");
        let stop = CancellationToken::new();
        let tracker = TaskTracker::new();
        let healing = HealingConfig {
            max_clock_skew: config.max_clock_skew,
            forget_after: config.forget_after,
            tombstone_limit: config.effective_tombstone_limit(),
            join_first: config.join_first,
        };
        let setup = Setup {
            store: Arc::clone(&store),
            env: Arc::clone(&env),
            own,
            incarnation,
            healing,
            join: config.join.clone(),
            queue_limit: config.peer_queue,
            lost_file: config.lost_file.clone(),
            enable_faults: config.enable_faults,
        };
        let replication = Replication::start(setup, peers).map_err(StartError::LostFile)?;
        let cluster = Arc::new(View { replication, stop: stop.clone() });
        let server = Server::new(
            Arc::clone(&store),
            Arc::clone(&env),
            Arc::clone(&cluster) as Arc<dyn Cluster>,
            settings(&config, &name, client, incarnation, &stop),
        );
        cluster.replication.set_audience(server.audience());
        let serving = stop.clone();
        let view = Arc::clone(&cluster);
        tracker.spawn(async move {
            serving.run_until_cancelled(view.replication.first_contact()).await;
            server.run(clients, serving).await;
        });
        let superseded = cluster.replication.superseded();
        let stopping = stop.clone();
        tracker.spawn(async move {
            if stopping.run_until_cancelled(superseded.cancelled()).await.is_some() {
                stopping.cancel();
            }
        });
        let drain_timeout = config.drain_timeout;
        Ok(Node { name, client, peer, store, cluster, stop, tracker, drain_timeout })
    }

    /// The node's name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Where clients connect, with the real port.
    pub fn client_addr(&self) -> SocketAddr {
        self.client
    }

    /// Where peers connect, with the real port.
    pub fn peer_addr(&self) -> SocketAddr {
        self.peer
    }

    /// The node's own state and its peers.
    pub fn cluster(&self) -> &dyn Cluster {
        &*self.cluster
    }

    /// The node's keys.
    pub fn store(&self) -> &Store {
        &self.store
    }

    /// Resolves when the node is told to stop, by [`shutdown`](Self::shutdown) or by a client's `SHUTDOWN`, or must
    /// because it [is superseded](Self::is_superseded).
    pub async fn stopped(&self) {
        self.stop.cancelled().await;
    }

    /// Whether another node has taken this one's name and place in the cluster.
    pub fn is_superseded(&self) -> bool {
        self.cluster.replication.superseded().is_cancelled()
    }

    /// Finishes the commands at hand, hands the last writes to a peer, says goodbye to all and ends every task.
    /// Takes little longer than the configured drain limit at most.
    pub async fn shutdown(&self) {
        self.stop.cancel();
        self.tracker.close();
        self.tracker.wait().await;
        self.cluster.replication.drain(self.drain_timeout).await;
        tracing::info!(name = self.name, "node stopped");
    }
}

impl Drop for Node {
    /// Ends every task at once; nothing is drained. Call [`shutdown`](Node::shutdown) first.
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

/// What the node's faces may know of the cluster.
struct View {
    replication: Replication,
    stop: CancellationToken,
}

impl Cluster for View {
    fn state(&self) -> NodeState {
        if self.stop.is_cancelled() {
            NodeState::Draining
        } else if self.replication.is_refusing() {
            NodeState::Full
        } else if self.replication.is_joined() {
            NodeState::Ready
        } else {
            NodeState::Joining
        }
    }

    fn peers(&self) -> Vec<PeerStatus> {
        self.replication.peers()
    }

    fn healing(&self) -> HealingStatus {
        self.replication.healing()
    }

    fn lost(&self) -> Vec<LostCell> {
        self.replication.lost()
    }

    fn forget(&self, name: &str) -> Result<(), ClusterError> {
        self.replication.forget(name)
    }

    fn found(&self) -> Result<(), ClusterError> {
        self.replication.found()
    }

    fn rejoin(&self) -> Result<(), ClusterError> {
        self.replication.rejoin()
    }

    fn cut(&self, peer: &str, way: Way) -> Result<(), ClusterError> {
        self.replication.cut(peer, way)
    }

    fn mend(&self, peer: &str, way: Way) -> Result<(), ClusterError> {
        self.replication.mend(peer, way)
    }

    fn verify(&self) {
        self.replication.verify();
    }

    fn publish(&self, channel: &[u8], message: &[u8]) {
        self.replication.publish(channel, message);
    }

    fn dropped_messages(&self) -> u64 {
        self.replication.dropped_messages()
    }

    fn verified(&self) -> Vec<Verification> {
        self.replication.verified()
    }
}

fn settings(
    config: &Config,
    name: &str,
    client_addr: SocketAddr,
    incarnation: Incarnation,
    stop: &CancellationToken,
) -> Settings {
    Settings {
        name: name.to_owned(),
        cluster_name: config.cluster.clone(),
        incarnation,
        client_addr,
        password: config.client_password.clone(),
        limits: Limits {
            max_bulk: config.max_key.max(config.max_value),
            max_command: config.max_command,
            ..Limits::default()
        },
        max_clients: config.max_clients,
        max_memory: config.max_memory,
        max_key: config.max_key,
        max_value: config.max_value,
        enable_flush: config.enable_flush,
        shutdown: stop.clone(),
    }
}

async fn listen(
    env: &dyn Env,
    flag: &'static str,
    address: SocketAddr,
) -> Result<(Box<dyn Listener>, SocketAddr), StartError> {
    let bind = |source| StartError::Bind { flag, address, source };
    let listener = env.listen(address).await.map_err(bind)?;
    let bound = listener.local_addr().map_err(bind)?;
    Ok((listener, bound))
}

/// Where peers are told to dial: as configured, else the listening address, else the port at whatever address
/// they see.
fn advertise(config: &Config, peer: SocketAddr) -> String {
    match &config.advertise {
        Some(address) => address.clone(),
        None if peer.ip().is_unspecified() => format!(":{}", peer.port()),
        None => peer.to_string(),
    }
}
