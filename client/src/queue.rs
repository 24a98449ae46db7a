//! The requests of all callers, from waiting for room to the reply. Uses no socket and no clock.
//!
//! ```text
//!             no room                 room                    reply
//!   submit ───────────► Waiting ────► Woken ──┐   ┌─► Queued ───────► Done ──► free
//!      └──────────────────────────────────────┴───┘      │ too late    ▲
//!                       room                             └─► Expired ──┘
//!
//!   If a caller goes away while a list still names its slot, the slot becomes Abandoned, and its reply is discarded.
//! ```
//!
//! **Invariants.**
//! - Replies come in the order of `order`. So every entry stays there until its reply or the end of the connection,
//!   even if its caller is gone.
//! - A slot is freed once neither a list nor a caller names it.
//! - A request is encoded straight into `output`, so it needs no allocation.

mod deadlines;
mod slots;

use std::collections::VecDeque;
use std::sync::Arc;
use std::task::{Poll, Waker};

use tokio::time::Instant;

pub(crate) use self::slots::{Outcome, SlotId};
use self::slots::{Slot, Slots, State};
use crate::ClientError;
use crate::resp::{Frame, encode_request};

/// Most bytes of framing for a request and for each of its arguments, to bound its size before it is encoded.
const MAX_FRAMING: usize = 24;

/// An encoded request that has no reply yet.
#[derive(Debug)]
struct Entry {
    slot: SlotId,
    len: usize,
}

/// What [`Queue::take`] did.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Taken {
    /// There are no bytes to write.
    Nothing,
    /// The bytes were taken.
    Bytes,
    /// The bytes were left, because more are expected soon.
    Soon,
}

/// A reply came without a request: replies and requests are out of step.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Unasked;

#[derive(Debug)]
pub(crate) struct Queue {
    max_requests: usize,
    max_bytes: usize,
    slots: Slots,
    /// Encoded requests without a reply, in sending order. The driver has taken the bytes of the first `taken`; the
    /// bytes of the others are in `output`.
    order: VecDeque<Entry>,
    taken: usize,
    output: Vec<u8>,
    /// The total length of the requests in `order`.
    bytes: usize,
    /// Callers that wait for room, longest wait first.
    waiting: VecDeque<SlotId>,
    /// How many slots are `Woken`, and the bytes reserved for them.
    woken: usize,
    woken_bytes: usize,
    /// No deadline passes before this time.
    alarm: Option<Instant>,
    driver: Option<Waker>,
    /// Whether the driver was woken and has not asked for bytes since.
    driver_woken: bool,
    /// Why there is no connection; or the address of the connected node.
    trouble: Option<ClientError>,
    addr: Option<Arc<str>>,
    stopped: bool,
}

impl Queue {
    pub(crate) fn new(max_requests: usize, max_bytes: usize) -> Self {
        Self {
            // With a limit of 0 no request would ever be sent.
            max_requests: max_requests.max(1),
            max_bytes,
            slots: Slots::default(),
            order: VecDeque::new(),
            taken: 0,
            output: Vec::new(),
            bytes: 0,
            waiting: VecDeque::new(),
            woken: 0,
            woken_bytes: 0,
            alarm: None,
            driver: None,
            driver_woken: false,
            trouble: None,
            addr: None,
            stopped: false,
        }
    }

    // ---- the callers' side

    /// Submits a request; [`Queue::poll`] returns its outcome.
    pub(crate) fn submit(&mut self, args: &[&[u8]], deadline: Instant, waker: &Waker) -> SlotId {
        let size = args.iter().map(|arg| arg.len() + MAX_FRAMING).sum::<usize>() + MAX_FRAMING;
        let id = self.slots.insert(Slot { state: State::Free, waker: Some(waker.clone()), deadline, size });
        if self.stopped {
            self.slots[id].state = State::Done(Outcome::Stopped);
            waker.wake_by_ref();
        } else if self.waiting.is_empty() && self.has_room(size) {
            self.enqueue(id, args);
        } else {
            self.slots[id].state = State::Waiting;
            self.waiting.push_back(id);
        }
        self.watch(deadline);
        id
    }

