//! Pacing: how much of the daemon's time its watchers may take.
//!
//! Writers and watchers share the runtime's threads, and a thousand watchers can make more work of one write than the
//! write was. So all watchers of a daemon draw on one bucket of time. What it holds goes at once: while there is little to
//! tell nobody waits. Beyond that they take turns, in the order in which they came, at a share of each thread; those
//! whose turn is not yet find fewer changes when it is, as changes of one key become one.

use std::sync::OnceLock;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::runtime::Handle;
use tokio::sync::Semaphore;
use tokio::time::{Instant, sleep_until};

/// The share of each thread that watchers may take for long: one part in so many.
const SHARE: u32 = 12;
/// Time they may take at once after they took none for a while: enough for ten thousand watchers to be told a change.
const BURST: Duration = Duration::from_millis(200);

/// The bucket. A turn is waited for, taken, and [paid](Pace::pay).
pub(super) struct Pace {
    /// Lets one wait for the bucket at a time, in the order they came.
    queue: Semaphore,
    /// When the bucket will be full again.
    full_at: Mutex<Option<Instant>>,
    /// The runtime's threads.
    threads: OnceLock<u32>,
}

impl Pace {
    pub(super) fn new() -> Self {
        Pace { queue: Semaphore::new(1), full_at: Mutex::new(None), threads: OnceLock::new() }
    }

    /// Waits for a turn. Cancel-safe: who leaves loses its place and nothing else.
    pub(super) async fn turn(&self) {
        let first = self.queue.acquire().await.expect("the semaphore is never closed");
        // Once more after each sleep: a turn that was taken before may have been paid meanwhile.
        while let Some(begins) = self.begins().filter(|begins| *begins > Instant::now()) {
            sleep_until(begins).await;
        }
        drop(first);
    }

    /// Takes `time` out of the bucket.
    pub(super) fn pay(&self, time: Duration) {
        let now = Instant::now();
        let mut full_at = self.full_at.lock();
        *full_at = Some(full_at.map_or(now, |at| at.max(now)) + self.refill(time));
    }

    /// Since when, or from when on, the bucket holds more than nothing.
    fn begins(&self) -> Option<Instant> {
        (*self.full_at.lock())?.checked_sub(self.refill(BURST))
    }

    /// How long it takes to give `time` back.
    fn refill(&self, time: Duration) -> Duration {
        let threads = *self.threads.get_or_init(|| {
            let threads = Handle::try_current().map_or(1, |handle| handle.metrics().num_workers());
            u32::try_from(threads).unwrap_or(1).max(1)
        });
        time * SHARE / threads
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_burst_goes_at_once_and_then_turns_come_at_the_share() {
        let pace = Pace::new();
        let start = Instant::now();
        let turn = BURST / 10;
        for _ in 0..10 {
            pace.turn().await;
            pace.pay(turn);
        }
        assert_eq!(start.elapsed(), Duration::ZERO);
        for n in 1..=20 {
            pace.turn().await;
            pace.pay(turn);
            assert!(start.elapsed().abs_diff(turn * SHARE * (n - 1)) < Duration::from_millis(5));
        }
        tokio::time::advance(BURST * SHARE * 2).await;
        let rested = Instant::now();
        for _ in 0..10 {
            pace.turn().await;
            pace.pay(turn);
        }
        assert_eq!(rested.elapsed(), Duration::ZERO);
    }

    #[tokio::test(start_paused = true)]
    async fn who_waits_for_its_turn_and_leaves_holds_nobody_up() {
        let pace = std::sync::Arc::new(Pace::new());
        pace.pay(BURST * 2);
        let wait = |pace: std::sync::Arc<Pace>| tokio::spawn(async move { pace.turn().await });
        let tasks: Vec<_> = (0..10).map(|_| wait(pace.clone())).collect();
        tokio::task::yield_now().await;
        tasks[..9].iter().for_each(tokio::task::JoinHandle::abort);
        let last = tasks.into_iter().next_back();
        tokio::time::timeout(BURST * SHARE * 3, async { last.unwrap().await.unwrap() }).await.unwrap();
    }
}
