//! `INFO`: the state of the node, in Redis's sections and one for Sapwood.

use std::fmt::{Display, Write as _};
use std::sync::atomic::Ordering::Relaxed;

use super::context::{Context, DONE, Outcome, is};
use crate::cluster::PeerState;
use crate::process;
use crate::resp::Args;
use crate::resp::shared::Shared;
use crate::stats::CommandTotals;
use crate::store::KeyCounts;

/// The version of Redis whose commands are meant, in `INFO` and `HELLO`: clients select commands and forms by it.
///
/// Redis 7.4 has no command or form for strings, keys and connections that is missing here without a refusal that
/// names the reason. Sapwood's own version is `sapwood_version` in `INFO`.
pub(super) const REDIS_VERSION: &str = "7.4.0";

type Section = fn(&Shared, &mut Lines);

/// The sections: name, whether `INFO` without arguments shows it, and the function that writes it.
const SECTIONS: &[(&str, bool, Section)] = &[
    ("Server", true, server),
    ("Clients", true, clients),
    ("Memory", true, memory),
    ("Persistence", true, persistence),
    ("Stats", true, stats),
    ("Replication", true, replication),
    ("CPU", true, cpu),
    ("Commandstats", false, commandstats),
    ("Errorstats", true, errorstats),
    ("Latencystats", false, latencystats),
    ("Cluster", true, cluster),
    ("Keyspace", true, keyspace),
    ("Sapwood", true, sapwood),
];

/// The text being written.
#[derive(Default)]
struct Lines(String);

impl Lines {
    fn add(&mut self, name: &str, value: impl Display) {
        write!(self.0, "{name}:{value}\r\n").expect("a string takes all that is written");
    }
}

pub(super) fn info(cx: &mut Context<'_>, args: Args<'_>) -> Outcome {
    let wanted = |name: &str, by_default: bool| {
        let asked = |arg: &[u8]| {
            is(arg, name) || is(arg, "all") || is(arg, "everything") || by_default && is(arg, "default")
        };
        if args.len() == 1 { by_default } else { args.tail(1).iter().any(asked) }
    };
    let mut lines = Lines::default();
    for (name, by_default, section) in SECTIONS {
        if wanted(name, *by_default) {
            if !lines.0.is_empty() {
                lines.0 += "\r\n";
            }
            write!(lines.0, "# {name}\r\n").expect("a string takes all that is written");
            section(cx.shared, &mut lines);
        }
    }
    cx.reply().verbatim("txt", &lines.0);
    DONE
}

fn server(shared: &Shared, lines: &mut Lines) {
    let uptime = shared.started.elapsed().as_secs();
    lines.add("redis_version", REDIS_VERSION);
    lines.add("server_name", "sapwood");
    lines.add("sapwood_version", env!("CARGO_PKG_VERSION"));
    lines.add("redis_mode", "standalone");
    lines.add("os", std::env::consts::OS);
    lines.add("arch_bits", usize::BITS);
    lines.add("process_id", std::process::id());
    lines.add("run_id", shared.settings.incarnation);
    lines.add("tcp_port", shared.settings.client_addr.port());
    lines.add("uptime_in_seconds", uptime);
    lines.add("uptime_in_days", uptime / 86_400);
}

fn clients(shared: &Shared, lines: &mut Lines) {
    lines.add("connected_clients", shared.clients.len());
    lines.add("maxclients", shared.settings.max_clients);
    let all = shared.clients.all();
    lines.add("blocked_clients", all.iter().filter(|client| client.waits.load(Relaxed)).count());
    lines.add("pubsub_clients", all.iter().filter(|client| client.is_subscriber()).count());
    lines.add("tracking_clients", shared.tracking.totals().clients);
    lines.add("watching_clients", all.iter().filter(|client| client.watches.load(Relaxed)).count());
}

fn memory(shared: &Shared, lines: &mut Lines) {
    let (used, tombstones) = (shared.store.memory(), shared.store.tombstone_memory());
    let limit = shared.settings.max_memory.unwrap_or(0);
    lines.add("used_memory", used);
    lines.add("used_memory_human", human(used));
    let peak = shared.stats.peak_memory(used);
    lines.add("used_memory_peak", peak);
    lines.add("used_memory_peak_human", human(peak));
    lines.add("used_memory_tombstones", tombstones);
    lines.add("used_memory_tombstones_human", human(tombstones));
    if let Some(resident) = process::resident_bytes() {
        lines.add("used_memory_rss", resident);
        lines.add("used_memory_rss_human", human(resident));
        lines.add("mem_fragmentation_ratio", format_args!("{:.2}", ratio(resident, used + tombstones)));
        lines.add("mem_fragmentation_bytes", resident.saturating_sub(used + tombstones));
    }
    lines.add("maxmemory", limit);
    lines.add("maxmemory_human", human(limit));
    lines.add("maxmemory_tombstones", shared.store.tombstone_reserve().unwrap_or(0));
    lines.add("maxmemory_policy", shared.store.eviction_policy());
    lines.add("maxmemory_policy_bytes", shared.store.accesses_bytes());
    #[cfg(feature = "scripts")]
    lines.add("number_of_cached_scripts", shared.scripts.len());
}

fn persistence(shared: &Shared, lines: &mut Lines) {
    lines.add("loading", u8::from(shared.is_loading()));
    lines.add("rdb_bgsave_in_progress", 0);
    lines.add("aof_enabled", 0);
}

