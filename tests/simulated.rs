//! Whole nodes on simulated time over a simulated network: nothing below `Env` may use the machine's own clock,
//! threads or sockets, or these tests hang, differ between runs, or do not build.

#![allow(clippy::unwrap_used, reason = "a helper of tests fails as a test does")]

use std::collections::BTreeMap;
use std::io;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime};

use rand::rngs::StdRng;
use rand::{Rng as _, SeedableRng as _};
use sapwood::Node;
use sapwood::cluster::NodeState;
use sapwood::config::Config;
use sapwood::env::{BoxFuture, BoxStream, Env, Listener};
use sapwood::model::{Time, stamp};
use sapwood::store::{Batch, Write};
use turmoil::net::{TcpListener, TcpStream};
use turmoil::{Builder, Sim};

/// How long, in simulated time, anything may take before it counts as failed.
const DEADLINE: Duration = Duration::from_secs(120);

/// One simulated host's share of the simulation's network and clock.
struct SimulatedEnv {
    random: Mutex<StdRng>,
    /// While set, every name resolves to the last host alone, as a round-robin name does at times.
    misled: Arc<AtomicBool>,
    names: &'static [&'static str],
}

/// The name of all hosts at once, as a headless service has it.
const EVERYONE: &str = "everyone:7172";

struct SimulatedListener(TcpListener);

impl Env for SimulatedEnv {
    fn wall_clock(&self) -> Time {
        stamp::time_since_epoch(turmoil::since_epoch().expect("read by a simulated host"))
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

struct Cluster<'a> {
    sim: Sim<'a>,
    nodes: Nodes,
    misled: Arc<AtomicBool>,
}

impl Cluster<'_> {
    /// Nodes of which all but the first name only the first.
    fn new(names: &'static [&'static str], seed: u64) -> Self {
        Cluster::joining(names, seed, names[0])
    }

    /// Nodes that all name `join`.
    fn joining(names: &'static [&'static str], seed: u64, join: &'static str) -> Self {
        let misled = Arc::new(AtomicBool::new(false));
        let mut sim = Builder::new()
            .simulation_duration(Duration::from_secs(3600))
            .tick_duration(Duration::from_millis(1))
            .max_message_latency(Duration::from_millis(5))
            .tcp_capacity(1 << 16)
            .rng_seed(seed)
            .epoch(SystemTime::UNIX_EPOCH + Duration::from_secs(1_700_000_000))
            .build();
        let nodes = Nodes::default();
        for (n, &name) in names.iter().enumerate() {
            let (nodes, misled) = (Arc::clone(&nodes), Arc::clone(&misled));
            sim.host(name, move || {
                let (nodes, misled) = (Arc::clone(&nodes), Arc::clone(&misled));
                async move {
                    let random = Mutex::new(StdRng::seed_from_u64(seed * 100 + n as u64));
                    let config = Config {
                        name: Some(name.into()),
                        client: "0.0.0.0:7171".parse()?,
                        peer: "0.0.0.0:7172".parse()?,
                        join: if join == name { vec![] } else { vec![format!("{join}:7172")] },
                        advertise: Some(format!("{name}:7172")),
                        insecure: true,
                        ..Config::default()
                    };
                    let node =
                        Node::start_in(config, Arc::new(SimulatedEnv { random, misled, names })).await?;
                    nodes.lock().unwrap().insert(name, Arc::new(node));
                    std::future::pending::<turmoil::Result>().await
                }
            });
        }
        let mut cluster = Cluster { sim, nodes, misled };
        cluster.until("all nodes are linked", |cluster| {
            names.iter().all(|name| cluster.links(name) == names.len() - 1)
        });
        cluster
    }

    fn crash(&mut self, name: &'static str) {
        self.nodes.lock().unwrap().remove(name);
        self.sim.crash(name);
    }

    fn node(&self, name: &str) -> Option<Arc<Node>> {
        self.nodes.lock().unwrap().get(name).cloned()
    }

    fn links(&self, name: &str) -> usize {
        let peers = self.node(name).map(|node| node.cluster().peers()).unwrap_or_default();
        peers.iter().filter(|peer| peer.state.is_linked()).count()
    }

    fn now(&self) -> Time {
        stamp::time_since_epoch(self.sim.since_epoch())
    }

    fn write(&self, name: &str, key: &[u8], write: Write<'_>) {
        let node = self.node(name).unwrap();
        let mut batch = Batch::default();
        node.store().begin(&mut batch, self.now());
        node.store().write(&mut batch, key, |_| (write, ())).unwrap();
        node.store().publish(&mut batch);
    }

    fn set(&self, name: &str, key: &[u8], value: &[u8]) {
        self.write(name, key, Write::Set { value, deadline: None });
    }

    fn get(&self, name: &str, key: &[u8]) -> Option<Vec<u8>> {
        let node = self.node(name).unwrap();
        node.store().read(key, node.store().now(self.now()), |live| live.map(|live| live.value().to_vec()))
    }

    /// Steps the simulation until a condition holds.
    fn until(&mut self, what: &str, condition: impl Fn(&Self) -> bool) {
        let started = self.sim.elapsed();
        while !condition(self) {
            assert!(self.sim.elapsed() - started < DEADLINE, "not within {DEADLINE:?}: {what}");
            self.sim.step().unwrap();
        }
    }

    fn until_equal(&mut self) {
        self.until("all nodes hold the same cells", |cluster| {
            let nodes = cluster.nodes.lock().unwrap();
            let mut totals = nodes.values().map(|node| node.store().totals());
            let first = totals.next();
            totals.all(|other| Some(other) == first)
        });
    }
}

