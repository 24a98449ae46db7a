//! Delivers one published message in steps: patterns may be slow to match, and subscribers many.

use std::sync::Arc;

use tokio::sync::OwnedMutexGuard;

use super::hub::{Hub, Kind};
use super::{Proto, Reply, glob};
use crate::time_slice::TimeSlice;

/// Limits of what is done under one lock: patterns taken from the hub, subscribers served and bytes copied.
const PATTERNS_AT_ONCE: usize = 16;
const SUBSCRIBERS_AT_ONCE: usize = 64;
const BYTES_AT_ONCE: usize = 256 << 10;

/// Delivers a message to all subscribers. All subscribers get messages in the same order.
pub(super) async fn publish<B: AsRef<[u8]>>(hub: &Hub, channel: B, message: B) {
    if !hub.has_listeners() {
        return;
    }
    let mut publication = Publication::new(channel, message);
    while publication.step(hub, &TimeSlice::begin()).is_none() {
        tokio::task::yield_now().await;
    }
}

/// Delivers the messages that peers' clients have published; runs until it is dropped.
pub(super) async fn deliver_backlog(hub: &Hub) {
    loop {
        hub.backlog_arrived().await;
        let mut time = TimeSlice::begin();
        while let Some([channel, message]) = hub.take_from_backlog() {
            publish(hub, channel, message).await;
            if time.is_over() {
                tokio::task::yield_now().await;
                time = TimeSlice::begin();
            }
        }
    }
}

/// The channel or pattern that subscribers get the message by.
enum Match {
    /// The message's channel.
    Channel,
    Pattern(Arc<[u8]>),
}

/// A message that is being published.
pub(super) struct Publication<B> {
    channel: B,
    message: B,
    state: State,
}

enum State {
    /// Compares the channel with patterns; holds the last pattern compared.
    Searching {
        matches: Vec<Match>,
        last: Option<Arc<[u8]>>,
    },
    Delivering(Delivery),
}

struct Delivery {
    /// The matches still to serve; the last is next.
    matches: Vec<Match>,
    /// The message encoded for that match; empty before the first.
    encoded: Vec<u8>,
    /// The last subscriber served.
    last: Option<u64>,
    delivered: usize,
    /// Excludes other deliveries, so that all subscribers get messages in the same order.
    _turn: OwnedMutexGuard<()>,
}

impl<B: AsRef<[u8]>> Publication<B> {
    pub(super) fn new(channel: B, message: B) -> Self {
        let matches = vec![Match::Channel];
        Publication { channel, message, state: State::Searching { matches, last: None } }
    }

    /// The same publication with an owned message.
    pub(super) fn into_owned(self) -> Publication<Box<[u8]>> {
        let Publication { channel, message, state } = self;
        Publication { channel: channel.as_ref().into(), message: message.as_ref().into(), state }
    }

    /// Continues until the time slice is over; returns the number of deliveries once all are made.
    pub(super) fn step(&mut self, hub: &Hub, time: &TimeSlice) -> Option<usize> {
        loop {
            match &mut self.state {
                State::Searching { matches, last } => {
                    let patterns = hub.patterns_after(last.as_deref(), PATTERNS_AT_ONCE);
                    if patterns.is_empty() {
                        let turn = hub.try_turn()?;
                        self.state = State::Delivering(Delivery::new(std::mem::take(matches), turn));
                        continue;
                    }
                    for name in patterns {
                        if glob::matches(&name, self.channel.as_ref()) {
                            matches.push(Match::Pattern(name.clone()));
                        }
                        *last = Some(name);
                        if time.is_over() {
                            return None;
                        }
                    }
                }
                State::Delivering(delivery) => {
                    let (channel, message) = (self.channel.as_ref(), self.message.as_ref());
                    if delivery.step(hub, channel, message) {
                        return Some(delivery.delivered);
                    }
                    if time.is_over() {
                        return None;
                    }
                }
            }
        }
    }
}

impl Delivery {
    fn new(mut matches: Vec<Match>, turn: OwnedMutexGuard<()>) -> Delivery {
        matches.reverse();
        Delivery { matches, encoded: Vec::new(), last: None, delivered: 0, _turn: turn }
    }

