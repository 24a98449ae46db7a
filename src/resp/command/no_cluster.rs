//! The commands of Redis Cluster: they answer as a standalone Redis does.
//!
//! Clients and tools send them to find out whether they talk to a Redis Cluster, and look for the words of the error.

use super::context::{Context, Outcome, is};
use super::entry::takes;
use super::error::CommandError;
use super::refused;
use crate::resp::Args;

/// The subcommands of `CLUSTER` in Redis, with the number of their arguments, as in the table of commands.
const SUBCOMMANDS: &[(&str, i8)] = &[
    ("addslots", -3),
    ("addslotsrange", -4),
    ("bumpepoch", 2),
    ("count-failure-reports", 3),
    ("countkeysinslot", 3),
    ("delslots", -3),
    ("delslotsrange", -4),
    ("failover", -2),
    ("flushslots", 2),
    ("forget", 3),
    ("getkeysinslot", 4),
    ("help", 2),
    ("info", 2),
    ("keyslot", 3),
    ("links", 2),
    ("meet", -4),
    ("myid", 2),
    ("myshardid", 2),
    ("nodes", 2),
    ("replicas", 3),
    ("replicate", 3),
    ("reset", -2),
    ("saveconfig", 2),
    ("set-config-epoch", 3),
    ("setslot", -4),
    ("shards", 2),
    ("slaves", 3),
    ("slots", 2),
];

pub(super) fn disabled(_cx: &mut Context<'_>, _args: Args<'_>) -> Outcome {
    Err(CommandError::said("ERR This instance has cluster support disabled"))
}

pub(super) fn cluster(cx: &mut Context<'_>, args: Args<'_>) -> Outcome {
    let Some((name, arity)) = SUBCOMMANDS.iter().find(|(name, _)| is(&args[1], name)) else {
        return Err(refused::explain_subcommand("cluster", &args[1]));
    };
    if !takes(*arity, args.len()) {
        return Err(CommandError::said(format!(
            "ERR wrong number of arguments for 'cluster|{name}' command"
        )));
    }
    disabled(cx, args)
}
