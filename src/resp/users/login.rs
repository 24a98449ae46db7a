//! A login that waits for a slow hash.

use std::sync::Arc;

use tokio::sync::OwnedSemaphorePermit;
use tracing_mutex::parkinglot::Mutex;
use zeroize::Zeroizing;

use super::cache::Seal;
use super::{Table, Users, off_workers};
use crate::acl::{Password, User};

/// Most hashes that are computed at a time: half of a small machine, and at most 128 MiB.
pub(super) const MAX_HASHES: usize = 2;
/// Most connections that wait for a hash: all have it within some seconds.
pub(super) const MAX_LOGINS: usize = 64;

/// A password that is being checked. Dropping it frees its place for another one.
pub(in crate::resp) struct Login(Arc<Job>);

struct Job {
    users: Arc<Users>,
    name: Box<[u8]>,
    password: Zeroizing<Vec<u8>>,
    seal: Seal,
    outcome: Mutex<Option<Outcome>>,
    _place: OwnedSemaphorePermit,
}

#[derive(Clone)]
struct Outcome {
    user: Option<Arc<User>>,
    generation: u64,
}

impl Login {
    pub(super) fn new(
        users: Arc<Users>,
        name: &[u8],
        password: Zeroizing<Vec<u8>>,
        seal: Seal,
        place: OwnedSemaphorePermit,
    ) -> Self {
        let (name, outcome) = (name.into(), Mutex::default());
        Login(Arc::new(Job { users, name, password, seal, outcome, _place: place }))
    }

    /// The user with the table that it is from, or `Some(None)` if the login is wrong; `None` if that is not known yet. If
    /// users were reloaded meanwhile, the check begins again.
    pub(in crate::resp) fn outcome(&self) -> Option<Option<(Arc<User>, u64)>> {
        let outcome = self.0.outcome.lock().clone()?;
        if outcome.generation != self.0.users.generation() {
            *self.0.outcome.lock() = None;
            return None;
        }
        let generation = outcome.generation;
        if outcome.user.is_some() {
            self.0.users.verified.add(self.0.seal, generation);
        }
        Some(outcome.user.map(|user| (user, generation)))
    }

    /// Computes the hashes, once it is this login's turn. Cancel-safe: a dropped call computes them in vain.
    pub(in crate::resp) fn run(&self) -> impl Future<Output = ()> + Send + use<> {
        let job = Arc::clone(&self.0);
        async move {
            if job.outcome.lock().is_some() {
                return;
            }
            let Ok(turn) = Arc::clone(&job.users.hashes).acquire_owned().await else { return };
            off_workers(move || {
                job.compute();
                drop(turn);
            })
            .await;
        }
    }
}

impl Job {
    fn compute(&self) {
        let Table { users, generation } = self.users.current();
        let user = users.user(&self.name).filter(|user| user.is_on);
        let hashes = user.map(|user| user.passwords.as_slice()).unwrap_or_default();
        let slow: Vec<&Password> = hashes.iter().filter(|hash| hash.is_slow()).collect();
        // As many as any user takes: the time must not tell whether there is such a user.
        let decoys = users.slow_checks().saturating_sub(slow.len());
        let slow = slow.into_iter().chain(std::iter::repeat_n(&self.users.decoy, decoys));
        let is_right = slow.fold(false, |right, hash| hash.matches(&self.password) | right);
        let fast = hashes.iter().filter(|hash| !hash.is_slow());
        let is_right = fast.fold(is_right, |right, hash| hash.matches(&self.password) | right);
        let user = user.filter(|user| is_right || user.needs_no_password).cloned();
        *self.outcome.lock() = Some(Outcome { user, generation });
    }
}
