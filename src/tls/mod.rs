//! TLS between peers: both sides of a link prove that they belong to the cluster, and what they send is encrypted.
//!
//! ```text
//!   files --> material ----> peer ------------------> PeerTls: dials and accepts, reloads
//!               |            the rustls configurations       failures: limits, counts; watch: new files
//!               +--> chain, names: which certificates are accepted
//!               +--> secret, raw_key: which keys are
//! ```
//!
//! There are two ways, of which a cluster uses one:
//!
//! * **Certificates**: each node presents one that a CA in `--peer-tls-ca` signed and whose alternative names have the URI
//!   `sapwood://CLUSTER/node/NAME`. Host names are not checked, because nodes are dialled by address. Replication compares the
//!   name with that of the peer's hello.
//! * **A shared secret**: each node derives an Ed25519 key pair from it, and presents the public key alone (RFC 7250). A
//!   node accepts exactly the keys of the secrets in its file.
//!
//! Both are TLS 1.3 with client authentication, without resumption and early data. Invariants:
//!
//! * No byte of a peer reaches the peer protocol before the peer has proved its identity.
//! * Connections keep the keys that they began with; [`PeerTls::reload`] concerns later ones.
//! * Files that cannot be used replace nothing.

mod chain;
mod error;
mod failures;
mod material;
mod names;
mod peer;
mod raw_key;
mod secret;
mod stream;
mod verifier;
mod watch;

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::time::{Instant, timeout, timeout_at};
use tokio_rustls::rustls::pki_types::ServerName;
use tokio_rustls::{TlsAcceptor, TlsConnector, TlsStream};
use tracing_mutex::parkinglot::Mutex;

use self::failures::{Failures, Slot, Slots};
use self::peer::Material;
use self::stream::Secured;
use crate::config::{Config, PeerCredentials};
use crate::env::{BoxStream, Env};

pub use self::error::CredentialsError;
pub(crate) use self::error::HandshakeError;
pub use self::names::{Name, Role};
pub(crate) use self::stream::with_first_bytes;
pub(crate) use self::watch::watch;

/// How long a TLS handshake may take.
pub(crate) const HANDSHAKE_LIMIT: Duration = Duration::from_secs(5);

/// How long the other side of a failed handshake may take to read why.
const ALERT_LIMIT: Duration = Duration::from_secs(1);

/// A fatal TLS alert, `handshake_failure`: tells a node without TLS that this one requires it.
const ALERT: [u8; 7] = [0x15, 3, 3, 0, 2, 2, 40];

/// The TLS of one node's links.
pub(crate) struct PeerTls {
    credentials: PeerCredentials,
    cluster: String,
    name: String,
    env: Arc<dyn Env>,
    current: Mutex<Current>,
    slots: Slots,
    failures: Failures,
}

/// What new connections use, and how the last reload ended.
struct Current {
    material: Arc<Material>,
    reloads: u64,
    failed_reloads: u64,
    /// Why the files could not be used when they were read last.
    error: Option<String>,
}

/// A connection whose other side is authenticated.
pub(crate) struct Authenticated {
    pub(crate) stream: BoxStream,
    /// The node that the certificate names; `None` with a shared secret, which all nodes have.
    pub(crate) name: Option<String>,
}

/// How a node's links are secured, for display.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct PeerSecurity {
    /// `certificates`, `secret` or `none`.
    pub way: &'static str,
    /// When the certificate of this node ends, or one between it and the CA, in seconds since the Unix epoch.
    pub expires: Option<u64>,
    /// Handshakes that failed since the start, by reason.
    pub failures: Vec<(&'static str, u64)>,
    /// How often new files have been put to use.
    pub reloads: u64,
    /// How often new files could not be used.
    pub failed_reloads: u64,
    /// Why the files could not be used when they were read last; the earlier ones are still in use.
    pub error: Option<String>,
}

impl PeerSecurity {
    /// Links that are neither authenticated nor encrypted.
    pub(crate) fn none() -> PeerSecurity {
        PeerSecurity { way: "none", ..PeerSecurity::default() }
    }
}

/// Checks the files by which a node of this configuration would authenticate its peers.
///
/// # Errors
/// [`CredentialsError`] if they cannot be used. The name in the certificate is not compared unless the configuration has a
/// name.
pub fn check(config: &Config, env: Arc<dyn Env>) -> Result<(), CredentialsError> {
    let Some(credentials) = config.peer_credentials() else { return Ok(()) };
    material::load(&credentials, &config.cluster, config.name.as_deref(), env).map(drop)
}

impl PeerTls {
    /// Reads the files of `credentials`, for the node `name` of `cluster`.
    ///
    /// # Errors
    /// [`CredentialsError`] if they cannot be used.
    pub(crate) fn load(
        credentials: PeerCredentials,
        cluster: &str,
        name: &str,
        env: Arc<dyn Env>,
    ) -> Result<PeerTls, CredentialsError> {
        let material = material::load(&credentials, cluster, Some(name), Arc::clone(&env))?;
        Ok(PeerTls {
            credentials,
            cluster: cluster.to_owned(),
            name: name.to_owned(),
            env,
            current: Mutex::new(Current {
                material: Arc::new(material),
                reloads: 0,
                failed_reloads: 0,
                error: None,
            }),
            slots: Slots::default(),
            failures: Failures::default(),
        })
    }

