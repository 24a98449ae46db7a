//! The outgoing queue of one link. It is bounded, and writers never wait for it.

use std::collections::VecDeque;
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::Notify;
use tokio::time::Instant;
use tracing_mutex::parkinglot::Mutex;

use super::codec;
use super::message::Message;
use crate::ablation::{Ablation, ablated};

/// The bytes that each queued frame counts in addition to its length, so that many small frames reach the limit too.
const FRAME_OVERHEAD: usize = 64;

/// The most bytes of published messages that may wait in one link's queue. As many may wait in
/// [`Messages`](super::publish::Messages) before they are added to the queues. Further messages are dropped. The limit
/// equals the one of a subscriber's outbox.
pub(super) const MAX_MESSAGES: usize = 8 << 20;

/// How often the time of a push is recorded; the precision of a link's lag.
const MARK_EVERY: Duration = Duration::from_millis(5);

/// The most unacknowledged pushes whose feed sequences are recorded one by one. Beyond it the latest are recorded as
/// one, so `WAIT` counts them only once the last of them is acknowledged.
const MAX_REACHES: usize = 4096;

/// The most finished syncs without an acknowledgement that are recorded. Syncs start at least a second apart, and an
/// acknowledgement takes a round trip. A sync beyond the limit is not recorded, so `WAIT` returns only after a later one.
const MAX_STATES: usize = 8;

/// A link's outgoing frames, first in first out.
///
/// The pushes are bounded in bytes. Beyond the limit they are dropped and a `Gap` replaces them: the queue is
/// only a cache of the state, and the peer asks for a sync. Published messages have a limit of their own,
/// beyond which they are lost. All other frames are few by the protocol.
///
/// The queue also tracks up to which feed sequence the peer [holds](Self::held) the changes of this node's
/// clients. Frames arrive in order, and the peer acknowledges nothing while it has refused something, so there
/// are two proofs:
///
/// * A state: the cells that a sync has sent. The peer has merged it once it acknowledges any push that was queued after the sync finished, in
///   this or a later epoch. It then holds all local changes up to the feed sequence at which the sync began,
///   even if pushes were lost since.
/// * A push. It carries a feed sequence: all local changes since the epoch began up to there are in this push
///   or an earlier one. That counts once the peer has acknowledged both the push and a state that was read
///   after the last loss: what came before the epoch, or was dropped, is in that state.
///
/// What the peer held once, it holds for as long as the link lasts.
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
    /// The latest heartbeat that has not been sent: it replaces an older one.
    heartbeat: Option<Bytes>,
    /// The number of gaps on this link.
    epoch: u32,
    /// How often pushes were lost.
    losses: u64,
    /// The losses that the last state sent to the peer makes up for; `None` if none was sent.
    state_sent: Option<u64>,
    /// Pushes queued since the epoch began, and how many of them the peer has acknowledged.
    puts: u64,
    acked: u64,
    /// For unacknowledged pushes, the number of a push and when it was queued.
    marks: VecDeque<(u64, Instant)>,
    /// For unacknowledged pushes, the number of a push and the feed sequence up to which it carries local
    /// changes.
    reaches: VecDeque<(u64, u64)>,
    /// The feed sequence up to which the acknowledged pushes of this epoch carry local changes.
    reached: u64,
    /// The push that closed the first state that was read after the last loss.
    closing: Option<u64>,
    /// The sent states that are not known to have been merged, oldest first.
    states: VecDeque<SentState>,
    /// Set while a client waits until the peer holds every local change up to here, and only a state can prove
    /// that.
    state_wanted: Option<u64>,
    /// The peer holds every local change up to this feed sequence. Never falls.
    held: u64,
}

/// Taken before a sync reads its state from the store: what that state contains at least.
#[derive(Clone, Copy, Debug)]
pub(super) struct StateMark {
    /// The number of losses that the state makes up for.
    losses: u64,
    /// The state has every local change up to this feed sequence.
    through: u64,
}

impl StateMark {
    pub(super) fn through(self) -> u64 {
        self.through
    }
}

