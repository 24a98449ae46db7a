//! One round, seen from both of its ends. Pure: cells come from a store in memory, messages go where the caller
//! sends them, and nothing here waits.
//!
//! ```text
//!   asker                                     answerer
//!   Start { digest } ------------------------>  equal? Done. Else its state, range by range:
//!   merge <------------------------- State { cells }   while there is credit
//!   Credit { bytes } ------------------------>
//!   finished <------------------------------- Done
//! ```
//!
//! A daemon asks every peer at link-up and after a gap in its pushes, one peer at a time, so that a state it
//! has just taken from one need not come again from the next: the digests are then equal. Each side asks for
//! itself, so both end with the merge of the two states. Writes go on meanwhile and travel as pushes, for which
//! the link is registered before either side starts; so whatever a range lacked when it was read, arrives.

use bytes::Bytes;

use super::codec;
use super::message::{Carrier, CellsEncoder, Message};
use crate::store::{Cell, Store};

/// How many bytes of state may be on their way to an asker that has not merged them, beside one over-large
/// frame. Bounds what a round holds in memory on either side.
pub(super) const CREDIT: u64 = 4 << 20;

/// The digest by which a round tells that two daemons hold the same cells, dead ones included.
pub(super) fn digest(store: &Store) -> u64 {
    let totals = store.totals();
    totals.live.wrapping_add(totals.dead)
}

/// The side that sends its state.
pub(super) struct Answer {
    next_range: usize,
    /// Cells of the ranges read that have not been sent.
    pending: Vec<Cell>,
    credit: u64,
}

/// What an answerer sends next.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Part {
    /// Another part of its state.
    State(Bytes),
    /// It has sent everything.
    Done(Bytes),
}

impl Answer {
    /// Answers a `Start`.
    pub(super) fn new(store: &Store, digest_of_asker: u64) -> Self {
        let equal = digest(store) == digest_of_asker;
        let next_range = if equal { store.range_count() } else { 0 };
        Answer { next_range, pending: Vec::new(), credit: CREDIT }
    }

    /// The asker can take more.
    pub(super) fn grant(&mut self, bytes: u64) {
        self.credit = self.credit.saturating_add(bytes).min(CREDIT);
    }

    /// The next frame, or `None` until the asker grants credit.
    pub(super) fn next(&mut self, store: &Store, encoder: &mut CellsEncoder) -> Option<Part> {
        if self.credit == 0 {
            return None;
        }
        while !encoder.is_full() {
            if let Some(cell) = self.pending.pop() {
                if encoder.overflows_with(&cell) {
                    self.pending.push(cell);
                    break;
                }
                encoder.add(&cell);
            } else if self.next_range < store.range_count() {
                store.walk(self.next_range, |cell| self.pending.push(cell.clone()));
                self.next_range += 1;
            } else {
                break;
            }
        }
        if encoder.is_empty() {
            return Some(Part::Done(codec::frame(&Message::Done)));
        }
        let frame = encoder.finish(store, Carrier::State);
        self.credit = self.credit.saturating_sub(codec::message_size(&frame));
        Some(Part::State(frame))
    }
}

/// The side that asked.
#[derive(Default)]
pub(super) struct Ask {
    asked: bool,
    /// Bytes merged that were not granted again.
    owed: u64,
}

/// The peer answers what was not asked.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("it sent a part of a round that is not under way")]
pub(super) struct NotAsked;

impl Ask {
    /// Starts the round; the caller sends `Start`.
    pub(super) fn start(&mut self) {
        *self = Ask { asked: true, owed: 0 };
    }

    /// A frame of state with this many bytes has been merged.
    pub(super) fn on_state(&mut self, bytes: u64) -> Result<(), NotAsked> {
        if !self.asked {
            return Err(NotAsked);
        }
        self.owed += bytes;
        Ok(())
    }

    /// What to grant the answerer now.
    pub(super) fn take_credit(&mut self) -> Option<u64> {
        (self.owed > 0).then(|| std::mem::take(&mut self.owed))
    }

