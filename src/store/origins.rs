//! Incarnations interned to 32 bits, so that a cell does not carry 16 bytes of origin.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU32, Ordering};

use parking_lot::RwLock;

use crate::model::{Incarnation, stamp};

/// An interned incarnation; means something only together with the [`Origins`] it came from.
pub(crate) type Origin = u32;

/// The most incarnations one process can intern: over a million restarts of members. Bounds what a hostile
/// peer can make it remember to about 50 MiB.
const MAX_ORIGINS: usize = 1 << 20;

/// More origins than one process remembers.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("more than {MAX_ORIGINS} incarnations have written to this cluster since this daemon started")]
pub struct TooManyOrigins;

/// The append-only table of interned incarnations.
pub(crate) struct Origins {
    /// This process's own present one.
    own: AtomicU32,
    incarnations: boxcar::Vec<Incarnation>,
    index: RwLock<HashMap<Incarnation, Origin>>,
}

/// The incarnation of registers that nobody has written: those of keys that were only ever counted with.
const NOBODY_NUMBER: u128 = u128::MAX - 1;

impl Origins {
    /// The origin of what nobody has written.
    pub(crate) const NOBODY: Origin = 0;

    pub(crate) fn new(own: Incarnation) -> Self {
        let nobody = stamp::incarnation(NOBODY_NUMBER).expect("it is not zero");
        let incarnations = boxcar::Vec::new();
        incarnations.push(nobody);
        incarnations.push(own);
        let index = HashMap::from([(nobody, Self::NOBODY), (own, 1)]);
        Origins { own: AtomicU32::new(1), incarnations, index: RwLock::new(index) }
    }

    /// This process itself.
    pub(crate) fn own(&self) -> Origin {
        self.own.load(Ordering::Relaxed)
    }

    /// Gives this process another incarnation.
    pub(crate) fn renew(&self, incarnation: Incarnation) -> Result<(), TooManyOrigins> {
        self.own.store(self.intern(incarnation)?, Ordering::Relaxed);
        Ok(())
    }

    pub(crate) fn intern(&self, incarnation: Incarnation) -> Result<Origin, TooManyOrigins> {
        if let Some(&origin) = self.index.read().get(&incarnation) {
            return Ok(origin);
        }
        let mut index = self.index.write();
        if let Some(&origin) = index.get(&incarnation) {
            return Ok(origin);
        }
        if self.incarnations.count() >= MAX_ORIGINS {
            return Err(TooManyOrigins);
        }
        let origin = Origin::try_from(self.incarnations.push(incarnation)).expect("MAX_ORIGINS fits 32 bits");
        index.insert(incarnation, origin);
        Ok(origin)
    }

    /// The incarnation behind an origin of this table.
    ///
    /// # Panics
    /// If `origin` was not returned by this table's [`intern`](Self::intern).
    pub(crate) fn incarnation(&self, origin: Origin) -> Incarnation {
        *self.incarnations.get(origin as usize).expect("an origin comes from this table")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::stamp::incarnation;

    #[test]
    fn an_incarnation_is_interned_once() {
        let id = |n| incarnation(n).unwrap();
        let origins = Origins::new(id(9));
        assert_eq!(origins.intern(id(9)), Ok(origins.own()));
        let other = origins.intern(id(5)).unwrap();
        assert_eq!(origins.intern(id(5)), Ok(other));
        assert_eq!(origins.incarnation(other), id(5));
    }
}
