//! Which connection took the writes that a `wait` or `token` covers. Uses no socket and no clock.
//!
//! ```text
//!   a write replied ──► fresh ──ask──► asked ──answered on the same connection──► nothing
//!                         ▲              ├──answered on another: Replaced──► asked
//!                         └──dropped─────┤
//!                                        └──failed──► asked, until there is something fresh
//! ```
//!
//! So each write is covered by the first later `wait` that returns, even if it returns an error.

use std::sync::{Mutex, MutexGuard, PoisonError};

/// The writes of one clone of a client, by the number of the connection that took them.
#[derive(Debug, Default)]
pub(crate) struct Unconfirmed(Mutex<Marks>);

#[derive(Debug, Default)]
struct Marks {
    /// The connection of the first write that no `wait` has covered.
    fresh: Option<u64>,
    /// The connection of the first write that the last `wait` covered; `None` once that write is confirmed.
    asked: Option<u64>,
}

impl Unconfirmed {
    /// Records that `connection` took a write.
    pub(crate) fn wrote(&self, connection: u64) {
        self.marks().fresh.get_or_insert(connection);
    }

    /// Begins a `wait` for all writes not yet covered. If there are none, it covers those of the last `wait` again.
    pub(crate) fn ask(&self) -> Question<'_> {
        let mut marks = self.marks();
        let fresh = marks.fresh.take();
        marks.asked = fresh.or(marks.asked);
        Question { unconfirmed: self, fresh, first: marks.asked, is_open: true }
    }

    fn marks(&self) -> MutexGuard<'_, Marks> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A `wait` in progress. If it is dropped before it returns, its writes count as not covered.
#[derive(Debug)]
pub(crate) struct Question<'a> {
    unconfirmed: &'a Unconfirmed,
    /// The value taken from `fresh`.
    fresh: Option<u64>,
    /// The connection of the first write that it covers.
    first: Option<u64>,
    is_open: bool,
}

impl Question<'_> {
    /// Ends the `wait` after a reply on `connection`; returns whether that connection took all the writes.
    pub(crate) fn answered(mut self, connection: u64) -> bool {
        self.is_open = false;
        let covers = self.first.is_none_or(|first| first == connection);
        let mut marks = self.unconfirmed.marks();
        if covers && marks.asked == self.first {
            marks.asked = None;
        }
        covers
    }

    /// Ends the `wait` with an error, which is returned to the caller.
    pub(crate) fn failed(mut self) {
        self.is_open = false;
    }
}

impl Drop for Question<'_> {
    fn drop(&mut self) {
        if self.is_open {
            let mut marks = self.unconfirmed.marks();
            // Earlier than any later write.
            marks.fresh = self.fresh.or(marks.fresh);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn writes_on_the_connection_that_is_asked_are_covered() {
        let unconfirmed = Unconfirmed::default();
        assert!(unconfirmed.ask().answered(1), "nothing was written");
        unconfirmed.wrote(1);
        assert!(unconfirmed.ask().answered(1));
        assert!(unconfirmed.ask().answered(2), "nothing was written since");
        unconfirmed.wrote(2);
        assert!(unconfirmed.ask().answered(2));
    }

    #[test]
    fn a_write_on_a_replaced_connection_is_not_covered_however_often_one_asks() {
        let unconfirmed = Unconfirmed::default();
        unconfirmed.wrote(1);
        unconfirmed.wrote(2);
        assert!(!unconfirmed.ask().answered(2));
        assert!(!unconfirmed.ask().answered(2));
        unconfirmed.wrote(2);
        assert!(unconfirmed.ask().answered(2));
    }

    #[test]
    fn what_a_failed_wait_was_about_is_asked_again_until_something_is_written() {
        let unconfirmed = Unconfirmed::default();
        unconfirmed.wrote(1);
        unconfirmed.ask().failed();
        assert!(!unconfirmed.ask().answered(2));
        unconfirmed.ask().failed();
        unconfirmed.wrote(2);
        assert!(unconfirmed.ask().answered(2));
    }

    #[test]
    fn a_wait_that_is_dropped_has_been_about_nothing() {
        let unconfirmed = Unconfirmed::default();
        unconfirmed.wrote(1);
        let question = unconfirmed.ask();
        unconfirmed.wrote(2);
        drop(question);
        assert!(!unconfirmed.ask().answered(2));
    }

    #[test]
    fn what_is_written_while_a_wait_is_under_way_is_left_to_the_next() {
        let unconfirmed = Unconfirmed::default();
        unconfirmed.wrote(1);
        let question = unconfirmed.ask();
        unconfirmed.wrote(1);
        assert!(question.answered(1));
        assert!(!unconfirmed.ask().answered(2));
    }
}
