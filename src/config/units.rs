//! Sizes and durations as text; what is displayed parses to the same value.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use serde::{Deserialize, Deserializer, de::Error as _};

/// Units as in `redis.conf`: `k` is 1000, `kb` (and `KiB`) is 1024; case does not matter. A [`Size`] is displayed in
/// one of the last units, which ascend.
const SIZE_UNITS: [(&str, u64); 14] = [
    ("", 1),
    ("b", 1),
    ("k", 1_000),
    ("m", 1_000_000),
    ("g", 1_000_000_000),
    ("t", 1_000_000_000_000),
    ("kb", 1 << 10),
    ("mb", 1 << 20),
    ("gb", 1 << 30),
    ("tb", 1 << 40),
    ("KiB", 1 << 10),
    ("MiB", 1 << 20),
    ("GiB", 1 << 30),
    ("TiB", 1 << 40),
];

/// Units in milliseconds, smallest first.
const SPAN_UNITS: [(&str, u64); 5] =
    [("ms", 1), ("s", 1_000), ("m", 60_000), ("h", 3_600_000), ("d", 86_400_000)];

/// A number of bytes, written `65536`, `64KiB`, `64kb`, `512mb` or `1GiB`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Size(pub u64);

/// A length of time, written `500ms`, `5s`, `2m`, `12h` or `7d`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Span(pub Duration);

/// A length of time, or `never`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SpanOrNever(pub Option<Duration>);

/// The text of a [`SpanOrNever`] without an end.
const NEVER: &str = "never";

/// An error: the text is not a size or not a duration.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum UnitError {
    /// Not a size.
    #[error("{0:?} is not a size: write 64KiB, 16MiB, 1GiB or a number of bytes")]
    Size(String),
    /// Not a duration.
    #[error("{0:?} is not a duration: write 500ms, 5s, 2m, 12h or 7d")]
    Span(String),
    /// Neither a duration nor `never`.
    #[error("{0:?} is not a duration: write 90s, 12h, 7d or never")]
    SpanOrNever(String),
}

impl FromStr for Size {
    type Err = UnitError;

    fn from_str(text: &str) -> Result<Self, UnitError> {
        parse(text, &SIZE_UNITS).map(Size).ok_or_else(|| UnitError::Size(text.to_owned()))
    }
}

impl FromStr for Span {
    type Err = UnitError;

    fn from_str(text: &str) -> Result<Self, UnitError> {
        parse(text, &SPAN_UNITS)
            .map(|millis| Span(Duration::from_millis(millis)))
            .ok_or_else(|| UnitError::Span(text.to_owned()))
    }
}

impl FromStr for SpanOrNever {
    type Err = UnitError;

    fn from_str(text: &str) -> Result<Self, UnitError> {
        if text.eq_ignore_ascii_case(NEVER) {
            return Ok(SpanOrNever(None));
        }
        let span: Span = text.parse().map_err(|_| UnitError::SpanOrNever(text.to_owned()))?;
        Ok(SpanOrNever(Some(span.0)))
    }
}

/// A whole number followed by one of `units`.
fn parse(text: &str, units: &[(&str, u64)]) -> Option<u64> {
    let (number, unit) = text.split_at(text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len()));
    let (_, factor) = units.iter().find(|(name, _)| name.eq_ignore_ascii_case(unit.trim_start()))?;
    number.parse::<u64>().ok()?.checked_mul(*factor)
}

impl fmt::Display for Size {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match largest_exact(self.0, &SIZE_UNITS[10..]) {
            Some((count, unit)) => write!(f, "{count}{unit}"),
            None => write!(f, "{}", self.0),
        }
    }
}

/// Exact to the millisecond.
impl fmt::Display for Span {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let millis = u64::try_from(self.0.as_millis()).unwrap_or(u64::MAX);
        let (count, unit) = largest_exact(millis, &SPAN_UNITS).unwrap_or((0, "s"));
        write!(f, "{count}{unit}")
    }
}

impl fmt::Display for SpanOrNever {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            Some(span) => Span(span).fmt(f),
            None => f.write_str(NEVER),
        }
    }
}

