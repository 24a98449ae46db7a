//! How long batches of commands take: counts in buckets.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

/// The upper bounds of the buckets in nanoseconds. One more bucket counts what took longer.
pub const BOUNDS: [u64; 15] = [
    10_000,
    20_000,
    50_000,
    100_000,
    200_000,
    500_000,
    1_000_000,
    2_000_000,
    5_000_000,
    10_000_000,
    20_000_000,
    50_000_000,
    100_000_000,
    200_000_000,
    1_000_000_000,
];

/// Every 16th batch of a connection is measured, beginning with the first, because reading the clock costs as much as
/// looking up a key.
pub(crate) const ONE_IN: u32 = 16;

/// The counters of a histogram of durations; any thread may add to them.
#[derive(Default)]
pub(crate) struct Latency {
    buckets: [AtomicU64; BOUNDS.len() + 1],
    nanos: AtomicU64,
}

/// A histogram of durations.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct LatencyTotals {
    /// For each of [`BOUNDS`], how many took at most that long and longer than the bound before. The last entry counts
    /// those that took longer than every bound.
    pub buckets: [u64; BOUNDS.len() + 1],
    /// The sum of all durations in nanoseconds.
    pub nanos: u64,
}

impl Latency {
    /// Counts one duration.
    pub(crate) fn add(&self, took: Duration) {
        let nanos = u64::try_from(took.as_nanos()).unwrap_or(u64::MAX);
        let bucket = BOUNDS.partition_point(|&bound| bound < nanos);
        self.buckets[bucket].fetch_add(1, Relaxed);
        self.nanos.fetch_add(nanos, Relaxed);
    }

    pub(crate) fn totals(&self) -> LatencyTotals {
        LatencyTotals {
            buckets: self.buckets.each_ref().map(|count| count.load(Relaxed)),
            nanos: self.nanos.load(Relaxed),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_takes_as_long_as_a_bound_is_within_it() {
        let latency = Latency::default();
        for nanos in [0, 10_000, 10_001, 1_000_000_000, 1_000_000_001, 5_000_000_000] {
            latency.add(Duration::from_nanos(nanos));
        }
        let totals = latency.totals();
        assert_eq!(
            (totals.buckets[0], totals.buckets[1], totals.buckets[14], totals.buckets[15]),
            (2, 1, 1, 2)
        );
        assert_eq!((totals.buckets.iter().sum::<u64>(), totals.nanos), (6, 7_000_020_002));
    }
}