    /// Performs the handshake over a connection that this node has opened.
    pub(crate) async fn dial(
        &self,
        stream: BoxStream,
        to: SocketAddr,
    ) -> Result<Authenticated, HandshakeError> {
        let material = self.material();
        let connector = TlsConnector::from(Arc::clone(&material.client));
        // Names the address in no message: the configuration sends no SNI.
        let server = ServerName::IpAddress(to.ip().into());
        let connecting = connector.connect(server, stream).into_fallible();
        let connected = match timeout(HANDSHAKE_LIMIT, connecting).await {
            Err(_) => Err(HandshakeError::TimedOut),
            Ok(Err((error, mut stream))) => {
                // The alert has been written. The other side reads it before it sees the end.
                let _ = stream.shutdown().await;
                Err(material.explain(&error))
            }
            Ok(Ok(stream)) => self.authenticate(&material, TlsStream::Client(stream)),
        };
        connected.inspect_err(|error| self.failures.count(error))
    }

    /// Admits a connection from `from` to its handshake, unless too many of this address are in theirs.
    pub(crate) fn admit(&self, from: IpAddr) -> Result<Slot, HandshakeError> {
        self.slots.take(from).ok_or(HandshakeError::Crowded)
    }

    /// Performs the handshake over an accepted connection, which must end by `deadline`.
    pub(crate) async fn accept(
        &self,
        stream: BoxStream,
        deadline: Instant,
    ) -> Result<Authenticated, HandshakeError> {
        let material = self.material();
        let accepting = TlsAcceptor::from(Arc::clone(&material.server)).accept(stream).into_fallible();
        match timeout_at(deadline, accepting).await {
            Err(_) => Err(HandshakeError::TimedOut),
            Ok(Err((error, stream))) => {
                let error = material.explain(&error);
                let _ = timeout(ALERT_LIMIT, close(stream)).await;
                Err(error)
            }
            Ok(Ok(stream)) => self.authenticate(&material, TlsStream::Server(stream)),
        }
    }

    /// Tells a dialler without TLS that this node requires it, and closes.
    pub(crate) async fn refuse_plaintext(&self, mut stream: BoxStream) {
        let answering = async {
            let _ = stream.write_all(&ALERT).await;
            close(stream).await;
        };
        let _ = timeout(ALERT_LIMIT, answering).await;
    }

    /// Counts a connection from `from` that was not authenticated. Returns `None` if it is not to be logged, else how many of
    /// this address were not logged since the last that was.
    pub(crate) fn note_failure(&self, from: IpAddr, error: &HandshakeError) -> Option<u64> {
        self.failures.count(error);
        // A probe of the port, or a peer that was stopped in the middle.
        let is_usual = matches!(error, HandshakeError::Closed);
        if is_usual { None } else { self.failures.note(from, Instant::now()) }
    }

    /// Counts a connection that this node has opened and whose other side has refused it.
    pub(crate) fn count_failure(&self, error: &HandshakeError) {
        self.failures.count(error);
    }

    /// How links are secured now.
    pub(crate) fn status(&self) -> PeerSecurity {
        let current = self.current.lock();
        PeerSecurity {
            way: self.credentials.way(),
            expires: current.material.expires,
            failures: self.failures.counts(),
            reloads: current.reloads,
            failed_reloads: current.failed_reloads,
            error: current.error.clone(),
        }
    }

    /// Reads the files again. Later connections use them. Returns whether they differ from before.
    ///
    /// # Errors
    /// [`CredentialsError`] if they cannot be used; the earlier ones stay in use.
    pub(crate) fn reload(&self) -> Result<bool, CredentialsError> {
        let env = Arc::clone(&self.env);
        let loaded = material::load(&self.credentials, &self.cluster, Some(&self.name), env);
        let mut current = self.current.lock();
        match loaded {
            Ok(material) => {
                current.error = None;
                let differs = material.digest != current.material.digest;
                if differs {
                    current.reloads += 1;
                    current.material = Arc::new(material);
                }
                Ok(differs)
            }
            Err(error) => {
                current.failed_reloads += 1;
                current.error = Some(error.to_string());
                Err(error)
            }
        }
    }

    /// The files to watch for changes.
    pub(crate) fn files(&self) -> Vec<&std::path::Path> {
        self.credentials.files()
    }

    fn material(&self) -> Arc<Material> {
        Arc::clone(&self.current.lock().material)
    }

    fn authenticate(
        &self,
        material: &Material,
        stream: TlsStream<BoxStream>,
    ) -> Result<Authenticated, HandshakeError> {
        let (_, session) = stream.get_ref();
        if session.alpn_protocol() != Some(peer::PROTOCOL) {
            return Err(HandshakeError::OtherProtocol);
        }
        let end = session.peer_certificates().and_then(|chain| chain.first());
        let name = match &self.credentials {
            PeerCredentials::Secret(_) => None,
            PeerCredentials::Certificates { .. } => {
                // The verifier has accepted the chain, so there is an end, and a node in it.
                let end = end.ok_or(HandshakeError::Unnamed)?;
                Some(names::node_of(end, &self.cluster)?)
            }
        };
        let secret = material.is_secret();
        Ok(Authenticated { stream: Box::new(Secured::new(stream, secret)), name })
    }
}

/// Closes a connection whose other side has yet to read the last bytes: a close with unread bytes would reset it, and the
/// other side would lose them.
async fn close(mut stream: BoxStream) {
    let _ = stream.shutdown().await;
    let mut discarded = [0; 1024];
    while let Ok(1..) = stream.read(&mut discarded).await {}
}

#[cfg(test)]
mod tests;