fn stats(shared: &Shared, lines: &mut Lines) {
    lines.add("total_commands_processed", shared.stats.commands());
    lines.add("instantaneous_ops_per_sec", shared.stats.last_second());
    for (name, value) in shared.stats.named() {
        lines.add(name, value);
    }
    lines.add("expired_keys", shared.store.swept_keys());
    lines.add("evicted_keys", shared.store.evicted_keys());
    let (channels, patterns) = shared.hub.totals();
    lines.add("pubsub_channels", channels);
    lines.add("pubsub_patterns", patterns);
    let tracked = shared.tracking.totals();
    lines.add("tracking_total_keys", tracked.keys);
    lines.add("tracking_total_items", tracked.reads);
    lines.add("keyspace_events_skipped", shared.observer.skipped());
}

/// Every node takes writes and follows no other, which Redis calls a master without replicas.
fn replication(_shared: &Shared, lines: &mut Lines) {
    lines.add("role", "master");
    lines.add("connected_slaves", 0);
    lines.add("master_repl_offset", 0);
}

fn cpu(_shared: &Shared, lines: &mut Lines) {
    let Some(time) = process::cpu_time() else { return };
    for (name, hundredths) in [("used_cpu_sys", time.system), ("used_cpu_user", time.user)] {
        lines.add(name, format_args!("{}.{:02}", hundredths / 100, hundredths % 100));
    }
}

/// The time that all calls of a command took is estimated from those that were timed.
fn commandstats(shared: &Shared, lines: &mut Lines) {
    for CommandTotals { name, calls, failures, rejections, durations } in shared.stats.calls() {
        let per_call = durations.micros_per_call();
        #[expect(clippy::cast_precision_loss, reason = "an estimate")]
        let all = per_call * calls as f64;
        lines.add(
            &format!("cmdstat_{name}"),
            format_args!(
                "calls={calls},usec={all:.0},usec_per_call={per_call:.2},rejected_calls={rejections},\
                 failed_calls={failures}"
            ),
        );
    }
}

fn errorstats(shared: &Shared, lines: &mut Lines) {
    for (code, count) in shared.stats.errors() {
        lines.add(&format!("errorstat_{code}"), format_args!("count={count}"));
    }
}

/// Percentiles of the calls that were timed, rounded up to a power of two.
fn latencystats(shared: &Shared, lines: &mut Lines) {
    for CommandTotals { name, durations, .. } in shared.stats.calls() {
        if durations.timed > 0 {
            let [p50, p99, p999] = [500, 990, 999].map(|thousandths| durations.percentile(thousandths));
            lines.add(
                &format!("latency_percentiles_usec_{name}"),
                format_args!("p50={p50}.000,p99={p99}.000,p99.9={p999}.000"),
            );
        }
    }
}

fn cluster(_shared: &Shared, lines: &mut Lines) {
    lines.add("cluster_enabled", 0);
}

/// All databases that have keys, also those that clients of this node cannot select. The average time to live is not
/// computed; tools need the field.
fn keyspace(shared: &Shared, lines: &mut Lines) {
    for (database, KeyCounts { keys, expiring }) in shared.store.databases() {
        lines.add(&format!("db{database}"), format_args!("keys={keys},expires={expiring},avg_ttl=0"));
    }
}

fn sapwood(shared: &Shared, lines: &mut Lines) {
    let totals = shared.store.totals();
    let peers = shared.cluster.peers();
    let healing = shared.cluster.healing();
    lines.add("name", &shared.settings.name);
    lines.add("cluster", &shared.settings.cluster_name);
    lines.add("state", shared.cluster.state().as_str());
    lines.add("state_reason", shared.cluster.joining_reason().unwrap_or_default());
    lines.add("digest", format_args!("{:016x}", totals.live));
    lines.add("keys", totals.live_cells);
    lines.add("tombstones", totals.dead_cells);
    lines.add("linked_peers", peers.iter().filter(|peer| PeerState::is_linked(peer.state)).count());
    lines.add("lag_ms_max", peers.iter().map(|peer| peer.lag.as_millis()).max().unwrap_or(0));
    lines.add("ranges_differing", peers.iter().map(|peer| peer.ranges_differing).max().unwrap_or(0));
    lines.add("members", healing.members);
    lines.add("stable_age_seconds", healing.stable_age.map_or(-1, |age| i128::from(age.as_secs())));
    lines.add("waits_for", healing.waits_for.join(","));
    lines.add("retractions_total", healing.retractions);
    lines.add("late_total", healing.late);
    lines.add("lost", healing.lost);
    lines.add("users_file_error", shared.users.fault().unwrap_or_default());
    lines.add("users_file_failures_total", shared.users.failures());
    lines.add("dropped_messages_total", shared.cluster.dropped_messages());
    let security = shared.cluster.peer_security();
    lines.add("peer_security", security.way);
    lines.add("peer_certificate_expires", security.expires.map_or(-1, i128::from));
    lines.add("peer_security_error", security.error.unwrap_or_default());
    lines.add("incarnation", shared.store.own_incarnation());
}

/// The ratio of two sizes; 1 if there is nothing to compare with.
#[expect(clippy::cast_precision_loss, reason = "two digits are shown")]
fn ratio(bytes: u64, of: u64) -> f64 {
    if of == 0 { 1.0 } else { bytes as f64 / of as f64 }
}

/// A size as Redis shows it to people: `1.50M`.
fn human(bytes: u64) -> String {
    let units = ["K", "M", "G", "T"];
    let shift = (1..=units.len()).rev().find(|unit| bytes >> (10 * unit) > 0);
    match shift {
        None => format!("{bytes}B"),
        Some(unit) => {
            let hundredths = (u128::from(bytes) * 100) >> (10 * unit);
            format!("{}.{:02}{}", hundredths / 100, hundredths % 100, units[unit - 1])
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_read_as_in_redis() {
        for (bytes, text) in [(0, "0B"), (1023, "1023B"), (1536, "1.50K"), (3 << 30, "3.00G")] {
            assert_eq!(human(bytes), text);
        }
    }
}
