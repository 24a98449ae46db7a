//! The interface of an http server to the nodes that it shows.

use std::net::SocketAddr;
use std::sync::Arc;

use tokio::time::Instant;

use crate::cluster::{Cluster, MAX_SHOWN_VALUE};
use crate::env::{BoxFuture, Env};
use crate::model::{Database, Incarnation, Time};
use crate::stats::Stats;
use crate::store::{KeyCopy, Store};

/// The nodes that one http server shows.
pub trait Host: Send + Sync {
    /// The running nodes, in display order. A request that names no node means the first.
    fn nodes(&self) -> Vec<NodeApi>;

    /// The control of the nodes, if this is a demonstration.
    fn demo(&self) -> Option<&dyn DemoControl> {
        None
    }
}

/// What the http server needs of one running node. Cheap to clone.
#[derive(Clone)]
pub struct NodeApi {
    /// The node's stable name.
    pub name: String,
    /// The cluster's name.
    pub cluster_name: String,
    /// Its keys.
    pub store: Arc<Store>,
    /// The source of its clock.
    pub env: Arc<dyn Env>,
    /// Its cluster.
    pub cluster: Arc<dyn Cluster>,
    /// Its counters of clients and commands.
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
}

/// Starts and stops the nodes of a demonstration.
pub trait DemoControl: Send + Sync {
    /// The nodes that were stopped and can be started again, by name.
    fn stopped(&self) -> Vec<String>;

    /// Stops a node and discards its keys.
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

/// A request to a [`DemoControl`] that was refused.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum DemoError {
    /// No such node is running, or no such node was stopped.
    #[error("there is no such node: {0:?}")]
    UnknownNode(String),
    /// It is not possible at present, for this reason.
    #[error("{0}")]
    NotNow(String),
}

impl NodeApi {
    /// The present time by the node's clock, which decides what has expired.
    pub(super) fn now(&self) -> Time {
        self.store.now(self.env.wall_clock())
    }

    /// The node's copy of a key of database 0.
    pub(super) fn copy(&self, key: &[u8]) -> KeyCopy {
        self.store.copy(&Database::ZERO.stored(key), self.now(), MAX_SHOWN_VALUE)
    }

    /// The name of the node with this incarnation; the incarnation itself if the name is not known.
    pub(super) fn name_of(&self, incarnation: Incarnation) -> String {
        if incarnation == self.store.own_incarnation() {
            return self.name.clone();
        }
        self.cluster.name_of(incarnation).unwrap_or_else(|| incarnation.to_string())
    }
}

impl std::fmt::Debug for NodeApi {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("NodeApi").field("name", &self.name).finish_non_exhaustive()
    }
}
