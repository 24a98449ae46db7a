//! `SLOWLOG` and `LATENCY`: what took long.

use super::context::{Context, DONE, Outcome, integer, is};
use super::error::CommandError;
use super::introspect::explain;
use crate::resp::{Args, EMPTY_ARRAY};
use crate::stats::CommandTotals;

/// How many entries `SLOWLOG GET` returns by default, as in Redis.
const COUNT: usize = 10;

pub(super) fn help(cx: &mut Context<'_>, _args: Args<'_>) -> Outcome {
    explain(
        cx,
        &[
            "SLOWLOG <subcommand> [<arg> [value] [opt] ...]. Subcommands are:",
            "GET [<count>]",
            "    Return top <count> entries from the slowlog (default: 10, -1 mean all).",
            "    Entries are made of:",
            "    id, timestamp, time in microseconds, arguments array, client IP and port,",
            "    client name",
            "LEN",
            "    Return the length of the slowlog.",
            "RESET",
            "    Reset the slowlog.",
            "HELP",
            "    Print this help.",
        ],
    )
}

pub(super) fn get(cx: &mut Context<'_>, args: Args<'_>) -> Outcome {
    let count = match args.get(2) {
        _ if args.len() > 3 => {
            return Err(CommandError::said(
                "ERR unknown subcommand or wrong number of arguments for 'GET'. Try SLOWLOG HELP.",
            ));
        }
        None => COUNT,
        Some(count) => match integer(count) {
            Ok(-1) => usize::MAX,
            Ok(count @ 0..) => usize::try_from(count).unwrap_or(usize::MAX),
            _ => return Err(CommandError::said("ERR count should be greater than or equal to -1")),
        },
    };
    let entries = cx.shared.slowlog.latest(count);
    let mut reply = cx.reply();
    reply.array(entries.len());
    for entry in entries {
        reply.array(6);
        for number in [entry.id, entry.seconds, entry.micros] {
            reply.int(i64::try_from(number).unwrap_or(i64::MAX));
        }
        reply.array(entry.args.len());
        entry.args.iter().for_each(|arg| reply.bulk(arg));
        reply.bulk(entry.peer.as_bytes());
        reply.bulk(entry.name.as_bytes());
    }
    DONE
}

pub(super) fn len(cx: &mut Context<'_>, _args: Args<'_>) -> Outcome {
    let len = cx.shared.slowlog.len();
    cx.reply().int(i64::try_from(len).unwrap_or(i64::MAX));
    DONE
}

pub(super) fn reset(cx: &mut Context<'_>, _args: Args<'_>) -> Outcome {
    cx.shared.slowlog.clear();
    cx.reply().ok();
    DONE
}

pub(super) fn latency_help(cx: &mut Context<'_>, _args: Args<'_>) -> Outcome {
    explain(
        cx,
        &[
            "LATENCY <subcommand> [<arg> [value] [opt] ...]. Subcommands are:",
            "DOCTOR",
            "    Return where latencies are shown.",
            "GRAPH <event>",
            "    An error: there are no events of latency.",
            "HISTORY <event>",
            "    Return an empty list: there are no events of latency.",
            "LATEST",
            "    Return an empty list: there are no events of latency.",
            "RESET [<event> ...]",
            "    Return 0: there are no events of latency.",
            "HISTOGRAM [COMMAND ...]",
            "    Return a cumulative distribution of latencies in the format of a histogram for the specified command names.",
            "    If no commands are specified then all histograms are replied.",
            "HELP",
            "    Print this help.",
        ],
    )
}

pub(super) fn no_events(cx: &mut Context<'_>, _args: Args<'_>) -> Outcome {
    cx.reply().raw(EMPTY_ARRAY);
    DONE
}

pub(super) fn no_event_reset(cx: &mut Context<'_>, _args: Args<'_>) -> Outcome {
    cx.reply().int(0);
    DONE
}

pub(super) fn graph(_cx: &mut Context<'_>, args: Args<'_>) -> Outcome {
    let event = String::from_utf8_lossy(&args[2]);
    let end = event.char_indices().nth(128).map_or(event.len(), |(end, _)| end);
    Err(CommandError::said(format!("ERR No samples available for event '{}'", &event[..end])))
}

pub(super) fn doctor(cx: &mut Context<'_>, _args: Args<'_>) -> Outcome {
    const TEXT: &str = "Latency monitoring of events is disabled: there are no forks, no swapping of keys and no file that \
                        could hold up this node. SLOWLOG GET shows slow commands, LATENCY HISTOGRAM how long commands take, \
                        and SAPWOOD PEERS how far peers lag.\n";
    cx.reply().verbatim("txt", TEXT);
    DONE
}

pub(super) fn histogram(cx: &mut Context<'_>, args: Args<'_>) -> Outcome {
    let is_wanted = |row: &CommandTotals| {
        let parent = row.name.split_once('|').map_or(row.name, |(parent, _)| parent);
        args.len() == 2 || args.tail(2).iter().any(|name| is(name, row.name) || is(name, parent))
    };
    let rows: Vec<_> =
        cx.shared.stats.calls().filter(|row| row.durations.timed > 0 && is_wanted(row)).collect();
    let mut reply = cx.reply();
    let number = |n: u64| i64::try_from(n).unwrap_or(i64::MAX);
    reply.map(rows.len());
    for CommandTotals { name, durations, .. } in rows {
        reply.bulk(name.as_bytes());
        reply.map(2);
        reply.bulk(b"calls");
        reply.int(number(durations.timed));
        reply.bulk(b"histogram_usec");
        reply.map(durations.buckets.len());
        let mut so_far = 0;
        for (micros, count) in durations.buckets {
            so_far += count;
            reply.int(number(micros));
            reply.int(number(so_far));
        }
    }
    DONE
}
