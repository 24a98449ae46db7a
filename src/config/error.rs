//! The reasons for refusing a [`Config`](super::Config), and what to change.

use std::net::SocketAddr;
use std::path::PathBuf;

use super::units::{Size, Span};
use super::{EvictionPolicy, MAX_SCRIPT_TIME, MIN_FORGET_AFTER};

/// A setting is invalid, or settings contradict each other. Nothing was started.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ConfigError {
    /// Other hosts could connect as clients without authentication.
    #[error(
        "refusing to listen on {0} without a password: give --client-password-file FILE or --users-file FILE, or \
         --insecure if the network is trusted"
    )]
    OpenClient(SocketAddr),
    /// Other hosts could connect as peers without authentication.
    #[error(
        "refusing to listen for peers on {0}, where anyone could read and write everything: give --peer-tls-cert, \
         --peer-tls-key and --peer-tls-ca (`sapwood certs` makes the files), or --peer-secret-file (`sapwood certs \
         secret` prints a secret), or --insecure if the network is trusted; or keep --peer on a loopback address"
    )]
    OpenPeer(SocketAddr),
    /// Other hosts could read the page without authentication.
    #[error(
        "refusing to serve the page on {0}, where anyone could read keys: keep --http on a loopback address, or give \
         --insecure if the network is trusted"
    )]
    OpenHttp(SocketAddr),
    /// Some, but not all files are given that certificates take.
    #[error(
        "{given} needs {missing}, too: certificates of peers take --peer-tls-cert, --peer-tls-key and --peer-tls-ca"
    )]
    PeerTlsIncomplete {
        /// A setting that is given.
        given: &'static str,
        /// A setting that is not.
        missing: &'static str,
    },
    /// There are two ways to authenticate peers, and a node takes one.
    #[error(
        "peers are authenticated by --peer-tls-cert or by --peer-secret-file: give one of them, the same on all nodes"
    )]
    PeerTlsAndSecret,
    /// Two listeners have the same address.
    #[error("{first} and {second} both ask for {address}: give them different ports")]
    SameAddress {
        /// The first setting.
        first: &'static str,
        /// The second setting.
        second: &'static str,
        /// The address of both.
        address: SocketAddr,
    },
    /// The value is not an address that can be dialled.
    #[error(
        "{flag} {value:?} is not HOST:PORT: write it like 10.0.0.2:7172, db-2.example:7172 or [fd00::2]:7172"
    )]
    HostPort {
        /// The setting.
        flag: &'static str,
        /// What it was given.
        value: String,
    },
    /// The number of databases is not 1 to 256.
    #[error("--databases {0} is not a number of databases: use 1 to 256")]
    Databases(u16),
    /// The address is unspecified (such as `0.0.0.0`), so no other node can dial it.
    #[error("--advertise {0} cannot be dialled by other nodes: name the address they reach this host at")]
    AdvertiseUnspecified(String),
    /// The value is not usable as a name.
    #[error(
        "{flag} {name:?} is not a name: use 1 to {max} bytes without spaces, control characters, `,` and `*`",
        max = super::MAX_NAME
    )]
    Name {
        /// The setting.
        flag: &'static str,
        /// What it was given.
        name: String,
    },
    /// The node has no name, and no address to derive one from.
    #[error("a node that listens nowhere needs a --name, by which the others know it again after a restart")]
    Nameless,
    /// The limit is zero, so nothing would be accepted.
    #[error("{0} must be more than 0")]
    Zero(&'static str),
    /// The largest entry would not fit in a peer message.
    #[error("--max-key plus --max-value is {entry}, more than the {limit} that one peer message can carry")]
    TooLarge {
        /// The sum of the largest key and value.
        entry: Size,
        /// The largest sum allowed.
        limit: Size,
    },
    /// The limit is smaller than the largest entry.
    #[error(
        "{flag} {limit} is less than one entry of --max-key plus --max-value ({entry}): raise {flag}, or lower \
         --max-value"
    )]
    TooSmall {
        /// The setting that is too small.
        flag: &'static str,
        /// What it was given.
        limit: Size,
        /// The least it must be.
        entry: Size,
    },
    /// A policy evicts keys, and there is no limit at which it would.
    #[error("--max-memory-policy {0} needs a --max-memory at which keys are evicted")]
    NothingToEvict(EvictionPolicy),
    /// The time is so short that a restart could count as the end of a member.
    #[error(
        "--forget-after {0} is too short: give {least} or more, or never",
        least = Span(MIN_FORGET_AFTER)
    )]
    ForgetAfter(Span),
    /// The build cannot execute scripts.
    #[error(
        "--enable-scripts needs a build with scripts, as the packaged ones are: build with \
         `cargo build --release --features scripts`, which takes a C++ compiler"
    )]
    NoScripts,
    /// Scripts could lock keys for longer than clients wait.
    #[error("--script-time-limit {0} is more than {most}", most = Span(MAX_SCRIPT_TIME))]
    ScriptTime(Span),
    /// The path does not end in a file name.
    #[error("--lost-file {0:?} names no file: give a path such as /var/lib/sapwood/lost.jsonl")]
    LostFile(PathBuf),
}
