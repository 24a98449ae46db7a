//! The parts of a node, for the command and the tests of this repository.

use std::sync::Arc;

use super::{Node, StartError};
use crate::cluster::Cluster;
use crate::config::Config;
use crate::env::Env;
use crate::http::NodeApi;
use crate::store::Store;

/// Access to the parts of a node.
pub trait Internals: Sized {
    /// Starts a node that takes network, wall clock and randomness from `env`.
    ///
    /// # Errors
    /// As [`Node::start`].
    fn start_in(config: Config, env: Arc<dyn Env>) -> impl Future<Output = Result<Self, StartError>> + Send;

    /// The node's keys. Writes to it pass by the node's limits and its shutdown.
    fn store(&self) -> &Store;

    /// The node's own state, its peers, and what an operator can change.
    fn cluster(&self) -> &dyn Cluster;

    /// This node for an http server that shows several.
    fn api(&self) -> NodeApi;
}

impl Internals for Node {
    async fn start_in(config: Config, env: Arc<dyn Env>) -> Result<Node, StartError> {
        Node::start_with(config, env).await
    }

    fn store(&self) -> &Store {
        &self.store
    }

    fn cluster(&self) -> &dyn Cluster {
        &*self.replication
    }

    fn api(&self) -> NodeApi {
        self.api.clone()
    }
}
