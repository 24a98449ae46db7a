//! Reads certificates.

use std::net::IpAddr;

use rcgen::{KeyPair, PublicKeyData as _};
use sapwood::internal::tls::Name;
use x509_parser::extensions::GeneralName;
use x509_parser::pem::Pem;
use x509_parser::prelude::X509Certificate;

use super::authority::now;

/// What a certificate says.
#[derive(Debug)]
pub(super) struct Issued {
    pub(super) subject: String,
    pub(super) organization: Option<String>,
    /// The name of the node or client, if it has one.
    pub(super) name: Option<Name>,
    /// Host names and IP addresses.
    pub(super) hosts: Vec<String>,
    pub(super) is_ca: bool,
    /// Seconds since the Unix epoch.
    pub(super) not_before: i64,
    pub(super) not_after: i64,
    key: Vec<u8>,
}

impl Issued {
    /// Reads all certificates in a PEM file; skips what is none.
    pub(super) fn read(pem: &[u8]) -> Vec<Issued> {
        let blocks = Pem::iter_from_buffer(pem).filter_map(Result::ok);
        let certificates = blocks.filter(|block| block.label == "CERTIFICATE");
        certificates.filter_map(|block| block.parse_x509().ok().map(|parsed| Issued::of(&parsed))).collect()
    }

    fn of(certificate: &X509Certificate<'_>) -> Issued {
        let (mut name, mut hosts) = (None, Vec::new());
        let alternatives = certificate.subject_alternative_name().ok().flatten();
        for alternative in alternatives.iter().flat_map(|extension| &extension.value.general_names) {
            match alternative {
                GeneralName::URI(uri) => name = name.or(uri.parse().ok()),
                GeneralName::DNSName(host) => hosts.push((*host).to_owned()),
                GeneralName::IPAddress(bytes) => hosts.extend(ip(bytes).map(|ip| ip.to_string())),
                _ => {}
            }
        }
        let organization = certificate.subject().iter_organization().next();
        let organization = organization.and_then(|value| value.as_str().ok()).map(str::to_owned);
        Issued {
            subject: certificate.subject().to_string(),
            organization,
            name,
            hosts,
            is_ca: certificate.is_ca(),
            not_before: certificate.validity().not_before.timestamp(),
            not_after: certificate.validity().not_after.timestamp(),
            key: certificate.public_key().raw.to_vec(),
        }
    }

    /// Whether this is the certificate of `key`.
    pub(super) fn has_key(&self, key: &KeyPair) -> bool {
        key.subject_public_key_info() == self.key
    }

    /// How many whole days are left; negative if it has expired.
    pub(super) fn days_left(&self) -> i64 {
        (self.not_after - i64::try_from(now()).unwrap_or(i64::MAX)).div_euclid(24 * 3600)
    }
}

fn ip(bytes: &[u8]) -> Option<IpAddr> {
    let v4 = <[u8; 4]>::try_from(bytes).map(IpAddr::from);
    v4.or_else(|_| <[u8; 16]>::try_from(bytes).map(IpAddr::from)).ok()
}
