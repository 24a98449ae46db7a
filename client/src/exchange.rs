//! One request in flight, and the state that all requests share with the driver.

use std::future::Future;
use std::pin::Pin;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};

use tokio::time::Instant;

use crate::queue::{Outcome, Queue, SlotId};

/// The queue of one client. Its lock is held while a request is copied, never across an await.
#[derive(Debug)]
pub(crate) struct Shared(Mutex<Queue>);

impl Shared {
    pub(crate) fn new(queue: Queue) -> Self {
        Self(Mutex::new(queue))
    }

    pub(crate) fn queue(&self) -> MutexGuard<'_, Queue> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A request from submission to outcome. If it is dropped earlier, its reply is discarded when it arrives.
#[derive(Debug)]
pub(crate) struct Exchange<'a> {
    shared: &'a Shared,
    args: &'a [&'a [u8]],
    deadline: Instant,
    slot: Option<SlotId>,
}

impl<'a> Exchange<'a> {
    pub(crate) fn new(shared: &'a Shared, args: &'a [&'a [u8]], deadline: Instant) -> Self {
        Self { shared, args, deadline, slot: None }
    }
}

impl Future for Exchange<'_> {
    type Output = Outcome;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Outcome> {
        let mut queue = self.shared.queue();
        match self.slot {
            None => {
                self.slot = Some(queue.submit(self.args, self.deadline, cx.waker()));
                Poll::Pending
            }
            Some(id) => {
                let outcome = queue.poll(id, self.args, cx.waker());
                if outcome.is_ready() {
                    self.slot = None;
                }
                outcome
            }
        }
    }
}

impl Drop for Exchange<'_> {
    fn drop(&mut self) {
        if let Some(id) = self.slot {
            let mut wakers = Vec::new();
            self.shared.queue().abandon(id, &mut wakers);
            wakers.into_iter().for_each(|waker| waker.wake());
        }
    }
}
