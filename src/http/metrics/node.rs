//! The metrics of the node itself.

use std::fmt::Error;

use super::{BYTES, Labels, Reading, SECONDS, Sheet};
use crate::process;

/// Reads the value of a counter.
type Count = fn(&Reading) -> u64;

pub(super) fn write(sheet: &mut Sheet<'_, '_>) -> Result<(), Error> {
    state(sheet)?;
    keys(sheet)?;
    clients(sheet)?;
    security(sheet)?;
    healing(sheet)
}

fn state(sheet: &mut Sheet<'_, '_>) -> Result<(), Error> {
    let version = env!("CARGO_PKG_VERSION");
    sheet.gauges(
        "build_info",
        "The version that runs, and the cluster that it belongs to. Always 1.",
        None,
        |reading| [(vec![("version", version), ("cluster", &reading.api.cluster_name)], 1.0)],
    )?;
    sheet.gauge("uptime", "How long the node has been running.", SECONDS, |reading| {
        reading.api.started.elapsed().as_secs_f64()
    })?;
    sheet.gauges("state", "The state of the node, by name. Always 1.", None, |reading| {
        [(vec![("state", reading.state.as_str())], 1.0)]
    })?;
    sheet.gauge("ready", "Whether the node has joined and takes writes, as /readyz says.", None, |reading| {
        flag(reading.is_ready)
    })
}

fn keys(sheet: &mut Sheet<'_, '_>) -> Result<(), Error> {
    sheet.gauge("keys", "Keys that hold a value.", None, |reading| reading.totals.live_cells as f64)?;
    sheet.gauge("expiring_keys", "Keys that hold a value and have a deadline.", None, |reading| {
        reading.totals.expiring_cells as f64
    })?;
    sheet.gauge(
        "tombstones",
        "Deletes and expired keys that are kept until every member holds them.",
        None,
        |reading| reading.totals.dead_cells as f64,
    )?;
    sheet.gauge(
        "memory",
        "What keys and their values take: what --max-memory limits.",
        BYTES,
        |reading| reading.api.store.memory() as f64,
    )?;
    sheet.gauge("evicts", "Whether --max-memory-policy deletes keys.", None, |reading| {
        f64::from(u8::from(reading.api.store.evicts()))
    })?;
    sheet.counter(
        "evicted_keys",
        "Keys that this node deleted by --max-memory-policy.",
        None,
        |reading| reading.api.store.evicted_keys(),
    )?;
    sheet.gauges("resident_memory", "What the process takes of the host's RAM.", BYTES, |_| {
        process::resident_bytes().map(|bytes| (Labels::new(), bytes as f64))
    })?;
    sheet.gauges("memory_limit", "--max-memory, if it is set.", BYTES, |reading| {
        reading.api.max_memory.map(|limit| (Labels::new(), limit as f64))
    })?;
    sheet.gauge(
        "tombstone_memory",
        "What deletes and expired keys take that are kept.",
        BYTES,
        |reading| reading.api.store.tombstone_memory() as f64,
    )?;
    sheet.gauges(
        "tombstone_memory_reserve",
        "What they may take, with --max-memory, before writes may be refused because of them.",
        BYTES,
        |reading| reading.api.store.tombstone_reserve().map(|limit| (Labels::new(), limit as f64)),
    )
}

fn clients(sheet: &mut Sheet<'_, '_>) -> Result<(), Error> {
    sheet.gauge("client_connections", "Connections of clients that are open.", None, |reading| {
        reading.api.stats.open_connections() as f64
    })?;
    sheet.counter(
        "users_file_failures",
        "Files of users that could not be used, so that the users stayed as they were.",
        None,
        |reading| reading.api.stats.users_file().0,
    )?;
    sheet.gauge(
        "users_file_is_bad",
        "1 if the file of users that is there now cannot be used.",
        None,
        |reading| f64::from(u8::from(reading.api.stats.users_file().1)),
    )?;
    // Named as in `INFO`.
    let counters = [
        (
            "total_connections_received",
            "client_connections_opened",
            "Connections of clients, refused ones included.",
            None,
        ),
        (
            "rejected_connections",
            "client_connections_refused",
            "Connections refused beyond --max-clients.",
            None,
        ),
        (
            "client_output_buffer_limit_disconnections",
            "client_connections_cut_off",
            "Connections closed because the client did not read what it had subscribed to.",
            None,
        ),
        (
            "total_error_replies",
            "client_errors",
            "Replies that were errors, those to unknown commands included.",
            None,
        ),
        ("acl_access_denied_auth", "client_logins_denied", "Logins with a wrong user or password.", None),
        ("acl_access_denied_cmd", "client_commands_denied", "Commands that their user may not run.", None),
        (
            "acl_access_denied_key",
            "client_keys_denied",
            "Commands with a key that their user may not use.",
            None,
        ),
        (
            "acl_access_denied_channel",
            "client_channels_denied",
            "Commands with a channel that their user may not use.",
            None,
        ),
        ("keyspace_hits", "key_hits", "Reads that found their key.", None),
        ("keyspace_misses", "key_misses", "Reads that did not find their key.", None),
        ("total_net_input_bytes", "client_received", "Received from clients.", BYTES),
        ("total_net_output_bytes", "client_sent", "Sent to clients.", BYTES),
    ];
    for (info, name, help, unit) in counters {
        sheet.counter(name, help, unit, |reading| {
            reading
                .api
                .stats
                .named()
                .into_iter()
                .find(|(name, _)| *name == info)
                .map_or(0, |(_, value)| value)
        })?;
    }
    sheet.counters("commands", "Commands executed, by command and result.", None, |reading| {
        reading.api.stats.calls().filter(|command| command.calls > 0).flat_map(|command| {
            let row = |result, count| (vec![("command", command.name), ("result", result)], count);
            [row("ok", command.calls.saturating_sub(command.failures)), row("error", command.failures)]
        })
    })?;
    sheet.histogram(
        "command_batch_duration",
        "How long the commands that came in one read took to execute, of one in 16 batches of each connection.",
        |reading| reading.api.stats.latency(),
    )
}

