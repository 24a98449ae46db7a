//! Pacing: how much of the daemon's time its watchers may take.
//!
//! Writers and watchers share the runtime's threads, and a thousand watchers can make more work of one write than the
//! write was. So all watchers of a daemon draw on one bucket of time. What it holds goes at once: while there is little to
//! tell nobody waits. Beyond that they take turns, in the order in which they came, at a share of each thread; those
//! whose turn is not yet find fewer changes when it is, as changes of one key become one. Once nothing is written any more
//! there is nobody to spare but readers, and what is left is told at a larger share.

use std::sync::OnceLock;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::runtime::Handle;
use tokio::sync::Semaphore;
use tokio::time::{Instant, sleep_until};

/// The share of each thread that watchers may take for long while there are writes: one part in so many.
const SHARE: u32 = 12;
/// The same while there are none.
const CALM_SHARE: u32 = 2;
/// How long nothing was written until it counts as calm.
const CALM: Duration = Duration::from_millis(20);
/// Time they may take at once after they took none for a while: enough for ten thousand watchers to be told a change.
const BURST: Duration = Duration::from_millis(200);

/// The bucket. A turn is waited for, taken, and [paid](Pace::pay).
pub(super) struct Pace {
    /// Lets one wait for the bucket at a time, in the order they came.
    queue: Semaphore,
    bucket: Mutex<Bucket>,
    /// The runtime's threads.
    threads: OnceLock<u32>,
}

#[derive(Default)]
struct Bucket {
    /// When it will be full again.
    full_at: Option<Instant>,
    /// The digest of the store when it was looked at last, and when that was.
    looked: Option<(u64, Instant)>,
    /// Whether it was the same the time before.
    is_calm: bool,
}

impl Bucket {
    fn share(&self) -> u32 {
        if self.is_calm { CALM_SHARE } else { SHARE }
    }

    /// Looks whether anything is written, unless it has just been looked at: the digest of all ranges is a sum of many.
    fn look(&mut self, digest: impl Fn() -> u64, now: Instant) {
        if self.looked.is_none_or(|(_, at)| now.duration_since(at) >= CALM) {
            let digest = digest();
            self.is_calm = self.looked.is_some_and(|(before, _)| before == digest);
            self.looked = Some((digest, now));
        }
    }
}

impl Pace {
    pub(super) fn new() -> Self {
        Pace { queue: Semaphore::new(1), bucket: Mutex::default(), threads: OnceLock::new() }
    }

    /// Waits for a turn; `digest` changes with everything that is written. Cancel-safe: who leaves loses its place and
    /// nothing else.
    pub(super) async fn turn(&self, digest: impl Fn() -> u64) {
        let first = self.queue.acquire().await.expect("the semaphore is never closed");
        // Once more after each sleep: a turn that was taken before may have been paid meanwhile.
        while let Some(begins) = self.begins(&digest) {
            sleep_until(begins.min(Instant::now() + CALM)).await;
        }
        drop(first);
    }

    /// Takes `time` out of the bucket.
    pub(super) fn pay(&self, time: Duration) {
        let now = Instant::now();
        let mut bucket = self.bucket.lock();
        let full_at = bucket.full_at.map_or(now, |at| at.max(now));
        bucket.full_at = Some(full_at + self.refill(time, bucket.share()));
    }

    /// From when on the bucket will hold more than nothing, unless it does.
    fn begins(&self, digest: impl Fn() -> u64) -> Option<Instant> {
        let now = Instant::now();
        let mut bucket = self.bucket.lock();
        bucket.look(digest, now);
        let burst = self.refill(BURST, bucket.share());
        if bucket.is_calm {
            // What was owed to writers is not owed any more.
            bucket.full_at = bucket.full_at.map(|at| at.min(now + burst + self.refill(CALM, CALM_SHARE)));
        }
        bucket.full_at?.checked_sub(burst).filter(|begins| *begins > now)
    }

    /// How long it takes to give `time` back.
    fn refill(&self, time: Duration, share: u32) -> Duration {
        let threads = *self.threads.get_or_init(|| {
            let threads = Handle::try_current().map_or(1, |handle| handle.metrics().num_workers());
            u32::try_from(threads).unwrap_or(1).max(1)
        });
        time * share / threads
    }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use super::*;

    /// A store to which something is written before each look.
    fn busy() -> impl Fn() -> u64 {
        let writes = Cell::new(0);
        move || writes.replace(writes.get() + 1)
    }

    #[tokio::test(start_paused = true)]
    async fn a_burst_goes_at_once_and_then_turns_come_at_the_share() {
        let (pace, busy) = (Pace::new(), busy());
        let start = Instant::now();
        let turn = BURST / 10;
        for _ in 0..10 {
            pace.turn(&busy).await;
            pace.pay(turn);
        }
        assert_eq!(start.elapsed(), Duration::ZERO);
        for n in 1..=20 {
            pace.turn(&busy).await;
            pace.pay(turn);
            assert!(start.elapsed().abs_diff(turn * SHARE * (n - 1)) < Duration::from_millis(5));
        }
        tokio::time::advance(BURST * SHARE * 2).await;
        let rested = Instant::now();
        for _ in 0..10 {
            pace.turn(&busy).await;
            pace.pay(turn);
        }
        assert_eq!(rested.elapsed(), Duration::ZERO);
    }

    #[tokio::test(start_paused = true)]
    async fn once_nothing_is_written_turns_come_sooner_and_nothing_is_owed() {
        let pace = Pace::new();
        pace.pay(BURST * 100);
        let (start, turn) = (Instant::now(), BURST / 10);
        for _ in 0..100 {
            pace.turn(|| 7).await;
            pace.pay(turn);
        }
        let took = start.elapsed();
        assert!(took > turn * CALM_SHARE * 80, "{took:?}");
        assert!(took < turn * CALM_SHARE * 100 + CALM * 4, "{took:?}");
        // There are writes, and it is as before.
        let (start, busy) = (Instant::now(), busy());
        for _ in 0..20 {
            pace.turn(&busy).await;
            pace.pay(turn);
        }
        assert!(start.elapsed() > turn * SHARE * 9, "{:?}", start.elapsed());
    }

    #[tokio::test(start_paused = true)]
    async fn who_waits_for_its_turn_and_leaves_holds_nobody_up() {
        let pace = std::sync::Arc::new(Pace::new());
        pace.pay(BURST * 2);
        let wait = |pace: std::sync::Arc<Pace>| tokio::spawn(async move { pace.turn(|| 0).await });
        let tasks: Vec<_> = (0..10).map(|_| wait(pace.clone())).collect();
        tokio::task::yield_now().await;
        tasks[..9].iter().for_each(tokio::task::JoinHandle::abort);
        let last = tasks.into_iter().next_back();
        tokio::time::timeout(BURST * SHARE * 3, async { last.unwrap().await.unwrap() }).await.unwrap();
    }
}
