//! A row of the command table, and the view of the table for commands that describe it.

use super::context::Handler;
use super::error::CommandError;
use super::refused;
use crate::resp::Args;
use crate::resp::args::Keys;
use crate::resp::call::Call;

/// One command: its name, arguments and flags, and the function that executes it.
pub(super) struct Command {
    /// In lower case; for a subcommand with its parent: `client|kill`.
    pub(super) name: &'static str,
    /// The number of arguments, the name included; -n for n or more.
    pub(super) arity: i8,
    pub(super) flags: Flags,
    pub(super) keys: Keys,
    pub(super) group: &'static str,
    /// The version of Redis that introduced it, or of Sapwood for its own commands.
    pub(super) since: &'static str,
    pub(super) summary: &'static str,
    pub(super) handler: Handler,
    pub(super) subcommands: &'static [Command],
}

impl Command {
    pub(super) fn takes(&self, args: usize) -> bool {
        takes(self.arity, args)
    }

    /// Whether `name` is its name; for a subcommand, without its parent's.
    pub(super) fn is_named(&self, name: &[u8]) -> bool {
        let own = self.name.split_once('|').map_or(self.name, |(_, own)| own);
        name.eq_ignore_ascii_case(own.as_bytes())
    }
}

/// Whether a command of this [`arity`](Command::arity) takes so many arguments.
pub(super) fn takes(arity: i8, args: usize) -> bool {
    let least = usize::from(arity.unsigned_abs());
    if arity < 0 { args >= least } else { args == least }
}

/// Properties of a command, as a set of bits.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) struct Flags(u16);

pub(super) const NONE: Flags = Flags(0);
pub(super) const READ: Flags = Flags(1);
pub(super) const WRITE: Flags = Flags(2);
/// May be refused because memory is full.
pub(super) const DENY_OOM: Flags = Flags(4);
pub(super) const FAST: Flags = Flags(8);
/// For operators; not shown by `MONITOR`.
pub(super) const ADMIN: Flags = Flags(16);
/// Allowed before authentication.
pub(super) const NO_AUTH: Flags = Flags(32);
pub(super) const PUBSUB: Flags = Flags(64);
/// Allowed on a RESP2 connection with subscriptions; not shown by `COMMAND`.
pub(super) const SUBSCRIBED: Flags = Flags(128);
/// What it writes or replies depends on the key's present value; not shown by `COMMAND`. Increments do not have it:
/// they merge with those of the peers.
pub(super) const CONDITIONAL: Flags = Flags(256);
/// Refused between `MULTI` and `EXEC`: it concerns all keys, or changes what the connection sends.
pub(super) const NO_MULTI: Flags = Flags(512);
/// Executed at once between `MULTI` and `EXEC` too; not shown by `COMMAND`.
pub(super) const UNQUEUED: Flags = Flags(1024);
/// Reaches its last key in another database too, which its arguments may name; not shown by `COMMAND`.
pub(super) const CROSSES: Flags = Flags(2048);
/// Selects the database that its argument names; not shown by `COMMAND`.
pub(super) const SELECTS: Flags = Flags(4096);
/// Where its keys are depends on its arguments.
pub(super) const MOVABLE_KEYS: Flags = Flags(8192);
/// Not executed by scripts. Others that scripts do not execute have no mark.
pub(super) const NO_SCRIPT: Flags = Flags(16384);
/// Runs a script; not shown by `COMMAND`.
pub(super) const RUNS_SCRIPT: Flags = Flags(32768);

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
            (PUBSUB, "pubsub"),
            (FAST, "fast"),
            (NO_MULTI, "no_multi"),
            (NO_SCRIPT, "noscript"),
            (MOVABLE_KEYS, "movablekeys"),
        ]
        .into_iter()
        .filter_map(move |(flag, name)| self.has(flag).then_some(name))
    }
}

const fn keys(first: i8, last: i8, step: i8) -> Keys {
    Keys { first, last, step, counted_at: 0 }
}

pub(super) const NO_KEY: Keys = keys(0, 0, 0);
pub(super) const ONE_KEY: Keys = keys(1, 1, 1);
pub(super) const TWO_KEYS: Keys = keys(1, 2, 1);
pub(super) const FROM_SECOND: Keys = keys(2, -1, 1);
pub(super) const ALL_KEYS: Keys = keys(1, -1, 1);
pub(super) const PAIRS: Keys = keys(1, -1, 2);
pub(super) const SECOND_KEY: Keys = keys(2, 2, 1);
/// As many as the second argument says.
pub(super) const COUNTED_KEYS: Keys = Keys { counted_at: 2, ..NO_KEY };
/// As many as the first argument says, each with a value.
pub(super) const COUNTED_PAIRS: Keys = Keys { counted_at: 1, step: 2, ..NO_KEY };

/// The subcommand that `args` name, if `command` has any; checks the number of arguments.
pub(super) fn resolve(
    command: &'static Command,
    call: Call,
    args: Args<'_>,
) -> Result<(&'static Command, Call), CommandError> {
    if !command.takes(args.len()) {
        return Err(CommandError::Arity(command.name));
    }
    let Some(name) = args.get(1).filter(|_| !command.subcommands.is_empty()) else {
        return Ok((command, call));
    };
    let Some(index) = command.subcommands.iter().position(|sub| sub.is_named(name)) else {
        return Err(refused::explain_subcommand(command.name, name));
    };
    let sub = &command.subcommands[index];
    if !sub.takes(args.len()) {
        return Err(CommandError::Arity(sub.name));
    }
    Ok((sub, call.with_subcommand(index)))
}

/// The whole table. It is passed to the commands that describe it, because they are rows of it themselves.
#[derive(Clone, Copy)]
pub(super) struct Table {
    pub(super) commands: &'static [Command],
    /// The index of a command in `commands`, ignoring the case of its name.
    pub(super) find: fn(&[u8]) -> Option<usize>,
}

impl Table {
    /// Each command, followed by its subcommands.
    pub(super) fn all(&self) -> impl Iterator<Item = &'static Command> + use<> {
        self.commands.iter().flat_map(|command| std::iter::once(command).chain(command.subcommands))
    }

    /// The full name of a called command, or what Redis shows before the first call.
    pub(super) fn name_of(&self, call: Call) -> &'static str {
        let Some(command) = self.commands.get(call.command()) else { return "NULL" };
        match call.subcommand() {
            Some(subcommand) => command.subcommands[subcommand].name,
            None => command.name,
        }
    }

    /// The command of that name, or the subcommand if the name is `parent|child`.
    pub(super) fn by_full_name(&self, name: &[u8]) -> Option<&'static Command> {
        let mut parts = name.splitn(2, |byte| *byte == b'|');
        let command = &self.commands[(self.find)(parts.next()?)?];
        match parts.next() {
            None => Some(command),
            Some(child) => command.subcommands.iter().find(|sub| sub.is_named(child)),
        }
    }
}
