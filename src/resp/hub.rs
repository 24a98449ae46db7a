//! Publish and subscribe: the subscriptions of all clients, and the delivery of messages.
//!
//! A message is encoded once for each matching channel or pattern, and copied into the [`Outbox`] of every
//! subscriber, by a [`Publication`]. Messages are not stored: a client that subscribes later does not get them.
//!
//! [`Outbox`]: super::outbox::Outbox
//! [`Publication`]: super::publication::Publication

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::ops::Bound;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::sync::{self, Notify, OwnedMutexGuard};
use tracing_mutex::parkinglot::Mutex;

use super::clients::Client;
use super::outbox::MAX_WAITING;
use crate::cluster::Subscribers;

/// The longest channel in bytes. The channel of a key's events contains the key: twice the longest key of the default
/// `--max-key`.
pub(super) const MAX_CHANNEL: usize = 128 << 10;
/// Most channels and patterns of one connection. A gateway that subscribes for all of its users has thousands; each
/// costs two entries here.
pub(super) const MAX_SUBSCRIPTIONS: usize = 1 << 16;
/// Most bytes that the names of one connection's subscriptions take.
pub(super) const MAX_SUBSCRIPTION_BYTES: usize = 16 << 20;

/// The kind of a subscription's name.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Kind {
    Channel,
    Pattern,
}

/// By connection id, so that earlier clients get a message first.
type Listeners = BTreeMap<u64, Arc<Client>>;

/// All subscriptions of a server.
#[derive(Default)]
pub(super) struct Hub {
    /// The number of names with subscribers. If it is 0, a message is dropped without taking the lock.
    names: AtomicUsize,
    topics: Mutex<Topics>,
    /// Held while a message is delivered.
    turn: Arc<sync::Mutex<()>>,
    backlog: Backlog,
}

/// Subscribers by channel and by pattern. Names without subscribers are removed.
#[derive(Default)]
struct Topics {
    channels: Names,
    patterns: Names,
}

/// Ordered, so that it can be visited in steps.
type Names = BTreeMap<Arc<[u8]>, Listeners>;

/// Messages that peers' clients have published and that are not delivered yet.
#[derive(Default)]
struct Backlog {
    messages: Mutex<Messages>,
    arrived: Notify,
}

#[derive(Default)]
struct Messages {
    waiting: VecDeque<[Box<[u8]>; 2]>,
    bytes: usize,
    /// Whether messages were dropped since the backlog was last empty.
    has_overflowed: bool,
}

/// The result of delivering a message to some subscribers.
pub(super) struct Served {
    pub(super) count: usize,
    /// The last subscriber, if there may be more.
    pub(super) last: Option<u64>,
}

fn after<K: Ord + ?Sized>(last: Option<&K>) -> (Bound<&K>, Bound<&K>) {
    (last.map_or(Bound::Unbounded, Bound::Excluded), Bound::Unbounded)
}

impl Hub {
    /// Subscribes the client to the name from this call on.
    pub(super) fn join(&self, kind: Kind, name: &Arc<[u8]>, client: &Arc<Client>) {
        let mut topics = self.topics.lock();
        let listeners = match kind {
            Kind::Channel => topics.channels.entry(name.clone()).or_default(),
            Kind::Pattern => topics.patterns.entry(name.clone()).or_default(),
        };
        listeners.insert(client.id, client.clone());
        self.count(&topics);
    }

    /// Unsubscribes the client from the name; messages already in its outbox stay.
    pub(super) fn leave(&self, kind: Kind, name: &[u8], client: &Client) {
        fn without(listeners: Option<&mut Listeners>, id: u64) -> bool {
            listeners.is_some_and(|listeners| listeners.remove(&id).is_some() && listeners.is_empty())
        }
        let mut topics = self.topics.lock();
        match kind {
            Kind::Channel if without(topics.channels.get_mut(name), client.id) => {
                topics.channels.remove(name);
            }
            Kind::Pattern if without(topics.patterns.get_mut(name), client.id) => {
                topics.patterns.remove(name);
            }
            Kind::Channel | Kind::Pattern => return,
        }
        self.count(&topics);
    }

    fn count(&self, topics: &Topics) {
        self.names.store(topics.channels.len() + topics.patterns.len(), Ordering::Release);
    }

    /// Whether there is any subscription.
    pub(super) fn has_listeners(&self) -> bool {
        self.names.load(Ordering::Acquire) > 0
    }

    /// The exclusive right to deliver, unless another message is being delivered.
    pub(super) fn try_turn(&self) -> Option<OwnedMutexGuard<()>> {
        Arc::clone(&self.turn).try_lock_owned().ok()
    }

    /// At most `limit` subscribed patterns, in order after `last`.
    pub(super) fn patterns_after(&self, last: Option<&[u8]>, limit: usize) -> Vec<Arc<[u8]>> {
        names_after(&self.topics.lock().patterns, last, limit)
    }

    /// At most `limit` subscribed channels, in order after `last`.
    pub(super) fn channels_after(&self, last: Option<&[u8]>, limit: usize) -> Vec<Arc<[u8]>> {
        names_after(&self.topics.lock().channels, last, limit)
    }

