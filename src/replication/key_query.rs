//! Key queries: asks each linked peer for its copy of a key.
//!
//! For people who compare copies. A reply proves nothing, moves no clock and is not merged; it is only
//! displayed.

use std::collections::BTreeMap;
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::oneshot;
use tokio::time::{Instant, timeout_at};
use tracing_mutex::parkinglot::Mutex;

use super::Replication;
use super::codec::{self, CodecError, Packed};
use super::message::{Message, WireCopy, WireCopyState, WireCount, WireTotals};
use crate::cluster::{Copies, MAX_SHOWN_VALUE};
use crate::env::BoxFuture;
use crate::model::{Deadline, Incarnation, Time, Timestamp};
use crate::store::{CopyState, CountCopy, KeyCopy, SlotCopy, Store};

/// How long the replies are waited for.
const ANSWER_LIMIT: Duration = Duration::from_secs(1);

/// The most queries that may wait for a reply; further ones are not sent.
const MAX_QUERIES: usize = 1024;

/// The most slots of a counter in a reply.
const MAX_SLOTS: usize = 1024;

/// The queries that wait for a reply, by number.
#[derive(Default)]
pub(super) struct KeyQueries(Mutex<Waiting>);

#[derive(Default)]
struct Waiting {
    last: u32,
    by_number: BTreeMap<u32, (Incarnation, oneshot::Sender<KeyCopy>)>,
}

impl KeyQueries {
    /// Adds a query to a peer and returns its number; `None` if too many wait.
    fn ask(&self, peer: Incarnation) -> Option<(u32, oneshot::Receiver<KeyCopy>)> {
        let mut waiting = self.0.lock();
        waiting.by_number.retain(|_, (_, asker)| !asker.is_closed());
        if waiting.by_number.len() >= MAX_QUERIES {
            return None;
        }
        waiting.last = waiting.last.wrapping_add(1);
        let (asker, answer) = oneshot::channel();
        let number = waiting.last;
        waiting.by_number.insert(number, (peer, asker));
        Some((number, answer))
    }

    /// Handles a peer's reply. A reply to no query is ignored.
    pub(super) fn answer(&self, peer: Incarnation, number: u32, copy: KeyCopy) {
        let mut waiting = self.0.lock();
        if waiting.by_number.get(&number).is_some_and(|(asked, _)| *asked == peer)
            && let Some((_, asker)) = waiting.by_number.remove(&number)
        {
            // An error means that the caller no longer waits.
            let _ = asker.send(copy);
        }
    }
}

/// Returns the frame of the reply to a query.
pub(super) fn answer(store: &Store, query: u32, key: &[u8], now: Time) -> Bytes {
    let copy = store.copy(key, now, MAX_SHOWN_VALUE);
    let mut slots = Vec::new();
    let counted = copy.counter.as_ref().map(|count| count.slots.as_slice()).unwrap_or_default();
    for &SlotCopy { owner, up, down, active } in &counted[..counted.len().min(MAX_SLOTS)] {
        codec::append(&WireTotals { owner: owner.to_le_bytes(), up, down, active }, &mut slots);
    }
    let copy = WireCopy {
        state: match copy.state {
            CopyState::Live => WireCopyState::Live,
            CopyState::Dead => WireCopyState::Dead,
            CopyState::Absent => WireCopyState::Absent,
        },
        value: copy.value.as_deref(),
        value_bytes: copy.value_bytes,
        timestamp: copy
            .timestamp
            .map(|timestamp| (timestamp.time().0, timestamp.incarnation().to_le_bytes())),
        deadline: copy.deadline.map(|deadline| deadline.0),
        counter: copy.counter.as_ref().map(|&CountCopy { total, base, .. }| WireCount {
            total,
            base,
            slots: Packed(&slots),
        }),
    };
    codec::frame(&Message::KeyReply { query, copy })
}