    /// Delivers to some subscribers; returns whether none is left.
    fn step(&mut self, hub: &Hub, channel: &[u8], message: &[u8]) -> bool {
        let (kind, name) = match self.matches.last() {
            None => return true,
            Some(Match::Channel) => (Kind::Channel, channel),
            Some(Match::Pattern(pattern)) => (Kind::Pattern, &**pattern),
        };
        if self.encoded.is_empty() {
            let mut reply = Reply::new(&mut self.encoded, Proto::Resp3);
            let (pattern, parts): (_, &[&[u8]]) = match kind {
                Kind::Channel => (None, &[b"message"]),
                Kind::Pattern => (Some(name), &[b"pmessage"]),
            };
            let parts = parts.iter().copied().chain(pattern).chain([channel, message]);
            reply.push(parts.clone().count());
            parts.for_each(|part| reply.bulk(part));
        }
        let subscribers = (BYTES_AT_ONCE / self.encoded.len()).clamp(1, SUBSCRIBERS_AT_ONCE);
        let served = hub.deliver(kind, name, self.last, &self.encoded, subscribers);
        self.delivered += served.count;
        self.last = served.last;
        if served.last.is_none() {
            self.encoded.clear();
            self.matches.pop();
        }
        self.matches.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use std::net::SocketAddr;

    use tokio_util::sync::CancellationToken;

    use super::super::clients::{Client, Clients};
    use super::super::hub::MAX_CHANNEL;
    use super::*;
    use crate::model::Time;

    fn client(clients: &Clients) -> Arc<Client> {
        let address = SocketAddr::from(([127, 0, 0, 1], 1));
        clients.add(usize::MAX, (address, address), Time::default(), CancellationToken::new()).unwrap()
    }

    fn waits(client: &Client) -> Vec<u8> {
        let mut out = Vec::new();
        client.outbox.take(&mut out);
        out
    }

    #[test]
    fn a_message_that_many_slow_patterns_are_compared_with_is_delivered_in_steps() {
        let (hub, clients) = (Hub::default(), Clients::default());
        let (by_name, by_pattern) = (client(&clients), client(&clients));
        let channel = vec![b'a'; MAX_CHANNEL];
        hub.join(Kind::Channel, &Arc::from(&channel[..]), &by_name);
        for n in 0..100 {
            let slow = format!("*{n:03}{}", "[ab]".repeat(200));
            hub.join(Kind::Pattern, &Arc::from(slow.as_bytes()), &by_pattern);
        }
        hub.join(Kind::Pattern, &Arc::from(&b"a*"[..]), &by_pattern);
        let mut publication = Publication::new(&channel[..], b"message");
        assert_eq!(publication.step(&hub, &TimeSlice::begin()), None, "it takes more than a slice");
        let mut publication = publication.into_owned();
        let delivered =
            std::iter::repeat_with(|| publication.step(&hub, &TimeSlice::begin())).flatten().next();
        assert_eq!(delivered, Some(2));
        assert!(waits(&by_name).starts_with(b"*3\r\n$7\r\nmessage\r\n"));
        assert!(waits(&by_pattern).starts_with(b"*4\r\n$8\r\npmessage\r\n$2\r\na*\r\n"));
    }

    #[test]
    fn a_message_waits_while_another_one_is_delivered() {
        let (hub, clients) = (Hub::default(), Clients::default());
        let listener = client(&clients);
        hub.join(Kind::Channel, &Arc::from(&b"c"[..]), &listener);
        let turn = hub.try_turn().unwrap();
        let mut publication = Publication::new(&b"c"[..], b"m");
        assert_eq!(publication.step(&hub, &TimeSlice::begin()), None);
        assert!(waits(&listener).is_empty());
        drop(turn);
        assert_eq!(publication.step(&hub, &TimeSlice::begin()), Some(1));
    }

    #[test]
    fn every_subscriber_gets_a_message_once_however_many_there_are() {
        let (hub, clients) = (Hub::default(), Clients::default());
        let listeners: Vec<_> = (0..3 * SUBSCRIBERS_AT_ONCE).map(|_| client(&clients)).collect();
        listeners.iter().for_each(|client| hub.join(Kind::Channel, &Arc::from(&b"c"[..]), client));
        let mut publication = Publication::new(&b"c"[..], b"m");
        let delivered =
            std::iter::repeat_with(|| publication.step(&hub, &TimeSlice::begin())).flatten().next();
        assert_eq!(delivered, Some(listeners.len()));
        assert!(
            listeners.iter().all(|client| waits(client) == b"*3\r\n$7\r\nmessage\r\n$1\r\nc\r\n$1\r\nm\r\n")
        );
    }
}
