//! What daemons say to each other. `docs/peer-protocol.md` describes the conversation.

use std::fmt;

use bincode::{BorrowDecode, Encode};
use bytes::Bytes;
use uhlc::NTP64;

use super::codec::{self, CodecError, MAX_FRAME, Packed};
use crate::model::{Incarnation, Time, stamp};
use crate::store::{Cell, Origin, Parts, Store, TooManyOrigins};

/// The protocol versions that this build speaks.
pub(super) const VERSIONS: Versions = Versions { oldest: 1, newest: 1 };

/// A range of protocol versions, both ends included.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Encode, BorrowDecode)]
pub(super) struct Versions {
    pub(super) oldest: u16,
    pub(super) newest: u16,
}

impl Versions {
    /// The newest version in both ranges.
    pub(super) fn agree(self, other: Versions) -> Option<u16> {
        let newest = self.newest.min(other.newest);
        (newest >= self.oldest.max(other.oldest)).then_some(newest)
    }
}

/// The first message of both sides. Its layout is the same in every version; what a later one adds goes into
/// `extension`, which an older one ignores.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Encode, BorrowDecode)]
pub(super) struct Hello<'a> {
    pub(super) magic: [u8; 8],
    pub(super) versions: Versions,
    pub(super) cluster: &'a str,
    pub(super) name: &'a str,
    pub(super) incarnation: u128,
    /// The machine's clock.
    pub(super) wall: u64,
    /// The hybrid clock.
    pub(super) hlc: u64,
    /// Where this daemon can be dialled; `:port` means at the address this connection comes from.
    pub(super) advertise: &'a str,
    /// The largest message this daemon takes, in bytes.
    pub(super) max_frame: u64,
    pub(super) extension: &'a [u8],
}

/// What makes the first bytes of a connection a Sapwood peer's.
pub(super) const MAGIC: [u8; 8] = *b"sapwood\0";

/// Why a daemon will not link.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Encode, BorrowDecode)]
pub(super) enum Refusal {
    /// The cluster has another name.
    Foreign,
    /// Another live daemon has this name.
    Duplicate,
    /// The clocks are too far apart.
    Skewed,
    /// No protocol version in common, or a frame limit out of reach.
    Incompatible,
    /// The two are linked already, over another connection.
    Linked,
    /// It dialled itself.
    Itself,
    /// It has no room for another peer.
    Crowded,
}

/// Everything after the hellos.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Encode, BorrowDecode)]
pub(super) enum Message<'a> {
    /// The sender takes the link: the dialler first, then the one who was dialled.
    Welcome,
    /// The sender will not link and closes.
    Refuse { refusal: Refusal, text: &'a str },
    /// Every second: alive, and the time here. `peers` packs [`Acquaintance`]s.
    Beat { wall: u64, hlc: u64, peers: Packed<'a> },
    /// Cells just written.
    Put(Cells<'a>),
    /// This many `Put`s since the link's start or the last `Gap` are merged.
    Ack { epoch: u32, puts: u64 },
    /// Pushes were dropped: the receiver should start a round. Begins the next epoch.
    Gap,
    /// Begins a round: send your state, unless its digest is this.
    Start { digest: u64 },
    /// A part of the state asked for.
    State(Cells<'a>),
    /// The receiver can take this many more bytes of `State`.
    Credit { bytes: u64 },
    /// Ends a round: everything this daemon held when the round started has been sent, or was equal.
    Done,
    /// The sender leaves and is not to be waited for.
    Goodbye,
    /// A link of the sender to another daemon has ended, so the sender may hold what the receiver lacks: the
    /// receiver should start a round.
    Check,
}

/// A daemon that the sender is linked to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Encode, BorrowDecode)]
pub(super) struct Acquaintance<'a> {
    pub(super) name: &'a str,
    pub(super) incarnation: u128,
    pub(super) advertise: &'a str,
}

/// Cells with the incarnations they refer to: `origins` packs 16-byte ids, `cells` packs [`WireCell`]s.
#[derive(Clone, Copy, PartialEq, Eq, Encode, BorrowDecode)]
pub(super) struct Cells<'a> {
    pub(super) origins: &'a [u8],
    pub(super) cells: Packed<'a>,
}

impl fmt::Debug for Cells<'_> {
    /// Never shows a value.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Cells({} bytes)", self.cells.0.len())
    }
}

/// One cell on the wire; origins are indexes into the batch's table.
#[derive(Clone, Copy, PartialEq, Eq, Encode, BorrowDecode)]
pub(super) struct WireCell<'a> {
    pub(super) key: &'a [u8],
    pub(super) time: u64,
    pub(super) origin: u32,
    pub(super) value: Option<&'a [u8]>,
    pub(super) deadline: Option<u64>,
    pub(super) qualifier: Option<(u64, u32)>,
}

/// Gathers cells into a frame of about [`FRAME_TARGET`] bytes.
#[derive(Default)]
pub(super) struct CellsEncoder {
    origins: Vec<Origin>,
    cells: Vec<u8>,
}

