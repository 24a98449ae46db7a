//! Reads a [`Config`] from flags, then `SAPWOOD_*` variables, then the file, then defaults.
//!
//! [`Settings`] names every setting once. The command line, the environment and the file are all parsed into it, so
//! no setting can be spelled differently in one of them.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::sync::Arc;

use clap::builder::BoolishValueParser;
use clap::parser::ValueSource;
use clap::{ArgMatches, Command};
use sapwood::CredentialsError;
use sapwood::config::{
    Config, ConfigError, EvictionPolicy, KeyspaceEvents, Secret, SecretError, Size, Span, SpanOrNever,
};
use sapwood::internal::env::SystemEnv;
use sapwood::{Node, StartError};
use serde::{Deserialize, Deserializer};

use super::address::{HttpAddress, ListenAddress};
use super::log_filter;
use super::logging::{LogFormat, LogSettings};
use super::variables::{self, UnknownVariables};

const ADDRESSES: &str = "Addresses";
const CLUSTER: &str = "Cluster";
const LIMITS: &str = "Limits";
const SECURITY: &str = "Security";
const LOGGING: &str = "Logging";

/// What one source says about a node; what it leaves open is for the next source to say.
///
/// Each doc comment is the help text: one paragraph, or clap turns the whole page into its sparse layout.
#[derive(Clone, Debug, Default, clap::Args, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub(crate) struct Settings {
    /// Where clients connect (any Redis client) [default: 127.0.0.1:7171]
    #[arg(long, value_name = "HOST:PORT", env = "SAPWOOD_CLIENT")]
    #[arg(help_heading = ADDRESSES, hide_env_values = true)]
    pub(crate) client: Option<ListenAddress>,

    /// Where the other nodes connect [default: 127.0.0.1:7172]
    #[arg(long, value_name = "HOST:PORT", env = "SAPWOOD_PEER")]
    #[arg(help_heading = ADDRESSES, hide_env_values = true)]
    pub(crate) peer: Option<ListenAddress>,

    /// Where the page, JSON, metrics and health checks are served, or none [default: 127.0.0.1:7173]
    #[arg(long, value_name = "HOST:PORT", env = "SAPWOOD_HTTP")]
    #[arg(help_heading = ADDRESSES, hide_env_values = true)]
    pub(crate) http: Option<HttpAddress>,

    /// Address other nodes dial, where it is not that of --peer [default: that of --peer]
    #[arg(long, value_name = "HOST:PORT", env = "SAPWOOD_ADVERTISE")]
    #[arg(help_heading = ADDRESSES, hide_env_values = true)]
    pub(crate) advertise: Option<String>,

    /// Peers to dial first, one or many; the rest are learnt from them. This node may be among them [default: none]
    #[arg(long, value_name = "HOST:PORT,...", value_delimiter = ',', env = "SAPWOOD_JOIN")]
    #[arg(help_heading = CLUSTER, hide_env_values = true)]
    #[serde(default, deserialize_with = "one_or_many")]
    pub(crate) join: Option<Vec<String>>,

    /// Name of this node: stable over restarts, unlike any other [default: host:client-port]
    #[arg(long, env = "SAPWOOD_NAME", help_heading = CLUSTER, hide_env_values = true)]
    pub(crate) name: Option<String>,

    /// Name of the cluster; nodes of another are turned away [default: sapwood]
    #[arg(long, value_name = "NAME", env = "SAPWOOD_CLUSTER", help_heading = CLUSTER, hide_env_values = true)]
    pub(crate) cluster: Option<String>,

    /// How far a peer's clock may differ before it is refused [default: 500ms]
    #[arg(long, value_name = "TIME", env = "SAPWOOD_MAX_CLOCK_SKEW")]
    #[arg(help_heading = CLUSTER, hide_env_values = true)]
    #[arg(allow_hyphen_values = true)]
    pub(crate) max_clock_skew: Option<Span>,

    /// How long a stopping node may wait for a peer to take its last writes [default: 5s]
    #[arg(long, value_name = "TIME", env = "SAPWOOD_DRAIN_TIMEOUT")]
    #[arg(help_heading = CLUSTER, hide_env_values = true)]
    #[arg(allow_hyphen_values = true)]
    pub(crate) drain_timeout: Option<Span>,

    /// How long a node that reaches no peer of --join waits before it is ready alone; a refused one never is [default: 30s]
    #[arg(long, value_name = "TIME", env = "SAPWOOD_READY_ALONE_AFTER")]
    #[arg(help_heading = CLUSTER, hide_env_values = true)]
    pub(crate) ready_alone_after: Option<Span>,

    /// Take absent keys for absent while the peers' state is being fetched, instead of answering -LOADING [default: false]
    #[arg(long, value_name = "BOOL", num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    #[arg(value_parser = BoolishValueParser::new(), env = "SAPWOOD_SERVE_WHILE_JOINING")]
    #[arg(help_heading = CLUSTER, hide_env_values = true, hide_possible_values = true)]
    pub(crate) serve_while_joining: Option<bool>,

    /// How long a node may be away before tombstones no longer wait for it, or never [default: 7d]
    #[arg(long, value_name = "TIME", env = "SAPWOOD_FORGET_AFTER")]
    #[arg(help_heading = CLUSTER, hide_env_values = true)]
    #[arg(allow_hyphen_values = true)]
    pub(crate) forget_after: Option<SpanOrNever>,

    /// File that keeps the writes that this node had to give up when it came back [default: none]
    #[arg(long, value_name = "FILE", env = "SAPWOOD_LOST_FILE", help_heading = CLUSTER, hide_env_values = true)]
    pub(crate) lost_file: Option<PathBuf>,

    /// Memory for keys and values; tombstones may take as much again beside it, for a while more. 0 is unlimited
    /// [default: 0]
    #[arg(long, value_name = "SIZE", env = "SAPWOOD_MAX_MEMORY", help_heading = LIMITS, hide_env_values = true)]
    #[arg(allow_hyphen_values = true)]
    pub(crate) max_memory: Option<Size>,

    /// Keys deleted, on all nodes, to make room from 95% of --max-memory on: noeviction, volatile-ttl, allkeys-lru or
    /// allkeys-lfu. noeviction refuses writes instead [default: noeviction]
    #[arg(long, value_name = "POLICY", env = "SAPWOOD_MAX_MEMORY_POLICY", help_heading = LIMITS, hide_env_values = true)]
    pub(crate) max_memory_policy: Option<EvictionPolicy>,

    /// Tombstones to hold before they no longer wait for nodes that are away, nor beyond as much memory as --max-memory
    /// [default: 1000000, or as many as fit 10% of --max-memory if that is more]
    #[arg(long, value_name = "N", env = "SAPWOOD_TOMBSTONE_LIMIT")]
    #[arg(help_heading = LIMITS, hide_env_values = true)]
    #[arg(allow_hyphen_values = true, value_parser = count::<u64>)]
    pub(crate) tombstone_limit: Option<u64>,

    /// Longest key [default: 64KiB]
    #[arg(long, value_name = "SIZE", env = "SAPWOOD_MAX_KEY", help_heading = LIMITS, hide_env_values = true)]
    #[arg(allow_hyphen_values = true)]
    pub(crate) max_key: Option<Size>,

    /// Longest value [default: 16MiB]
    #[arg(long, value_name = "SIZE", env = "SAPWOOD_MAX_VALUE", help_heading = LIMITS, hide_env_values = true)]
    #[arg(allow_hyphen_values = true)]
    pub(crate) max_value: Option<Size>,

    /// Longest command, all its arguments together [default: 64MiB]
    #[arg(long, value_name = "SIZE", env = "SAPWOOD_MAX_COMMAND")]
    #[arg(help_heading = LIMITS, hide_env_values = true)]
    #[arg(allow_hyphen_values = true)]
    pub(crate) max_command: Option<Size>,

    /// Client connections at one time [default: 10000]
    #[arg(long, value_name = "N", env = "SAPWOOD_MAX_CLIENTS", help_heading = LIMITS, hide_env_values = true)]
    #[arg(allow_hyphen_values = true, value_parser = count::<usize>)]
    pub(crate) max_clients: Option<usize>,

    /// Databases that clients may select, 1 to 256; every node holds the keys of all [default: 16]
    #[arg(long, value_name = "N", env = "SAPWOOD_DATABASES", help_heading = LIMITS, hide_env_values = true)]
    #[arg(allow_hyphen_values = true, value_parser = count::<u16>)]
    pub(crate) databases: Option<u16>,

    /// Bytes that may wait for one peer; one that falls further behind catches up by a sync [default: 64MiB]
    #[arg(long, value_name = "SIZE", env = "SAPWOOD_PEER_QUEUE", help_heading = LIMITS, hide_env_values = true)]
    #[arg(allow_hyphen_values = true)]
    pub(crate) peer_queue: Option<Size>,

    /// Changes of keys that are published to subscribers, as letters of Redis such as KEA; none if empty [default: ""]
    #[arg(long, value_name = "LETTERS", env = "SAPWOOD_NOTIFY_KEYSPACE_EVENTS")]
    #[arg(hide_env_values = true)]
    pub(crate) notify_keyspace_events: Option<KeyspaceEvents>,

    /// File with the password that clients must AUTH with, closed to other users [default: none]
    #[arg(long, value_name = "FILE", env = "SAPWOOD_CLIENT_PASSWORD_FILE")]
    #[arg(help_heading = SECURITY, hide_env_values = true)]
    pub(crate) client_password_file: Option<PathBuf>,

    /// File of users with their rights, in the format of Redis's ACL files; read again when it changes [default: none]
    #[arg(long, value_name = "FILE", env = "SAPWOOD_USERS_FILE", help_heading = SECURITY, hide_env_values = true)]
    pub(crate) users_file: Option<PathBuf>,

    /// PEM file with this node's certificate: peers must present one of the same CA, and links are encrypted. `sapwood
    /// certs` makes one [default: none]
    #[arg(long, value_name = "FILE", env = "SAPWOOD_PEER_TLS_CERT")]
    #[arg(help_heading = SECURITY, hide_env_values = true)]
    pub(crate) peer_tls_cert: Option<PathBuf>,

    /// PEM file with the key of --peer-tls-cert, closed to other users [default: none]
    #[arg(long, value_name = "FILE", env = "SAPWOOD_PEER_TLS_KEY")]
    #[arg(help_heading = SECURITY, hide_env_values = true)]
    pub(crate) peer_tls_key: Option<PathBuf>,

    /// PEM file with the CAs that sign the certificates of peers [default: none]
    #[arg(long, value_name = "FILE", env = "SAPWOOD_PEER_TLS_CA")]
    #[arg(help_heading = SECURITY, hide_env_values = true)]
    pub(crate) peer_tls_ca: Option<PathBuf>,

    /// File with a secret of all nodes instead of certificates, closed to other users; links are encrypted. `sapwood
    /// certs secret` prints one [default: none]
    #[arg(long, value_name = "FILE", env = "SAPWOOD_PEER_SECRET_FILE")]
    #[arg(help_heading = SECURITY, hide_env_values = true)]
    pub(crate) peer_secret_file: Option<PathBuf>,

    /// Listen beyond this host although nothing proves who connects [default: false]
    #[arg(long, value_name = "BOOL", num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    #[arg(value_parser = BoolishValueParser::new(), env = "SAPWOOD_INSECURE")]
    #[arg(help_heading = SECURITY, hide_env_values = true, hide_possible_values = true)]
    pub(crate) insecure: Option<bool>,

    /// Allow FLUSHALL, which deletes every key of the cluster [default: false]
    #[arg(long, value_name = "BOOL", num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    #[arg(value_parser = BoolishValueParser::new(), env = "SAPWOOD_ENABLE_FLUSH")]
    #[arg(help_heading = SECURITY, hide_env_values = true, hide_possible_values = true)]
    pub(crate) enable_flush: Option<bool>,

    /// Execute scripts (EVAL), which clients write in Lua [default: false]
    #[arg(long, value_name = "BOOL", num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    #[arg(value_parser = BoolishValueParser::new(), env = "SAPWOOD_ENABLE_SCRIPTS")]
    #[arg(help_heading = SECURITY, hide_env_values = true, hide_possible_values = true)]
    pub(crate) enable_scripts: Option<bool>,

    /// How long a script may run, and other clients may wait for its keys [default: 100ms]
    #[arg(long, value_name = "DURATION", env = "SAPWOOD_SCRIPT_TIME_LIMIT")]
    #[arg(help_heading = SECURITY, hide_env_values = true)]
    pub(crate) script_time_limit: Option<Span>,

    /// Allow SAPWOOD CUT, which keeps nodes apart as a broken network would, for tests [default: false]
    #[arg(long, value_name = "BOOL", num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    #[arg(value_parser = BoolishValueParser::new(), env = "SAPWOOD_ENABLE_FAULTS")]
    #[arg(help_heading = SECURITY, hide_env_values = true, hide_possible_values = true)]
    pub(crate) enable_faults: Option<bool>,

    /// Let the page and the JSON API write, and cut links with --enable-faults [default: false]
    #[arg(long, value_name = "BOOL", num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    #[arg(value_parser = BoolishValueParser::new(), env = "SAPWOOD_HTTP_WRITES")]
    #[arg(help_heading = SECURITY, hide_env_values = true, hide_possible_values = true)]
    pub(crate) http_writes: Option<bool>,

    /// Let the page and the JSON API show values [default: false]
    #[arg(long, value_name = "BOOL", num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    #[arg(value_parser = BoolishValueParser::new(), env = "SAPWOOD_HTTP_SHOW_VALUES")]
    #[arg(help_heading = SECURITY, hide_env_values = true, hide_possible_values = true)]
    pub(crate) http_show_values: Option<bool>,

    /// What to log: error, warn, info, debug, trace, or a filter such as info,sapwood=debug [default: info]
    #[arg(long, value_name = "FILTER", env = "SAPWOOD_LOG", help_heading = LOGGING, hide_env_values = true)]
    pub(crate) log: Option<String>,

    /// How to log: text or json [default: text]
    #[arg(long, value_name = "FORMAT", value_parser = log_format, env = "SAPWOOD_LOG_FORMAT")]
    #[arg(help_heading = LOGGING, hide_env_values = true)]
    pub(crate) log_format: Option<LogFormat>,
}

