//! What a daemon says at the start of a round.

use crate::model::{Incarnation, Time, Vector};
use crate::replication::codec::{self, CodecError, Packed};
use crate::replication::message::{self, WireTime};
use uhlc::NTP64;

/// The most entries of a received vector that are read: there are fewer members.
const MAX_ENTRIES: usize = 2048;

/// The longest address that is taken from a peer: a host name, a port and some room.
pub(in crate::replication) const MAX_ADDRESS: usize = 300;

/// What a daemon holds, and of which founding it is.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub(in crate::replication) struct Sight {
    pub(in crate::replication) floor: Time,
    pub(in crate::replication) lineage: u128,
    pub(in crate::replication) founded: bool,
    pub(in crate::replication) alone: bool,
    /// The verified vector, with an entry of its own.
    pub(in crate::replication) vector: Vector,
    /// The addresses that an unfounded daemon waits for.
    pub(in crate::replication) join: Vec<String>,
}

/// The parts of a [`Sight`] that travel packed.
pub(in crate::replication) struct PackedSight {
    vector: Vec<u8>,
    join: Vec<u8>,
}

impl Sight {
    pub(in crate::replication) fn pack(&self) -> PackedSight {
        let (mut vector, mut join) = (Vec::new(), Vec::new());
        for (incarnation, time) in self.vector.iter() {
            codec::append(&WireTime { incarnation: incarnation.to_le_bytes(), time: time.0 }, &mut vector);
        }
        self.join.iter().for_each(|address| codec::append(&address.as_str(), &mut join));
        PackedSight { vector, join }
    }

    /// As it travels, with its parts packed.
    pub(in crate::replication) fn wire<'a>(&self, packed: &'a PackedSight) -> message::Sight<'a> {
        message::Sight {
            floor: self.floor.0,
            lineage: self.lineage,
            founded: self.founded,
            alone: self.alone,
            vector: Packed(&packed.vector),
            join: Packed(&packed.join),
        }
    }

    pub(in crate::replication) fn read(wire: &message::Sight<'_>) -> Result<Sight, CodecError> {
        let mut vector = Vector::default();
        for entry in wire.vector.items::<WireTime>().take(MAX_ENTRIES) {
            let entry = entry?;
            if let Ok(incarnation) = Incarnation::try_from(&entry.incarnation) {
                vector.raise(incarnation, NTP64(entry.time));
            }
        }
        let addresses = wire.join.items::<&str>().take(MAX_ENTRIES);
        let mut join = Vec::new();
        for address in addresses {
            join.extend(Some(address?).filter(|address| address.len() <= MAX_ADDRESS).map(str::to_owned));
        }
        let message::Sight { floor, lineage, founded, alone, .. } = *wire;
        Ok(Sight { floor: NTP64(floor), lineage, founded, alone, vector, join })
    }

    /// The latest time in it.
    pub(in crate::replication) fn latest(&self) -> Time {
        self.vector.iter().map(|(_, time)| time).max().unwrap_or_default().max(self.floor)
    }
}
