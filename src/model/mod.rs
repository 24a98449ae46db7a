//! The merge laws: timestamps, registers, counters and the arithmetic of digests; and how keys of databases are stored.
//!
//! This layer is pure: it uses no lock, socket or clock; time and identity come in as arguments. Everything above it
//! (the store, replication, the protocol) relies on two facts proven here by property tests:
//!
//! * [`Register::merge`] and [`counter::Slot::merge`] are commutative, associative and idempotent, so nodes agree
//!   whatever the order, repetition or path of what they receive (a state-based CRDT: Shapiro et al., 2011);
//! * a digest is an order-independent sum of [the hashes of cells](digest::register_hash), so it can be kept up to
//!   date by one subtraction and one addition a write.

pub mod counter;
pub mod database;
mod deadline;
pub mod digest;
pub mod register;
pub mod timestamp;
mod tree_node;
mod vector;

pub use database::Database;
pub use deadline::Deadline;
pub use digest::{Digest, HashSeed, RangeCount};
pub use register::Register;
pub use timestamp::{BadIncarnation, Incarnation, Time, Timestamp};
pub use tree_node::TreeNode;
pub use vector::Vector;
