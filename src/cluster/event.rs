//! Events of the links and the members, as a stream and as a record.

use std::collections::VecDeque;
use std::fmt;
use std::future::poll_fn;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll};
use std::time::{SystemTime, UNIX_EPOCH};

use futures_core::Stream;
use tokio::sync::broadcast::{self, error::RecvError};
use tokio_util::sync::ReusableBoxFuture;
use tracing_mutex::parkinglot::Mutex;

/// Events that a reader may be behind: a few for each of at most 256 peers. If it falls further behind, the oldest
/// are dropped and the reader gets their number.
const MAX_BEHIND: usize = 1024;

/// Events that are kept for later readers: hours of normal operation, or one minute with many faults.
const MAX_RECORDED: usize = 512;

/// A change of a link or a member, as one node saw it.
#[derive(Clone, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub struct Event {
    /// What happened.
    pub kind: EventKind,
    /// The name of the peer concerned; empty for this node itself.
    pub peer: String,
    /// Details in words; may be empty.
    pub reason: String,
    /// The time, by this machine's clock.
    pub time: SystemTime,
}

impl Event {
    /// An event at `time`.
    pub fn new(
        kind: EventKind,
        peer: impl Into<String>,
        reason: impl Into<String>,
        time: SystemTime,
    ) -> Event {
        Event { kind, peer: peer.into(), reason: reason.into(), time }
    }
}

/// An [`Event`] that is kept, with its id.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Recorded {
    /// The id: microseconds since 1970, or the next free number if that is larger. Ids are unique within a process and
    /// rise; they rise over restarts too if the machine's clock does.
    pub id: u64,
    /// What happened.
    pub event: Event,
}

/// What an [`Event`] is about.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum EventKind {
    /// This node holds the state of every peer that it could reach at the start.
    Joined,
    /// A link to the peer was made. What either missed is yet to be exchanged: `Healed` follows.
    Up,
    /// The link to the peer has ended; the reason says why.
    Down,
    /// The two differ, and are exchanging the differences.
    Healing,
    /// The two hold the same: the first comparison over a link has ended, or a later one that exchanged much.
    Healed,
    /// The peer was silent for too long: purging of tombstones no longer waits for it.
    Lapsed,
    /// One of the two refuses the other; the reason says why.
    Refused,
}

impl EventKind {
    /// The word used in `SAPWOOD EVENTS` and documentation.
    pub fn as_str(self) -> &'static str {
        match self {
            EventKind::Joined => "joined",
            EventKind::Up => "up",
            EventKind::Down => "down",
            EventKind::Healing => "healing",
            EventKind::Healed => "healed",
            EventKind::Lapsed => "lapsed",
            EventKind::Refused => "refused",
        }
    }
}

/// Sends events to all readers without waiting, and keeps the last ones.
#[derive(Clone, Debug)]
pub struct EventSender {
    /// `None` after `close`.
    live: Arc<Mutex<Option<broadcast::Sender<Event>>>>,
    recorded: Arc<Mutex<VecDeque<Recorded>>>,
}

impl EventSender {
    /// A source without readers.
    pub fn new() -> Self {
        let live = Arc::new(Mutex::new(Some(broadcast::Sender::new(MAX_BEHIND))));
        EventSender { live, recorded: Arc::default() }
    }

    /// Sends an event to every reader.
    pub fn send(&self, event: Event) {
        let mut recorded = self.recorded.lock();
        if recorded.len() >= MAX_RECORDED {
            recorded.pop_front();
        }
        recorded.push_back(Recorded { id: draw_id(event.time), event: event.clone() });
        drop(recorded);
        if let Some(live) = &*self.live.lock() {
            // An error means that there is no reader.
            let _ = live.send(event);
        }
    }

    /// Ends the streams of all readers after what was sent. A later subscriber's stream is at its end at once.
    pub fn close(&self) {
        *self.live.lock() = None;
    }

    /// The kept events with an id above `after`, oldest first; 0 returns all.
    pub fn recorded(&self, after: u64) -> Vec<Recorded> {
        self.recorded.lock().iter().filter(|recorded| recorded.id > after).cloned().collect()
    }

