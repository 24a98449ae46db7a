//! Encodes cells into frames, and decodes and checks received ones.

use bytes::Bytes;

use super::codec::{self, CodecError, MAX_FRAME, Packed};
use super::message::{
    Cells, Message, WireCell, WireCounter, WireExpiry, WireRemovedRegister, WireRemovedSlot, WireReset,
    WireRetraction, WireSlot,
};
use crate::model::counter::{Expiry, Reset, Slot};
use crate::model::database::MAX_OVERHEAD;
use crate::model::{Deadline, Incarnation, Time, timestamp};
use crate::store::{
    Cell, Counter, MAX_STORED_KEY, Origin, Parts, Removed, Retraction, Store, TooManyOrigins,
};

/// Gathers cells into a frame of about [`FRAME_TARGET`] bytes.
#[derive(Default)]
pub(super) struct CellsEncoder {
    origins: Vec<Origin>,
    cells: Vec<u8>,
}

/// The size in bytes up to which frames of cells are filled; a larger cell has a frame of its own.
pub(super) const FRAME_TARGET: usize = 256 << 10;

/// The largest stored key and value together in bytes that a cell may carry: with its timestamps it fits one frame.
const MAX_CELL: usize = MAX_FRAME - (1 << 20) + MAX_OVERHEAD;

/// The message that carries the gathered cells.
#[derive(Clone, Copy)]
pub(super) enum Carrier<'a> {
    Put {
        through: u64,
    },
    Sync {
        sync: u32,
        ends: Packed<'a>,
    },
    /// Only for [retractions](CellsEncoder::add_retraction).
    Retract {
        sync: u32,
    },
}

impl CellsEncoder {
    pub(super) fn is_empty(&self) -> bool {
        self.cells.is_empty()
    }

    pub(super) fn is_full(&self) -> bool {
        self.cells.len() >= FRAME_TARGET
    }

    /// Whether `cell` should wait for the next frame.
    pub(super) fn overflows_with(&self, cell: &Cell) -> bool {
        !self.is_empty() && self.cells.len() + cell.size() > FRAME_TARGET
    }

    pub(super) fn add(&mut self, cell: &Cell) {
        let counter = if cell.has_counter() { cell.counter() } else { Counter::NONE };
        let Parts { time, origin, value, deadline, deadline_timestamp } = cell.parts();
        let mut slots = Vec::new();
        for (owner, slot) in &counter.slots {
            codec::append(&self.wire_slot(*owner, slot), &mut slots);
        }
        let expiry = counter.expiry.map(|(writer, Expiry { deadline, set_at })| WireExpiry {
            writer: self.index(writer),
            set_at: set_at.0,
            deadline: deadline.map(|at| at.0),
        });
        let wire = WireCell {
            key: cell.key(),
            time: time.0,
            origin: self.index(origin),
            value,
            deadline: deadline.map(|at| at.0),
            deadline_timestamp: deadline_timestamp.map(|(time, origin)| (time.0, self.index(origin))),
            counter: (!counter.is_empty()).then_some(WireCounter { expiry, slots: Packed(&slots) }),
        };
        codec::append(&wire, &mut self.cells);
    }

    /// Adds a retraction of a key that a peer has sent.
    pub(super) fn add_retraction(&mut self, key: &[u8], retraction: &Retraction) {
        let mut dot = |(time, origin): (Time, Origin)| (time.0, self.index(origin));
        let register = retraction.register.map(|Removed { dots: [timestamp, deadline], is_given_up }| {
            WireRemovedRegister { timestamp: dot(timestamp), deadline: dot(deadline), given_up: is_given_up }
        });
        let expiry = retraction.expiry.map(&mut dot);
        let mut slots = Vec::new();
        for &Removed { dots: (owner, start, last), is_given_up } in &retraction.slots {
            let owner = self.index(owner);
            let slot = WireRemovedSlot { owner, start: start.0, last: last.0, given_up: is_given_up };
            codec::append(&slot, &mut slots);
        }
        let wire = WireRetraction { key, register, expiry, slots: Packed(&slots) };
        codec::append(&wire, &mut self.cells);
    }

    fn wire_slot(&mut self, owner: Origin, slot: &Slot) -> WireSlot {
        let Reset { mark, at, up, down } = slot.reset;
        WireSlot {
            owner: self.index(owner),
            start: slot.start.0,
            span: slot.last.0 - slot.start.0,
            up: slot.up,
            down: slot.down,
            reset: (slot.reset != Reset::default()).then_some(WireReset { mark: mark.0, at: at.0, up, down }),
        }
    }

