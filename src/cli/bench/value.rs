//! Values: their sizes and bytes, and the check of what is read.
//!
//! With `--verify` a value begins with a stamp, 56 hexadecimal digits:
//!
//! ```text
//!   checksum  8   CRC-32C of all that follows
//!   run      16   random, of this run
//!   key      16   the number of the key
//!   sequence 16   counts the values of the run
//! ```
//!
//! So a value that was damaged, that belongs to another key or another run, or that was never written is detected.

use std::fmt;
use std::io::Write as _;
use std::ops::Range;
use std::str::FromStr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use rand::rngs::StdRng;
use rand::{Rng as _, RngCore as _, SeedableRng as _};
use sapwood::config::Size;

/// The length of a stamp in bytes.
pub(super) const STAMP: u64 = 56;
const CHECKSUM: Range<usize> = 0..8;
const RUN: Range<usize> = 8..24;
const KEY: Range<usize> = 24..40;
const SEQUENCE: Range<usize> = 40..56;

/// The largest value: each of them is held in memory, once for each request under way.
pub(super) const MAX_SIZE: u64 = 64 << 20;

/// The smallest and the largest size of a value in bytes, drawn uniformly.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct ValueSize {
    pub(super) min: u64,
    pub(super) max: u64,
}

/// The text is not a size or a range.
#[derive(Debug, thiserror::Error)]
#[error("write a size or a range, up to 64MiB, such as 100, 4KiB or 64..4096")]
pub(super) struct NotAValueSize;

impl FromStr for ValueSize {
    type Err = NotAValueSize;

    fn from_str(text: &str) -> Result<Self, NotAValueSize> {
        let size = |text: &str| text.trim().parse::<Size>().map(|size| size.0).map_err(|_| NotAValueSize);
        let (min, max) = match text.split_once("..") {
            Some((min, max)) => (size(min)?, size(max)?),
            None => (size(text)?, size(text)?),
        };
        if min <= max && max <= MAX_SIZE { Ok(ValueSize { min, max }) } else { Err(NotAValueSize) }
    }
}

impl fmt::Display for ValueSize {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let ValueSize { min, max } = *self;
        if min == max { Size(min).fmt(f) } else { write!(f, "{}..{}", Size(min), Size(max)) }
    }
}

/// The stamps of one run.
#[derive(Debug)]
pub(super) struct Stamps {
    /// Tells this run from all others.
    run: u64,
    /// The number of stamps so far, which is the sequence of the next.
    issued: AtomicU64,
}

/// What is wrong with a value that was read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Wrong {
    /// It has no stamp, or its checksum does not fit.
    Damaged,
    /// Another run wrote it.
    OtherRun,
    /// It was written to another key.
    OtherKey,
    /// This run has not written it yet.
    NotWritten,
    /// There is none, although the key was written and never deleted.
    Missing,
}

impl Wrong {
    pub(super) const ALL: [Wrong; 5] =
        [Wrong::Damaged, Wrong::OtherRun, Wrong::OtherKey, Wrong::NotWritten, Wrong::Missing];

    /// The name in JSON.
    pub(super) fn name(self) -> &'static str {
        match self {
            Wrong::Damaged => "damaged",
            Wrong::OtherRun => "other_run",
            Wrong::OtherKey => "other_key",
            Wrong::NotWritten => "not_written",
            Wrong::Missing => "missing",
        }
    }

    /// Describes the value that was read.
    pub(super) fn text(self) -> &'static str {
        match self {
            Wrong::Damaged => "is not as any run wrote it: its checksum does not fit",
            Wrong::OtherRun => "is of another run, or of another one that runs now (--prefix separates them)",
            Wrong::OtherKey => "was written to another key",
            Wrong::NotWritten => "was not written yet when it was read",
            Wrong::Missing => "is missing, although it was written and never deleted",
        }
    }
}

impl Stamps {
    pub(super) fn new(run: u64) -> Stamps {
        Stamps { run, issued: AtomicU64::new(0) }
    }

    /// Writes a new stamp to the beginning of `value`, which is long enough.
    fn write(&self, value: &mut [u8], key: u64) {
        let sequence = self.issued.fetch_add(1, Ordering::SeqCst);
        put(&mut value[RUN], self.run);
        put(&mut value[KEY], key);
        put(&mut value[SEQUENCE], sequence);
        let checksum = crc32c::crc32c(&value[CHECKSUM.end..]);
        put(&mut value[CHECKSUM], checksum.into());
    }

    /// Checks a value that was just read from `key`.
    pub(super) fn check(&self, value: &[u8], key: u64) -> Result<(), Wrong> {
        let number = |range: Range<usize>| {
            let digits = str::from_utf8(value.get(range)?).ok()?;
            u64::from_str_radix(digits, 16).ok()
        };
        let fields = (number(CHECKSUM), number(RUN), number(KEY), number(SEQUENCE));
        let (Some(checksum), Some(run), Some(of_key), Some(sequence)) = fields else {
            return Err(Wrong::Damaged);
        };
        if checksum != u64::from(crc32c::crc32c(&value[CHECKSUM.end..])) {
            Err(Wrong::Damaged)
        } else if run != self.run {
            Err(Wrong::OtherRun)
        } else if of_key != key {
            Err(Wrong::OtherKey)
        } else if sequence >= self.issued.load(Ordering::SeqCst) {
            Err(Wrong::NotWritten)
        } else {
            Ok(())
        }
    }
}

