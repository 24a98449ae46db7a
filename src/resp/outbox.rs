//! What waits to be sent to a client that did not ask for it just now: lines of `MONITOR`, messages, invalidations.

use std::mem;
use std::sync::atomic::{AtomicBool, Ordering};

use parking_lot::Mutex;
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

/// Bytes that may wait for one connection: what Redis lets a subscriber fall behind for a minute. One that falls
/// behind further is cut off, as a stream with holes would mislead.
pub(super) const MAX_WAITING: usize = 8 << 20;

/// The pushes that wait for one connection.
///
/// Any task may add to it, and never waits; the connection's own takes. As much again may be with that task, half
/// written to a socket that the client does not read.
pub(super) struct Outbox {
    waiting: Mutex<Vec<u8>>,
    arrived: Notify,
    /// Ends the connection.
    kill: CancellationToken,
    overflowed: AtomicBool,
}

impl Outbox {
    /// An empty outbox of the connection that `kill` ends.
    pub(super) fn new(kill: CancellationToken) -> Self {
        Outbox { waiting: Mutex::default(), arrived: Notify::new(), kill, overflowed: AtomicBool::new(false) }
    }

    /// Waits until there is something to take. Cancel-safe: a permit that was not taken stays.
    pub(super) async fn arrived(&self) {
        self.arrived.notified().await;
    }

    /// Moves what waits to the end of `out`.
    pub(super) fn take(&self, out: &mut Vec<u8>) {
        out.append(&mut mem::take(&mut *self.waiting.lock()));
    }

    /// Whether the connection was cut off because it did not read what it had asked for.
    pub(super) fn has_overflowed(&self) -> bool {
        self.overflowed.load(Ordering::Relaxed)
    }

    /// Adds bytes to what waits.
    pub(super) fn add(&self, bytes: &[u8]) {
        let mut waiting = self.waiting.lock();
        let taken = waiting.len();
        // One that is larger than the limit goes if nothing else waits, or it never would.
        if taken > 0 && taken + bytes.len() > MAX_WAITING {
            drop(waiting);
            self.overflowed.store(true, Ordering::Relaxed);
            self.kill.cancel();
            return;
        }
        waiting.extend_from_slice(bytes);
        drop(waiting);
        self.arrived.notify_one();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn taken(outbox: &Outbox) -> Vec<u8> {
        let mut out = Vec::new();
        outbox.take(&mut out);
        out
    }

    #[test]
    fn a_connection_that_falls_behind_is_cut_off() {
        let kill = CancellationToken::new();
        let outbox = Outbox::new(kill.clone());
        outbox.add(&vec![0; MAX_WAITING]);
        assert!(!kill.is_cancelled() && !outbox.has_overflowed());
        outbox.add(b"x");
        assert!(kill.is_cancelled() && outbox.has_overflowed());
        assert_eq!(taken(&outbox).len(), MAX_WAITING);
    }

    #[test]
    fn a_message_above_the_limit_passes_when_nothing_else_waits() {
        let kill = CancellationToken::new();
        let outbox = Outbox::new(kill.clone());
        outbox.add(&vec![0; 2 * MAX_WAITING]);
        assert!(!kill.is_cancelled());
        assert_eq!(taken(&outbox).len(), 2 * MAX_WAITING);
    }

    #[tokio::test]
    async fn what_was_added_before_anybody_waited_is_noticed() {
        let outbox = Outbox::new(CancellationToken::new());
        outbox.add(b"x");
        outbox.arrived().await;
    }
}
