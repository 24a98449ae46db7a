//! The `sapwood` command: what it prints, where, and the code it ends with.

#![allow(clippy::unwrap_used, reason = "the lint takes the helpers of a test for production code")]

#[path = "../support/command.rs"]
mod command;
#[path = "../support/one_peer.rs"]
mod one_peer;

mod cli;
#[cfg(unix)]
mod demo;
mod operator;
