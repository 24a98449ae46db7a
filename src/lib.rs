//! Sapwood: an eventually consistent, fully replicated, in-memory key-value store.

#[cfg(feature = "client")]
pub mod client;
#[cfg(feature = "daemon")]
pub mod cluster;
#[cfg(feature = "daemon")]
pub mod config;
#[cfg(feature = "daemon")]
pub mod env;
#[cfg(feature = "daemon")]
pub mod model;
#[cfg(feature = "daemon")]
mod node;
#[cfg(feature = "daemon")]
mod replication;
#[cfg(feature = "client")]
pub mod resp;
#[cfg(feature = "daemon")]
pub mod store;

#[cfg(feature = "daemon")]
pub use node::{Node, StartError};
