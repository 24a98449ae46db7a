//! The argument and result types of a client's methods.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use crate::reply::{self, Unfit};
use crate::resp::Frame;

/// The options of [`Client::set_with`](crate::Client::set_with).
///
/// ```
/// use std::time::Duration;
/// use sapwood_client::SetOptions;
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
    /// Without options: the value and any deadline are replaced.
    pub fn new() -> Self {
        Self::default()
    }

    /// Lets the key expire after `ttl`, in whole milliseconds from when the node executes the request.
    #[must_use]
    pub fn ttl(self, ttl: Duration) -> Self {
        Self { expiry: Expiry::In(ttl), ..self }
    }

    /// Lets the key expire at this time, in whole milliseconds.
    #[must_use]
    pub fn expire_at(self, deadline: SystemTime) -> Self {
        Self { expiry: Expiry::At(deadline), ..self }
    }

    /// Keeps the key's present deadline.
    #[must_use]
    pub fn keep_ttl(self) -> Self {
        Self { expiry: Expiry::Keep, ..self }
    }

    /// Sets only if the key is absent on the connected node. Other nodes are not asked, so this is no lock.
    #[must_use]
    pub fn if_absent(self) -> Self {
        Self { condition: Condition::Absent, ..self }
    }

    /// Sets only if the key is present on the connected node.
    #[must_use]
    pub fn if_present(self) -> Self {
        Self { condition: Condition::Present, ..self }
    }

    pub(crate) fn is_conditional(self) -> bool {
        self.condition != Condition::Always
    }

    /// The arguments that follow key and value.
    pub(crate) fn words(self) -> Words {
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

/// The last arguments of a request, with at most one number.
#[derive(Default)]
pub(crate) struct Words {
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

    /// Appends the arguments to `args`.
    pub(crate) fn append<'a>(&'a mut self, args: &mut Vec<&'a [u8]>) {
        let number = self.number.format(self.millis).as_bytes();
        for (at, word) in self.words[..self.len].iter().enumerate() {
            args.push(if Some(at) == self.number_at { number } else { word });
        }
    }
}

/// Whole milliseconds, at least 1 unless the duration is zero: rounding down must not make a key expire now.
pub(crate) fn millis(duration: Duration) -> u64 {
    let millis = duration.as_nanos().div_ceil(1_000_000);
    u64::try_from(millis).unwrap_or(u64::MAX)
}

/// The remaining time to live of a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ttl {
    /// There is no such key.
    Missing,
    /// The key has no deadline.
    Forever,
    /// The key expires after this time.
    Left(Duration),
}

/// The reply of `SAPWOOD META` for a key.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Meta {
    /// The timestamp of the latest `SET`, `DEL` or increment, as in a [`WatchItem`](crate::WatchItem).
    pub timestamp: Timestamp,
    /// The deadline timestamp; equal to `timestamp` unless an `EXPIRE` or `PERSIST` came later.
    pub deadline_timestamp: Timestamp,
    /// Whether the key has a value: neither deleted nor expired.
    pub live: bool,
    /// When the key expires.
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
    /// The time as a [`SystemTime`].
    pub fn at(&self) -> SystemTime {
        let nanos = ((self.time & 0xffff_ffff) * 1_000_000_000) >> 32;
        UNIX_EPOCH + Duration::from_secs(self.time >> 32) + Duration::from_nanos(nanos)
    }
}

impl Meta {
    pub(crate) fn read(frame: Frame) -> Result<Meta, Unfit> {
        let mut fields = reply::Fields::read(frame)?;
        let mut read = |time, origin| {
            Ok(Timestamp {
                time: reply::digits(fields.take(time)?)?,
                origin: reply::text(fields.take(origin)?)?,
            })
        };
        let timestamp = read("timestamp", "origin")?;
        let deadline_timestamp = read("deadline_timestamp", "deadline_origin")?;
        Ok(Meta {
            timestamp,
            deadline_timestamp,
            live: reply::truth(fields.take("live")?)?,
            deadline: moment(reply::int(fields.take("deadline_ms")?)?),
            value_bytes: u64::try_from(reply::int(fields.take("value_bytes")?)?).ok(),
        })
    }
}

/// Converts milliseconds since 1970; `None` for a negative number, which stands for no time, and for a time beyond the
/// scale of the system.
pub(crate) fn moment(millis: i64) -> Option<SystemTime> {
    UNIX_EPOCH.checked_add(Duration::from_millis(u64::try_from(millis).ok()?))
}