#[test]
fn after_a_partition_in_simulated_time_the_later_write_stands_and_the_dead_stay_dead() {
    for seed in 1..=10 {
        let mut cluster = Cluster::new(&["a", "b", "c"], seed);
        cluster.set("a", b"deleted", b"x");
        cluster.until("the first write is everywhere", |cluster| {
            ["b", "c"].iter().all(|name| cluster.get(name, b"deleted").is_some())
        });

        cluster.sim.partition("a", "b");
        cluster.sim.partition("a", "c");
        cluster.until("the cut is noticed", |cluster| cluster.links("a") == 0 && cluster.links("b") == 1);
        cluster.set("a", b"both", b"earlier");
        cluster.write("b", b"deleted", Write::Delete);
        for _ in 0..100 {
            cluster.sim.step().unwrap();
        }
        cluster.set("b", b"both", b"later");
        cluster.set("a", b"only a", b"1");
        cluster.until("c has what b wrote", |cluster| cluster.get("c", b"both").is_some());

        cluster.sim.repair("a", "b");
        cluster.sim.repair("a", "c");
        cluster.until_equal();
        for name in ["a", "b", "c"] {
            assert_eq!(cluster.get(name, b"both").as_deref(), Some(&b"later"[..]), "seed {seed}, {name}");
            assert_eq!(cluster.get(name, b"deleted"), None, "seed {seed}, {name}");
            assert!(cluster.get(name, b"only a").is_some(), "seed {seed}, {name}");
        }
    }
}

#[test]
fn a_crashed_node_comes_back_empty_and_takes_the_state() {
    let mut cluster = Cluster::new(&["a", "b", "c"], 7);
    for key in 0..3_000u32 {
        cluster.set("b", &key.to_le_bytes(), &[7; 50]);
    }
    cluster.until_equal();
    cluster.crash("b");
    cluster.sim.bounce("b");
    cluster.until("b is linked again", |cluster| cluster.links("b") == 2);
    cluster.until_equal();
    assert_eq!(cluster.node("b").unwrap().store().totals().live_cells, 3_000);
}

#[test]
fn the_same_seed_gives_the_same_history() {
    let history = |seed| {
        let mut cluster = Cluster::new(&["a", "b", "c"], seed);
        for key in 0..50u32 {
            cluster.set(["a", "b", "c"][key as usize % 3], &key.to_le_bytes(), b"v");
            cluster.sim.step().unwrap();
        }
        cluster.until_equal();
        (cluster.sim.elapsed(), cluster.node("a").unwrap().store().totals())
    };
    assert_eq!(history(3), history(3));
    assert_ne!(history(3).1, history(4).1);
}

/// A dial task that was cancelled because its name resolved elsewhere once left its link in the table for ever.
#[test]
fn a_name_that_resolves_elsewhere_for_a_while_leaves_no_dead_link() {
    for seed in 1..=4 {
        let mut cluster = Cluster::new(&["a", "b", "c"], seed);
        cluster.misled.store(true, Ordering::Relaxed);
        for _ in 0..12_000 {
            cluster.sim.step().unwrap();
        }
        cluster.misled.store(false, Ordering::Relaxed);
        cluster.until("everyone is linked again", |cluster| {
            ["a", "b", "c"].iter().all(|name| cluster.links(name) == 2)
        });
        cluster.set("a", b"x", b"1");
        cluster.until_equal();
    }
}

#[test]
fn what_reached_only_one_peer_before_its_writer_died_reaches_the_others() {
    let mut cluster = Cluster::new(&["a", "b", "c"], 3);
    cluster.sim.partition("a", "c");
    cluster.set("a", b"x", b"1");
    cluster.until("b has it", |cluster| cluster.get("b", b"x").is_some());
    assert_eq!(cluster.get("c", b"x"), None);
    cluster.crash("a");
    cluster.until("c has it from b", |cluster| cluster.get("c", b"x").is_some());
    assert_eq!(cluster.links("b"), 1);
}

/// Of a name with many addresses the node's own is dialled too, and answers first.
#[test]
fn a_node_is_not_ready_before_it_has_the_state_of_all_behind_a_name() {
    let mut cluster = Cluster::joining(&["a", "b", "c"], 3, "everyone");
    for key in 0..3_000u32 {
        cluster.set("b", &key.to_le_bytes(), &[7; 50]);
    }
    cluster.until_equal();
    cluster.crash("c");
    cluster.sim.bounce("c");
    cluster.until("c is ready", |cluster| {
        cluster.node("c").is_some_and(|node| node.cluster().state() == NodeState::Ready)
    });
    assert_eq!(cluster.node("c").unwrap().store().totals().live_cells, 3_000);
}
