//! `OBJECT`, `MEMORY` and other commands by which tools look at a Redis from inside.
//!
//! What does not exist here has the value that Redis shows where it does not exist there.

use super::context::{Context, DONE, Outcome, integer, is};
use super::error::CommandError;
use super::introspect::explain;
use crate::model::counter::strict_number;
use crate::model::timestamp;
use crate::process;
use crate::resp::{Args, EMPTY_ARRAY};
use crate::store::EvictionPolicy;

/// The longest string that Redis embeds in the object that holds it.
const MAX_EMBEDDED: usize = 44;

pub(super) fn role(cx: &mut Context<'_>, _args: Args<'_>) -> Outcome {
    let mut reply = cx.reply();
    reply.array(3);
    reply.bulk(b"master");
    reply.int(0);
    reply.raw(EMPTY_ARRAY);
    DONE
}

/// When this node started: what a Redis says that has saved nothing since.
pub(super) fn lastsave(cx: &mut Context<'_>, _args: Args<'_>) -> Outcome {
    let now = timestamp::unix_millis(cx.shared.env.wall_clock()) / 1000;
    let started = now.saturating_sub(cx.shared.started.elapsed().as_secs());
    cx.reply().int(i64::try_from(started).unwrap_or(i64::MAX));
    DONE
}

pub(super) fn modules(cx: &mut Context<'_>, _args: Args<'_>) -> Outcome {
    cx.reply().raw(EMPTY_ARRAY);
    DONE
}

pub(super) fn module_help(cx: &mut Context<'_>, _args: Args<'_>) -> Outcome {
    explain(
        cx,
        &[
            "MODULE <subcommand> [<arg> [value] [opt] ...]. Subcommands are:",
            "LIST",
            "    Return an empty list: there are no modules.",
            "HELP",
            "    Print this help.",
        ],
    )
}

pub(super) fn object_help(cx: &mut Context<'_>, _args: Args<'_>) -> Outcome {
    explain(
        cx,
        &[
            "OBJECT <subcommand> [<arg> [value] [opt] ...]. Subcommands are:",
            "ENCODING <key>",
            "    Return how Redis would represent the value: int, embstr or raw.",
            "FREQ <key>",
            "    Return how often the key is accessed, by a logarithm. Needs --max-memory-policy allkeys-lfu.",
            "IDLETIME <key>",
            "    Return the seconds since the key was accessed; 0 unless --max-memory-policy is allkeys-lru.",
            "REFCOUNT <key>",
            "    Return 1.",
            "HELP",
            "    Print this help.",
        ],
    )
}

pub(super) fn encoding(cx: &mut Context<'_>, args: Args<'_>) -> Outcome {
    let encoding = cx.keyspace.peek(&args[2], cx.now(), |live| {
        live.map(|live| match live.value() {
            value if strict_number(value).is_some() => "int",
            value if value.len() <= MAX_EMBEDDED => "embstr",
            _ => "raw",
        })
    });
    match encoding {
        Some(encoding) => cx.reply().bulk(encoding.as_bytes()),
        None => cx.reply().null(),
    }
    DONE
}

pub(super) fn refcount(cx: &mut Context<'_>, args: Args<'_>) -> Outcome {
    constant(cx, &args[2], 1)
}

/// Without LRU reads are not recorded. 0 keeps tools from deleting keys that nobody seems to read.
pub(super) fn idletime(cx: &mut Context<'_>, args: Args<'_>) -> Outcome {
    if cx.shared.store.eviction_policy() == EvictionPolicy::AllKeysLfu && !cx.is_absent(&args[2]) {
        return Err(CommandError::said(
            "ERR An LFU maxmemory policy is selected, idle time not tracked. Please note that when switching between \
             policies at runtime LRU and LFU data will take some time to adjust.",
        ));
    }
    let idle = cx.keyspace.idle(&args[2]).unwrap_or_default().as_secs();
    constant(cx, &args[2], i64::try_from(idle).unwrap_or(i64::MAX))
}

/// Replies with `value`, or null if the key is absent.
fn constant(cx: &mut Context<'_>, key: &[u8], value: i64) -> Outcome {
    if cx.is_absent(key) {
        cx.reply().null();
    } else {
        cx.reply().int(value);
    }
    DONE
}

pub(super) fn freq(cx: &mut Context<'_>, args: Args<'_>) -> Outcome {
    if let Some(frequency) = cx.keyspace.frequency(&args[2]) {
        return constant(cx, &args[2], i64::from(frequency));
    }
    if !cx.is_absent(&args[2]) {
        return Err(CommandError::said(
            "ERR An LFU maxmemory policy is not selected, access frequency not tracked. Please note that when switching \
             between policies at runtime LRU and LFU data will take some time to adjust.",
        ));
    }
    cx.reply().null();
    DONE
}