    /// The answerer has sent everything.
    pub(super) fn on_done(&mut self) -> Result<(), NotAsked> {
        if !std::mem::take(&mut self.asked) {
            return Err(NotAsked);
        }
        self.owed = 0;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::super::message::FRAME_TARGET;
    use super::*;
    use crate::model::{HashSeed, RangeCount, stamp};
    use crate::store::{Batch, StoreConfig, Write};
    use uhlc::NTP64;

    fn store(id: u128) -> Store {
        Store::new(StoreConfig {
            seed: HashSeed::of_cluster("test"),
            ranges: RangeCount::power_of_two(4),
            incarnation: stamp::incarnation(id).unwrap(),
            max_memory: None,
            feed_limit: 0,
        })
    }

    fn fill(store: &Store, keys: u32, value: &[u8]) {
        let mut batch = Batch::default();
        store.begin(&mut batch, NTP64(1));
        for key in 0..keys {
            let write = Write::Set { value, deadline: None };
            store.write(&mut batch, &key.to_le_bytes(), |_| (write, ())).unwrap();
        }
    }

    /// Runs a round to its end; returns the sizes of the frames of state.
    fn run(from: &Store, to: &Store) -> Vec<usize> {
        let mut encoder = CellsEncoder::default();
        let mut answer = Answer::new(from, digest(to));
        let mut ask = Ask::default();
        ask.start();
        let mut sizes = Vec::new();
        loop {
            match answer.next(from, &mut encoder) {
                Some(Part::Done(_)) => break,
                Some(Part::State(frame)) => {
                    let Message::State(cells) = codec::decode(&frame[4..]).unwrap() else { panic!() };
                    let checked = cells.check(to, NTP64(1), NTP64(u64::MAX)).unwrap();
                    to.observe(checked.latest);
                    for (key, parts) in &checked.cells {
                        to.merge(&mut Vec::new(), key, parts);
                    }
                    ask.on_state(codec::message_size(&frame)).unwrap();
                    sizes.push(frame.len());
                }
                None => answer.grant(ask.take_credit().expect("an answerer waits only for credit")),
            }
        }
        ask.on_done().unwrap();
        sizes
    }

    #[test]
    fn an_empty_store_takes_everything_in_full_frames() {
        let (from, to) = (store(1), store(2));
        fill(&from, 100_000, &[7; 100]);
        let sizes = run(&from, &to);
        assert_eq!(from.totals(), to.totals());
        let (last, full) = sizes.split_last().unwrap();
        assert!(full.iter().all(|&size| size > FRAME_TARGET * 9 / 10 && size < FRAME_TARGET * 11 / 10));
        assert!(*last < FRAME_TARGET * 11 / 10);
    }

    #[test]
    fn equal_stores_exchange_nothing() {
        let (from, to) = (store(1), store(2));
        fill(&from, 1000, b"v");
        run(&from, &to);
        assert!(run(&from, &to).is_empty());
        assert!(run(&to, &from).is_empty());
    }

    #[test]
    fn two_rounds_leave_both_with_the_merge() {
        let (a, b) = (store(1), store(2));
        fill(&a, 2000, b"a");
        fill(&b, 1000, b"b");
        run(&a, &b);
        run(&b, &a);
        assert_eq!(a.totals(), b.totals());
        assert_eq!(a.totals().live_cells, 2000);
    }

    #[test]
    fn a_cell_larger_than_a_frame_travels_alone() {
        let (from, to) = (store(1), store(2));
        fill(&from, 4, &vec![7; FRAME_TARGET * 3]);
        assert_eq!(run(&from, &to).len(), 4);
        assert_eq!(from.totals(), to.totals());
    }

    #[test]
    fn an_asker_that_grants_nothing_is_sent_no_more_than_the_credit() {
        let (from, to) = (store(1), store(2));
        fill(&from, 200_000, &[7; 100]);
        let mut encoder = CellsEncoder::default();
        let mut answer = Answer::new(&from, digest(&to));
        let mut sent = 0;
        while let Some(Part::State(frame)) = answer.next(&from, &mut encoder) {
            sent += frame.len() as u64;
        }
        assert!(sent < CREDIT + 2 * FRAME_TARGET as u64, "{sent}");
    }

    #[test]
    fn an_answer_nobody_asked_for_is_refused() {
        assert_eq!(Ask::default().on_state(1), Err(NotAsked));
        assert_eq!(Ask::default().on_done(), Err(NotAsked));
    }
}
