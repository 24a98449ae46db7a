//! Nodes on hosts of one simulation.

use std::collections::BTreeMap;
use std::io;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime};

use rand::rngs::StdRng;
use rand::{Rng as _, SeedableRng as _};
use sapwood::Node;
use sapwood::config::Config;
use sapwood::internal::Internals as _;
use sapwood::internal::env::{BoxFuture, BoxStream, Env, Listener};
use sapwood::internal::model::{Time, timestamp};
use sapwood::internal::store::{Batch, Write};
use turmoil::net::{TcpListener, TcpStream};
use turmoil::{Builder, Sim};

/// The wall clock at the start of every simulation.
const EPOCH: Duration = Duration::from_secs(1_700_000_000);

/// How long, in simulated time, anything may take before it counts as failed.
const DEADLINE: Duration = Duration::from_secs(120);

/// One simulated host's share of the simulation's network and clock.
struct SimulatedEnv {
    random: Mutex<StdRng>,
    /// The simulated time at the last step.
    elapsed: Arc<Mutex<Duration>>,
    /// While set, every name resolves to the last host alone, as a round-robin name does at times.
    misled: Arc<AtomicBool>,
    names: &'static [&'static str],
}

/// The name of all hosts at once, as a headless service has it.
const EVERYONE: &str = "everyone:7172";

struct SimulatedListener(TcpListener);

impl Env for SimulatedEnv {
    fn wall_clock(&self) -> Time {
        // Between two steps the test itself asks, which is no host.
        let outside = || EPOCH + *self.elapsed.lock().unwrap();
        timestamp::time_since_epoch(turmoil::since_epoch().unwrap_or_else(outside))
    }
    fn random(&self) -> u64 {
        self.random.lock().unwrap().random()
    }
    fn listen(&self, address: SocketAddr) -> BoxFuture<'_, io::Result<Box<dyn Listener>>> {
        Box::pin(async move {
            let listener = TcpListener::bind(address).await?;
            Ok(Box::new(SimulatedListener(listener)) as Box<dyn Listener>)
        })
    }
    fn connect(&self, address: SocketAddr) -> BoxFuture<'_, io::Result<BoxStream>> {
        Box::pin(async move { Ok(Box::new(TcpStream::connect(address).await?) as BoxStream) })
    }
    fn resolve<'a>(&'a self, host_port: &'a str) -> BoxFuture<'a, io::Result<Vec<SocketAddr>>> {
        Box::pin(async move {
            let address = |host: &str| SocketAddr::new(turmoil::lookup(host), 7172);
            if host_port == EVERYONE {
                return Ok(self.names.iter().map(|host| address(host)).collect());
            }
            let (host, _) = host_port.split_once(':').expect("HOST:PORT");
            let misled = self.misled.load(Ordering::Relaxed);
            Ok(vec![address(if misled { self.names[self.names.len() - 1] } else { host })])
        })
    }
}

impl Listener for SimulatedListener {
    fn local_addr(&self) -> io::Result<SocketAddr> {
        self.0.local_addr()
    }
    fn accept(&mut self) -> BoxFuture<'_, io::Result<(BoxStream, SocketAddr)>> {
        Box::pin(async move {
            let (stream, from) = self.0.accept().await?;
            Ok((Box::new(stream) as BoxStream, from))
        })
    }
}

type Nodes = Arc<Mutex<BTreeMap<&'static str, Arc<Node>>>>;

pub(crate) struct Cluster<'a> {
    pub(crate) sim: Sim<'a>,
    nodes: Nodes,
    elapsed: Arc<Mutex<Duration>>,
    pub(crate) misled: Arc<AtomicBool>,
}

