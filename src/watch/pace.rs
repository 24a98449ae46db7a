//! Pacing: limits how much of the node's time its watchers may take.
//!
//! Writers and watchers share the runtime's threads, and with a thousand watchers one write can cause more work for
//! them than it was itself. So all watchers of a node draw on one bucket of time. The time in the bucket may be taken
//! at once: under light load no watcher waits. Beyond that the watchers take turns, in the order in which they came,
//! for half of the time that all other tasks leave idle. A watcher that waits longer finds fewer changes, because
//! changes of one key are conflated. If clients use every thread fully, half of the idle time shrinks each time it is
//! measured. So there is a least share, small enough that clients hardly notice and large enough that every watcher
//! gets turns.

use std::time::Duration;

use tokio::runtime::Handle;
use tokio::sync::Semaphore;
use tokio::time::{Instant, sleep_until};
use tracing_mutex::parkinglot::Mutex;

/// The smallest and the largest share of each thread's time that watchers may take on average.
const LEAST: f64 = 1.0 / 64.0;
const MOST: f64 = 1.0 / 2.0;
/// The time over which the load of the threads is measured.
const WINDOW: Duration = Duration::from_millis(20);
/// The resolution of the runtime's timers.
const TICK: Duration = Duration::from_millis(1);
/// The time that watchers may take at once after a pause: enough to send a change to ten thousand watchers.
const BURST: Duration = Duration::from_millis(200);

/// The work that the runtime's threads have done.
#[derive(Clone, Copy, Debug)]
pub(super) struct Work {
    threads: f64,
    /// The total time that all threads were busy so far.
    busy: Duration,
}

impl Work {
    /// The work of the current runtime; no work outside a runtime.
    pub(super) fn of_runtime() -> Work {
        let Ok(runtime) = Handle::try_current() else { return Work { threads: 1.0, busy: Duration::ZERO } };
        let metrics = runtime.metrics();
        let threads = metrics.num_workers();
        let busy = (0..threads).map(|thread| metrics.worker_total_busy_duration(thread)).sum();
        Work { threads: f64::from(u32::try_from(threads).unwrap_or(u32::MAX)), busy }
    }
}

/// The bucket. A watcher waits for a turn, takes it, and [pays](Pace::pay) for it.
pub(super) struct Pace {
    /// Lets watchers check the bucket one at a time, in the order in which they arrived.
    queue: Semaphore,
    bucket: Mutex<Bucket>,
}

struct Bucket {
    /// The seconds in the bucket; negative if watchers took more than it had.
    holds: f64,
    /// Seconds that flow in per second: the watchers' share of all threads.
    inflow: f64,
    filled: Option<Instant>,
    looked: Option<(Work, Instant)>,
    /// Seconds paid since `looked`.
    paid: f64,
}

impl Bucket {
    fn fill(&mut self, now: Instant) {
        let since = self.filled.replace(now).map_or(Duration::ZERO, |filled| now.duration_since(filled));
        self.holds = since.as_secs_f64().mul_add(self.inflow, self.holds).min(BURST.as_secs_f64());
    }

    /// Measures how busy the threads have been, unless they were measured less than [`WINDOW`] ago.
    fn look(&mut self, work: impl Fn() -> Work, now: Instant) {
        let Some((before, at)) = self.looked else {
            let work = work();
            self.inflow = LEAST * work.threads;
            self.looked = Some((work, now));
            return;
        };
        let passed = now.duration_since(at);
        if passed >= WINDOW {
            let work = work();
            let all = passed.as_secs_f64() * work.threads;
            let others = (work.busy.saturating_sub(before.busy).as_secs_f64() - self.paid).max(0.0);
            let idle = 1.0 - others / all;
            self.inflow = (idle / 2.0).clamp(LEAST, MOST) * work.threads;
            self.looked = Some((work, now));
            self.paid = 0.0;
        }
    }
}

impl Pace {
    pub(super) fn new() -> Self {
        let bucket =
            Bucket { holds: BURST.as_secs_f64(), inflow: LEAST, filled: None, looked: None, paid: 0.0 };
        Pace { queue: Semaphore::new(1), bucket: Mutex::new(bucket) }
    }

