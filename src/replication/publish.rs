//! Carries published messages to the subscribers of the peers: best effort.
//!
//! ```text
//!   PUBLISH --> Messages --> push task --> queue of each link --> link --> peer's session --> its subscribers
//! ```
//!
//! Messages take the path of the pushes, so that a message arrives after the earlier writes of its client. A
//! node sends only what its own clients publish, never what it has received, so nothing circulates.

use std::mem;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::Bytes;
use tokio::sync::Notify;
use tracing_mutex::parkinglot::Mutex;

use super::Replication;
use super::codec::{self, MAX_FRAME};
use super::message::Message;
use super::peers::Link;
use super::queue::MAX_MESSAGES;
use crate::cluster::Publisher;

/// The bytes that a message counts in addition to channel and text, for memory and its frame.
const OVERHEAD: usize = 64;

/// Messages that the push task has not taken yet.
#[derive(Default)]
pub(super) struct Messages {
    waiting: Mutex<Waiting>,
    ready: Notify,
    dropped: AtomicU64,
}

#[derive(Default)]
struct Waiting {
    frames: Vec<Bytes>,
    bytes: usize,
}

impl Messages {
    /// Adds a message, or drops it if too many wait. Never waits.
    pub(super) fn add(&self, channel: &[u8], message: &[u8]) {
        let size = channel.len() + message.len() + OVERHEAD;
        let has_room = |bytes| size <= MAX_FRAME && (bytes == 0 || bytes + size <= MAX_MESSAGES);
        if !has_room(self.waiting.lock().bytes) {
            self.dropped.fetch_add(1, Ordering::Relaxed);
            return;
        }
        // Encoded without the lock. Concurrent connections may exceed the limit by one message each.
        let frame = codec::frame(&Message::Publish { channel, message });
        let mut waiting = self.waiting.lock();
        waiting.bytes += size;
        waiting.frames.push(frame);
        drop(waiting);
        self.ready.notify_one();
    }

    /// Waits until there may be something to take. Cancel-safe: it takes nothing.
    pub(super) async fn ready(&self) {
        self.ready.notified().await;
    }

    /// Takes the messages that wait.
    pub(super) fn take(&self) -> Vec<Bytes> {
        mem::take(&mut *self.waiting.lock()).frames
    }

    /// Queues frames to all of `links`.
    pub(super) fn spread(&self, frames: Vec<Bytes>, links: &[Arc<Link>]) {
        for frame in frames {
            let full = links.iter().filter(|link| !link.queue.publish(frame.clone())).count();
            self.dropped.fetch_add(full as u64, Ordering::Relaxed);
        }
    }

    /// Returns how many messages were dropped. A message that a link's queue dropped counts once for each link; one
    /// that was dropped before it reached the queues counts once.
    pub(super) fn dropped(&self) -> u64 {
        self.dropped.load(Ordering::Relaxed)
    }
}

impl Publisher for Replication {
    fn publish(&self, channel: &[u8], message: &[u8]) {
        if !self.shared.replica.peers.links().is_empty() {
            self.shared.messages.add(channel, message);
        }
    }

    fn dropped_messages(&self) -> u64 {
        self.shared.messages.dropped()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn messages_wait_in_order_and_within_the_limit() {
        let messages = Messages::default();
        messages.add(b"c", b"1");
        messages.add(b"c", b"2");
        messages.ready().await;
        messages.add(b"c", &vec![0; MAX_MESSAGES]);
        assert_eq!(messages.dropped(), 1);
        let expected =
            [&b"1"[..], b"2"].map(|message| codec::frame(&Message::Publish { channel: b"c", message }));
        assert_eq!(messages.take(), expected);
        messages.add(b"c", &vec![0; 2 * MAX_MESSAGES]);
        assert_eq!((messages.take().len(), messages.dropped()), (1, 1), "one alone goes, however large");
    }
}
