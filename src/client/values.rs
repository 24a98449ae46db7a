//! What the methods of a client take and return, beside bytes.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use super::reply::{self, Unfit};
use crate::resp::Frame;

/// The options of [`Client::set_with`](super::Client::set_with).
///
/// ```
/// use std::time::Duration;
/// use sapwood::client::SetOptions;
///
/// let options = SetOptions::new().ttl(Duration::from_secs(60)).if_absent();
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SetOptions {
    expiry: Expiry,
    condition: Condition,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Expiry {
    #[default]
    Never,
    In(Duration),
    At(SystemTime),
    Keep,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Condition {
    #[default]
    Always,
    Absent,
    Present,
}

impl SetOptions {
    /// Whatever was there is replaced, its deadline included.
    pub fn new() -> Self {
        Self::default()
    }

    /// The key expires after so long, counted in milliseconds from when the node takes the request.
    #[must_use]
    pub fn ttl(self, ttl: Duration) -> Self {
        Self { expiry: Expiry::In(ttl), ..self }
    }

    /// The key expires at this moment, in milliseconds.
    #[must_use]
    pub fn expire_at(self, deadline: SystemTime) -> Self {
        Self { expiry: Expiry::At(deadline), ..self }
    }

    /// The deadline that the key has stays.
    #[must_use]
    pub fn keep_ttl(self) -> Self {
        Self { expiry: Expiry::Keep, ..self }
    }

    /// Only if the key is not there. The node asked decides alone, so this is no lock.
    #[must_use]
    pub fn if_absent(self) -> Self {
        Self { condition: Condition::Absent, ..self }
    }

    /// Only if the key is there, as the node asked sees it.
    #[must_use]
    pub fn if_present(self) -> Self {
        Self { condition: Condition::Present, ..self }
    }

    pub(super) fn is_conditional(self) -> bool {
        self.condition != Condition::Always
    }

    /// Calls `with` with the arguments that follow key and value.
    pub(super) fn words(self) -> Words {
        let mut words = Words::default();
        match self.expiry {
            Expiry::Never => {}
            Expiry::In(ttl) => words.pair(b"PX", millis(ttl)),
            Expiry::At(at) => {
                words.pair(b"PXAT", millis(at.duration_since(UNIX_EPOCH).unwrap_or_default()));
            }
            Expiry::Keep => words.push(b"KEEPTTL"),
        }
        match self.condition {
            Condition::Always => {}
            Condition::Absent => words.push(b"NX"),
            Condition::Present => words.push(b"XX"),
        }
        words
    }
}

/// The last arguments of a request, at most one number among them.
#[derive(Default)]
pub(super) struct Words {
    number: itoa::Buffer,
    millis: u64,
    words: [&'static [u8]; 3],
    len: usize,
    number_at: Option<usize>,
}

impl Words {
    fn push(&mut self, word: &'static [u8]) {
        self.words[self.len] = word;
        self.len += 1;
    }

    fn pair(&mut self, word: &'static [u8], millis: u64) {
        self.push(word);
        self.number_at = Some(self.len);
        self.millis = millis;
        self.push(b"");
    }

    /// Appends them to `args`.
    pub(super) fn append<'a>(&'a mut self, args: &mut Vec<&'a [u8]>) {
        let number = self.number.format(self.millis).as_bytes();
        for (at, word) in self.words[..self.len].iter().enumerate() {
            args.push(if Some(at) == self.number_at { number } else { word });
        }
    }
}

/// Whole milliseconds, at least one unless there are none at all: a deadline is not to be moved to now.
pub(super) fn millis(duration: Duration) -> u64 {
    let millis = duration.as_nanos().div_ceil(1_000_000);
    u64::try_from(millis).unwrap_or(u64::MAX)
}

/// How long a key has to live.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ttl {
    /// There is no such key.
    Missing,
    /// It has no deadline.
    Forever,
    /// So long.
    Left(Duration),
}

/// What `SAPWOOD META` tells of a key.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Meta {
    /// The timestamp of the latest `SET`, `DEL` or increment: that of a [`WatchItem`](super::WatchItem), too.
    pub version: Timestamp,
    /// The timestamp of the deadline, equal to the version unless `EXPIRE` or `PERSIST` came after it.
    pub deadline_timestamp: Timestamp,
    /// Whether a value is there: neither deleted nor expired.
    pub live: bool,
    /// When it expires.
    pub deadline: Option<SystemTime>,
    /// The length of the value, if there is one.
    pub value_bytes: Option<u64>,
}

/// Time and origin of a write; the larger timestamp wins.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[non_exhaustive]
pub struct Timestamp {
    /// The hybrid clock's time in NTP64: seconds since 1970 in the upper 32 bits, their fraction in the lower.
    pub time: u64,
    /// The incarnation of the node that took the write, in hexadecimal.
    pub origin: String,
}

impl Timestamp {
    /// The time for people.
    pub fn at(&self) -> SystemTime {
        let nanos = ((self.time & 0xffff_ffff) * 1_000_000_000) >> 32;
        UNIX_EPOCH + Duration::from_secs(self.time >> 32) + Duration::from_nanos(nanos)
    }
}

impl Meta {
    pub(super) fn read(frame: Frame) -> Result<Meta, Unfit> {
        let mut fields = reply::Fields::read(frame)?;
        let mut timestamp = |time, origin| {
            Ok(Timestamp {
                time: reply::digits(fields.take(time)?)?,
                origin: reply::text(fields.take(origin)?)?,
            })
        };
        let version = timestamp("version", "origin")?;
        let deadline_timestamp = timestamp("deadline_timestamp", "deadline_origin")?;
        Ok(Meta {
            version,
            deadline_timestamp,
            live: reply::truth(fields.take("live")?)?,
            deadline: moment(reply::int(fields.take("deadline_ms")?)?),
            value_bytes: u64::try_from(reply::int(fields.take("value_bytes")?)?).ok(),
        })
    }
}

/// Milliseconds since 1970; a negative number stands for none.
pub(super) fn moment(millis: i64) -> Option<SystemTime> {
    u64::try_from(millis).ok().map(|millis| UNIX_EPOCH + Duration::from_millis(millis))
}
