//! When requests are due in the open loop. Uses no clock: times count from the start of the run.
//!
//! A closed loop sends the next request when a reply arrives, so it sends nothing while a server stands still, and
//! misses the requests that would have waited: *coordinated omission* (Tene, "How NOT to Measure Latency"). An open
//! loop sends at a fixed rate, whatever the replies do, and counts latency from the time a request was due, as wrk2
//! does.

use std::time::Duration;

const NANOS: u128 = 1_000_000_000;

/// The due times of one thread: every `step`-th of all, which are evenly spaced.
#[derive(Debug, Clone)]
pub(super) struct Schedule {
    /// Requests per second of all threads.
    rate: u64,
    step: u64,
    /// The number of the next one among those of all threads.
    next: u64,
}

impl Schedule {
    /// The due times of thread `thread` of `threads`.
    pub(super) fn new(rate: u64, thread: u64, threads: u64) -> Schedule {
        Schedule { rate, step: threads, next: thread }
    }

    /// When the next request is due.
    pub(super) fn due(&self) -> Duration {
        // From the number of the request, so that rounding errors do not add up.
        let nanos = u128::from(self.next) * NANOS / u128::from(self.rate);
        Duration::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX))
    }

    /// Goes on to the one after it.
    pub(super) fn advance(&mut self) {
        self.next = self.next.saturating_add(self.step);
    }

    /// Drops those that are due before `time` and still to come.
    pub(super) fn skip_before(&mut self, time: Duration) {
        self.next = self.next.saturating_add(self.left_before(time).saturating_mul(self.step));
    }

    /// How many are due before `end` and still to come.
    pub(super) fn left_before(&self, end: Duration) -> u64 {
        // Number `n` is due before `end` if n * NANOS / rate, rounded down, is less than the nanoseconds of `end`.
        let below = (end.as_nanos() * u128::from(self.rate)).div_ceil(NANOS);
        let below = u64::try_from(below).unwrap_or(u64::MAX);
        below.saturating_sub(self.next).div_ceil(self.step)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn due_times(mut schedule: Schedule, end: Duration) -> Vec<Duration> {
        let mut times = Vec::new();
        while schedule.due() < end {
            times.push(schedule.due());
            schedule.advance();
        }
        times
    }

    #[test]
    fn requests_are_evenly_spaced_and_their_number_is_the_rate() {
        let second = Duration::from_secs(1);
        let times = due_times(Schedule::new(1_000, 0, 1), second);
        assert_eq!(times.len(), 1_000);
        assert!(times.windows(2).all(|pair| pair[1] - pair[0] == Duration::from_millis(1)));
        // A rate that does not divide a second: no error adds up over an hour.
        let mut schedule = Schedule::new(7, 0, 1);
        (0..7 * 3_600).for_each(|_| schedule.advance());
        assert_eq!(schedule.due(), Duration::from_secs(3_600));
    }

    #[test]
    fn threads_take_turns() {
        let end = Duration::from_millis(10);
        let mut all: Vec<_> =
            (0..3).flat_map(|thread| due_times(Schedule::new(7_000, thread, 3), end)).collect();
        all.sort();
        assert_eq!(all, due_times(Schedule::new(7_000, 0, 1), end));
    }

    #[test]
    fn what_is_left_is_what_would_still_be_due() {
        for (rate, thread, threads) in [(1, 0, 1), (7, 0, 1), (1_000, 2, 3), (999, 0, 4)] {
            let mut schedule = Schedule::new(rate, thread, threads);
            for _ in 0..5 {
                for millis in [0, 1, 10, 1_000, 2_500] {
                    let end = Duration::from_millis(millis);
                    let left = due_times(schedule.clone(), end).len() as u64;
                    assert_eq!(schedule.left_before(end), left, "{schedule:?} until {end:?}");
                    let mut skipped = schedule.clone();
                    skipped.skip_before(end);
                    assert_eq!((skipped.left_before(end), skipped.next), (0, schedule.next + left * threads));
                }
                schedule.advance();
            }
        }
    }
}
