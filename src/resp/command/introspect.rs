//! `COMMAND`: describes the table to clients.

use super::categories;
use super::context::{Context, DONE, Outcome, is};
use super::entry::{Command, Table, resolve};
use super::error::CommandError;
use super::specs;
use crate::resp::call::Call;
use crate::resp::{Args, Reply, glob};

const HELP: &[&str] = &[
    "COMMAND <subcommand> [<arg> [value] [opt] ...]. Subcommands are:",
    "(no subcommand)",
    "    Return details about all commands.",
    "COUNT",
    "    Return the total number of commands in this server.",
    "LIST [FILTERBY (MODULE <module-name>|ACLCAT <category>|PATTERN <pattern>)]",
    "    Return a list of all commands in this server.",
    "INFO [<command-name> ...]",
    "    Return details about multiple commands, or all.",
    "DOCS [<command-name> ...]",
    "    Return documentation details about multiple commands, or all.",
    "GETKEYS <full-command>",
    "    Return the keys from a full command.",
    "GETKEYSANDFLAGS <full-command>",
    "    Return the keys and the access flags from a full command.",
    "HELP",
    "    Print this help.",
];

/// Replies with the lines of a `HELP` subcommand.
pub(super) fn explain(cx: &mut Context<'_>, lines: &[&str]) -> Outcome {
    let mut reply = cx.reply();
    reply.array(lines.len());
    lines.iter().for_each(|line| reply.simple(line));
    DONE
}

/// Placeholder function of commands that require a subcommand: the table's arity keeps it from being called.
pub(super) fn unreachable(_cx: &mut Context<'_>, _args: Args<'_>) -> Outcome {
    Err(CommandError::Syntax)
}

pub(super) fn help(cx: &mut Context<'_>, _args: Args<'_>) -> Outcome {
    explain(cx, HELP)
}

pub(super) fn command(cx: &mut Context<'_>, _args: Args<'_>, table: &Table) -> Outcome {
    let mut reply = cx.reply();
    reply.array(table.commands.len());
    table.commands.iter().for_each(|command| describe(&mut reply, command));
    DONE
}

pub(super) fn count(cx: &mut Context<'_>, _args: Args<'_>, table: &Table) -> Outcome {
    cx.reply().int(i64::try_from(table.commands.len()).unwrap_or(i64::MAX));
    DONE
}

pub(super) fn info(cx: &mut Context<'_>, args: Args<'_>, table: &Table) -> Outcome {
    if args.len() == 2 {
        return command(cx, args, table);
    }
    let mut reply = cx.reply();
    reply.array(args.len() - 2);
    for name in args.tail(2) {
        match table.by_full_name(name) {
            Some(command) => describe(&mut reply, command),
            None => reply.null(),
        }
    }
    DONE
}

fn describe(reply: &mut Reply<'_>, command: &Command) {
    reply.array(10);
    reply.bulk(command.name.as_bytes());
    reply.int(command.arity.into());
    let flags = command.flags.names();
    reply.set(flags.clone().count());
    flags.for_each(|flag| reply.simple(flag));
    for place in [command.keys.first, command.keys.last, command.keys.step] {
        reply.int(place.into());
    }
    let categories = categories::of(command);
    reply.set(categories.clone().count());
    categories.for_each(|category| reply.simple(&format!("@{category}")));
    specs::describe(reply, command);
    reply.array(command.subcommands.len());
    command.subcommands.iter().for_each(|sub| describe(reply, sub));
}

pub(super) fn docs(cx: &mut Context<'_>, args: Args<'_>, table: &Table) -> Outcome {
    let commands: Vec<&Command> = match args.len() {
        2 => table.commands.iter().collect(),
        _ => args.tail(2).iter().filter_map(|name| table.by_full_name(name)).collect(),
    };
    let mut reply = cx.reply();
    reply.map(commands.len());
    commands.into_iter().for_each(|command| document(&mut reply, command));
    DONE
}

fn document(reply: &mut Reply<'_>, command: &Command) {
    reply.bulk(command.name.as_bytes());
    reply.map(if command.subcommands.is_empty() { 3 } else { 4 });
    for (key, value) in [("summary", command.summary), ("since", command.since), ("group", command.group)] {
        reply.bulk(key.as_bytes());
        reply.bulk(value.as_bytes());
    }
    if !command.subcommands.is_empty() {
        reply.bulk(b"subcommands");
        reply.map(command.subcommands.len());
        command.subcommands.iter().for_each(|sub| document(reply, sub));
    }
}

pub(super) fn list(cx: &mut Context<'_>, args: Args<'_>, table: &Table) -> Outcome {
    let mut commands: Vec<&Command> = table.all().collect();
    if args.len() > 2 {
        if args.len() != 5 || !is(&args[2], "filterby") {
            return Err(CommandError::Syntax);
        }
        let (by, value) = (&args[3], &args[4]);
        if is(by, "module") {
            commands.clear();
        } else if is(by, "aclcat") {
            commands.retain(|command| categories::of(command).any(|category| is(value, category)));
        } else if is(by, "pattern") {
            commands.retain(|command| glob::matches_any_case(value, command.name.as_bytes()));
        } else {
            return Err(CommandError::Syntax);
        }
    }
    let mut reply = cx.reply();
    reply.array(commands.len());
    commands.iter().for_each(|command| reply.bulk(command.name.as_bytes()));
    DONE
}

pub(super) fn getkeys(cx: &mut Context<'_>, args: Args<'_>, table: &Table) -> Outcome {
    let request = args.tail(2);
    let command = command_of(request, table)?;
    let places = command.keys.places(request);
    let mut reply = cx.reply();
    reply.array(places.len());
    places.for_each(|place| reply.bulk(&request[place]));
    DONE
}

pub(super) fn getkeysandflags(cx: &mut Context<'_>, args: Args<'_>, table: &Table) -> Outcome {
    let request = args.tail(2);
    let command = command_of(request, table)?;
    let places = command.keys.places(request);
    let mut reply = cx.reply();
    reply.array(places.len());
    for (n, place) in places.enumerate() {
        reply.array(2);
        reply.bulk(&request[place]);
        let flags = specs::use_of(command, n);
        reply.set(flags.len());
        flags.iter().for_each(|flag| reply.simple(flag));
    }
    DONE
}

/// The command of a request that has keys.
fn command_of(request: Args<'_>, table: &Table) -> Result<&'static Command, CommandError> {
    let invalid = || CommandError::said("ERR Invalid command specified");
    let index = (table.find)(&request[0]).ok_or_else(invalid)?;
    let (command, _) =
        resolve(&table.commands[index], Call::of(index), request).map_err(|error| match error {
            CommandError::Arity(_) => {
                CommandError::said("ERR Invalid number of arguments specified for command")
            }
            _ => invalid(),
        })?;
    if !command.keys.may_be() {
        return Err(CommandError::said("ERR The command has no key arguments"));
    }
    Ok(command)
}