pub(super) fn memory_help(cx: &mut Context<'_>, _args: Args<'_>) -> Outcome {
    explain(
        cx,
        &[
            "MEMORY <subcommand> [<arg> [value] [opt] ...]. Subcommands are:",
            "DOCTOR",
            "    Return memory problems reports.",
            "MALLOC-STATS",
            "    Return that there are none.",
            "PURGE",
            "    Accepted: there is nothing to purge.",
            "STATS",
            "    Return information about the memory usage of the server.",
            "USAGE <key> [SAMPLES <count>]",
            "    Return memory in bytes used by <key> and its value.",
            "HELP",
            "    Print this help.",
        ],
    )
}

pub(super) fn usage(cx: &mut Context<'_>, args: Args<'_>) -> Outcome {
    match (args.get(3), args.get(4)) {
        (None, _) => {}
        (Some(word), Some(count)) if args.len() == 5 && is(word, "samples") => {
            if integer(count)? < 0 {
                return Err(CommandError::Syntax);
            }
        }
        _ => return Err(CommandError::Syntax),
    }
    match cx.keyspace.memory(&args[2], cx.now()) {
        Some(bytes) => cx.reply().int(i64::try_from(bytes).unwrap_or(i64::MAX)),
        None => cx.reply().null(),
    }
    DONE
}

pub(super) fn doctor(cx: &mut Context<'_>, _args: Args<'_>) -> Outcome {
    let store = &cx.shared.store;
    let (used, limit) = (store.memory(), cx.shared.settings.max_memory);
    let tombstones = (store.tombstone_memory(), store.tombstone_reserve());
    let near = |used: u64, limit: u64| used > limit / 10 * 9;
    let text = match (limit, tombstones) {
        (Some(limit), _) if near(used, limit) && !store.evicts() => format!(
            "Keys and values take {used} bytes, more than nine tenths of --max-memory. At the limit writes that need more \
             are refused. Delete keys, set deadlines, or raise --max-memory on every node."
        ),
        (_, (dead, Some(reserve))) if near(dead, reserve) => format!(
            "Tombstones take {dead} bytes, more than nine tenths of what they may take. SAPWOOD HEALING says which members \
             keep them from being purged."
        ),
        _ => "No problem was found.".to_owned(),
    };
    cx.reply().verbatim("txt", &text);
    DONE
}

pub(super) fn malloc_stats(cx: &mut Context<'_>, _args: Args<'_>) -> Outcome {
    cx.reply().bulk(b"Stats not supported for the current allocator");
    DONE
}

pub(super) fn purge(cx: &mut Context<'_>, _args: Args<'_>) -> Outcome {
    cx.reply().ok();
    DONE
}

/// The fields of Redis that have a meaning here.
#[expect(clippy::cast_precision_loss, reason = "ratios are rounded")]
pub(super) fn stats(cx: &mut Context<'_>, _args: Args<'_>) -> Outcome {
    let (store, totals) = (&cx.shared.store, cx.shared.store.totals());
    let (live, dead) = (store.memory(), store.tombstone_memory());
    let peak = cx.shared.stats.peak_memory(live);
    let percent = |part: u64, whole: u64| if whole == 0 { 100.0 } else { part as f64 * 100.0 / whole as f64 };
    let sizes = [
        ("peak.allocated", peak),
        ("total.allocated", live + dead),
        ("startup.allocated", 0),
        ("replication.backlog", 0),
        ("clients.slaves", 0),
        ("aof.buffer", 0),
        ("overhead.total", dead),
        ("keys.count", totals.live_cells),
        ("keys.bytes-per-key", live.checked_div(totals.live_cells).unwrap_or(0)),
        ("dataset.bytes", live),
    ];
    let resident = process::resident_bytes();
    let mut reply = cx.reply();
    reply.map(sizes.len() + 2 + if resident.is_some() { 2 } else { 0 });
    for (name, bytes) in sizes {
        reply.bulk(name.as_bytes());
        reply.int(i64::try_from(bytes).unwrap_or(i64::MAX));
    }
    for (name, value) in
        [("dataset.percentage", percent(live, live + dead)), ("peak.percentage", percent(live, peak))]
    {
        reply.bulk(name.as_bytes());
        reply.double(value);
    }
    if let Some(resident) = resident {
        reply.bulk(b"fragmentation");
        reply.double(percent(resident, live + dead) / 100.0);
        reply.bulk(b"fragmentation.bytes");
        reply.int(i64::try_from(resident.saturating_sub(live + dead)).unwrap_or(i64::MAX));
    }
    DONE
}
