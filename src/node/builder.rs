//! Builds a node that a program embeds.

use std::net::SocketAddr;
use std::path::PathBuf;

use super::{Node, StartError};
use crate::config::{Config, EvictionPolicy, Secret};

/// The settings of an embedded node; [`Node::builder`] makes one.
///
/// A node listens only where an address is set. A node without a listener for peers is still a full member: it dials
/// the others, and what two such nodes write reaches them through any node that can be dialled.
#[must_use = "nothing runs before `start`"]
pub struct NodeBuilder {
    config: Config,
}

impl NodeBuilder {
    pub(super) fn new() -> Self {
        let config = Config { client: None, peer: None, http: None, ..Config::default() };
        NodeBuilder { config }
    }

    /// The stable name of the node, unique in its cluster: the others recognise it by this after a restart. A node
    /// without any listener must have one.
    pub fn name(mut self, name: impl Into<String>) -> Self {
        self.config.name = Some(name.into());
        self
    }

    /// The name of the cluster; nodes of another are refused.
    pub fn cluster(mut self, name: impl Into<String>) -> Self {
        self.config.cluster = name.into();
        self
    }

    /// Peers to dial first, each `HOST:PORT`; the rest are learnt from them. May name this node itself.
    pub fn join<P: ToString>(mut self, peers: impl IntoIterator<Item = P>) -> Self {
        self.config.join.extend(peers.into_iter().map(|peer| peer.to_string()));
        self
    }

    /// Lets other nodes link with this one; port 0 lets the system choose.
    pub fn peer(mut self, address: SocketAddr) -> Self {
        self.config.peer = Some(address);
        self
    }

    /// Serves Redis clients too; port 0 lets the system choose.
    pub fn client(mut self, address: SocketAddr) -> Self {
        self.config.client = Some(address);
        self
    }

    /// Serves the page, the JSON API, metrics and health checks; port 0 lets the system choose.
    pub fn http(mut self, address: SocketAddr) -> Self {
        self.config.http = Some(address);
        self
    }

    /// The password that clients must `AUTH` with.
    pub fn client_password(mut self, password: Secret) -> Self {
        self.config.client_password = Some(password);
        self
    }

    /// Peers must present a certificate of a CA in the file `ca` that names a node of the cluster, and this node presents
    /// `cert`, whose key is in the file `key`. All are PEM files, as `sapwood certs` makes them. Links are encrypted.
    pub fn peer_tls(
        mut self,
        cert: impl Into<PathBuf>,
        key: impl Into<PathBuf>,
        ca: impl Into<PathBuf>,
    ) -> Self {
        self.config.peer_tls_cert = Some(cert.into());
        self.config.peer_tls_key = Some(key.into());
        self.config.peer_tls_ca = Some(ca.into());
        self
    }

    /// Peers must know the secret in this file, of 32 random characters or more. Links are encrypted.
    pub fn peer_secret_file(mut self, path: impl Into<PathBuf>) -> Self {
        self.config.peer_secret_file = Some(path.into());
        self
    }

    /// The file of the users that clients `AUTH` as, in the format of Redis's ACL files.
    pub fn users_file(mut self, path: impl Into<PathBuf>) -> Self {
        self.config.users_file = Some(path.into());
        self
    }

    /// Bytes of keys and values to hold at most. Tombstones may take as much again beside them.
    pub fn max_memory(mut self, bytes: u64) -> Self {
        self.config.max_memory = Some(bytes);
        self
    }

    /// Which keys are deleted, on all nodes, to make room from 95 % of [`max_memory`](Self::max_memory) on. By default a
    /// write that needs more than there is is refused.
    ///
    /// ```
    /// use sapwood::config::EvictionPolicy;
    ///
    /// let cache = sapwood::Node::builder()
    ///     .name("a")
    ///     .max_memory(1 << 30)
    ///     .max_memory_policy(EvictionPolicy::AllKeysLru);
    /// ```
    pub fn max_memory_policy(mut self, policy: EvictionPolicy) -> Self {
        self.config.max_memory_policy = policy;
        self
    }

    /// Accepts a listening address that others can reach although connections are not authenticated.
    pub fn insecure(mut self) -> Self {
        self.config.insecure = true;
        self
    }

    /// Changes any setting.
    ///
    /// ```
    /// # use std::time::Duration;
    /// let builder = sapwood::Node::builder()
    ///     .name("a")
    ///     .configure(|config| config.forget_after = Some(Duration::from_secs(3600)));
    /// ```
    pub fn configure(mut self, change: impl FnOnce(&mut Config)) -> Self {
        change(&mut self.config);
        self
    }

    /// Starts the node on the ambient tokio runtime.
    ///
    /// # Errors
    /// As [`Node::start`].
    pub async fn start(self) -> Result<Node, StartError> {
        Node::start(self.config).await
    }
}

impl std::fmt::Debug for NodeBuilder {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("NodeBuilder").field("config", &self.config).finish()
    }
}
