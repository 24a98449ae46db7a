//! Nodes with certificates: which chains and names are accepted.

use std::sync::Arc;

use tokio_rustls::rustls::client::danger::HandshakeSignatureValid;
use tokio_rustls::rustls::client::verify_server_cert_signed_by_trust_anchor;
use tokio_rustls::rustls::crypto::{CryptoProvider, WebPkiSupportedAlgorithms, verify_tls13_signature};
use tokio_rustls::rustls::pki_types::{CertificateDer, UnixTime};
use tokio_rustls::rustls::server::danger::ClientCertVerifier;
use tokio_rustls::rustls::server::{ParsedCertificate, WebPkiClientVerifier};
use tokio_rustls::rustls::{
    CertificateError, DigitallySignedStruct, Error, OtherError, RootCertStore, SignatureScheme,
};

use super::error::HandshakeError;
use super::names;
use super::verifier::Rule;

/// Accepts nodes of the cluster whose certificate a CA has signed.
#[derive(Debug)]
pub(super) struct ByCertificate {
    roots: Arc<RootCertStore>,
    /// Verifies the chain of whoever dials.
    diallers: Arc<dyn ClientCertVerifier>,
    cluster: String,
    algorithms: WebPkiSupportedAlgorithms,
}

impl ByCertificate {
    pub(super) fn new(
        roots: Arc<RootCertStore>,
        cluster: &str,
        provider: Arc<CryptoProvider>,
    ) -> Result<Self, String> {
        let algorithms = provider.signature_verification_algorithms;
        let diallers = WebPkiClientVerifier::builder_with_provider(Arc::clone(&roots), provider);
        let diallers = diallers.build().map_err(|error| error.to_string())?;
        Ok(ByCertificate { roots, diallers, cluster: cluster.to_owned(), algorithms })
    }

    /// Judges this node's own certificate as a peer would, on either side of a link. Returns the node that it names.
    pub(super) fn check_own(
        &self,
        end: &CertificateDer<'_>,
        chain: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<String, HandshakeError> {
        let explain = |error| HandshakeError::of(&std::io::Error::other(error), false);
        // First, because a client's certificate has a purpose of its own, and its name says more.
        let name = names::node_of(end, &self.cluster)?;
        self.check_dialled(end, chain, now).map_err(explain)?;
        self.check_dialler(end, chain, now).map_err(explain)?;
        Ok(name)
    }

    fn check_name(&self, end: &CertificateDer<'_>) -> Result<(), Error> {
        let named = names::node_of(end, &self.cluster);
        named.map(drop).map_err(|error| CertificateError::Other(OtherError(Arc::new(error))).into())
    }
}

impl Rule for ByCertificate {
    const RAW_KEYS: bool = false;

    fn check_dialled(
        &self,
        end: &CertificateDer<'_>,
        chain: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<(), Error> {
        let parsed = ParsedCertificate::try_from(end)?;
        let algorithms = self.algorithms.all;
        verify_server_cert_signed_by_trust_anchor(&parsed, &self.roots, chain, now, algorithms)
            .map_err(by_namesake)?;
        self.check_name(end)
    }

    fn check_dialler(
        &self,
        end: &CertificateDer<'_>,
        chain: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<(), Error> {
        self.diallers.verify_client_cert(end, chain, now).map_err(by_namesake)?;
        self.check_name(end)
    }

    fn check_signature(
        &self,
        message: &[u8],
        end: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls13_signature(message, end, signed, &self.algorithms)
    }

    fn schemes(&self) -> Vec<SignatureScheme> {
        self.algorithms.supported_schemes()
    }
}

/// Another CA of the same name has signed the certificate: it is an unknown one, as one of another name would be.
fn by_namesake(error: Error) -> Error {
    match error {
        Error::InvalidCertificate(CertificateError::BadSignature) => CertificateError::UnknownIssuer.into(),
        other => other,
    }
}
