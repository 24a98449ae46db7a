//! Counters of a node's client traffic: `resp` writes them, `http` reads them, and `replication` sends some to peers.
//!
//! Each connection counts for itself and adds its counts once per batch, so that no command touches a counter that
//! another connection writes.

mod durations;
mod latency;

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use tracing_mutex::parkinglot::Mutex;

pub use durations::DurationTotals;
use durations::Durations;
pub(crate) use durations::TIMED_ONE_IN;
pub use latency::{BOUNDS, LatencyTotals};
pub(crate) use latency::{Latency, ONE_IN};

/// Most codes of errors that are counted: scripts can invent any.
const MAX_ERROR_CODES: usize = 128;
/// The longest code of an error, in bytes.
const MAX_ERROR_CODE: usize = 32;

/// The counters of one node.
pub struct Stats {
    /// The names of the commands and subcommands. The slices below have the same indices.
    names: Box<[&'static str]>,
    calls: Box<[AtomicU64]>,
    failures: Box<[AtomicU64]>,
    rejections: Box<[AtomicU64]>,
    durations: Box<[Durations]>,
    /// Errors by their first word.
    errors_by_code: Mutex<BTreeMap<Box<str>, u64>>,
    /// The most memory that was sampled.
    peak_memory: AtomicU64,
    /// How long batches of commands took.
    pub(crate) latency: Latency,
    /// Connections that are open now.
    pub(crate) open: AtomicU64,
    pub(crate) connections: AtomicU64,
    pub(crate) refused_connections: AtomicU64,
    /// Connections that were closed because they did not read their subscribed messages.
    pub(crate) cut_off: AtomicU64,
    /// What was refused for want of rights.
    pub(crate) denied: Denied,
    errors: AtomicU64,
    hits: AtomicU64,
    misses: AtomicU64,
    bytes_in: AtomicU64,
    bytes_out: AtomicU64,
    /// All commands up to the last sample. `last_second` is those of the second before it.
    sampled: AtomicU64,
    last_second: AtomicU64,
}

/// How often clients were refused because of their user.
#[derive(Default)]
pub(crate) struct Denied {
    /// Logins with a wrong user or password.
    pub(crate) logins: AtomicU64,
    pub(crate) commands: AtomicU64,
    pub(crate) keys: AtomicU64,
    pub(crate) channels: AtomicU64,
    /// Files of users that could not be used.
    pub(crate) files: AtomicU64,
    /// Whether the present one is such a file.
    pub(crate) is_file_bad: AtomicBool,
}

/// The counters of one command or subcommand.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CommandTotals {
    /// Its name; that of a subcommand is `parent|child`.
    pub name: &'static str,
    /// How often it was executed.
    pub calls: u64,
    /// How many of these calls failed.
    pub failures: u64,
    /// How often it was refused before it was executed.
    pub rejections: u64,
    /// How long some of the calls took.
    pub durations: DurationTotals,
}

/// What one connection has counted since it last added to [`Stats`].
#[derive(Default)]
pub(crate) struct Counts {
    /// Index of the command that is being repeated: most pipelines repeat one command.
    command: usize,
    calls: u64,
    /// How many of these calls failed.
    failures: u64,
    /// How many more commands are called before one is timed.
    untimed: u32,
    pub(crate) errors: u64,
    pub(crate) hits: u64,
    pub(crate) misses: u64,
    pub(crate) bytes_in: u64,
    pub(crate) bytes_out: u64,
}

impl Counts {
    /// Counts one call of the command with this index.
    pub(crate) fn call(&mut self, command: usize, stats: &Stats) {
        if command != self.command {
            stats.add_calls(self);
            self.command = command;
        }
        self.calls += 1;
    }

    /// Whether to time the next command: see [`TIMED_ONE_IN`].
    pub(crate) fn is_timed(&mut self) -> bool {
        let is_timed = self.untimed == 0;
        self.untimed = if is_timed { TIMED_ONE_IN } else { self.untimed } - 1;
        is_timed
    }

    /// Counts a failure of the command with this index. A script has called others since.
    pub(crate) fn fail(&mut self, command: usize, stats: &Stats) {
        if command == self.command {
            self.failures += 1;
        } else {
            stats.failures[command].fetch_add(1, Relaxed);
        }
    }

    /// Counts a read that found its key, or did not.
    pub(crate) fn lookup(&mut self, found: bool) {
        if found {
            self.hits += 1;
        } else {
            self.misses += 1;
        }
    }
}

impl Stats {
    /// Creates counters for commands of these names. [`Counts::call`] takes a command's index among them.
    pub(crate) fn new(names: impl IntoIterator<Item = &'static str>) -> Self {
        let names: Box<[_]> = names.into_iter().collect();
        let zeros = || names.iter().map(|_| AtomicU64::new(0)).collect();
        Self {
            calls: zeros(),
            failures: zeros(),
            rejections: zeros(),
            durations: names.iter().map(|_| Durations::default()).collect(),
            errors_by_code: Mutex::default(),
            peak_memory: AtomicU64::new(0),
            names,
            latency: Latency::default(),
            open: AtomicU64::new(0),
            connections: AtomicU64::new(0),
            refused_connections: AtomicU64::new(0),
            cut_off: AtomicU64::new(0),
            denied: Denied::default(),
            errors: AtomicU64::new(0),
            hits: AtomicU64::new(0),
            misses: AtomicU64::new(0),
            bytes_in: AtomicU64::new(0),
            bytes_out: AtomicU64::new(0),
            sampled: AtomicU64::new(0),
            last_second: AtomicU64::new(0),
        }
    }

