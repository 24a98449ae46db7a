//! The flags, and what they come to.

use std::time::Duration;

use sapwood::client::ClientOptions;
use sapwood::config::Span;
use serde_json::{Value, json};

use super::keys::Distribution;
use super::mix::{Kind, Mix};
use super::value::{STAMP, ValueSize};
use crate::cli::WrongUsage;
use crate::cli::output::grouped;
use crate::cli::target::Target;

const LOAD: &str = "Load";
const PACE: &str = "Pace";
const KEYS: &str = "Keys";

/// How long requests are measured if nothing else is given.
const DURATION: Span = Span(Duration::from_secs(10));
/// Most requests under way, over all connections: each takes a task and a few hundred bytes.
const MAX_UNDER_WAY: u64 = 1_000_000;
/// The number of keys is exact as a floating-point number, and their names have one length.
const MAX_KEYS: u64 = 1_000_000_000;

/// Measure throughput and latency of a node, or of any Redis server
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  sapwood bench                                    # 90 % get, 10 % set, about ten seconds
  sapwood bench --mix set=1 --pipeline 16          # only writes, 16 under way on each connection
  sapwood bench --rate 20000                       # the latency at 20,000 requests per second
  sapwood bench --distribution zipf --value-size 64..4KiB --keys 1000000
  sapwood bench --verify --mix set=5,get=90,del=5  # exit code 1 if a value read is wrong
  sapwood bench --node 127.0.0.1:6379 --json       # a Redis server; JSON, for machines
  sapwood bench --keep && sapwood bench --no-load --reads 100    # two runs with the same keys
  sapwood bench --cleanup                          # deletes the keys of a run with --keep

It writes every key once, sends requests for --warm-up without measuring them, and then for --duration. Keys are named \
PREFIXkey:NUMBER, counters PREFIXcounter:NUMBER. At the end, also after Ctrl-C, it deletes them; a second Ctrl-C ends at once.

Without --rate each connection sends a request when a reply arrives (closed loop): the figure is the throughput, and a server \
that stands still for a second delays only as many requests as are under way. With --rate requests are due at fixed times, \
and latency counts from then (open loop): use it to learn the latency that users see.

Exit codes: 0 done, also after Ctrl-C; 1 a request failed, a value was wrong, or there is no server; 2 wrong usage.")]
pub(crate) struct Args {
    /// Commands and how often each is sent: set, get, incr, del [default: set=10,get=90]
    #[arg(long, value_name = "COMMAND=SHARE,…", help_heading = LOAD, conflicts_with = "reads")]
    mix: Option<Mix>,

    /// Percentage of get; the rest is set
    #[arg(long, value_name = "PERCENT", help_heading = LOAD)]
    #[arg(value_parser = clap::value_parser!(u16).range(0..=100))]
    reads: Option<u16>,

    /// How often each key is used: uniform, zipf (exponent 0.99) or zipf:EXPONENT
    #[arg(long, value_name = "LAW", default_value = "uniform", help_heading = LOAD)]
    pub(super) distribution: Distribution,

    /// Number of keys
    #[arg(long, value_name = "N", default_value_t = 100_000, help_heading = LOAD)]
    #[arg(value_parser = clap::value_parser!(u64).range(1..=MAX_KEYS))]
    pub(super) keys: u64,

    /// Bytes of a value, or a range from which they are drawn
    #[arg(long, value_name = "SIZE[..SIZE]", default_value = "100", help_heading = LOAD)]
    pub(super) value_size: ValueSize,

    /// Seed of the requests: one seed draws the same ones again
    #[arg(long, value_name = "N", default_value_t = 1, help_heading = LOAD)]
    pub(super) seed: u64,

    /// Number of connections
    #[arg(long, value_name = "N", default_value_t = 50, help_heading = PACE)]
    #[arg(value_parser = clap::value_parser!(u64).range(1..=50_000))]
    pub(super) connections: u64,

    /// Requests under way on each connection
    #[arg(long, value_name = "N", default_value_t = 1, help_heading = PACE)]
    #[arg(value_parser = clap::value_parser!(u64).range(1..=10_000))]
    pub(super) pipeline: u64,

    /// Threads that send requests [default: half of the cores]
    #[arg(long, value_name = "N", help_heading = PACE)]
    #[arg(value_parser = clap::value_parser!(u64).range(1..=256))]
    threads: Option<u64>,

    /// Open loop: requests per second, over all connections
    #[arg(long, value_name = "N", help_heading = PACE)]
    #[arg(value_parser = clap::value_parser!(u64).range(1..=10_000_000))]
    pub(super) rate: Option<u64>,

    /// How long to measure [default: 10s]
    #[arg(long, value_name = "TIME", help_heading = PACE, allow_hyphen_values = true)]
    duration: Option<Span>,

    /// How many requests to measure, instead of a duration
    #[arg(long, value_name = "N", help_heading = PACE, conflicts_with = "duration")]
    #[arg(value_parser = clap::value_parser!(u64).range(1..))]
    pub(super) requests: Option<u64>,

    /// How long to send requests before they are measured
    #[arg(long, value_name = "TIME", default_value = "1s", help_heading = PACE, allow_hyphen_values = true)]
    pub(super) warm_up: Span,

    /// Beginning of the names of all keys
    #[arg(long, value_name = "PREFIX", default_value = "bench:", help_heading = KEYS)]
    pub(super) prefix: String,

    /// Do not write every key before the first request
    #[arg(long, help_heading = KEYS)]
    pub(super) no_load: bool,

    /// Do not delete the keys at the end
    #[arg(long, help_heading = KEYS)]
    pub(super) keep: bool,

