//! Reads a file of users, and notices when it has changed.

use std::fs::File;
use std::io::{self, Read as _};
use std::path::{Path, PathBuf};

use tracing_mutex::parkinglot::Mutex;
use zeroize::Zeroizing;

use crate::acl::{AclError, AclFile, Catalog, MAX_FILE};
use crate::config::{Access, Secret, SecretError, check_access};
use crate::file_watch::{FileWatch, Stamps};

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
    watch: Mutex<FileWatch>,
}

impl UsersFile {
    pub(super) fn new(path: PathBuf, password: Option<Secret>, refuses_open: bool) -> Self {
        UsersFile { path, password, refuses_open, watch: Mutex::default() }
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// Reads and parses the file.
    pub(super) fn read(&self, catalog: &Catalog) -> Result<AclFile, UsersError> {
        self.read_seen(catalog, self.look())
    }

    /// As [`read`](Self::read), for a file that was `seen` before.
    pub(super) fn read_seen(&self, catalog: &Catalog, seen: Stamps) -> Result<AclFile, UsersError> {
        // Before it is read, so that a change in between is noticed.
        self.watch.lock().note_read(seen);
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

    /// What the file is like, if it has changed since it was read and has stayed so since the last call.
    pub(super) fn has_changed(&self) -> Option<Stamps> {
        let seen = self.look();
        self.watch.lock().has_changed(&seen).then_some(seen)
    }

    /// What the file is like now.
    pub(super) fn look(&self) -> Stamps {
        Stamps::of([self.path.as_path()])
    }
}