/// Frames of cells are filled up to this many bytes; a larger cell travels alone.
pub(super) const FRAME_TARGET: usize = 256 << 10;

/// The largest key and value that a cell may carry together: with room for its stamps, it fits one frame.
const MAX_CELL: usize = MAX_FRAME - (1 << 20);

/// Which message the gathered cells travel in.
#[derive(Clone, Copy)]
pub(super) enum Carrier {
    Put,
    State,
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
        let size = cell.key().len() + cell.value().map_or(0, <[u8]>::len);
        !self.is_empty() && self.cells.len() + size > FRAME_TARGET
    }

    pub(super) fn add(&mut self, cell: &Cell) {
        let Parts { time, origin, value, deadline, qualifier } = cell.parts();
        let wire = WireCell {
            key: cell.key(),
            time: time.0,
            origin: self.index(origin),
            value,
            deadline: deadline.map(|at| at.0),
            qualifier: qualifier.map(|(time, origin)| (time.0, self.index(origin))),
        };
        codec::append(&wire, &mut self.cells);
    }

    fn index(&mut self, origin: Origin) -> u32 {
        let found = self.origins.iter().position(|&known| known == origin);
        let index = found.unwrap_or_else(|| {
            self.origins.push(origin);
            self.origins.len() - 1
        });
        u32::try_from(index).expect("a frame has fewer cells than that")
    }

    /// The frame of what was added; leaves the encoder empty.
    pub(super) fn finish(&mut self, store: &Store, carrier: Carrier) -> Bytes {
        let ids = self.origins.iter().flat_map(|&origin| store.incarnation(origin).to_le_bytes());
        let origins: Vec<u8> = ids.collect();
        let cells = Cells { origins: &origins, cells: Packed(&self.cells) };
        let frame = match carrier {
            Carrier::Put => codec::frame(&Message::Put(cells)),
            Carrier::State => codec::frame(&Message::State(cells)),
        };
        self.origins.clear();
        self.cells.clear();
        self.cells.shrink_to(2 * FRAME_TARGET);
        frame
    }
}

/// Received cells that were checked whole; nothing of them is applied yet.
pub(super) struct Checked<'a> {
    pub(super) cells: Vec<(&'a [u8], Parts<'a>)>,
    /// The latest time in any of their stamps.
    pub(super) latest: Time,
}

/// Why received cells were not taken. Nothing of their frame was applied.
#[derive(Debug, thiserror::Error)]
pub(super) enum CellsError {
    #[error(transparent)]
    Codec(#[from] CodecError),
    #[error("malformed message: a cell names an origin that its frame does not list")]
    Origin,
    #[error("malformed message: a cell of {0} bytes")]
    Size(usize),
    #[error("one of its stamps lies {0:.1?} in the future: set both clocks by NTP")]
    Future(std::time::Duration),
    #[error("malformed message: a frame of more than {} bytes with more than one cell", 2 * FRAME_TARGET)]
    Crowded,
    #[error(transparent)]
    TooManyOrigins(#[from] TooManyOrigins),
}

impl<'a> Cells<'a> {
    /// Decodes and checks every cell: nothing malformed, no stamp later than `horizon`.
    pub(super) fn check(&self, store: &Store, now: Time, horizon: Time) -> Result<Checked<'a>, CellsError> {
        let ids = self.origins.as_chunks::<16>();
        if !ids.1.is_empty() {
            return Err(CellsError::Origin);
        }
        let origins = ids.0.iter().map(|id| {
            let id = Incarnation::try_from(id).map_err(|_| CellsError::Origin)?;
            Ok(store.intern(id)?)
        });
        let origins = origins.collect::<Result<Vec<Origin>, CellsError>>()?;
        let origin = |index: u32| origins.get(index as usize).copied().ok_or(CellsError::Origin);

        let mut checked = Checked { cells: Vec::new(), latest: stamp::ZERO };
        for wire in self.cells.items::<WireCell<'_>>() {
            let wire = wire?;
            let size = wire.key.len() + wire.value.map_or(0, <[u8]>::len);
            if size > MAX_CELL {
                return Err(CellsError::Size(size));
            }
            if !checked.cells.is_empty() && self.cells.0.len() > 2 * FRAME_TARGET {
                return Err(CellsError::Crowded);
            }
            let qualifier = match wire.qualifier {
                Some((time, index)) => Some((NTP64(time), origin(index)?)),
                None => None,
            };
            let parts = Parts {
                time: NTP64(wire.time),
                origin: origin(wire.origin)?,
                value: wire.value,
                deadline: wire.deadline.map(NTP64),
                qualifier,
            };
            let latest = qualifier.map_or(parts.time, |(time, _)| time.max(parts.time));
            if latest > horizon {
                return Err(CellsError::Future(stamp::distance(latest, now)));
            }
            checked.latest = checked.latest.max(latest);
            checked.cells.push((wire.key, parts));
        }
        Ok(checked)
    }
}

/// The number of an incarnation, as it travels.
pub(super) fn incarnation_number(incarnation: Incarnation) -> u128 {
    u128::from_le_bytes(incarnation.to_le_bytes())
}
