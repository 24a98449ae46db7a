//! When or how often keys were accessed, approximately: what LRU and LFU choose victims by.
//!
//! One table of 32-bit entries. A key has the entry at which its hash points, and so has every key that collides with it:
//! they look as if all their accesses were accesses of each. That costs a victim now and then that would have been
//! chosen a little earlier, and spares the cells.
//!
//! Entries are read and written without a lock: a lost update is one access less.

use std::cell::Cell as Local;
use std::sync::atomic::{AtomicU32, Ordering::Relaxed};
use std::time::Duration;

use xxhash_rust::xxh3::xxh3_64;

use crate::model::Time;

/// Bytes of `--max-memory` for one entry. Most cells take more, so there is one entry for each, and the table takes a
/// thirty-second of `--max-memory`.
const BYTES_PER_ENTRY: u64 = 128;

/// The bits of a time that the LRU clock drops: it ticks 256 times a second, and begins again after 194 days.
const TICK_BITS: u32 = 24;

/// Ticks or minutes by which an access may seem to be later than now, because another thread has set the clock back to
/// the time of its own batch.
const SLACK: u32 = 16;

/// The LFU counter of a new key, as in Redis: it has time to be read before it is the one with the least.
const NEW: u32 = 5;

/// How the counter grows, as in Redis: one access of `1 + 10 * (counter - NEW)` increments it, so 255 means about a
/// million accesses.
const GROWTH: u32 = 10;

/// What is recorded of each key.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// The tick of the last access.
    Recency,
    /// A Morris counter of accesses that loses 1 a minute (Morris, *Counting Large Numbers of Events in Small
    /// Registers*, 1978); the bits above it hold the minute of the last loss.
    Frequency,
}

/// The last access or the number of accesses of each key.
pub(super) struct Accesses {
    kind: Kind,
    /// The present tick or minute.
    now: AtomicU32,
    entries: Box<[AtomicU32]>,
}

impl Accesses {
    /// A table for cells that take so many bytes together.
    pub(super) fn new(kind: Kind, max_memory: u64) -> Accesses {
        let count = usize::try_from(max_memory / BYTES_PER_ENTRY).unwrap_or(usize::MAX).max(1);
        let entries = std::iter::repeat_with(AtomicU32::default).take(count).collect();
        Accesses { kind, now: AtomicU32::new(0), entries }
    }

    /// The bytes that it takes.
    pub(super) fn bytes(&self) -> u64 {
        size_of_val(&*self.entries) as u64
    }

    /// Sets the clock by which accesses are recorded.
    pub(super) fn set_clock(&self, now: Time) {
        let now = match self.kind {
            Kind::Recency => now.0 >> TICK_BITS,
            Kind::Frequency => (now.0 >> 32) / 60,
        };
        #[expect(clippy::cast_possible_truncation, reason = "only differences matter")]
        let now = now as u32;
        if self.now.load(Relaxed) != now {
            self.now.store(now, Relaxed);
        }
    }

    /// Records an access of an existing key.
    #[inline]
    pub(super) fn touch(&self, key_hash: u64) {
        self.set(key_hash, |was, now| match self.kind {
            Kind::Recency => now,
            Kind::Frequency => incremented(was, now, draw()),
        });
    }

    /// Records that a key is there from now on.
    pub(super) fn begin(&self, key_hash: u64) {
        self.set(key_hash, |was, now| match self.kind {
            Kind::Recency => now,
            Kind::Frequency => frequency_entry(decayed(was, now).max(NEW), now),
        });
    }

    /// Writes an entry only if it changes, so that those who read one key do not contend for its cache line.
    fn set(&self, key_hash: u64, next: impl FnOnce(u32, u32) -> u32) {
        let entry = self.entry(key_hash);
        let was = entry.load(Relaxed);
        let next = next(was, self.now.load(Relaxed));
        if next != was {
            entry.store(next, Relaxed);
        }
    }

    #[expect(clippy::cast_possible_truncation, reason = "it is below the number of entries")]
    fn entry(&self, key_hash: u64) -> &AtomicU32 {
        &self.entries[((u128::from(key_hash) * self.entries.len() as u128) >> 64) as usize]
    }

    /// How good a victim the key is: more is better.
    pub(super) fn rank(&self, key_hash: u64) -> u64 {
        let (entry, now) = (self.entry(key_hash).load(Relaxed), self.now.load(Relaxed));
        match self.kind {
            Kind::Recency => u64::from(ticks_since(entry, now)),
            // Of those of one frequency, the one that was not accessed for longer.
            Kind::Frequency => {
                u64::from(255 - decayed(entry, now)) << 16 | u64::from(minutes_since(entry, now))
            }
        }
    }

    /// The time since the last access; `None` if accesses are counted.
    pub(super) fn idle(&self, key_hash: u64) -> Option<Duration> {
        let (entry, now) = (self.entry(key_hash).load(Relaxed), self.now.load(Relaxed));
        let ticks = (self.kind == Kind::Recency).then(|| ticks_since(entry, now))?;
        Some(Duration::from_secs(u64::from(ticks) >> (32 - TICK_BITS)))
    }

