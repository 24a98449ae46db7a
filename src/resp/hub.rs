//! Publish and subscribe: who listens to what, and the way of a message to them.
//!
//! A message is encoded once for each name that it is heard under, and copied into the [`Outbox`] of every listener.
//! Nothing of it is kept: who is not subscribed when it comes has missed it.
//!
//! [`Outbox`]: super::outbox::Outbox

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use parking_lot::Mutex;

use super::clients::Client;
use super::{Proto, Reply, glob};
use crate::cluster::Audience;

/// The longest channel in bytes. The channel of a key's events holds the key: twice the longest key of the default
/// `--max-key`.
pub(super) const MAX_CHANNEL: usize = 128 << 10;
/// Channels and patterns of one connection. A gateway that subscribes for all of its users has thousands; each costs
/// two entries here.
pub(super) const MAX_SUBSCRIPTIONS: usize = 1 << 16;
/// Bytes that the names of one connection's subscriptions take.
pub(super) const MAX_SUBSCRIPTION_BYTES: usize = 16 << 20;

/// What a subscription names.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Kind {
    Channel,
    Pattern,
}

/// By the number of the connection, so that those that came first hear first.
type Listeners = BTreeMap<u64, Arc<Client>>;

/// All subscriptions of a server.
#[derive(Default)]
pub(super) struct Hub {
    /// How many names somebody listens to; lets a message that nobody hears pass without the lock.
    names: AtomicUsize,
    topics: Mutex<Topics>,
}

/// No name is without a listener.
#[derive(Default)]
struct Topics {
    channels: HashMap<Arc<[u8]>, Listeners>,
    patterns: BTreeMap<Arc<[u8]>, Listeners>,
}

impl Hub {
    /// From here on the client hears what is published under the name.
    pub(super) fn join(&self, kind: Kind, name: &Arc<[u8]>, client: &Arc<Client>) {
        let mut topics = self.topics.lock();
        let listeners = match kind {
            Kind::Channel => topics.channels.entry(name.clone()).or_default(),
            Kind::Pattern => topics.patterns.entry(name.clone()).or_default(),
        };
        listeners.insert(client.id, client.clone());
        self.count(&topics);
    }

    /// From here on the client does not hear it; what it has heard waits in its outbox.
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

    /// Whether anybody listens to anything.
    pub(super) fn has_listeners(&self) -> bool {
        self.names.load(Ordering::Acquire) > 0
    }

    /// Tells all who listen; returns how often the message was delivered. All hear messages in one order.
    pub(super) fn publish(&self, channel: &[u8], message: &[u8]) -> usize {
        if !self.has_listeners() {
            return 0;
        }
        let topics = self.topics.lock();
        let mut delivered = 0;
        let mut encoded = Vec::new();
        let mut deliver = |parts: &[&[u8]], listeners: &Listeners| {
            encoded.clear();
            let mut reply = Reply::new(&mut encoded, Proto::Resp3);
            reply.push(parts.len());
            parts.iter().for_each(|part| reply.bulk(part));
            listeners.values().for_each(|client| client.outbox.push(&encoded));
            delivered += listeners.len();
        };
        if let Some(listeners) = topics.channels.get(channel) {
            deliver(&[b"message", channel, message], listeners);
        }
        for (pattern, listeners) in &topics.patterns {
            if glob::matches(pattern, channel) {
                deliver(&[b"pmessage", pattern, channel, message], listeners);
            }
        }
        delivered
    }

    /// The channels somebody listens to.
    pub(super) fn channels(&self, pattern: Option<&[u8]>) -> Vec<Arc<[u8]>> {
        let topics = self.topics.lock();
        let shown = |name: &&Arc<[u8]>| pattern.is_none_or(|pattern| glob::matches(pattern, name));
        topics.channels.keys().filter(shown).cloned().collect()
    }

    /// How many listen to a channel by its name.
    pub(super) fn listeners(&self, channel: &[u8]) -> usize {
        self.topics.lock().channels.get(channel).map_or(0, BTreeMap::len)
    }

    /// How many channels and patterns somebody listens to.
    pub(super) fn totals(&self) -> (usize, usize) {
        let topics = self.topics.lock();
        (topics.channels.len(), topics.patterns.len())
    }
}

impl Audience for Hub {
    fn hear(&self, channel: &[u8], message: &[u8]) {
        self.publish(channel, message);
    }
}

/// What one connection has subscribed to.
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

    /// The names of a kind, in order.
    pub(super) fn names(&self, kind: Kind) -> impl Iterator<Item = &Arc<[u8]>> {
        self.of(kind).iter()
    }

    /// How many there are of a kind.
    pub(super) fn count(&self, kind: Kind) -> usize {
        self.of(kind).len()
    }

    /// How many there are.
    pub(super) fn len(&self) -> usize {
        self.channels.len() + self.patterns.len()
    }

    /// Whether there is none.
    pub(super) fn is_empty(&self) -> bool {
        self.channels.is_empty() && self.patterns.is_empty()
    }

    /// Bytes of all names.
    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }
}
