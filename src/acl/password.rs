//! Hashes of passwords.

use std::fmt;

use argon2::password_hash::phc::PasswordHash;
use argon2::password_hash::{self, PasswordHasher, PasswordVerifier as _};
use argon2::{Algorithm, Argon2, Params, Version};
use sha2::{Digest as _, Sha256};
use subtle::ConstantTimeEq as _;

use super::error::Problem;
use crate::config::Secret;

/// The most passwords of a user, and the most of them that cost time and memory to check.
pub(super) const MAX_PASSWORDS: usize = 16;
pub(super) const MAX_ARGON2_HASHES: usize = 2;
/// The largest parameters of an accepted hash. Anyone who can connect makes the node compute it.
pub(super) const MAX_MEMORY_KIB: u32 = 64 << 10;
pub(super) const MAX_PASSES: u32 = 10;
pub(super) const MAX_THREADS: u32 = 4;

/// The parameters of new hashes: the least that OWASP recommends.
const MEMORY_KIB: u32 = 19_456;
const PASSES: u32 = 2;
const THREADS: u32 = 1;

/// A hash that belongs to no password, for users that do not exist.
const DECOY: &str =
    "$argon2id$v=19$m=19456,t=2,p=1$c2Fwd29vZC1kZWNveQ$AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA";

/// What a password is compared with.
#[derive(Clone, PartialEq, Eq)]
pub(crate) enum Password {
    /// SHA-256 of the password, as Redis has it.
    Sha256([u8; 32]),
    /// argon2id, in PHC format.
    Argon2(Box<str>),
    /// The password itself, from `--client-password-file`. It is never shown, not even as a hash.
    Given(Secret),
}

impl Password {
    /// Parses the digits after `#`.
    pub(super) fn sha256(digits: &str) -> Result<Self, Problem> {
        let digits: &[u8; 64] = digits.as_bytes().try_into().map_err(|_| Problem::Sha256)?;
        let mut hash = [0; 32];
        for (byte, pair) in hash.iter_mut().zip(digits.chunks_exact(2)) {
            let digit = |digit: u8| char::from(digit).to_digit(16).ok_or(Problem::Sha256);
            *byte = u8::try_from(digit(pair[0])? << 4 | digit(pair[1])?).map_err(|_| Problem::Sha256)?;
        }
        Ok(Password::Sha256(hash))
    }

    /// Parses a hash of argon2id in PHC format.
    pub(super) fn argon2(phc: &str) -> Result<Self, Problem> {
        let hash = PasswordHash::new(phc).map_err(|_| Problem::Argon2)?;
        let is_argon2id = hash.algorithm == Algorithm::Argon2id.ident() && hash.version == Some(0x13);
        if !is_argon2id || hash.salt.is_none() || hash.hash.as_ref().is_none_or(|hash| hash.len() < 16) {
            return Err(Problem::Argon2);
        }
        let number = |name| hash.params.get_decimal(name).ok_or(Problem::Argon2);
        let (memory, passes, threads) = (number("m")?, number("t")?, number("p")?);
        if memory > MAX_MEMORY_KIB || passes > MAX_PASSES || threads > MAX_THREADS {
            return Err(Problem::Argon2Cost);
        }
        Params::try_from(&hash).map_err(|_| Problem::Argon2)?;
        Ok(Password::Argon2(phc.into()))
    }

    /// A hash of the usual cost that matches no password.
    pub(crate) fn decoy() -> Self {
        Password::Argon2(DECOY.into())
    }

    /// Whether a check takes tens of milliseconds and megabytes.
    pub(crate) fn is_slow(&self) -> bool {
        matches!(self, Password::Argon2(_))
    }

    /// Whether `candidate` is the password. The time it takes does not depend on where they differ.
    pub(crate) fn matches(&self, candidate: &[u8]) -> bool {
        match self {
            Password::Sha256(hash) => Sha256::digest(candidate).as_slice().ct_eq(hash).into(),
            Password::Argon2(phc) => PasswordHash::new(phc)
                .is_ok_and(|hash| Argon2::default().verify_password(candidate, &hash).is_ok()),
            Password::Given(secret) => secret.matches(candidate),
        }
    }

    /// The rule that a file has for it; `None` if it is never shown.
    pub(crate) fn rule(&self) -> Option<String> {
        match self {
            Password::Sha256(hash) => {
                Some(hash.iter().fold("#".to_owned(), |rule, byte| rule + &format!("{byte:02x}")))
            }
            Password::Argon2(phc) => Some(phc.to_string()),
            Password::Given(_) => None,
        }
    }
}

impl fmt::Debug for Password {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Password(hidden)")
    }
}

/// The rule of a file of users for a password: its hash by argon2id in PHC format. `salt` has 16 random bytes.
///
/// # Errors
/// If the library refuses the password, which is longer than 4 GiB then.
pub fn hash_password(password: &[u8], salt: [u8; 16]) -> Result<String, password_hash::Error> {
    let params = Params::new(MEMORY_KIB, PASSES, THREADS, None)?;
    let argon2 = Argon2::new(Algorithm::Argon2id, Version::V0x13, params);
    let hash: PasswordHash = argon2.hash_password_with_salt(password, &salt)?;
    Ok(hash.to_string())
}
