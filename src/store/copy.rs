//! A node's copy of one key, for people to look at.

use super::Store;
use super::cell::Cell;
use super::write::{Digits, Live};
use crate::model::counter::Shown;
use crate::model::{Deadline, Incarnation, Time, Timestamp};

/// A node's copy of a key.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct KeyCopy {
    /// Whether the key is live, dead or absent.
    pub state: CopyState,
    /// The first bytes of the value that a reader sees; `None` if there is none.
    pub value: Option<Vec<u8>>,
    /// The length of the whole value in bytes.
    pub value_bytes: u64,
    /// The timestamp of the latest `SET`, `DEL` or increment; `None` only if the key is absent.
    pub timestamp: Option<Timestamp>,
    /// The time from which the key is absent.
    pub deadline: Option<Deadline>,
    /// The counter, if the key has one.
    pub counter: Option<CountCopy>,
}

/// Whether a key is live, dead or absent in one store.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum CopyState {
    /// A reader sees a value.
    Live,
    /// The key was deleted or has expired, and the store still holds the record.
    Dead,
    /// The store holds nothing of the key.
    #[default]
    Absent,
}

impl CopyState {
    /// The word used in the JSON API.
    pub fn as_str(self) -> &'static str {
        match self {
            CopyState::Live => "live",
            CopyState::Dead => "dead",
            CopyState::Absent => "absent",
        }
    }
}

/// A counter with its slots.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct CountCopy {
    /// The value that a reader sees.
    pub total: i128,
    /// The part of the total that was set, without the increments since; `None` if nothing was set.
    pub base: Option<i128>,
    /// The slot of each incarnation.
    pub slots: Vec<SlotCopy>,
}

/// The totals of one incarnation since the last reset.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct SlotCopy {
    /// The incarnation.
    pub owner: Incarnation,
    /// The sum of the additions.
    pub up: u64,
    /// The sum of the subtractions.
    pub down: u64,
    /// Whether the slot still counts: nothing has ended it.
    pub active: bool,
}

impl Store {
    /// The copy of `key`, with at most `limit` bytes of its value.
    pub fn copy(&self, key: &[u8], now: Time, limit: usize) -> KeyCopy {
        self.ranges
            .read(key, None, |cell| cell.map_or_else(KeyCopy::default, |cell| self.copy_of(cell, now, limit)))
    }

    fn copy_of(&self, cell: &Cell, now: Time, limit: usize) -> KeyCopy {
        let mut digits = Digits::new();
        let live = Live::at(cell, now, &mut digits);
        let value = live.map(Live::value);
        KeyCopy {
            state: if live.is_some() { CopyState::Live } else { CopyState::Dead },
            value: value.map(|value| value[..value.len().min(limit)].to_vec()),
            value_bytes: value.map_or(0, |value| value.len() as u64),
            timestamp: Some(self.last_write(cell)),
            deadline: live.and_then(Live::deadline),
            counter: self.count_of(cell, now),
        }
    }

    fn count_of(&self, cell: &Cell, now: Time) -> Option<CountCopy> {
        let total = match cell.shown(now) {
            Some(Shown::Number(total)) => total,
            None if cell.has_counter() => 0,
            _ => return None,
        };
        let passed = cell.lives().passed(now);
        let slots = cell.slots().map(|(owner, slot)| SlotCopy {
            owner: self.incarnation(owner),
            up: slot.up(),
            down: slot.down(),
            active: slot.is_active(passed),
        });
        let counted =
            cell.slots().filter(|(_, slot)| slot.is_active(passed)).map(|(_, slot)| slot.net()).sum::<i128>();
        let is_set = cell.value().is_some() && !cell.is_expired(now);
        Some(CountCopy { total, base: is_set.then(|| total - counted), slots: slots.collect() })
    }

    /// The sum of the hashes of a range's live parts: equal on two nodes that hold the same there. Takes no lock.
    pub fn live_digest(&self, range: usize) -> u64 {
        self.ranges.live_digest(range)
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::config;
    use super::super::{Batch, Write};
    use super::*;
    use crate::model::Time;

    const NOW: Time = Time(5 << 32);

    fn write(store: &Store, key: &[u8], write: Write<'_>) {
        let mut batch = Batch::default();
        store.begin(&mut batch, NOW);
        store.write(&mut batch, key, |_| (write, ())).unwrap();
    }

    #[test]
    fn a_copy_describes_a_key_and_shows_no_more_than_the_limit() {
        let store = Store::new(config(7));
        let copy = |key: &[u8]| store.copy(key, store.now(NOW), 3);
        assert_eq!(copy(b"tree"), KeyCopy::default());
        write(&store, b"tree", Write::Set { value: b"maple", deadline: None });
        let tree = copy(b"tree");
        assert_eq!(
            (tree.state, tree.value.as_deref(), tree.value_bytes),
            (CopyState::Live, Some(&b"map"[..]), 5)
        );
        assert_eq!((tree.counter, tree.timestamp.unwrap().incarnation()), (None, store.own_incarnation()));
        write(&store, b"tree", Write::Delete);
        let dead = copy(b"tree");
        assert_eq!((dead.state, dead.value), (CopyState::Dead, None));
        assert!(dead.timestamp > tree.timestamp);
    }

    #[test]
    fn a_copy_of_a_counter_shows_what_was_set_and_what_was_counted() {
        let store = Store::new(config(7));
        let count = || store.copy(b"n", store.now(NOW), 3).counter.unwrap();
        write(&store, b"n", Write::Add(5));
        assert_eq!((count().total, count().base, count().slots.len()), (5, None, 1));
        write(&store, b"n", Write::Set { value: b"100", deadline: None });
        write(&store, b"n", Write::Add(-2));
        let CountCopy { total, base, slots } = count();
        assert_eq!((total, base), (98, Some(100)));
        assert_eq!((slots[0].up, slots[0].down, slots[0].active), (0, 2, true));
        write(&store, b"n", Write::Delete);
        assert_eq!((count().total, count().slots[0].active), (0, false));
    }
}
