//! The users of a server: who they are now, and the check of their passwords.
//!
//! ```text
//!   file ──► Users::reload ──► current table, generation + 1 ──► sessions take their rights anew
//!                                      │                         (before the next requests), or close
//!   AUTH ──► Users::check ─────────────┘
//!               │  cheap hashes, and passwords that were right before: at once
//!               └► Login: a thread outside the workers computes argon2id
//! ```
//!
//! **Invariants.**
//! - A file that cannot be used changes nothing: the users stay as they are.
//! - Who sends a wrong password cannot find out whether the user exists, neither by the reply nor by its time.
//! - At most [`MAX_HASHES`](login::MAX_HASHES) hashes are computed at a time, and [`MAX_LOGINS`](login::MAX_LOGINS)
//!   connections wait for one.

mod cache;
mod file;
mod login;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use tokio::sync::{Notify, Semaphore};
use tracing_mutex::parkinglot::Mutex;
use zeroize::Zeroizing;

use crate::acl::{AclFile, Catalog, Password, User};
use crate::config::Secret;
use crate::env::Env;
use crate::file_watch::Stamps;
use cache::Verified;
pub use file::UsersError;
use file::UsersFile;
pub(super) use login::Login;

/// The users of a server.
pub struct Users {
    current: Mutex<Table>,
    /// That of the current table. It rises with each one.
    generation: AtomicU64,
    /// Where they are read from.
    file: Option<UsersFile>,
    catalog: &'static Catalog,
    /// Held while the file is read, so that the last one that reads is the one whose table stays.
    loading: Mutex<()>,
    /// Why the file that is there now is not in use.
    fault: Mutex<Option<String>>,
    failures: AtomicU64,
    verified: Verified,
    /// Those who may wait for a hash, and those whose hash is being computed.
    logins: Arc<Semaphore>,
    hashes: Arc<Semaphore>,
    /// Notified after each new table.
    installed: Notify,
    decoy: Password,
}

/// All users, since a reload.
#[derive(Clone)]
pub(super) struct Table {
    pub(super) users: Arc<AclFile>,
    pub(super) generation: u64,
}

/// The outcome of a check of a password.
pub(super) enum Check {
    Right(Arc<User>, u64),
    Wrong,
    /// Too many connections wait for a check.
    Busy,
    /// It takes a while.
    Started(Login),
}

impl Users {
    /// The only user `default`, who may do everything.
    pub(super) fn of_default(password: Option<&Secret>, catalog: &'static Catalog, env: &dyn Env) -> Self {
        Users::new(AclFile::of_default(password), None, catalog, env)
    }

    /// Reads a file of users. `password` is that of the user `default`, if there is one. If `refuses_open`, no client
    /// may have rights without a password.
    ///
    /// # Errors
    /// If the file cannot be used.
    pub(crate) fn open(
        path: PathBuf,
        password: Option<Secret>,
        refuses_open: bool,
        catalog: &'static Catalog,
        env: &dyn Env,
    ) -> Result<Self, UsersError> {
        let file = UsersFile::new(path, password, refuses_open);
        let users = file.read(catalog)?;
        tracing::info!(file = %file.path().display(), users = users.users().len(), "users were read");
        warn_of_fast_hashes(&users);
        Ok(Users::new(users, Some(file), catalog, env))
    }

    fn new(users: AclFile, file: Option<UsersFile>, catalog: &'static Catalog, env: &dyn Env) -> Self {
        Users {
            current: Mutex::new(Table { users: Arc::new(users), generation: 0 }),
            generation: AtomicU64::new(0),
            file,
            catalog,
            loading: Mutex::default(),
            fault: Mutex::default(),
            failures: AtomicU64::new(0),
            verified: Verified::new(env),
            logins: Arc::new(Semaphore::new(login::MAX_LOGINS)),
            hashes: Arc::new(Semaphore::new(login::MAX_HASHES)),
            installed: Notify::new(),
            decoy: Password::decoy(),
        }
    }

    /// How many users there are.
    pub(crate) fn count(&self) -> usize {
        self.current().users.users().len()
    }

    /// The number of the current table.
    pub(super) fn generation(&self) -> u64 {
        self.generation.load(Ordering::Acquire)
    }

    /// The current table.
    pub(super) fn current(&self) -> Table {
        self.current.lock().clone()
    }

