//! What a node is told before it starts: one [`Config`], checked once.
//!
//! The `sapwood` command fills a [`Config`] from flags, `SAPWOOD_*` variables and a file; an application that
//! embeds a node fills one by hand. Both pass through [`Config::validate`], so everything below may rely on what
//! it promises and reads no environment of its own.
//!
//! Messages name settings by their flag (`--max-value`), which is also the key in the file (`max-value`) and the
//! field here (`max_value`).

mod error;
mod keyspace_events;
mod log_filter;
mod secret;
mod units;

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

pub use error::ConfigError;
pub use keyspace_events::{KeyspaceEvents, UnknownEvents};
pub use secret::{Secret, SecretError};
pub use units::{Size, Span, SpanOrNever, UnitError};

/// The longest `--name` and `--cluster` in bytes: a host name (253) and a port. Both travel in every hello.
pub const MAX_NAME: usize = 259;

/// The port for clients, unless another is given.
pub const DEFAULT_CLIENT_PORT: u16 = 7171;

/// The port for peers, unless another is given.
pub const DEFAULT_PEER_PORT: u16 = 7172;

/// The port for browsers and scrapers, unless another is given.
pub const DEFAULT_HTTP_PORT: u16 = 7173;

/// The most that `--max-key` and `--max-value` may come to, in bytes: what one peer message can carry.
pub const MAX_ENTRY: u64 = 512 << 20;

/// The least that `--forget-after` may be: a member is not counted as away before.
pub const MIN_FORGET_AFTER: Duration = Duration::from_secs(60);

/// Tombstones that are kept whatever [`Config::max_memory`] is, unless [`Config::tombstone_limit`] says otherwise.
pub const MIN_TOMBSTONES: u64 = 1_000_000;

/// Bytes that a tombstone is reckoned with: a cell without a value, a key of middling length and its place in the map.
const TOMBSTONE_BYTES: u64 = 100;

/// The part of [`Config::max_memory`] that tombstones may take: one in so many bytes.
const TOMBSTONE_SHARE: u64 = 10;

/// How a node is set up.
///
/// ```
/// use sapwood::config::Config;
///
/// let config = Config { name: Some("a".into()), join: vec!["10.0.0.2:7172".into()], ..Config::default() };
/// config.validate()?;
/// # Ok::<(), sapwood::config::ConfigError>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Config {
    /// Stable name of this node, unlike any other in its cluster. `None`: see [`Config::name_at`]; a node that listens
    /// nowhere must have one.
    pub name: Option<String>,
    /// Nodes link only with nodes of the same cluster name.
    pub cluster: String,
    /// Where clients connect; port 0 lets the system choose. `None`: nowhere, the node serves only the program that
    /// embeds it.
    pub client: Option<SocketAddr>,
    /// Where the other nodes connect; port 0 lets the system choose. `None`: nowhere, the node links only with those
    /// that it dials itself. Any two such nodes need one between them that can be dialled.
    pub peer: Option<SocketAddr>,
    /// Where the page, the JSON API, metrics and health checks are served; port 0 lets the system choose. `None`: nowhere.
    pub http: Option<SocketAddr>,
    /// Let the page and the JSON API write, and with [`Config::enable_faults`] cut links.
    pub http_writes: bool,
    /// Let the page and the JSON API show values.
    pub http_show_values: bool,
    /// Peers to dial first, each `HOST:PORT`; the rest are learnt from them. May name this node itself.
    pub join: Vec<String>,
    /// The `HOST:PORT` other nodes are told to dial, where it is not [`Config::peer`].
    pub advertise: Option<String>,
    /// Bytes of keys and values to hold at most; `None` is unlimited. What peers bring may take a quarter more, and
    /// tombstones as much again before writes are refused because of them.
    pub max_memory: Option<u64>,
    /// How far a peer's clock may be from ours before it is refused.
    pub max_clock_skew: Duration,
    /// Tombstones to hold before members that are away are no longer waited for; `None`: see
    /// [`Config::effective_tombstone_limit`]. Nor are they once tombstones take more than [`Config::max_memory`].
    pub tombstone_limit: Option<u64>,
    /// How long a member may be away before it is no longer waited for; `None` waits for ever.
    pub forget_after: Option<Duration>,
    /// Where to keep the writes that this node alone held and had to give up when it came back.
    pub lost_file: Option<PathBuf>,
    /// What clients must `AUTH` with; `None` asks for nothing.
    pub client_password: Option<Secret>,
    /// Bytes of the longest key.
    pub max_key: usize,
    /// Bytes of the longest value.
    pub max_value: usize,
    /// Bytes of the longest command, all its arguments together.
    pub max_command: usize,
    /// Client connections at one time; fewer if the limit on open files does not leave as many.
    pub max_clients: usize,
    /// Bytes that may wait for one peer; beyond it the queue is dropped and the peer catches up by a sync.
    pub peer_queue: usize,
    /// Accept addresses that others can reach although nothing proves who connects.
    pub insecure: bool,
    /// Allow `FLUSHALL`.
    pub enable_flush: bool,
    /// Which changes of keys subscribers are told.
    pub notify_keyspace_events: KeyspaceEvents,
    /// Allow `SAPWOOD CUT`, which keeps nodes apart as a broken network would.
    pub enable_faults: bool,
    /// How log lines are written.
    pub log_format: LogFormat,
    /// Which log lines are written: a level, or a filter such as `info,sapwood::replication=debug`.
    pub log: String,
    /// How long a stopping node may take to hand its last writes to a peer.
    pub drain_timeout: Duration,
    /// How long a node that is told to join others, and reaches none, waits before it calls itself ready. One that is
    /// refused never does.
    pub ready_alone_after: Duration,
    /// Take absent keys for absent everywhere while the peers' states are being fetched, for clients.
    pub serve_while_joining: bool,
}

