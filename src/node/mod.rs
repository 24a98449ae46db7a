//! The node: wires, starts and stops the parts, and the interface of a program that embeds one.
//!
//! ```text
//!   NodeBuilder --> Node --+-- keys: get, set ... straight in the store
//!   Config -------->       +-- watch: a snapshot, then every change, as a stream
//!                          +-- Server, http, Replication: where it listens and dials
//! ```

mod builder;
mod descriptors;
mod error;
mod internals;
mod keys;
mod operator;
mod watch;

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use tokio::sync::OnceCell;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

pub use builder::NodeBuilder;
use descriptors::Descriptors;
pub use error::{JoinError, NodeError, StartError};
pub use internals::Internals;
pub use watch::{Watch, WatchError};

pub use crate::resp::UsersError;

use crate::cluster::{Cluster, Events, NodeState, PeerStatus, Status as _};
use crate::config::{Config, is_exposed};
use crate::env::{Env, Listener, SystemEnv, draw_incarnation};
use crate::http::{self, Host, NodeApi};
use crate::model::{HashSeed, Incarnation, RangeCount};
use crate::replication::{HealingConfig, Identity, Replication, Setup, ShutdownReport};
use crate::resp::{Limits, Server, Settings, Users, command_catalog, command_names};
use crate::stats::Stats;
use crate::store::{Lengths, Store, StoreConfig};
use crate::tls::{self, PeerTls};
use crate::watch::Watches;

/// A running member of a cluster.
///
/// Reads and writes use the program's own memory, and the writes reach every other member. `node.get` never waits. To
/// share a node between tasks, put it in an `Arc`.
///
/// ```
/// use std::time::Duration;
/// use sapwood::Node;
///
/// # tokio::runtime::Runtime::new()?.block_on(async {
/// let a = Node::builder().name("a").peer("127.0.0.1:0".parse()?).start().await?;
/// let b = Node::builder().name("b").join(a.peer_addr()).start().await?;
///
/// a.set("tree", "oak")?;
/// while b.get("tree").is_none() {
///     tokio::time::sleep(Duration::from_millis(1)).await;
/// }
/// assert_eq!(b.get("tree").unwrap().as_str()?, "oak");
///
/// b.shutdown().await;
/// a.shutdown().await;
/// # Ok::<(), Box<dyn std::error::Error>>(()) }).unwrap();
/// # Ok::<(), std::io::Error>(())
/// ```
pub struct Node {
    api: NodeApi,
    store: Arc<Store>,
    watches: Arc<Watches>,
    /// The users of its clients, if they come from a file.
    users: Option<Arc<Users>>,
    env: Arc<dyn Env>,
    replication: Arc<Replication>,
    /// Set once writes of the embedding program are refused, because no peer would receive them.
    closed: AtomicBool,
    stop: CancellationToken,
    tracker: TaskTracker,
    drain_timeout: Duration,
    /// The report of the shutdown, once it has ended.
    ended: OnceCell<ShutdownReport>,
    tls: Option<Arc<PeerTls>>,
}

impl Node {
    /// Sets up a node inside this program.
    pub fn builder() -> NodeBuilder {
        NodeBuilder::new()
    }

    /// Starts a node on the ambient tokio runtime. Returns once one of the peers to join has answered or all were
    /// tried, after at most a second. The node fetches their state afterwards: see [`joined`](Self::joined).
    ///
    /// # Errors
    /// [`StartError`] if the configuration is invalid or an address cannot be taken.
    pub async fn start(config: Config) -> Result<Node, StartError> {
        Node::start_with(config, Arc::new(SystemEnv)).await
    }

