//! Local writes: how they see a cell and how they change it.

use super::cell::{Cell, Counter, MAX_KEY, Parts};
use super::origins::Origin;
use crate::ablation::{Ablation, ablated};
use crate::model::counter::{Expiry, Shown, Slot, strict_number};
use crate::model::database;
use crate::model::timestamp::ZERO;
use crate::model::{Deadline, Time};

/// The most slots that a local increment lets a counter have.
///
/// Each restart of a node that counts adds one, and all slots of a counter are sent together; this many take a few
/// hundred KiB.
pub(super) const MAX_SLOTS: usize = 4096;

/// The longest key and value, in bytes, that clients may write.
#[derive(Clone, Copy, Debug)]
pub struct Lengths {
    /// The longest key, at most [`MAX_KEY`].
    pub key: usize,
    /// The longest value.
    pub value: usize,
}

impl Lengths {
    /// No limits but that of a cell.
    pub const UNLIMITED: Lengths = Lengths { key: MAX_KEY, value: usize::MAX };

    /// Checks the lengths of a key and a value.
    pub(super) fn check(&self, key: usize, value: usize) -> Result<(), WriteError> {
        if key > self.key {
            return Err(WriteError::KeyTooLong { bytes: key, limit: self.key });
        }
        if value > self.value {
            return Err(WriteError::ValueTooLong { bytes: value, limit: self.value });
        }
        Ok(())
    }

    /// Checks a write that may add a stored key.
    pub(super) fn check_write(&self, stored: &[u8], write: Write<'_>) -> Result<(), WriteError> {
        let value = match write {
            Write::Set { value, .. } => value.len(),
            Write::Add(_) => 0,
            Write::Keep | Write::Delete | Write::Deadline(_) => return Ok(()),
        };
        // Most stored keys are as long as the key.
        let key = if stored.len() > self.key { database::key_length(stored) } else { stored.len() };
        self.check(key, value)
    }
}

/// A client's write was refused. Nothing was changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum WriteError {
    /// The key is longer than [`Lengths::key`].
    #[error("the key has {bytes} bytes, more than {limit}")]
    KeyTooLong {
        /// The key's length.
        bytes: usize,
        /// The limit.
        limit: usize,
    },
    /// The value is longer than [`Lengths::value`].
    #[error("the value has {bytes} bytes, more than {limit}")]
    ValueTooLong {
        /// The value's length.
        bytes: usize,
        /// The limit.
        limit: usize,
    },
    /// The write would have grown the live cells beyond `--max-memory`, or tombstones have filled their reserve.
    #[error("out of memory: only deletes are taken")]
    OutOfMemory,
    /// A counter, or one node's share of it, would exceed the range of its totals.
    #[error("the counter would overflow")]
    Overflow,
    /// The value to increment is not a 64-bit integer.
    #[error("the value is no integer of 64 bits")]
    NotAnInteger,
    /// The counter has too many slots, left by restarts of nodes.
    #[error(
        "{MAX_SLOTS} incarnations have counted here: set the key to what it counts, and they are dropped"
    )]
    TooManySlots,
}

/// A buffer for the digits of a counter.
pub(super) type Digits = itoa::Buffer;

/// A live cell as readers and writers see it.
#[derive(Clone, Copy)]
pub struct Live<'a> {
    value: &'a [u8],
    deadline: Option<Deadline>,
}

impl<'a> Live<'a> {
    /// The view of a cell at `now`, if it is live.
    #[inline]
    pub(super) fn at(cell: &'a Cell, now: Time, digits: &'a mut Digits) -> Option<Live<'a>> {
        if !cell.has_counter() {
            let value = cell.value().filter(|_| !cell.is_expired(now))?;
            return Some(Live { value, deadline: cell.deadline() });
        }
        let value = match cell.shown(now)? {
            Shown::Text(text) => text,
            Shown::Number(number) => digits.format(number).as_bytes(),
        };
        Some(Live { value, deadline: cell.deadline_at(now) })
    }

    /// The value, or the digits of a counter.
    pub fn value(self) -> &'a [u8] {
        self.value
    }

    /// The time from which the cell is absent.
    pub fn deadline(self) -> Option<Deadline> {
        self.deadline
    }
}

/// Returns the write that adds `by` to the integer that a key holds, or to nothing, and what the key counts after it.
///
/// # Errors
/// [`WriteError::NotAnInteger`] or [`WriteError::Overflow`], with a write that changes nothing.
pub(crate) fn increment(live: Option<Live<'_>>, by: i64) -> (Write<'static>, Result<i64, WriteError>) {
    let sum = match live.map(|live| strict_number(live.value())) {
        None => Ok(by),
        Some(None) => Err(WriteError::NotAnInteger),
        Some(Some(present)) => present.checked_add(by).ok_or(WriteError::Overflow),
    };
    (if sum.is_ok() { Write::Add(by) } else { Write::Keep }, sum)
}