impl Default for Config {
    fn default() -> Self {
        Config {
            name: None,
            cluster: "sapwood".into(),
            client: Some(SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), DEFAULT_CLIENT_PORT)),
            peer: Some(SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), DEFAULT_PEER_PORT)),
            http: Some(SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), DEFAULT_HTTP_PORT)),
            http_writes: false,
            http_show_values: false,
            join: Vec::new(),
            advertise: None,
            max_memory: None,
            max_clock_skew: Duration::from_millis(500),
            tombstone_limit: None,
            forget_after: Some(Duration::from_secs(7 * 24 * 3600)),
            lost_file: None,
            client_password: None,
            max_key: 64 << 10,
            max_value: 16 << 20,
            max_command: 64 << 20,
            max_clients: 10_000,
            peer_queue: 64 << 20,
            insecure: false,
            enable_flush: false,
            notify_keyspace_events: KeyspaceEvents::NONE,
            enable_faults: false,
            log_format: LogFormat::Text,
            log: "info".into(),
            drain_timeout: Duration::from_secs(5),
            ready_alone_after: Duration::from_secs(30),
            serve_while_joining: false,
        }
    }
}

impl Config {
    /// The node's name once the port it is told by is known, that of its clients or else of its peers:
    /// [`Config::name`], or else `host:port`.
    ///
    /// A default cannot be settled earlier: two nodes that both asked for port 0 would share it.
    pub fn name_at(&self, port: u16) -> String {
        self.name.clone().unwrap_or_else(|| format!("{}:{port}", host_name()))
    }

    /// How many tombstones are held before members that are away lapse: [`Config::tombstone_limit`], or else the larger
    /// of a million and as many as fit a tenth of [`Config::max_memory`], at a hundred bytes each.
    ///
    /// ```
    /// # use sapwood::config::Config;
    /// let config = Config { max_memory: Some(4 << 30), ..Config::default() };
    /// assert_eq!(config.effective_tombstone_limit(), 4_294_967);
    /// ```
    pub fn effective_tombstone_limit(&self) -> u64 {
        let fitting = self.max_memory.unwrap_or(0) / TOMBSTONE_SHARE / TOMBSTONE_BYTES;
        self.tombstone_limit.unwrap_or_else(|| fitting.max(MIN_TOMBSTONES))
    }

    /// Checks each setting, and those that must agree with each other.
    ///
    /// # Errors
    /// The first problem found; its text says which setting to change and how.
    pub fn validate(&self) -> Result<(), ConfigError> {
        match &self.name {
            Some(name) => check_name("--name", name)?,
            None if self.client.is_none() && self.peer.is_none() => return Err(ConfigError::Nameless),
            None => {}
        }
        check_name("--cluster", &self.cluster)?;
        self.check_addresses()?;
        self.check_exposure()?;
        self.check_limits()?;
        self.check_forgetting()?;
        check_log(&self.log)
    }

    fn check_addresses(&self) -> Result<(), ConfigError> {
        let listeners = [("--client", self.client), ("--peer", self.peer), ("--http", self.http)];
        for (n, (second, asked)) in listeners.into_iter().enumerate() {
            let Some(address) = asked.filter(|address| address.port() != 0) else { continue };
            if let Some((first, _)) = listeners[..n].iter().find(|(_, other)| *other == asked) {
                return Err(ConfigError::SameAddress { first, second, address });
            }
        }
        for peer in &self.join {
            host_port("--join", peer)?;
        }
        if let Some(address) = &self.advertise {
            let host = host_port("--advertise", address)?;
            if host.parse::<IpAddr>().is_ok_and(|ip| ip.is_unspecified()) {
                return Err(ConfigError::AdvertiseUnspecified(address.clone()));
            }
        }
        Ok(())
    }

