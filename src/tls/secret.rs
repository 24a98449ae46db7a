//! A shared secret as a key: everyone who knows the secret can compute the same Ed25519 key pair.
//!
//! A node shows the public key to whoever dials it, who could try guesses of the secret offline. So a secret must be as hard
//! to guess as a key: [`MIN_SECRET`] refuses what people choose.

use std::sync::Arc;

use ring::hkdf::{HKDF_SHA256, KeyType, Salt};
use tokio_rustls::rustls::crypto::ring::sign::any_eddsa_type;
use tokio_rustls::rustls::pki_types::PrivatePkcs8KeyDer;
use tokio_rustls::rustls::sign::SigningKey;
use zeroize::Zeroizing;

/// The fewest bytes of a secret. 32 random hexadecimal digits are 128 bits.
pub(super) const MIN_SECRET: usize = 32;

/// Bytes of an Ed25519 private key.
const SEED: usize = 32;

/// Another label for another use of the same secret gives an unrelated key.
const LABEL: &[u8] = b"sapwood peer secret v1";

/// The head of a private key of Ed25519 in PKCS #8 (RFC 8410); the seed follows.
const PKCS8_HEAD: [u8; 16] = *b"\x30\x2e\x02\x01\x00\x30\x05\x06\x03\x2b\x65\x70\x04\x22\x04\x20";

struct SeedLength;

impl KeyType for SeedLength {
    fn len(&self) -> usize {
        SEED
    }
}

/// Derives the key that all holders of `secret` in `cluster` have.
pub(super) fn derive_key(secret: &[u8], cluster: &str) -> Arc<dyn SigningKey> {
    let mut pkcs8 = Zeroizing::new([0; PKCS8_HEAD.len() + SEED]);
    let (head, seed) = pkcs8.split_at_mut(PKCS8_HEAD.len());
    head.copy_from_slice(&PKCS8_HEAD);
    let keys = Salt::new(HKDF_SHA256, LABEL).extract(secret);
    let context = [cluster.as_bytes()];
    let expanded = keys.expand(&context, SeedLength).expect("HKDF yields 32 bytes");
    expanded.fill(seed).expect("the length is that of the key type");
    any_eddsa_type(&PrivatePkcs8KeyDer::from(&pkcs8[..])).expect("any 32 bytes are an Ed25519 key")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_key_depends_on_secret_and_cluster_and_on_nothing_else() {
        let public = |secret: &[u8], cluster| derive_key(secret, cluster).public_key().unwrap().to_vec();
        let (secret, other) = ([b'x'; MIN_SECRET], [b'y'; MIN_SECRET]);
        let key = public(&secret, "oak");
        assert_eq!(key, public(&secret, "oak"));
        assert_ne!(key, public(&other, "oak"));
        assert_ne!(key, public(&secret, "elm"));
    }

    #[test]
    fn the_derivation_does_not_change_between_builds() {
        let key = derive_key(b"0123456789abcdef0123456789abcdef", "sapwood").public_key().unwrap().to_vec();
        let hex: String = key.iter().map(|byte| format!("{byte:02x}")).collect();
        assert_eq!(
            hex,
            "302a300506032b657003210024325e527651be6891d13d93f5c15ab0ec8786c41827e85b02dc3cacfe671b89"
        );
    }
}