/// A state that a sync has sent to the peer.
struct SentState {
    /// The epoch and its number of pushes when the sync finished: the acknowledgement of a later push proves
    /// the state.
    after: (u32, u64),
    /// The state has every local change up to this feed sequence.
    through: u64,
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
    /// Creates a queue in which at most `limit` bytes of pushes wait.
    pub(super) fn new(limit: usize) -> Self {
        Queue { inner: Mutex::default(), ready: Notify::new(), limit }
    }

    /// Queues a push. With the pushes before it since the epoch began, it has every local change up to
    /// `through`, unless that is 0.
    pub(super) fn put(&self, frame: Bytes, through: u64) {
        self.inner.lock().push(frame, through, self.limit);
        self.ready.notify_one();
    }

    /// Returns a mark for a state that is about to be read for the peer; `through` is the current sequence of
    /// the feed.
    pub(super) fn mark_state(&self, through: u64) -> StateMark {
        StateMark { losses: self.inner.lock().losses, through }
    }

    /// Records that the peer was sent a state, and queues the push that closes it. The acknowledgement of this
    /// push, or of a later one if an overflow drops it, proves that the peer has merged the whole state.
    pub(super) fn close_state(&self, frame: Bytes, mark: StateMark) {
        let mut inner = self.inner.lock();
        if inner.states.len() < MAX_STATES {
            let after = (inner.epoch, inner.puts);
            inner.states.push_back(SentState { after, through: mark.through });
        }
        inner.push(frame, mark.through, self.limit);
        inner.state_sent = Some(mark.losses);
        if mark.losses == inner.losses && inner.closing.is_none() {
            inner.closing = Some(inner.puts);
        }
        drop(inner);
        self.ready.notify_one();
    }

    /// Records that a client waits until the peer holds every local change up to `through`. Asks the sender for
    /// a sync if pushes were lost since the peer was last sent a state, because no acknowledgement will then
    /// prove it.
    pub(super) fn want_held(&self, through: u64) {
        let mut inner = self.inner.lock();
        let is_sent = inner.states.back().is_some_and(|state| state.through >= through);
        if inner.held >= through || is_sent || inner.closing.is_some() || inner.state_wanted >= Some(through)
        {
            return;
        }
        inner.state_wanted = Some(through);
        drop(inner);
        self.ready.notify_one();
    }

    /// Takes the feed sequence for which [`want_held`](Self::want_held) has asked for a state.
    pub(super) fn take_wanted_state(&self) -> Option<u64> {
        self.inner.lock().state_wanted.take()
    }

    /// Drops the waiting pushes, because some were lost before they were queued.
    pub(super) fn lose_pushes(&self) {
        self.inner.lock().drop_pushes();
        self.ready.notify_one();
    }

    /// Queues a published message behind the waiting pushes. Returns whether there was room.
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

    /// Queues a heartbeat. Replaces one that was not sent yet.
    pub(super) fn heartbeat(&self, frame: Bytes) {
        self.inner.lock().heartbeat = Some(frame);
        self.ready.notify_one();
    }

    /// Wakes the sender.
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
        into.extend(inner.heartbeat.take());
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

    /// Records that the peer has merged `puts` pushes of an epoch. Returns what it [held](Self::held) before
    /// and now.
    pub(super) fn acknowledge(&self, epoch: u32, puts: u64) -> (u64, u64) {
        let mut inner = self.inner.lock();
        let before = inner.held;
        while let Some(state) = inner.states.front().filter(|state| state.after < (epoch, puts)) {
            inner.held = inner.held.max(state.through);
            inner.states.pop_front();
        }
        if epoch == inner.epoch {
            inner.acked = inner.acked.max(puts.min(inner.puts));
            let acked = inner.acked;
            while inner.marks.front().is_some_and(|(until, _)| *until <= acked) {
                inner.marks.pop_front();
            }
            while let Some(&(_, through)) = inner.reaches.front().filter(|(put, _)| *put <= acked) {
                inner.reached = inner.reached.max(through);
                inner.reaches.pop_front();
            }
            if inner.closing.is_some_and(|closing| closing <= acked) {
                inner.held = inner.held.max(inner.reached);
            }
        }
        (before, inner.held)
    }

