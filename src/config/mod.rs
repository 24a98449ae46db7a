//! The settings of a node: one [`Config`], checked once.
//!
//! The `sapwood` command fills a [`Config`] from flags, `SAPWOOD_*` variables and a file; an application that embeds a
//! node fills one in code. Both pass through [`Config::validate`], so the rest of the node may rely on its checks and
//! reads no environment of its own.
//!
//! Messages name settings by their flag (`--max-value`), which is also the key in the file (`max-value`) and the
//! field here (`max_value`).

mod error;
mod keyspace_events;
mod secret;
mod units;

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::model::database::MAX_DATABASES;

pub use crate::store::{EvictionPolicy, UnknownPolicy};
pub use error::ConfigError;
pub use keyspace_events::{KeyspaceEvents, UnknownEvents};
pub(crate) use secret::{Access, MAX_SECRET, check_access, read_private};
pub use secret::{Secret, SecretError};
pub use units::{Size, Span, SpanOrNever, UnitError};

/// The longest `--name` and `--cluster` in bytes: a host name (253) and a port. Every hello carries both.
pub const MAX_NAME: usize = 259;

/// The port for clients, unless another is given.
pub const DEFAULT_CLIENT_PORT: u16 = 7171;

/// The port for peers, unless another is given.
pub const DEFAULT_PEER_PORT: u16 = 7172;

/// The port for browsers and scrapers, unless another is given.
pub const DEFAULT_HTTP_PORT: u16 = 7173;

/// The largest sum of `--max-key` and `--max-value` in bytes: what one peer message can carry.
pub const MAX_ENTRY: u64 = 512 << 20;

/// The shortest `--forget-after`: a member is not counted as away before.
pub const MIN_FORGET_AFTER: Duration = Duration::from_secs(60);

/// The longest `--script-time-limit`: for as long, clients may wait for keys that a script has locked.
pub const MAX_SCRIPT_TIME: Duration = Duration::from_secs(5);

/// The least default number of tombstones that are kept, however small [`Config::max_memory`] is.
pub const MIN_TOMBSTONES: u64 = 1_000_000;

/// The estimated bytes of a tombstone: a cell without a value, a key of medium length and its slot in the map.
const TOMBSTONE_BYTES: u64 = 100;

/// The divisor of [`Config::max_memory`] that gives the bytes for tombstones by default.
const TOMBSTONE_SHARE: u64 = 10;