    /// Subscribes to events from this call on.
    pub fn subscribe(&self) -> Events {
        let receiver = match &*self.live.lock() {
            Some(live) => live.subscribe(),
            None => broadcast::Sender::new(1).subscribe(),
        };
        Events { next: ReusableBoxFuture::new(receive(receiver)) }
    }
}

impl Default for EventSender {
    fn default() -> Self {
        EventSender::new()
    }
}

fn draw_id(time: SystemTime) -> u64 {
    static LAST: AtomicU64 = AtomicU64::new(0);
    let micros = time.duration_since(UNIX_EPOCH).unwrap_or_default().as_micros();
    let micros = u64::try_from(micros).unwrap_or(u64::MAX);
    let next = |last: u64| micros.max(last.saturating_add(1));
    let (Ok(last) | Err(last)) =
        LAST.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |last| Some(next(last)));
    next(last)
}

/// The reader was too far behind, and events were dropped before it read them.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[error("{0} events were missed")]
pub struct Missed(pub u64);

type Received = (Result<Event, RecvError>, broadcast::Receiver<Event>);

async fn receive(mut receiver: broadcast::Receiver<Event>) -> Received {
    (receiver.recv().await, receiver)
}

/// A stream of [`Event`]s. It ends when the node has stopped.
pub struct Events {
    next: ReusableBoxFuture<'static, Received>,
}

impl Events {
    /// The next event, or how many were missed; `None` when the node has stopped. Cancel-safe: nothing is lost.
    pub async fn next(&mut self) -> Option<Result<Event, Missed>> {
        poll_fn(|cx| Pin::new(&mut *self).poll_next(cx)).await
    }
}

impl Stream for Events {
    type Item = Result<Event, Missed>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let Poll::Ready((received, receiver)) = self.next.poll(cx) else { return Poll::Pending };
        self.next.set(receive(receiver));
        Poll::Ready(match received {
            Ok(event) => Some(Ok(event)),
            Err(RecvError::Lagged(missed)) => Some(Err(Missed(missed))),
            Err(RecvError::Closed) => None,
        })
    }
}

impl fmt::Debug for Events {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Events").finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn event(n: usize) -> Event {
        Event {
            kind: EventKind::Up,
            peer: n.to_string(),
            reason: String::new(),
            time: SystemTime::UNIX_EPOCH,
        }
    }

    #[tokio::test]
    async fn a_reader_gets_what_happens_from_when_it_asked_until_the_end() {
        let sender = EventSender::new();
        sender.send(event(0));
        let mut events = sender.subscribe();
        sender.send(event(1));
        sender.send(event(2));
        sender.clone().close();
        assert_eq!(events.next().await, Some(Ok(event(1))));
        assert_eq!(events.next().await, Some(Ok(event(2))));
        assert_eq!(events.next().await, None);
        assert_eq!(events.next().await, None);
        sender.send(event(3));
        assert_eq!(sender.subscribe().next().await, None);
        assert_eq!(sender.recorded(0).len(), 4);
    }

    #[test]
    fn the_last_events_are_kept_in_the_order_of_their_ids() {
        let (sender, other) = (EventSender::new(), EventSender::new());
        (0..MAX_RECORDED + 3).for_each(|n| sender.send(event(n)));
        other.send(event(0));
        let recorded = sender.recorded(0);
        assert_eq!((recorded.len(), &*recorded[0].event.peer), (MAX_RECORDED, "3"));
        assert!(recorded.windows(2).all(|pair| pair[0].id < pair[1].id));
        assert!(
            other.recorded(0)[0].id > recorded[MAX_RECORDED - 1].id,
            "two nodes of a process share no id"
        );
        assert_eq!(sender.recorded(recorded[MAX_RECORDED - 3].id), recorded[MAX_RECORDED - 2..]);
    }

    #[tokio::test]
    async fn a_reader_that_is_behind_learns_how_many_it_missed() {
        let sender = EventSender::new();
        let mut events = sender.subscribe();
        (0..MAX_BEHIND + 7).for_each(|n| sender.send(event(n)));
        assert_eq!(events.next().await, Some(Err(Missed(7))));
        assert_eq!(events.next().await, Some(Ok(event(7))));
    }
}
