//! Tracks, per writer, the highest feed sequence that each node has acknowledged, and wakes `WAIT`ers. For
//! `WAIT` and tokens.
//!
//! The unit is the sequence of the writer's feed, which shows gaps. Volatile: these entries prove nothing to
//! the summary vector or to the stable time, which only syncs raise.

use std::collections::BTreeMap;
use std::ops::Bound::{Excluded, Included};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use tokio::sync::Notify;
use tracing_mutex::parkinglot::Mutex;

use super::hello::MAX_PEERS;
use super::queue::Queue;
use crate::ablation::{Ablation, ablated};
use crate::env::BoxFuture;
use crate::model::Incarnation;

/// The most incarnations whose changes are recorded as held, those of past links included. Beyond it the oldest
/// entry is dropped; while its writer is linked, the next push adds it again.
const MAX_NOTED: usize = 2 * MAX_PEERS;

/// What this node holds of other writers, and the clients that wait for it or for acknowledgements of peers.
#[derive(Default)]
pub(super) struct WriteAcks {
    noted: Mutex<Noted>,
    of_peers: Arc<Waiters<u64>>,
    of_this: Arc<Waiters<(Incarnation, u64)>>,
    /// The feed sequence up to which an operator has discarded the changes of this node's clients.
    discarded: AtomicU64,
    /// The feed sequence up to which some peer has acknowledged every change of this node's clients.
    held_by_any: AtomicU64,
}

#[derive(Default)]
struct Noted {
    /// Keyed by (own incarnation, writer). The own incarnation changes when the node discards its state.
    held: BTreeMap<(Incarnation, Incarnation), Held>,
    count: u64,
}

struct Held {
    /// Every change of the writer's clients up to this feed sequence is held.
    through: u64,
    /// Orders the entries by age.
    number: u64,
}

impl WriteAcks {
    /// Records that this node, as `own`, holds every change of `writer`'s clients up to `through`.
    pub(super) fn hold(&self, own: Incarnation, writer: Incarnation, through: u64) {
        let before = self.noted.lock().hold((own, writer), through);
        self.of_this.wake((writer, before), (writer, through));
    }

    /// Returns the feed sequence up to which this node, as `own`, holds every change of `writer`'s clients.
    pub(super) fn held(&self, own: Incarnation, writer: Incarnation) -> u64 {
        self.noted.lock().held.get(&(own, writer)).map_or(0, |held| held.through)
    }

    /// Resolves once [`held`](Self::held) has reached `through`, or [`verified`](Self::verified) was called.
    /// Only what happens after this call counts.
    pub(super) fn wait_to_hold(&self, writer: Incarnation, through: u64) -> BoxFuture<'static, ()> {
        self.of_this.wait((writer, through))
    }

    /// Records that a sync has finished, so the summary vector may have risen.
    pub(super) fn verified(&self) {
        self.of_this.wake_all();
    }

    /// Records that an operator has discarded the changes of this node's clients up to `through`.
    pub(super) fn discard(&self, through: u64) {
        self.discarded.store(through, Ordering::Relaxed);
    }

    /// Whether a change was discarded here: that a peer holds this node's state then does not prove that it
    /// holds the change.
    fn is_discarded(&self, change: u64) -> bool {
        change > 0 && change <= self.discarded.load(Ordering::Relaxed)
    }

    /// Records that a peer, which held this node's changes up to `before`, now holds them up to `through`.
    pub(super) fn peer_holds(&self, before: u64, through: u64) {
        self.held_by_any.fetch_max(through, Ordering::Relaxed);
        self.of_peers.wake(before, through);
    }

    /// Returns how many changes up to `sequence` no peer has acknowledged and no operator has discarded.
    pub(super) fn unheld(&self, sequence: u64) -> u64 {
        let discarded = self.discarded.load(Ordering::Relaxed);
        sequence.saturating_sub(self.held_by_any.load(Ordering::Relaxed).max(discarded))
    }

    /// Returns the `links` whose peers hold every change of this node's clients up to `through`.
    pub(super) fn holders<'q, L>(
        &self,
        through: u64,
        links: impl IntoIterator<Item = (L, &'q Queue)>,
    ) -> Vec<L> {
        if self.is_discarded(through) {
            return Vec::new();
        }
        let holds = |queue: &Queue| queue.held() >= through || ablated(Ablation::CountAcknowledged);
        links.into_iter().filter(|(_, queue)| holds(queue)).map(|(link, _)| link).collect()
    }

    /// Asks for what the peers behind `queues` need to hold every change up to `through`. Resolves once one
    /// more of them does. Only what happens after this call counts.
    pub(super) fn wait_for_holders<'q>(
        &self,
        through: u64,
        queues: impl IntoIterator<Item = &'q Queue>,
    ) -> BoxFuture<'static, ()> {
        queues.into_iter().for_each(|queue| queue.want_held(through));
        self.wait_for_peers(through)
    }

    /// Resolves once another peer holds every change up to `through`. Only what happens after this call counts.
    fn wait_for_peers(&self, through: u64) -> BoxFuture<'static, ()> {
        self.of_peers.wait(through)
    }
}