/// The settings of a node.
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
    /// Stable name of this node, unique in its cluster. `None`: see [`Config::name_at`]; a node that listens on no
    /// address must have one.
    pub name: Option<String>,
    /// The cluster's name. Nodes link only with nodes of the same cluster name.
    pub cluster: String,
    /// Address for clients; port 0 lets the system choose. `None`: the node serves only the program that embeds it.
    pub client: Option<SocketAddr>,
    /// Address for the other nodes; port 0 lets the system choose. `None`: the node links only with nodes that it
    /// dials itself. Two nodes without an address can only reach each other through a third that has one.
    pub peer: Option<SocketAddr>,
    /// Address of the page, the JSON API, metrics and health checks; port 0 lets the system choose. `None`: none.
    pub http: Option<SocketAddr>,
    /// Let the page and the JSON API write, and with [`Config::enable_faults`] cut links.
    pub http_writes: bool,
    /// Let the page and the JSON API show values.
    pub http_show_values: bool,
    /// Peers to dial first, each `HOST:PORT`; the node learns of the others from them. May name this node itself.
    pub join: Vec<String>,
    /// The `HOST:PORT` that other nodes dial, if it is not [`Config::peer`].
    pub advertise: Option<String>,
    /// Most bytes of keys and values; `None` is unlimited. Cells from peers may take a quarter more, and tombstones as
    /// much again before writes are refused because of them.
    pub max_memory: Option<u64>,
    /// Which keys are deleted, on all nodes, to make room for clients' writes from 95 % of [`Config::max_memory`] on. Any
    /// but [`EvictionPolicy::NoEviction`] needs a [`Config::max_memory`]; `AllKeysLru` and `AllKeysLfu` take a
    /// thirty-second of it more.
    pub max_memory_policy: EvictionPolicy,
    /// Largest difference between a peer's clock and ours; a peer beyond it is refused.
    pub max_clock_skew: Duration,
    /// Number of tombstones from which the stable time no longer waits for members that are away; `None`: see
    /// [`Config::effective_tombstone_limit`]. The same happens if tombstones take more than [`Config::max_memory`].
    pub tombstone_limit: Option<u64>,
    /// How long the stable time waits for a member that is away; `None` waits for ever.
    pub forget_after: Option<Duration>,
    /// File for the writes that only this node held and that it had to give up when it rejoined.
    pub lost_file: Option<PathBuf>,
    /// Password that clients must `AUTH` with; `None` requires none.
    pub client_password: Option<Secret>,
    /// File of the users that clients `AUTH` as, in the format of Redis's ACL files. With
    /// [`Config::client_password`] too, that is the password of the user `default`, and the file does not describe it.
    /// `None`: `default` is the only user.
    pub users_file: Option<PathBuf>,
    /// This node's certificate, with those between it and the CA, in PEM format. Peers authenticate each other by
    /// certificates if this, [`Config::peer_tls_key`] and [`Config::peer_tls_ca`] are set, and links are encrypted.
    pub peer_tls_cert: Option<PathBuf>,
    /// The key of [`Config::peer_tls_cert`], in PEM format; other users must not be able to read the file.
    pub peer_tls_key: Option<PathBuf>,
    /// The CAs that sign the certificates of peers, in PEM format.
    pub peer_tls_ca: Option<PathBuf>,
    /// File with a secret that all nodes of the cluster share, by which peers authenticate each other instead of by
    /// certificates; links are encrypted. A second line is a secret that is accepted of peers too.
    pub peer_secret_file: Option<PathBuf>,
    /// Largest key in bytes.
    pub max_key: usize,
    /// Largest value in bytes.
    pub max_value: usize,
    /// Largest command in bytes, with all its arguments.
    pub max_command: usize,
    /// Number of databases that clients of this node may select, from 0 on: 1 to 256. The node holds and replicates the
    /// keys of all databases, whatever this is.
    pub databases: u16,
    /// Most client connections at one time; fewer if the limit on open files does not allow as many.
    pub max_clients: usize,
    /// Most bytes queued for one peer; beyond it the queue is dropped and the peer catches up by a sync.
    pub peer_queue: usize,
    /// Allow listening on addresses that others can reach without authentication.
    pub insecure: bool,
    /// Allow `FLUSHALL`.
    pub enable_flush: bool,
    /// Execute scripts (`EVAL`). Needs the feature `scripts`.
    pub enable_scripts: bool,
    /// How long a script may run; one that takes longer is ended, and nothing of it is applied. For as long, other
    /// clients may wait for the keys that the script has locked.
    pub script_time_limit: Duration,
    /// Which changes of keys subscribers are notified of.
    pub notify_keyspace_events: KeyspaceEvents,
    /// Allow `SAPWOOD CUT`, which separates nodes as a network partition does.
    pub enable_faults: bool,
    /// How long a stopping node may take to send its last writes to a peer.
    pub drain_timeout: Duration,
    /// How long a node with [`Config::join`] that reaches no peer waits before it reports itself ready. A node that is
    /// refused is never ready.
    pub ready_alone_after: Duration,
    /// Serve clients while the peers' states are being fetched: an absent key counts as absent everywhere.
    pub serve_while_joining: bool,
}

/// The files by which peers authenticate each other.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum PeerCredentials {
    Certificates { cert: PathBuf, key: PathBuf, ca: PathBuf },
    Secret(PathBuf),
}

impl PeerCredentials {
    /// The kind, as status and metrics show it.
    pub(crate) fn way(&self) -> &'static str {
        match self {
            PeerCredentials::Certificates { .. } => "certificates",
            PeerCredentials::Secret(_) => "secret",
        }
    }

    pub(crate) fn files(&self) -> Vec<&Path> {
        match self {
            PeerCredentials::Certificates { cert, key, ca } => vec![cert, key, ca],
            PeerCredentials::Secret(path) => vec![path],
        }
    }
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
            max_memory_policy: EvictionPolicy::NoEviction,
            max_clock_skew: Duration::from_millis(500),
            tombstone_limit: None,
            forget_after: Some(Duration::from_secs(7 * 24 * 3600)),
            lost_file: None,
            client_password: None,
            users_file: None,
            peer_tls_cert: None,
            peer_tls_key: None,
            peer_tls_ca: None,
            peer_secret_file: None,
            max_key: 64 << 10,
            max_value: 16 << 20,
            max_command: 64 << 20,
            databases: 16,
            max_clients: 10_000,
            peer_queue: 64 << 20,
            insecure: false,
            enable_flush: false,
            enable_scripts: false,
            script_time_limit: Duration::from_millis(100),
            notify_keyspace_events: KeyspaceEvents::NONE,
            enable_faults: false,
            drain_timeout: Duration::from_secs(5),
            ready_alone_after: Duration::from_secs(30),
            serve_while_joining: false,
        }
    }
}

