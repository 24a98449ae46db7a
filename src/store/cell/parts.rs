//! A register whose origins are interned.

use crate::model::counter::Base;
use crate::model::stamp::ZERO;
use crate::model::{Register, Stamp, Time};
use crate::store::origins::{Origin, Origins};

/// A register whose origins are interned: what a cell is packed from and unpacked to.
#[derive(Clone, Copy, PartialEq)]
pub(crate) struct Parts<'a> {
    pub(crate) time: Time,
    pub(crate) origin: Origin,
    pub(crate) value: Option<&'a [u8]>,
    pub(crate) deadline: Option<Time>,
    /// `None` when the version's own write decided the deadline.
    pub(crate) qualifier: Option<(Time, Origin)>,
    /// [`ZERO`] for none. One that is not later than `time` says nothing and is not stored.
    pub(crate) lift: Time,
}

impl<'a> Parts<'a> {
    /// The register of a key that was only ever counted with.
    pub(crate) const EMPTY: Parts<'static> = Parts {
        time: ZERO,
        origin: Origins::NOBODY,
        value: None,
        deadline: None,
        qualifier: None,
        lift: ZERO,
    };

    /// Whether there is nothing at all to keep.
    pub(in crate::store) fn is_empty(&self) -> bool {
        self.time == ZERO && self.lift == ZERO
    }

    /// The same register with its full stamps.
    pub(in crate::store) fn register(&self, origins: &Origins) -> Register<'a> {
        let version = Stamp::new(self.time, origins.incarnation(self.origin));
        let qualifier =
            self.qualifier.map_or(version, |(time, origin)| Stamp::new(time, origins.incarnation(origin)));
        Register { version, value: self.value, deadline: self.deadline, qualifier, lift: self.lift }
    }

    /// As [`Register::admission`]. The deadline of a counter that nobody has set is admitted by its own stamp: it has
    /// no value that it could bring back.
    pub(in crate::store) fn admission(&self) -> Time {
        self.lift.max(self.admitted_by().0)
    }

    /// The stamp that it is admitted by.
    pub(in crate::store) fn admitted_by(&self) -> (Time, Origin) {
        let is_unset = self.origin == Origins::NOBODY;
        self.qualifier.filter(|_| is_unset).unwrap_or((self.time, self.origin))
    }

    /// The latest time of its stamps.
    pub(in crate::store) fn latest(&self) -> Time {
        self.qualifier.map_or(self.time, |(time, _)| time.max(self.time))
    }

    /// What of it bears on the slots.
    pub(in crate::store) fn base(&self) -> Base {
        Base {
            written: self.latest(),
            deadline: self.deadline,
            lift: self.lift,
            has_value: self.value.is_some(),
        }
    }
}