    /// Returns the feed sequence up to which the peer holds every change of this node's clients.
    pub(super) fn held(&self) -> u64 {
        self.inner.lock().held
    }

    /// Returns the age of the oldest push that the peer has not acknowledged.
    pub(super) fn lag(&self) -> Duration {
        self.inner.lock().marks.front().map_or(Duration::ZERO, |(_, at)| at.elapsed())
    }

    /// Whether the peer was sent everything and has acknowledged it: this node's state since the last gap, and
    /// every push since.
    pub(super) fn is_drained(&self) -> bool {
        let inner = self.inner.lock();
        inner.state_sent == Some(inner.losses) && inner.acked == inner.puts && inner.frames.is_empty()
    }

    /// How often pushes were lost.
    pub(super) fn losses(&self) -> u64 {
        self.inner.lock().losses
    }

    /// Returns the bytes of pushes that wait.
    pub(super) fn push_bytes(&self) -> u64 {
        self.inner.lock().push_bytes as u64
    }
}

impl Inner {
    fn push(&mut self, frame: Bytes, through: u64, limit: usize) {
        let size = frame.len() + FRAME_OVERHEAD;
        // A frame larger than the limit is queued if nothing else waits; otherwise it would never be sent.
        if self.push_bytes > 0 && self.push_bytes + size > limit {
            return self.drop_pushes();
        }
        self.push_bytes += size;
        self.puts += 1;
        self.frames.push_back(Frame::Put(frame));
        let now = Instant::now();
        match self.marks.back_mut() {
            Some((until, at)) if now - *at < MARK_EVERY => *until = self.puts,
            _ => self.marks.push_back((self.puts, now)),
        }
        if through == 0 {
            return;
        }
        if self.reaches.len() >= MAX_REACHES {
            self.reaches.pop_back();
        }
        self.reaches.push_back((self.puts, through));
    }

