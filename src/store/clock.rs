//! The clock that draws timestamps: a hybrid logical clock held in one atomic.

use std::sync::atomic::{AtomicU64, Ordering};

use crate::model::Time;

/// The hybrid logical clock of one process (Kulkarni et al., 2014).
///
/// It never goes back: not if the machine's clock steps back, and not behind any received timestamp.
pub(crate) struct Clock {
    /// The largest time issued or received.
    last: AtomicU64,
}

impl Clock {
    pub(crate) fn new() -> Self {
        Clock { last: AtomicU64::new(0) }
    }

    /// The current time on the hybrid scale, given the machine's clock.
    ///
    /// It never decreases, so a value that was once seen to have expired is never seen again.
    pub(crate) fn read(&self, wall: Time) -> Time {
        Time(wall.0.max(self.last.fetch_max(wall.0, Ordering::AcqRel)))
    }

    /// Draws a time above everything issued or received, above `above`, and not below `now`.
    ///
    /// The caller must hold the lock of the range that is written. Otherwise the write could be missing from a digest
    /// whose time was read after this draw.
    pub(crate) fn draw(&self, now: Time, above: Time) -> Time {
        let at_least = now.0.max(above.0.saturating_add(1));
        let mut last = self.last.load(Ordering::Relaxed);
        loop {
            let next = at_least.max(last.saturating_add(1));
            match self.last.compare_exchange_weak(last, next, Ordering::AcqRel, Ordering::Relaxed) {
                Ok(_) => return Time(next),
                Err(actual) => last = actual,
            }
        }
    }

    /// Moves the clock past a received time.
    pub(crate) fn observe(&self, time: Time) {
        self.last.fetch_max(time.0, Ordering::AcqRel);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_drawn_time_exceeds_all_issued_received_and_overwritten() {
        let clock = Clock::new();
        assert_eq!(clock.draw(Time(10), Time(0)), Time(10));
        assert_eq!(clock.draw(Time(10), Time(0)), Time(11));
        assert_eq!(clock.draw(Time(10), Time(40)), Time(41));
        clock.observe(Time(90));
        assert_eq!(clock.draw(Time(10), Time(0)), Time(91));
    }

    #[test]
    fn the_clock_survives_a_machine_whose_clock_steps_back() {
        let clock = Clock::new();
        clock.draw(Time(1000), Time(0));
        assert_eq!(clock.read(Time(5)), Time(1000));
        assert_eq!(clock.draw(Time(5), Time(0)), Time(1001));
        assert_eq!(clock.read(Time(2000)), Time(2000));
        assert_eq!(clock.read(Time(6)), Time(2000));
    }

    #[test]
    fn threads_never_draw_the_same_time() {
        let clock = Clock::new();
        let draws = |_| (0..10_000).map(|_| clock.draw(Time(7), Time(0)).0).collect::<Vec<_>>();
        let mut all: Vec<u64> = std::thread::scope(|scope| {
            let threads: Vec<_> = (0..4).map(|n| scope.spawn(move || draws(n))).collect();
            threads.into_iter().flat_map(|thread| thread.join().unwrap()).collect()
        });
        all.sort_unstable();
        all.dedup();
        assert_eq!(all.len(), 40_000);
    }
}
