//! What a certificate is for: the URI among its alternative names, such as `sapwood://CLUSTER/node/NAME`.

use std::fmt;
use std::str::FromStr;

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, percent_decode_str, utf8_percent_encode};
use tokio_rustls::rustls::pki_types::CertificateDer;
use x509_parser::extensions::GeneralName;
use x509_parser::prelude::{FromDer as _, X509Certificate};

use super::error::HandshakeError;
use crate::config::MAX_NAME;

const SCHEME: &str = "sapwood://";

/// Everything but the characters that RFC 3986 calls unreserved.
const ESCAPED: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');

/// What a certificate lets its holder be.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Role {
    /// A node of the cluster.
    Node,
    /// A client of its nodes.
    Client,
}

impl Role {
    /// The word in the URI.
    pub fn as_str(self) -> &'static str {
        match self {
            Role::Node => "node",
            Role::Client => "client",
        }
    }
}

/// The name in a certificate: a node or a client of a cluster.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Name {
    /// The cluster.
    pub cluster: String,
    /// Node or client.
    pub role: Role,
    /// The name of the node or client.
    pub name: String,
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let escaped = |text| utf8_percent_encode(text, ESCAPED);
        write!(f, "{SCHEME}{}/{}/{}", escaped(&self.cluster), self.role.as_str(), escaped(&self.name))
    }
}

/// The text is not the URI of a node or client.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[error("not a URI such as sapwood://CLUSTER/node/NAME")]
pub struct BadName;

impl FromStr for Name {
    type Err = BadName;

    /// Reads what `Display` writes, and nothing else: each name has one spelling.
    fn from_str(uri: &str) -> Result<Self, BadName> {
        let mut parts = uri.strip_prefix(SCHEME).ok_or(BadName)?.split('/');
        let (Some(cluster), Some(role), Some(name), None) =
            (parts.next(), parts.next(), parts.next(), parts.next())
        else {
            return Err(BadName);
        };
        let role = match role {
            "node" => Role::Node,
            "client" => Role::Client,
            _ => return Err(BadName),
        };
        let plain = |text| percent_decode_str(text).decode_utf8().map_err(|_| BadName);
        let read = Name { cluster: plain(cluster)?.into(), role, name: plain(name)?.into() };
        let is_whole = !read.cluster.is_empty() && !read.name.is_empty();
        if is_whole && read.to_string() == uri { Ok(read) } else { Err(BadName) }
    }
}

/// Returns the URIs with this scheme among the alternative names of a certificate.
pub(super) fn names(certificate: &X509Certificate<'_>) -> Vec<String> {
    let alternatives = certificate.subject_alternative_name().ok().flatten();
    let general = alternatives.iter().flat_map(|extension| &extension.value.general_names);
    let uris = general.filter_map(|name| match name {
        GeneralName::URI(uri) if uri.starts_with(SCHEME) => Some((*uri).to_owned()),
        _ => None,
    });
    uris.collect()
}

/// Returns the name of the node that a certificate is for.
///
/// # Errors
/// [`HandshakeError`] if it is not for one node of `cluster`. Whoever holds a certificate of a client is no node.
pub(super) fn node_of(certificate: &CertificateDer<'_>, cluster: &str) -> Result<String, HandshakeError> {
    let Ok((_, parsed)) = X509Certificate::from_der(certificate) else {
        return Err(HandshakeError::Unnamed);
    };
    let [uri] = &names(&parsed)[..] else { return Err(HandshakeError::Unnamed) };
    let name: Name = uri.parse().map_err(|_| HandshakeError::Unnamed)?;
    // So that a log line is bounded.
    if name.name.len().max(name.cluster.len()) > MAX_NAME {
        return Err(HandshakeError::Unnamed);
    }
    if name.cluster != cluster {
        return Err(HandshakeError::WrongCluster { own: cluster.to_owned(), theirs: name.cluster });
    }
    match name.role {
        Role::Node => Ok(name.name),
        Role::Client => Err(HandshakeError::Client(name.name)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name(cluster: &str, role: Role, name: &str) -> Name {
        Name { cluster: cluster.into(), role, name: name.into() }
    }

    #[test]
    fn a_name_is_read_as_it_was_written() {
        for (name, uri) in [
            (name("oak", Role::Node, "a"), "sapwood://oak/node/a"),
            (name("oak", Role::Client, "web-1"), "sapwood://oak/client/web-1"),
            (name("o/k", Role::Node, "Zürich-1:7171"), "sapwood://o%2Fk/node/Z%C3%BCrich-1%3A7171"),
            (name("100%", Role::Node, "../node/b"), "sapwood://100%25/node/..%2Fnode%2Fb"),
        ] {
            assert_eq!(name.to_string(), uri);
            assert_eq!(uri.parse(), Ok(name));
        }
    }

    #[test]
    fn another_spelling_of_a_name_and_what_is_none_are_refused() {
        for uri in [
            "",
            "sapwood://",
            "sapwood://oak",
            "sapwood://oak/node",
            "sapwood://oak/node/",
            "sapwood:///node/a",
            "sapwood://oak/node/a/",
            "sapwood://oak/node/a/b",
            "sapwood://oak/admin/a",
            "sapwood://oak/Node/a",
            "Sapwood://oak/node/a",
            "sapwood://oak/node/a b",
            "sapwood://oak/node/%61",
            "sapwood://oak/node/%c3%bc",
            "sapwood://oak/node/%FF",
            "sapwood://oak/node/a?b",
            "sapwood://user@oak/node/a",
            "https://oak/node/a",
        ] {
            assert_eq!(uri.parse::<Name>(), Err(BadName), "{uri}");
        }
    }
}
