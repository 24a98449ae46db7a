//! What waits to be sent to one peer: bounded, and never waited for by a writer.

use std::collections::VecDeque;
use std::time::Duration;

use bytes::Bytes;
use parking_lot::Mutex;
use tokio::sync::Notify;
use tokio::time::Instant;

use super::codec;
use super::message::Message;

/// What a queued frame costs beside its bytes, so that many small ones count too.
const FRAME_OVERHEAD: usize = 64;

/// Bytes of published messages that may wait for one peer, and again on the way to the links. Best effort: beyond it
/// they are dropped. As much as a subscriber may fall behind.
pub(super) const MAX_MESSAGES: usize = 8 << 20;

/// How often the age of what was pushed is noted; the precision of a link's lag.
const MARK_EVERY: Duration = Duration::from_millis(5);

/// A link's outgoing frames, first in first out.
///
/// Pushes are bounded in bytes. Beyond the limit they are dropped and a `Gap` takes their place: the queue is a
/// cache, the state is the truth, and the peer asks for a round. Published messages are bounded for themselves, and
/// dropped beyond that for good. All other frames are few by the protocol.
pub(super) struct Queue {
    inner: Mutex<Inner>,
    ready: Notify,
    limit: usize,
}

#[derive(Default)]
struct Inner {
    frames: VecDeque<Frame>,
    push_bytes: usize,
    message_bytes: usize,
    /// The latest beat, if it has not been sent: an older one is of no use.
    beat: Option<Bytes>,
    /// Counts the gaps of this link.
    epoch: u32,
    /// How often pushes were lost.
    losses: u64,
    /// The losses that the state which the peer was sent makes up for, if it was sent one.
    state_sent: Option<u64>,
    /// Pushes queued since the epoch began, and how many of them the peer has acknowledged.
    puts: u64,
    acked: u64,
    /// Until which push, and when, for those not acknowledged.
    marks: VecDeque<(u64, Instant)>,
}

enum Frame {
    Put(Bytes),
    Gap(Bytes),
    Message(Bytes),
    Other(Bytes),
}

impl Frame {
    fn into_bytes(self) -> Bytes {
        match self {
            Frame::Put(bytes) | Frame::Gap(bytes) | Frame::Message(bytes) | Frame::Other(bytes) => bytes,
        }
    }
}

impl Queue {
    /// A queue in which at most `limit` bytes of pushes wait.
    pub(super) fn new(limit: usize) -> Self {
        Queue { inner: Mutex::default(), ready: Notify::new(), limit }
    }

    /// Queues a push.
    pub(super) fn put(&self, frame: Bytes) {
        let now = Instant::now();
        let mut inner = self.inner.lock();
        let size = frame.len() + FRAME_OVERHEAD;
        // A frame larger than the limit goes if nothing else waits, or it never would.
        if inner.push_bytes > 0 && inner.push_bytes + size > self.limit {
            inner.drop_pushes();
        } else {
            inner.push_bytes += size;
            inner.puts += 1;
            let puts = inner.puts;
            match inner.marks.back_mut() {
                Some((until, at)) if now - *at < MARK_EVERY => *until = puts,
                _ => inner.marks.push_back((puts, now)),
            }
            inner.frames.push_back(Frame::Put(frame));
        }
        drop(inner);
        self.ready.notify_one();
    }

    /// Drops the pushes that wait, because some were lost before they came here.
    pub(super) fn lose_pushes(&self) {
        self.inner.lock().drop_pushes();
        self.ready.notify_one();
    }

    /// Queues what a client has published, behind the pushes that wait; returns whether there was room.
    pub(super) fn publish(&self, frame: Bytes) -> bool {
        let mut inner = self.inner.lock();
        let size = frame.len() + FRAME_OVERHEAD;
        if inner.message_bytes > 0 && inner.message_bytes + size > MAX_MESSAGES {
            return false;
        }
        inner.message_bytes += size;
        inner.frames.push_back(Frame::Message(frame));
        drop(inner);
        self.ready.notify_one();
        true
    }

