//! A reader of the recorded changes.

use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use super::{Change, Changes, Group, Prefixes, Read, ReadLimit};

/// A reader of the changes under some prefixes.
///
/// Changes are recorded from its creation until at most 60 s after the last follower of the same prefixes is dropped.
pub struct Follower {
    pub(super) changes: Arc<Changes>,
    pub(super) group: Arc<Group>,
}

impl Follower {
    /// The sequence of the last change under the followed prefixes.
    pub fn last(&self) -> u64 {
        self.changes.book.lock().last(&self.group)
    }

    /// The followed prefixes.
    pub fn prefixes(&self) -> &Prefixes {
        &self.group.prefixes
    }

    /// Changes after `from`, which is the sequence of an earlier change or of [`last`](Self::last).
    pub fn read(&self, from: u64, limit: ReadLimit) -> Read {
        self.changes.book.lock().read(&self.group, from, limit)
    }

    /// Like [`read`](Self::read), but omits changes that a later change of their key follows, read or not.
    ///
    /// Also returns the sequence up to which it has read; `None` if the reader lags.
    pub(crate) fn read_last(&self, from: u64, limit: ReadLimit) -> Option<(u64, Vec<Change>)> {
        let mut book = self.changes.book.lock();
        let Read::Changes(changes) = book.read(&self.group, from, limit) else { return None };
        let through = changes.last().map_or(from, |change| change.sequence);
        Some((through, book.last_of_keys(&self.group, changes)))
    }

    /// Whether every change after `from`, or the last one of its key, is still recorded.
    pub fn knows_all_since(&self, from: u64) -> bool {
        self.changes.book.lock().knows_all_since(&self.group, from)
    }

    /// Whether all keys were [discarded](crate::store::Store::discard) after `from`.
    pub(crate) fn was_discarded_since(&self, from: u64) -> bool {
        self.changes.book.lock().discarded > from
    }

    /// Waits until there is a change after `from`, or the reader lags. Cancel-safe: it consumes nothing, and a wake-up
    /// that reaches it too late is passed on to another follower.
    pub async fn news(&self, from: u64) {
        let Group { news, asleep, .. } = &*self.group;
        // Followers wake in the order in which they began to wait, each woken by the one before, up to the first that
        // has read everything. The followers behind it began to wait later, and had read no less.
        loop {
            let mut woken = pin!(news.notified());
            woken.as_mut().enable();
            {
                let mut book = self.changes.book.lock();
                if book.last(&self.group) > from {
                    return;
                }
                asleep.store(true, Ordering::Relaxed);
                for prefix in self.group.prefixes.iter() {
                    book.logs.at(prefix).into_iter().for_each(|kept| kept.alert = true);
                }
            }
            woken.await;
            if self.last() > from {
                news.notify_one();
                return;
            }
        }
    }
}

impl Clone for Follower {
    fn clone(&self) -> Self {
        let mut book = self.changes.book.lock();
        let members =
            book.groups.get_mut(&self.group.prefixes).expect("a group is kept while it has members");
        members.count += 1;
        Follower { changes: Arc::clone(&self.changes), group: Arc::clone(&self.group) }
    }
}

impl Drop for Follower {
    fn drop(&mut self) {
        let mut book = self.changes.book.lock();
        book.leave(&self.group);
        self.changes.logs.store(book.logs.len(), Ordering::Relaxed);
    }
}

impl std::fmt::Debug for Follower {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Follower").field("prefixes", &self.group.prefixes).finish()
    }
}
