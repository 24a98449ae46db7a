//! `sapwood bench`: a load generator over the client.
//!
//! ```text
//!   Args ► keyspace: writes every key
//!          generator: threads × connections × workers ─ requests ─► server
//!             draws by mix, keys, value      records in a tally
//!             paces by schedule (open loop)
//!          report: table, notes, JSON
//!          keyspace: deletes every key
//! ```
//!
//! `mix`, `keys`, `value`, `schedule`, `tally` and `report` are pure: randomness and times are arguments.

mod args;
mod cpu;
mod generator;
mod keys;
mod keyspace;
mod mix;
mod pace;
mod report;
mod schedule;
mod tally;
mod value;
mod worker;

use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::{Duration, Instant};

use anyhow::{Context as _, anyhow};
use rand::rngs::StdRng;
use rand::{RngCore as _, SeedableRng as _};
use sapwood::client::Connection;
use tokio::sync::{mpsc, watch};
use tokio_util::sync::CancellationToken;

pub(crate) use self::args::Args;
use self::generator::{Event, Job, Part, SharedTally, Times};
use self::report::Report;
use self::tally::Tally;
use self::value::{Stamps, Values};
use super::Exit;
use super::output::{self, grouped};
use super::progress::Progress;
use super::stop::Stop;
use super::target::explain;

/// Open files of each thread's runtime, and of all else: streams, signals, the main thread, its connection.
#[cfg(unix)]
const FILES_PER_THREAD: u64 = 5;
#[cfg(unix)]
const OTHER_FILES: u64 = 20;
/// How often the progress is shown.
const SHOW_EVERY: Duration = Duration::from_millis(250);

pub(crate) async fn run(args: Args) -> anyhow::Result<Exit> {
    args.check()?;
    #[cfg(unix)]
    make_room(&args)?;
    let mut stop = Stop::new().context("cannot watch for Ctrl-C")?;
    let args = Arc::new(args);
    // A server that is not there, or wants a password, is reported before anything else.
    let mut connection = args.target.connection(false).await?;
    connection.call(&[b"PING"]).await.map_err(|error| explain(&error))?;
    if args.cleanup {
        return clean_up(&args, &mut stop).await;
    }

    let result = load_and_measure(&args, connection, &mut stop).await;
    if args.keep {
        return result;
    }
    match (result, clean_up(&args, &mut stop).await) {
        (Err(error), cleaned) => {
            if let Err(second) = cleaned {
                eprintln!("{second:#}");
            }
            Err(error)
        }
        (Ok(exit), cleaned) => cleaned.map(|_| exit),
    }
}

async fn load_and_measure(
    args: &Arc<Args>,
    mut connection: Connection,
    stop: &mut Stop,
) -> anyhow::Result<Exit> {
    let stamps = args.verify.then(|| Arc::new(Stamps::new(StdRng::from_os_rng().next_u64())));
    let mut values = Values::new(args.value_size, stamps, args.seed);
    let mut progress = Progress::default();
    if !args.no_load {
        let mut random = StdRng::seed_from_u64(args.seed);
        tokio::select! {
            loaded = keyspace::load(args, &mut connection, &mut values, &mut random, &mut progress) => loaded?,
            signal = stop.asked() => return Err(anyhow!("{signal} before anything was measured")),
        }
    }
    drop(connection);
    let report = measure(args, values, stop, &mut progress).await?;
    drop(progress);
    show(args, &report)
}

/// Raises the limit on open files, and checks that all connections fit.
#[cfg(unix)]
fn make_room(args: &Args) -> anyhow::Result<()> {
    super::open_files::raise();
    match super::open_files::limit() {
        Some(limit) if args.connections + args.threads() * FILES_PER_THREAD + OTHER_FILES > limit => {
            Err(anyhow!(
                "--connections {}: this shell allows {limit} open files: give fewer, or raise it with `ulimit -n`",
                args.connections
            ))
        }
        _ => Ok(()),
    }
}

/// Deletes the keys of a run, by a new connection: the last one may have failed.
async fn clean_up(args: &Args, stop: &mut Stop) -> anyhow::Result<Exit> {
    let mut progress = Progress::default();
    let work = async {
        let mut connection = args.target.connection(false).await?;
        keyspace::delete(args, &mut connection, &mut progress).await
    };
    let left = "keys of the run are left (sapwood bench --cleanup deletes them)";
    let deleted = tokio::select! {
        deleted = work => deleted.context(left)?,
        signal = stop.asked() => return Err(anyhow!("{signal}: {left}")),
    };
    drop(progress);
    if args.cleanup {
        if args.target.json {
            output::json(&serde_json::json!({ "deleted": deleted }))?;
        } else {
            output::line(&format!("{} deleted", grouped(deleted)))?;
        }
    }
    Ok(Exit::Done)
}

