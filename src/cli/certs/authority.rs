//! A certificate authority: makes itself, and signs the certificates of nodes and clients.

use std::net::IpAddr;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::{Context as _, bail};
use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer,
    KeyPair, KeyUsagePurpose, SanType, date_time_ymd,
};
use sapwood::internal::tls::{Name, Role};

use super::files::Folder;
use super::issued::Issued;

/// How long a CA is valid.
pub(super) const CA_DAYS: u64 = 3650;

/// How long the certificate of a node or client is valid.
pub(super) const LEAF_DAYS: u64 = 365;

const DAY: u64 = 24 * 3600;

/// How long before now a certificate begins, for hosts whose clocks are behind.
const SLACK: Duration = Duration::from_secs(300);

/// A CA that signs for one cluster.
pub(super) struct Authority {
    issuer: Issuer<'static, KeyPair>,
    cluster: String,
}

/// What a certificate is for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Subject {
    pub(super) name: Name,
    /// Host names and IP addresses.
    pub(super) hosts: Vec<String>,
}

impl Authority {
    /// Makes a CA for `cluster`. Returns it, and its certificate in PEM format.
    pub(super) fn new(cluster: &str) -> anyhow::Result<(Authority, String)> {
        let mut params = CertificateParams::default();
        // Without a path below it: what it signs cannot sign.
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        params.distinguished_name = subject("Sapwood CA", cluster);
        valid_for(&mut params, CA_DAYS);
        let key = KeyPair::generate()?;
        let certificate = params.self_signed(&key)?.pem();
        Ok((Authority { issuer: Issuer::new(params, key), cluster: cluster.to_owned() }, certificate))
    }

    /// Reads the CA of a folder.
    pub(super) fn load(folder: &Folder) -> anyhow::Result<Authority> {
        let (certificate, key) = folder.read_authority()?;
        let ca = folder.path("ca.crt");
        let Some(issued) = Issued::read(certificate.as_bytes()).into_iter().next() else {
            bail!("{} has no certificate in PEM format", ca.display());
        };
        let Some(cluster) = issued.organization.clone() else {
            bail!(
                "{} names no cluster as its organization: was it made by `sapwood certs init`?",
                ca.display()
            );
        };
        // What the parser says of a key could contain parts of it.
        let Ok(key) = KeyPair::from_pem(&key) else {
            bail!("{} has no private key in PEM format", folder.path("ca.key").display());
        };
        if !issued.has_key(&key) {
            bail!("{} is not the key of {}", folder.path("ca.key").display(), ca.display());
        }
        let issuer = Issuer::from_ca_cert_pem(&certificate, key)
            .with_context(|| format!("{} is not the certificate of a CA", ca.display()))?;
        Ok(Authority { issuer, cluster })
    }

    pub(super) fn cluster(&self) -> &str {
        &self.cluster
    }

    pub(super) fn key_pem(&self) -> String {
        self.issuer.key().serialize_pem()
    }

    /// Makes a key and a certificate of it. Returns the certificate and the key in PEM format.
    pub(super) fn sign(&self, subject_of: &Subject) -> anyhow::Result<(String, String)> {
        let Subject { name, hosts } = subject_of;
        let mut params = CertificateParams::default();
        params.distinguished_name = subject(&name.name, &name.cluster);
        params.use_authority_key_identifier_extension = true;
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = match name.role {
            Role::Node => vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth],
            Role::Client => vec![ExtendedKeyUsagePurpose::ClientAuth],
        };
        params.subject_alt_names.push(SanType::URI(name.to_string().try_into()?));
        for host in hosts {
            params.subject_alt_names.push(match host.parse::<IpAddr>() {
                Ok(ip) => SanType::IpAddress(ip),
                Err(_) => {
                    let name = host.clone().try_into();
                    SanType::DnsName(name.with_context(|| format!("--host {host:?} is not a host name"))?)
                }
            });
        }
        valid_for(&mut params, LEAF_DAYS);
        let key = KeyPair::generate()?;
        let certificate = params.signed_by(&key, &self.issuer)?;
        Ok((certificate.pem(), key.serialize_pem()))
    }
}

fn subject(common_name: &str, cluster: &str) -> DistinguishedName {
    let mut subject = DistinguishedName::new();
    subject.push(DnType::OrganizationName, cluster);
    subject.push(DnType::CommonName, common_name);
    subject
}

fn valid_for(params: &mut CertificateParams, days: u64) {
    let begin = Duration::from_secs(now()).saturating_sub(SLACK);
    params.not_before = date_time_ymd(1970, 1, 1) + begin;
    params.not_after = params.not_before + Duration::from_secs(days * DAY);
}

/// The seconds since the Unix epoch.
#[expect(clippy::disallowed_methods, reason = "the command has no simulated clock")]
pub(super) fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs()
}
