//! Timestamps: hybrid-logical-clock time plus the incarnation that drew it (Kulkarni et al., 2014).
//!
//! The types are those of the `uhlc` crate. Time is NTP64: seconds since the Unix epoch in the upper 32 bits,
//! the fraction of a second in the lower 32, so one tick is about 0.23 ns and the last representable moment is
//! in the year 2106.

use std::time::Duration;

/// A moment on the hybrid-logical-clock scale, in NTP64.
pub type Time = uhlc::NTP64;

/// The random 128-bit id that a process draws at every start.
pub type Incarnation = uhlc::ID;

/// A totally ordered event identifier: time first, incarnation to break ties.
pub type Timestamp = uhlc::Timestamp;

/// The earliest moment.
pub const ZERO: Time = uhlc::NTP64(0);

/// The moment `since_epoch` after the Unix epoch; saturates at the end of the scale.
pub fn time_since_epoch(since_epoch: Duration) -> Time {
    let Ok(secs) = u32::try_from(since_epoch.as_secs()) else { return uhlc::NTP64(u64::MAX) };
    let fraction = (u64::from(since_epoch.subsec_nanos()) << 32) / 1_000_000_000;
    uhlc::NTP64((u64::from(secs) << 32) | fraction)
}

/// The first moment that [`unix_millis`] maps back to `millis`, or `None` past the end of the scale (year 2106).
pub fn from_unix_millis(millis: u64) -> Option<Time> {
    let secs = u32::try_from(millis / 1000).ok()?;
    let fraction = ((millis % 1000) << 32).div_ceil(1000);
    Some(uhlc::NTP64((u64::from(secs) << 32) | fraction))
}

/// Whole milliseconds since the Unix epoch, rounded down.
pub fn unix_millis(time: Time) -> u64 {
    let (secs, fraction) = (time.0 >> 32, time.0 & u64::from(u32::MAX));
    secs * 1000 + ((fraction * 1000) >> 32)
}

/// `time` moved forward by `by`; saturates at the end of the scale.
pub fn later(time: Time, by: Duration) -> Time {
    uhlc::NTP64(time.0.saturating_add(time_since_epoch(by).0))
}

/// The absolute difference between two moments.
pub fn distance(a: Time, b: Time) -> Duration {
    let ticks = a.0.abs_diff(b.0);
    let nanos = ((ticks & u64::from(u32::MAX)) * 1_000_000_000) >> 32;
    Duration::from_secs(ticks >> 32) + Duration::from_nanos(nanos)
}

/// The incarnation with this number, or `None` for zero, which is not an id.
pub fn incarnation(id: u128) -> Option<Incarnation> {
    Incarnation::try_from(id.to_le_bytes()).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn milliseconds_survive_the_round_trip(millis in 0..4_294_967_295_999u64) {
            prop_assert_eq!(unix_millis(from_unix_millis(millis).unwrap()), millis);
        }

        #[test]
        fn distance_undoes_later(start in 0..u64::MAX / 2, by in 0..1_000_000_000u64) {
            let by = Duration::from_micros(by);
            let start = uhlc::NTP64(start);
            prop_assert!(distance(start, later(start, by)).abs_diff(by) <= Duration::from_nanos(2));
        }
    }

    #[test]
    fn time_past_the_scale_saturates_or_is_none() {
        assert_eq!(time_since_epoch(Duration::from_secs(1 << 33)).0, u64::MAX);
        assert_eq!(from_unix_millis(u64::MAX), None);
    }

    #[test]
    fn zero_is_not_an_incarnation() {
        assert!(incarnation(0).is_none());
        assert!(incarnation(7).unwrap() > incarnation(6).unwrap());
    }
}
