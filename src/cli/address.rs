//! Listening addresses, as people write them.

use std::io;
use std::net::{SocketAddr, ToSocketAddrs as _};
use std::str::FromStr;

use sapwood::config::{DEFAULT_CLIENT_PORT, DEFAULT_HTTP_PORT};
use serde::Deserialize;

/// An address of this host and a port: `127.0.0.1:7171`, `[::1]:7171` or `localhost:7171`.
///
/// Only the syntax is checked until [`resolve`](Self::resolve) is called, so an address that a flag overrides needs
/// no resolver.
#[derive(Clone, Debug, Deserialize)]
#[serde(try_from = "String")]
pub(crate) struct ListenAddress(String);

/// An address to serve the page at, or `none`.
#[derive(Clone, Debug, Deserialize)]
#[serde(try_from = "String")]
pub(crate) struct HttpAddress(pub(crate) Option<ListenAddress>);

/// The text is not a listening address.
#[derive(Debug, thiserror::Error)]
#[error(
    "write an address of this host and a port, such as 127.0.0.1:{port}, localhost:{port}, or 0.0.0.0:{port} for all \
     of them{}", if *.or_none { "; or none to serve no page" } else { "" }
)]
pub(crate) struct NotAnAddress {
    port: u16,
    or_none: bool,
}

impl ListenAddress {
    /// The socket address; for a name, the first that it resolves to, IPv4 before IPv6.
    ///
    /// # Errors
    /// The name does not resolve.
    pub(crate) fn resolve(&self) -> io::Result<SocketAddr> {
        let found: Vec<SocketAddr> = self.0.to_socket_addrs()?.collect();
        let first = found.iter().find(|address| address.is_ipv4()).or(found.first());
        first.copied().ok_or_else(|| io::Error::new(io::ErrorKind::NotFound, "the name has no address"))
    }
}

impl std::fmt::Display for ListenAddress {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

impl FromStr for ListenAddress {
    type Err = NotAnAddress;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        if text.parse::<SocketAddr>().is_ok() || is_name_and_port(text) {
            return Ok(ListenAddress(text.to_owned()));
        }
        Err(NotAnAddress { port: DEFAULT_CLIENT_PORT, or_none: false })
    }
}

impl FromStr for HttpAddress {
    type Err = NotAnAddress;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        if text == "none" {
            return Ok(HttpAddress(None));
        }
        let address = text.parse().map_err(|_| NotAnAddress { port: DEFAULT_HTTP_PORT, or_none: true })?;
        Ok(HttpAddress(Some(address)))
    }
}

impl TryFrom<String> for ListenAddress {
    type Error = NotAnAddress;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        text.parse()
    }
}

impl TryFrom<String> for HttpAddress {
    type Error = NotAnAddress;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        text.parse()
    }
}

/// Whether `text` is a host name, a colon and a port. Port 0 lets the system choose.
fn is_name_and_port(text: &str) -> bool {
    text.rsplit_once(':').is_some_and(|(host, port)| {
        let plain = |c: char| !":[]/@".contains(c) && !c.is_whitespace();
        !host.is_empty() && host.chars().all(plain) && port.parse::<u16>().is_ok()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_an_ip_or_a_name_and_a_port() {
        for good in ["127.0.0.1:7171", "[::1]:0", "0.0.0.0:1", "localhost:7171", "db-1.example:65535"] {
            assert!(good.parse::<ListenAddress>().is_ok(), "{good}");
        }
        for bad in
            ["", "localhost", ":7171", "localhost:", "localhost:65536", "::1:7171", "http://a:1", "a b:1"]
        {
            let refusal = bad.parse::<ListenAddress>().unwrap_err().to_string();
            assert!(refusal.contains("localhost:7171"), "{refusal}");
        }
    }

    #[test]
    fn localhost_is_the_loopback_of_ipv4() {
        let address: ListenAddress = "localhost:7171".parse().unwrap();
        assert_eq!(address.resolve().unwrap(), "127.0.0.1:7171".parse().unwrap());
    }
}
