//! The rustls configurations of a node's links.

use std::sync::Arc;

use tokio_rustls::rustls::client::{AlwaysResolvesClientRawPublicKeys, ResolvesClientCert, Resumption};
use tokio_rustls::rustls::crypto::{CryptoProvider, ring};
use tokio_rustls::rustls::pki_types::UnixTime;
use tokio_rustls::rustls::server::{
    AlwaysResolvesServerRawPublicKeys, NoServerSessionStorage, ResolvesServerCert,
};
use tokio_rustls::rustls::sign::{CertifiedKey, SingleCertAndKey};
use tokio_rustls::rustls::time_provider::TimeProvider;
use tokio_rustls::rustls::version::TLS13;
use tokio_rustls::rustls::{ClientConfig, ServerConfig};

use super::error::HandshakeError;
use super::verifier::{Rule, Verifier};
use crate::env::Env;

/// The application protocol that both sides must agree on: a node's key opens no port of another protocol.
pub(super) const PROTOCOL: &[u8] = b"sapwood-peer";

/// What new links use.
pub(super) struct Material {
    pub(super) client: Arc<ClientConfig>,
    pub(super) server: Arc<ServerConfig>,
    /// When the first of the certificates ends, in seconds since the Unix epoch.
    pub(super) expires: Option<u64>,
    /// Identifies the contents of the files.
    pub(super) digest: u128,
    secret: bool,
}

impl Material {
    /// Whether a shared secret authenticates peers.
    pub(super) fn is_secret(&self) -> bool {
        self.secret
    }

    /// Returns why a handshake failed.
    pub(super) fn explain(&self, error: &std::io::Error) -> HandshakeError {
        HandshakeError::of(error, self.secret)
    }
}

pub(super) fn provider() -> Arc<CryptoProvider> {
    Arc::new(ring::default_provider())
}

/// Makes the configurations for a node that presents `identity` and judges others by `rule`.
pub(super) fn material<R: Rule>(rule: R, identity: CertifiedKey, env: Arc<dyn Env>) -> Material {
    let (verifier, identity) = (Arc::new(Verifier(rule)), Arc::new(identity));
    let (as_client, as_server): (Arc<dyn ResolvesClientCert>, Arc<dyn ResolvesServerCert>) = if R::RAW_KEYS {
        (
            Arc::new(AlwaysResolvesClientRawPublicKeys::new(Arc::clone(&identity))),
            Arc::new(AlwaysResolvesServerRawPublicKeys::new(identity)),
        )
    } else {
        let single = Arc::new(SingleCertAndKey::from(identity));
        (Arc::clone(&single) as _, single)
    };
    let time: Arc<dyn TimeProvider> = Arc::new(Clock(env));
    let supported = "ring has TLS 1.3";
    let mut client = ClientConfig::builder_with_details(provider(), Arc::clone(&time))
        .with_protocol_versions(&[&TLS13])
        .expect(supported)
        .dangerous()
        .with_custom_certificate_verifier(Arc::clone(&verifier) as _)
        .with_client_cert_resolver(as_client);
    client.enable_sni = false;
    client.resumption = Resumption::disabled();
    client.alpn_protocols = vec![PROTOCOL.to_vec()];
    let mut server = ServerConfig::builder_with_details(provider(), time)
        .with_protocol_versions(&[&TLS13])
        .expect(supported)
        .with_client_cert_verifier(verifier)
        .with_cert_resolver(as_server);
    server.session_storage = Arc::new(NoServerSessionStorage {});
    server.send_tls13_tickets = 0;
    server.alpn_protocols = vec![PROTOCOL.to_vec()];
    Material {
        client: Arc::new(client),
        server: Arc::new(server),
        expires: None,
        digest: 0,
        secret: R::RAW_KEYS,
    }
}

/// The wall clock of the environment.
struct Clock(Arc<dyn Env>);

impl std::fmt::Debug for Clock {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Clock")
    }
}

impl TimeProvider for Clock {
    fn current_time(&self) -> Option<UnixTime> {
        Some(unix_time(&*self.0))
    }
}

pub(super) fn unix_time(env: &dyn Env) -> UnixTime {
    UnixTime::since_unix_epoch(crate::model::timestamp::since_epoch(env.wall_clock()))
}