    /// The LFU counter, 0 to 255; `None` if accesses are not counted.
    pub(super) fn frequency(&self, key_hash: u64) -> Option<u32> {
        let (entry, now) = (self.entry(key_hash).load(Relaxed), self.now.load(Relaxed));
        (self.kind == Kind::Frequency).then(|| decayed(entry, now))
    }
}

fn ticks_since(entry: u32, now: u32) -> u32 {
    let since = now.wrapping_sub(entry);
    if since > u32::MAX - SLACK { 0 } else { since }
}

/// Minutes since the counter has last lost what it loses.
fn minutes_since(entry: u32, now: u32) -> u32 {
    let since = now.wrapping_sub(entry >> 8) & 0xFFFF;
    if since > 0xFFFF - SLACK { 0 } else { since }
}

/// The counter without what it has lost since.
fn decayed(entry: u32, now: u32) -> u32 {
    (entry & 0xFF).saturating_sub(minutes_since(entry, now))
}

fn frequency_entry(counter: u32, now: u32) -> u32 {
    (now & 0xFFFF) << 8 | counter
}

fn incremented(entry: u32, now: u32, random: u64) -> u32 {
    let counter = decayed(entry, now);
    let one_in = u64::from(counter.saturating_sub(NEW) * GROWTH + 1);
    let is_counted = counter < 255 && random.is_multiple_of(one_in);
    frequency_entry(counter + u32::from(is_counted), now)
}

/// A random number that costs no cache line shared between threads. It decides only which access counts.
fn draw() -> u64 {
    thread_local! {
        static DRAWN: Local<u64> = const { Local::new(0) };
    }
    let drawn = DRAWN.get().wrapping_add(1);
    DRAWN.set(drawn);
    xxh3_64(&drawn.to_le_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn table(kind: Kind) -> Accesses {
        Accesses::new(kind, 1 << 20)
    }

    fn seconds(seconds: u64) -> Time {
        Time(seconds << 32)
    }

    #[test]
    fn the_least_recently_accessed_key_is_the_best_victim() {
        let accesses = table(Kind::Recency);
        let [old, read, new] = [1 << 60, 2 << 60, 3 << 60];
        accesses.set_clock(seconds(1_000));
        accesses.begin(old);
        accesses.begin(read);
        accesses.set_clock(seconds(1_100));
        accesses.touch(read);
        accesses.begin(new);
        accesses.set_clock(seconds(1_107));
        assert!(accesses.rank(old) > accesses.rank(read));
        assert_eq!(accesses.rank(read), accesses.rank(new));
        assert_eq!(accesses.idle(old), Some(Duration::from_secs(107)));
        assert_eq!(accesses.idle(read), Some(Duration::from_secs(7)));
        assert_eq!(accesses.frequency(read), None);
    }

    #[test]
    fn a_clock_that_another_thread_sets_back_makes_no_key_look_old() {
        let accesses = table(Kind::Recency);
        accesses.set_clock(Time(1_000 << TICK_BITS));
        accesses.touch(0);
        accesses.set_clock(Time(999 << TICK_BITS));
        assert_eq!(accesses.rank(0), 0);
    }

    #[test]
    fn the_counter_grows_with_the_logarithm_of_accesses_and_decays() {
        let accesses = table(Kind::Frequency);
        accesses.set_clock(seconds(6_000_000));
        accesses.begin(0);
        assert_eq!(accesses.frequency(0), Some(NEW));
        let mut counts = Vec::new();
        for accessed in [100, 1_000, 100_000] {
            (0..accessed).for_each(|_| accesses.touch(0));
            counts.push(accesses.frequency(0).unwrap());
        }
        // Redis's documentation: 10, 18 and 142 after 100, 1,000 and 100,000 accesses.
        assert!((7..=14).contains(&counts[0]) && (14..=30).contains(&counts[1]), "{counts:?}");
        assert!((110..=190).contains(&counts[2]), "{counts:?}");
        accesses.set_clock(seconds(6_000_000 + 60 * 20));
        assert_eq!(accesses.frequency(0), Some(counts[2] - 20));
        accesses.set_clock(seconds(6_000_000 + 60 * 300));
        assert_eq!(accesses.frequency(0), Some(0));
        accesses.begin(0);
        assert_eq!((accesses.frequency(0), accesses.idle(0)), (Some(NEW), None));
    }

    #[test]
    fn the_least_frequently_accessed_key_is_the_best_victim() {
        let accesses = table(Kind::Frequency);
        let [rare, frequent] = [1 << 60, 2 << 60];
        accesses.set_clock(seconds(60_000));
        accesses.begin(rare);
        accesses.begin(frequent);
        (0..50).for_each(|_| accesses.touch(frequent));
        assert!(accesses.rank(rare) > accesses.rank(frequent));
    }
}
