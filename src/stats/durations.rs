//! How long the calls of one command take: counts in buckets that double.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

/// Buckets for up to 1 µs, 2 µs, 4 µs, … and a last one for all that took longer.
const BUCKETS: usize = 28;

/// Of the commands of one connection one in so many is timed, the first included. It is a prime, so that no pipeline
/// that repeats a few commands is always timed at the same one.
pub(crate) const TIMED_ONE_IN: u32 = 61;

/// How long the timed calls of one command took.
#[derive(Default)]
pub(super) struct Durations {
    buckets: [AtomicU64; BUCKETS],
    nanos: AtomicU64,
}

/// How long the timed calls of one command took: how many, their sum, and the buckets.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct DurationTotals {
    /// How many calls were timed.
    pub timed: u64,
    /// How long they took together, in nanoseconds.
    pub nanos: u64,
    /// How many took at most so many microseconds, and longer than those of the row before. Rows without any are left
    /// out.
    pub buckets: Vec<(u64, u64)>,
}

impl Durations {
    pub(super) fn add(&self, took: Duration) {
        let nanos = u64::try_from(took.as_nanos()).unwrap_or(u64::MAX);
        let micros = nanos.div_ceil(1000).max(1);
        let bucket = micros.next_power_of_two().trailing_zeros() as usize;
        self.buckets[bucket.min(BUCKETS - 1)].fetch_add(1, Relaxed);
        self.nanos.fetch_add(nanos, Relaxed);
    }

    pub(super) fn totals(&self) -> DurationTotals {
        let counts = self.buckets.iter().map(|count| count.load(Relaxed)).enumerate();
        let buckets: Vec<_> =
            counts.filter(|(_, count)| *count > 0).map(|(n, count)| (1 << n, count)).collect();
        let timed = buckets.iter().map(|(_, count)| count).sum();
        DurationTotals { timed, nanos: self.nanos.load(Relaxed), buckets }
    }

    pub(super) fn reset(&self) {
        self.buckets.iter().chain([&self.nanos]).for_each(|counter| counter.store(0, Relaxed));
    }
}

impl DurationTotals {
    /// The average in microseconds.
    #[expect(clippy::cast_precision_loss, reason = "two digits are shown")]
    pub fn micros_per_call(&self) -> f64 {
        if self.timed == 0 { 0.0 } else { self.nanos as f64 / self.timed as f64 / 1000.0 }
    }

    /// How many microseconds so many thousandths of the calls took at most: the end of a bucket.
    pub fn percentile(&self, thousandths: u64) -> u64 {
        let wanted = (u128::from(self.timed) * u128::from(thousandths)).div_ceil(1000);
        let mut seen = 0;
        let found = self.buckets.iter().find(|(_, count)| {
            seen += u128::from(*count);
            seen >= wanted
        });
        found.map_or(0, |(micros, _)| *micros)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_call_is_in_the_bucket_of_the_next_power_of_two() {
        let durations = Durations::default();
        for nanos in [0, 1_000, 1_001, 3_000, 4_000, 4_001, u64::MAX] {
            durations.add(Duration::from_nanos(nanos));
        }
        let totals = durations.totals();
        assert_eq!(totals.buckets, [(1, 2), (2, 1), (4, 2), (8, 1), (1 << 27, 1)]);
        assert_eq!((totals.timed, totals.percentile(500), totals.percentile(999)), (7, 4, 1 << 27));
        durations.reset();
        assert_eq!(durations.totals(), DurationTotals::default());
        assert_eq!((durations.totals().percentile(500), durations.totals().micros_per_call()), (0, 0.0));
    }
}