impl Config {
    /// The node's name: [`Config::name`], or else `host:port`.
    ///
    /// `port` is that of its clients or else of its peers. The default needs the bound port: two nodes that both asked
    /// for port 0 would share a name otherwise.
    pub fn name_at(&self, port: u16) -> String {
        self.name.clone().unwrap_or_else(|| format!("{}:{port}", host_name()))
    }

    /// The number of tombstones that are held before members that are away lapse.
    ///
    /// It is [`Config::tombstone_limit`], or else the larger of 1,000,000 and as many as fit into a tenth of
    /// [`Config::max_memory`] at 100 bytes each.
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

    /// Checks each setting, and that they agree with each other.
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
        self.check_peer_credentials()?;
        self.check_exposure()?;
        self.check_limits()?;
        self.check_scripts()?;
        self.check_forgetting()
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
        let exposed = |address: &SocketAddr| is_exposed(*address);
        if self.insecure {
            return Ok(());
        }
        if let Some(client) = self.client.filter(exposed)
            && self.client_password.is_none()
            && self.users_file.is_none()
        {
            return Err(ConfigError::OpenClient(client));
        }
        if let Some(peer) = self.peer.filter(exposed)
            && self.peer_credentials().is_none()
        {
            return Err(ConfigError::OpenPeer(peer));
        }
        self.http.filter(exposed).map_or(Ok(()), |http| Err(ConfigError::OpenHttp(http)))
    }

    fn check_peer_credentials(&self) -> Result<(), ConfigError> {
        let files = [
            ("--peer-tls-cert", &self.peer_tls_cert),
            ("--peer-tls-key", &self.peer_tls_key),
            ("--peer-tls-ca", &self.peer_tls_ca),
        ];
        let given = files.iter().find(|(_, path)| path.is_some());
        let missing = files.iter().find(|(_, path)| path.is_none());
        match (given, missing) {
            (Some(_), _) if self.peer_secret_file.is_some() => Err(ConfigError::PeerTlsAndSecret),
            (Some((given, _)), Some((missing, _))) => Err(ConfigError::PeerTlsIncomplete { given, missing }),
            _ => Ok(()),
        }
    }

    /// The files by which peers authenticate each other; `None` if they do not.
    pub(crate) fn peer_credentials(&self) -> Option<PeerCredentials> {
        if let Some(path) = &self.peer_secret_file {
            return Some(PeerCredentials::Secret(path.clone()));
        }
        Some(PeerCredentials::Certificates {
            cert: self.peer_tls_cert.clone()?,
            key: self.peer_tls_key.clone()?,
            ca: self.peer_tls_ca.clone()?,
        })
    }

    fn check_scripts(&self) -> Result<(), ConfigError> {
        if self.enable_scripts && !cfg!(feature = "scripts") {
            return Err(ConfigError::NoScripts);
        }
        if self.script_time_limit > MAX_SCRIPT_TIME {
            return Err(ConfigError::ScriptTime(Span(self.script_time_limit)));
        }
        Ok(())
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
            ("--script-time-limit", self.script_time_limit.is_zero()),
            ("--tombstone-limit", self.tombstone_limit == Some(0)),
        ];
        if !(1..=MAX_DATABASES).contains(&self.databases) {
            return Err(ConfigError::Databases(self.databases));
        }
        if let Some((flag, _)) = non_zero.into_iter().find(|(_, zero)| *zero) {
            return Err(ConfigError::Zero(flag));
        }

        if self.max_memory_policy.evicts() && self.max_memory.is_none() {
            return Err(ConfigError::NothingToEvict(self.max_memory_policy));
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

/// Whether other hosts can connect to an address.
pub(crate) fn is_exposed(address: SocketAddr) -> bool {
    !address.ip().to_canonical().is_loopback()
}

/// The host's name, without using the network: from `/etc/hostname`, else `HOSTNAME`, else `localhost`.
fn host_name() -> String {
    std::fs::read_to_string("/etc/hostname")
        .ok()
        .or_else(|| std::env::var("HOSTNAME").ok())
        .map(|name| name.trim().to_owned())
        .filter(|name| check_name("--name", name).is_ok())
        .unwrap_or_else(|| "localhost".into())
}

/// Checks a name. Names appear in tables, logs, and comma-separated lists where `*` means all, so they are one plain
/// word.
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

#[cfg(test)]
mod tests;
