//! Reads and checks the files by which a node authenticates its peers.

use std::hash::Hasher as _;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use tokio_rustls::rustls::RootCertStore;
use tokio_rustls::rustls::pki_types::pem::PemObject as _;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer, UnixTime};
use tokio_rustls::rustls::sign::CertifiedKey;
use x509_parser::prelude::{FromDer as _, X509Certificate};
use xxhash_rust::xxh3::Xxh3;
use zeroize::Zeroizing;

use super::chain::ByCertificate;
use super::error::{CredentialsError, HandshakeError, date};
use super::peer::{self, Material};
use super::raw_key::{BySecret, raw_key};
use super::secret::{MIN_SECRET, derive_key};
use crate::config::{MAX_SECRET, PeerCredentials, SecretError, read_private};
use crate::env::Env;

/// The most secrets of a file: the present one, and the one before or after it.
const MAX_SECRETS: usize = 2;

/// The largest file of certificates: a few hundred of them.
const MAX_CERTIFICATES: u64 = 1 << 20;

const CERT: &str = "--peer-tls-cert";
const KEY: &str = "--peer-tls-key";
const CA: &str = "--peer-tls-ca";
const SECRET: &str = "--peer-secret-file";

/// Reads the files for a node of `cluster`, and of this name if it is given.
pub(super) fn load(
    credentials: &PeerCredentials,
    cluster: &str,
    name: Option<&str>,
    env: Arc<dyn Env>,
) -> Result<Material, CredentialsError> {
    match credentials {
        PeerCredentials::Certificates { cert, key, ca } => {
            let (chain, chain_bytes) = certificates(CERT, cert)?;
            let (roots, root_bytes) = certificates(CA, ca)?;
            let key_bytes = read_private(key).map_err(|problem| CredentialsError::Read {
                flag: KEY,
                path: key.clone(),
                problem,
            })?;
            // What the parser says of a key file could contain parts of the key.
            let no_key = || {
                let problem =
                    "no private key in PEM format: is this the file that `sapwood certs node` names .key?";
                CredentialsError::content(KEY, key, problem)
            };
            let parsed = PrivateKeyDer::from_pem_slice(&key_bytes).map_err(|_| no_key())?;
            let provider = peer::provider();
            let identity = CertifiedKey::from_der(chain.clone(), parsed, &provider).map_err(|_| {
                let problem = format!("it is not the key of the certificate in {CERT} {}", cert.display());
                CredentialsError::content(KEY, key, problem)
            })?;
            let digest = digest(&[&chain_bytes, &root_bytes, &key_bytes]);
            // Whether a CA has ended is not checked: whoever lists it here trusts it.
            let expires = expiry(cert, &chain)?;
            let rule = ByCertificate::new(store(ca, roots)?, cluster, provider)
                .map_err(|error| CredentialsError::content(CA, ca, error))?;
            check_own(&rule, &chain, cert, name, &*env)?;
            let mut material = peer::material(rule, identity, env);
            (material.expires, material.digest) = (Some(expires), digest);
            Ok(material)
        }
        PeerCredentials::Secret(path) => {
            let secrets = secrets(path)?;
            let digest = digest(&secrets.iter().map(|secret| secret.as_slice()).collect::<Vec<_>>());
            let keys: Vec<_> = secrets.iter().map(|secret| derive_key(secret, cluster)).collect();
            let rule = BySecret::new(&keys, &peer::provider());
            let mut material = peer::material(rule, raw_key(Arc::clone(&keys[0])), env);
            material.digest = digest;
            Ok(material)
        }
    }
}

/// Reads the certificates of a file; returns the file's bytes too.
fn certificates(
    flag: &'static str,
    path: &Path,
) -> Result<(Vec<CertificateDer<'static>>, Vec<u8>), CredentialsError> {
    let read = |error: std::io::Error| CredentialsError::Read {
        flag,
        path: path.to_owned(),
        problem: SecretError::Read(error),
    };
    let mut bytes = Vec::new();
    let file = std::fs::File::open(path).map_err(read)?;
    std::io::Read::read_to_end(&mut std::io::Read::take(file, MAX_CERTIFICATES + 1), &mut bytes)
        .map_err(read)?;
    if bytes.len() as u64 > MAX_CERTIFICATES {
        return Err(CredentialsError::content(
            flag,
            path,
            "it is longer than 1 MiB: is this the right file?",
        ));
    }
    let none = || CredentialsError::content(flag, path, "no certificate in PEM format");
    let found: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&bytes).collect();
    match found {
        Ok(found) if !found.is_empty() => Ok((found, bytes)),
        _ => Err(none()),
    }
}

fn store(
    path: &Path,
    certificates: Vec<CertificateDer<'static>>,
) -> Result<Arc<RootCertStore>, CredentialsError> {
    let mut roots = RootCertStore::empty();
    for certificate in certificates {
        let unusable =
            |error| CredentialsError::content(CA, path, format!("it cannot serve as a CA: {error}"));
        roots.add(certificate).map_err(unusable)?;
    }
    Ok(Arc::new(roots))
}

