//! Why a [`Config`](super::Config) was refused, and what to change.

use std::net::SocketAddr;
use std::path::PathBuf;

use super::MIN_FORGET_AFTER;
use super::units::{Size, Span};

/// A setting that cannot be, or settings that contradict each other. Nothing was started.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ConfigError {
    /// Clients from elsewhere could connect, and nothing would ask who they are.
    #[error(
        "refusing to listen on {0} without a password: give --client-password-file FILE, or --insecure if the \
         network is trusted"
    )]
    OpenClient(SocketAddr),
    /// Peers from elsewhere could connect, and nothing would ask who they are.
    #[error(
        "refusing to listen for peers on {0}, where anyone could read and write everything: keep --peer on a \
         loopback address, or give --insecure if the network is trusted"
    )]
    OpenPeer(SocketAddr),
    /// Anyone could look into the node from elsewhere.
    #[error(
        "refusing to serve the page on {0}, where anyone could read keys: keep --http on a loopback address, or give \
         --insecure if the network is trusted"
    )]
    OpenHttp(SocketAddr),
    /// Two listeners ask for one address.
    #[error("{first} and {second} both ask for {address}: give them different ports")]
    SameAddress {
        /// The one setting.
        first: &'static str,
        /// The other.
        second: &'static str,
        /// What both were given.
        address: SocketAddr,
    },
    /// Not an address that can be dialled.
    #[error(
        "{flag} {value:?} is not HOST:PORT: write it like 10.0.0.2:7172, db-2.example:7172 or [fd00::2]:7172"
    )]
    HostPort {
        /// The setting.
        flag: &'static str,
        /// What it was given.
        value: String,
    },
    /// An address that means "all of mine", which no other node can dial.
    #[error("--advertise {0} cannot be dialled by other nodes: name the address they reach this host at")]
    AdvertiseUnspecified(String),
    /// Not usable as a name.
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
    /// No name, and no address to make one of.
    #[error("a node that listens nowhere needs a --name, by which the others know it again after a restart")]
    Nameless,
    /// A limit under which nothing could be done.
    #[error("{0} must be more than 0")]
    Zero(&'static str),
    /// An entry that no peer message could carry.
    #[error("--max-key plus --max-value is {entry}, more than the {limit} that one peer message can carry")]
    TooLarge {
        /// One entry of the largest key and value.
        entry: Size,
        /// The most it may be.
        limit: Size,
    },
    /// A limit that the largest entry could never pass.
    #[error(
        "{flag} {limit} is less than one entry of --max-key plus --max-value ({entry}): raise {flag}, or lower \
         --max-value"
    )]
    TooSmall {
        /// The setting that is too small.
        flag: &'static str,
        /// What it was given.
        limit: Size,
        /// What it must hold at least.
        entry: Size,
    },
    /// So short that a restart would be taken for the end of a node.
    #[error(
        "--forget-after {0} is too short: give {least} or more, or never",
        least = Span(MIN_FORGET_AFTER)
    )]
    ForgetAfter(Span),
    /// A path that ends in no file's name.
    #[error("--lost-file {0:?} names no file: give a path such as /var/lib/sapwood/lost.jsonl")]
    LostFile(PathBuf),
    /// Not a log filter.
    #[error(
        "--log {filter:?} is not a filter ({problem}): write a level such as info, or info,sapwood=debug"
    )]
    Log {
        /// What was given.
        filter: String,
        /// What is wrong with it.
        problem: String,
    },
}