    /// The outcome of the request in this slot; frees the slot.
    pub(crate) fn poll(&mut self, id: SlotId, args: &[&[u8]], waker: &Waker) -> Poll<Outcome> {
        match self.slots[id].state {
            State::Done(_) => {
                let State::Done(outcome) = self.slots.release(id) else { unreachable!("just seen") };
                return Poll::Ready(outcome);
            }
            State::Expired => {
                self.slots[id].state = State::Abandoned;
                return Poll::Ready(Outcome::TimedOut);
            }
            State::Woken => {
                self.forgo(id);
                if self.stopped {
                    self.slots.release(id);
                    return Poll::Ready(Outcome::Stopped);
                }
                self.enqueue(id, args);
                self.watch(self.slots[id].deadline);
            }
            State::Waiting | State::Queued => {}
            State::Free | State::Abandoned => unreachable!("a slot outlives its caller's last look at it"),
        }
        let slot = &mut self.slots[id];
        if slot.waker.as_ref().is_none_or(|known| !known.will_wake(waker)) {
            slot.waker = Some(waker.clone());
        }
        Poll::Pending
    }

    /// Abandons this slot, because its caller went away.
    pub(crate) fn abandon(&mut self, id: SlotId, wakers: &mut Vec<Waker>) {
        match self.slots[id].state {
            State::Done(_) => drop(self.slots.release(id)),
            State::Woken => {
                self.forgo(id);
                self.slots.release(id);
                self.admit(wakers);
            }
            _ => {
                self.slots[id].state = State::Abandoned;
                self.slots[id].waker = None;
            }
        }
    }

    /// The number of requests that were accepted and have no reply yet.
    pub(crate) fn in_flight(&self) -> usize {
        self.order.len()
    }

    // ---- the driver's side

    /// Swaps the bytes to be written for `spare`, which is empty; leaves them if `patient`. Either way, `waker` is
    /// woken when there are more.
    pub(crate) fn take(&mut self, spare: &mut Vec<u8>, waker: &Waker, patient: bool) -> Taken {
        self.attend(waker);
        if self.output.is_empty() {
            Taken::Nothing
        } else if patient {
            Taken::Soon
        } else {
            std::mem::swap(&mut self.output, spare);
            self.taken = self.order.len();
            Taken::Bytes
        }
    }

    /// Registers `waker`, to be woken when there are bytes to write or the alarm changes.
    pub(crate) fn attend(&mut self, waker: &Waker) {
        self.driver_woken = false;
        if self.driver.as_ref().is_none_or(|known| !known.will_wake(waker)) {
            self.driver = Some(waker.clone());
        }
    }

    pub(crate) fn alarm(&self) -> Option<Instant> {
        self.alarm
    }

    /// Delivers replies, in the order in which they came.
    pub(crate) fn deliver(
        &mut self,
        frames: impl Iterator<Item = Frame>,
        connection: u64,
        wakers: &mut Vec<Waker>,
    ) -> Result<(), Unasked> {
        for frame in frames {
            self.taken = self.taken.checked_sub(1).ok_or(Unasked)?;
            let entry = self.order.pop_front().ok_or(Unasked)?;
            self.complete(&entry, || Outcome::Reply { frame, connection }, wakers);
        }
        self.admit(wakers);
        Ok(())
    }

    /// Handles the end of the connection. Requests of which no byte was written stay; the driver had not written
    /// `unwritten`.
    pub(crate) fn lose(&mut self, unwritten: &[u8], error: &ClientError, wakers: &mut Vec<Waker>) {
        let mut whole = 0;
        let mut bytes = unwritten.len() + self.output.len();
        for entry in self.order.iter().rev() {
            let Some(rest) = bytes.checked_sub(entry.len) else { break };
            bytes = rest;
            whole += 1;
        }
        // Any remaining bytes belong to a request that was partly written.
        let mut output = Vec::with_capacity(unwritten.len() + self.output.len());
        output.extend_from_slice(unwritten);
        output.extend_from_slice(&self.output);
        output.drain(..bytes);
        self.output = output;
        self.taken = 0;
        for _ in whole..self.order.len() {
            let Some(entry) = self.order.pop_front() else { break };
            self.complete(&entry, || Outcome::Lost(error.clone()), wakers);
        }
        self.admit(wakers);
    }

