//! Users of clients and their rights: the file of users, and the check of a request.
//!
//! **Purpose.** Parse lines in the format of Redis's ACL files, and decide whether a user may run a command on some keys
//! and channels.
//!
//! **Place in the picture.** A pure layer below `resp`: no I/O, no clock, no lock. The layer that executes commands
//! describes them by a [`Catalog`].
//!
//! ```text
//!   text ──► AclFile::parse ──► User ──► Rights ──► may run? may use the key? may use the channel?
//!                 ▲
//!              Catalog (commands and their categories)
//! ```
//!
//! **Invariants.**
//! - A check takes time that is logarithmic in the number of patterns, so patterns are exact names or prefixes.
//! - An error names the line and never repeats what may be a password.

mod catalog;
mod error;
mod file;
mod password;
mod patterns;
mod rights;
mod rules;
mod user;

#[cfg(test)]
mod tests;

pub(crate) use catalog::{Catalog, CommandSet};
pub use error::{AclError, Problem};
pub(crate) use file::{AclFile, MAX_FILE};
pub(crate) use password::Password;
pub use password::hash_password;
pub(crate) use rights::KeyUse;
pub use user::MAX_NAME as MAX_USER_NAME;
pub(crate) use user::User;

/// The user of connections that have not authenticated.
pub(crate) const DEFAULT_USER: &str = "default";
