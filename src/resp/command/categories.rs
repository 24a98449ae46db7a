//! The categories of commands, as Redis has them, and the catalog of commands for the rules of users.

use std::sync::LazyLock;

use super::entry::{ADMIN, Command, FAST, PUBSUB, READ, RUNS_SCRIPT, WRITE};
use super::refused;
use super::table::WHOLE;
use crate::acl::{Catalog, CommandSet};

/// Redis's categories.
pub(super) const CATEGORIES: [&str; 21] = [
    "keyspace",
    "read",
    "write",
    "set",
    "sortedset",
    "list",
    "hash",
    "string",
    "bitmap",
    "hyperloglog",
    "geo",
    "stream",
    "pubsub",
    "admin",
    "fast",
    "slow",
    "blocking",
    "dangerous",
    "connection",
    "transaction",
    "scripting",
];

/// Whether a command is in a category. As in Redis, except that `FLUSHALL` and `FLUSHDB` are `admin` too.
pub(super) fn is_in(command: &Command, category: &str) -> bool {
    let (name, group, flags) = (command.name, command.group, command.flags);
    // It is called only through its subcommands.
    let is_container = !command.subcommands.is_empty() && name != "command";
    let of_group = |of: &str| group == of && !is_container;
    let is_flush = matches!(name, "flushall" | "flushdb");
    let of_operators = flags.has(ADMIN) || matches!(name, "lastsave" | "role");
    let of_changes = matches!(name, "sapwood|watch" | "sapwood|unwatch");
    match category {
        "read" => flags.has(READ) && !flags.has(RUNS_SCRIPT) || of_changes,
        "write" => flags.has(WRITE),
        "admin" => of_operators || is_flush,
        "dangerous" => {
            of_operators
                || is_flush
                || matches!(name, "info" | "keys" | "restore" | "sapwood|events" | "sapwood|healing")
                || matches!(name, "sapwood|lost" | "sapwood|peers" | "sapwood|verified")
        }
        "fast" => flags.has(FAST),
        "slow" => !flags.has(FAST),
        "pubsub" => flags.has(PUBSUB) && group == "pubsub",
        "keyspace" => {
            of_group("generic") && name != "wait"
                || is_flush
                || of_changes
                || matches!(name, "dbsize" | "sapwood|counter" | "sapwood|digest" | "sapwood|meta")
        }
        "connection" => {
            of_group("connection") && !matches!(name, "client|setinfo" | "client|no-touch")
                || name.starts_with("command")
                || matches!(name, "asking" | "readonly" | "readwrite" | "wait" | "client|setinfo")
                || matches!(name, "client|no-touch" | "sapwood|ready" | "sapwood|token" | "sapwood|waitfor")
        }
        "transaction" => group == "transactions",
        "string" | "bitmap" | "scripting" => of_group(category),
        _ => false,
    }
}

/// The categories of a command.
pub(super) fn of(command: &Command) -> impl Iterator<Item = &'static str> + Clone {
    CATEGORIES.into_iter().filter(move |category| is_in(command, category))
}

/// The commands that rules of users name. The number of a command is that of its counters.
pub(crate) fn catalog() -> &'static Catalog {
    static CATALOG: LazyLock<Catalog> = LazyLock::new(|| {
        let set = |holds: &dyn Fn(&Command) -> bool| -> CommandSet {
            let all = WHOLE.all().enumerate();
            all.filter(|(_, command)| holds(command)).map(|(number, _)| number).collect()
        };
        Catalog {
            names: WHOLE.all().map(|command| command.name).collect(),
            categories: CATEGORIES
                .into_iter()
                .map(|category| (category, set(&|command| is_in(command, category))))
                .collect(),
            guarded: set(&|command| is_in(command, "admin")),
            is_foreign: refused::is_foreign,
        }
    });
    &CATALOG
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_command_has_a_number_in_the_catalog() {
        assert!(WHOLE.all().count() <= CommandSet::CAPACITY);
        assert_eq!(catalog().names.len(), WHOLE.all().count());
    }

    #[test]
    fn every_command_is_fast_or_slow_and_what_only_operators_run_is_dangerous() {
        for command in WHOLE.all() {
            assert_ne!(is_in(command, "fast"), is_in(command, "slow"), "{}", command.name);
            assert!(is_in(command, "dangerous") || !is_in(command, "admin"), "{}", command.name);
        }
        for name in ["shutdown", "monitor", "flushall", "flushdb", "config|set", "client|kill", "acl|load"] {
            assert!(is_in(WHOLE.by_full_name(name.as_bytes()).unwrap(), "admin"), "{name}");
        }
        for name in ["sapwood|cut", "sapwood|mend", "sapwood|forget", "sapwood|rejoin", "sapwood|verify"] {
            assert!(is_in(WHOLE.by_full_name(name.as_bytes()).unwrap(), "admin"), "{name}");
        }
    }
}
