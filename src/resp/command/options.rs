//! The options of `SET` and `GETEX`, and deadlines.

use std::mem::discriminant;

use xxhash_rust::xxh3::xxh3_64;

use super::context::{integer, is};
use super::error::CommandError;
use crate::model::{Deadline, Time};
use crate::resp::Args;

/// A time as a client gives it: in seconds or milliseconds, from now or since the Unix epoch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Moment<'a> {
    pub(super) amount: &'a [u8],
    pub(super) in_seconds: bool,
    pub(super) from_now: bool,
}

impl Moment<'_> {
    /// Milliseconds since the Unix epoch, possibly negative; `None` if they exceed 64 bits.
    fn unix_millis(self, amount: i64, now: Time) -> Option<i64> {
        let millis = if self.in_seconds { amount.checked_mul(1000)? } else { amount };
        let base = if self.from_now { i64::try_from(now.as_unix_millis()).ok()? } else { 0 };
        base.checked_add(millis)
    }

    /// The deadline, for `command`. It may be in the past, but an amount of zero or less is an error.
    pub(super) fn deadline(self, now: Time, command: &'static str) -> Result<Deadline, CommandError> {
        let amount = integer(self.amount)?;
        if amount <= 0 {
            return Err(CommandError::ExpireTime(command));
        }
        self.signed_deadline(now, command)
    }

    /// [`Self::deadline`] for `EXPIRE` and the like, which delete the key if the deadline is in the past, however
    /// far.
    pub(super) fn signed_deadline(self, now: Time, command: &'static str) -> Result<Deadline, CommandError> {
        let millis = self.unix_millis(integer(self.amount)?, now);
        let millis = millis.ok_or(CommandError::ExpireTime(command))?;
        // A negative one has passed whatever the clock says, as has zero.
        Ok(Deadline::from_unix_millis(u64::try_from(millis).unwrap_or(0)))
    }
}

/// What a command does to the deadline of a key.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Expiry<'a> {
    /// The option was not given.
    #[default]
    Unsaid,
    /// It stays as it is (`KEEPTTL`).
    Keep,
    /// It is removed (`PERSIST`).
    Remove,
    At(Moment<'a>),
}