    fn index(&mut self, origin: Origin) -> u32 {
        let found = self.origins.iter().position(|&known| known == origin);
        let index = found.unwrap_or_else(|| {
            self.origins.push(origin);
            self.origins.len() - 1
        });
        u32::try_from(index).expect("a frame has fewer cells than that")
    }

    /// Returns the frame of what was added, and leaves the encoder empty.
    pub(super) fn finish(&mut self, store: &Store, carrier: Carrier<'_>) -> Bytes {
        let ids = self.origins.iter().flat_map(|&origin| store.incarnation(origin).to_le_bytes());
        let origins: Vec<u8> = ids.collect();
        let cells = Cells { origins: &origins, cells: Packed(&self.cells) };
        let frame = match carrier {
            Carrier::Put { through } => codec::frame(&Message::Put { through, cells }),
            Carrier::Sync { sync, ends } => codec::frame(&Message::Cells { sync, cells, ends }),
            Carrier::Retract { sync } => {
                codec::frame(&Message::Retract { sync, origins: &origins, items: Packed(&self.cells) })
            }
        };
        self.origins.clear();
        self.cells.clear();
        self.cells.shrink_to(2 * FRAME_TARGET);
        frame
    }
}

/// Received cells that were all checked; none of them is applied yet.
pub(super) struct Checked<'a> {
    pub(super) cells: Vec<(&'a [u8], Parts<'a>, Counter)>,
    /// The latest of the cells' timestamps.
    pub(super) latest: Time,
    /// For each incarnation its latest timestamp, and possibly earlier ones.
    pub(super) seen: Vec<(Origin, Time)>,
}

/// Why received cells were rejected. None of the frame was applied.
#[derive(Debug, thiserror::Error)]
pub(super) enum CellsError {
    #[error(transparent)]
    Codec(#[from] CodecError),
    #[error("malformed message: a cell names an origin that its frame does not list")]
    Origin,
    #[error("malformed message: a cell of {0} bytes")]
    Size(usize),
    #[error("malformed message: a counter whose parts do not fit")]
    Counter,
    #[error("one of its timestamps lies {0:.1?} in the future: set both clocks by NTP")]
    Future(std::time::Duration),
    #[error("malformed message: a frame of more than {} bytes with more than one cell", 2 * FRAME_TARGET)]
    Crowded,
    #[error(transparent)]
    TooManyOrigins(#[from] TooManyOrigins),
}

impl<'a> Cells<'a> {
    /// Decodes and checks every cell: none is malformed, and no timestamp is later than `max_accepted`.
    pub(super) fn check(
        &self,
        store: &Store,
        now: Time,
        max_accepted: Time,
    ) -> Result<Checked<'a>, CellsError> {
        let origins = read_origins(self.origins, store)?;
        let origin = |index: u32| origins.get(index as usize).copied().ok_or(CellsError::Origin);

        let mut checked = Checked { cells: Vec::new(), latest: timestamp::ZERO, seen: Vec::new() };
        for wire in self.cells.items::<WireCell<'_>>() {
            let wire = wire?;
            let slots = wire.counter.map_or(0, |counter| counter.slots.0.len());
            let size = wire.key.len() + wire.value.map_or(0, <[u8]>::len) + slots;
            if size > MAX_CELL || wire.key.len() > MAX_STORED_KEY {
                return Err(CellsError::Size(size));
            }
            if !checked.cells.is_empty() && self.cells.0.len() > 2 * FRAME_TARGET {
                return Err(CellsError::Crowded);
            }
            let deadline_timestamp = match wire.deadline_timestamp {
                Some((time, index)) => Some((Time(time), origin(index)?)),
                None => None,
            };
            let parts = Parts {
                time: Time(wire.time),
                origin: origin(wire.origin)?,
                value: wire.value,
                deadline: wire.deadline.map(Deadline),
                deadline_timestamp,
            };
            // A register that was never set holds nothing.
            let is_unset = parts.time == timestamp::ZERO;
            if is_unset && parts != Parts::EMPTY {
                return Err(CellsError::Counter);
            }
            let counter = wire.counter.map(|counter| read_counter(&counter, origin)).transpose()?;
            let counter = counter.unwrap_or(Counter::NONE);
            let mut latest = counter.slots.iter().map(|(_, slot)| slot.reset.at).max().unwrap_or_default();
            for (time, origin) in dots(&parts, &counter) {
                latest = latest.max(time);
                checked.see(origin, time);
            }
            if latest > max_accepted {
                return Err(CellsError::Future(timestamp::distance(latest, now)));
            }
            checked.latest = checked.latest.max(latest);
            checked.cells.push((wire.key, parts, counter));
        }
        Ok(checked)
    }
}