    /// Queues a frame that is not a push.
    pub(super) fn send(&self, message: &Message<'_>) {
        self.inner.lock().frames.push_back(Frame::Other(codec::frame(message)));
        self.ready.notify_one();
    }

    /// Queues a beat in place of one that was not sent yet.
    pub(super) fn beat(&self, frame: Bytes) {
        self.inner.lock().beat = Some(frame);
        self.ready.notify_one();
    }

    /// Wakes the one who sends.
    pub(super) fn wake(&self) {
        self.ready.notify_one();
    }

    /// Waits until there may be something to send. Cancel-safe: it takes nothing.
    pub(super) async fn ready(&self) {
        self.ready.notified().await;
    }

    /// Moves about `bytes` bytes of frames to `into`, oldest first.
    pub(super) fn take(&self, into: &mut VecDeque<Bytes>, bytes: usize) {
        let mut inner = self.inner.lock();
        into.extend(inner.beat.take());
        let mut taken = 0;
        while taken < bytes
            && let Some(frame) = inner.frames.pop_front()
        {
            match &frame {
                Frame::Put(bytes) => inner.push_bytes -= bytes.len() + FRAME_OVERHEAD,
                Frame::Message(bytes) => inner.message_bytes -= bytes.len() + FRAME_OVERHEAD,
                Frame::Gap(_) | Frame::Other(_) => {}
            }
            let frame = frame.into_bytes();
            taken += frame.len();
            into.push_back(frame);
        }
    }

    /// Notes that the peer has merged `puts` pushes of an epoch.
    pub(super) fn acknowledge(&self, epoch: u32, puts: u64) {
        let mut inner = self.inner.lock();
        if epoch != inner.epoch {
            return;
        }
        inner.acked = inner.acked.max(puts.min(inner.puts));
        while inner.marks.front().is_some_and(|(until, _)| *until <= inner.acked) {
            inner.marks.pop_front();
        }
    }

    /// The age of the oldest push that the peer has not acknowledged.
    pub(super) fn lag(&self) -> Duration {
        self.inner.lock().marks.front().map_or(Duration::ZERO, |(_, at)| at.elapsed())
    }

    /// How often pushes were lost. A state that is read from now on makes up for all of it.
    pub(super) fn losses(&self) -> u64 {
        self.inner.lock().losses
    }

    /// The peer has been sent a state that makes up for this many losses.
    pub(super) fn state_sent(&self, losses: u64) {
        self.inner.lock().state_sent = Some(losses);
    }

    /// Whether the peer has been sent everything: our state since the last gap, and every push since, which it
    /// has acknowledged.
    pub(super) fn is_drained(&self) -> bool {
        let inner = self.inner.lock();
        inner.state_sent == Some(inner.losses) && inner.acked == inner.puts && inner.frames.is_empty()
    }

    /// Bytes of pushes that wait.
    pub(super) fn push_bytes(&self) -> u64 {
        self.inner.lock().push_bytes as u64
    }
}

