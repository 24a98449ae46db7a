//! When the reader of the feed is woken.

use std::time::Duration;

use crate::model::Time;
use crate::model::timestamp::time_since_epoch;

/// How long changes are gathered under load. It adds as much to the replication lag then, and as a timer's tick is a
/// millisecond, up to 2 ms to that of the last change before the load ends.
pub(crate) const GATHER: Duration = Duration::from_micros(500);

/// How long changes are counted before the load is judged.
const WINDOW: Duration = Duration::from_millis(1);

/// The load, in changes a second, from which on changes are gathered. One client that waits for each write to reach the
/// peers before it sends the next stays below it.
const LOAD: u64 = 16_000;

/// Wakes the reader at once while changes are few, and about every [`GATHER`] while they are many.
///
/// To send a frame to a peer takes two system calls and wakes a process, many times what its cells take. A timer is set
/// only for the end of the load: as long as it lasts, the writers themselves notice that a frame is due.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Pace {
    /// When the window began in which changes are counted, and the number of all changes before it.
    window: (Time, u64),
    gathers: bool,
    /// The time from which on a change wakes the reader.
    due: Time,
}

impl Pace {
    /// Whether a change at the time `now` wakes the reader.
    pub(super) fn is_due(&self, now: Time) -> bool {
        now >= self.due
    }

    /// Notes that all changes up to `sequence` are taken at the time `now`. Returns whether the next ones are gathered.
    pub(super) fn take(&mut self, sequence: u64, now: Time) -> bool {
        let (began, before) = self.window;
        let length = now.0.saturating_sub(began.0);
        if length >= time_since_epoch(WINDOW).0 {
            let changes = u128::from(sequence - before);
            // Times count 2^-32 s.
            self.gathers = changes << 32 > u128::from(LOAD) * u128::from(length);
            self.window = (now, sequence);
        }
        self.due = if self.gathers {
            Time(now.0.saturating_add(time_since_epoch(GATHER).0))
        } else {
            Time::default()
        };
        self.gathers
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn micros(micros: u64) -> Time {
        time_since_epoch(Duration::from_micros(micros))
    }

    /// Takes every `every` microseconds, each time `changes` more, for 100 ms; returns how often the next were gathered.
    fn gathered(pace: &mut Pace, start: u64, every: u64, changes: u64) -> usize {
        let rounds = 100_000 / every;
        let takes = (1..=rounds).map(|n| (micros(start + n * every), pace.window.1 + n * changes));
        let takes: Vec<_> = takes.collect();
        takes.into_iter().filter(|&(now, sequence)| pace.take(sequence, now)).count()
    }

    #[test]
    fn few_changes_wake_the_reader_at_once_and_many_every_500_microseconds() {
        let mut pace = Pace::default();
        assert!(pace.is_due(Time(0)));
        assert_eq!(gathered(&mut pace, 1_000_000, 100, 1), 0, "10,000 a second");
        assert!(pace.is_due(micros(1_100_000)));
        assert!(gathered(&mut pace, 1_100_000, 50, 2) > 1950, "40,000 a second");
        let last = micros(1_200_000);
        assert!(!pace.is_due(last) && !pace.is_due(micros(1_200_490)) && pace.is_due(micros(1_200_510)));
    }

    #[test]
    fn the_load_ends_with_the_first_window_without_changes() {
        let mut pace = Pace::default();
        pace.take(0, micros(1_000_000));
        assert!(pace.take(1000, micros(1_001_000)));
        assert!(!pace.take(1000, micros(1_002_500)));
        assert!(pace.is_due(micros(1_002_500)));
    }

    #[test]
    fn a_burst_alone_is_no_load() {
        let mut pace = Pace::default();
        pace.take(0, micros(1_000_000));
        assert!(!pace.take(10, micros(1_000_100)), "too short a time to tell");
        assert!(!pace.take(12, micros(1_001_000)));
    }
}