/// Writes `number` in hexadecimal, with leading zeros. It must fit.
fn put(mut out: &mut [u8], number: u64) {
    let width = out.len();
    write!(out, "{number:0width$x}").expect("there is room for every digit");
}

/// Makes values. Each worker has its own.
#[derive(Debug, Clone)]
pub(super) struct Values {
    size: ValueSize,
    /// Twice as long as the largest value: every value is a part of it.
    filler: Arc<[u8]>,
    stamps: Option<Arc<Stamps>>,
    /// The value made last, if it has a stamp.
    stamped: Vec<u8>,
}

impl Values {
    /// Values of `size`, with stamps if there are `stamps`; then they must be long enough.
    pub(super) fn new(size: ValueSize, stamps: Option<Arc<Stamps>>, seed: u64) -> Values {
        // Letters without repetition: what compresses well would be a special case.
        let mut random = StdRng::seed_from_u64(seed);
        let mut filler = vec![0; usize::try_from(2 * size.max).unwrap_or(0)];
        random.fill_bytes(&mut filler);
        filler.iter_mut().for_each(|byte| *byte = b'0' + *byte % 64);
        Values { size, filler: filler.into(), stamps, stamped: Vec::new() }
    }

    /// Makes a new value for `key`.
    pub(super) fn make(&mut self, key: u64, random: &mut StdRng) -> &[u8] {
        let ValueSize { min, max } = self.size;
        // The sizes are checked to be small.
        let draw = |random: &mut StdRng, min, max| {
            let drawn = if min == max { min } else { random.random_range(min..=max) };
            usize::try_from(drawn).unwrap_or(0)
        };
        let len = draw(random, min, max);
        let start = draw(random, 0, max);
        let part = &self.filler[start..start + len];
        match &self.stamps {
            None => part,
            Some(stamps) => {
                self.stamped.clear();
                self.stamped.extend_from_slice(part);
                stamps.write(&mut self.stamped, key);
                &self.stamped
            }
        }
    }

    /// Checks a value that was read, if values have stamps.
    pub(super) fn check(&self, value: &[u8], key: u64) -> Result<(), Wrong> {
        self.stamps.as_ref().map_or(Ok(()), |stamps| stamps.check(value, key))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SIZE: ValueSize = ValueSize { min: 60, max: 90 };

    fn stamped(run: u64) -> (Values, Arc<Stamps>) {
        let stamps = Arc::new(Stamps::new(run));
        (Values::new(SIZE, Some(Arc::clone(&stamps)), 1), stamps)
    }

    #[test]
    fn sizes_are_read_as_they_are_written() {
        for (text, min, max, written) in [
            ("100", 100, 100, "100"),
            ("64..4096", 64, 4096, "64..4KiB"),
            ("1KiB .. 1MiB", 1 << 10, 1 << 20, "1KiB..1MiB"),
            ("0", 0, 0, "0"),
        ] {
            let size: ValueSize = text.parse().unwrap();
            assert_eq!((size, size.to_string()), (ValueSize { min, max }, written.to_owned()));
        }
        for bad in ["", "..", "1..", "5..4", "65MiB", "-1", "1..2..3"] {
            assert!(bad.parse::<ValueSize>().is_err(), "{bad}");
        }
    }

    #[test]
    fn all_sizes_of_the_range_occur_and_values_differ() {
        let mut random = StdRng::seed_from_u64(2);
        let mut values = Values::new(SIZE, None, 1);
        let made: Vec<_> = (0..2_000).map(|key| values.make(key, &mut random).to_vec()).collect();
        let mut sizes: Vec<_> = made.iter().map(Vec::len).collect();
        sizes.sort_unstable();
        sizes.dedup();
        assert_eq!(sizes, (60..=90).collect::<Vec<_>>());
        assert_ne!(made[0], made[1]);
    }

    #[test]
    fn what_this_run_wrote_to_the_key_is_right() {
        let (mut values, stamps) = stamped(7);
        let mut random = StdRng::seed_from_u64(1);
        for key in 0..100 {
            let value = values.make(key, &mut random);
            assert!((60..=90).contains(&value.len()) && str::from_utf8(value).is_ok());
            assert_eq!(stamps.check(value, key), Ok(()));
            assert_eq!(stamps.check(value, key + 1), Err(Wrong::OtherKey));
        }
    }

    #[test]
    fn any_changed_byte_is_damage() {
        let (mut values, stamps) = stamped(7);
        let value = values.make(3, &mut StdRng::seed_from_u64(1)).to_vec();
        for at in 0..value.len() {
            let mut damaged = value.clone();
            damaged[at] ^= 1;
            assert_eq!(stamps.check(&damaged, 3), Err(Wrong::Damaged), "byte {at}");
        }
        for len in 0..value.len() {
            assert_eq!(stamps.check(&value[..len], 3), Err(Wrong::Damaged), "{len} bytes");
        }
        assert_eq!(stamps.check(b"hello", 3), Err(Wrong::Damaged));
    }

    #[test]
    fn a_value_of_another_run_and_one_of_the_future_are_wrong() {
        let (mut values, stamps) = stamped(7);
        let (_, others) = stamped(8);
        let (_, earlier) = stamped(7);
        let value = values.make(3, &mut StdRng::seed_from_u64(1));
        assert_eq!(stamps.check(value, 3), Ok(()));
        assert_eq!(others.check(value, 3), Err(Wrong::OtherRun));
        assert_eq!(earlier.check(value, 3), Err(Wrong::NotWritten));
    }
}