    /// Records why there is no connection.
    pub(crate) fn disconnected(&mut self, trouble: ClientError) {
        self.trouble = Some(trouble);
        self.addr = None;
    }

    /// Records that there is a connection, and its node's address.
    pub(crate) fn connected(&mut self, addr: Arc<str>) {
        self.trouble = None;
        self.addr = Some(addr);
    }

    /// The address of the connected node.
    pub(crate) fn addr(&self) -> Option<Arc<str>> {
        self.addr.clone()
    }

    /// Closes the queue after the last client was dropped: the driver has to end.
    pub(crate) fn close(&mut self) {
        self.stopped = true;
        if let Some(driver) = &self.driver {
            driver.wake_by_ref();
        }
    }

    pub(crate) fn is_closed(&self) -> bool {
        self.stopped
    }

    /// Ends all requests after the driver has ended. Those that it may have written get `error`.
    pub(crate) fn stop(&mut self, error: &ClientError, wakers: &mut Vec<Waker>) {
        self.stopped = true;
        self.lose(&[], error, wakers);
        self.output.clear();
        for entry in std::mem::take(&mut self.order) {
            self.complete(&entry, || Outcome::Stopped, wakers);
        }
        for id in std::mem::take(&mut self.waiting) {
            let slot = &mut self.slots[id];
            if matches!(slot.state, State::Abandoned) {
                self.slots.release(id);
            } else {
                slot.state = State::Done(Outcome::Stopped);
                wakers.extend(slot.waker.take());
            }
        }
    }

    // ----

    /// Whether a request of this size fits among those in flight. One that exceeds the limit goes alone.
    fn has_room(&self, size: usize) -> bool {
        let requests = self.order.len() + self.woken;
        let bytes = self.bytes + self.woken_bytes;
        requests == 0 || requests < self.max_requests && bytes.saturating_add(size) <= self.max_bytes
    }

    /// Releases the room reserved for this slot.
    fn forgo(&mut self, id: SlotId) {
        self.woken -= 1;
        self.woken_bytes -= self.slots[id].size;
    }

    fn enqueue(&mut self, id: SlotId, args: &[&[u8]]) {
        let before = self.output.len();
        encode_request(&mut self.output, args);
        let len = self.output.len() - before;
        self.bytes += len;
        self.order.push_back(Entry { slot: id, len });
        self.slots[id].state = State::Queued;
        self.wake_driver();
    }

    fn wake_driver(&mut self) {
        if !std::mem::replace(&mut self.driver_woken, true)
            && let Some(driver) = &self.driver
        {
            driver.wake_by_ref();
        }
    }

    /// Completes an entry that has left `order`.
    fn complete(&mut self, entry: &Entry, outcome: impl FnOnce() -> Outcome, wakers: &mut Vec<Waker>) {
        self.bytes -= entry.len;
        let slot = &mut self.slots[entry.slot];
        if matches!(slot.state, State::Abandoned) {
            self.slots.release(entry.slot);
        } else {
            slot.state = State::Done(outcome());
            wakers.extend(slot.waker.take());
        }
    }

    /// Wakes as many waiting callers as there is room for.
    fn admit(&mut self, wakers: &mut Vec<Waker>) {
        while let Some(&id) = self.waiting.front() {
            let size = self.slots[id].size;
            if matches!(self.slots[id].state, State::Abandoned) {
                self.slots.release(id);
            } else if self.has_room(size) {
                let slot = &mut self.slots[id];
                slot.state = State::Woken;
                wakers.extend(slot.waker.take());
                self.woken += 1;
                self.woken_bytes += size;
            } else {
                break;
            }
            self.waiting.pop_front();
        }
    }
}

#[cfg(test)]
mod tests;
