//! Timestamps: hybrid-logical-clock time plus the incarnation that drew it (Kulkarni et al., 2014).

use std::fmt;
use std::str::FromStr;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// A moment on the hybrid-logical-clock scale.
///
/// It is an NTP64: seconds since the Unix epoch in the upper 32 bits, the fraction of a second in the lower 32. So one
/// tick is about 0.23 ns, and the last representable moment is in the year 2106.
///
/// ```
/// use std::time::{Duration, UNIX_EPOCH};
/// use sapwood::Time;
///
/// let time = Time::from_ntp64(3 << 32 | 1 << 31);
/// assert_eq!(time.as_unix_millis(), 3_500);
/// assert_eq!(time.to_system_time(), UNIX_EPOCH + Duration::from_millis(3_500));
/// ```
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Time(pub(crate) u64);

impl Time {
    /// The moment with this NTP64 number.
    pub fn from_ntp64(ticks: u64) -> Time {
        Time(ticks)
    }

    /// The moment as an NTP64 number.
    pub fn as_ntp64(self) -> u64 {
        self.0
    }

    /// Whole milliseconds since the Unix epoch, rounded down.
    #[inline]
    pub fn as_unix_millis(self) -> u64 {
        unix_millis(self)
    }

    /// The moment on the system's scale, to the nanosecond.
    pub fn to_system_time(self) -> SystemTime {
        UNIX_EPOCH + distance(ZERO, self)
    }
}

impl fmt::Debug for Time {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)
    }
}

/// The random 128-bit id, never zero, that a process draws at every start. As text, a hexadecimal number.
///
/// Incarnations are compared by their little-endian bytes, the first one first: every node must break ties alike.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Incarnation([u8; 16]);

impl Incarnation {
    /// The bytes, the least significant first.
    pub fn to_le_bytes(self) -> [u8; 16] {
        self.0
    }
}

impl fmt::Display for Incarnation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:x}", u128::from_le_bytes(self.0))
    }
}

impl fmt::Debug for Incarnation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// The error that bytes or a text are no incarnation.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "an incarnation is a number of 128 bits, not zero; as text, in hexadecimal digits without leading zeros"
)]
pub struct BadIncarnation;

impl TryFrom<[u8; 16]> for Incarnation {
    type Error = BadIncarnation;

    fn try_from(bytes: [u8; 16]) -> Result<Self, BadIncarnation> {
        if bytes == [0; 16] { Err(BadIncarnation) } else { Ok(Incarnation(bytes)) }
    }
}

impl TryFrom<&[u8; 16]> for Incarnation {
    type Error = BadIncarnation;

    fn try_from(bytes: &[u8; 16]) -> Result<Self, BadIncarnation> {
        Incarnation::try_from(*bytes)
    }
}

impl TryFrom<&[u8]> for Incarnation {
    type Error = BadIncarnation;

    fn try_from(bytes: &[u8]) -> Result<Self, BadIncarnation> {
        <[u8; 16]>::try_from(bytes).map_err(|_| BadIncarnation)?.try_into()
    }
}

impl FromStr for Incarnation {
    type Err = BadIncarnation;

    fn from_str(text: &str) -> Result<Self, BadIncarnation> {
        // One text each: tokens and cursors are compared as texts by those who store them.
        if text.starts_with(['0', '+']) {
            return Err(BadIncarnation);
        }
        u128::from_str_radix(text, 16).map_err(|_| BadIncarnation)?.to_le_bytes().try_into()
    }
}

/// A totally ordered event identifier: time first, incarnation to break ties. As text, the NTP64 number and the
/// incarnation with a slash between them.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Timestamp {
    time: Time,
    incarnation: Incarnation,
}

impl Timestamp {
    /// The timestamp that `incarnation` drew at `time`.
    #[inline]
    pub fn new(time: Time, incarnation: Incarnation) -> Timestamp {
        Timestamp { time, incarnation }
    }

    /// When it was drawn, by the hybrid logical clock of the node that drew it.
    #[inline]
    pub fn time(&self) -> Time {
        self.time
    }

    /// Who drew it.
    #[inline]
    pub fn incarnation(&self) -> Incarnation {
        self.incarnation
    }
}

impl fmt::Display for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.time.0, self.incarnation)
    }
}

impl fmt::Debug for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// The earliest moment.
pub const ZERO: Time = Time(0);

/// The time since the Unix epoch.
pub fn since_epoch(time: Time) -> Duration {
    time.to_system_time().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default()
}

/// The moment `since_epoch` after the Unix epoch; saturates at the end of the scale.
pub fn time_since_epoch(since_epoch: Duration) -> Time {
    let Ok(secs) = u32::try_from(since_epoch.as_secs()) else { return Time(u64::MAX) };
    let fraction = (u64::from(since_epoch.subsec_nanos()) << 32) / 1_000_000_000;
    Time((u64::from(secs) << 32) | fraction)
}

/// The first moment that [`unix_millis`] maps back to `millis`, or `None` past the end of the scale (year 2106).
pub fn from_unix_millis(millis: u64) -> Option<Time> {
    let secs = u32::try_from(millis / 1000).ok()?;
    let fraction = ((millis % 1000) << 32).div_ceil(1000);
    Some(Time((u64::from(secs) << 32) | fraction))
}

/// Whole milliseconds since the Unix epoch, rounded down.
#[inline]
pub fn unix_millis(time: Time) -> u64 {
    let (secs, fraction) = (time.0 >> 32, time.0 & u64::from(u32::MAX));
    secs * 1000 + ((fraction * 1000) >> 32)
}

/// `time` moved forward by `by`; saturates at the end of the scale.
pub fn later(time: Time, by: Duration) -> Time {
    Time(time.0.saturating_add(time_since_epoch(by).0))
}

/// The absolute difference between two moments.
pub fn distance(a: Time, b: Time) -> Duration {
    let ticks = a.0.abs_diff(b.0);
    let nanos = ((ticks & u64::from(u32::MAX)) * 1_000_000_000) >> 32;
    Duration::from_secs(ticks >> 32) + Duration::from_nanos(nanos)
}

/// The moment this many milliseconds after the epoch, for tests that compare small times with deadlines.
#[cfg(test)]
pub fn ms(millis: u64) -> Time {
    from_unix_millis(millis).expect("it is on the scale")
}

/// The incarnation with this number, or `None` for zero, which is not an id.
pub fn incarnation(id: u128) -> Option<Incarnation> {
    id.to_le_bytes().try_into().ok()
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
            let start = Time(start);
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
        assert!(Incarnation::try_from(&[0; 16][..]).is_err() && Incarnation::try_from(&[1; 15][..]).is_err());
    }

    #[test]
    fn ties_are_broken_by_the_bytes_of_incarnations() {
        let [six, seven, large] = [6, 7, 1 << 64].map(|id| incarnation(id).unwrap());
        assert!(six < seven && large < six, "the least significant byte counts most");
        let at = |time, by| Timestamp::new(Time(time), by);
        assert!(at(1, seven) < at(2, six) && at(2, six) < at(2, seven));
    }

    #[test]
    fn an_incarnation_has_one_text() {
        for text in ["1", "1bc0", "ff0", "6bd9cb5f9f2644508fbbb0df1d6cce3a"] {
            assert_eq!(text.parse::<Incarnation>().unwrap().to_string(), text);
        }
        for text in ["", "0", "0bcd", "+1", "x", "6bd9cb5f9f2644508fbbb0df1d6cce3a0"] {
            assert_eq!(text.parse::<Incarnation>(), Err(BadIncarnation), "{text}");
        }
    }
}
