//! `ACL`: there is one user, `default`, who may do everything.

use super::connection::USER;
use super::context::{Context, DONE, Outcome, is};
use super::entry::Table;
use super::error::CommandError;
use super::introspect::{categories, explain};
use crate::resp::{Args, EMPTY_ARRAY};

/// Redis's categories of commands.
const CATEGORIES: [&str; 21] = [
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

pub(super) fn help(cx: &mut Context<'_>, _args: Args<'_>) -> Outcome {
    explain(
        cx,
        &[
            "ACL <subcommand> [<arg> [value] [opt] ...]. Subcommands are:",
            "CAT [<category>]",
            "    List all commands that belong to <category>, or all command categories",
            "    when no category is specified.",
            "GETUSER <username>",
            "    Get the user's details.",
            "LIST",
            "    Show users details in config file format.",
            "LOG [<count> | RESET]",
            "    Return an empty list: failed attempts are in the node's log.",
            "USERS",
            "    List all the registered usernames.",
            "WHOAMI",
            "    Return the current connection username.",
            "HELP",
            "    Prints this help.",
        ],
    )
}

pub(super) fn whoami(cx: &mut Context<'_>, _args: Args<'_>) -> Outcome {
    cx.reply().bulk(USER);
    DONE
}

pub(super) fn users(cx: &mut Context<'_>, _args: Args<'_>) -> Outcome {
    let mut reply = cx.reply();
    reply.array(1);
    reply.bulk(USER);
    DONE
}

/// The user in Redis's words; a password is not shown, not even its hash.
pub(super) fn list(cx: &mut Context<'_>, _args: Args<'_>) -> Outcome {
    let password = if cx.shared.settings.password.is_none() { " nopass" } else { "" };
    let line = format!("user default on{password} ~* &* +@all");
    let mut reply = cx.reply();
    reply.array(1);
    reply.bulk(line.as_bytes());
    DONE
}

pub(super) fn getuser(cx: &mut Context<'_>, args: Args<'_>) -> Outcome {
    let has_password = cx.shared.settings.password.is_some();
    let mut reply = cx.reply();
    if &args[2] != USER {
        reply.null();
        return DONE;
    }
    reply.map(6);
    reply.bulk(b"flags");
    reply.set(if has_password { 1 } else { 2 });
    reply.bulk(b"on");
    if !has_password {
        reply.bulk(b"nopass");
    }
    reply.bulk(b"passwords");
    reply.raw(EMPTY_ARRAY);
    for (name, value) in [("commands", "+@all"), ("keys", "~*"), ("channels", "&*")] {
        reply.bulk(name.as_bytes());
        reply.bulk(value.as_bytes());
    }
    reply.bulk(b"selectors");
    reply.raw(EMPTY_ARRAY);
    DONE
}

pub(super) fn log(cx: &mut Context<'_>, args: Args<'_>) -> Outcome {
    match args.get(2) {
        _ if args.len() > 3 => return Err(CommandError::Arity("acl|log")),
        Some(word) if is(word, "reset") => cx.reply().ok(),
        _ => cx.reply().raw(EMPTY_ARRAY),
    }
    DONE
}

pub(super) fn cat(cx: &mut Context<'_>, args: Args<'_>, table: &Table) -> Outcome {
    let names: Vec<&str> = match args.get(2) {
        _ if args.len() > 3 => return Err(CommandError::Arity("acl|cat")),
        None => CATEGORIES.to_vec(),
        Some(wanted) => {
            let Some(category) = CATEGORIES.iter().find(|category| is(wanted, category)) else {
                let wanted = String::from_utf8_lossy(&wanted[..wanted.len().min(128)]).into_owned();
                return Err(CommandError::said(format!("ERR Unknown category '{wanted}'")));
            };
            table
                .all()
                .filter(|command| categories(command).any(|other| other == *category))
                .map(|command| command.name)
                .collect()
        }
    };
    let mut reply = cx.reply();
    reply.array(names.len());
    names.iter().for_each(|name| reply.bulk(name.as_bytes()));
    DONE
}