/// Writes the report.
fn show(args: &Args, report: &Report) -> anyhow::Result<Exit> {
    if args.target.json {
        output::json(&report.json(args))?;
    } else {
        report.lines(args).iter().try_for_each(|line| output::line(line))?;
    }
    for note in report.notes(args) {
        eprintln!("{note}");
    }
    Ok(if report.is_good() { Exit::Done } else { Exit::Failed })
}

/// Runs the threads, shows the progress and returns what they have found out.
async fn measure(
    args: &Arc<Args>,
    values: Values,
    stop: &mut Stop,
    progress: &mut Progress,
) -> anyhow::Result<Report> {
    let (set_times, times) = watch::channel(None);
    let job = Arc::new(Job {
        args: Arc::clone(args),
        options: args.client_options()?,
        values,
        left: args.requests.map(AtomicU64::new),
        times,
        stop: CancellationToken::new(),
    });
    // However this ends, the threads end too.
    let _stop_threads = job.stop.clone().drop_guard();
    let tallies: Vec<SharedTally> = (0..args.threads()).map(|_| SharedTally::default()).collect();
    let (send, mut events) = mpsc::channel(tallies.len() * generator::EVENTS);
    for (thread, tally) in (0..).zip(&tallies) {
        generator::start(Arc::clone(&job), thread, tally.clone(), send.clone())?;
    }
    drop(send);
    let (mut connected, mut parts) = (0, Vec::<Part>::new());
    let mut times: Option<Times> = None;
    let mut interrupted = false;
    let mut ticks = tokio::time::interval(SHOW_EVERY);
    let mut shown = Shown::default();
    while parts.len() < tallies.len() {
        tokio::select! {
            event = events.recv() => match event.context("a thread has ended without a result")? {
                Event::Connected => {
                    connected += 1;
                    if connected == tallies.len() {
                        times = Some(Times::starting_now(args));
                        set_times.send_replace(times);
                    }
                }
                Event::Ended(part) => parts.push(part?),
            },
            _ = ticks.tick() => progress.show(&shown.line(args, &tallies, times))?,
            // A second signal stays pending, and skips the deletion of the keys.
            signal = stop.asked(), if !interrupted => {
                if times.is_none() {
                    return Err(anyhow!("{signal} before anything was measured"));
                }
                interrupted = true;
                job.stop.cancel();
            }
        }
    }
    let mut tally = Tally::default();
    tallies.iter().for_each(|thread| tally.add(&thread.lock()));
    let from = times.map(|times| times.counts_from);
    let elapsed =
        tally.last.zip(from).map_or(Duration::ZERO, |(last, from)| last.saturating_duration_since(from));
    Ok(Report {
        elapsed,
        interrupted,
        cpu: parts.iter().filter_map(|part| part.cpu).collect(),
        unsent: parts.iter().map(|part| part.unsent).sum(),
        unanswered: parts.iter().map(|part| part.unanswered).sum(),
        tally,
    })
}

/// The figures of the last progress line.
#[derive(Debug, Default)]
struct Shown {
    at: Option<Instant>,
    requests: u64,
}

impl Shown {
    /// The next progress line.
    fn line(&mut self, args: &Args, tallies: &[SharedTally], times: Option<Times>) -> String {
        let now = Instant::now();
        let Some(times) = times else { return "connecting".to_owned() };
        let Some(passed) = now.checked_duration_since(times.counts_from) else {
            return "warming up".to_owned();
        };
        let sum = |count: fn(&Tally) -> u64| tallies.iter().map(|tally| count(&tally.lock())).sum::<u64>();
        let (requests, failed, wrong) = (sum(Tally::succeeded), sum(Tally::failed), sum(Tally::all_wrong));
        let since = now.saturating_duration_since(self.at.unwrap_or(times.counts_from)).as_secs_f64();
        let rate = (requests - self.requests) as f64 / since.max(1e-3);
        (self.at, self.requests) = (Some(now), requests);
        let far = match (args.duration(), args.requests) {
            (Some(duration), _) => format!("{}s of {}", passed.as_secs(), sapwood::config::Span(duration)),
            (_, Some(all)) => format!("{} of {} requests", grouped(requests), grouped(all)),
            (None, None) => format!("{}s", passed.as_secs()),
        };
        let bad = match (failed, wrong) {
            (0, 0) => String::new(),
            (failed, 0) => format!(", {} failed", grouped(failed)),
            (failed, wrong) => format!(", {} failed, {} WRONG", grouped(failed), grouped(wrong)),
        };
        format!("measuring: {far}, {rate:.0} requests per second{bad}")
    }
}