impl Checked<'_> {
    fn see(&mut self, origin: Origin, time: Time) {
        /// Most frames have few writers; in others, some are listed twice.
        const LOOK_BACK: usize = 8;
        match self.seen.iter_mut().rev().take(LOOK_BACK).find(|(known, _)| *known == origin) {
            Some((_, seen)) => *seen = time.max(*seen),
            None => self.seen.push((origin, time)),
        }
    }
}

/// The dot of every part of a cell.
fn dots<'c>(parts: &Parts<'_>, counter: &'c Counter) -> impl Iterator<Item = (Time, Origin)> + use<'c> {
    let register = [Some((parts.time, parts.origin)), parts.deadline_timestamp];
    let expiry = counter.expiry.map(|(writer, expiry)| (expiry.set_at, writer));
    let slots = counter.slots.iter().map(|&(owner, slot)| (slot.last, owner));
    register.into_iter().flatten().filter(|(time, _)| *time > timestamp::ZERO).chain(expiry).chain(slots)
}

fn read_origins(ids: &[u8], store: &Store) -> Result<Vec<Origin>, CellsError> {
    let (ids, rest) = ids.as_chunks::<16>();
    if !rest.is_empty() {
        return Err(CellsError::Origin);
    }
    let intern = |id: &[u8; 16]| {
        let id = Incarnation::try_from(id).map_err(|_| CellsError::Origin)?;
        Ok(store.intern(id)?)
    };
    ids.iter().map(intern).collect()
}

/// Decodes received retractions, key by key. Nothing is applied.
pub(super) fn read_retractions<'a>(
    store: &Store,
    origins: &[u8],
    items: Packed<'a>,
) -> Result<Vec<(&'a [u8], Retraction)>, CellsError> {
    let origins = read_origins(origins, store)?;
    let dot = |(time, index): (u64, u32)| {
        let origin = origins.get(index as usize).copied().ok_or(CellsError::Origin)?;
        Ok::<_, CellsError>((Time(time), origin))
    };
    let mut retractions = Vec::new();
    for item in items.items::<WireRetraction<'_>>() {
        let WireRetraction { key, register, expiry, slots } = item?;
        let mut retraction = Retraction::default();
        if let Some(WireRemovedRegister { timestamp, deadline, given_up }) = register {
            let dots = [dot(timestamp)?, dot(deadline)?];
            retraction.register = Some(Removed { dots, is_given_up: given_up });
        }
        retraction.expiry = expiry.map(dot).transpose()?;
        for slot in slots.items::<WireRemovedSlot>() {
            let WireRemovedSlot { owner, start, last, given_up } = slot?;
            let (last, owner) = dot((last, owner))?;
            retraction.slots.push(Removed { dots: (owner, Time(start), last), is_given_up: given_up });
        }
        retractions.push((key, retraction));
    }
    Ok(retractions)
}

/// Decodes a counter; every slot has its owner and its life in order.
fn read_counter(
    wire: &WireCounter<'_>,
    origin: impl Fn(u32) -> Result<Origin, CellsError>,
) -> Result<Counter, CellsError> {
    let expiry = wire.expiry.map(|WireExpiry { writer, set_at, deadline }| {
        Ok::<_, CellsError>((
            origin(writer)?,
            Expiry { deadline: deadline.map(Deadline), set_at: Time(set_at) },
        ))
    });
    let mut counter = Counter { expiry: expiry.transpose()?, ..Counter::NONE };
    for slot in wire.slots.items::<WireSlot>() {
        let WireSlot { owner, start, span, up, down, reset } = slot?;
        let last = start.checked_add(span).ok_or(CellsError::Counter)?;
        let reset = reset.map_or(Reset::default(), |WireReset { mark, at, up, down }| Reset {
            mark: Time(mark),
            at: Time(at),
            up,
            down,
        });
        counter.slots.push((origin(owner)?, Slot { start: Time(start), last: Time(last), up, down, reset }));
    }
    counter.slots.sort_unstable_by_key(|(owner, _)| *owner);
    let twice = counter.slots.windows(2).any(|pair| pair[0].0 == pair[1].0);
    if twice { Err(CellsError::Counter) } else { Ok(counter) }
}