impl Inner {
    fn drop_pushes(&mut self) {
        self.frames.retain(|frame| !matches!(frame, Frame::Put(_)));
        self.push_bytes = 0;
        self.losses += 1;
        self.puts = 0;
        self.acked = 0;
        self.marks.clear();
        // One that still waits tells of this loss too: all pushes since came after it.
        if !self.frames.iter().any(|frame| matches!(frame, Frame::Gap(_))) {
            self.epoch += 1;
            self.frames.push_back(Frame::Gap(codec::frame(&Message::Gap)));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn taken(queue: &Queue) -> Vec<Bytes> {
        let mut frames = VecDeque::new();
        queue.take(&mut frames, usize::MAX);
        frames.into()
    }

    #[tokio::test(start_paused = true)]
    async fn an_overflow_drops_the_pushes_and_tells_the_peer_once() {
        let queue = Queue::new(10 * (100 + FRAME_OVERHEAD));
        queue.send(&Message::Goodbye);
        for _ in 0..10 {
            queue.put(Bytes::from_static(&[0; 100]));
        }
        assert_eq!(queue.inner.lock().frames.len(), 11);
        queue.put(Bytes::from_static(&[0; 100]));
        assert_eq!(taken(&queue), [codec::frame(&Message::Goodbye), codec::frame(&Message::Gap)]);
        assert_eq!((queue.push_bytes(), queue.lag()), (0, Duration::ZERO));
        for _ in 0..1000 {
            queue.lose_pushes();
        }
        assert_eq!(taken(&queue), [codec::frame(&Message::Gap)], "a peer that only beats collects no gaps");
    }

    #[tokio::test(start_paused = true)]
    async fn lag_is_the_age_of_the_oldest_push_without_an_acknowledgement() {
        let queue = Queue::new(1 << 20);
        queue.state_sent(queue.losses());
        queue.put(Bytes::from_static(b"one"));
        tokio::time::advance(Duration::from_millis(30)).await;
        queue.put(Bytes::from_static(b"two"));
        tokio::time::advance(Duration::from_millis(10)).await;
        assert_eq!(queue.lag(), Duration::from_millis(40));
        queue.acknowledge(0, 1);
        assert_eq!(queue.lag(), Duration::from_millis(10));
        assert!(!queue.is_drained());
        taken(&queue);
        queue.acknowledge(0, 2);
        assert_eq!(queue.lag(), Duration::ZERO);
        assert!(queue.is_drained());
    }

    #[tokio::test(start_paused = true)]
    async fn an_acknowledgement_of_an_earlier_epoch_counts_for_nothing() {
        let queue = Queue::new(1 << 20);
        queue.put(Bytes::from_static(b"lost"));
        queue.lose_pushes();
        queue.put(Bytes::from_static(b"kept"));
        taken(&queue);
        queue.acknowledge(0, 1);
        assert!(!queue.is_drained());
        queue.acknowledge(1, 1);
        queue.state_sent(1);
        assert!(queue.is_drained());
    }

    #[tokio::test(start_paused = true)]
    async fn a_peer_holds_everything_only_after_a_state_read_since_the_last_gap() {
        let queue = Queue::new(1 << 20);
        assert!(!queue.is_drained(), "nothing was sent yet");
        let started = queue.losses();
        queue.lose_pushes();
        taken(&queue);
        queue.state_sent(started);
        assert!(!queue.is_drained(), "the round began before the gap");
        queue.state_sent(queue.losses());
        assert!(queue.is_drained());
    }

    #[tokio::test(start_paused = true)]
    async fn a_push_larger_than_the_limit_goes_when_nothing_else_waits() {
        let queue = Queue::new(10);
        queue.put(Bytes::from_static(&[0; 100]));
        queue.put(Bytes::from_static(&[0; 100]));
        assert_eq!(taken(&queue), [codec::frame(&Message::Gap)], "two such frames are too many");
        queue.put(Bytes::from_static(&[0; 100]));
        assert_eq!(taken(&queue).len(), 1);
    }

    #[tokio::test(start_paused = true)]
    async fn messages_beyond_the_limit_are_dropped_and_cost_no_push() {
        let queue = Queue::new(1 << 20);
        let large = Bytes::from(vec![0; MAX_MESSAGES / 2]);
        queue.put(Bytes::from_static(b"put"));
        assert!(queue.publish(large.clone()));
        assert!(!queue.publish(large.clone()));
        assert!(queue.publish(Bytes::from_static(b"small")));
        assert_eq!(taken(&queue), [Bytes::from_static(b"put"), large.clone(), Bytes::from_static(b"small")]);
        assert!(queue.publish(large), "what was sent takes no room");
        queue.lose_pushes();
        assert_eq!(taken(&queue).len(), 2, "a gap does not drop messages");
    }

    #[tokio::test(start_paused = true)]
    async fn only_the_latest_beat_waits() {
        let queue = Queue::new(1 << 20);
        queue.beat(codec::frame(&Message::Welcome));
        queue.beat(codec::frame(&Message::Goodbye));
        assert_eq!(taken(&queue), [codec::frame(&Message::Goodbye)]);
    }
}
