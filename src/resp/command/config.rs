//! `CONFIG`: what monitoring tools ask before anything else.

use super::context::{Context, DONE, Outcome};
use super::error::CommandError;
use super::introspect::explain;
use crate::resp::shared::Shared;
use crate::resp::{Args, glob};

const HELP: &[&str] = &[
    "CONFIG <subcommand> [<arg> [value] [opt] ...]. Subcommands are:",
    "GET <pattern>",
    "    Return parameters matching the glob-like <pattern> and their values.",
    "SET <directive> <value>",
    "    Refused: settings are fixed while a daemon runs.",
    "RESETSTAT",
    "    Reset statistics reported by the INFO command.",
    "HELP",
    "    Print this help.",
];

pub(super) fn help(cx: &mut Context<'_>, _args: Args<'_>) -> Outcome {
    explain(cx, HELP)
}

/// Redis's parameters, those that have a meaning here, with the values that are true here.
fn parameters(shared: &Shared) -> [(&'static str, String); 15] {
    let settings = &shared.settings;
    let zero = || "0".to_owned();
    [
        ("appendonly", "no".to_owned()),
        ("bind", settings.client_addr.ip().to_string()),
        ("databases", "1".to_owned()),
        ("lazyfree-lazy-user-del", "no".to_owned()),
        ("maxclients", settings.max_clients.to_string()),
        ("maxmemory", settings.max_memory.unwrap_or(0).to_string()),
        ("maxmemory-policy", "noeviction".to_owned()),
        ("notify-keyspace-events", String::new()),
        ("port", settings.client_addr.port().to_string()),
        ("proto-max-bulk-len", settings.limits.max_bulk.to_string()),
        ("save", String::new()),
        ("slowlog-log-slower-than", "-1".to_owned()),
        ("slowlog-max-len", zero()),
        ("tcp-keepalive", zero()),
        ("timeout", zero()),
    ]
}

pub(super) fn get(cx: &mut Context<'_>, args: Args<'_>) -> Outcome {
    let wanted =
        |name: &str| args.tail(2).iter().any(|pattern| glob::matches_any_case(pattern, name.as_bytes()));
    let mut parameters = Vec::from(parameters(cx.shared));
    parameters.retain(|(name, _)| wanted(name));
    let mut reply = cx.reply();
    reply.map(parameters.len());
    for (name, value) in parameters {
        reply.bulk(name.as_bytes());
        reply.bulk(value.as_bytes());
    }
    DONE
}

pub(super) fn set(_cx: &mut Context<'_>, _args: Args<'_>) -> Outcome {
    const TEXT: &str =
        "ERR CONFIG SET is not supported: settings are fixed while a daemon runs, restart it with others";
    Err(CommandError::said(TEXT))
}

pub(super) fn resetstat(cx: &mut Context<'_>, _args: Args<'_>) -> Outcome {
    cx.shared.stats.reset();
    cx.reply().ok();
    DONE
}
