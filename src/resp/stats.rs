//! What the server counts. Connections count for themselves and add up once a batch, so that no command touches a
//! counter that another connection writes.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

/// The counters of one server.
pub(super) struct Stats {
    /// The commands by place, and the calls of each.
    names: Box<[&'static str]>,
    calls: Box<[AtomicU64]>,
    pub(super) connections: AtomicU64,
    pub(super) refused_connections: AtomicU64,
    /// Connections that did not read what they had asked to be told.
    pub(super) cut_off: AtomicU64,
    errors: AtomicU64,
    hits: AtomicU64,
    misses: AtomicU64,
    bytes_in: AtomicU64,
    bytes_out: AtomicU64,
    /// Commands up to the last sample, and in the second before it.
    sampled: AtomicU64,
    last_second: AtomicU64,
}

/// What one connection has counted since it last added up.
#[derive(Default)]
pub(super) struct Counts {
    /// The command being repeated: pipelines are mostly of one kind.
    command: usize,
    calls: u64,
    pub(super) errors: u64,
    pub(super) hits: u64,
    pub(super) misses: u64,
    pub(super) bytes_in: u64,
    pub(super) bytes_out: u64,
}

impl Counts {
    /// Counts one call of the command with this place.
    pub(super) fn call(&mut self, command: usize, stats: &Stats) {
        if command != self.command {
            stats.add_calls(self);
            self.command = command;
        }
        self.calls += 1;
    }

    /// Counts a read that found its key, or did not.
    pub(super) fn lookup(&mut self, found: bool) {
        if found {
            self.hits += 1;
        } else {
            self.misses += 1;
        }
    }
}

impl Stats {
    /// Counters for commands of these names. A command's place among them is what [`Counts::call`] knows it by.
    pub(super) fn new(names: impl Iterator<Item = &'static str>) -> Self {
        let names: Box<[_]> = names.collect();
        Self {
            calls: names.iter().map(|_| AtomicU64::new(0)).collect(),
            names,
            connections: AtomicU64::new(0),
            refused_connections: AtomicU64::new(0),
            cut_off: AtomicU64::new(0),
            errors: AtomicU64::new(0),
            hits: AtomicU64::new(0),
            misses: AtomicU64::new(0),
            bytes_in: AtomicU64::new(0),
            bytes_out: AtomicU64::new(0),
            sampled: AtomicU64::new(0),
            last_second: AtomicU64::new(0),
        }
    }

    /// Adds what a connection counted, which begins again at zero.
    pub(super) fn add(&self, counts: &mut Counts) {
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
    }

    /// To be called once a second.
    pub(super) fn sample(&self) {
        let commands = self.commands();
        self.last_second.store(commands.saturating_sub(self.sampled.swap(commands, Relaxed)), Relaxed);
    }

    /// Begins again at zero.
    pub(super) fn reset(&self) {
        let counters = [&self.connections, &self.refused_connections, &self.errors, &self.hits, &self.misses]
            .into_iter()
            .chain([&self.cut_off, &self.bytes_in, &self.bytes_out, &self.sampled, &self.last_second])
            .chain(&self.calls);
        counters.for_each(|counter| counter.store(0, Relaxed));
    }

    /// All commands executed.
    pub(super) fn commands(&self) -> u64 {
        self.calls.iter().map(|calls| calls.load(Relaxed)).sum()
    }

    /// Commands executed in the last second sampled.
    pub(super) fn last_second(&self) -> u64 {
        self.last_second.load(Relaxed)
    }

    /// The commands that were called, by name, and how often.
    pub(super) fn calls(&self) -> impl Iterator<Item = (&'static str, u64)> {
        self.names
            .iter()
            .zip(&self.calls)
            .map(|(name, calls)| (*name, calls.load(Relaxed)))
            .filter(|(_, calls)| *calls > 0)
    }

    /// The other counters under the names that `INFO` gives them.
    pub(super) fn named(&self) -> [(&'static str, u64); 8] {
        [
            ("total_connections_received", self.connections.load(Relaxed)),
            ("rejected_connections", self.refused_connections.load(Relaxed)),
            ("client_output_buffer_limit_disconnections", self.cut_off.load(Relaxed)),
            ("total_error_replies", self.errors.load(Relaxed)),
            ("keyspace_hits", self.hits.load(Relaxed)),
            ("keyspace_misses", self.misses.load(Relaxed)),
            ("total_net_input_bytes", self.bytes_in.load(Relaxed)),
            ("total_net_output_bytes", self.bytes_out.load(Relaxed)),
        ]
    }
}
