//! What a user may do.

use super::catalog::CommandSet;
use super::patterns::Patterns;

/// How a command uses a key.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct KeyUse {
    /// It returns the value or a part of it.
    pub(crate) reads: bool,
    /// It changes or deletes the value.
    pub(crate) writes: bool,
}

/// The rights of a user.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Rights {
    pub(super) commands: CommandSet,
    /// Whether `commands` has all that exist.
    pub(super) all_commands: bool,
    pub(super) all_keys: bool,
    pub(super) all_channels: bool,
    pub(super) keys: KeyRights,
    /// The channels to publish and to subscribe to.
    pub(super) channels: Patterns,
    /// The patterns of channels as the file has them. A client may subscribe to these patterns only.
    pub(super) channel_patterns: Vec<Box<str>>,
    /// The patterns of keys as the file has them.
    pub(super) key_patterns: Vec<Box<str>>,
}

/// The keys of a user, by the use that one pattern allows. A pattern that is only to read and another only to write do
/// not add up for a command that does both, as in Redis.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct KeyRights {
    pub(super) any: Patterns,
    pub(super) read: Patterns,
    pub(super) write: Patterns,
    pub(super) both: Patterns,
}

impl Rights {
    /// Whether no request needs a check.
    pub(crate) fn are_unlimited(&self) -> bool {
        self.all_commands && self.all_keys && self.all_channels
    }

    /// Whether there is any command that the user may run.
    pub(crate) fn have_commands(&self) -> bool {
        self.commands != CommandSet::default()
    }

    pub(crate) fn may_run(&self, command: usize) -> bool {
        self.all_commands || self.commands.has(command)
    }

    pub(crate) fn may_use(&self, key: &[u8], key_use: KeyUse) -> bool {
        let patterns = match (key_use.reads, key_use.writes) {
            (false, false) => &self.keys.any,
            (true, false) => &self.keys.read,
            (false, true) => &self.keys.write,
            (true, true) => &self.keys.both,
        };
        self.all_keys || patterns.matches(key)
    }

    /// Whether the user may read every key that begins with `prefix`.
    pub(crate) fn may_read_all_under(&self, prefix: &[u8]) -> bool {
        self.all_keys || self.keys.read.match_all_under(prefix)
    }

    /// Whether the user may publish and subscribe to a channel.
    pub(crate) fn may_use_channel(&self, channel: &[u8]) -> bool {
        self.all_channels || self.channels.matches(channel)
    }

    /// Whether the user may subscribe to a pattern: it must be one of the user's patterns, as in Redis.
    pub(crate) fn may_use_channel_pattern(&self, pattern: &[u8]) -> bool {
        self.all_channels || self.channel_patterns.iter().any(|own| own.as_bytes() == pattern)
    }

    /// Whether these rights have every channel that `before` has, as far as the patterns show.
    pub(crate) fn keep_channels_of(&self, before: &Rights) -> bool {
        let keeps = |pattern| self.channel_patterns.contains(pattern);
        self.all_channels || !before.all_channels && before.channel_patterns.iter().all(keeps)
    }

    /// Whether these rights have every key that `before` has, as far as the patterns show.
    pub(crate) fn keep_keys_of(&self, before: &Rights) -> bool {
        let keeps = |pattern| self.key_patterns.contains(pattern);
        self.all_keys || !before.all_keys && before.key_patterns.iter().all(keeps)
    }
}