/// The flags of a command that needs a [`Config`].
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct ConfigArgs {
    /// TOML file with any of these settings: flags > environment > file > defaults
    #[arg(long, value_name = "FILE", env = "SAPWOOD_CONFIG", hide_env_values = true)]
    pub(crate) config: Option<PathBuf>,

    #[command(flatten)]
    pub(crate) settings: Settings,
}

/// Why there is no valid [`Config`].
#[derive(Debug, thiserror::Error)]
pub(crate) enum LoadError {
    #[error("cannot read --config {}", path.display())]
    Read { path: PathBuf, source: std::io::Error },
    #[error("in --config {}: {}", path.display(), .problem.to_string().trim_end())]
    Parse { path: PathBuf, problem: toml::de::Error },
    #[error("--client-password-file {}", path.display())]
    Password { path: PathBuf, source: SecretError },
    #[error("{flag} {address} cannot be resolved: give an address of this host, such as 127.0.0.1:7171")]
    Resolve { flag: &'static str, address: ListenAddress, source: std::io::Error },
    #[error(transparent)]
    UnknownVariables(#[from] UnknownVariables),
    #[error("{flag} {size} is more than this machine can address")]
    Unaddressable { flag: &'static str, size: Size },
    #[error(
        "--log {filter:?} is not a filter ({problem}): write a level such as info, or info,sapwood=debug"
    )]
    Log { filter: String, problem: String },
    #[error(transparent)]
    Invalid(#[from] ConfigError),
    #[error(transparent)]
    Credentials(#[from] CredentialsError),
    #[error(transparent)]
    Users(#[from] StartError),
}

/// A valid [`Config`], and where its parts come from.
#[derive(Debug)]
pub(crate) struct Loaded {
    pub(crate) config: Config,
    pub(crate) log: LogSettings,
    pub(crate) password_file: Option<PathBuf>,
    file_keys: toml::Table,
}

impl ConfigArgs {
    /// Reads all sources, after a check that `command`, the whole command line, reads each `SAPWOOD_*` variable.
    pub(crate) fn load_checked(self, command: &Command) -> Result<Loaded, LoadError> {
        variables::check(command, variables::environment())?;
        self.load()
    }

    /// Reads the file, if there is one, and applies the flags and the environment over it.
    pub(crate) fn load(self) -> Result<Loaded, LoadError> {
        let (mut file, file_keys) = match &self.config {
            Some(path) => read_file(path)?,
            None => Default::default(),
        };
        let mut flags = self.settings;

        let password_file = flags.client_password_file.take().or(file.client_password_file.take());
        let (mut config, mut log) = (Config::default(), LogSettings::default());
        // An address of an overridden source is not resolved, because its name may not resolve.
        if let Some(address) = flags.client.take().or(file.client.take()) {
            config.client = Some(resolve("--client", address)?);
        }
        if let Some(address) = flags.peer.take().or(file.peer.take()) {
            config.peer = Some(resolve("--peer", address)?);
        }
        if let Some(HttpAddress(address)) = flags.http.take().or(file.http.take()) {
            config.http = address.map(|address| resolve("--http", address)).transpose()?;
        }
        file.apply(&mut config, &mut log)?;
        flags.apply(&mut config, &mut log)?;
        if let Some(path) = &password_file {
            let secret =
                Secret::read(path).map_err(|source| LoadError::Password { path: path.clone(), source })?;
            config.client_password = Some(secret);
        }
        config.validate()?;
        sapwood::internal::tls::check(&config, Arc::new(SystemEnv))?;
        Node::check_users(&config)?;
        if let Err(problem) = log_filter::check(&log.filter) {
            return Err(LoadError::Log { filter: log.filter, problem });
        }
        Ok(Loaded { config, log, password_file, file_keys })
    }
}

impl Loaded {
    /// The log filter in the file, whatever the flags and the environment contain.
    pub(crate) fn file_log(&self) -> Option<&str> {
        self.file_keys.get("log").and_then(|log| log.as_str())
    }

    /// The source that supplied the setting `key`, as spelled in the file.
    pub(crate) fn source(&self, key: &str, matches: &ArgMatches) -> &'static str {
        match matches.value_source(&key.replace('-', "_")) {
            Some(ValueSource::CommandLine) => "flag",
            Some(ValueSource::EnvVariable) => "environment",
            _ if self.file_keys.contains_key(key) => "file",
            _ => "default",
        }
    }
}

impl Settings {
    /// Overwrites the settings that `self` contains. [`ConfigArgs::load`] sets the listening addresses and the
    /// password, once it is known which source supplies them.
    fn apply(self, config: &mut Config, log: &mut LogSettings) -> Result<(), LoadError> {
        fn put<T>(target: &mut T, value: Option<T>) {
            if let Some(value) = value {
                *target = value;
            }
        }
        fn put_size(target: &mut usize, flag: &'static str, size: Option<Size>) -> Result<(), LoadError> {
            if let Some(size) = size {
                *target = usize::try_from(size.0).map_err(|_| LoadError::Unaddressable { flag, size })?;
            }
            Ok(())
        }

        put(&mut config.advertise, self.advertise.map(Some));
        put(&mut config.join, self.join.map(without_empty));
        put(&mut config.name, self.name.map(Some));
        put(&mut config.cluster, self.cluster);
        put(&mut config.max_clock_skew, self.max_clock_skew.map(|span| span.0));
        put(&mut config.drain_timeout, self.drain_timeout.map(|span| span.0));
        put(&mut config.serve_while_joining, self.serve_while_joining);
        put(&mut config.ready_alone_after, self.ready_alone_after.map(|span| span.0));
        put(&mut config.forget_after, self.forget_after.map(|after| after.0));
        put(&mut config.lost_file, self.lost_file.map(Some));
        put(&mut config.tombstone_limit, self.tombstone_limit.map(Some));
        put(&mut config.max_memory, self.max_memory.map(|size| Some(size.0).filter(|&bytes| bytes != 0)));
        put(&mut config.max_memory_policy, self.max_memory_policy);
        put_size(&mut config.max_key, "--max-key", self.max_key)?;
        put_size(&mut config.max_value, "--max-value", self.max_value)?;
        put_size(&mut config.max_command, "--max-command", self.max_command)?;
        put(&mut config.max_clients, self.max_clients);
        put(&mut config.databases, self.databases);
        put_size(&mut config.peer_queue, "--peer-queue", self.peer_queue)?;
        put(&mut config.peer_tls_cert, self.peer_tls_cert.map(Some));
        put(&mut config.peer_tls_key, self.peer_tls_key.map(Some));
        put(&mut config.peer_tls_ca, self.peer_tls_ca.map(Some));
        put(&mut config.peer_secret_file, self.peer_secret_file.map(Some));
        put(&mut config.notify_keyspace_events, self.notify_keyspace_events);
        put(&mut config.users_file, self.users_file.map(Some));
        put(&mut config.insecure, self.insecure);
        put(&mut config.enable_flush, self.enable_flush);
        put(&mut config.enable_scripts, self.enable_scripts);
        put(&mut config.script_time_limit, self.script_time_limit.map(|span| span.0));
        put(&mut config.enable_faults, self.enable_faults);
        put(&mut config.http_writes, self.http_writes);
        put(&mut config.http_show_values, self.http_show_values);
        put(&mut log.filter, self.log);
        put(&mut log.format, self.log_format);
        Ok(())
    }
}

fn resolve(flag: &'static str, address: ListenAddress) -> Result<SocketAddr, LoadError> {
    address.resolve().map_err(|source| LoadError::Resolve { flag, address, source })
}

fn read_file(path: &Path) -> Result<(Settings, toml::Table), LoadError> {
    let text =
        std::fs::read_to_string(path).map_err(|source| LoadError::Read { path: path.to_owned(), source })?;
    let parse = |problem| LoadError::Parse { path: path.to_owned(), problem };
    Ok((toml::from_str(&text).map_err(parse)?, toml::from_str(&text).map_err(parse)?))
}

/// Removes empty names, which scripts leave behind in trailing commas and empty variables.
fn without_empty(join: Vec<String>) -> Vec<String> {
    join.into_iter().map(|peer| peer.trim().to_owned()).filter(|peer| !peer.is_empty()).collect()
}

/// Parses a list of peers in the file, or one text as in the flag.
fn one_or_many<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Vec<String>>, D::Error> {
    #[derive(Deserialize)]
    #[serde(untagged, expecting = "expected \"HOST:PORT\", or a list such as [\"db-1:7172\", \"db-2:7172\"]")]
    enum Written {
        One(String),
        Many(Vec<String>),
    }
    Ok(Some(match Written::deserialize(deserializer)? {
        Written::One(text) => text.split(',').map(str::to_owned).collect(),
        Written::Many(list) => list,
    }))
}

fn count<N: FromStr>(text: &str) -> Result<N, &'static str> {
    text.parse().map_err(|_| "write a whole number, such as 10000")
}

fn log_format(text: &str) -> Result<LogFormat, &'static str> {
    match text {
        "text" => Ok(LogFormat::Text),
        "json" => Ok(LogFormat::Json),
        _ => Err("write text or json"),
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;
    use std::time::Duration;

    use clap::{Args as _, FromArgMatches as _};

    use super::*;

    fn command() -> Command {
        ConfigArgs::augment_args(Command::new("test"))
    }

    fn load(file: Option<&str>, flags: &[&str]) -> Result<Loaded, String> {
        let mut args = vec!["test".to_owned()];
        let held = file.map(|content| {
            let mut file = tempfile::NamedTempFile::new().unwrap();
            file.write_all(content.as_bytes()).unwrap();
            args.push(format!("--config={}", file.path().display()));
            file
        });
        args.extend(flags.iter().map(|&flag| flag.to_owned()));
        // The environment of the test process must not affect the tests.
        let command = command().mut_args(|arg| arg.env(None::<&str>));
        let matches = command.try_get_matches_from(args).map_err(|error| error.to_string())?;
        let loaded = ConfigArgs::from_arg_matches(&matches).unwrap().load();
        drop(held);
        loaded.map_err(|error| error.to_string())
    }

    #[test]
    fn without_any_source_it_is_the_default() {
        assert_eq!(load(None, &[]).unwrap().config, Config::default());
        assert_eq!(load(Some(""), &[]).unwrap().config, Config::default());
    }

    #[test]
    fn a_flag_beats_the_file_and_the_file_beats_the_default() {
        let file =
            "cluster = 'filed'\nname = 'filed'\njoin = ['a:1', 'b:2']\nenable-flush = true\nmax-key = 1024";
        let config =
            load(Some(file), &["--name=flagged", "--join=c:3", "--enable-flush=false"]).unwrap().config;
        assert_eq!(config.cluster, "filed");
        assert_eq!(config.max_key, 1024);
        assert_eq!(config.name.as_deref(), Some("flagged"));
        assert_eq!(config.join, ["c:3"]);
        assert!(!config.enable_flush);
        assert_eq!(config.max_value, Config::default().max_value);
    }

    #[test]
    fn join_is_comma_separated_and_repeatable() {
        let config = load(None, &["--join=a:1,b:2", "--join", "c:3,"]).unwrap().config;
        assert_eq!(config.join, ["a:1", "b:2", "c:3"]);
    }

    #[test]
    fn one_peer_to_join_needs_no_list_in_the_file() {
        assert_eq!(load(Some("join = 'a:1'"), &[]).unwrap().config.join, ["a:1"]);
        assert_eq!(load(Some("join = 'a:1, b:2,'"), &[]).unwrap().config.join, ["a:1", "b:2"]);
        assert_eq!(load(Some("join = ''"), &[]).unwrap().config.join, [""; 0]);
        assert!(load(Some("join = 7"), &[]).unwrap_err().contains("expected \"HOST:PORT\", or a list"));
    }

    #[test]
    fn a_name_is_an_address_to_listen_at_and_to_join() {
        let file = "client = 'localhost:1'\nhttp = 'localhost:3'\njoin = 'localhost:4'";
        let config = load(Some(file), &["--peer=localhost:0"]).unwrap().config;
        assert_eq!(config.client, "127.0.0.1:1".parse().ok());
        assert_eq!(config.peer, "127.0.0.1:0".parse().ok());
        assert_eq!(config.http, "127.0.0.1:3".parse().ok());
        assert_eq!(config.join, ["localhost:4"]);
    }

    #[test]
    fn a_name_that_does_not_resolve_is_refused_unless_a_flag_overrides_it() {
        let file = Some("client = 'no-such-host.invalid:1'");
        let refusal = load(file, &[]).unwrap_err();
        assert!(refusal.starts_with("--client no-such-host.invalid:1 cannot be resolved"), "{refusal}");
        assert_eq!(load(file, &["--client=127.0.0.1:1"]).unwrap().config.client, "127.0.0.1:1".parse().ok());
    }

    #[test]
    fn a_negative_number_is_taken_for_a_value_and_refused_with_examples() {
        for (flag, sentence) in [
            ("--max-memory", "is not a size: write 64KiB"),
            ("--max-key", "is not a size"),
            ("--drain-timeout", "is not a duration: write 500ms"),
            ("--forget-after", "or never"),
            ("--tombstone-limit", "write a whole number, such as 10000"),
            ("--max-clients", "write a whole number"),
        ] {
            let refusal = load(None, &[flag, "-1"]).unwrap_err();
            assert!(refusal.contains(flag) && refusal.contains(sentence), "{refusal}");
        }
    }

    #[test]
    fn every_setting_can_be_given_in_the_file() {
        const SCRIPTS: bool = cfg!(feature = "scripts");
        let password = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(password.path(), "pass\n").unwrap();
        let secret = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(secret.path(), "0123456789abcdef0123456789abcdef\n").unwrap();
        let users = tempfile::NamedTempFile::new().unwrap();
        let file = format!(
            "client = '0.0.0.0:1'\npeer = '0.0.0.0:2'\nadvertise = 'here:2'\njoin = ['a:1']\nname = 'n'\n\
             cluster = 'c'\nmax-clock-skew = '1s'\ndrain-timeout = '2s'\nready-alone-after = '3s'\n\
             serve-while-joining = true\nmax-memory = '1GiB'\nmax-memory-policy = 'volatile-ttl'\nmax-key = '1KiB'\n\
             max-value = '1MiB'\nmax-command = '2MiB'\nmax-clients = 7\npeer-queue = '3MiB'\n\
             client-password-file = '{}'\nusers-file = '{}'\npeer-secret-file = '{}'\ninsecure = true\nenable-flush = true\n\
             enable-scripts = {SCRIPTS}\nscript-time-limit = '50ms'\nlog = 'debug'\n\
             log-format = 'json'\nforget-after = 'never'\nlost-file = '/lost'\n\
             http = '127.0.0.1:3'\nhttp-writes = true\nhttp-show-values = true\n\
             databases = 4\ntombstone-limit = 9\nenable-faults = true\nnotify-keyspace-events = 'KEx'\n",
            password.path().display(),
            users.path().display(),
            secret.path().display()
        );
        let expected = Config {
            name: Some("n".into()),
            cluster: "c".into(),
            client: "0.0.0.0:1".parse().ok(),
            peer: "0.0.0.0:2".parse().ok(),
            http: "127.0.0.1:3".parse().ok(),
            http_writes: true,
            http_show_values: true,
            join: vec!["a:1".into()],
            tombstone_limit: Some(9),
            forget_after: None,
            lost_file: Some("/lost".into()),
            advertise: Some("here:2".into()),
            max_memory: Some(1 << 30),
            max_memory_policy: EvictionPolicy::VolatileTtl,
            max_clock_skew: Duration::from_secs(1),
            client_password: Secret::new(*b"pass").ok(),
            users_file: Some(users.path().to_owned()),
            // Certificates exclude a secret.
            peer_tls_cert: None,
            peer_tls_key: None,
            peer_tls_ca: None,
            peer_secret_file: Some(secret.path().into()),
            max_key: 1 << 10,
            max_value: 1 << 20,
            max_command: 2 << 20,
            max_clients: 7,
            databases: 4,
            peer_queue: 3 << 20,
            insecure: true,
            enable_flush: true,
            enable_scripts: SCRIPTS,
            script_time_limit: Duration::from_millis(50),
            notify_keyspace_events: "KEx".parse().unwrap(),
            enable_faults: true,
            drain_timeout: Duration::from_secs(2),
            ready_alone_after: Duration::from_secs(3),
            serve_while_joining: true,
        };
        let loaded = load(Some(&file), &[]).unwrap();
        assert_eq!(loaded.config, expected);
        assert_eq!(loaded.log, LogSettings { filter: "debug".into(), format: LogFormat::Json });
    }

    #[test]
    fn a_log_filter_must_parse() {
        assert_eq!(load(None, &["--log=sapwood=debug"]).unwrap().log.filter, "sapwood=debug");
        assert!(load(None, &["--log=sapwood=loud"]).unwrap_err().starts_with("--log \"sapwood=loud\""));
    }

    #[test]
    fn the_page_can_be_turned_off() {
        assert_eq!(load(None, &["--http=none"]).unwrap().config.http, None);
        assert_eq!(load(Some("http = 'none'"), &[]).unwrap().config.http, None);
        assert!(load(None, &["--http=here"]).unwrap_err().contains("or none"));
    }

    #[test]
    fn unlimited_memory_can_be_said() {
        let loaded = load(Some("max-memory = '1GiB'"), &["--max-memory=0"]).unwrap();
        assert_eq!(loaded.config.max_memory, None);
    }

    #[test]
    fn a_key_that_is_no_setting_is_refused_by_name() {
        let refusal = load(Some("name = 'a'\nmax-valeu = '1MiB'\n"), &[]).unwrap_err();
        assert!(refusal.contains("unknown field `max-valeu`"), "{refusal}");
        assert!(refusal.contains("line 2"), "{refusal}");
    }

    #[test]
    fn a_value_that_is_none_is_refused_with_its_place() {
        let refusal = load(Some("max-value = '1 parsec'\n"), &[]).unwrap_err();
        assert!(refusal.contains("is not a size") && refusal.contains("line 1"), "{refusal}");
        let refusal = load(None, &["--client=localhost"]).unwrap_err();
        assert!(refusal.contains("--client <HOST:PORT>") && refusal.contains("0.0.0.0:7171"), "{refusal}");
    }

    #[test]
    fn a_password_file_of_a_lower_source_is_not_read() {
        let password = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(password.path(), "pass").unwrap();
        let flag = format!("--client-password-file={}", password.path().display());
        let loaded = load(Some("client-password-file = '/nonexistent'"), &[&flag]).unwrap();
        assert_eq!(loaded.config.client_password, Secret::new(*b"pass").ok());
        assert!(
            load(Some("client-password-file = '/nonexistent'"), &[]).unwrap_err().contains("/nonexistent")
        );
    }

    #[test]
    fn the_help_states_the_real_defaults() {
        let c = Config::default();
        let size = |bytes: usize| Size(bytes as u64).to_string();
        let stated = [
            ("client", c.client.unwrap().to_string()),
            ("peer", c.peer.unwrap().to_string()),
            ("http", c.http.unwrap().to_string()),
            ("http_writes", c.http_writes.to_string()),
            ("http_show_values", c.http_show_values.to_string()),
            ("cluster", c.cluster),
            ("max_clock_skew", Span(c.max_clock_skew).to_string()),
            ("drain_timeout", Span(c.drain_timeout).to_string()),
            ("serve_while_joining", c.serve_while_joining.to_string()),
            ("ready_alone_after", Span(c.ready_alone_after).to_string()),
            ("forget_after", SpanOrNever(c.forget_after).to_string()),
            ("enable_faults", c.enable_faults.to_string()),
            ("max_key", size(c.max_key)),
            ("max_value", size(c.max_value)),
            ("max_command", size(c.max_command)),
            ("max_clients", c.max_clients.to_string()),
            ("databases", c.databases.to_string()),
            ("peer_queue", size(c.peer_queue)),
            ("insecure", c.insecure.to_string()),
            ("enable_flush", c.enable_flush.to_string()),
            ("enable_scripts", c.enable_scripts.to_string()),
            ("script_time_limit", Span(c.script_time_limit).to_string()),
            ("log", LogSettings::default().filter),
        ];
        let command = command();
        for arg in command.get_arguments().filter(|arg| arg.get_id() != "config") {
            let help = arg.get_help().unwrap().to_string();
            assert!(help.contains("[default: "), "--{} states no default", arg.get_id());
            if let Some((_, default)) = stated.iter().find(|(id, _)| arg.get_id() == id) {
                assert!(help.ends_with(&format!("[default: {default}]")), "{help} is not {default}");
            }
        }
    }

    #[test]
    fn every_setting_has_its_variable() {
        for arg in command().get_arguments() {
            let variable = format!("SAPWOOD_{}", arg.get_id().as_str().to_uppercase());
            assert_eq!(arg.get_env().and_then(|name| name.to_str()), Some(variable.as_str()));
        }
    }
}
