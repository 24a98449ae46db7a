//! The servers compared: how each is started alone, with peers, and as one that follows another.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use redis::FromRedisValue;

use crate::support::ask::{self, ask, pause};
use crate::support::process::{self, Process};

/// How long a server may take to start.
const START: Duration = Duration::from_secs(20);
/// How long a server may take to answer, or peers to agree, before the run fails.
const PATIENCE: Duration = Duration::from_secs(120);

/// A kind of server in the comparison.
#[derive(Clone, Debug)]
pub(crate) struct Contender {
    pub(crate) name: String,
    kind: Kind,
    command: PathBuf,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Kind {
    Sapwood,
    /// Takes redis-server's flags.
    Redis,
}

impl Contender {
    pub(crate) fn sapwood() -> Contender {
        Contender {
            name: "sapwood".into(),
            kind: Kind::Sapwood,
            command: env!("CARGO_BIN_EXE_sapwood").into(),
        }
    }

    pub(crate) fn redis() -> Result<Contender> {
        let command = process::find("redis-server").context(
            "there is no redis-server on the PATH to compare with: install it (on Debian: apt install redis-server), \
             or measure without it (--servers sapwood)",
        )?;
        Ok(Contender { name: "redis".into(), kind: Kind::Redis, command })
    }

    /// `NAME=COMMAND`
    pub(crate) fn other(text: &str) -> Result<Contender> {
        let (name, command) = text
            .split_once('=')
            .with_context(|| format!("SAPWOOD_BENCH_PEERS: {text:?} is not NAME=COMMAND"))?;
        let command =
            process::find(command).with_context(|| format!("SAPWOOD_BENCH_PEERS: there is no {command}"))?;
        Ok(Contender { name: name.into(), kind: Kind::Redis, command })
    }

    /// What `--version` says.
    pub(crate) fn version(&self) -> String {
        let output = Command::new(&self.command).arg("--version").output();
        output.map(|output| String::from_utf8_lossy(&output.stdout).trim().to_owned()).unwrap_or_default()
    }

    /// Starts one that knows of no other.
    pub(crate) fn alone(&self, scratch: &Path, cpus: &[usize]) -> Result<Server> {
        self.start(scratch, cpus, None)
    }

    /// Starts one that takes over and follows what `source` holds: a Sapwood peer, a Redis replica.
    pub(crate) fn follower(&self, scratch: &Path, cpus: &[usize], source: &Server) -> Result<Server> {
        self.start(scratch, cpus, Some(source))
    }

    /// Whether one alone would be no fair comparison: Sapwood is made to run with peers.
    pub(crate) fn has_peers(&self) -> bool {
        self.kind == Kind::Sapwood
    }

    fn start(&self, scratch: &Path, cpus: &[usize], source: Option<&Server>) -> Result<Server> {
        static STARTED: AtomicU32 = AtomicU32::new(0);
        let id = format!("{}-{}", self.name, STARTED.fetch_add(1, Ordering::Relaxed));
        let [client, peer] = ask::free_ports()?;
        let mut command = Command::new(&self.command);
        match self.kind {
            Kind::Sapwood => {
                command.args(["serve", "--name", &id]);
                command.args([
                    "--client",
                    &client.to_string(),
                    "--peer",
                    &peer.to_string(),
                    "--http",
                    "none",
                ]);
                if let Some(source) = source {
                    command.args(["--join", &source.peer.to_string()]);
                }
                for (name, _) in std::env::vars_os() {
                    if name.to_string_lossy().starts_with("SAPWOOD_") {
                        command.env_remove(name);
                    }
                }
            }
            Kind::Redis => {
                command.args(["--port", &client.port().to_string(), "--bind", "127.0.0.1"]);
                command.args(["--save", "", "--appendonly", "no", "--dir"]).arg(scratch);
                // By default a primary waits five seconds for more replicas before it serves the first.
                command.args(["--repl-diskless-sync-delay", "0"]);
                if let Some(source) = source {
                    command.args(["--replicaof", "127.0.0.1", &source.client.port().to_string()]);
                }
            }
        }
        let started = Instant::now();
        let process = Process::start(command, cpus, scratch.join(format!("{id}.log")))?;
        let server = Server { name: id, kind: self.kind, process, client, peer, started };
        server.until("it answers", START, || Ok(server.answers())).map(|()| server)
    }
}

/// A running server; ends when dropped.
pub(crate) struct Server {
    name: String,
    kind: Kind,
    pub(crate) process: Process,
    pub(crate) client: SocketAddr,
    peer: SocketAddr,
    /// When its process was started.
    pub(crate) started: Instant,
}

impl Server {
    /// A connection for questions, not for load.
    pub(crate) fn control(&self) -> Result<redis::Connection> {
        ask::control(self.client, PATIENCE)
    }

