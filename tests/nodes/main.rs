//! Nodes in this process, over real sockets on loopback: what they do for clients, for one another, and for the program that
//! embeds them. One program, as each that has nodes takes seconds to link.

#![allow(clippy::unwrap_used, reason = "the lint takes the helpers of a test for production code")]

#[path = "../support/one_peer.rs"]
mod one_peer;
#[path = "../support/raw_client.rs"]
mod raw_client;
#[path = "../support/mod.rs"]
mod support;

mod client;
mod cluster;
mod damage;
mod databases;
mod embedded;
mod events;
mod eviction;
mod http;
mod pubsub;
mod resp;
#[cfg(feature = "scripts")]
mod scripts;
mod slow_line;
mod transactions;
mod users;
mod versions;
mod waits;
mod watch;
