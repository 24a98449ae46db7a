//! A node without peers, to measure it.

use std::net::SocketAddr;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};

use super::ask::{self, ask, pause};
use super::process::Process;

/// How long the node may take to start or to answer.
pub(crate) const PATIENCE: Duration = Duration::from_secs(30);

/// Starts a node on these cores with further flags; returns it once it answers, and where clients connect.
///
/// # Errors
/// If it does not answer in time.
pub(crate) fn start(scratch: &Path, cores: &[usize], flags: &[&str]) -> Result<(Process, SocketAddr)> {
    let [client, peer] = ask::free_ports()?;
    let mut command = Command::new(env!("CARGO_BIN_EXE_sapwood"));
    command.args(["serve", "--name", "bench", "--http", "none"]);
    command.args(["--client", &client.to_string(), "--peer", &peer.to_string()]).args(flags);
    for (name, _) in std::env::vars_os() {
        if name.to_string_lossy().starts_with("SAPWOOD_") {
            command.env_remove(name);
        }
    }
    let node = Process::start(command, cores, scratch.join("node.log"))?;
    let started = Instant::now();
    while ask::control(client, PATIENCE).and_then(|mut c| ask::<String>(&mut c, &["PING"])).is_err() {
        ensure!(started.elapsed() < PATIENCE, "the node did not start:\n{}", node.last_words());
        pause();
    }
    Ok((node, client))
}
