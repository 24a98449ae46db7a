//! Keeps a thread's workers to the schedule of the open loop.

use std::io;
use std::time::{Duration, Instant};

use tokio::sync::Mutex;
use tokio_util::sync::CancellationToken;

use super::generator::Times;
use super::schedule::Schedule;

/// Hands the due times of one thread to its workers, each at its time.
///
/// The workers that are free queue for the lock. The first of them waits for the due time, takes it and lets the next
/// one wait, so one timer is enough.
#[derive(Debug)]
pub(super) struct Pace {
    times: Times,
    stop: CancellationToken,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    schedule: Schedule,
    timer: Timer,
}

/// When a request was due.
#[derive(Debug, Clone, Copy)]
pub(super) struct Due {
    pub(super) at: Instant,
    /// Whether a worker was free then. If not, all pipelines were full.
    pub(super) was_free: bool,
}

impl Pace {
    /// A pace until the end, if there is one, or until `stop`.
    pub(super) fn new(schedule: Schedule, times: Times, stop: CancellationToken) -> io::Result<Pace> {
        let state = State { schedule, timer: Timer::new()? };
        Ok(Pace { times, stop, state: Mutex::new(state) })
    }

    /// Waits until a request is due; `None` if no more will be sent. The worker has been free since `free_since`.
    pub(super) async fn next(&self, free_since: Instant) -> io::Result<Option<Due>> {
        let mut state = self.state.lock().await;
        let (Times { start, counts_from, end }, now) = (self.times, Instant::now());
        if now >= counts_from {
            // Otherwise a warm-up at too high a rate would leave no time to measure anything.
            state.schedule.skip_before(counts_from - start);
        }
        let at = start + state.schedule.due();
        if end.is_some_and(|end| at >= end || now >= end) || self.stop.is_cancelled() {
            return Ok(None);
        }
        let left = at.saturating_duration_since(now);
        if !left.is_zero() {
            tokio::select! {
                waited = state.timer.sleep(left) => waited?,
                () = self.stop.cancelled() => return Ok(None),
            }
        }
        state.schedule.advance();
        Ok(Some(Due { at, was_free: free_since <= at }))
    }

    /// How many requests that were due before `time` have not been sent.
    pub(super) async fn unsent(&self, time: Instant) -> u64 {
        self.state.lock().await.schedule.left_before(time.saturating_duration_since(self.times.start))
    }
}

/// A timer for the precision of a request's latency. That of the runtime is rounded up to the next millisecond, several
/// times the latency of a server nearby.
#[cfg(target_os = "linux")]
#[derive(Debug)]
struct Timer(tokio::io::unix::AsyncFd<std::os::fd::OwnedFd>);

#[cfg(target_os = "linux")]
impl Timer {
    fn new() -> io::Result<Timer> {
        use rustix::time::{TimerfdClockId, TimerfdFlags, timerfd_create};
        let flags = TimerfdFlags::NONBLOCK | TimerfdFlags::CLOEXEC;
        let timer = timerfd_create(TimerfdClockId::Monotonic, flags)?;
        let interest = tokio::io::Interest::READABLE;
        // SAFETY: the descriptor is owned, and neither replaced nor closed before the `AsyncFd` is dropped.
        #[expect(unsafe_code, reason = "the runtime has no safe wrapper for descriptors of other kinds")]
        let timer = unsafe { tokio::io::unix::AsyncFd::register_with_interest(timer, interest) }?;
        Ok(Timer(timer))
    }