fn security(sheet: &mut Sheet<'_, '_>) -> Result<(), Error> {
    sheet.gauges(
        "peer_security",
        "How links to peers are authenticated and encrypted: certificates, secret or none. Always 1.",
        None,
        |reading| [(vec![("way", reading.security.way)], 1.0)],
    )?;
    sheet.gauges(
        "tls_certificate_expiry_timestamp",
        "When this node's certificate ends, in seconds since the Unix epoch. Absent without one.",
        SECONDS,
        |reading| reading.security.expires.map(|at| (vec![("role", "peer")], at as f64)),
    )?;
    sheet.counters(
        "tls_handshake_failures",
        "Connections of peers, in both directions, that were not authenticated, by reason.",
        None,
        |reading| {
            let failures = reading.security.failures.iter();
            failures.map(|(reason, count)| (vec![("reason", *reason)], *count)).collect::<Vec<_>>()
        },
    )?;
    sheet.counter(
        "tls_reloads",
        "New certificates and secrets of peers that were put to use.",
        None,
        |reading| reading.security.reloads,
    )?;
    sheet.counter(
        "tls_reload_failures",
        "New certificates and secrets of peers that could not be used.",
        None,
        |reading| reading.security.failed_reloads,
    )?;
    sheet.gauge(
        "tls_reload_failed",
        "Whether the files of certificates or secrets could not be used when they were read last.",
        None,
        |reading| flag(reading.security.error.is_some()),
    )
}

fn healing(sheet: &mut Sheet<'_, '_>) -> Result<(), Error> {
    sheet.gauge(
        "members",
        "Members of the cluster, this one included, neither lapsed nor gone.",
        None,
        |reading| reading.healing.members as f64,
    )?;
    sheet.gauges(
        "stable_age",
        "How long ago the time is up to which every member holds every write. Absent while there is none.",
        SECONDS,
        |reading| reading.healing.stable_age.map(|age| (Labels::new(), age.as_secs_f64())),
    )?;
    let counters: [(&str, &str, Count); 8] = [
        (
            "retractions",
            "Keys that a peer or this node dropped at the other's request, because they had been removed.",
            |reading| reading.healing.retractions,
        ),
        ("late_cells", "Pushed cells that had been removed here before they came.", |reading| {
            reading.healing.late
        }),
        ("lost_cells", "Writes that no other member had and that had to be given up.", |reading| {
            reading.healing.lost
        }),
        (
            "dropped_tombstones",
            "Tombstones dropped beyond --tombstone-limit by a node that is alone.",
            |reading| reading.healing.dropped_tombstones,
        ),
        (
            "scrub_errors",
            "Ranges whose digest did not match their keys. Anything but 0 is a fault.",
            |reading| reading.healing.scrub_errors,
        ),
        ("links", "Links to peers that came about.", |reading| reading.activity.links),
        ("damaged_frames", "Peer frames whose checksum was wrong. Each ended its connection.", |reading| {
            reading.activity.damaged_frames
        }),
        ("dropped_messages", "Published messages that were dropped on their way to peers.", |reading| {
            reading.api.cluster.dropped_messages()
        }),
    ];
    for (name, help, count) in counters {
        sheet.counter(name, help, None, count)?;
    }
    sheet.counters("syncs", "Syncs with peers that came to an end, by how.", None, |reading| {
        let row = |outcome, count| (vec![("outcome", outcome)], count);
        [row("finished", reading.activity.syncs), row("failed", reading.activity.failed_syncs)]
    })?;
    sheet.counters("refusals", "Links that one of the two sides refused, by reason.", None, |reading| {
        let refusals = reading.activity.refusals.iter();
        refusals.map(|(state, count)| (vec![("reason", state.as_str())], *count)).collect::<Vec<_>>()
    })
}

fn flag(set: bool) -> f64 {
    f64::from(u8::from(set))
}