/// Divides `number` by the largest of `units` that leaves no remainder; `None` for zero, or if all leave one.
fn largest_exact<'u>(number: u64, units: &[(&'u str, u64)]) -> Option<(u64, &'u str)> {
    let exact = |(_, factor): &&(&str, u64)| number != 0 && number.is_multiple_of(*factor);
    units.iter().rfind(exact).map(|(unit, factor)| (number / factor, *unit))
}

impl<'de> Deserialize<'de> for Size {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        #[serde(untagged, expecting = "expected a size: \"64KiB\", \"16MiB\", \"1GiB\" or a number of bytes")]
        enum Written {
            Bytes(u64),
            Text(String),
        }
        match Written::deserialize(deserializer)? {
            Written::Bytes(bytes) => Ok(Size(bytes)),
            Written::Text(text) => text.parse().map_err(D::Error::custom),
        }
    }
}

impl<'de> Deserialize<'de> for Span {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(D::Error::custom)
    }
}

impl<'de> Deserialize<'de> for SpanOrNever {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(D::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_read_as_people_write_them() {
        for (text, bytes) in [
            ("0", 0),
            ("65536", 65_536),
            ("64KiB", 65_536),
            ("64 KiB", 65_536),
            ("16MiB", 16 << 20),
            ("1GiB", 1 << 30),
            ("512mb", 512 << 20),
            ("512MB", 512 << 20),
            ("2k", 2_000),
            ("3TiB", 3 << 40),
        ] {
            assert_eq!(text.parse(), Ok(Size(bytes)), "{text}");
        }
    }

    #[test]
    fn what_is_no_size_is_refused_with_examples() {
        for text in ["", "MiB", "-1", "1.5GiB", "12 parsecs", "16EiB", "99999999999TiB", "1 2"] {
            assert_eq!(text.parse::<Size>(), Err(UnitError::Size(text.into())));
        }
        assert_eq!(
            "12 parsecs".parse::<Size>().unwrap_err().to_string(),
            "\"12 parsecs\" is not a size: write 64KiB, 16MiB, 1GiB or a number of bytes"
        );
    }

    #[test]
    fn durations_read_as_people_write_them() {
        for (text, millis) in [("500ms", 500), ("5s", 5_000), ("2m", 120_000), ("1h", 3_600_000), ("0s", 0)] {
            assert_eq!(text.parse(), Ok(Span(Duration::from_millis(millis))), "{text}");
        }
        assert_eq!("7d".parse(), Ok(Span(Duration::from_secs(7 * 86_400))));
        for text in ["", "5", "s", "-5s", "1.5s", "5 years", "18446744073709551615d"] {
            assert_eq!(text.parse::<Span>(), Err(UnitError::Span(text.into())));
        }
    }

    #[test]
    fn a_duration_may_have_no_end_where_that_is_allowed() {
        let week = SpanOrNever(Some(Duration::from_secs(7 * 86_400)));
        assert_eq!("7d".parse(), Ok(week));
        for text in ["never", "Never"] {
            assert_eq!(text.parse(), Ok(SpanOrNever(None)));
        }
        assert_eq!((week.to_string(), SpanOrNever(None).to_string()), ("7d".into(), "never".into()));
        assert_eq!("soon".parse::<SpanOrNever>(), Err(UnitError::SpanOrNever("soon".into())));
    }

    #[test]
    fn what_is_written_reads_back_the_same() {
        for bytes in [0, 1, 1_000, 1_024, 1_536, 65_536, 16 << 20, (16 << 20) + 1, 3 << 40, u64::MAX] {
            assert_eq!(Size(bytes).to_string().parse(), Ok(Size(bytes)));
        }
        for millis in [0, 1, 500, 1_500, 60_000, 86_400_000, 7 * 86_400_000] {
            let span = Span(Duration::from_millis(millis));
            assert_eq!(span.to_string().parse(), Ok(span));
        }
        assert_eq!(Size(64 << 10).to_string(), "64KiB");
        assert_eq!(Span(Duration::from_secs(120)).to_string(), "2m");
    }
}