    /// Waits for `duration`, which is not 0. Cancel-safe: the next call sets the timer anew.
    async fn sleep(&mut self, duration: Duration) -> io::Result<()> {
        use rustix::time::{Itimerspec, TimerfdTimerFlags, Timespec, timerfd_settime};
        let none = Timespec { tv_sec: 0, tv_nsec: 0 };
        let value = Timespec {
            tv_sec: i64::try_from(duration.as_secs()).unwrap_or(i64::MAX),
            tv_nsec: duration.subsec_nanos().into(),
        };
        let once = Itimerspec { it_interval: none, it_value: value };
        timerfd_settime(self.0.get_ref(), TimerfdTimerFlags::empty(), &once)?;
        loop {
            let mut ready = self.0.readable().await?;
            let mut expirations = [0; 8];
            let read = ready.try_io(|timer| Ok(rustix::io::read(timer.get_ref(), &mut expirations)?));
            // An error means that the readiness was that of an earlier setting.
            if let Ok(read) = read {
                return read.map(drop);
            }
        }
    }
}

#[cfg(not(target_os = "linux"))]
#[derive(Debug)]
struct Timer;

#[cfg(not(target_os = "linux"))]
impl Timer {
    fn new() -> io::Result<Timer> {
        Ok(Timer)
    }

    async fn sleep(&mut self, duration: Duration) -> io::Result<()> {
        tokio::time::sleep(duration).await;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;

    fn pace(rate: u64, times: Times, stop: &CancellationToken) -> Pace {
        Pace::new(Schedule::new(rate, 0, 1), times, stop.clone()).unwrap()
    }

    /// Times of a run that started a while `ago`, without warm-up.
    fn times(ago: Duration, end: Option<Duration>) -> Times {
        let start = Instant::now() - ago;
        Times { start, counts_from: start, end: end.map(|end| start + end) }
    }

    #[tokio::test]
    async fn no_request_is_sent_before_it_is_due_and_each_once() {
        let times = times(Duration::ZERO, Some(Duration::from_millis(100)));
        let pace = Arc::new(pace(2_000, times, &CancellationToken::new()));
        let mut workers = tokio::task::JoinSet::new();
        for _ in 0..5 {
            let pace = Arc::clone(&pace);
            workers.spawn(async move {
                let mut sent = Vec::new();
                while let Some(due) = pace.next(Instant::now()).await.unwrap() {
                    assert!(due.at <= Instant::now());
                    sent.push(due.at);
                }
                sent
            });
        }
        let mut sent = workers.join_all().await.concat();
        sent.sort();
        // Those that a busy machine has not sent by the end are not sent, and are counted.
        let unsent = pace.unsent(times.end.unwrap()).await;
        assert_eq!(sent.len() as u64 + unsent, 200);
        assert!(sent.windows(2).all(|pair| pair[1] - pair[0] == Duration::from_micros(500)));
    }

    #[tokio::test]
    async fn a_stop_ends_the_wait_for_a_due_time() {
        let stop = CancellationToken::new();
        let pace = pace(1, times(Duration::ZERO, None), &stop);
        assert!(pace.next(Instant::now()).await.unwrap().is_some(), "the first one is due at once");
        stop.cancel();
        assert!(pace.next(Instant::now()).await.unwrap().is_none());
    }

    #[tokio::test]
    async fn a_request_that_was_due_earlier_goes_at_once() {
        let pace = pace(1_000, times(Duration::from_millis(10), None), &CancellationToken::new());
        let now = Instant::now();
        for _ in 0..5 {
            let due = pace.next(now).await.unwrap().unwrap();
            assert!(due.at < now && !due.was_free, "it was due while the worker was not free");
            let due = pace.next(due.at).await.unwrap().unwrap();
            assert!(due.was_free, "the worker was free");
        }
    }

    #[tokio::test]
    async fn requests_that_the_warm_up_left_are_dropped_when_it_is_over() {
        let mut times = times(Duration::from_secs(10), Some(Duration::from_secs(3_600)));
        times.counts_from = times.start + Duration::from_secs(9);
        let pace = pace(1_000, times, &CancellationToken::new());
        assert_eq!(pace.next(Instant::now()).await.unwrap().unwrap().at, times.counts_from);
        assert_eq!(pace.unsent(times.start + Duration::from_secs(10)).await, 999);
    }
}
