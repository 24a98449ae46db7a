//! How the floor rises: by what every member says it holds, in two steps.
//!
//! A *candidate* is the time below which every member held every write when its report was made, less a margin. It
//! becomes the floor once every member is known to hold everything up to the newest report it was computed
//! from: from then on everyone knows that everyone has it.

use std::collections::VecDeque;
use std::time::Duration;

use uhlc::NTP64;

use crate::model::{Time, stamp};

/// How many candidates wait at one time, at least [`APART`] from each other: so a delete waits for the two steps
/// once, not twice.
const MAX_CANDIDATES: usize = 64;

/// How far candidates are apart.
const APART: Duration = Duration::from_secs(1);

/// What a member says of itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::replication) struct Report {
    /// The hash of the list of members that it counts with.
    pub(in crate::replication) list: u64,
    /// Its hybrid clock when it said so: of two reports the later one holds.
    pub(in crate::replication) clock: Time,
    /// The time up to which it holds every member's writes.
    pub(in crate::replication) low: Time,
}

/// The floors that wait for everyone to know that everyone has them.
#[derive(Debug, Default)]
pub(super) struct Candidates {
    waiting: VecDeque<Candidate>,
    /// The list of members that they were computed with.
    list: u64,
}

#[derive(Debug)]
struct Candidate {
    floor: Time,
    /// Adopted once every member holds everything up to here.
    once: Time,
}

impl Candidates {
    /// Takes in the reports of all members, which agree on the list; returns a floor to adopt, if there is one.
    pub(super) fn consider(&mut self, reports: &[Report], list: u64, margin: Duration) -> Option<Time> {
        if self.list != list {
            self.clear();
            self.list = list;
        }
        let low = reports.iter().map(|report| report.low).min()?;
        let newest = reports.iter().map(|report| report.clock).max()?;
        let floor = NTP64(low.0.saturating_sub(stamp::time_since_epoch(margin).0));
        let apart = |last: &Candidate| newest >= stamp::later(last.once, APART) && floor > last.floor;
        if self.waiting.len() < MAX_CANDIDATES && self.waiting.back().is_none_or(apart) {
            self.waiting.push_back(Candidate { floor, once: newest });
        }
        let mut adopted = None;
        while let Some(candidate) = self.waiting.front().filter(|candidate| candidate.once <= low) {
            adopted = Some(candidate.floor);
            self.waiting.pop_front();
        }
        adopted
    }

    /// Forgets every candidate.
    pub(super) fn clear(&mut self) {
        self.waiting.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MARGIN: Duration = Duration::from_secs(10);

    fn at(seconds: u64) -> Time {
        NTP64(seconds << 32)
    }

    fn report(clock: u64, low: u64) -> Report {
        Report { list: 1, clock: at(clock), low: at(low) }
    }

    #[test]
    fn a_floor_is_adopted_once_everyone_holds_what_it_was_computed_from() {
        let mut candidates = Candidates::default();
        assert_eq!(candidates.consider(&[report(105, 100), report(102, 95)], 1, MARGIN), None);
        assert_eq!(candidates.consider(&[report(110, 109), report(110, 104)], 1, MARGIN), None);
        assert_eq!(candidates.consider(&[report(112, 111), report(110, 105)], 1, MARGIN), Some(at(85)));
    }

    #[test]
    fn another_list_of_members_starts_anew() {
        let mut candidates = Candidates::default();
        candidates.consider(&[report(100, 95)], 1, MARGIN);
        assert_eq!(candidates.consider(&[report(105, 104)], 2, MARGIN), None);
        assert_eq!(candidates.consider(&[report(110, 106)], 2, MARGIN), Some(at(94)));
    }

    #[test]
    fn a_member_that_holds_nothing_new_stops_it() {
        let mut candidates = Candidates::default();
        for clock in 100..10_000 {
            assert_eq!(candidates.consider(&[report(clock, clock), report(clock, 90)], 1, MARGIN), None);
        }
        assert!(candidates.waiting.len() <= MAX_CANDIDATES);
    }
}
