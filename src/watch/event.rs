//! The events of a watcher.

use std::fmt;
use std::str::FromStr;

use crate::model::{Database, Deadline, Incarnation, Time, Timestamp};
use crate::store::{Cause, Cell};

/// One event of a watcher.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum WatchEvent {
    /// A whole snapshot follows: discard what was received before.
    Reset {
        /// The reason.
        reason: ResetReason,
    },
    /// A key of the snapshot.
    Entry(WatchItem),
    /// The snapshot is complete, or the watcher resumed at its cursor. Changes follow.
    Live {
        /// The position to resume from after an interruption.
        cursor: Cursor,
    },
    /// A change.
    Change {
        /// The cause of the change.
        cause: Cause,
        /// The key after the change.
        item: WatchItem,
        /// The position to resume from after an interruption. Before the first [`Live`](Self::Live) it is of no use,
        /// because the snapshot is not complete.
        cursor: Cursor,
    },
    /// At least this many changes were omitted, because later ones of the same keys follow.
    Skipped(u64),
}

/// The reason for a reset.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ResetReason {
    /// The watch began.
    Start,
    /// Changes are gone: too many other keys have changed since the watcher read last, or that was too long ago.
    Lagged,
    /// The cursor is from another process.
    OtherNode,
    /// The node discarded every key, to rejoin its cluster.
    Discarded,
}

impl ResetReason {
    /// The name on the wire.
    pub fn name(self) -> &'static str {
        match self {
            ResetReason::Start => "start",
            ResetReason::Lagged => "lagged",
            ResetReason::OtherNode => "other-node",
            ResetReason::Discarded => "discarded",
        }
    }
}

impl Cause {
    /// The name on the wire.
    pub fn name(self) -> &'static str {
        match self {
            Cause::Set => "set",
            Cause::Delete => "del",
            Cause::Expired => "expired",
            Cause::Evicted => "evicted",
            Cause::Counter => "counter",
            Cause::Expire => "expire",
            Cause::Persist => "persist",
        }
    }
}

/// A key with its value and its timestamp.
#[derive(Clone, Debug)]
pub struct WatchItem {
    pub(super) cell: Cell,
    pub(super) timestamp: Timestamp,
}

impl WatchItem {
    /// The key.
    pub fn key(&self) -> &[u8] {
        let stored = self.cell.key();
        Database::of(stored).map_or(stored, |(_, key)| key)
    }

    /// The value; `None` if the key was deleted or has expired.
    pub fn value(&self) -> Option<&[u8]> {
        self.cell.value()
    }

    /// The time from which the key is absent.
    pub fn deadline(&self) -> Option<Deadline> {
        self.cell.deadline()
    }

    /// The time of the latest `SET`, `DEL` or increment, as in `SAPWOOD META`. An `EXPIRE` does not change it.
    pub fn time(&self) -> Time {
        self.timestamp.time()
    }

    /// The incarnation of the node that accepted this write.
    pub fn origin(&self) -> Incarnation {
        self.timestamp.incarnation()
    }
}

/// A position in the changes of one process. Its text form is `INCARNATION-SEQUENCE`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cursor {
    pub(super) incarnation: Incarnation,
    pub(super) sequence: u64,
}

/// The error that a text is not a cursor.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a cursor is an incarnation, a dash and a number")]
pub struct BadCursor;

impl fmt::Display for Cursor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}", self.incarnation, self.sequence)
    }
}

impl FromStr for Cursor {
    type Err = BadCursor;

    fn from_str(text: &str) -> Result<Cursor, BadCursor> {
        let (incarnation, sequence) = text.split_once('-').ok_or(BadCursor)?;
        Ok(Cursor {
            incarnation: incarnation.parse().map_err(|_| BadCursor)?,
            sequence: sequence.parse().map_err(|_| BadCursor)?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::timestamp::incarnation;

    #[test]
    fn a_cursor_survives_as_text() {
        for id in [1, 0x0a << 120, u128::MAX] {
            let cursor = Cursor { incarnation: incarnation(id).unwrap(), sequence: u64::MAX };
            assert_eq!(cursor.to_string().parse(), Ok(cursor), "{cursor}");
        }
        for text in ["", "-", "1", "1-", "-1", "x-1", "0-1", "1-x", "1-2-3", "1- 2"] {
            assert_eq!(text.parse::<Cursor>(), Err(BadCursor), "{text}");
        }
    }
}
