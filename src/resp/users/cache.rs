//! Passwords that were right, so that the next connection of a pool costs no slow hash.

use std::collections::VecDeque;

use hmac::{Hmac, KeyInit as _, Mac as _};
use sha2::Sha256;
use subtle::ConstantTimeEq as _;
use tracing_mutex::parkinglot::Mutex;
use zeroize::Zeroizing;

use crate::env::Env;

/// Most logins that are remembered. All are compared in turn, which takes a few microseconds.
const MOST: usize = 256;

/// A keyed hash of a name and a password. The key is random and leaves the process in no way, so the hash is no help to
/// guess the password.
pub(super) type Seal = [u8; 32];

/// The logins that were right since the last reload.
pub(super) struct Verified {
    key: Zeroizing<[u8; 32]>,
    seals: Mutex<Seals>,
}

#[derive(Default)]
struct Seals {
    /// The table of users that they were checked with.
    generation: u64,
    all: VecDeque<Seal>,
}

impl Verified {
    pub(super) fn new(env: &dyn Env) -> Self {
        let mut key = Zeroizing::new([0; 32]);
        for chunk in key.chunks_exact_mut(8) {
            chunk.copy_from_slice(&env.random().to_le_bytes());
        }
        Verified { key, seals: Mutex::default() }
    }

    pub(super) fn seal(&self, name: &[u8], password: &[u8]) -> Seal {
        let mut mac = Hmac::<Sha256>::new_from_slice(&*self.key).expect("a key may have any length");
        mac.update(&(name.len() as u64).to_le_bytes());
        mac.update(name);
        mac.update(password);
        mac.finalize().into_bytes().into()
    }

    /// Whether the login was right with this table of users.
    pub(super) fn has(&self, seal: &Seal, generation: u64) -> bool {
        let seals = self.seals.lock();
        let found = seals.all.iter().fold(false, |found, other| bool::from(other.ct_eq(seal)) | found);
        found && seals.generation == generation
    }

    /// Remembers a login that is right with this table of users, in place of the oldest if there are many.
    pub(super) fn add(&self, seal: Seal, generation: u64) {
        let mut seals = self.seals.lock();
        if seals.generation == generation && !seals.all.contains(&seal) {
            if seals.all.len() == MOST {
                seals.all.pop_front();
            }
            seals.all.push_back(seal);
        }
    }

    /// Begins with another table of users.
    pub(super) fn clear(&self, generation: u64) {
        *self.seals.lock() = Seals { generation, all: VecDeque::new() };
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::env::SystemEnv;

    #[test]
    fn a_login_is_remembered_until_the_users_change_or_many_others_came() {
        let verified = Verified::new(&SystemEnv);
        let seal = verified.seal(b"alice", b"pass");
        assert!(!verified.has(&seal, 0));
        verified.add(seal, 0);
        assert!(verified.has(&seal, 0) && !verified.has(&seal, 1));
        for other in [verified.seal(b"alicep", b"ass"), verified.seal(b"alice", b"")] {
            assert!(!verified.has(&other, 0));
        }
        for n in 0..MOST {
            verified.add(verified.seal(b"bob", &n.to_le_bytes()), 0);
        }
        assert!(!verified.has(&seal, 0), "the oldest goes first");
        assert_eq!(verified.seals.lock().all.len(), MOST);
        verified.clear(1);
        verified.add(seal, 0);
        assert!(!verified.has(&seal, 1), "a login of the table before is not remembered");
    }

    #[test]
    fn another_process_seals_differently() {
        let [one, other] = [0, 1].map(|_| Verified::new(&SystemEnv).seal(b"alice", b"pass"));
        assert_ne!(one, other);
    }
}
