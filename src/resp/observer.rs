//! Sends keyspace events to subscribers, and invalidations to clients that track keys.
//!
//! ```text
//!   store: changes ──► Observer ──► Hub: __keyspace@n__:…, __keyevent@n__:…
//!                              └──► Tracking: invalidate
//! ```
//!
//! One task follows the store's changes, only while some client wants them; only then does a write cost more.

use std::sync::Arc;
use std::sync::atomic::{AtomicU16, AtomicU64, Ordering};

use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;
use tracing_mutex::parkinglot::Mutex;

use super::hub::Hub;
use super::publication::publish;
use super::tracking::Tracking;
use crate::config::KeyspaceEvents;
use crate::model::Database;
use crate::store::{Cause, Change, Follower, Prefixes, Read, ReadLimit, Store, TooDeep};

/// Changes handled before other tasks run: well under 1 ms if there are few subscribers.
const LIMIT: ReadLimit = ReadLimit { changes: 256, bytes: 1 << 20 };

/// Follows the store's changes while clients want them.
pub(super) struct Observer {
    store: Arc<Store>,
    hub: Arc<Hub>,
    tracking: Arc<Tracking>,
    /// The enabled [`KeyspaceEvents`], which can be changed at run time.
    events: AtomicU16,
    /// Changes for which no events were sent, because too many came at once.
    skipped: AtomicU64,
    place: Mutex<Option<Place>>,
    /// Notified when `place` was changed by another task.
    moved: Notify,
}

/// The follower of the changes, and the last change that was handled.
struct Place {
    follower: Follower,
    handled: u64,
}

enum Next {
    /// No client wants changes.
    Rest,
    /// All changes up to this one are handled.
    Wait(Follower, u64),
    Changes(Vec<Change>),
    /// This many changes are no longer available.
    Lagged(u64),
}

impl Observer {
    pub(super) fn new(
        events: KeyspaceEvents,
        store: Arc<Store>,
        hub: Arc<Hub>,
        tracking: Arc<Tracking>,
    ) -> Self {
        Observer {
            store,
            hub,
            tracking,
            events: AtomicU16::new(events.to_bits()),
            skipped: AtomicU64::new(0),
            place: Mutex::default(),
            moved: Notify::new(),
        }
    }

    /// The enabled keyspace events.
    pub(super) fn events(&self) -> KeyspaceEvents {
        KeyspaceEvents::from_bits(self.events.load(Ordering::Relaxed))
    }

    /// Sets the enabled events; call [`adjust`](Self::adjust) afterwards.
    pub(super) fn set_events(&self, events: KeyspaceEvents) {
        self.events.store(events.to_bits(), Ordering::Relaxed);
    }

    /// The number of changes for which no events were sent although they were enabled.
    pub(super) fn skipped(&self) -> u64 {
        self.skipped.load(Ordering::Relaxed)
    }

    /// Starts or stops following, after clients have begun or ceased to want changes. Writes made after it returns
    /// are followed.
    pub(super) fn adjust(&self) -> Result<(), TooDeep> {
        let mut place = self.place.lock();
        let events = self.events().can_publish() && self.hub.has_listeners();
        let wanted = events || self.tracking.any();
        if wanted == place.is_some() {
            return Ok(());
        }
        *place = if wanted {
            let follower = self.store.follow(&Prefixes::all())?;
            let handled = follower.last();
            Some(Place { follower, handled })
        } else {
            None
        };
        drop(place);
        self.moved.notify_one();
        Ok(())
    }

    /// Handles changes until `stop` is cancelled.
    pub(super) async fn run(&self, stop: CancellationToken) {
        stop.run_until_cancelled(async {
            loop {
                match self.next() {
                    Next::Rest => self.moved.notified().await,
                    // Cancel-safe: neither branch takes anything.
                    Next::Wait(follower, handled) => tokio::select! {
                        () = follower.news(handled) => {}
                        () = self.moved.notified() => {}
                    },
                    Next::Changes(changes) => {
                        for change in &changes {
                            self.handle(change).await;
                        }
                        tokio::task::yield_now().await;
                    }
                    Next::Lagged(lost) => self.lagged(lost),
                }
            }
        })
        .await;
    }

    fn next(&self) -> Next {
        let mut place = self.place.lock();
        let Some(Place { follower, handled }) = &mut *place else { return Next::Rest };
        match follower.read(*handled, LIMIT) {
            Read::Changes(changes) => match changes.last() {
                Some(last) => {
                    *handled = last.sequence;
                    Next::Changes(changes)
                }
                None => Next::Wait(follower.clone(), *handled),
            },
            Read::Lagged => {
                let lost = follower.last() - *handled;
                *handled = follower.last();
                Next::Lagged(lost)
            }
        }
    }

    async fn handle(&self, change: &Change) {
        let Some((database, key)) = Database::of(change.cell.key()) else { return };
        // Clients cache keys by their name alone, as with Redis.
        self.tracking.changed(key);
        let events = self.events();
        if events.can_publish() && self.hub.has_listeners() {
            self.skipped.fetch_add(change.skipped, Ordering::Relaxed);
            publish_events(&self.hub, events, database, key, change).await;
        }
    }

    fn lagged(&self, lost: u64) {
        if self.events().can_publish() && self.hub.has_listeners() {
            self.skipped.fetch_add(lost, Ordering::Relaxed);
        }
        self.tracking.all_changed();
    }
}

/// Publishes the keyspace events that Redis would publish for the command that made the change.
async fn publish_events(hub: &Hub, events: KeyspaceEvents, database: Database, key: &[u8], change: &Change) {
    let commands: &[(&str, &str)] = match change.cause {
        Cause::Set if change.cell.deadline().is_some() && !change.keeps_deadline => {
            &[("$", "set"), ("g", "expire")]
        }
        Cause::Set => &[("$", "set")],
        Cause::Delete => &[("g", "del")],
        Cause::Expired => &[("x", "expired")],
        Cause::Evicted => &[("e", "evicted")],
        Cause::Counter => &[("$", "incrby")],
        Cause::Expire => &[("g", "expire")],
        Cause::Persist => &[("g", "persist")],
    };
    let new = change.is_new().then_some(&("n", "new"));
    for (class, event) in new.into_iter().chain(commands) {
        if !events.has(class) {
            continue;
        }
        if events.has("K") {
            let channel = [format!("__keyspace@{database}__:").as_bytes(), key].concat();
            publish(hub, &channel[..], event.as_bytes()).await;
        }
        if events.has("E") {
            let channel = format!("__keyevent@{database}__:{event}");
            publish(hub, channel.as_bytes(), key).await;
        }
    }
}