/// The end of this node's certificate, or of one between it and the CA if that ends first, in seconds since the Unix epoch.
fn expiry(path: &Path, chain: &[CertificateDer<'_>]) -> Result<u64, CredentialsError> {
    let mut first = u64::MAX;
    for certificate in chain {
        let (_, parsed) = X509Certificate::from_der(certificate)
            .map_err(|_| CredentialsError::content(CERT, path, "it has a certificate that cannot be read"))?;
        first = first.min(u64::try_from(parsed.validity().not_after.timestamp()).unwrap_or(0));
    }
    Ok(first)
}

/// Checks that peers with the same CA would accept this node's own certificate, so that mistakes show at the start.
fn check_own(
    verifier: &ByCertificate,
    chain: &[CertificateDer<'_>],
    path: &Path,
    name: Option<&str>,
    env: &dyn Env,
) -> Result<(), CredentialsError> {
    let now = peer::unix_time(env);
    let own = verifier.check_own(&chain[0], &chain[1..], now);
    let certified = own.map_err(|error| CredentialsError::content(CERT, path, explain_own(error)))?;
    match name {
        Some(name) if name != certified => {
            let problem = format!(
                "it is the certificate of node {certified:?}, and this node is {name:?}: give --name {certified}, or \
                 another certificate"
            );
            Err(CredentialsError::content(CERT, path, problem))
        }
        _ => Ok(()),
    }
}

fn explain_own(error: HandshakeError) -> String {
    match error {
        HandshakeError::UnknownCa => "it is not signed by a CA of --peer-tls-ca".into(),
        HandshakeError::Expired(at) => format!("it expired on {at}: renew it, as by `sapwood certs renew`"),
        HandshakeError::NotYetValid(at) => {
            format!("it begins to be valid on {at}: check this machine's clock")
        }
        HandshakeError::Purpose => "its extended key usage must allow servers and clients".into(),
        HandshakeError::Unnamed => {
            "it takes one URI such as sapwood://CLUSTER/node/NAME among its alternative names".into()
        }
        HandshakeError::Client(name) => {
            format!("it is the certificate of a client ({name:?}): make one with `sapwood certs node NAME`")
        }
        HandshakeError::WrongCluster { own, theirs } => {
            format!("it is of cluster {theirs:?}, this node belongs to {own:?} (--cluster)")
        }
        other => other.to_string(),
    }
}

/// Reads the secrets of a file: the first is this node's own, both are accepted of peers.
fn secrets(path: &Path) -> Result<Vec<Zeroizing<Vec<u8>>>, CredentialsError> {
    let read = |problem| CredentialsError::Read { flag: SECRET, path: path.to_owned(), problem };
    let bytes = read_private(path).map_err(read)?;
    if bytes.len() > MAX_SECRET {
        return Err(read(SecretError::TooLong));
    }
    let lines = bytes.split(|&byte| byte == b'\n').map(<[u8]>::trim_ascii);
    let lines = lines.filter(|line| !line.is_empty());
    let secrets: Vec<_> = lines.map(|line| Zeroizing::new(line.to_vec())).collect();
    if secrets.is_empty() {
        let problem = "it is empty: write a secret into it, such as `sapwood certs secret` prints";
        return Err(CredentialsError::content(SECRET, path, problem));
    }
    if secrets.len() > MAX_SECRETS {
        let problem =
            "it has more than two lines: the first is this node's secret, and a second is accepted of peers";
        return Err(CredentialsError::content(SECRET, path, problem));
    }
    match secrets.iter().find(|secret| secret.len() < MIN_SECRET) {
        Some(short) => Err(CredentialsError::short_secret(path, short.len())),
        None => Ok(secrets),
    }
}

/// Identifies the contents of files, to find out whether they have changed.
fn digest(files: &[&[u8]]) -> u128 {
    let mut hash = Xxh3::new();
    for file in files {
        hash.write_u64(file.len() as u64);
        hash.update(file);
    }
    hash.digest128()
}

/// How long before its end a certificate is reported.
pub(crate) const WARN_BEFORE: Duration = Duration::from_secs(30 * 24 * 3600);

/// Returns the warning about the end of a certificate, if it is near or past.
pub(crate) fn warning(expires: u64, now: UnixTime) -> Option<String> {
    let left = expires.saturating_sub(now.as_secs());
    let at = date(UnixTime::since_unix_epoch(Duration::from_secs(expires)));
    match left {
        0 => Some(format!("it expired on {at}: no new links can be made")),
        left if left < WARN_BEFORE.as_secs() => {
            Some(format!("it expires on {at}, in {} days: renew it", left / (24 * 3600)))
        }
        _ => None,
    }
}
