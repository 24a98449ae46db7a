//! `CONFIG`: the parameters that monitoring tools read first.

use super::context::{Context, DONE, Outcome, integer, is};
use super::error::CommandError;
use super::introspect::explain;
use crate::config::KeyspaceEvents;
use crate::resp::shared::Shared;
use crate::resp::{Args, Reply, glob, slowlog};

const HELP: &[&str] = &[
    "CONFIG <subcommand> [<arg> [value] [opt] ...]. Subcommands are:",
    "GET <pattern>",
    "    Return parameters matching the glob-like <pattern> and their values.",
    "SET <directive> <value>",
    "    Set notify-keyspace-events, slowlog-log-slower-than or slowlog-max-len.",
    "    Other settings are fixed while a node runs.",
    "RESETSTAT",
    "    Reset statistics reported by the INFO command.",
    "HELP",
    "    Print this help.",
];

pub(super) fn help(cx: &mut Context<'_>, _args: Args<'_>) -> Outcome {
    explain(cx, HELP)
}

const EVENTS: &str = "notify-keyspace-events";
const SLOWER_THAN: &str = "slowlog-log-slower-than";
const MAX_LEN: &str = "slowlog-max-len";

/// Redis's parameters that have a meaning here, with their actual values.
fn parameters(shared: &Shared) -> [(&'static str, String); 20] {
    let settings = &shared.settings;
    let (zero, no) = (|| "0".to_owned(), || "no".to_owned());
    [
        ("appendonly", no()),
        ("bind", settings.client_addr.ip().to_string()),
        ("cluster-enabled", no()),
        ("databases", settings.databases.to_string()),
        ("latency-monitor-threshold", zero()),
        ("latency-tracking", "yes".to_owned()),
        ("lazyfree-lazy-user-del", no()),
        ("maxclients", settings.max_clients.to_string()),
        ("maxmemory", settings.max_memory.unwrap_or(0).to_string()),
        ("maxmemory-clients", zero()),
        ("maxmemory-policy", shared.store.eviction_policy().to_string()),
        ("min-replicas-to-write", zero()),
        (EVENTS, shared.observer.events().to_string()),
        ("port", settings.client_addr.port().to_string()),
        ("proto-max-bulk-len", settings.limits.max_bulk.to_string()),
        ("save", String::new()),
        (SLOWER_THAN, shared.slowlog.slower_than().to_string()),
        (MAX_LEN, shared.slowlog.max_len().to_string()),
        ("tcp-keepalive", zero()),
        ("timeout", zero()),
    ]
}

/// Replies with the parameters that match one of the patterns, each once. One that is asked for by its whole name has
/// the name as it was asked for, as in Redis.
pub(super) fn get(cx: &mut Context<'_>, args: Args<'_>) -> Outcome {
    let mut found = Vec::new();
    for (name, value) in parameters(cx.shared) {
        let patterns = args.tail(2);
        let exact = patterns.iter().find(|pattern| is(pattern, name));
        let matches = |pattern: &[u8]| glob::matches_any_case(pattern, name.as_bytes());
        if let Some(shown) = exact.or_else(|| patterns.iter().any(matches).then_some(name.as_bytes())) {
            found.push((shown, value));
        }
    }
    let mut reply = Reply::new(cx.out, cx.session.proto);
    reply.map(found.len());
    for (name, value) in found {
        reply.bulk(name);
        reply.bulk(value.as_bytes());
    }
    DONE
}

/// A parameter that can be set while a node runs, and its value.
enum Setting {
    Events(KeyspaceEvents),
    SlowerThan(i64),
    MaxLen(usize),
}

/// Sets `notify-keyspace-events` or the parameters of the slow log: all that are given, or none if one is refused.
pub(super) fn set(cx: &mut Context<'_>, args: Args<'_>) -> Outcome {
    let pairs = || (2..args.len()).step_by(2).map(|at| (&args[at], args.get(at + 1)));
    let settings = pairs().map(|(name, value)| setting(cx.shared, name, value));
    for setting in settings.collect::<Result<Vec<_>, _>>()? {
        match setting {
            Setting::Events(events) => {
                cx.shared.observer.set_events(events);
                cx.shared.adjust_observer();
            }
            Setting::SlowerThan(micros) => cx.shared.slowlog.set_slower_than(micros),
            Setting::MaxLen(max_len) => cx.shared.slowlog.set_max_len(max_len),
        }
    }
    let all = parameters(cx.shared);
    let changed = all.iter().filter(|(name, _)| pairs().any(|(given, _)| is(given, name)));
    let changed: Vec<String> = changed.map(|(name, value)| format!("{name} {value:?}")).collect();
    cx.audit("CONFIG SET", Some(&changed.join(" ")));
    cx.reply().ok();
    DONE
}

/// Settings that `CONFIG GET` does not show, with the flags that set them.
const AT_START: [(&str, &str); 3] = [
    ("requirepass", "--client-password-file"),
    ("lua-time-limit", "--script-time-limit"),
    ("busy-reply-threshold", "--script-time-limit"),
];

fn setting(shared: &Shared, name: &[u8], value: Option<&[u8]>) -> Result<Setting, CommandError> {
    let known = parameters(shared).into_iter().map(|(name, _)| name).find(|known| is(name, known));
    if let Some((name, flag)) = AT_START.iter().find(|(hidden, _)| is(name, hidden)) {
        return Err(CommandError::unsupported(
            &format!("CONFIG SET {name}"),
            "this setting is fixed while a node runs",
            &format!("Restart the node with another {flag}"),
        ));
    }
    let (Some(name), Some(value)) = (known, value) else {
        let name = String::from_utf8_lossy(&name[..name.len().min(128)]).into_owned();
        let text = format!("ERR Unknown option or number of arguments for CONFIG SET - '{name}'");
        return Err(CommandError::said(text));
    };
    let failed = |why: &dyn std::fmt::Display| {
        CommandError::said(format!("ERR CONFIG SET failed (possibly related to argument '{name}') - {why}"))
    };
    let number = |least: i64, most: i64| match integer(value) {
        Ok(number) if (least..=most).contains(&number) => Ok(number),
        Ok(_) => Err(failed(&format_args!("argument must be between {least} and {most} inclusive"))),
        Err(_) => Err(failed(&"argument couldn't be parsed into an integer")),
    };
    match name {
        EVENTS => {
            let events = String::from_utf8_lossy(value).parse().map_err(|error| failed(&error))?;
            Ok(Setting::Events(events))
        }
        SLOWER_THAN => Ok(Setting::SlowerThan(number(-1, i64::MAX)?)),
        MAX_LEN => {
            let most = i64::try_from(slowlog::MOST).unwrap_or(i64::MAX);
            Ok(Setting::MaxLen(usize::try_from(number(0, most)?).unwrap_or(0)))
        }
        _ => Err(CommandError::unsupported(
            &format!("CONFIG SET {name}"),
            "this setting is fixed while a node runs",
            "Restart the node with another one",
        )),
    }
}

pub(super) fn resetstat(cx: &mut Context<'_>, _args: Args<'_>) -> Outcome {
    cx.shared.stats.reset();
    cx.reply().ok();
    DONE
}
