//! Slots that hold requests and their outcomes, and are reused.

use std::ops::{Index, IndexMut};
use std::task::Waker;

use tokio::time::Instant;

use crate::ClientError;
use crate::resp::Frame;

/// The index of a request's slot in the [`Queue`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct SlotId(usize);

/// The outcome of a request.
#[derive(Debug)]
pub(crate) enum Outcome {
    /// The node replied, on the connection with this number.
    Reply { frame: Frame, connection: u64 },
    /// The connection ended after at least part of the request was written.
    Lost(ClientError),
    /// No reply came in time.
    TimedOut,
    /// The deadline passed before any of it was written; with the reason, if there was no connection.
    NotSent(Option<ClientError>),
    /// The driver ended before any of the request was written.
    Stopped,
}

/// The state of a request: see the diagram in [`queue`](super).
#[derive(Debug)]
pub(super) enum State {
    Free,
    Waiting,
    /// There is room, and the caller has been woken.
    Woken,
    Queued,
    Expired,
    Abandoned,
    Done(Outcome),
}

/// A request's slot.
#[derive(Debug)]
pub(super) struct Slot {
    pub(super) state: State,
    pub(super) waker: Option<Waker>,
    pub(super) deadline: Instant,
    /// An upper bound of the request's encoded size.
    pub(super) size: usize,
}

/// All slots, used and free.
#[derive(Debug, Default)]
pub(super) struct Slots {
    all: Vec<Slot>,
    free: Vec<SlotId>,
}

impl Slots {
    pub(super) fn insert(&mut self, slot: Slot) -> SlotId {
        match self.free.pop() {
            Some(id) => {
                self[id] = slot;
                id
            }
            None => {
                self.all.push(slot);
                SlotId(self.all.len() - 1)
            }
        }
    }

    /// Frees a slot and returns its last state.
    pub(super) fn release(&mut self, id: SlotId) -> State {
        self.free.push(id);
        self[id].waker = None;
        std::mem::replace(&mut self[id].state, State::Free)
    }

    #[cfg(test)]
    pub(super) fn in_use(&self) -> usize {
        self.all.len() - self.free.len()
    }
}

impl Index<SlotId> for Slots {
    type Output = Slot;

    fn index(&self, id: SlotId) -> &Slot {
        &self.all[id.0]
    }
}

impl IndexMut<SlotId> for Slots {
    fn index_mut(&mut self, id: SlotId) -> &mut Slot {
        &mut self.all[id.0]
    }
}
