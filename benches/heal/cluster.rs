//! The nodes under measurement, with a counting proxy before each peer port.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use redis::FromRedisValue;

use crate::proxy::Proxy;
use crate::support::ask::{self, ask, pause};
use crate::support::load;
use crate::support::process::Process;
use crate::tally::Tally;

/// How long anything may take before the run fails.
const PATIENCE: Duration = Duration::from_secs(240);

/// Some nodes that know of each other.
pub(crate) struct Cluster {
    pub(crate) nodes: Vec<Node>,
    pub(crate) tally: Tally,
}

impl Cluster {
    /// Prepares nodes called `a`, `b` and so on, without starting them. With proxies, all messages between them pass
    /// through the tally.
    pub(crate) fn prepare(size: usize, scratch: &Path, proxied: bool) -> Result<Cluster> {
        let tally = Tally::default();
        let mut nodes = Vec::new();
        for name in ["a", "b", "c", "d", "e"].into_iter().take(size) {
            let [client, peer] = ask::free_ports()?;
            let proxy = if proxied { Some(Proxy::start(name, peer, &tally)?) } else { None };
            let advertise = proxy.as_ref().map_or(peer, |proxy| proxy.address);
            let scratch = scratch.to_owned();
            nodes.push(Node {
                name: name.into(),
                client,
                peer,
                advertise,
                _proxy: proxy,
                join: String::new(),
                scratch,
                process: None,
                control: None,
            });
        }
        let join = nodes.iter().map(|node| node.advertise.to_string()).collect::<Vec<_>>().join(",");
        nodes.iter_mut().for_each(|node| node.join.clone_from(&join));
        Ok(Cluster { nodes, tally })
    }

    /// Starts all of them and waits until every pair has verified that it is equal.
    pub(crate) fn start(size: usize, scratch: &Path, proxied: bool) -> Result<Cluster> {
        let mut cluster = Cluster::prepare(size, scratch, proxied)?;
        for node in &mut cluster.nodes {
            node.start()?;
        }
        cluster.until_linked()?;
        Ok(cluster)
    }

    /// Waits until every node that runs is linked to all the others, and holds their state.
    pub(crate) fn until_linked(&mut self) -> Result<()> {
        let others = self.nodes.len() - 1;
        for node in &mut self.nodes {
            node.until("every peer is linked", |node| {
                Ok(node.peers()?.iter().filter(|peer| peer.state == "linked").count() >= others)
            })?;
        }
        Ok(())
    }

    /// Waits until all hold the same, and that is `keys` live ones, if given. Nobody may write meanwhile.
    pub(crate) fn until_equal(&mut self, keys: Option<u64>) -> Result<()> {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let digests = self.nodes.iter_mut().map(Node::digest).collect::<Result<Vec<_>>>()?;
            let equal = digests.windows(2).all(|pair| pair[0] == pair[1]);
            if equal && keys.is_none_or(|keys| digests[0].1 == keys) {
                return Ok(());
            }
            for node in &self.nodes {
                node.check()?;
            }
            if Instant::now() > deadline {
                bail!("not equal within {PATIENCE:?}: {digests:?}; {}", self.tally.read().by_kind());
            }
            pause();
        }
    }

    /// Waits until no sync is being exchanged.
    pub(crate) fn until_quiet(&self) -> Result<()> {
        let deadline = Instant::now() + PATIENCE;
        while self.tally.read().is_exchanging() {
            if Instant::now() > deadline {
                bail!("a sync has not ended within {PATIENCE:?}: {}", self.tally.read().by_kind());
            }
            pause();
        }
        Ok(())
    }

    /// The tombstones that each node keeps.
    pub(crate) fn tombstones(&mut self) -> Result<Vec<u64>> {
        self.nodes.iter_mut().map(Node::tombstones).collect()
    }

    /// Cuts a node off all others and waits until nobody takes it for linked.
    pub(crate) fn isolate(&mut self, index: usize) -> Result<()> {
        self.nodes[index].ask::<String>(&["SAPWOOD", "CUT", "*"])?;
        let name = self.nodes[index].name.clone();
        for node in &mut self.nodes {
            let itself = node.name == name;
            node.until("the cut is noticed", |node| {
                let peers = node.peers()?;
                Ok(!peers.iter().any(|peer| (itself || peer.name == name) && peer.is_linked()))
            })?;
        }
        Ok(())
    }

    pub(crate) fn mend(&mut self, index: usize) -> Result<()> {
        self.nodes[index].ask::<String>(&["SAPWOOD", "MEND", "*"]).map(drop)
    }
}

/// One node, running or not.
pub(crate) struct Node {
    pub(crate) name: String,
    pub(crate) client: SocketAddr,
    peer: SocketAddr,
    advertise: SocketAddr,
    _proxy: Option<Proxy>,
    join: String,
    scratch: PathBuf,
    process: Option<Process>,
    control: Option<redis::Connection>,
}

/// A row of `SAPWOOD PEERS`.
pub(crate) struct Peer {
    pub(crate) name: String,
    pub(crate) state: String,
}

