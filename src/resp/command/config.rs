//! `CONFIG`: the parameters that monitoring tools read first.

use super::context::{Context, DONE, Outcome, is};
use super::error::CommandError;
use super::introspect::explain;
use crate::config::KeyspaceEvents;
use crate::resp::shared::Shared;
use crate::resp::{Args, glob};

const HELP: &[&str] = &[
    "CONFIG <subcommand> [<arg> [value] [opt] ...]. Subcommands are:",
    "GET <pattern>",
    "    Return parameters matching the glob-like <pattern> and their values.",
    "SET <directive> <value>",
    "    Set notify-keyspace-events; other settings are fixed while a node runs.",
    "RESETSTAT",
    "    Reset statistics reported by the INFO command.",
    "HELP",
    "    Print this help.",
];

pub(super) fn help(cx: &mut Context<'_>, _args: Args<'_>) -> Outcome {
    explain(cx, HELP)
}

/// Redis's parameters that have a meaning here, with their actual values.
fn parameters(shared: &Shared) -> [(&'static str, String); 15] {
    let settings = &shared.settings;
    let zero = || "0".to_owned();
    [
        ("appendonly", "no".to_owned()),
        ("bind", settings.client_addr.ip().to_string()),
        ("databases", settings.databases.to_string()),
        ("lazyfree-lazy-user-del", "no".to_owned()),
        ("maxclients", settings.max_clients.to_string()),
        ("maxmemory", settings.max_memory.unwrap_or(0).to_string()),
        ("maxmemory-policy", "noeviction".to_owned()),
        ("notify-keyspace-events", shared.observer.events().to_string()),
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

/// Sets `notify-keyspace-events`, the only parameter that can be set: programs that subscribe to events set it
/// themselves.
pub(super) fn set(cx: &mut Context<'_>, args: Args<'_>) -> Outcome {
    const NAME: &str = "notify-keyspace-events";
    if args.len() != 4 || !is(&args[2], NAME) {
        const TEXT: &str = "ERR CONFIG SET is not supported but for notify-keyspace-events: settings are fixed while \
                            a node runs, restart it with others";
        return Err(CommandError::said(TEXT));
    }
    let events = String::from_utf8_lossy(&args[3]).parse::<KeyspaceEvents>().map_err(|error| {
        CommandError::said(format!("ERR CONFIG SET failed (possibly related to argument '{NAME}') - {error}"))
    })?;
    cx.shared.observer.set_events(events);
    cx.shared.adjust_observer();
    cx.audit("CONFIG SET", Some(&format!("{NAME} {:?}", events.to_string())));
    cx.reply().ok();
    DONE
}

pub(super) fn resetstat(cx: &mut Context<'_>, _args: Args<'_>) -> Outcome {
    cx.shared.stats.reset();
    cx.reply().ok();
    DONE
}