    /// Starts a node that takes network, wall clock and randomness from `env`.
    async fn start_with(config: Config, env: Arc<dyn Env>) -> Result<Node, StartError> {
        config.validate()?;
        let users = users(&config, &*env)?;
        let open_files = env.max_open_files();
        let descriptors = Descriptors::share(open_files, config.max_clients);
        let clients = listen(&*env, "--client", config.client).await?;
        let peers = listen(&*env, "--peer", config.peer).await?;
        let pages = listen(&*env, "--http", config.http).await?;
        let (client, peer) = (clients.as_ref().map(|l| l.address), peers.as_ref().map(|l| l.address));
        let incarnation = draw_incarnation(&*env);
        let name = config.name_at(client.or(peer).map_or(0, |address| address.port()));
        let tls = config.peer_credentials().map(|credentials| {
            PeerTls::load(credentials, &config.cluster, &name, Arc::clone(&env)).map(Arc::new)
        });
        let tls = tls.transpose()?;
        let store = Arc::new(Store::new(StoreConfig {
            seed: HashSeed::of_cluster(&config.cluster),
            ranges: RangeCount::FULL,
            incarnation,
            max_memory: config.max_memory,
            eviction: config.max_memory_policy,
            lengths: Lengths { key: config.max_key, value: config.max_value },
            feed_limit: config.peer_queue as u64,
        }));
        let own = Identity {
            cluster: config.cluster.clone(),
            name: name.clone(),
            advertise: peer.map_or_else(String::new, |peer| advertise(&config, peer)),
            max_clock_skew: config.max_clock_skew,
        };
        let shown = |address: Option<SocketAddr>| address.map_or("none".into(), |it| it.to_string());
        let http = pages.as_ref().map(|l| l.address);
        let (client_shown, peer_shown, http_shown) = (shown(client), shown(peer), shown(http));
        tracing::info!(
            name,
            cluster = config.cluster,
            client = client_shown,
            peer = peer_shown,
            http = http_shown,
            %incarnation,
            "node started"
        );
        if client.is_some() && descriptors.clients < config.max_clients {
            tracing::warn!(
                max_clients = descriptors.clients,
                open_files,
                "--max-clients is lowered to what the limit on open files leaves: raise `ulimit -n`"
            );
        }
        let stop = CancellationToken::new();
        let tracker = TaskTracker::new();
        let healing = HealingConfig {
            max_clock_skew: config.max_clock_skew,
            forget_after: config.forget_after,
            tombstone_limit: config.effective_tombstone_limit(),
        };
        let stats = Arc::new(Stats::new(command_names()));
        let setup = Setup {
            store: Arc::clone(&store),
            stats: Arc::clone(&stats),
            env: Arc::clone(&env),
            own,
            incarnation,
            tls: tls.clone(),
            healing,
            join: config.join.clone(),
            client_port: client.map(|address| address.port()),
            known_address: config.peer.is_some_and(|address| address.port() != 0),
            queue_limit: config.peer_queue,
            lost_file: config.lost_file.clone(),
            enable_faults: config.enable_faults,
            ready_alone_after: config.ready_alone_after,
            handshakes: descriptors.handshakes,
            node_stops: stop.clone(),
        };
        let replication =
            Replication::start(setup, peers.map(|peers| peers.listener)).map_err(StartError::LostFile)?;
        let replication = Arc::new(replication);
        let api = NodeApi {
            name: name.clone(),
            cluster_name: config.cluster.clone(),
            store: Arc::clone(&store),
            env: Arc::clone(&env),
            cluster: Arc::clone(&replication) as Arc<dyn Cluster>,
            stats: Arc::clone(&stats),
            started: Instant::now(),
            client,
            peer,
            http,
            max_memory: config.max_memory,
        };
        let watches = Arc::new(Watches::new(Arc::clone(&store)));
        let server = clients.map(|Listening { listener, address }| {
            let mut settings = settings(&config, &name, address, incarnation, &stop);
            settings.users = users.clone();
            settings.max_clients = descriptors.clients;
            let cluster = Arc::clone(&replication) as Arc<dyn Cluster>;
            let server = Server::counting(
                Arc::clone(&watches),
                Arc::clone(&store),
                Arc::clone(&env),
                cluster,
                stats,
                settings,
            );
            (server, listener)
        });
        if let Some((server, _)) = &server {
            replication.set_subscribers(server.subscribers());
        }
        // Before any write here: timestamps from before a restart may be ahead of this machine's clock.
        replication.first_contact().await;
        if let Some((server, listener)) = server {
            let serving = stop.clone();
            tracker.spawn(async move { server.run(listener, serving).await });
        }
        if let Some(Listening { listener, address }) = pages {
            let options = http::Options {
                address,
                env: Arc::clone(&env),
                connections: descriptors.pages,
                writes: config.http_writes,
                values: config.http_show_values,
                faults: config.enable_faults,
            };
            tracker.spawn(http::serve(listener, Arc::new(Alone(api.clone())), options, stop.clone()));
        }
        if let Some(tls) = tls.clone() {
            let stopping = stop.clone();
            tracker.spawn(async move {
                stopping.run_until_cancelled(tls::watch(tls)).await;
            });
        }
        let superseded = replication.superseded();
        let stopping = stop.clone();
        tracker.spawn(async move {
            if stopping.run_until_cancelled(superseded.cancelled()).await.is_some() {
                stopping.cancel();
            }
        });
        let (closed, drain_timeout) = (AtomicBool::new(false), config.drain_timeout);
        let ended = OnceCell::new();
        Ok(Node {
            api,
            store,
            watches,
            users,
            env,
            replication,
            closed,
            stop,
            tracker,
            drain_timeout,
            ended,
            tls,
        })
    }