    /// Delivers an encoded message to a limited number of subscribers of a name, starting after `last`.
    pub(super) fn deliver(
        &self,
        kind: Kind,
        name: &[u8],
        last: Option<u64>,
        encoded: &[u8],
        limit: usize,
    ) -> Served {
        let topics = self.topics.lock();
        let names = match kind {
            Kind::Channel => &topics.channels,
            Kind::Pattern => &topics.patterns,
        };
        let Some(listeners) = names.get(name) else { return Served { count: 0, last: None } };
        let mut served = Served { count: 0, last: None };
        for (&id, client) in listeners.range::<u64, _>(after(last.as_ref())).take(limit) {
            client.outbox.push(encoded);
            served = Served { count: served.count + 1, last: Some(id) };
        }
        served.last = served.last.filter(|_| served.count == limit);
        served
    }

    /// Waits until a peer's client may have published a message. Cancel-safe: messages stay in the backlog.
    pub(super) async fn backlog_arrived(&self) {
        self.backlog.arrived.notified().await;
    }

    /// Takes the oldest message of peers' clients that is not delivered yet.
    pub(super) fn take_from_backlog(&self) -> Option<[Box<[u8]>; 2]> {
        self.backlog.take()
    }

    /// The number of subscribers to a channel by its name.
    pub(super) fn listeners(&self, channel: &[u8]) -> usize {
        self.topics.lock().channels.get(channel).map_or(0, BTreeMap::len)
    }

    /// The numbers of channels and of patterns with subscribers.
    pub(super) fn totals(&self) -> (usize, usize) {
        let topics = self.topics.lock();
        (topics.channels.len(), topics.patterns.len())
    }
}

fn names_after(names: &Names, last: Option<&[u8]>, limit: usize) -> Vec<Arc<[u8]>> {
    names.range::<[u8], _>(after(last)).take(limit).map(|(name, _)| name.clone()).collect()
}

impl Backlog {
    fn add(&self, channel: &[u8], message: &[u8]) {
        let mut messages = self.messages.lock();
        let bytes = channel.len() + message.len();
        if messages.bytes > 0 && messages.bytes + bytes > MAX_WAITING {
            if !std::mem::replace(&mut messages.has_overflowed, true) {
                tracing::warn!(
                    "published by peers faster than it is delivered here: subscribers miss messages"
                );
            }
            return;
        }
        messages.bytes += bytes;
        messages.waiting.push_back([channel.into(), message.into()]);
        drop(messages);
        self.arrived.notify_one();
    }

    fn take(&self) -> Option<[Box<[u8]>; 2]> {
        let mut messages = self.messages.lock();
        let next = messages.waiting.pop_front();
        match &next {
            Some(parts) => messages.bytes -= parts.iter().map(|part| part.len()).sum::<usize>(),
            None => messages.has_overflowed = false,
        }
        next
    }
}

impl Subscribers for Hub {
    fn deliver(&self, channel: &[u8], message: &[u8]) {
        if self.has_listeners() {
            self.backlog.add(channel, message);
        }
    }
}

/// The subscriptions of one connection.
#[derive(Default)]
pub(super) struct Subscriptions {
    channels: BTreeSet<Arc<[u8]>>,
    patterns: BTreeSet<Arc<[u8]>>,
    bytes: usize,
}

impl Subscriptions {
    fn of(&self, kind: Kind) -> &BTreeSet<Arc<[u8]>> {
        match kind {
            Kind::Channel => &self.channels,
            Kind::Pattern => &self.patterns,
        }
    }

    fn of_mut(&mut self, kind: Kind) -> &mut BTreeSet<Arc<[u8]>> {
        match kind {
            Kind::Channel => &mut self.channels,
            Kind::Pattern => &mut self.patterns,
        }
    }

    /// Adds a name and returns it, unless it is there already.
    pub(super) fn add(&mut self, kind: Kind, name: &[u8]) -> Option<Arc<[u8]>> {
        if self.of(kind).contains(name) {
            return None;
        }
        let name: Arc<[u8]> = name.into();
        self.bytes += name.len();
        self.of_mut(kind).insert(name.clone());
        Some(name)
    }

    /// Removes a name if it is there.
    pub(super) fn remove(&mut self, kind: Kind, name: &[u8]) {
        if self.of_mut(kind).remove(name) {
            self.bytes -= name.len();
        }
    }

    /// The first name of a kind, in their order.
    pub(super) fn first(&self, kind: Kind) -> Option<&Arc<[u8]>> {
        self.of(kind).first()
    }

    /// The number of names of a kind.
    pub(super) fn count(&self, kind: Kind) -> usize {
        self.of(kind).len()
    }

    /// The number of names.
    pub(super) fn len(&self) -> usize {
        self.channels.len() + self.patterns.len()
    }

    /// Whether there is none.
    pub(super) fn is_empty(&self) -> bool {
        self.channels.is_empty() && self.patterns.is_empty()
    }

    /// The bytes of all names.
    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }
}