    /// Only delete the keys of an earlier run with the same --prefix and at most as many --keys
    #[arg(long, help_heading = KEYS, conflicts_with = "keep")]
    pub(super) cleanup: bool,

    /// Check that each value read is one that this run wrote to that key
    #[arg(long, help_heading = KEYS, conflicts_with = "no_load")]
    pub(super) verify: bool,

    #[command(flatten)]
    pub(super) target: Target,
}

impl Args {
    /// Checks what only several flags together show.
    pub(super) fn check(&self) -> Result<(), WrongUsage> {
        if self.verify && self.value_size.min < STAMP {
            return Err(WrongUsage(
                "--verify: a checked value has 56 bytes or more: give --value-size 56 or more",
            ));
        }
        if self.connections * self.pipeline > MAX_UNDER_WAY {
            return Err(WrongUsage(
                "--connections times --pipeline is more than 1,000,000: lower one of them",
            ));
        }
        if self.duration.is_some_and(|duration| duration.0.is_zero()) {
            return Err(WrongUsage("--duration: measure for some time: give 1ms or more"));
        }
        Ok(())
    }

    pub(super) fn mix(&self) -> Mix {
        self.mix.unwrap_or_else(|| Mix::reads(self.reads.unwrap_or(90)))
    }

    /// How long to measure; `None` if a number of requests ends the run.
    pub(super) fn duration(&self) -> Option<Duration> {
        self.requests.is_none().then(|| self.duration.unwrap_or(DURATION).0)
    }

    /// The number of threads: at most one for each connection.
    pub(super) fn threads(&self) -> u64 {
        let half = || std::thread::available_parallelism().map_or(1, |cores| cores.get() as u64 / 2);
        self.threads.unwrap_or_else(half).clamp(1, self.connections)
    }

    /// The options of each connection's client.
    pub(super) fn client_options(&self) -> anyhow::Result<ClientOptions> {
        let in_flight = usize::try_from(self.pipeline)?;
        Ok(ClientOptions { max_requests_in_flight: in_flight, ..self.target.client_options()? })
    }

    /// Whether a `get` of an absent key shows that a value was lost.
    pub(super) fn must_find(&self) -> bool {
        self.verify && !self.mix().contains(Kind::Del)
    }

    /// Describes the run in one line.
    pub(super) fn describe(&self) -> String {
        let pace = match self.rate {
            Some(rate) => format!("open loop, {} requests per second", grouped(rate)),
            None => "closed loop".to_owned(),
        };
        format!(
            "{} at {}: {} keys ({}), value size {}; connections {}, pipeline {}; {pace}",
            self.mix(),
            self.target.node,
            grouped(self.keys),
            self.distribution,
            self.value_size,
            grouped(self.connections),
            grouped(self.pipeline),
        )
    }

    /// The settings of the run as JSON.
    pub(super) fn json(&self) -> Value {
        let millis = |duration: Duration| u64::try_from(duration.as_millis()).unwrap_or(u64::MAX);
        json!({
            "node": self.target.node,
            "mix": self.mix().to_string(),
            "distribution": self.distribution.to_string(),
            "keys": self.keys,
            "value_bytes_min": self.value_size.min,
            "value_bytes_max": self.value_size.max,
            "seed": self.seed,
            "connections": self.connections,
            "pipeline": self.pipeline,
            "threads": self.threads(),
            "rate_per_second": self.rate,
            "duration_ms": self.duration().map(millis),
            "requests": self.requests,
            "warm_up_ms": millis(self.warm_up.0),
            "prefix": self.prefix,
            "verify": self.verify,
        })
    }
}

#[cfg(test)]
pub(super) mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Debug, Parser)]
    struct Bench {
        #[command(flatten)]
        args: Args,
    }

    /// The arguments of a command line, without the name of the command.
    pub(in crate::cli::bench) fn parse(line: &str) -> Args {
        let words = std::iter::once("bench").chain(line.split_whitespace());
        Bench::try_parse_from(words).unwrap_or_else(|error| panic!("{line}: {error}")).args
    }

    #[test]
    fn without_flags_ten_seconds_of_mostly_reads_are_measured() {
        let args = parse("");
        args.check().unwrap();
        assert_eq!((args.mix().to_string().as_str(), args.duration()), ("set=10,get=90", Some(DURATION.0)));
        assert_eq!(
            args.describe(),
            "set=10,get=90 at 127.0.0.1:7171: 100,000 keys (uniform), value size 100; connections 50, pipeline 1; \
             closed loop"
        );
        assert!((1..=50).contains(&args.threads()));
    }

    #[test]
    fn flags_that_contradict_each_other_are_refused() {
        for (line, reason) in [
            ("--verify --value-size 55..100", "--value-size 56 or more"),
            ("--connections 1000 --pipeline 1001", "lower one"),
            ("--duration 0s", "1ms or more"),
        ] {
            let refusal = parse(line).check().unwrap_err().to_string();
            assert!(refusal.contains(reason), "{refusal}");
        }
        parse("--verify --value-size 56 --connections 1000 --pipeline 1000").check().unwrap();
    }

    #[test]
    fn requests_end_a_run_instead_of_a_duration() {
        let args = parse("--requests 5 --threads 9 --connections 3 --reads 100 --rate 2000");
        assert_eq!((args.duration(), args.threads()), (None, 3));
        assert_eq!(args.mix().to_string(), "get=100");
        assert!(args.describe().ends_with("open loop, 2,000 requests per second"));
    }

    #[test]
    fn a_missing_value_is_wrong_only_if_nothing_deletes() {
        assert!(parse("--verify").must_find());
        assert!(!parse("--verify --mix get=1,del=1").must_find());
        assert!(!parse("").must_find());
    }
}
