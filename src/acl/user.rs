//! One user.

use std::sync::Arc;

use super::password::Password;
use super::rights::Rights;

/// The longest name in bytes: `CLIENT LIST` shows it.
pub const MAX_NAME: usize = 128;

/// A user: who may log in as it, and what it may do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct User {
    pub(crate) name: Arc<str>,
    /// Whether clients may log in as it.
    pub(crate) is_on: bool,
    /// Whether any password is right.
    pub(crate) needs_no_password: bool,
    pub(crate) passwords: Vec<Password>,
    pub(crate) rights: Rights,
    /// The rules about commands, as the file has them, from the last one on that concerns all commands.
    pub(super) command_rules: Vec<Box<str>>,
}

impl User {
    /// A user that is off and has no rights, like one that no rule describes.
    pub(crate) fn powerless(name: &str) -> Self {
        User {
            name: name.into(),
            is_on: false,
            needs_no_password: false,
            passwords: Vec::new(),
            rights: Rights::default(),
            command_rules: Vec::new(),
        }
    }

    /// A user that may do everything; without a `password`, any is right.
    pub(crate) fn unlimited(name: &str, password: Option<Password>) -> Self {
        let rights = Rights { all_commands: true, all_keys: true, all_channels: true, ..Rights::default() };
        User {
            is_on: true,
            needs_no_password: password.is_none(),
            passwords: password.into_iter().collect(),
            rights,
            command_rules: vec!["+@all".into()],
            ..User::powerless(name)
        }
    }

    /// Whether a client is this user without a password.
    pub(crate) fn is_open(&self) -> bool {
        self.is_on && self.needs_no_password
    }

    /// The rules about commands: `+@all -@dangerous`.
    pub(crate) fn commands(&self) -> String {
        match self.command_rules.first().map(|rule| &rule[1..]) {
            Some("@all") => self.command_rules.join(" "),
            Some(_) => format!("-@all {}", self.command_rules.join(" ")),
            None => "-@all".into(),
        }
    }

    /// The patterns of keys: `~app:* %R~shared:*`.
    pub(crate) fn keys(&self) -> String {
        if self.rights.all_keys { "~*".into() } else { self.rights.key_patterns.join(" ") }
    }

    /// The patterns of channels: `&news:*`.
    pub(crate) fn channels(&self) -> String {
        if self.rights.all_channels {
            return "&*".into();
        }
        let patterns: Vec<String> =
            self.rights.channel_patterns.iter().map(|pattern| format!("&{pattern}")).collect();
        patterns.join(" ")
    }

    /// The line of a file of users that describes this user. A password of `--client-password-file` is left out.
    pub(crate) fn line(&self) -> String {
        let mut words = vec![format!("user {}", self.name), if self.is_on { "on" } else { "off" }.into()];
        if self.needs_no_password {
            words.push("nopass".into());
        }
        words.extend(self.passwords.iter().filter_map(Password::rule));
        words.push(self.keys());
        if !self.rights.all_channels {
            words.push("resetchannels".into());
        }
        words.push(self.channels());
        words.push(self.commands());
        words.retain(|word| !word.is_empty());
        words.join(" ")
    }
}
