//! Pushes that wait to be sent to a client: lines of `MONITOR`, messages, invalidations.

use std::mem;
use std::sync::atomic::{AtomicBool, Ordering};

use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;
use tracing_mutex::parkinglot::Mutex;

use super::Proto;

/// Most bytes that may wait for one connection: Redis's soft limit for a subscriber. If more would wait, the
/// connection is closed, because a stream with holes would mislead.
pub(super) const MAX_WAITING: usize = 8 << 20;

/// The pushes that wait for one connection.
///
/// Any task may add to it without waiting; the connection's task takes them. That task may hold as much again, partly
/// written to a socket that the client does not read.
pub(super) struct Outbox {
    waiting: Mutex<Waiting>,
    arrived: Notify,
    /// Closes the connection.
    kill: CancellationToken,
    overflowed: AtomicBool,
}

#[derive(Default)]
struct Waiting {
    bytes: Vec<u8>,
    /// The protocol version that messages are encoded for.
    proto: Proto,
}

impl Outbox {
    /// An empty outbox of the connection that `kill` closes.
    pub(super) fn new(kill: CancellationToken) -> Self {
        Outbox { waiting: Mutex::default(), arrived: Notify::new(), kill, overflowed: AtomicBool::new(false) }
    }

    /// Waits until there is something to take. Cancel-safe: the notification is kept.
    pub(super) async fn arrived(&self) {
        self.arrived.notified().await;
    }

    /// Moves the waiting bytes to the end of `out`.
    pub(super) fn take(&self, out: &mut Vec<u8>) {
        out.append(&mut mem::take(&mut self.waiting.lock().bytes));
    }

    /// Moves the waiting bytes to the end of `out`; later ones use the version `proto`.
    pub(super) fn switch(&self, proto: Proto, out: &mut Vec<u8>) {
        let mut waiting = self.waiting.lock();
        waiting.proto = proto;
        out.append(&mut waiting.bytes);
    }

    /// Adds bytes that are the same in both protocol versions.
    pub(super) fn add(&self, bytes: &[u8]) {
        self.put(bytes, |_| bytes[0]);
    }

    /// Adds a message that was encoded for RESP3; in RESP2 only its first byte differs.
    pub(super) fn push(&self, message: &[u8]) {
        self.put(message, |proto| match proto {
            Proto::Resp2 => b'*',
            Proto::Resp3 => message[0],
        });
    }

    /// Adds a message that was encoded for RESP3, unless the client uses RESP2, in which it could be taken for a reply.
    pub(super) fn push_in_resp3(&self, message: &[u8]) {
        self.put_if(|proto| proto == Proto::Resp3, message, |_| message[0]);
    }

    /// Whether the connection was closed because it did not read its pushes.
    pub(super) fn has_overflowed(&self) -> bool {
        self.overflowed.load(Ordering::Relaxed)
    }

    /// The bytes that wait.
    pub(super) fn len(&self) -> usize {
        self.waiting.lock().bytes.len()
    }

    fn put(&self, bytes: &[u8], first: impl FnOnce(Proto) -> u8) {
        self.put_if(|_| true, bytes, first);
    }

    fn put_if(&self, is_wanted: impl FnOnce(Proto) -> bool, bytes: &[u8], first: impl FnOnce(Proto) -> u8) {
        let mut waiting = self.waiting.lock();
        if !is_wanted(waiting.proto) {
            return;
        }
        let taken = waiting.bytes.len();
        // A message larger than the limit is accepted if nothing else waits; otherwise it could never be sent.
        if taken > 0 && taken + bytes.len() > MAX_WAITING {
            drop(waiting);
            self.overflowed.store(true, Ordering::Relaxed);
            self.kill.cancel();
            return;
        }
        let first = first(waiting.proto);
        waiting.bytes.push(first);
        waiting.bytes.extend_from_slice(&bytes[1..]);
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
        outbox.push(&vec![b'>'; 2 * MAX_WAITING]);
        assert!(!kill.is_cancelled());
        assert_eq!(taken(&outbox).len(), 2 * MAX_WAITING);
    }

    #[test]
    fn a_message_is_in_the_dialect_spoken_when_it_came() {
        let outbox = Outbox::new(CancellationToken::new());
        outbox.push(b">1\r\n:1\r\n");
        let mut out = b"before ".to_vec();
        outbox.switch(Proto::Resp3, &mut out);
        assert_eq!(out, b"before *1\r\n:1\r\n");
        outbox.push(b">1\r\n:2\r\n");
        outbox.add(b"+line\r\n");
        assert_eq!(taken(&outbox), b">1\r\n:2\r\n+line\r\n");
        assert_eq!(taken(&outbox), b"");
    }

    #[tokio::test]
    async fn what_was_added_before_anybody_waited_is_noticed() {
        let outbox = Outbox::new(CancellationToken::new());
        outbox.add(b"x");
        outbox.arrived().await;
    }
}