/// Decodes a reply, cut to what is displayed.
pub(super) fn read(copy: &WireCopy<'_>) -> Result<KeyCopy, CodecError> {
    let counter = copy.counter.map(|count| -> Result<CountCopy, CodecError> {
        let mut slots = Vec::new();
        for slot in count.slots.items::<WireTotals>().take(MAX_SLOTS) {
            let WireTotals { owner, up, down, active } = slot?;
            let Ok(owner) = Incarnation::try_from(&owner) else { continue };
            slots.push(SlotCopy { owner, up, down, active });
        }
        Ok(CountCopy { total: count.total, base: count.base, slots })
    });
    let timestamp = copy
        .timestamp
        .and_then(|(time, origin)| Some(Timestamp::new(Time(time), Incarnation::try_from(&origin).ok()?)));
    Ok(KeyCopy {
        state: match copy.state {
            WireCopyState::Live => CopyState::Live,
            WireCopyState::Dead => CopyState::Dead,
            WireCopyState::Absent => CopyState::Absent,
        },
        value: copy.value.map(|value| value[..value.len().min(MAX_SHOWN_VALUE)].to_vec()),
        value_bytes: copy.value_bytes,
        timestamp,
        deadline: copy.deadline.map(Deadline),
        counter: counter.transpose()?,
    })
}

impl Copies for Replication {
    fn query_key(&self, key: &[u8]) -> BoxFuture<'static, Vec<(String, Option<KeyCopy>)>> {
        let asked = self.shared.replica.peers.links().into_iter().map(|link| {
            let answer = self.shared.queries.ask(link.incarnation).filter(|(query, _)| {
                link.queue.publish(codec::frame(&Message::KeyQuery { query: *query, key }))
            });
            (link.peer.clone(), answer)
        });
        let asked: Vec<_> = asked.collect();
        let until = Instant::now() + ANSWER_LIMIT;
        Box::pin(async move {
            let mut copies = Vec::with_capacity(asked.len());
            for (peer, answer) in asked {
                let copy = match answer {
                    Some((_, answer)) => timeout_at(until, answer).await.ok().and_then(Result::ok),
                    None => None,
                };
                copies.push((peer, copy));
            }
            copies
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::timestamp::incarnation;

    fn id(n: u128) -> Incarnation {
        incarnation(n).unwrap()
    }

    #[test]
    fn what_was_not_asked_or_was_asked_of_another_is_ignored() {
        let queries = KeyQueries::default();
        let (number, mut answer) = queries.ask(id(7)).unwrap();
        queries.answer(id(8), number, KeyCopy::default());
        queries.answer(id(7), number + 1, KeyCopy::default());
        assert!(answer.try_recv().is_err());
        queries.answer(id(7), number, KeyCopy { value_bytes: 3, ..KeyCopy::default() });
        assert_eq!(answer.try_recv().map(|copy| copy.value_bytes), Ok(3));
        queries.answer(id(7), number, KeyCopy::default());
    }

    #[test]
    fn no_more_questions_wait_than_the_limit_and_those_given_up_make_room() {
        let queries = KeyQueries::default();
        let waiting: Vec<_> = (0..MAX_QUERIES).map(|_| queries.ask(id(7)).unwrap()).collect();
        assert!(queries.ask(id(7)).is_none());
        drop(waiting);
        assert!(queries.ask(id(7)).is_some());
        assert_eq!(queries.0.lock().by_number.len(), 1);
    }

    #[test]
    fn an_answer_larger_than_it_may_be_is_cut() {
        let value = vec![b'x'; MAX_SHOWN_VALUE + 10];
        let mut slots = Vec::new();
        let slot = WireTotals { owner: id(7).to_le_bytes(), up: 1, down: 0, active: true };
        (0..MAX_SLOTS + 10).for_each(|_| codec::append(&slot, &mut slots));
        let copy = WireCopy {
            state: WireCopyState::Live,
            value: Some(&value),
            value_bytes: 1 << 40,
            timestamp: Some((1, [0; 16])),
            deadline: None,
            counter: Some(WireCount { total: 5, base: None, slots: Packed(&slots) }),
        };
        let read = read(&copy).unwrap();
        assert_eq!(read.value.unwrap().len(), MAX_SHOWN_VALUE);
        assert_eq!(read.counter.unwrap().slots.len(), MAX_SLOTS);
        assert_eq!(read.timestamp, None, "nobody has the incarnation 0");
        let torn = WireCount { total: 5, base: None, slots: Packed(&slots[..10]) };
        assert!(super::read(&WireCopy { counter: Some(torn), ..copy }).is_err());
    }
}