    /// The file of users, if there is one.
    pub(super) fn path(&self) -> Option<&Path> {
        self.file.as_ref().map(UsersFile::path)
    }

    /// Why the file that is there now is not in use.
    pub(super) fn fault(&self) -> Option<String> {
        self.fault.lock().clone()
    }

    /// How often a file was read that could not be used.
    pub(super) fn failures(&self) -> u64 {
        self.failures.load(Ordering::Relaxed)
    }

    /// Checks a password.
    pub(super) fn check(self: &Arc<Self>, name: &[u8], password: &[u8]) -> Check {
        let Table { users, generation } = self.current();
        let user = users.user(name).filter(|user| user.is_on);
        if let Some(user) = user.filter(|user| user.needs_no_password) {
            return Check::Right(Arc::clone(user), generation);
        }
        let fast = |user: &&Arc<User>| {
            let fast = user.passwords.iter().filter(|hash| !hash.is_slow());
            // No early end: the time must not depend on which one matches.
            fast.fold(false, |matches, hash| hash.matches(password) | matches)
        };
        if let Some(user) = user.filter(fast) {
            return Check::Right(Arc::clone(user), generation);
        }
        if users.slow_checks() == 0 {
            return Check::Wrong;
        }
        let seal = self.verified.seal(name, password);
        if let Some(user) = user.filter(|_| self.verified.has(&seal, generation)) {
            return Check::Right(Arc::clone(user), generation);
        }
        match Arc::clone(&self.logins).try_acquire_owned() {
            Ok(place) => {
                let password = Zeroizing::new(password.to_vec());
                Check::Started(Login::new(Arc::clone(self), name, password, seal, place))
            }
            Err(_) => Check::Busy,
        }
    }

    /// Reads the file again, and returns the number of users. It blocks while it reads, so it must be called outside the
    /// runtime's workers.
    ///
    /// # Errors
    /// If the file cannot be used. The users stay as they are. The error is logged.
    pub(crate) fn reload(&self) -> Result<usize, UsersError> {
        let Some(file) = &self.file else { return Err(UsersError::NoFile) };
        let seen = file.look();
        self.load(file, seen)
    }

    /// As [`reload`](Self::reload), if the file has changed and has stayed so since the last call.
    fn reload_if_changed(&self) {
        if let Some(file) = &self.file
            && let Some(seen) = file.has_changed()
        {
            // The error is logged.
            let _ = self.load(file, seen);
        }
    }

    fn load(&self, file: &UsersFile, seen: Stamps) -> Result<usize, UsersError> {
        let path = file.path().display();
        let _loading = self.loading.lock();
        match file.read_seen(self.catalog, seen) {
            Ok(users) => {
                let count = users.users().len();
                warn_of_fast_hashes(&users);
                let mut current = self.current.lock();
                current.users = Arc::new(users);
                current.generation += 1;
                self.verified.clear(current.generation);
                self.generation.store(current.generation, Ordering::SeqCst);
                drop(current);
                *self.fault.lock() = None;
                tracing::info!(file = %path, users = count, "users were reloaded");
                self.installed.notify_one();
                Ok(count)
            }
            Err(error) => {
                self.failures.fetch_add(1, Ordering::Relaxed);
                *self.fault.lock() = Some(error.to_string());
                tracing::error!(file = %path, %error, "users were not reloaded and stay as they are");
                Err(error)
            }
        }
    }

    /// Waits until there is a new table. Cancel-safe.
    pub(super) async fn installed(&self) {
        self.installed.notified().await;
    }

    /// Looks once whether the file has changed, and reloads it then.
    pub(super) async fn look(self: &Arc<Self>) {
        if self.file.is_some() {
            let users = Arc::clone(self);
            off_workers(move || users.reload_if_changed()).await;
        }
    }
}

fn warn_of_fast_hashes(users: &AclFile) {
    if users.has_fast_hashes() {
        tracing::warn!(
            "passwords of users have SHA-256 hashes, which are soon guessed if the file leaks: `sapwood passwd` prints better ones"
        );
    }
}

/// Runs blocking work on a thread that serves no connection; `None` if the runtime ends first.
#[expect(
    clippy::disallowed_methods,
    reason = "a hash takes tens of milliseconds of a processor, and files block; simulated nodes have no users"
)]
pub(super) async fn off_workers<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> Option<T> {
    tokio::task::spawn_blocking(work).await.ok()
}