impl<'a> Expiry<'a> {
    /// Parses `EX`, `PX`, `EXAT` or `PXAT`.
    fn parse(word: &[u8], amount: Option<&'a [u8]>) -> Option<Expiry<'a>> {
        let (in_seconds, from_now) = if is(word, "ex") {
            (true, true)
        } else if is(word, "px") {
            (false, true)
        } else if is(word, "exat") {
            (true, false)
        } else if is(word, "pxat") {
            (false, false)
        } else {
            return None;
        };
        amount.map(|amount| Expiry::At(Moment { amount, in_seconds, from_now }))
    }
}

/// The condition of `SET`, `MSETEX` and `DELEX`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Condition<'a> {
    #[default]
    Always,
    /// The key is absent (`NX`).
    Absent,
    /// The key exists (`XX`).
    Present,
    /// The key holds this value (`IFEQ`).
    Equal(&'a [u8]),
    /// The key is absent or holds another value (`IFNE`).
    NotEqual(&'a [u8]),
    /// The key holds a value with this [`digest`] (`IFDEQ`).
    DigestEqual(&'a [u8]),
    /// The key is absent or holds a value with another [`digest`] (`IFDNE`).
    DigestNotEqual(&'a [u8]),
}

impl<'a> Condition<'a> {
    /// Parses `IFEQ`, `IFNE`, `IFDEQ` or `IFDNE` and its argument.
    pub(super) fn of_value(word: &[u8], argument: &'a [u8]) -> Result<Option<Self>, CommandError> {
        let (condition, is_digest) = if is(word, "ifeq") {
            (Condition::Equal(argument), false)
        } else if is(word, "ifne") {
            (Condition::NotEqual(argument), false)
        } else if is(word, "ifdeq") {
            (Condition::DigestEqual(argument), true)
        } else if is(word, "ifdne") {
            (Condition::DigestNotEqual(argument), true)
        } else {
            return Ok(None);
        };
        if is_digest && argument.len() != DIGEST_LENGTH {
            return Err(CommandError::said(format!(
                "ERR must be exactly {DIGEST_LENGTH} hexadecimal characters"
            )));
        }
        Ok(Some(condition))
    }

    /// Whether it holds for a key with this value; `None` if it is absent.
    pub(super) fn holds(self, value: Option<&[u8]>) -> bool {
        let has = |expected: &[u8]| value.is_some_and(|value| digest(value).eq_ignore_ascii_case(expected));
        match self {
            Condition::Always => true,
            Condition::Absent => value.is_none(),
            Condition::Present => value.is_some(),
            Condition::Equal(expected) => value == Some(expected),
            Condition::NotEqual(other) => value != Some(other),
            Condition::DigestEqual(expected) => has(expected),
            Condition::DigestNotEqual(other) => !has(other),
        }
    }
}

/// The length of a [`digest`].
const DIGEST_LENGTH: usize = 16;

/// The digest of a value that `DIGEST` returns: its XXH3 hash in hexadecimal digits. It takes as long as a copy.
pub(super) fn digest(value: &[u8]) -> Vec<u8> {
    format!("{:016x}", xxh3_64(value)).into_bytes()
}

/// The options of `SET`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct SetOptions<'a> {
    pub(super) condition: Condition<'a>,
    pub(super) expiry: Expiry<'a>,
    /// Reply with the old value (`GET`).
    pub(super) returns_old: bool,
}

impl<'a> SetOptions<'a> {
    /// Whether the effect or the reply of `SET` depends on the key's present value.
    pub(super) fn depends_on_key(self) -> bool {
        self.returns_old || self.condition != Condition::Always || self.expiry == Expiry::Keep
    }

    /// The deadline, for `command`, that the options give.
    pub(super) fn deadline(self, now: Time, command: &'static str) -> Result<Option<Deadline>, CommandError> {
        match self.expiry {
            Expiry::At(moment) => moment.deadline(now, command).map(Some),
            _ => Ok(None),
        }
    }

    /// Parses the arguments after the key and the value.
    pub(super) fn parse(args: Args<'a>) -> Result<Self, CommandError> {
        let mut options = Self::default();
        let mut at = 0;
        while let Some(word) = args.get(at) {
            at += 1;
            let unsaid = options.expiry == Expiry::Unsaid;
            let (condition, width) = Self::condition(word, args.get(at))?;
            if let Some(condition) = condition {
                let is_kind = discriminant(&condition) == discriminant(&options.condition);
                if options.condition != Condition::Always && !is_kind {
                    return Err(CommandError::Syntax);
                }
                options.condition = condition;
                at += width;
            } else if is(word, "get") {
                options.returns_old = true;
            } else if is(word, "keepttl") && (unsaid || options.expiry == Expiry::Keep) {
                options.expiry = Expiry::Keep;
            } else {
                let expiry = Expiry::parse(word, args.get(at)).filter(|_| unsaid);
                options.expiry = expiry.ok_or(CommandError::Syntax)?;
                at += 1;
            }
        }
        Ok(options)
    }

    /// Parses a condition; also returns how many arguments it has.
    fn condition(
        word: &[u8],
        next: Option<&'a [u8]>,
    ) -> Result<(Option<Condition<'a>>, usize), CommandError> {
        Ok(if is(word, "nx") {
            (Some(Condition::Absent), 0)
        } else if is(word, "xx") {
            (Some(Condition::Present), 0)
        } else {
            (next.map(|next| Condition::of_value(word, next)).transpose()?.flatten(), 1)
        })
    }
}

/// Parses the options of `GETEX`, the arguments after the key.
pub(super) fn getex<'a>(args: Args<'a>) -> Result<Expiry<'a>, CommandError> {
    match args.len() {
        0 => Ok(Expiry::Unsaid),
        1 if is(&args[0], "persist") => Ok(Expiry::Remove),
        2 => Expiry::parse(&args[0], args.get(1)).ok_or(CommandError::Syntax),
        _ => Err(CommandError::Syntax),
    }
}

/// The condition of `EXPIRE` and the like. A key without a deadline counts as expiring at infinity.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct ExpireOptions {
    nx: bool,
    xx: bool,
    gt: bool,
    lt: bool,
}

impl ExpireOptions {
    /// Parses the arguments after the key and the amount.
    pub(super) fn parse(args: Args<'_>) -> Result<Self, CommandError> {
        let mut options = Self::default();
        for word in args {
            let option = if is(word, "nx") {
                &mut options.nx
            } else if is(word, "xx") {
                &mut options.xx
            } else if is(word, "gt") {
                &mut options.gt
            } else if is(word, "lt") {
                &mut options.lt
            } else {
                let word = String::from_utf8_lossy(word);
                return Err(CommandError::said(format!("ERR Unsupported option {word}")));
            };
            *option = true;
        }
        if options.nx && (options.xx || options.gt || options.lt) {
            const TEXT: &str = "ERR NX and XX, GT or LT options at the same time are not compatible";
            return Err(CommandError::said(TEXT));
        }
        if options.gt && options.lt {
            const TEXT: &str = "ERR GT and LT options at the same time are not compatible";
            return Err(CommandError::said(TEXT));
        }
        Ok(options)
    }