impl Peer {
    pub(crate) fn is_linked(&self) -> bool {
        matches!(self.state.as_str(), "joining" | "linked" | "healing")
    }
}

impl Node {
    /// Starts a process for it, empty, and returns at once.
    pub(crate) fn spawn(&mut self) -> Result<()> {
        static STARTED: AtomicU32 = AtomicU32::new(0);
        let log = format!("{}-{}.log", self.name, STARTED.fetch_add(1, Ordering::Relaxed));
        let mut command = Command::new(env!("CARGO_BIN_EXE_sapwood"));
        // Reads are measured while the state comes in too.
        command.args(["serve", "--enable-faults", "--serve-while-joining"]);
        command.args(["--name", &self.name, "--join", &self.join]);
        command.args([
            "--client",
            &self.client.to_string(),
            "--peer",
            &self.peer.to_string(),
            "--http",
            "none",
        ]);
        command.args(["--advertise", &self.advertise.to_string()]);
        for (name, _) in std::env::vars_os() {
            if name.to_string_lossy().starts_with("SAPWOOD_") {
                command.env_remove(name);
            }
        }
        self.control = None;
        self.process = Some(Process::start(command, &[], self.scratch.join(log))?);
        Ok(())
    }

    /// Starts a process for it and waits until it answers.
    pub(crate) fn start(&mut self) -> Result<()> {
        self.spawn()?;
        self.until("it answers", |node| Ok(node.ask::<String>(&["PING"]).is_ok()))
    }

    /// Kills it: all it held is gone.
    pub(crate) fn kill(&mut self) {
        self.control = None;
        self.process = None;
    }

    pub(crate) fn process(&self) -> Result<&Process> {
        self.process.as_ref().with_context(|| format!("{} does not run", self.name))
    }

    /// The answer to one command, over a connection that is kept.
    pub(crate) fn ask<T: FromRedisValue>(&mut self, words: &[&str]) -> Result<T> {
        let mut control = match self.control.take() {
            Some(control) => control,
            None => ask::control(self.client, PATIENCE)?,
        };
        let answer = ask(&mut control, words).with_context(|| format!("asking {}", self.name))?;
        self.control = Some(control);
        Ok(answer)
    }

    /// The digest of its live keys, and how many they are.
    pub(crate) fn digest(&mut self) -> Result<(String, u64)> {
        self.ask(&["SAPWOOD", "DIGEST"])
    }

    fn tombstones(&mut self) -> Result<u64> {
        let healing: HashMap<String, redis::Value> = self.ask(&["SAPWOOD", "HEALING"])?;
        let tombstones = healing.get("tombstones").context("no tombstones in SAPWOOD HEALING")?;
        Ok(u64::from_redis_value_ref(tombstones)?)
    }

    pub(crate) fn peers(&mut self) -> Result<Vec<Peer>> {
        let rows: Vec<HashMap<String, redis::Value>> = self.ask(&["SAPWOOD", "PEERS"])?;
        let field = |row: &HashMap<String, redis::Value>, name: &str| {
            let value = row.get(name).with_context(|| format!("no {name} in SAPWOOD PEERS"))?;
            Ok::<_, anyhow::Error>(String::from_redis_value_ref(value)?)
        };
        rows.iter().map(|row| Ok(Peer { name: field(row, "name")?, state: field(row, "state")? })).collect()
    }

    /// Sends every key of `load` once.
    pub(crate) fn apply(&self, load: load::Load, keys: std::ops::Range<u32>) -> Result<load::Done> {
        load.each_of(self.client, keys).map_err(|error| match self.check() {
            Ok(()) => error,
            Err(ended) => error.context(ended),
        })
    }

    /// When its log says for the first time that a peer is linked; now, if it says so already.
    pub(crate) fn until_link_logged(&self) -> Result<Instant> {
        let deadline = Instant::now() + PATIENCE;
        loop {
            if self.process()?.log().contains("peer linked") {
                return Ok(Instant::now());
            }
            self.check()?;
            if Instant::now() > deadline {
                bail!("{}: no peer linked within {PATIENCE:?}", self.name);
            }
            pause();
        }
    }

    /// Fails if it ended, with how and with what it printed last.
    pub(crate) fn check(&self) -> Result<()> {
        let process = self.process()?;
        match process.ended() {
            None => Ok(()),
            Some(status) => {
                bail!("{} ended by itself, {status}; it printed:\n{}", self.name, process.last_words())
            }
        }
    }

    pub(crate) fn until(
        &mut self,
        what: &str,
        mut condition: impl FnMut(&mut Node) -> Result<bool>,
    ) -> Result<()> {
        let deadline = Instant::now() + PATIENCE;
        while !condition(self)? {
            self.check()?;
            if Instant::now() > deadline {
                let words = self.process()?.last_words();
                bail!("{}: not within {PATIENCE:?}: {what}; it printed:\n{words}", self.name);
            }
            pause();
        }
        Ok(())
    }
}
