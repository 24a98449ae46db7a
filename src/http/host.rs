//! What a server shows: the nodes of one process, and who plays with them.

use std::net::SocketAddr;
use std::sync::Arc;

use tokio::time::Instant;

use crate::cluster::Cluster;
use crate::env::{BoxFuture, Env};
use crate::stats::Stats;
use crate::store::Store;

/// The nodes that one http server shows.
pub trait Host: Send + Sync {
    /// Those that run now, in the order in which they are to be shown. The first is meant where none is named.
    fn nodes(&self) -> Vec<NodeApi>;

    /// Who starts and stops them, if somebody does.
    fn demo(&self) -> Option<&dyn DemoControl> {
        None
    }
}

/// One running node, as the http port sees it. Cheap to clone.
#[derive(Clone)]
pub struct NodeApi {
    /// The node's stable name.
    pub name: String,
    /// The cluster's name.
    pub cluster_name: String,
    /// Its keys.
    pub store: Arc<Store>,
    /// Where its clock comes from.
    pub env: Arc<dyn Env>,
    /// Its peers.
    pub cluster: Arc<dyn Cluster>,
    /// What it counts of its clients.
    pub stats: Arc<Stats>,
    /// When it was started.
    pub started: Instant,
    /// Where clients connect.
    pub client: Option<SocketAddr>,
    /// Where peers connect.
    pub peer: Option<SocketAddr>,
    /// Where this page is.
    pub http: Option<SocketAddr>,
    /// `--max-memory` in bytes.
    pub max_memory: Option<u64>,
    /// Longest key in bytes that may be written.
    pub max_key: usize,
    /// Longest value in bytes that may be written.
    pub max_value: usize,
}

/// Starts and stops the nodes of a demonstration.
pub trait DemoControl: Send + Sync {
    /// The nodes that were stopped and can be started again, by name.
    fn stopped(&self) -> Vec<String>;

    /// Stops a node; what it held is gone.
    ///
    /// # Errors
    /// [`DemoError`]; nothing was changed.
    fn stop<'a>(&'a self, node: &'a str) -> BoxFuture<'a, Result<(), DemoError>>;

    /// Starts a stopped node, empty.
    ///
    /// # Errors
    /// [`DemoError`]; nothing was changed.
    fn start<'a>(&'a self, node: &'a str) -> BoxFuture<'a, Result<(), DemoError>>;

    /// Adds a node; returns its name.
    ///
    /// # Errors
    /// [`DemoError`]; nothing was changed.
    fn add(&self) -> BoxFuture<'_, Result<String, DemoError>>;

    /// Writes keys `PREFIX0`, `PREFIX1` and so on at a node.
    ///
    /// # Errors
    /// [`DemoError`]; some of the keys may have been written.
    fn load<'a>(&'a self, node: &'a str, prefix: &'a str, count: u64)
    -> BoxFuture<'a, Result<(), DemoError>>;
}

/// What a [`DemoControl`] did not do.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum DemoError {
    /// No such node runs, or none was stopped.
    #[error("there is no such node: {0:?}")]
    UnknownNode(String),
    /// It cannot be done as things are, and why.
    #[error("{0}")]
    NotNow(String),
}

impl std::fmt::Debug for NodeApi {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("NodeApi").field("name", &self.name).finish_non_exhaustive()
    }
}