    /// The node's name.
    pub fn name(&self) -> &str {
        &self.api.name
    }

    /// Where clients connect, with the real port; `None` if it serves none.
    pub fn client_addr(&self) -> Option<SocketAddr> {
        self.api.client
    }

    /// Where peers connect, with the real port; `None` if it does not listen for peers.
    pub fn peer_addr(&self) -> Option<SocketAddr> {
        self.api.peer
    }

    /// Where the page, the JSON API, metrics and health checks are, with the real port; `None` if nowhere.
    pub fn http_addr(&self) -> Option<SocketAddr> {
        self.api.http
    }

    /// The stage that the node has reached.
    pub fn state(&self) -> NodeState {
        self.replication.state()
    }

    /// Every peer that the node is linked to, dials, or refuses or is refused by, sorted by name.
    pub fn peers(&self) -> Vec<PeerStatus> {
        self.replication.peers()
    }

    /// A stream of events of the links and the members, from this call on. It ends with [`shutdown`](Self::shutdown).
    /// A reader that falls behind gets the number of missed events.
    pub fn events(&self) -> Events {
        self.replication.events()
    }

    /// Resolves once the node is [ready](NodeState::Ready): it holds the state of every peer that it could reach, or
    /// 30 s have passed since its start. A node that reaches no peer is ready after
    /// [`Config::ready_alone_after`](crate::config::Config::ready_alone_after); one without peers to join is ready at
    /// once.
    ///
    /// # Errors
    /// [`JoinError`] if all peers that it reached refuse it within that time, or if the node stops first. After a
    /// refusal it keeps trying, and is ready as soon as a peer accepts it.
    pub async fn joined(&self) -> Result<(), JoinError> {
        self.replication.joined().await.map_err(|why| JoinError { why })
    }

    /// Reads [`Config::users_file`](crate::config::Config::users_file) again, as the node also does within some seconds
    /// after a change; returns the number of users. New rights hold from the next requests on, and connections of users
    /// that are gone or off are closed. It blocks while it reads the file.
    ///
    /// # Errors
    /// If there is no such file, or it cannot be used. The users stay as they are.
    pub fn reload_users(&self) -> Result<usize, UsersError> {
        self.users.as_ref().ok_or(UsersError::NoFile)?.reload()
    }

    /// Checks a file of users as [`start`](Self::start) does for this configuration, and returns the number of users; 0
    /// without [`Config::users_file`](crate::config::Config::users_file).
    ///
    /// # Errors
    /// [`StartError::Users`] if it cannot be used.
    pub fn check_users(config: &Config) -> Result<usize, StartError> {
        Ok(users(config, &SystemEnv)?.map_or(0, |users| users.count()))
    }