/// Calls `read` with the view of a cell at `now`, if there is one that is live.
#[inline]
pub(super) fn read_live<T>(cell: Option<&Cell>, now: Time, read: impl FnOnce(Option<Live<'_>>) -> T) -> T {
    let mut digits = Digits::new();
    read(cell.and_then(|cell| Live::at(cell, now, &mut digits)))
}

/// A change to a cell.
#[derive(Clone, Copy, Debug)]
pub enum Write<'a> {
    /// Leaves the cell as it is.
    Keep,
    /// Writes this value and resets the counter. If the deadline has passed it is a
    /// [`Write::Delete`].
    Set {
        /// The value.
        value: &'a [u8],
        /// The time from which the key is absent; `None` for never.
        deadline: Option<Deadline>,
    },
    /// Replaces a live cell by a tombstone and resets its counter; does nothing if there is no live cell.
    Delete,
    /// Sets the deadline of the present value; does nothing if there is no live cell. If the deadline has passed it
    /// is a [`Write::Delete`].
    Deadline(Option<Deadline>),
    /// Adds to this node's slot. The caller must check that the value is an integer.
    Add(i64),
}

/// The cell of `key` after `write` with this timestamp; `None` if nothing changes. `counter` and `scratch` are buffers.
#[inline(always)]
pub(super) fn next_cell(
    write: Write<'_>,
    timestamp: (Time, Origin),
    key: &[u8],
    cell: Option<&Cell>,
    is_live: bool,
    counter: &mut Counter,
    scratch: &mut Vec<u8>,
) -> Result<Option<Cell>, WriteError> {
    // What `apply` does, for nearly all writes.
    if let Write::Set { value, deadline: None } = write
        && !cell.is_some_and(Cell::has_counter)
    {
        let (time, origin) = timestamp;
        let parts = Parts { time, origin, value: Some(value), ..Parts::EMPTY };
        return Ok(Some(Cell::pack(scratch, key, &parts)));
    }
    let parts = apply(write, timestamp, cell, is_live, counter)?;
    Ok(parts.map(|parts| Cell::pack_with(scratch, key, &parts, counter, false)))
}

/// Applies `write` with this timestamp to a cell; `None` if nothing changes. The new counter is in `counter`.
fn apply<'a>(
    write: Write<'a>,
    (drawn, own): (Time, Origin),
    cell: Option<&'a Cell>,
    is_live: bool,
    counter: &mut Counter,
) -> Result<Option<Parts<'a>>, WriteError> {
    counter.clear();
    let passed = |deadline: Option<Deadline>| deadline.is_some_and(|deadline| deadline.has_passed(drawn));
    let write = match write {
        Write::Set { deadline, .. } | Write::Deadline(deadline) if passed(deadline) => Write::Delete,
        write => write,
    };
    if matches!(write, Write::Keep) || !is_live && matches!(write, Write::Delete | Write::Deadline(_)) {
        return Ok(None);
    }
    let version =
        |value, deadline| Parts { time: drawn, origin: own, value, deadline, deadline_timestamp: None };
    let Some(cell) = cell else {
        return match write {
            Write::Set { value, deadline } => Ok(Some(version(Some(value), deadline))),
            Write::Add(by) => add(counter, own, by, drawn, ZERO).map(|()| Some(Parts::EMPTY)),
            _ => Ok(None),
        };
    };
    if cell.has_counter() {
        cell.counter_into(counter);
    }
    let parts = match write {
        Write::Set { .. } | Write::Delete => {
            if cell.has_counter() {
                counter.end(cell.lives().passed(drawn));
                counter.reset(drawn);
            }
            if counter.expiry.is_some_and(|(_, expiry)| expiry.deadline.is_some()) {
                counter.expiry = Some((own, Expiry { deadline: None, set_at: drawn }));
            }
            match write {
                Write::Set { value, deadline } => version(Some(value), deadline),
                _ => version(None, None),
            }
        }
        Write::Deadline(deadline) => {
            let is_set = cell.value().is_some() && !cell.is_expired(drawn);
            // A new deadline does not bring back the lives that a passed one has ended.
            if cell.has_counter() && !ablated(Ablation::EndedBySuccessor) {
                counter.end(cell.lives().passed(drawn));
            }
            if !is_set || counter.expiry.is_some() {
                counter.expiry =
                    Some((own, Expiry { deadline: deadline.filter(|_| !is_set), set_at: drawn }));
            }
            let parts = cell.parts();
            if is_set { Parts { deadline, deadline_timestamp: Some((drawn, own)), ..parts } } else { parts }
        }
        Write::Add(by) => {
            add(counter, own, by, drawn, cell.lives().passed(drawn))?;
            cell.parts()
        }
        Write::Keep => return Ok(None),
    };
    Ok(Some(parts))
}

/// Adds to the node's own slot. If the slot is not active, a new life of it begins.
///
/// `passed` is the latest deadline of the key that has passed.
fn add(counter: &mut Counter, own: Origin, by: i64, drawn: Time, passed: Time) -> Result<(), WriteError> {
    let present = counter.slot(own).copied();
    if present.is_none() && counter.slots.len() >= MAX_SLOTS {
        return Err(WriteError::TooManySlots);
    }
    let slot = present.filter(|slot| slot.is_active(passed)).unwrap_or_else(|| Slot::begin(drawn));
    counter.put(own, slot.add(by, drawn).ok_or(WriteError::Overflow)?);
    Ok(())
}
