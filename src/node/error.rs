//! Errors of a node's start and of its writes.

use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;

use crate::config::ConfigError;
use crate::resp::UsersError;
use crate::store::WriteError;
use crate::tls::CredentialsError;

/// A node could not start. Nothing of it is left running.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StartError {
    /// The configuration is invalid.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// A listening address could not be taken.
    #[error("cannot listen on {address}: choose another with {flag}")]
    Bind {
        /// The setting that names the address.
        flag: &'static str,
        /// The address.
        address: SocketAddr,
        /// The system's error.
        source: io::Error,
    },
    /// The files by which peers are authenticated cannot be used.
    #[error(transparent)]
    PeerCredentials(#[from] CredentialsError),
    /// The file of users cannot be used.
    #[error("--users-file {}", path.display())]
    Users {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        source: UsersError,
    },
    /// The file for lost cells cannot be written.
    #[error("cannot open the --lost-file: {0}")]
    LostFile(io::Error),
}

/// The peers that a node reached refuse it: its clock is off, its name is taken, or it belongs to another cluster.
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
        /// The key's length.
        bytes: usize,
        /// The limit.
        limit: usize,
    },
    /// The value is longer than [`Config::max_value`](crate::config::Config::max_value).
    #[error("the value has {bytes} bytes, more than the {limit} that max_value allows")]
    ValueTooLong {
        /// The value's length.
        bytes: usize,
        /// The limit.
        limit: usize,
    },
    /// The write would grow the cells beyond [`Config::max_memory`](crate::config::Config::max_memory), or tombstones
    /// beyond the memory reserved for them beside it.
    #[error("out of memory: max_memory is reached, only deletes are taken")]
    OutOfMemory,
    /// A counter, or this node's slot of it, would overflow.
    #[error("the counter would overflow")]
    Overflow,
    /// Restarts of nodes have left too many slots in the counter.
    #[error("too many incarnations have counted here: set the key to what it counts, and they are dropped")]
    TooManySlots,
    /// The key's value is not a 64-bit integer, so nothing can be added to it.
    #[error("the value is no integer of 64 bits")]
    NotAnInteger,
    /// The node was shut down: the write would not reach any peer.
    #[error("the node was shut down")]
    Stopped,
}

impl From<WriteError> for NodeError {
    fn from(error: WriteError) -> Self {
        match error {
            WriteError::KeyTooLong { bytes, limit } => NodeError::KeyTooLong { bytes, limit },
            WriteError::ValueTooLong { bytes, limit } => NodeError::ValueTooLong { bytes, limit },
            WriteError::OutOfMemory => NodeError::OutOfMemory,
            WriteError::Overflow => NodeError::Overflow,
            WriteError::NotAnInteger => NodeError::NotAnInteger,
            WriteError::TooManySlots => NodeError::TooManySlots,
        }
    }
}
