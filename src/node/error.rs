//! Why a node did not start, and why it refused a write.

use std::io;
use std::net::SocketAddr;

use crate::config::ConfigError;
use crate::store::WriteError;

/// A node could not start. Nothing of it is left running.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StartError {
    /// The configuration cannot be.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// A listening address could not be taken.
    #[error("cannot listen on {address}: choose another with {flag}")]
    Bind {
        /// The setting that names the address.
        flag: &'static str,
        /// The address.
        address: SocketAddr,
        /// What the system said.
        source: io::Error,
    },
    /// The file for lost cells cannot be written.
    #[error("cannot open the --lost-file: {0}")]
    LostFile(io::Error),
}

/// The peers that a node reached do not take it: its clock is off, its name is taken, or it belongs to another cluster.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the node has not joined: {why}")]
pub struct JoinError {
    pub(super) why: String,
}

/// A node refused a write of the program that embeds it. Nothing was changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum NodeError {
    /// The key is longer than [`Config::max_key`](crate::config::Config::max_key).
    #[error("the key has {bytes} bytes, more than the {limit} that max_key allows")]
    KeyTooLong {
        /// How long it is.
        bytes: usize,
        /// How long it may be.
        limit: usize,
    },
    /// The value is longer than [`Config::max_value`](crate::config::Config::max_value).
    #[error("the value has {bytes} bytes, more than the {limit} that max_value allows")]
    ValueTooLong {
        /// How long it is.
        bytes: usize,
        /// How long it may be.
        limit: usize,
    },
    /// It would have grown the cells beyond [`Config::max_memory`](crate::config::Config::max_memory), or tombstones beyond
    /// their reserve beside it.
    #[error("out of memory: max_memory is reached, only deletes are taken")]
    OutOfMemory,
    /// A counter, or this node's share of it, would leave the range of its totals.
    #[error("the counter would overflow")]
    Overflow,
    /// Restarts of nodes have left too many slots in the counter.
    #[error("too many incarnations have counted here: set the key to what it counts, and they are dropped")]
    TooManySlots,
    /// What the key holds is no integer of 64 bits, so nothing can be counted there.
    #[error("the value is no integer of 64 bits")]
    NotAnInteger,
    /// The node was shut down: nobody would hear of the write.
    #[error("the node was shut down")]
    Stopped,
}

impl From<WriteError> for NodeError {
    fn from(error: WriteError) -> Self {
        match error {
            WriteError::OutOfMemory => NodeError::OutOfMemory,
            WriteError::Overflow => NodeError::Overflow,
            WriteError::NotAnInteger => NodeError::NotAnInteger,
            WriteError::TooManySlots => NodeError::TooManySlots,
        }
    }
}