    fn drop_pushes(&mut self) {
        self.frames.retain(|frame| !matches!(frame, Frame::Put(_)));
        self.push_bytes = 0;
        self.losses += 1;
        self.puts = 0;
        self.acked = 0;
        self.marks.clear();
        self.reaches.clear();
        self.reached = 0;
        if !ablated(Ablation::StateAfterLoss) {
            self.closing = None;
        }
        // A gap that still waits covers this loss too: all pushes since came after it.
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
    async fn an_overflow_drops_the_pushes_and_sends_one_gap() {
        let queue = Queue::new(10 * (100 + FRAME_OVERHEAD));
        queue.send(&Message::Goodbye);
        for _ in 0..10 {
            queue.put(Bytes::from_static(&[0; 100]), 0);
        }
        assert_eq!(queue.inner.lock().frames.len(), 11);
        queue.put(Bytes::from_static(&[0; 100]), 0);
        assert_eq!(taken(&queue), [codec::frame(&Message::Goodbye), codec::frame(&Message::Gap)]);
        assert_eq!((queue.push_bytes(), queue.lag()), (0, Duration::ZERO));
        for _ in 0..1000 {
            queue.lose_pushes();
        }
        assert_eq!(
            taken(&queue),
            [codec::frame(&Message::Gap)],
            "a peer that only sends heartbeats collects no gaps"
        );
    }

    #[tokio::test(start_paused = true)]
    async fn lag_is_the_age_of_the_oldest_push_without_an_acknowledgement() {
        let queue = Queue::new(1 << 20);
        queue.close_state(Bytes::new(), queue.mark_state(0));
        queue.acknowledge(0, 1);
        queue.put(Bytes::from_static(b"one"), 0);
        tokio::time::advance(Duration::from_millis(30)).await;
        queue.put(Bytes::from_static(b"two"), 0);
        tokio::time::advance(Duration::from_millis(10)).await;
        assert_eq!(queue.lag(), Duration::from_millis(40));
        queue.acknowledge(0, 2);
        assert_eq!(queue.lag(), Duration::from_millis(10));
        assert!(!queue.is_drained());
        taken(&queue);
        queue.acknowledge(0, 3);
        assert_eq!(queue.lag(), Duration::ZERO);
        assert!(queue.is_drained());
    }

    #[tokio::test(start_paused = true)]
    async fn an_acknowledgement_of_an_earlier_epoch_counts_for_nothing() {
        let queue = Queue::new(1 << 20);
        queue.put(Bytes::from_static(b"lost"), 0);
        queue.lose_pushes();
        queue.close_state(Bytes::from_static(b"kept"), queue.mark_state(0));
        taken(&queue);
        queue.acknowledge(0, 1);
        assert!(!queue.is_drained());
        queue.acknowledge(1, 1);
        assert!(queue.is_drained());
    }

    #[tokio::test(start_paused = true)]
    async fn a_peer_holds_everything_only_after_a_state_read_since_the_last_gap() {
        let queue = Queue::new(1 << 20);
        assert!(!queue.is_drained(), "nothing was sent yet");
        let started = queue.mark_state(5);
        queue.lose_pushes();
        queue.put(Bytes::from_static(b"since"), 9);
        queue.close_state(Bytes::new(), started);
        taken(&queue);
        assert_eq!(queue.acknowledge(1, 2), (0, 5), "the state, and nothing that came after it");
        assert!(!queue.is_drained(), "the sync began before the gap");
        queue.close_state(Bytes::new(), queue.mark_state(9));
        taken(&queue);
        assert_eq!(queue.acknowledge(1, 3), (5, 9));
        assert!(queue.is_drained());
    }

    #[tokio::test(start_paused = true)]
    async fn pushes_count_as_held_once_a_state_is_acknowledged_too() {
        let queue = Queue::new(1 << 20);
        queue.put(Bytes::from_static(b"before the sync"), 2);
        let state = queue.mark_state(2);
        queue.put(Bytes::from_static(b"meanwhile"), 4);
        assert_eq!(queue.acknowledge(0, 2), (0, 0), "what came before the link may be missing");
        queue.close_state(Bytes::new(), state);
        queue.put(Bytes::from_static(b"first frame of two"), 0);
        queue.put(Bytes::from_static(b"second"), 7);
        assert_eq!(queue.held(), 0, "the state has not been merged yet");
        assert_eq!(queue.acknowledge(0, 3), (0, 4));
        assert_eq!(queue.acknowledge(0, 4), (4, 4), "half of a batch");
        assert_eq!(queue.acknowledge(0, 99), (4, 7), "no more than was sent");
        queue.lose_pushes();
        assert_eq!(queue.held(), 7, "what it held before the loss it holds still");
    }

    #[tokio::test(start_paused = true)]
    async fn a_merged_state_is_held_whatever_is_lost_meanwhile() {
        let queue = Queue::new(1 << 20);
        for sync in 1..=5 {
            let written = 10 * sync;
            let state = queue.mark_state(written);
            queue.put(Bytes::from_static(b"lost"), written + 1);
            queue.lose_pushes();
            queue.put(Bytes::from_static(b"since"), written + 2);
            let epoch = queue.inner.lock().epoch;
            queue.close_state(Bytes::new(), state);
            taken(&queue);
            let before = 10 * (sync - 1);
            assert_eq!(queue.acknowledge(epoch, 1), (before, before), "it was sent before the sync finished");
            if sync % 2 == 0 {
                assert_eq!(queue.acknowledge(epoch, 2), (before, written));
                queue.lose_pushes();
            } else {
                // The push that closed the state was never acknowledged, but a push of the next epoch comes
                // after it too.
                queue.lose_pushes();
                queue.put(Bytes::from_static(b"next epoch"), written + 3);
                queue.lose_pushes();
                taken(&queue);
                assert_eq!(queue.acknowledge(epoch + 1, 1), (before, written));
            }
        }
        let state = queue.mark_state(60);
        queue.close_state(Bytes::new(), state);
        queue.put(Bytes::from_static(b"after it"), 61);
        let epoch = queue.inner.lock().epoch;
        assert_eq!(queue.acknowledge(epoch, 2), (50, 61), "pushes count again");
    }

    #[tokio::test(start_paused = true)]
    async fn an_overflow_that_drops_the_closing_push_does_not_make_its_state_count() {
        let queue = Queue::new(100);
        queue.put(Bytes::from_static(&[0; 90]), 1);
        queue.close_state(Bytes::new(), queue.mark_state(1));
        assert_eq!(taken(&queue), [codec::frame(&Message::Gap)]);
        assert_eq!(queue.acknowledge(0, 1), (0, 0));
        queue.put(Bytes::new(), 2);
        assert_eq!(queue.acknowledge(1, 1), (0, 1), "it was sent after the state");
    }

    #[tokio::test(start_paused = true)]
    async fn who_waits_asks_for_a_state_only_where_acknowledgements_cannot_answer() {
        let queue = Queue::new(1 << 20);
        queue.want_held(5);
        assert_eq!(queue.take_wanted_state(), Some(5), "no state was sent yet");
        assert_eq!(queue.take_wanted_state(), None);
        queue.close_state(Bytes::new(), queue.mark_state(5));
        queue.want_held(6);
        assert_eq!(queue.take_wanted_state(), None, "a push will be acknowledged");
        queue.lose_pushes();
        queue.want_held(5);
        assert_eq!(queue.take_wanted_state(), None, "it is in the state that was sent");
        queue.want_held(7);
        queue.want_held(6);
        assert_eq!(queue.take_wanted_state(), Some(7));
    }

    #[tokio::test(start_paused = true)]
    async fn a_peer_that_acknowledges_nothing_costs_no_more_than_the_limit() {
        let queue = Queue::new(usize::MAX);
        queue.close_state(Bytes::new(), queue.mark_state(0));
        let last = 3 * MAX_REACHES as u64;
        (1..=last).for_each(|n| queue.put(Bytes::new(), n));
        assert_eq!(queue.inner.lock().reaches.len(), MAX_REACHES);
        queue.acknowledge(0, 1 + 10);
        assert_eq!(queue.held(), 10);
        queue.acknowledge(0, last);
        assert_eq!(queue.held(), MAX_REACHES as u64 - 1, "the rest counts as one");
        queue.acknowledge(0, 1 + last);
        assert_eq!(queue.held(), last);
    }

    #[tokio::test(start_paused = true)]
    async fn a_push_larger_than_the_limit_goes_when_nothing_else_waits() {
        let queue = Queue::new(10);
        queue.put(Bytes::from_static(&[0; 100]), 0);
        queue.put(Bytes::from_static(&[0; 100]), 0);
        assert_eq!(taken(&queue), [codec::frame(&Message::Gap)], "two such frames are too many");
        queue.put(Bytes::from_static(&[0; 100]), 0);
        assert_eq!(taken(&queue).len(), 1);
    }

    #[tokio::test(start_paused = true)]
    async fn messages_beyond_the_limit_are_dropped_and_cost_no_push() {
        let queue = Queue::new(1 << 20);
        let large = Bytes::from(vec![0; MAX_MESSAGES / 2]);
        queue.put(Bytes::from_static(b"put"), 0);
        assert!(queue.publish(large.clone()));
        assert!(!queue.publish(large.clone()));
        assert!(queue.publish(Bytes::from_static(b"small")));
        assert_eq!(taken(&queue), [Bytes::from_static(b"put"), large.clone(), Bytes::from_static(b"small")]);
        assert!(queue.publish(large), "what was sent takes no room");
        queue.lose_pushes();
        assert_eq!(taken(&queue).len(), 2, "a gap does not drop messages");
    }

    #[tokio::test(start_paused = true)]
    async fn only_the_latest_heartbeat_waits() {
        let queue = Queue::new(1 << 20);
        queue.heartbeat(codec::frame(&Message::Welcome { wall: 0 }));
        queue.heartbeat(codec::frame(&Message::Goodbye));
        assert_eq!(taken(&queue), [codec::frame(&Message::Goodbye)]);
    }
}