impl Cluster<'_> {
    /// Nodes of which all but the first name only the first.
    pub(crate) fn new(names: &'static [&'static str], seed: u64) -> Self {
        Cluster::joining(names, seed, names[0])
    }

    /// Nodes that all name `join`.
    pub(crate) fn joining(names: &'static [&'static str], seed: u64, join: &'static str) -> Self {
        let misled = Arc::new(AtomicBool::new(false));
        let elapsed = Arc::<Mutex<Duration>>::default();
        let mut sim = Builder::new()
            .simulation_duration(Duration::from_secs(3600))
            // A simulated second takes 250 steps of each host, and a message up to five of them.
            .tick_duration(Duration::from_millis(4))
            .max_message_latency(Duration::from_millis(20))
            .tcp_capacity(1 << 16)
            .rng_seed(seed)
            .epoch(SystemTime::UNIX_EPOCH + EPOCH)
            .build();
        let nodes = Nodes::default();
        for (n, &name) in names.iter().enumerate() {
            let (nodes, misled, elapsed) = (Arc::clone(&nodes), Arc::clone(&misled), Arc::clone(&elapsed));
            // A host that starts again draws other numbers: an incarnation is never used twice.
            let starts = AtomicU64::new(0);
            sim.host(name, move || {
                let start = starts.fetch_add(1, Ordering::Relaxed);
                let (nodes, misled, elapsed) =
                    (Arc::clone(&nodes), Arc::clone(&misled), Arc::clone(&elapsed));
                async move {
                    let random = Mutex::new(StdRng::seed_from_u64((start * 1000 + seed) * 100 + n as u64));
                    let config = Config {
                        name: Some(name.into()),
                        client: Some("0.0.0.0:7171".parse()?),
                        peer: Some("0.0.0.0:7172".parse()?),
                        http: None,
                        join: if join == name { vec![] } else { vec![format!("{join}:7172")] },
                        advertise: Some(format!("{name}:7172")),
                        insecure: true,
                        ..Config::default()
                    };
                    let env = SimulatedEnv { random, elapsed, misled, names };
                    let node = Node::start_in(config, Arc::new(env)).await?;
                    nodes.lock().unwrap().insert(name, Arc::new(node));
                    std::future::pending::<turmoil::Result>().await
                }
            });
        }
        let mut cluster = Cluster { sim, nodes, elapsed, misled };
        cluster.until("all nodes are linked", |cluster| {
            names.iter().all(|name| cluster.links(name) == names.len() - 1)
        });
        cluster
    }

    pub(crate) fn crash(&mut self, name: &'static str) {
        self.nodes.lock().unwrap().remove(name);
        self.sim.crash(name);
    }

    pub(crate) fn node(&self, name: &str) -> Option<Arc<Node>> {
        self.nodes.lock().unwrap().get(name).cloned()
    }

    pub(crate) fn links(&self, name: &str) -> usize {
        let peers = self.node(name).map(|node| node.peers()).unwrap_or_default();
        peers.iter().filter(|peer| peer.state.is_linked()).count()
    }

    pub(crate) fn now(&self) -> Time {
        timestamp::time_since_epoch(self.sim.since_epoch())
    }

    pub(crate) fn write(&self, name: &str, key: &[u8], write: Write<'_>) {
        let node = self.node(name).unwrap();
        let mut batch = Batch::default();
        node.store().begin(&mut batch, self.now());
        node.store().write(&mut batch, key, |_| (write, ())).unwrap();
        node.store().publish(&mut batch);
    }

    pub(crate) fn set(&self, name: &str, key: &[u8], value: &[u8]) {
        self.write(name, key, Write::Set { value, deadline: None });
    }

    pub(crate) fn get(&self, name: &str, key: &[u8]) -> Option<Vec<u8>> {
        let node = self.node(name).unwrap();
        node.store().read(key, node.store().now(self.now()), |live| live.map(|live| live.value().to_vec()))
    }

    pub(crate) fn step(&mut self) {
        self.sim.step().unwrap();
        *self.elapsed.lock().unwrap() = self.sim.elapsed();
    }

    /// Steps for so long in simulated time.
    pub(crate) fn run_for(&mut self, time: Duration) {
        let until = self.sim.elapsed() + time;
        while self.sim.elapsed() < until {
            self.step();
        }
    }

    pub(crate) fn delete(&self, name: &str, key: &[u8]) {
        self.write(name, key, Write::Delete);
    }

    /// How many tombstones all nodes hold together.
    pub(crate) fn tombstones(&self) -> u64 {
        self.nodes.lock().unwrap().values().map(|node| node.store().totals().dead_cells).sum()
    }

    /// Steps the simulation until a condition holds.
    pub(crate) fn until(&mut self, what: &str, condition: impl Fn(&Self) -> bool) {
        let started = self.sim.elapsed();
        while !condition(self) {
            assert!(self.sim.elapsed() - started < DEADLINE, "not within {DEADLINE:?}: {what}");
            // A look at the totals adds up all ranges of all nodes, which takes longer than many steps.
            self.run_for(Duration::from_millis(100));
        }
    }

    pub(crate) fn until_equal(&mut self) {
        self.until("all nodes hold the same cells", |cluster| {
            let nodes = cluster.nodes.lock().unwrap();
            let mut totals = nodes.values().map(|node| node.store().totals());
            let first = totals.next();
            totals.all(|other| Some(other) == first)
        });
    }
}