    fn check_exposure(&self) -> Result<(), ConfigError> {
        let exposed = |address: &SocketAddr| !address.ip().to_canonical().is_loopback();
        if self.insecure {
            return Ok(());
        }
        if let Some(client) = self.client.filter(exposed)
            && self.client_password.is_none()
        {
            return Err(ConfigError::OpenClient(client));
        }
        if let Some(peer) = self.peer.filter(exposed) {
            return Err(ConfigError::OpenPeer(peer));
        }
        self.http.filter(exposed).map_or(Ok(()), |http| Err(ConfigError::OpenHttp(http)))
    }

    fn check_forgetting(&self) -> Result<(), ConfigError> {
        if let Some(after) = self.forget_after.filter(|after| *after < MIN_FORGET_AFTER) {
            return Err(ConfigError::ForgetAfter(Span(after)));
        }
        match &self.lost_file {
            Some(path) if path.file_name().is_none() => Err(ConfigError::LostFile(path.clone())),
            _ => Ok(()),
        }
    }

    fn check_limits(&self) -> Result<(), ConfigError> {
        let non_zero = [
            ("--max-key", self.max_key == 0),
            ("--max-value", self.max_value == 0),
            ("--max-clients", self.max_clients == 0),
            ("--max-clock-skew", self.max_clock_skew.is_zero()),
            ("--tombstone-limit", self.tombstone_limit == Some(0)),
        ];
        if let Some((flag, _)) = non_zero.into_iter().find(|(_, zero)| *zero) {
            return Err(ConfigError::Zero(flag));
        }

        let entry = (self.max_key as u64).saturating_add(self.max_value as u64);
        if entry > MAX_ENTRY || self.max_key > crate::store::MAX_KEY {
            return Err(ConfigError::TooLarge { entry: Size(entry), limit: Size(MAX_ENTRY) });
        }
        let holds_an_entry = [
            ("--max-command", Some(self.max_command as u64)),
            ("--peer-queue", Some(self.peer_queue as u64)),
            ("--max-memory", self.max_memory),
        ];
        for (flag, limit) in holds_an_entry {
            if let Some(limit) = limit
                && limit < entry
            {
                return Err(ConfigError::TooSmall { flag, limit: Size(limit), entry: Size(entry) });
            }
        }
        Ok(())
    }
}

/// How log lines are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LogFormat {
    /// For people.
    Text,
    /// One JSON object a line, for collectors.
    Json,
}

/// The host's name, without asking the network: what `/etc/hostname` says, else `HOSTNAME`, else `localhost`.
fn host_name() -> String {
    std::fs::read_to_string("/etc/hostname")
        .ok()
        .or_else(|| std::env::var("HOSTNAME").ok())
        .map(|name| name.trim().to_owned())
        .filter(|name| check_name("--name", name).is_ok())
        .unwrap_or_else(|| "localhost".into())
}

/// Names appear in tables, logs, and in comma separated lists where `*` means all: they stay one plain word.
fn check_name(flag: &'static str, name: &str) -> Result<(), ConfigError> {
    let plain = |c: char| !c.is_whitespace() && !c.is_control() && c != ',' && c != '*';
    if name.is_empty() || name.len() > MAX_NAME || !name.chars().all(plain) {
        return Err(ConfigError::Name { flag, name: name.to_owned() });
    }
    Ok(())
}

/// Splits `HOST:PORT`, where the host may be a name, an IPv4 address or an IPv6 address in brackets.
fn host_port<'a>(flag: &'static str, text: &'a str) -> Result<&'a str, ConfigError> {
    let bad = || ConfigError::HostPort { flag, value: text.to_owned() };
    let (host, port) = text.rsplit_once(':').ok_or_else(bad)?;
    if !port.parse::<u16>().is_ok_and(|port| port != 0) {
        return Err(bad());
    }
    match host.strip_prefix('[').and_then(|host| host.strip_suffix(']')) {
        Some(ip) if ip.parse::<std::net::Ipv6Addr>().is_ok() => Ok(ip),
        None if !host.is_empty() && !host.contains(|c: char| ":[]/@".contains(c) || c.is_whitespace()) => {
            Ok(host)
        }
        _ => Err(bad()),
    }
}

fn check_log(filter: &str) -> Result<(), ConfigError> {
    log_filter::check(filter).map_err(|problem| ConfigError::Log { filter: filter.to_owned(), problem })
}

#[cfg(test)]
mod tests;
