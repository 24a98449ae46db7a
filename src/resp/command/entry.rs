//! A row of the command table.

use super::{Handler, TABLE};

/// One command: what it is called and takes, and what executes it.
pub(in crate::resp) struct Command {
    /// In lower case; a subcommand's after its parent's: `client|kill`.
    pub(in crate::resp) name: &'static str,
    /// How many arguments it takes, its name included; -n for n or more.
    pub(super) arity: i8,
    pub(super) flags: Flags,
    pub(super) keys: Keys,
    pub(super) group: &'static str,
    /// The version of Redis that has had it since, or of Sapwood for its own.
    pub(super) since: &'static str,
    pub(super) summary: &'static str,
    pub(super) handler: Handler,
    pub(super) subcommands: &'static [Command],
}

impl Command {
    pub(super) fn takes(&self, args: usize) -> bool {
        let arity = usize::from(self.arity.unsigned_abs());
        if self.arity < 0 { args >= arity } else { args == arity }
    }

    /// Whether `name` is its own name: a subcommand's without its parent's.
    pub(super) fn is_named(&self, name: &[u8]) -> bool {
        let own = self.name.split_once('|').map_or(self.name, |(_, own)| own);
        name.eq_ignore_ascii_case(own.as_bytes())
    }
}

/// What a command does, as a set of bits.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) struct Flags(u16);

pub(super) const NONE: Flags = Flags(0);
pub(super) const READ: Flags = Flags(1);
pub(super) const WRITE: Flags = Flags(2);
/// May be refused for want of memory.
pub(super) const DENY_OOM: Flags = Flags(4);
pub(super) const FAST: Flags = Flags(8);
/// For operators; not shown to monitors.
pub(super) const ADMIN: Flags = Flags(16);
/// Allowed before the password was shown.
pub(super) const NO_AUTH: Flags = Flags(32);

impl Flags {
    pub(super) const fn and(self, other: Flags) -> Flags {
        Flags(self.0 | other.0)
    }

    pub(super) fn has(self, flag: Flags) -> bool {
        self.0 & flag.0 != 0
    }

    /// The names that `COMMAND` shows.
    pub(super) fn names(self) -> impl Iterator<Item = &'static str> + Clone {
        [
            (READ, "readonly"),
            (WRITE, "write"),
            (DENY_OOM, "denyoom"),
            (ADMIN, "admin"),
            (NO_AUTH, "no_auth"),
            (FAST, "fast"),
        ]
        .into_iter()
        .filter_map(move |(flag, name)| self.has(flag).then_some(name))
    }
}

/// Which arguments are keys: from `first` to `last` (-1: to the end), every `step`th; none if `first` is 0.
#[derive(Clone, Copy)]
pub(super) struct Keys {
    pub(super) first: i8,
    pub(super) last: i8,
    pub(super) step: i8,
}

pub(super) const NO_KEY: Keys = Keys { first: 0, last: 0, step: 0 };
pub(super) const ONE_KEY: Keys = Keys { first: 1, last: 1, step: 1 };
pub(super) const ALL_KEYS: Keys = Keys { first: 1, last: -1, step: 1 };
pub(super) const PAIRS: Keys = Keys { first: 1, last: -1, step: 2 };
pub(super) const SECOND_KEY: Keys = Keys { first: 2, last: 2, step: 1 };

/// A command that was called: its place in the table, and its subcommand's below it.
#[derive(Clone, Copy)]
pub(in crate::resp) struct Call {
    command: u32,
    /// From 1; 0 for none.
    subcommand: u32,
}

#[expect(clippy::cast_possible_truncation, reason = "the table is small")]
impl Call {
    /// Nothing was called yet.
    pub(in crate::resp) const NONE: Call = Call { command: u32::MAX, subcommand: 0 };

    pub(super) fn of(command: usize) -> Call {
        Call { command: command as u32, subcommand: 0 }
    }

    pub(super) fn with_subcommand(self, subcommand: usize) -> Call {
        Call { subcommand: subcommand as u32 + 1, ..self }
    }

    /// The command's full name, or what Redis shows before the first.
    pub(in crate::resp) fn name(self) -> &'static str {
        let Some(command) = TABLE.get(self.command as usize) else { return "NULL" };
        match (self.subcommand as usize).checked_sub(1) {
            Some(subcommand) => command.subcommands[subcommand].name,
            None => command.name,
        }
    }

    pub(in crate::resp) fn to_bits(self) -> u64 {
        u64::from(self.command) << 32 | u64::from(self.subcommand)
    }

    pub(in crate::resp) fn from_bits(bits: u64) -> Call {
        Call { command: (bits >> 32) as u32, subcommand: bits as u32 }
    }
}
