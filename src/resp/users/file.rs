//! Reads a file of users, and notices when it has changed.

use std::fs::File;
use std::io::{self, Read as _};
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use tracing_mutex::parkinglot::Mutex;
use zeroize::Zeroizing;

use crate::acl::{AclError, AclFile, Catalog, MAX_FILE};
use crate::config::{Access, Secret, SecretError, check_access};

/// A file of users cannot be used. The users stay as they are.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum UsersError {
    /// The node has no file of users.
    #[error("there is no file of users: start the node with --users-file")]
    NoFile,
    /// The file could not be read.
    #[error("it cannot be read: {0}")]
    Read(io::Error),
    /// Others can change the file.
    #[error(transparent)]
    Exposed(SecretError),
    /// A line is wrong.
    #[error(transparent)]
    Line(#[from] AclError),
    /// Other hosts could connect without a password and would have rights.
    #[error(
        "the user default has rights without a password (nopass), and --client is an address that others can reach: \
         give it a password, or the node --insecure"
    )]
    Open,
}

/// Where users are read from.
pub(super) struct UsersFile {
    path: PathBuf,
    /// The password of the user `default`.
    password: Option<Secret>,
    refuses_open: bool,
    state: Mutex<State>,
}

/// What the file was like.
#[derive(Default)]
struct State {
    /// When it was read last.
    read: Seen,
    /// At the last look.
    last: Seen,
}

/// What tells a changed file from the one before: `None` if it cannot be found.
pub(super) type Seen = Option<(u64, u64, Option<SystemTime>, i128)>;

impl UsersFile {
    pub(super) fn new(path: PathBuf, password: Option<Secret>, refuses_open: bool) -> Self {
        UsersFile { path, password, refuses_open, state: Mutex::default() }
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// Reads and parses the file.
    pub(super) fn read(&self, catalog: &Catalog) -> Result<AclFile, UsersError> {
        self.read_seen(catalog, self.look())
    }

    /// As [`read`](Self::read), for a file that was `seen` before.
    pub(super) fn read_seen(&self, catalog: &Catalog, seen: Seen) -> Result<AclFile, UsersError> {
        // Before it is read, so that a change in between is noticed.
        self.state.lock().read = seen;
        let file = File::open(&self.path).map_err(UsersError::Read)?;
        check_access(&self.path, &file, Access::Change).map_err(|error| match error {
            SecretError::Read(error) => UsersError::Read(error),
            error => UsersError::Exposed(error),
        })?;
        let mut text = Zeroizing::new(Vec::new());
        file.take(MAX_FILE as u64 + 1).read_to_end(&mut text).map_err(UsersError::Read)?;
        let users = AclFile::parse(&text, catalog, self.password.as_ref())?;
        let default = users.default_user();
        if self.refuses_open && default.is_open() && default.rights.have_commands() {
            return Err(UsersError::Open);
        }
        Ok(users)
    }

    /// Whether the file differs from the one that was read last and has stayed so since the last call, as it does not
    /// while it is being written; returns what it is like.
    pub(super) fn has_changed(&self) -> Option<Seen> {
        let seen = self.look();
        let mut state = self.state.lock();
        let last = std::mem::replace(&mut state.last, seen);
        (seen != state.read && seen == last).then_some(seen)
    }

    /// What the file is like now.
    pub(super) fn look(&self) -> Seen {
        let metadata = std::fs::metadata(&self.path).ok()?;
        #[cfg(unix)]
        let (inode, changed) = {
            use std::os::unix::fs::MetadataExt as _;
            (metadata.ino(), i128::from(metadata.ctime()) << 32 | i128::from(metadata.ctime_nsec()))
        };
        #[cfg(not(unix))]
        let (inode, changed) = (0, 0);
        Some((inode, metadata.len(), metadata.modified().ok(), changed))
    }
}
