//! The nodes of a demo, all in this process: added, stopped, and started again without data.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use anyhow::Context as _;
use sapwood::config::Config;
use sapwood::internal::Internals as _;
use sapwood::internal::env::BoxFuture;
use sapwood::internal::http::{DemoControl, DemoError, Host, NodeApi};
use sapwood::{Node, StartError};

/// Most nodes of a demo: each holds a copy of every key.
const MAX_NODES: usize = 8;

/// Most keys that are loaded by one request.
const MAX_LOAD: u64 = 1_000_000;

/// Loading yields to other tasks after this many keys.
const LOAD_STEP: u64 = 1_000;

/// The value of loaded keys.
pub(super) const LOADED: [u8; 100] = [b'.'; 100];

const CLUSTER: &str = "demo";

/// The nodes, named `a`, `b`, `c` and so on by index.
pub(super) struct DemoNodes {
    nodes: Mutex<Vec<DemoNode>>,
    /// Held while a node is started or stopped.
    changing: tokio::sync::Mutex<()>,
}

/// How long a node that is stopped while it is cut off waits for a peer to take its writes: short, because the end of
/// the demo waits for all nodes, and the data does not matter.
const DRAIN_TIMEOUT: Duration = Duration::from_secs(2);

struct DemoNode {
    name: String,
    /// Its addresses at the first start, which it keeps over a restart.
    client: SocketAddr,
    peer: SocketAddr,
    /// `None` while it is stopped.
    node: Option<Arc<Node>>,
}

impl DemoNodes {
    /// No nodes yet.
    pub(super) fn new() -> DemoNodes {
        DemoNodes { nodes: Mutex::new(Vec::new()), changing: tokio::sync::Mutex::new(()) }
    }

    /// Starts one more node, with ports that the system chooses.
    pub(super) async fn admit(&self) -> anyhow::Result<Arc<Node>> {
        let _changing = self.changing.lock().await;
        let any = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
        let place = u8::try_from(self.lock().len()).unwrap_or(u8::MAX);
        let name = char::from(b'a'.saturating_add(place)).to_string();
        let node = start(&name, any, any, self.peers_but(&name)).await?;
        let node = Arc::new(node);
        let client = node.client_addr().context("the node serves clients")?;
        let peer = node.peer_addr().context("the node accepts peers")?;
        self.lock().push(DemoNode { name, client, peer, node: Some(Arc::clone(&node)) });
        Ok(node)
    }

    /// The nodes by name; `None` for a stopped one.
    pub(super) fn all(&self) -> Vec<(String, Option<Arc<Node>>)> {
        self.lock().iter().map(|node| (node.name.clone(), node.node.clone())).collect()
    }

    /// Stops all nodes, the last one first.
    pub(super) async fn end(&self) {
        let _changing = self.changing.lock().await;
        let nodes: Vec<_> = self.lock().iter_mut().filter_map(|node| node.node.take()).collect();
        for node in nodes.iter().rev() {
            node.shutdown().await;
        }
    }

    fn peers_but(&self, name: &str) -> Vec<SocketAddr> {
        self.lock().iter().filter(|node| node.name != name).map(|node| node.peer).collect()
    }

    fn with<T>(&self, name: &str, what: impl FnOnce(&mut DemoNode) -> T) -> Result<T, DemoError> {
        let mut nodes = self.lock();
        let node = nodes.iter_mut().find(|node| node.name == name);
        node.map(what).ok_or_else(|| DemoError::UnknownNode(name.to_owned()))
    }

    fn running(&self, name: &str) -> Result<Arc<Node>, DemoError> {
        self.with(name, |node| node.node.clone())?.ok_or_else(|| not_now(format!("{name} is stopped")))
    }

    fn lock(&self) -> MutexGuard<'_, Vec<DemoNode>> {
        self.nodes.lock().expect("nobody panics with the lock")
    }
}

impl Host for DemoNodes {
    fn nodes(&self) -> Vec<NodeApi> {
        self.lock().iter().filter_map(|node| node.node.as_ref().map(|node| node.api())).collect()
    }

    fn demo(&self) -> Option<&dyn DemoControl> {
        Some(self)
    }
}

impl DemoControl for DemoNodes {
    fn stopped(&self) -> Vec<String> {
        let nodes = self.lock();
        nodes.iter().filter(|node| node.node.is_none()).map(|node| node.name.clone()).collect()
    }

