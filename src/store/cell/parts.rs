//! Registers with interned origins.

use crate::model::counter::RegisterLife;
use crate::model::timestamp::ZERO;
use crate::model::{Deadline, Register, Time, Timestamp};
use crate::store::origins::{Origin, Origins};

/// A register with interned origins: the input and output of packing a cell.
#[derive(Clone, Copy, PartialEq)]
pub(crate) struct Parts<'a> {
    pub(crate) time: Time,
    pub(crate) origin: Origin,
    pub(crate) value: Option<&'a [u8]>,
    pub(crate) deadline: Option<Deadline>,
    /// `None` if the write of the value set the deadline.
    pub(crate) deadline_timestamp: Option<(Time, Origin)>,
}

impl<'a> Parts<'a> {
    /// The register of a key that has only a counter.
    pub(crate) const EMPTY: Parts<'static> =
        Parts { time: ZERO, origin: Origins::NOBODY, value: None, deadline: None, deadline_timestamp: None };

    /// Whether there is no register.
    pub(in crate::store) fn is_empty(&self) -> bool {
        self.time == ZERO
    }

    /// The same register with its full timestamps.
    pub(in crate::store) fn register(&self, origins: &Origins) -> Register<'a> {
        let timestamp = Timestamp::new(self.time, origins.incarnation(self.origin));
        let deadline_timestamp = self
            .deadline_timestamp
            .map_or(timestamp, |(time, origin)| Timestamp::new(time, origins.incarnation(origin)));
        Register { timestamp, value: self.value, deadline: self.deadline, deadline_timestamp }
    }

    /// The dot of the write that set the deadline.
    pub(in crate::store) fn deadline_dot(&self) -> (Time, Origin) {
        self.deadline_timestamp.unwrap_or((self.time, self.origin))
    }

    /// The moment at which the deadline passes; `None` means never.
    #[inline]
    pub(in crate::store) fn expires_at(&self) -> Option<Time> {
        self.deadline.map(Deadline::moment)
    }

    /// This register after a retraction.
    pub(crate) fn retracted(self) -> Self {
        Parts { value: None, deadline: None, ..self }
    }

    /// The latest time of its timestamps.
    pub(in crate::store) fn latest(&self) -> Time {
        self.deadline_timestamp.map_or(self.time, |(time, _)| time.max(self.time))
    }

    /// The times that decide when the register and the slots are dead.
    #[inline]
    pub(in crate::store) fn life(&self) -> RegisterLife {
        RegisterLife {
            written: self.latest(),
            expires_at: self.expires_at(),
            has_value: self.value.is_some(),
        }
    }
}
