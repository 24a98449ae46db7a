//! Who holds how much of what the clients of whom have written, and who waits for more. For `WAIT` and tokens.
//!
//! Counted in the sequences of the writers' feeds, which tell of gaps. Volatile: what is noted here proves nothing to
//! the summary vector or to the stable time, which only syncs raise.

use std::collections::BTreeMap;
use std::ops::Bound::{Excluded, Included};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use tokio::sync::Notify;
use tracing_mutex::parkinglot::Mutex;

use super::peers::MAX_PEERS;
use super::queue::Queue;
use crate::ablation::{Ablation, ablated};
use crate::env::BoxFuture;
use crate::model::Incarnation;

/// The most incarnations whose changes are noted as held, those of past links included. The one noted first makes
/// room; while it is linked its next push notes it again.
const MAX_NOTED: usize = 2 * MAX_PEERS;

/// What this node holds of others, and the clients that wait for it or for what others hold of this one.
#[derive(Default)]
pub(super) struct WriteAcks {
    noted: Mutex<Noted>,
    of_peers: Arc<Waiters<u64>>,
    of_this: Arc<Waiters<(Incarnation, u64)>>,
    /// An operator has discarded the changes of this node's clients up to here.
    discarded: AtomicU64,
    /// The last change of this node's clients that some peer has acknowledged, together with all before it.
    held_by_any: AtomicU64,
}

#[derive(Default)]
struct Noted {
    /// By whom this node was and who wrote: a node that has discarded its state is another.
    held: BTreeMap<(Incarnation, Incarnation), Held>,
    count: u64,
}

struct Held {
    /// Every change that was made by clients of the writer up to here is held.
    through: u64,
    /// Orders the entries by age.
    number: u64,
}

impl WriteAcks {
    /// This node, as `own`, has come to hold all that clients of `writer` have changed up to `through`.
    pub(super) fn hold(&self, own: Incarnation, writer: Incarnation, through: u64) {
        let before = self.noted.lock().hold((own, writer), through);
        self.of_this.wake((writer, before), (writer, through));
    }

    /// Up to which change of `writer`'s clients this node, as `own`, holds all.
    pub(super) fn held(&self, own: Incarnation, writer: Incarnation) -> u64 {
        self.noted.lock().held.get(&(own, writer)).map_or(0, |held| held.through)
    }

    /// Resolves once [`held`](Self::held) has come to `through`, or [`verified`](Self::verified) was called. What
    /// happened before this call counts for nothing.
    pub(super) fn wait_to_hold(&self, writer: Incarnation, through: u64) -> BoxFuture<'static, ()> {
        self.of_this.wait((writer, through))
    }

    /// A sync has finished, so the summary vector may have risen.
    pub(super) fn verified(&self) {
        self.of_this.wake_all();
    }

    /// An operator has discarded what clients had written here, up to `through`.
    pub(super) fn discard(&self, through: u64) {
        self.discarded.store(through, Ordering::Relaxed);
    }

    /// Whether a change was discarded here: a state that a peer holds is then no proof that it holds the change.
    fn is_discarded(&self, change: u64) -> bool {
        change > 0 && change <= self.discarded.load(Ordering::Relaxed)
    }

    /// A peer has come to hold more of what this node's clients have changed.
    pub(super) fn peer_holds(&self, before: u64, through: u64) {
        self.held_by_any.fetch_max(through, Ordering::Relaxed);
        self.of_peers.wake(before, through);
    }

    /// Counts the changes up to `sequence` that no peer has acknowledged and no operator has discarded.
    pub(super) fn unheld(&self, sequence: u64) -> u64 {
        let discarded = self.discarded.load(Ordering::Relaxed);
        sequence.saturating_sub(self.held_by_any.load(Ordering::Relaxed).max(discarded))
    }

    /// Returns those of `links` whose peers hold every change of this node's clients up to `through`.
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

    /// Asks for what the peers behind `queues` need to hold all up to `through`. Resolves once one more of them does;
    /// what happened before this call counts for nothing.
    pub(super) fn wait_for_holders<'q>(
        &self,
        through: u64,
        queues: impl IntoIterator<Item = &'q Queue>,
    ) -> BoxFuture<'static, ()> {
        queues.into_iter().for_each(|queue| queue.want_held(through));
        self.wait_for_peers(through)
    }

    /// Resolves once a peer that did not has come to hold all up to `through`. What happened before this call counts
    /// for nothing.
    fn wait_for_peers(&self, through: u64) -> BoxFuture<'static, ()> {
        self.of_peers.wait(through)
    }
}

impl Noted {
    /// Returns what was held before.
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

/// Those who wait until something has come to a place in an order; each is woken by what passes its own place alone, so
/// that many who wait in vain cost nothing. As many as there are connections of clients.
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

    /// Wakes those between `before`, which was reached earlier, and `reached`.
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

/// One who waits; leaves when dropped.
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
