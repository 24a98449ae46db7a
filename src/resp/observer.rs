//! Tells clients of changes: keyspace events to subscribers, invalidations to those who track.
//!
//! ```text
//!   store: changes ──► Observer ──► Hub: __keyspace@0__:…, __keyevent@0__:…
//!                              └──► Tracking: invalidate
//! ```
//!
//! Changes are followed while somebody wants to hear of them, by one task for all; a write costs more only then.

use std::sync::atomic::{AtomicU16, AtomicU64, Ordering};

use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;
use tracing_mutex::parkinglot::Mutex;

use super::hub::Hub;
use super::shared::Shared;
use crate::config::KeyspaceEvents;
use crate::store::{Cause, Change, Follower, Prefixes, Read, ReadLimit, TooDeep};

/// Changes told before others get a turn: well under a millisecond for a few listeners.
const LIMIT: ReadLimit = ReadLimit { changes: 256, bytes: 1 << 20 };

/// Follows the store's changes while they are wanted.
#[derive(Default)]
pub(super) struct Observer {
    /// [`KeyspaceEvents`], as they can be changed at run time.
    events: AtomicU16,
    /// Changes that no events were told of, because too many came at once.
    skipped: AtomicU64,
    place: Mutex<Option<Place>>,
    /// The place is another than the task knows.
    moved: Notify,
}

/// What is followed, and the last change that was told.
struct Place {
    follower: Follower,
    told: u64,
}

enum Next {
    /// Nobody wants to know.
    Rest,
    /// Everything up to here is told.
    Wait(Follower, u64),
    Tell(Vec<Change>),
    /// So many changes cannot be told any more.
    Lagged(u64),
}

impl Observer {
    pub(super) fn new(events: KeyspaceEvents) -> Self {
        Observer { events: AtomicU16::new(events.to_bits()), ..Observer::default() }
    }

    /// The events that subscribers are told.
    pub(super) fn events(&self) -> KeyspaceEvents {
        KeyspaceEvents::from_bits(self.events.load(Ordering::Relaxed))
    }

    /// To be followed by [`adjust`](Self::adjust).
    pub(super) fn set_events(&self, events: KeyspaceEvents) {
        self.events.store(events.to_bits(), Ordering::Relaxed);
    }

    /// How many changes no events were told of although they were wanted.
    pub(super) fn skipped(&self) -> u64 {
        self.skipped.load(Ordering::Relaxed)
    }

    /// Begins or ends to follow, as somebody has come to want changes, or ceased to. What is written after it returns is
    /// followed.
    pub(super) fn adjust(&self, shared: &Shared) -> Result<(), TooDeep> {
        let mut place = self.place.lock();
        let events = self.events().tell_anything() && shared.hub.has_listeners();
        let wanted = events || shared.tracking.any();
        if wanted == place.is_some() {
            return Ok(());
        }
        *place = if wanted {
            let follower = shared.store.follow(&Prefixes::all())?;
            let told = follower.last();
            Some(Place { follower, told })
        } else {
            None
        };
        drop(place);
        self.moved.notify_one();
        Ok(())
    }

    /// Tells of changes until `stop` is cancelled.
    pub(super) async fn run(&self, shared: &Shared, stop: CancellationToken) {
        stop.run_until_cancelled(async {
            loop {
                match self.next() {
                    Next::Rest => self.moved.notified().await,
                    // Cancel-safe: neither takes anything.
                    Next::Wait(follower, told) => tokio::select! {
                        () = follower.news(told) => {}
                        () = self.moved.notified() => {}
                    },
                    Next::Tell(changes) => {
                        for change in &changes {
                            self.tell(shared, change).await;
                        }
                        tokio::task::yield_now().await;
                    }
                    Next::Lagged(lost) => self.lagged(shared, lost),
                }
            }
        })
        .await;
    }

    fn next(&self) -> Next {
        let mut place = self.place.lock();
        let Some(Place { follower, told }) = &mut *place else { return Next::Rest };
        match follower.read(*told, LIMIT) {
            Read::Changes(changes) => match changes.last() {
                Some(last) => {
                    *told = last.sequence;
                    Next::Tell(changes)
                }
                None => Next::Wait(follower.clone(), *told),
            },
            Read::Lagged => {
                let lost = follower.last() - *told;
                *told = follower.last();
                Next::Lagged(lost)
            }
        }
    }

    async fn tell(&self, shared: &Shared, change: &Change) {
        shared.tracking.changed(change.cell.key());
        let events = self.events();
        if events.tell_anything() && shared.hub.has_listeners() {
            self.skipped.fetch_add(change.skipped, Ordering::Relaxed);
            announce(&shared.hub, events, change).await;
        }
    }

    fn lagged(&self, shared: &Shared, lost: u64) {
        if self.events().tell_anything() && shared.hub.has_listeners() {
            self.skipped.fetch_add(lost, Ordering::Relaxed);
        }
        shared.tracking.all_changed();
    }
}

/// Tells the subscribers of a change what Redis would tell of the command that made it.
async fn announce(hub: &Hub, events: KeyspaceEvents, change: &Change) {
    let key = change.cell.key();
    let told: &[(&str, &str)] = match change.cause {
        Cause::Set if change.cell.deadline().is_some() => &[("$", "set"), ("g", "expire")],
        Cause::Set => &[("$", "set")],
        Cause::Delete => &[("g", "del")],
        Cause::Expired => &[("x", "expired")],
        Cause::Counter => &[("$", "incrby")],
        Cause::Expire => &[("g", "expire")],
        Cause::Persist => &[("g", "persist")],
    };
    let new = change.is_new().then_some(&("n", "new"));
    for (class, event) in new.into_iter().chain(told) {
        if !events.has(class) {
            continue;
        }
        if events.has("K") {
            let channel = [b"__keyspace@0__:", key].concat();
            hub.publish(&channel[..], event.as_bytes()).await;
        }
        if events.has("E") {
            let channel = [b"__keyevent@0__:", event.as_bytes()].concat();
            hub.publish(&channel[..], key).await;
        }
    }
}
