//! The change feed: local changes on their way to the peers.

mod pace;

use std::sync::OnceLock;

use tokio::sync::Notify;
use tracing_mutex::parkinglot::Mutex;

use super::cell::Cell;
use crate::model::Time;
use pace::Pace;

pub(crate) use pace::GATHER;

/// The bytes of waiting cells that are pushed at once: enough that a frame's own cost is small beside its cells', few
/// enough that they are still in the processor's cache.
const FULL: u64 = 32 << 10;

/// A bounded buffer of changed cells between the writers and the reader that pushes them.
///
/// The store has everything that the buffer has. If the reader falls behind by more than the limit, the buffer is
/// emptied and [`Taken`] reports it, so that nodes compare states instead. Writers never wait.
///
/// Under load the reader is woken once for many changes (see [`Pace`]). A writer that fills the buffer has them pushed
/// itself: when the reader runs, dozens of connections may have been served, and their cells are in the cache no more.
pub(crate) struct Feed {
    buffer: Mutex<Buffer>,
    ready: Notify,
    push: OnceLock<Push>,
    limit: u64,
}

/// Pushes what waits in a feed, unless that is being done.
type Push = Box<dyn Fn() + Send + Sync>;

#[derive(Default)]
struct Buffer {
    cells: Vec<Cell>,
    bytes: u64,
    /// The number of changes published since the process began, dropped ones included.
    sequence: u64,
    open: bool,
    overflowed: bool,
    /// Whether the reader has yet to hand on what it took last.
    in_hand: bool,
    pace: Pace,
}

/// The position of the feed after a [`take`](Feed::take).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Taken {
    /// The sequence of the last change published. The reader has received every change up to it, except those dropped.
    pub(crate) through: u64,
    /// Whether changes were dropped since the last call; the store has them.
    pub(crate) overflowed: bool,
}

impl Feed {
    /// Creates a feed that buffers at most `limit` bytes of cells.
    pub(crate) fn new(limit: u64) -> Self {
        Feed { buffer: Mutex::default(), ready: Notify::new(), push: OnceLock::new(), limit }
    }

    /// Opens the feed for its reader; changes published before are not kept. A writer that has filled the buffer calls
    /// `push`, while it holds no lock.
    pub(crate) fn open(&self, push: impl Fn() + Send + Sync + 'static) {
        // Only one reader ever opens a feed.
        let _ = self.push.set(Box::new(push));
        self.buffer.lock().open = true;
    }

    /// Publishes changes at the time `now` and leaves `changes` empty; returns the sequence of the last one, or 0 if there
    /// is none.
    pub(crate) fn publish(&self, changes: &mut Vec<Cell>, now: Time) -> u64 {
        if changes.is_empty() {
            return 0;
        }
        let mut buffer = self.buffer.lock();
        buffer.sequence += changes.len() as u64;
        let sequence = buffer.sequence;
        if !buffer.open {
            drop(buffer);
            changes.clear();
            return sequence;
        }
        // A batch larger than the limit is accepted if nothing else waits; otherwise it would always be dropped.
        let waiting = buffer.bytes;
        buffer.bytes += changes.iter().map(Cell::memory).sum::<u64>();
        if waiting > 0 && buffer.bytes > self.limit {
            buffer.overflowed = true;
            buffer.bytes = 0;
            buffer.cells.clear();
            changes.clear();
        } else {
            buffer.cells.append(changes);
        }
        let (is_full, is_due) = (buffer.bytes >= FULL, buffer.overflowed || buffer.pace.is_due(now));
        drop(buffer);
        if is_full && let Some(push) = self.push.get() {
            push();
        }
        if is_due {
            self.ready.notify_one();
        }
        sequence
    }

    /// Notes that the reader is about to take at the time `now`. Returns whether it must come back [`GATHER`] later even if
    /// it is not woken.
    pub(crate) fn pace(&self, now: Time) -> bool {
        let mut buffer = self.buffer.lock();
        let sequence = buffer.sequence;
        buffer.pace.take(sequence, now)
    }

    /// The sequence of the last change published. The store has all changes up to it.
    pub(crate) fn sequence(&self) -> u64 {
        self.buffer.lock().sequence
    }

    /// Waits until there may be something to take. Cancel-safe: it takes nothing.
    pub(crate) async fn ready(&self) {
        self.ready.notified().await;
    }

    /// Whether everything published has been taken and [handed on](Self::handed_on).
    pub(crate) fn is_empty(&self) -> bool {
        let buffer = self.buffer.lock();
        buffer.cells.is_empty() && !buffer.overflowed && !buffer.in_hand
    }

    /// Notes that the reader has handed on all that it took.
    pub(crate) fn handed_on(&self) {
        self.buffer.lock().in_hand = false;
    }

    /// Moves the changes to `into`, without waiting. The reader must then call [`handed_on`](Self::handed_on).
    pub(crate) fn take(&self, into: &mut Vec<Cell>) -> Taken {
        let mut buffer = self.buffer.lock();
        into.append(&mut buffer.cells);
        buffer.bytes = 0;
        buffer.in_hand = true;
        Taken { through: buffer.sequence, overflowed: std::mem::take(&mut buffer.overflowed) }
    }
}

#[cfg(test)]
mod tests {
    use super::super::cell::Parts;
    use super::*;
    use crate::model::Time;

    fn cells(n: u64) -> Vec<Cell> {
        let parts =
            |t| Parts { time: Time(t), origin: 0, value: None, deadline: None, deadline_timestamp: None };
        (0..n).map(|t| Cell::pack(&mut Vec::new(), b"key", &parts(t))).collect()
    }

    #[tokio::test]
    async fn a_reader_gets_what_was_published_since_it_opened() {
        let feed = Feed::new(1 << 20);
        assert_eq!(feed.publish(&mut cells(3), Time(0)), 3);
        feed.open(|| ());
        assert_eq!(feed.publish(&mut cells(2), Time(0)), 5);
        assert_eq!(feed.publish(&mut cells(0), Time(0)), 0);
        assert_eq!(feed.publish(&mut cells(4), Time(0)), 9);
        let mut taken = Vec::new();
        feed.ready().await;
        assert_eq!(feed.take(&mut taken), Taken { through: 9, overflowed: false });
        assert_eq!(taken.len(), 6);
    }

    #[test]
    fn what_the_reader_took_and_has_not_handed_on_is_still_in_the_feed() {
        let feed = Feed::new(1 << 20);
        feed.open(|| ());
        feed.publish(&mut cells(1), Time(0));
        assert!(!feed.is_empty());
        feed.take(&mut Vec::new());
        assert!(!feed.is_empty());
        feed.handed_on();
        assert!(feed.is_empty());
    }

    #[tokio::test]
    async fn a_reader_that_falls_behind_gets_an_error_and_costs_no_more_than_the_limit() {
        let feed = Feed::new(10 * cells(1)[0].memory());
        feed.open(|| ());
        for _ in 0..100 {
            feed.publish(&mut cells(3), Time(0));
            assert!(feed.buffer.lock().cells.len() <= 10);
        }
        let mut taken = Vec::new();
        assert_eq!(feed.take(&mut taken), Taken { through: 300, overflowed: true });
        feed.publish(&mut cells(1), Time(0));
        taken.clear();
        assert_eq!(feed.take(&mut taken), Taken { through: 301, overflowed: false });
        assert_eq!(taken.len(), 1);
    }
}