    fn stop<'a>(&'a self, name: &'a str) -> BoxFuture<'a, Result<(), DemoError>> {
        Box::pin(async move {
            let _changing = self.changing.lock().await;
            let node = self.running(name)?;
            if self.lock().iter().filter(|node| node.node.is_some()).count() == 1 {
                return Err(not_now("it is the last that runs, and holds everything".into()));
            }
            self.with(name, |node| node.node = None)?;
            node.shutdown().await;
            Ok(())
        })
    }

    fn start<'a>(&'a self, name: &'a str) -> BoxFuture<'a, Result<(), DemoError>> {
        Box::pin(async move {
            let _changing = self.changing.lock().await;
            let (client, peer, runs) =
                self.with(name, |node| (node.client, node.peer, node.node.is_some()))?;
            if runs {
                return Err(not_now(format!("{name} runs")));
            }
            let node = start(name, client, peer, self.peers_but(name)).await;
            let node = Arc::new(node.map_err(|error| not_now(error.to_string()))?);
            self.with(name, |demo_node| demo_node.node = Some(node))
        })
    }

    fn add(&self) -> BoxFuture<'_, Result<String, DemoError>> {
        Box::pin(async move {
            if self.lock().len() >= MAX_NODES {
                return Err(not_now(format!("a demo has at most {MAX_NODES} nodes")));
            }
            let node = self.admit().await.map_err(|error| not_now(format!("{error:#}")))?;
            Ok(node.name().to_owned())
        })
    }

    fn load<'a>(
        &'a self,
        name: &'a str,
        prefix: &'a str,
        count: u64,
    ) -> BoxFuture<'a, Result<(), DemoError>> {
        Box::pin(async move {
            if count > MAX_LOAD {
                return Err(not_now(format!("at most {MAX_LOAD} keys at once")));
            }
            let node = self.running(name)?;
            for key in 0..count {
                node.set(format!("{prefix}{key}"), LOADED).map_err(|error| not_now(error.to_string()))?;
                if key % LOAD_STEP == 0 {
                    tokio::task::yield_now().await;
                }
            }
            Ok(())
        })
    }
}

fn not_now(why: String) -> DemoError {
    DemoError::NotNow(why)
}

async fn start(
    name: &str,
    client: SocketAddr,
    peer: SocketAddr,
    join: Vec<SocketAddr>,
) -> Result<Node, StartError> {
    let builder = Node::builder().name(name).cluster(CLUSTER).client(client).peer(peer).join(join);
    let settings = |config: &mut Config| (config.enable_faults, config.drain_timeout) = (true, DRAIN_TIMEOUT);
    builder.configure(settings).start().await
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn until(what: &str, condition: impl Fn() -> bool) {
        let waited = async {
            while !condition() {
                tokio::time::sleep(Duration::from_millis(2)).await;
            }
        };
        assert!(tokio::time::timeout(Duration::from_secs(30), waited).await.is_ok(), "{what}");
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn a_node_that_was_stopped_starts_empty_at_its_place_and_takes_everything() {
        let demo = DemoNodes::new();
        let (a, b) = (demo.admit().await.unwrap(), demo.admit().await.unwrap());
        demo.load("a", "key:", 2_500).await.unwrap();
        let holds_all = |node: &Node| node.key_count() == 2_500;
        until("b has all", || holds_all(&b)).await;
        let place = b.client_addr();
        drop(b);
        demo.stop("b").await.unwrap();
        assert_eq!(demo.stopped(), ["b"]);
        assert_eq!(demo.nodes().len(), 1);
        assert!(demo.stop("b").await.is_err() && demo.load("b", "key:", 1).await.is_err(), "it is stopped");

        demo.start("b").await.unwrap();
        assert!(demo.start("b").await.is_err(), "it runs");
        let b = demo.running("b").unwrap();
        assert_eq!(b.client_addr(), place);
        until("b has all again", || holds_all(&b) && holds_all(&a)).await;
        assert_eq!(demo.add().await.unwrap(), "c");
        demo.end().await;
    }

    #[tokio::test]
    async fn what_a_demo_will_not_do() {
        let demo = DemoNodes::new();
        demo.admit().await.unwrap();
        assert!(matches!(demo.stop("z").await, Err(DemoError::UnknownNode(name)) if name == "z"));
        assert!(matches!(demo.stop("a").await, Err(DemoError::NotNow(_))), "the last one stays");
        assert!(matches!(demo.load("a", "", MAX_LOAD + 1).await, Err(DemoError::NotNow(_))));
        for _ in 1..MAX_NODES {
            demo.add().await.unwrap();
        }
        assert!(matches!(demo.add().await, Err(DemoError::NotNow(_))));
        demo.end().await;
    }
}