impl Noted {
    /// Raises an entry. Returns what was held before.
    fn hold(&mut self, of: (Incarnation, Incarnation), through: u64) -> u64 {
        if let Some(held) = self.held.get_mut(&of) {
            let before = held.through;
            held.through = before.max(through);
            return before;
        }
        if self.held.len() >= MAX_NOTED {
            let oldest = self.held.iter().min_by_key(|(_, held)| held.number).map(|(&of, _)| of);
            oldest.and_then(|of| self.held.remove(&of));
        }
        self.count += 1;
        self.held.insert(of, Held { through, number: self.count });
        0
    }
}

/// Clients that wait until a sequence is reached. Each is woken only when its own place is passed, so waiters
/// whose place is not reached cost nothing. There are as many as client connections.
struct Waiters<K> {
    all: Mutex<BTreeMap<(K, u64), Arc<Notify>>>,
    count: AtomicU64,
}

impl<K> Default for Waiters<K> {
    fn default() -> Self {
        Waiters { all: Mutex::default(), count: AtomicU64::new(0) }
    }
}

impl<K: Ord + Copy + Send + 'static> Waiters<K> {
    fn wait(self: &Arc<Self>, place: K) -> BoxFuture<'static, ()> {
        let key = (place, self.count.fetch_add(1, Ordering::Relaxed));
        let woken = Arc::new(Notify::new());
        self.all.lock().insert(key, Arc::clone(&woken));
        let waiting = Waiting { waiters: Arc::clone(self), key };
        Box::pin(async move {
            woken.notified().await;
            drop(waiting);
        })
    }

    /// Wakes the waiters between `before`, which was reached earlier, and `reached`.
    fn wake(&self, before: K, reached: K) {
        if before < reached {
            let all = self.all.lock();
            let passed = all.range((Excluded((before, u64::MAX)), Included((reached, u64::MAX))));
            passed.for_each(|(_, woken)| woken.notify_one());
        }
    }

    fn wake_all(&self) {
        self.all.lock().values().for_each(|woken| woken.notify_one());
    }
}

/// One waiter; removed on drop.
struct Waiting<K: Ord> {
    waiters: Arc<Waiters<K>>,
    key: (K, u64),
}

impl<K: Ord> Drop for Waiting<K> {
    fn drop(&mut self) {
        self.waiters.all.lock().remove(&self.key);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::timestamp::incarnation;

    fn id(n: u128) -> Incarnation {
        incarnation(n).unwrap()
    }

    fn is_woken(waiting: &mut BoxFuture<'static, ()>) -> bool {
        let mut cx = std::task::Context::from_waker(std::task::Waker::noop());
        waiting.as_mut().poll(&mut cx).is_ready()
    }

    #[test]
    fn only_those_are_woken_whose_place_is_passed() {
        let write_acks = WriteAcks::default();
        let mut waiting: Vec<_> = [4, 5, 5, 9, 10].map(|n| write_acks.wait_for_peers(n)).into();
        write_acks.peer_holds(4, 4);
        write_acks.peer_holds(4, 9);
        assert_eq!(waiting.iter_mut().map(is_woken).collect::<Vec<_>>(), [false, true, true, true, false]);
        drop(waiting);
        assert!(write_acks.of_peers.all.lock().is_empty(), "those who left are still counted");
    }

    #[test]
    fn changes_are_unheld_until_any_peer_acknowledges_them_or_an_operator_discards_them() {
        let write_acks = WriteAcks::default();
        assert_eq!(write_acks.unheld(7), 7);
        write_acks.peer_holds(0, 5);
        write_acks.peer_holds(0, 3);
        assert_eq!([5, 7].map(|sequence| write_acks.unheld(sequence)), [0, 2]);
        write_acks.discard(6);
        assert_eq!([6, 7].map(|sequence| write_acks.unheld(sequence)), [0, 1]);
    }

    #[test]
    fn what_is_held_of_one_writer_wakes_no_one_who_waits_for_another() {
        let write_acks = WriteAcks::default();
        let (mut of_two, mut of_three) =
            (write_acks.wait_to_hold(id(2), 5), write_acks.wait_to_hold(id(3), 5));
        write_acks.hold(id(1), id(2), 6);
        assert!(is_woken(&mut of_two) && !is_woken(&mut of_three));
        assert_eq!([1, 9].map(|own| write_acks.held(id(own), id(2))), [6, 0], "as another it begins anew");
        write_acks.hold(id(1), id(2), 3);
        assert_eq!(write_acks.held(id(1), id(2)), 6);
        write_acks.verified();
        assert!(is_woken(&mut of_three));
    }

    #[test]
    fn no_more_incarnations_are_noted_than_the_limit() {
        let write_acks = WriteAcks::default();
        let last = 3 * MAX_NOTED as u128;
        (2..=last).for_each(|n| write_acks.hold(id(1), id(n), 1));
        assert_eq!(write_acks.noted.lock().held.len(), MAX_NOTED);
        assert_eq!(write_acks.held(id(1), id(last)), 1);
    }
}
