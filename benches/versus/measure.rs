//! The measures: each starts its servers, takes its figures, and ends them.

use std::collections::BTreeMap;
use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use serde::Serialize;

use crate::options::{Measure, Options, Pinning};
use crate::server::{Contender, Server};
use crate::support::cores::{self, Cores};
use crate::support::figures::{millis, quantile};
use crate::support::load::{self, Command, Done, Load, encode, write_digits};
use crate::support::process::Cpu;

/// One measurement of one server.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Sample {
    pub(crate) measure: Measure,
    /// Which of the measure's cases, as `SET P=16`.
    pub(crate) case: String,
    pub(crate) server: String,
    pub(crate) run: u32,
    pub(crate) figures: BTreeMap<&'static str, f64>,
}

/// What every measure needs.
pub(crate) struct Bench<'a> {
    pub(crate) options: &'a Options,
    pub(crate) cores: &'a Cores,
    /// A folder for logs, gone afterwards.
    pub(crate) scratch: &'a Path,
    pub(crate) run: u32,
    pub(crate) contender: &'a Contender,
}

impl Bench<'_> {
    pub(crate) fn take(&self, measure: Measure) -> Result<Vec<Sample>> {
        match measure {
            Measure::Throughput => self.throughput(),
            Measure::Memory => self.memory(),
            Measure::Lag => self.lag(),
            Measure::CatchUp => self.catch_up(),
        }
        .with_context(|| format!("{measure:?} of {}", self.contender.name))
    }

    fn sample(&self, measure: Measure, case: &str, figures: &[(&'static str, f64)]) -> Sample {
        Sample {
            measure,
            case: case.into(),
            server: self.contender.name.clone(),
            run: self.run,
            figures: figures.iter().copied().collect(),
        }
    }

    fn throughput(&self) -> Result<Vec<Sample>> {
        let server = self.contender.alone(self.scratch, self.while_starting(self.cores.server()))?;
        let linked = if self.contender.has_peers() { self.options.linked as usize } else { 0 };
        let peers: Vec<_> = (0..linked)
            .map(|_| self.contender.follower(self.scratch, self.in_use(self.cores.peers()), &server))
            .collect::<Result<_>>()?;
        server.until_ready()?;
        if linked > 0 {
            server.until_linked(linked)?;
        }
        cores::move_to(self.in_use(self.cores.server()), server.process.id())?;
        self.fill(&server)?;

        let mut samples = Vec::new();
        for &pipeline in &self.options.pipelines {
            for &command in &self.options.commands {
                let load =
                    Load { command, pipeline, connections: connections(pipeline), keys: self.options.keys() };
                server.until_held_by(&peers)?;
                samples.push(self.throughput_of(load, &server, &peers)?);
            }
        }
        Ok(samples)
    }

    fn throughput_of(&self, load: Load, server: &Server, peers: &[Server]) -> Result<Sample> {
        let seed = u64::from(self.run) << 32 | u64::from(load.pipeline) << 8;
        let warm_up = self.options.duration() / 10;
        let generator = self.options.generator;
        let first = self.drive(server, || generator.run(load, server.client, warm_up, seed + 2, None))?;
        server.until_held_by(peers)?;

        let peers_before = total_cpu(peers)?;
        let before = server.process.cpu()?;
        let duration = self.options.duration();
        let done =
            self.drive(server, || generator.run(load, server.client, duration, seed + 4, Some(first)))?;
        let sent = server.process.cpu()?.since(before);
        let ended = Instant::now();
        server.until_held_by(peers)?;
        let catch_up = ended.elapsed();
        let until_caught_up = server.process.cpu()?.since(before);
        let peers_used = total_cpu(peers)?.saturating_sub(peers_before);

        let requests = done.requests as f64;
        let micros_each = |used: Duration| used.as_secs_f64() * 1e6 / requests;
        let case = format!("{:?} P={}", load.command, load.pipeline).to_uppercase();
        Ok(self.sample(
            Measure::Throughput,
            &case,
            &[
                ("requests_per_cpu_second", requests / until_caught_up.used.as_secs_f64()),
                ("requests_per_cpu_second_before_catch_up", requests / sent.used.as_secs_f64()),
                ("requests_per_second", requests / done.elapsed.as_secs_f64()),
                ("cpu_micros_per_request", micros_each(until_caught_up.used)),
                ("peers_cpu_micros_per_request", micros_each(peers_used)),
                ("busy_percent", share(sent.used, done.elapsed)),
                ("waited_percent", share(sent.waited, done.elapsed)),
                ("catch_up_millis", catch_up.as_secs_f64() * 1e3),
            ],
        ))
    }

    fn memory(&self) -> Result<Vec<Sample>> {
        let server = self.contender.alone(self.scratch, self.cores.server())?;
        server.until_ready()?;
        let empty = server.process.resident()?;
        self.fill(&server)?;
        let full = server.process.resident()?;
        let keys = f64::from(self.options.keys());
        Ok(vec![self.sample(
            Measure::Memory,
            "resident",
            &[
                ("bytes_per_key", full.saturating_sub(empty) as f64 / keys),
                ("empty_mib", empty as f64 / f64::from(1 << 20)),
                ("full_mib", full as f64 / f64::from(1 << 20)),
            ],
        )])
    }

    fn lag(&self) -> Result<Vec<Sample>> {
        let origin = self.contender.alone(self.scratch, self.cores.all())?;
        let follower = self.contender.follower(self.scratch, self.cores.all(), &origin)?;
        origin.until_ready()?;
        follower.until_ready()?;
        if self.contender.has_peers() {
            origin.until_linked(1)?;
            follower.until_linked(1)?;
        }

        let mut probe = Probe::new(&origin, &follower)?;
        let warm_up = self.options.lag_samples() / 10;
        for _ in 0..warm_up {
            probe.lag()?;
        }
        let mut lags: Vec<_> = (0..self.options.lag_samples()).map(|_| probe.lag()).collect::<Result<_>>()?;
        let mut gets: Vec<_> =
            (0..self.options.lag_samples()).map(|_| probe.round_trip()).collect::<Result<_>>()?;
        lags.sort_unstable();
        gets.sort_unstable();
        Ok(vec![self.sample(
            Measure::Lag,
            "write to visible",
            &[
                ("p99_millis", millis(quantile(&lags, 99))),
                ("p50_millis", millis(quantile(&lags, 50))),
                ("max_millis", millis(quantile(&lags, 100))),
                ("get_p50_millis", millis(quantile(&gets, 50))),
                ("get_p99_millis", millis(quantile(&gets, 99))),
            ],
        )])
    }

    fn catch_up(&self) -> Result<Vec<Sample>> {
        let source = self.contender.alone(self.scratch, self.cores.all())?;
        source.until_ready()?;
        self.fill(&source)?;
        let before = source.process.cpu()?;
        let fresh = self.contender.follower(self.scratch, self.cores.all(), &source)?;
        source.until_held_by([&fresh])?;
        let held = fresh.started.elapsed();
        fresh.until_ready()?;
        let ready = fresh.started.elapsed();
        let received = fresh.received()? as f64;
        Ok(vec![self.sample(
            Measure::CatchUp,
            "all keys",
            &[
                ("seconds", held.as_secs_f64()),
                ("ready_seconds", ready.as_secs_f64()),
                ("received_mb", received / 1e6),
                ("received_bytes_per_key", received / f64::from(self.options.keys())),
                ("source_cpu_seconds", source.process.cpu()?.since(before).used.as_secs_f64()),
                ("fresh_cpu_seconds", fresh.process.cpu()?.used.as_secs_f64()),
            ],
        )])
    }

    /// The cores on which the measured server starts: these, or all.
    fn while_starting<'c>(&'c self, cores: &'c [usize]) -> &'c [usize] {
        if self.options.pinning == Pinning::Start { cores } else { self.cores.all() }
    }

    /// The cores on which something runs during the measurement: these, or all.
    fn in_use<'c>(&'c self, cores: &'c [usize]) -> &'c [usize] {
        if self.options.pinning == Pinning::Never { self.cores.all() } else { cores }
    }

    fn fill(&self, server: &Server) -> Result<()> {
        let load = Load { command: Command::Set, pipeline: 100, connections: 4, keys: self.options.keys() };
        self.drive(server, || load.each(server.client))?;
        Ok(())
    }

    /// Runs a load on the load's core. If it fails because the server ended, that is the error.
    fn drive(&self, server: &Server, load: impl FnOnce() -> Result<Done>) -> Result<Done> {
        cores::on(self.in_use(self.cores.load()), load)?.map_err(|error| match server.check() {
            Ok(()) => error,
            Err(ended) => error.context(ended),
        })
    }
}

/// Writes on one server and watches another for it.
struct Probe {
    origin: TcpStream,
    follower: TcpStream,
    set: Vec<u8>,
    get: Vec<u8>,
    count: u32,
}

/// Digits of the values a probe writes.
const DIGITS: usize = 8;
/// Bytes of the reply that carries one: `$8`, the digits, two line ends.
const REPLY: usize = DIGITS + 6;

impl Probe {
    fn new(origin: &Server, follower: &Server) -> Result<Probe> {
        let mut probe = Probe {
            origin: load::open(origin.client)?,
            follower: load::open(follower.client)?,
            set: encode(&[b"SET", b"lag:probe", &[b'0'; DIGITS]]),
            get: encode(&[b"GET", b"lag:probe"]),
            count: 0,
        };
        // From here on every GET on the follower finds a value, so that all its replies have one size.
        probe.origin.write_all(&probe.set)?;
        probe.origin.read_exact(&mut [0; 5])?;
        origin.until_held_by([follower])?;
        Ok(probe)
    }

    /// From before a write is sent until the follower has shown it. The write's own reply is read afterwards.
    fn lag(&mut self) -> Result<Duration> {
        self.count += 1;
        let mut wanted = [b'0'; DIGITS];
        write_digits(&mut wanted, self.count);
        let value_at = self.set.len() - DIGITS - 2;
        self.set[value_at..value_at + DIGITS].copy_from_slice(&wanted);

        let started = Instant::now();
        self.origin.write_all(&self.set)?;
        while self.read()? != wanted {
            anyhow::ensure!(started.elapsed() < Duration::from_secs(10), "a write is not visible after 10 s");
        }
        let lag = started.elapsed();
        self.origin.read_exact(&mut [0; 5])?;
        Ok(lag)
    }

    /// What a read alone takes.
    fn round_trip(&mut self) -> Result<Duration> {
        let started = Instant::now();
        self.read()?;
        Ok(started.elapsed())
    }

    fn read(&mut self) -> Result<[u8; DIGITS]> {
        self.follower.write_all(&self.get)?;
        let mut reply = [0; REPLY];
        self.follower.read_exact(&mut reply)?;
        let mut value = [0; DIGITS];
        value.copy_from_slice(&reply[4..4 + DIGITS]);
        Ok(value)
    }
}

/// As many connections as a client pool of a service has; few where each carries many requests at once.
fn connections(pipeline: u32) -> u32 {
    if pipeline == 1 { 50 } else { 8 }
}

fn total_cpu(servers: &[Server]) -> Result<Duration> {
    let each = servers.iter().map(|server| server.process.cpu());
    each.map(|cpu| cpu.map(|Cpu { used, .. }| used)).sum()
}

fn share(part: Duration, whole: Duration) -> f64 {
    100.0 * part.as_secs_f64() / whole.as_secs_f64()
}