    /// Whether the deadline `next` may replace `current`.
    pub(super) fn allow(self, current: Option<Deadline>, next: Deadline) -> bool {
        match current {
            None => !self.xx && !self.gt,
            Some(current) => !(self.nx || self.gt && next <= current || self.lt && next >= current),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::super::{Limits, RequestParser, Step};
    use super::*;
    use crate::model::timestamp::ms;

    fn parsed<T: std::fmt::Debug>(
        words: &str,
        parse: impl Fn(Args<'_>) -> Result<T, CommandError>,
    ) -> String {
        let mut parser = RequestParser::new(Limits::default());
        let line = format!("x {words}\n");
        let Ok(Step::Request { args, .. }) = parser.next(line.as_bytes()) else { panic!("{words}") };
        parse(args.tail(1)).map_or_else(|error| error.to_string(), |options| format!("{options:?}"))
    }

    #[test]
    fn set_takes_one_condition_and_one_expiry() {
        for words in
            ["nx xx", "ex 1 px 1", "keepttl ex 1", "ex 1 keepttl", "ex", "foo", "persist", "ex 1 ex 1"]
        {
            assert_eq!(
                parsed(words, |args| SetOptions::parse(args).map(|_| ())),
                "ERR syntax error",
                "{words}"
            );
        }
        for words in ["", "nx", "XX get", "nx ex 10 get", "keepttl xx", "pxat 1", "nx nx", "ex x"] {
            assert_eq!(parsed(words, |args| SetOptions::parse(args).map(|_| ())), "()", "{words}");
        }
        let options = parsed("NX PXAT 5 GET", |args| {
            let options = SetOptions::parse(args)?;
            assert_eq!((options.condition, options.returns_old), (Condition::Absent, true));
            let Expiry::At(moment) = options.expiry else { panic!("an expiry was said") };
            moment.deadline(Time::default(), "set").map(Deadline::as_unix_millis)
        });
        assert_eq!(options, "5");
    }

    #[test]
    fn a_deadline_beyond_64_bits_is_an_error_and_one_before_1970_has_passed() {
        let moment = |amount, in_seconds, from_now| Moment { amount, in_seconds, from_now };
        let now = ms(1_700_000_000_000);
        for (amount, in_seconds) in [(&b"9223372036854775807"[..], true), (b"9223372036854775", true)] {
            assert!(moment(amount, in_seconds, true).deadline(now, "set").is_err());
        }
        assert!(moment(b"9223372036854775807", false, true).signed_deadline(now, "expire").is_err());
        assert!(moment(b"9223372036854776", true, false).signed_deadline(now, "expire").is_err());
        assert!(moment(b"0", true, true).deadline(now, "set").is_err());
        let set =
            |amount, in_seconds, from_now| moment(amount, in_seconds, from_now).signed_deadline(now, "set");
        assert_eq!(set(b"-5", true, false).unwrap(), Deadline(0));
        assert_eq!(set(b"1500", false, true).unwrap(), Deadline(1_700_000_001_500));
        assert_eq!(set(b"9223372036854775807", false, false).unwrap(), Deadline(i64::MAX as u64));
        assert_eq!(set(b"9223372036854775", true, false).unwrap(), Deadline(9_223_372_036_854_775_000));
    }

    #[test]
    fn a_key_without_a_deadline_lives_longest() {
        let options = |nx, xx, gt, lt| ExpireOptions { nx, xx, gt, lt };
        assert!(!options(false, false, true, false).allow(None, Deadline(5)));
        assert!(options(false, false, false, true).allow(None, Deadline(5)));
        assert!(!options(false, true, false, true).allow(None, Deadline(5)));
        assert!(options(false, false, true, false).allow(Some(Deadline(4)), Deadline(5)));
        assert!(!options(false, false, true, false).allow(Some(Deadline(5)), Deadline(5)));
        assert!(!options(true, false, false, false).allow(Some(Deadline(4)), Deadline(5)));
    }
}