    /// Adds a connection's counts and sets them to zero.
    pub(crate) fn add(&self, counts: &mut Counts) {
        self.add_calls(counts);
        for (total, count) in [
            (&self.errors, &mut counts.errors),
            (&self.hits, &mut counts.hits),
            (&self.misses, &mut counts.misses),
            (&self.bytes_in, &mut counts.bytes_in),
            (&self.bytes_out, &mut counts.bytes_out),
        ] {
            if *count > 0 {
                total.fetch_add(std::mem::take(count), Relaxed);
            }
        }
    }

    fn add_calls(&self, counts: &mut Counts) {
        if counts.calls > 0 {
            self.calls[counts.command].fetch_add(std::mem::take(&mut counts.calls), Relaxed);
        }
        if counts.failures > 0 {
            self.failures[counts.command].fetch_add(std::mem::take(&mut counts.failures), Relaxed);
        }
    }

    /// Counts a command that was refused before it was executed.
    pub(crate) fn reject(&self, command: usize) {
        self.rejections[command].fetch_add(1, Relaxed);
    }

    /// Counts how long a call took.
    pub(crate) fn time(&self, command: usize, took: Duration) {
        self.durations[command].add(took);
    }

    /// Counts an error reply by its first word.
    pub(crate) fn error(&self, text: &str) {
        let code = text.split_once(' ').map_or(text, |(code, _)| code);
        let is_of_code = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-');
        if code.len() > MAX_ERROR_CODE || !code.bytes().all(is_of_code) {
            return;
        }
        let mut errors = self.errors_by_code.lock();
        if let Some(count) = errors.get_mut(code) {
            *count += 1;
        } else if errors.len() < MAX_ERROR_CODES {
            errors.insert(code.into(), 1);
        }
    }

    /// The codes of errors, and how often each was replied.
    pub fn errors(&self) -> Vec<(Box<str>, u64)> {
        self.errors_by_code.lock().iter().map(|(code, count)| (code.clone(), *count)).collect()
    }

    /// The most memory so far, given that it is `now` so much. It is sampled once a second.
    pub(crate) fn peak_memory(&self, now: u64) -> u64 {
        self.peak_memory.fetch_max(now, Relaxed).max(now)
    }

    /// Counts the commands since the last sample. To be called once a second.
    pub(crate) fn sample(&self) {
        let commands = self.commands();
        self.last_second.store(commands.saturating_sub(self.sampled.swap(commands, Relaxed)), Relaxed);
    }

    /// Sets the counters to zero.
    pub(crate) fn reset(&self) {
        let counters = [&self.connections, &self.refused_connections, &self.errors, &self.hits, &self.misses]
            .into_iter()
            .chain([&self.cut_off, &self.bytes_in, &self.bytes_out, &self.sampled, &self.last_second])
            .chain(&self.calls)
            .chain(&self.failures)
            .chain(&self.rejections)
            .chain([&self.peak_memory, &self.denied.logins, &self.denied.commands])
            .chain([&self.denied.keys, &self.denied.channels]);
        counters.for_each(|counter| counter.store(0, Relaxed));
        self.reset_durations();
        self.errors_by_code.lock().clear();
    }

    /// All commands executed.
    pub fn commands(&self) -> u64 {
        self.calls.iter().map(|calls| calls.load(Relaxed)).sum()
    }

    /// Commands executed in the last second sampled.
    pub fn last_second(&self) -> u64 {
        self.last_second.load(Relaxed)
    }

    /// Connections that are open now.
    pub fn open_connections(&self) -> u64 {
        self.open.load(Relaxed)
    }

    /// How long batches of commands took.
    pub fn latency(&self) -> LatencyTotals {
        self.latency.totals()
    }

    /// The commands that were called or refused, by name.
    pub fn calls(&self) -> impl Iterator<Item = CommandTotals> {
        let rows = self.names.iter().enumerate().map(|(n, name)| CommandTotals {
            name,
            calls: self.calls[n].load(Relaxed),
            failures: self.failures[n].load(Relaxed),
            rejections: self.rejections[n].load(Relaxed),
            durations: self.durations[n].totals(),
        });
        rows.filter(|row| row.calls + row.rejections > 0)
    }

    /// Forgets how long commands took.
    pub(crate) fn reset_durations(&self) {
        self.durations.iter().for_each(Durations::reset);
    }

    /// How many files of users could not be used, and whether the present one is such a file.
    pub(crate) fn users_file(&self) -> (u64, bool) {
        (self.denied.files.load(Relaxed), self.denied.is_file_bad.load(Relaxed))
    }

    /// The other counters, under their names in `INFO`.
    pub fn named(&self) -> [(&'static str, u64); 12] {
        [
            ("total_connections_received", self.connections.load(Relaxed)),
            ("rejected_connections", self.refused_connections.load(Relaxed)),
            ("client_output_buffer_limit_disconnections", self.cut_off.load(Relaxed)),
            ("total_error_replies", self.errors.load(Relaxed)),
            ("keyspace_hits", self.hits.load(Relaxed)),
            ("keyspace_misses", self.misses.load(Relaxed)),
            ("total_net_input_bytes", self.bytes_in.load(Relaxed)),
            ("total_net_output_bytes", self.bytes_out.load(Relaxed)),
            ("acl_access_denied_auth", self.denied.logins.load(Relaxed)),
            ("acl_access_denied_cmd", self.denied.commands.load(Relaxed)),
            ("acl_access_denied_key", self.denied.keys.load(Relaxed)),
            ("acl_access_denied_channel", self.denied.channels.load(Relaxed)),
        ]
    }
}