    /// Resolves when the node has to stop: after [`shutdown`](Self::shutdown), after a client's `SHUTDOWN`, or
    /// because it [is superseded](Self::is_superseded).
    pub async fn stopped(&self) {
        self.stop.cancelled().await;
    }

    /// Whether another node has taken this one's name in the cluster.
    pub fn is_superseded(&self) -> bool {
        self.replication.superseded().is_cancelled()
    }

    /// Reads the certificates or secrets of peers again, and logs the outcome. New links use what was read; links that
    /// exist stay. If the files cannot be used, those read before stay in use. The node looks for new files every few
    /// seconds itself, so this only makes it sooner.
    ///
    /// It blocks while it reads the files.
    pub fn reload_peer_credentials(&self) {
        if let Some(tls) = &self.tls {
            tls.reload_and_log("asked to");
        }
    }

    /// Stops the node: completes running commands, sends the last writes to a peer, says goodbye to all and ends every
    /// task. Takes little longer than the configured drain limit. The keys can still be read afterwards.
    ///
    /// If no peer holds the last writes, it waits for one to link for as long as the drain limit allows, unless no peer
    /// can be expected. The report has the number of writes that no peer holds. Later calls return the same report.
    pub async fn shutdown(&self) -> ShutdownReport {
        let shutdown = async {
            self.closed.store(true, Ordering::Relaxed);
            self.stop.cancel();
            self.tracker.close();
            self.tracker.wait().await;
            let report = self.replication.drain(self.drain_timeout).await;
            tracing::info!(name = self.api.name, "node stopped");
            report
        };
        *self.ended.get_or_init(|| shutdown).await
    }
}

/// A [`Host`] with a single node.
struct Alone(NodeApi);

impl Host for Alone {
    fn nodes(&self) -> Vec<NodeApi> {
        vec![self.0.clone()]
    }
}

impl Drop for Node {
    /// Ends every task at once; nothing is drained. Call [`shutdown`](Node::shutdown) first.
    fn drop(&mut self) {
        self.stop.cancel();
        // An http task may still hold the node's api.
        self.replication.abandon();
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
        users: None,
        limits: Limits {
            max_bulk: config.max_key.max(config.max_value),
            max_command: config.max_command,
            ..Limits::default()
        },
        databases: config.databases,
        max_clients: config.max_clients,
        max_memory: config.max_memory,
        enable_flush: config.enable_flush,
        enable_scripts: config.enable_scripts,
        script_time_limit: config.script_time_limit,
        serve_while_joining: config.serve_while_joining,
        notify_keyspace_events: config.notify_keyspace_events,
        shutdown: stop.clone(),
    }
}

/// The users of a node's clients, if they come from a file.
fn users(config: &Config, env: &dyn Env) -> Result<Option<Arc<Users>>, StartError> {
    let Some(path) = config.users_file.clone() else { return Ok(None) };
    let refuses_open = !config.insecure && config.client.is_some_and(is_exposed);
    Users::open(path.clone(), config.client_password.clone(), refuses_open, command_catalog(), env)
        .map(|users| Some(Arc::new(users)))
        .map_err(|source| StartError::Users { path, source })
}

/// A socket that is bound.
struct Listening {
    listener: Box<dyn Listener>,
    address: SocketAddr,
}

async fn listen(
    env: &dyn Env,
    flag: &'static str,
    address: Option<SocketAddr>,
) -> Result<Option<Listening>, StartError> {
    let Some(address) = address else { return Ok(None) };
    let bind = |source| StartError::Bind { flag, address, source };
    let listener = env.listen(address).await.map_err(bind)?;
    let address = listener.local_addr().map_err(bind)?;
    Ok(Some(Listening { listener, address }))
}

/// The address that peers dial: as configured, else the listening address, else its port at whatever address they
/// see.
fn advertise(config: &Config, peer: SocketAddr) -> String {
    match &config.advertise {
        Some(address) => address.clone(),
        None if peer.ip().is_unspecified() => format!(":{}", peer.port()),
        None => peer.to_string(),
    }
}
