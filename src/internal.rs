//! The parts of a node, for the command, tests, benches and examples of this repository.
//!
//! **This module is no part of the public face of the crate. It may change at any time, in any release.** It holds no
//! code: everything here is defined elsewhere.

pub use crate::node::Internals;
#[cfg(feature = "simulation")]
pub use crate::replication::simulation;

/// Hashes of users' passwords.
pub mod acl {
    pub use crate::acl::{MAX_USER_NAME, hash_password};
}

/// The traits through which the Redis and http ports see the peers.
pub mod cluster {
    pub use crate::cluster::*;
}

/// Network, wall clock and randomness.
pub mod env {
    pub use crate::env::*;
}

/// The http port.
pub mod http {
    pub use crate::http::*;
}

/// Timestamps, merge rules and digests.
pub mod model {
    pub use crate::model::*;
}

/// Memory and processor time of this process.
pub mod process {
    pub use crate::process::*;
}

/// The server of the Redis protocol.
pub mod resp {
    pub use crate::resp::*;
}

/// Counts of commands, connections and latencies of clients.
pub mod stats {
    pub use crate::stats::*;
}

/// Every key.
pub mod store {
    pub use crate::store::*;
}

/// TLS between peers.
pub mod tls {
    pub use crate::tls::*;
}

/// Snapshots and changes for watchers.
pub mod watch {
    pub use crate::watch::*;
}
