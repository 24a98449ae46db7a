//! The deadlines of all requests. They are checked together, when the alarm, the time of the next one, is due.

use std::task::Waker;

use tokio::time::{Duration, Instant};

use super::slots::{Outcome, State};
use super::{Entry, Queue};

impl Queue {
    /// Expires the requests that are overdue. `last_received` is when the last byte came, if there is a
    /// connection. Returns whether to close the connection, because it was silent although a reply is overdue.
    pub(crate) fn sweep(
        &mut self,
        now: Instant,
        last_received: Option<Instant>,
        patience: Duration,
        wakers: &mut Vec<Waker>,
    ) -> bool {
        self.alarm = None;
        for _ in 0..self.waiting.len() {
            let Some(id) = self.waiting.pop_front() else { break };
            let slot = &mut self.slots[id];
            if matches!(slot.state, State::Abandoned) {
                self.slots.release(id);
            } else if slot.deadline <= now {
                let trouble = self.trouble.clone();
                slot.state = State::Done(Outcome::NotSent(trouble));
                wakers.extend(slot.waker.take());
            } else {
                let deadline = slot.deadline;
                self.waiting.push_back(id);
                self.remind(deadline);
            }
        }
        self.sweep_unsent(now, wakers);
        for at in 0..self.taken {
            let slot = &mut self.slots[self.order[at].slot];
            if slot.deadline > now {
                let deadline = slot.deadline;
                self.remind(deadline);
            } else if matches!(slot.state, State::Queued) {
                slot.state = State::Expired;
                wakers.extend(slot.waker.take());
            }
        }
        self.admit(wakers);
        let overdue = self.order.front().is_some_and(|front| self.slots[front.slot].deadline <= now);
        match last_received {
            Some(last_received) if self.taken > 0 && overdue => {
                self.remind(last_received + patience);
                last_received + patience <= now
            }
            _ => false,
        }
    }

    /// Expires requests that were not taken yet, so that they are not sent after their deadline.
    fn sweep_unsent(&mut self, now: Instant, wakers: &mut Vec<Waker>) {
        let unsent = self.order.split_off(self.taken);
        let expired = |queue: &Self, entry: &Entry| queue.slots[entry.slot].deadline <= now;
        if !unsent.iter().any(|entry| expired(self, entry)) {
            unsent.iter().for_each(|entry| self.remind(self.slots[entry.slot].deadline));
            self.order.extend(unsent);
            return;
        }
        let output = std::mem::take(&mut self.output);
        let mut at = 0;
        for entry in unsent {
            let bytes = at..at + entry.len;
            at = bytes.end;
            if expired(self, &entry) {
                let trouble = self.trouble.clone();
                self.complete(&entry, || Outcome::NotSent(trouble), wakers);
            } else {
                self.output.extend_from_slice(&output[bytes]);
                self.remind(self.slots[entry.slot].deadline);
                self.order.push_back(entry);
            }
        }
    }

    /// Moves the alarm forward to this deadline if it is earlier.
    pub(super) fn watch(&mut self, deadline: Instant) {
        if self.alarm.is_none_or(|alarm| deadline < alarm) {
            self.alarm = Some(deadline);
            self.wake_driver();
        }
    }

    fn remind(&mut self, at: Instant) {
        self.alarm = Some(self.alarm.map_or(at, |alarm| alarm.min(at)));
    }
}
