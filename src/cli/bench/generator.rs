//! The threads that send requests.
//!
//! ```text
//!   thread ─┬─ connection ─┬─ worker: draw, send, await the reply, record
//!           │              └─ worker …            one for each place of the pipeline
//!           └─ connection …
//! ```
//!
//! Each thread has a runtime, connections and a tally of its own, so threads share nothing while they measure, except
//! the count of requests that are left (`--requests`) and the sequence of stamps (`--verify`).

use std::io;
use std::pin::pin;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use sapwood::client::{Client, ClientOptions};
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;
use tokio::time::{sleep_until, timeout};
use tokio_util::sync::CancellationToken;

use super::args::Args;
use super::cpu::CpuTime;
use super::pace::Pace;
use super::schedule::Schedule;
use super::tally::Tally;
use super::value::Values;
use super::worker::Worker;
use crate::cli::target::explain;

/// Most events of a thread.
pub(super) const EVENTS: usize = 2;
/// How long replies are awaited after Ctrl-C.
const LAST_REPLIES: Duration = Duration::from_millis(500);

/// The tally of a thread, which the progress line reads meanwhile.
#[derive(Debug, Clone, Default)]
pub(super) struct SharedTally(Arc<Mutex<Tally>>);

impl SharedTally {
    pub(super) fn lock(&self) -> MutexGuard<'_, Tally> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The times of a run, which are the same for all threads.
#[derive(Debug, Clone, Copy)]
pub(super) struct Times {
    pub(super) start: Instant,
    /// Requests that are sent, or due, from here on are measured.
    pub(super) counts_from: Instant,
    /// No request is sent from here on.
    pub(super) end: Option<Instant>,
}

impl Times {
    pub(super) fn starting_now(args: &Args) -> Times {
        let start = Instant::now();
        let counts_from = start + args.warm_up.0;
        Times { start, counts_from, end: args.duration().map(|duration| counts_from + duration) }
    }
}

/// What all threads share.
#[derive(Debug)]
pub(super) struct Job {
    pub(super) args: Arc<Args>,
    pub(super) options: ClientOptions,
    /// Cloned by each worker.
    pub(super) values: Values,
    /// Requests that may still be measured, with `--requests`.
    pub(super) left: Option<AtomicU64>,
    /// Set once all threads are connected.
    pub(super) times: watch::Receiver<Option<Times>>,
    pub(super) stop: CancellationToken,
}

/// What a thread reports: at most [`EVENTS`] times.
#[derive(Debug)]
pub(super) enum Event {
    /// It is connected, and waits for the start.
    Connected,
    /// It has ended.
    Ended(anyhow::Result<Part>),
}

/// What a thread has found out beside its tally.
#[derive(Debug, Default)]
pub(super) struct Part {
    /// Its processor time since [`Times::counts_from`], and the time that has passed.
    pub(super) cpu: Option<(CpuTime, Duration)>,
    /// Requests that were due and have not been sent.
    pub(super) unsent: u64,
    /// Requests without a reply when the thread was stopped.
    pub(super) unanswered: u64,
}

/// Starts thread number `thread`, which sends its events to `events`.
pub(super) fn start(
    job: Arc<Job>,
    thread: u64,
    tally: SharedTally,
    events: mpsc::Sender<Event>,
) -> io::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    std::thread::Builder::new().name(format!("bench-{thread}")).spawn(move || {
        let part = runtime.block_on(run(&job, thread, &tally, &events));
        // If nobody listens any more, the command has ended.
        let _ = events.try_send(Event::Ended(part));
    })?;
    Ok(())
}

async fn run(
    job: &Arc<Job>,
    thread: u64,
    tally: &SharedTally,
    events: &mpsc::Sender<Event>,
) -> anyhow::Result<Part> {
    let clients = connect(job, thread).await?;
    let _ = events.try_send(Event::Connected);
    let mut times = job.times.clone();
    let Some(times) = *times.wait_for(Option::is_some).await? else { return Ok(Part::default()) };

    let args = &job.args;
    let stopped = Arc::new(AtomicBool::new(false));
    let schedule = args.rate.map(|rate| Schedule::new(rate, thread, args.threads()));
    let pace =
        schedule.map(|schedule| Pace::new(schedule, times, job.stop.clone())).transpose()?.map(Arc::new);
    let mut workers = JoinSet::new();
    for (connection, client) in clients {
        for place in 0..args.pipeline {
            let number = connection * args.pipeline + place;
            let worker = Worker::new(Arc::clone(job), number, client.clone(), tally.clone(), times);
            workers.spawn(worker.run(pace.clone(), Arc::clone(&stopped)));
        }
    }
    let measuring = tokio::spawn(async move {
        sleep_until(times.counts_from.into()).await;
        (CpuTime::of_thread(), Instant::now())
    });

    let sent_until = ended(&mut workers, &job.stop, &stopped).await?;
    let now = Instant::now();
    let unanswered = workers.len() as u64;
    workers.shutdown().await;
    let unsent = match &pace {
        // A number of requests ends the run when all of them are sent.
        Some(pace) if args.requests.is_none() => {
            pace.unsent(times.end.unwrap_or(sent_until).min(sent_until)).await
        }
        _ => 0,
    };
    let mut cpu = None;
    if measuring.is_finished()
        && let (Some(before), since) = measuring.await?
        && let Some(after) = CpuTime::of_thread()
    {
        cpu = Some((after.since(before), now.saturating_duration_since(since)));
    }
    Ok(Part { cpu, unsent, unanswered })
}

/// Makes the connections of a thread: every `threads`-th of all, with its number.
async fn connect(job: &Job, thread: u64) -> anyhow::Result<Vec<(u64, Client)>> {
    let (node, threads) = (&job.args.target.node, usize::try_from(job.args.threads())?);
    let mut clients = Vec::new();
    for connection in (thread..job.args.connections).step_by(threads) {
        let client = Client::connect_with([node], job.options.clone()).await;
        clients.push((connection, client.map_err(|error| explain(&error))?));
    }
    Ok(clients)
}

/// Waits until all workers have ended, after a stop not for long. Returns when the last request may have been sent.
async fn ended(
    workers: &mut JoinSet<io::Result<()>>,
    stop: &CancellationToken,
    stopped: &AtomicBool,
) -> io::Result<Instant> {
    let mut all = pin!(async {
        while let Some(worker) = workers.join_next().await {
            worker.unwrap_or_else(|panic| std::panic::resume_unwind(panic.into_panic()))?;
        }
        Ok(())
    });
    tokio::select! {
        ended = &mut all => ended.map(|()| Instant::now()),
        () = stop.cancelled() => {
            stopped.store(true, Ordering::Relaxed);
            let now = Instant::now();
            timeout(LAST_REPLIES, all).await.unwrap_or(Ok(())).map(|()| now)
        }
    }
}