    /// Waits for a turn; `work` returns what the threads have done so far. Cancel-safe: a caller that leaves loses
    /// only its place.
    pub(super) async fn turn(&self, work: impl Fn() -> Work) {
        let first = self.queue.acquire().await.expect("the semaphore is never closed");
        // Check again after each sleep: an earlier turn may have been paid for meanwhile.
        while let Some(begins) = self.begins(&work) {
            sleep_until(begins).await;
        }
        drop(first);
    }

    /// Takes `time` out of the bucket.
    pub(super) fn pay(&self, time: Duration) {
        let mut bucket = self.bucket.lock();
        bucket.holds -= time.as_secs_f64();
        bucket.paid += time.as_secs_f64();
    }

    /// When to check the bucket again; `None` if it holds time now.
    fn begins(&self, work: impl Fn() -> Work) -> Option<Instant> {
        let now = Instant::now();
        let mut bucket = self.bucket.lock();
        bucket.fill(now);
        bucket.look(work, now);
        let missing = -bucket.holds;
        (missing > 0.0).then(|| now + Duration::from_secs_f64(missing / bucket.inflow).clamp(TICK, WINDOW))
    }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;
    use std::sync::Arc;

    use super::*;

    const TURN: Duration = Duration::from_micros(200);

    /// A runtime of two threads that other tasks keep partly busy.
    struct Runtime {
        pace: Pace,
        start: Instant,
        others: f64,
        paid: Cell<Duration>,
    }

    impl Runtime {
        fn new(others: f64) -> Runtime {
            Runtime { pace: Pace::new(), start: Instant::now(), others, paid: Cell::default() }
        }

        /// Takes so many turns; returns their share of the threads' time.
        async fn take(&self, turns: u32) -> f64 {
            let start = Instant::now();
            let work = || {
                let all = self.start.elapsed() * 2;
                // Threads cannot be busy for longer than the elapsed time.
                Work { threads: 2.0, busy: all.min(all.mul_f64(self.others) + self.paid.get()) }
            };
            for _ in 0..turns {
                self.pace.turn(work).await;
                self.pace.pay(TURN);
                self.paid.set(self.paid.get() + TURN);
            }
            (TURN * turns).as_secs_f64() / (2.0 * start.elapsed().as_secs_f64())
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_burst_goes_at_once_and_comes_back_when_nobody_takes_turns() {
        let runtime = Runtime::new(1.0);
        for _ in 0..3 {
            let start = Instant::now();
            runtime.take(1000).await;
            assert_eq!(start.elapsed(), Duration::ZERO, "{:?} are {BURST:?}", TURN * 1000);
            runtime.take(10).await;
            assert!(start.elapsed() > TURN * 9);
            tokio::time::sleep(BURST.mul_f64(1.0 / LEAST)).await;
        }
    }

    /// In the last case clients always have requests: they take all the time that the turns leave.
    #[tokio::test(start_paused = true)]
    async fn turns_take_half_of_what_others_leave() {
        for (others, expected) in [(0.0, 0.5), (0.5, 0.25), (0.8, 0.1), (1.0, LEAST)] {
            let runtime = Runtime::new(others);
            runtime.take(2000).await;
            let part = runtime.take(5000).await;
            assert!((part / expected - 1.0).abs() < 0.15, "{others}: {part}, not {expected}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn who_waits_for_its_turn_and_leaves_holds_nobody_up() {
        let pace = Arc::new(Pace::new());
        pace.pay(BURST * 2);
        let wait = |pace: Arc<Pace>| tokio::spawn(async move { pace.turn(Work::of_runtime).await });
        let tasks: Vec<_> = (0..10).map(|_| wait(Arc::clone(&pace))).collect();
        tokio::task::yield_now().await;
        tasks[..9].iter().for_each(tokio::task::JoinHandle::abort);
        let last = tasks.into_iter().next_back();
        let long = BURST.mul_f64(2.0 / LEAST);
        tokio::time::timeout(long, async { last.unwrap().await.unwrap() }).await.unwrap();
    }
}
