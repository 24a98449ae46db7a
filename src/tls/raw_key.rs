//! Nodes that know a shared secret: which public keys are accepted, by RFC 7250.

use std::sync::Arc;

use tokio_rustls::rustls::client::danger::HandshakeSignatureValid;
use tokio_rustls::rustls::crypto::{
    CryptoProvider, WebPkiSupportedAlgorithms, verify_tls13_signature_with_raw_key,
};
use tokio_rustls::rustls::pki_types::{CertificateDer, SubjectPublicKeyInfoDer, UnixTime};
use tokio_rustls::rustls::sign::{CertifiedKey, SigningKey};
use tokio_rustls::rustls::{CertificateError, DigitallySignedStruct, Error, SignatureScheme};

use super::verifier::Rule;

/// The identity of a node that presents a public key alone.
pub(super) fn raw_key(key: Arc<dyn SigningKey>) -> CertifiedKey {
    CertifiedKey::new(vec![spki(&*key)], key)
}

/// The public key, as rustls passes one in place of a certificate.
fn spki(key: &dyn SigningKey) -> CertificateDer<'static> {
    key.public_key().expect("ring gives the public key of an Ed25519 key").to_vec().into()
}

/// Accepts whoever has one of some keys, which are those of the shared secrets.
#[derive(Debug)]
pub(super) struct BySecret {
    keys: Vec<CertificateDer<'static>>,
    algorithms: WebPkiSupportedAlgorithms,
}

impl BySecret {
    pub(super) fn new(keys: &[Arc<dyn SigningKey>], provider: &CryptoProvider) -> Self {
        let keys = keys.iter().map(|key| spki(&**key)).collect();
        BySecret { keys, algorithms: provider.signature_verification_algorithms }
    }

    fn check(&self, key: &CertificateDer<'_>) -> Result<(), Error> {
        // Public keys: comparing them in constant time would protect nothing.
        let is_known = self.keys.iter().any(|known| known.as_ref() == key.as_ref());
        if is_known { Ok(()) } else { Err(CertificateError::UnknownIssuer.into()) }
    }
}

impl Rule for BySecret {
    const RAW_KEYS: bool = true;

    fn check_dialled(
        &self,
        key: &CertificateDer<'_>,
        _chain: &[CertificateDer<'_>],
        _now: UnixTime,
    ) -> Result<(), Error> {
        self.check(key)
    }

    fn check_dialler(
        &self,
        key: &CertificateDer<'_>,
        _chain: &[CertificateDer<'_>],
        _now: UnixTime,
    ) -> Result<(), Error> {
        self.check(key)
    }

    fn check_signature(
        &self,
        message: &[u8],
        key: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let key = SubjectPublicKeyInfoDer::from(key.as_ref());
        verify_tls13_signature_with_raw_key(message, &key, signed, &self.algorithms)
    }

    fn schemes(&self) -> Vec<SignatureScheme> {
        vec![SignatureScheme::ED25519]
    }
}
