//! What the cluster tests share: nodes on free ports, direct reads and writes, waiting with a deadline.
#![allow(clippy::unwrap_used, reason = "a helper of tests fails as a test does")]
#![allow(dead_code, unreachable_pub, reason = "each test binary uses its own part")]

pub mod command;
pub mod counting;
pub mod faketime;
pub mod http;
pub mod network;
pub mod node_process;
pub mod peer_frames;

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use sapwood::Node;
use sapwood::config::Config;
use sapwood::internal::Internals as _;
use sapwood::internal::env::{Env, SystemEnv};
use sapwood::internal::store::{Batch, Write};
use sapwood::status::{PeerState, PeerStatus};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep};

/// How long anything in these tests may take before it counts as failed.
pub const DEADLINE: Duration = Duration::from_secs(30);

/// A configuration with free ports and a name; `join` are [`Node::peer_addr`]s.
pub fn config(name: &str, join: &[Option<SocketAddr>]) -> Config {
    Config {
        name: Some(name.into()),
        client: "127.0.0.1:0".parse().ok(),
        peer: "127.0.0.1:0".parse().ok(),
        http: None,
        join: join.iter().map(|address| address.unwrap().to_string()).collect(),
        ..Config::default()
    }
}

pub async fn start(name: &str, join: &[Option<SocketAddr>]) -> Node {
    Node::start(config(name, join)).await.unwrap()
}

/// Three nodes, of which the later two name only the first.
pub async fn three() -> [Node; 3] {
    let a = start("a", &[]).await;
    let b = start("b", &[a.peer_addr()]).await;
    let c = start("c", &[a.peer_addr()]).await;
    let nodes = [a, b, c];
    for node in &nodes {
        until("everyone is linked", || linked(node) == 2).await;
    }
    nodes
}

/// Waits until a condition holds.
///
/// # Panics
/// If it does not within [`DEADLINE`].
pub async fn until(what: &str, mut condition: impl FnMut() -> bool) {
    let started = Instant::now();
    while !condition() {
        assert!(started.elapsed() < DEADLINE, "not within {DEADLINE:?}: {what}");
        sleep(Duration::from_millis(2)).await;
    }
}

pub fn linked(node: &Node) -> usize {
    node.peers().iter().filter(|peer| peer.state == PeerState::Linked).count()
}

pub fn peer(node: &Node, state: PeerState) -> Option<PeerStatus> {
    node.peers().into_iter().find(|peer| peer.state == state)
}

pub fn write(node: &Node, key: &[u8], write: Write<'_>) {
    let mut batch = Batch::default();
    node.store().begin(&mut batch, SystemEnv.wall_clock());
    node.store().write(&mut batch, key, |_| (write, ())).unwrap();
    node.store().publish(&mut batch);
}

pub fn set(node: &Node, key: &[u8], value: &[u8]) {
    write(node, key, Write::Set { value, deadline: None });
}

pub fn delete(node: &Node, key: &[u8]) {
    write(node, key, Write::Delete);
}

pub fn get(node: &Node, key: &[u8]) -> Option<Vec<u8>> {
    let now = node.store().now(SystemEnv.wall_clock());
    node.store().read(key, now, |live| live.map(|live| live.value().to_vec()))
}

/// Waits until all nodes hold the same cells.
pub async fn until_equal(nodes: &[&Node]) {
    until("all nodes hold the same cells", || {
        let totals = |node: &Node| {
            let totals = node.store().totals();
            totals.live.wrapping_add(totals.dead)
        };
        nodes.windows(2).all(|pair| totals(pair[0]) == totals(pair[1]))
    })
    .await;
}

/// A TCP proxy in front of one address that can be cut: connections end and new ones are closed at once.
pub struct Proxy {
    pub addr: SocketAddr,
    cut: Arc<AtomicBool>,
    task: tokio::task::JoinHandle<()>,
}

impl Proxy {
    /// A proxy whose target is set later, so that a node can advertise the proxy's address.
    pub async fn new(target: tokio::sync::watch::Receiver<Option<SocketAddr>>) -> Proxy {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let addr = listener.local_addr().unwrap();
        let cut = Arc::new(AtomicBool::new(false));
        let is_cut = Arc::clone(&cut);
        let task = tokio::spawn(async move {
            let mut connections = JoinSet::new();
            let mut ticks = tokio::time::interval(Duration::from_millis(5));
            loop {
                tokio::select! {
                    accepted = listener.accept() => {
                        let (Ok((mut inside, _)), Some(target)) = (accepted, *target.borrow()) else { continue };
                        if !is_cut.load(Ordering::Relaxed) {
                            connections.spawn(async move {
                                if let Ok(mut outside) = TcpStream::connect(target).await {
                                    let _ = tokio::io::copy_bidirectional(&mut inside, &mut outside).await;
                                }
                            });
                        }
                    }
                    _ = ticks.tick() => {
                        if is_cut.load(Ordering::Relaxed) {
                            connections.abort_all();
                        }
                        while connections.try_join_next().is_some() {}
                    }
                }
            }
        });
        Proxy { addr, cut, task }
    }

    pub fn cut(&self) {
        self.cut.store(true, Ordering::Relaxed);
    }

    pub fn mend(&self) {
        self.cut.store(false, Ordering::Relaxed);
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// Two nodes that reach each other only through a proxy that can be cut.
pub async fn pair_with_proxy() -> (Node, Node, Proxy) {
    let (set_target, target) = tokio::sync::watch::channel(None);
    let proxy = Proxy::new(target).await;
    let advertised = Config { advertise: Some(proxy.addr.to_string()), ..config("a", &[]) };
    let a = Node::start(advertised).await.unwrap();
    set_target.send_replace(a.peer_addr());
    // The other one advertises an address that nobody listens on, so that every link is dialled through the proxy.
    let unused = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let advertised = Config { advertise: Some(unused.to_string()), ..config("b", &[Some(proxy.addr)]) };
    let b = Node::start(advertised).await.unwrap();
    until("the two are linked", || linked(&a) == 1 && linked(&b) == 1).await;
    (a, b, proxy)
}
