//! Deadlines: when keys expire.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use super::timestamp::{self, Time};

/// The time from which a key is absent, in milliseconds since the Unix epoch, as Redis counts.
///
/// Unlike [`Time`] it reaches beyond the year 2106. A key with such a deadline does not expire, because the clock of the
/// nodes ends before.
///
/// ```
/// use std::time::{Duration, UNIX_EPOCH};
/// use sapwood::Deadline;
///
/// let new_year_3000 = Deadline::from_unix_millis(32_503_680_000_000);
/// assert_eq!(new_year_3000.to_system_time(), Some(UNIX_EPOCH + Duration::from_secs(32_503_680_000)));
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Deadline(pub(crate) u64);

impl Deadline {
    /// The latest deadline that the commands of Redis can set and return, in the year 292,278,994.
    const LAST: u64 = i64::MAX as u64;

    /// The deadline that is this many milliseconds after the Unix epoch.
    pub fn from_unix_millis(millis: u64) -> Deadline {
        Deadline(millis)
    }

    /// Milliseconds since the Unix epoch.
    pub fn as_unix_millis(self) -> u64 {
        self.0
    }

    /// The deadline on the system's scale; `None` if that scale ends before.
    pub fn to_system_time(self) -> Option<SystemTime> {
        UNIX_EPOCH.checked_add(Duration::from_millis(self.0))
    }

    /// The deadline in replies: milliseconds since the Unix epoch, -1 for none.
    pub(crate) fn reply(deadline: Option<Deadline>) -> i64 {
        deadline.map_or(-1, |deadline| i64::try_from(deadline.0).unwrap_or(i64::MAX))
    }

    /// The deadline `ttl` after `now`, as `PX` of `SET` has it: from the beginning of the millisecond, `ttl` rounded up.
    /// It saturates at the latest that Redis can return.
    pub(crate) fn after(now: Time, ttl: Duration) -> Deadline {
        let millis = u64::try_from(ttl.as_nanos().div_ceil(1_000_000)).unwrap_or(u64::MAX);
        Deadline(now.as_unix_millis().saturating_add(millis).min(Self::LAST))
    }

    /// The first moment of the clock's scale at which the deadline has passed; saturates at the end of the scale.
    ///
    /// What nodes decide by a deadline they decide by this moment.
    // Most keys have no deadline: their paths stay short.
    #[inline(never)]
    pub(crate) fn moment(self) -> Time {
        timestamp::from_unix_millis(self.0).unwrap_or(Time(u64::MAX))
    }

    /// Whether the deadline has passed at `now`: whether its [`moment`](Self::moment) has, but without a division.
    #[inline]
    pub(crate) fn has_passed(self, now: Time) -> bool {
        self.0 <= now.as_unix_millis()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// The first millisecond beyond the scale of [`Time`].
    const BEYOND: u64 = 1000 << 32;

    proptest! {
        #[test]
        fn a_deadline_passes_when_the_clock_shows_its_millisecond(
            millis in prop_oneof![0..BEYOND, BEYOND - 3..BEYOND],
        ) {
            let moment = Deadline(millis).moment();
            prop_assert_eq!(moment.as_unix_millis(), millis);
            prop_assert!(Deadline(millis).has_passed(moment));
            if let Some(before) = moment.0.checked_sub(1) {
                prop_assert!(!Deadline(millis).has_passed(Time(before)));
            }
        }

        #[test]
        fn a_key_lives_for_its_ttl_to_the_millisecond(now in 1 << 32..u64::MAX / 2, nanos in 0..u64::MAX / 16) {
            let (now, ttl) = (Time(now), Duration::from_nanos(nanos));
            let end = Deadline::after(now, ttl).moment();
            prop_assert!(timestamp::distance(end, timestamp::later(now, ttl)) < Duration::from_millis(1));
            prop_assert!(Deadline::after(now, Duration::ZERO).has_passed(now));
        }
    }

    #[test]
    fn a_deadline_beyond_the_clock_never_passes_within_it() {
        for millis in [BEYOND, 253_402_300_799_000, i64::MAX as u64, u64::MAX] {
            assert_eq!(Deadline(millis).moment(), Time(u64::MAX));
            assert!(!Deadline(millis).has_passed(Time(u64::MAX)));
        }
        assert!(Deadline(BEYOND) < Deadline(BEYOND + 1), "they stay apart");
    }

    #[test]
    fn the_longest_ttl_ends_at_the_last_deadline_that_redis_can_return() {
        let last = Deadline::after(Time(1 << 62), Duration::MAX);
        assert_eq!(last.as_unix_millis(), i64::MAX as u64);
        assert_eq!(Deadline::after(Time(1 << 62), Duration::from_millis(u64::MAX)), last);
    }
}
