//! A file of users.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::DEFAULT_USER;
use super::catalog::Catalog;
use super::error::{AclError, Problem};
use super::password::Password;
use super::rules::Rules;
use super::user::{MAX_NAME, User};
use crate::config::Secret;

/// The longest file in bytes.
pub(crate) const MAX_FILE: usize = 1 << 20;
/// The most users of a file.
pub(super) const MAX_USERS: usize = 4096;

/// All users, by name. There is always one named `default`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct AclFile {
    users: BTreeMap<Arc<str>, Arc<User>>,
}

impl AclFile {
    /// The only user `default`, who may do everything.
    pub(crate) fn of_default(password: Option<&Secret>) -> Self {
        let password = password.map(|secret| Password::Given(secret.clone()));
        let mut file = AclFile { users: BTreeMap::new() };
        file.add(User::unlimited(DEFAULT_USER, password));
        file
    }

    /// Parses a file. With a `password`, `default` may do everything and has that password; else it is powerless, unless
    /// the file describes it.
    ///
    /// # Errors
    /// The first line that is wrong.
    pub(crate) fn parse(text: &[u8], catalog: &Catalog, password: Option<&Secret>) -> Result<Self, AclError> {
        let whole = |problem| AclError { line: 1, problem };
        if text.len() > MAX_FILE {
            return Err(whole(Problem::FileTooLong));
        }
        let text = std::str::from_utf8(text).map_err(|error| {
            let before = &text[..error.valid_up_to()];
            AclError { line: before.split(|byte| *byte == b'\n').count(), problem: Problem::NotText }
        })?;
        let mut file = AclFile { users: BTreeMap::new() };
        for (n, line) in text.lines().enumerate() {
            let wrong = |problem| AclError { line: n + 1, problem };
            let Some(user) = user_of(line, catalog).map_err(wrong)? else { continue };
            if *user.name == *DEFAULT_USER && password.is_some() {
                return Err(wrong(Problem::DefaultTwice));
            }
            if file.users.contains_key(&user.name) {
                return Err(wrong(Problem::Duplicate(user.name.to_string())));
            }
            if file.users.len() == MAX_USERS {
                return Err(wrong(Problem::TooManyUsers));
            }
            file.add(user);
        }
        if let Some(password) = password {
            file.add(User::unlimited(DEFAULT_USER, Some(Password::Given(password.clone()))));
        } else if file.user(DEFAULT_USER.as_bytes()).is_none() {
            file.add(User::powerless(DEFAULT_USER));
        }
        Ok(file)
    }

    fn add(&mut self, user: User) {
        self.users.insert(Arc::clone(&user.name), Arc::new(user));
    }

    /// The user of this name.
    pub(crate) fn user(&self, name: &[u8]) -> Option<&Arc<User>> {
        self.users.get(std::str::from_utf8(name).ok()?)
    }

    /// The user of connections that have not authenticated.
    pub(crate) fn default_user(&self) -> &Arc<User> {
        self.user(DEFAULT_USER.as_bytes()).expect("every file has a default user")
    }

    /// All users, by name.
    pub(crate) fn users(&self) -> impl ExactSizeIterator<Item = &Arc<User>> {
        self.users.values()
    }

    /// The most slow checks that a password of any user takes.
    pub(crate) fn slow_checks(&self) -> usize {
        let slow = |user: &Arc<User>| user.passwords.iter().filter(|password| password.is_slow()).count();
        self.users.values().map(slow).max().unwrap_or(0)
    }

    /// Whether a password has only the hash that Redis uses, which is guessed a million times faster than others.
    pub(crate) fn has_fast_hashes(&self) -> bool {
        let is_fast = |password: &Password| matches!(password, Password::Sha256(_));
        self.users.values().any(|user| user.passwords.iter().any(is_fast))
    }
}

/// The user that a line describes; `None` for a comment or an empty line.
fn user_of(line: &str, catalog: &Catalog) -> Result<Option<User>, Problem> {
    let words: Vec<&str> = line.split_ascii_whitespace().collect();
    match words.as_slice() {
        [] => Ok(None),
        [first, ..] if first.starts_with('#') => Ok(None),
        [word, name, rules @ ..] if word.eq_ignore_ascii_case("user") => {
            if name.len() > MAX_NAME || name.contains(|c: char| c.is_control() || c.is_whitespace()) {
                return Err(Problem::Name);
            }
            Rules::new(catalog, name).apply_all(rules).map(Some)
        }
        _ => Err(Problem::NoUser),
    }
}