    fn ask<T: FromRedisValue>(&self, words: &[&str]) -> Result<T> {
        ask(&mut self.control()?, words)
    }

    fn answers(&self) -> bool {
        self.ask::<String>(&["PING"]).is_ok()
    }

    /// A number in `INFO`.
    fn info(&self, field: &str) -> Result<String> {
        let info: String = self.ask(&["INFO"])?;
        let value = info.lines().find_map(|line| line.strip_prefix(field)?.strip_prefix(':'));
        Ok(value.with_context(|| format!("{}: no {field} in INFO", self.name))?.trim().to_owned())
    }

    /// Waits until it has taken over what its source, if it has one, holds.
    pub(crate) fn until_ready(&self) -> Result<()> {
        self.until("it is ready", PATIENCE, || {
            Ok(match self.kind {
                Kind::Sapwood => self.info("state")? == "ready",
                Kind::Redis => self.info("role")? == "master" || self.info("master_link_status")? == "up",
            })
        })
    }

    /// Waits until this many peers are linked.
    pub(crate) fn until_linked(&self, peers: usize) -> Result<()> {
        let linked = |peer: &Peer| peer.state == "linked";
        self.until(&format!("{peers} peers are linked"), PATIENCE, || {
            Ok(self.peers()?.iter().filter(|peer| linked(peer)).count() >= peers)
        })
    }

    /// Waits until `others`, its peers or replicas, hold what it holds. Nobody may write meanwhile. Only the others
    /// are asked repeatedly, so that waiting costs this one next to nothing.
    pub(crate) fn until_held_by<'a>(&self, others: impl IntoIterator<Item = &'a Server>) -> Result<()> {
        let mine = holding(self.kind, &mut self.control()?)?;
        for other in others {
            let mut connection = other.control()?;
            // An error is an answer too: a Redis replica that loads its primary's state refuses every question.
            let mut theirs = None;
            let wait = other.until("it holds the same", PATIENCE, || {
                theirs = Some(holding(other.kind, &mut connection));
                Ok(matches!(&theirs, Some(Ok(theirs)) if *theirs == mine))
            });
            wait.with_context(|| format!("{} holds {mine:?}, {} {theirs:?}", self.name, other.name))?;
        }
        Ok(())
    }

    /// Bytes that came from peers or a primary since its start.
    pub(crate) fn received(&self) -> Result<u64> {
        match self.kind {
            Kind::Sapwood => Ok(self.peers()?.iter().map(|peer| peer.received).sum()),
            Kind::Redis => Ok(self.info("total_net_repl_input_bytes")?.parse()?),
        }
    }

    fn peers(&self) -> Result<Vec<Peer>> {
        let peers: Vec<std::collections::HashMap<String, redis::Value>> = self.ask(&["SAPWOOD", "PEERS"])?;
        let field = |peer: &std::collections::HashMap<String, redis::Value>, name: &str| {
            let value = peer.get(name).with_context(|| format!("no {name} in SAPWOOD PEERS"))?;
            Ok::<_, anyhow::Error>(String::from_redis_value_ref(value)?)
        };
        let mut out = Vec::new();
        for peer in &peers {
            out.push(Peer {
                state: field(peer, "state")?,
                received: field(peer, "received_bytes")?.parse()?,
            });
        }
        Ok(out)
    }

    /// Fails if it ended, with how and with what it printed last.
    pub(crate) fn check(&self) -> Result<()> {
        match self.process.ended() {
            None => Ok(()),
            Some(status) => {
                bail!("{} ended by itself, {status}; it printed:\n{}", self.name, self.process.last_words())
            }
        }
    }

    fn until(
        &self,
        what: &str,
        patience: Duration,
        mut condition: impl FnMut() -> Result<bool>,
    ) -> Result<()> {
        let deadline = Instant::now() + patience;
        while !condition()? {
            self.check()?;
            if Instant::now() > deadline {
                bail!(
                    "{}: not within {patience:?}: {what}; it printed:\n{}",
                    self.name,
                    self.process.last_words()
                );
            }
            pause();
        }
        Ok(())
    }
}

struct Peer {
    state: String,
    received: u64,
}

/// What a server holds: the digest, where there is one, and the number of keys.
fn holding(kind: Kind, connection: &mut redis::Connection) -> Result<(String, u64)> {
    match kind {
        Kind::Sapwood => ask(connection, &["SAPWOOD", "DIGEST"]),
        Kind::Redis => Ok((String::new(), ask(connection, &["DBSIZE"])?)),
    }
}
