//! `CLIENT TRACKING`: sends invalidations to clients that cache keys.
//!
//! A client that tracks what it reads gets one invalidation per key, on the first change after it has read the key.
//! The read is recorded before the key is read: so a change that the reply does not show comes after the record, and
//! is sent. A client that tracks prefixes gets every change under them.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use tracing_mutex::parkinglot::Mutex;

use super::clients::Client;
use super::{Proto, Reply};
use crate::store::Prefixes;

/// Most recorded reads, pairs of a key and a client: as many as the keys that Redis records. Beyond it the oldest key
/// is dropped, and its readers get an invalidation.
const MAX_READS: usize = if cfg!(test) { 100 } else { 1_000_000 };
/// Most bytes of all recorded keys.
const MAX_BYTES: usize = 64 << 20;

/// The tracking options of a client.
pub(super) struct Mode {
    pub(super) which: Which,
    /// `CLIENT CACHING` was called for the next command.
    pub(super) caching: bool,
    /// The client wants no invalidations of its own writes.
    pub(super) no_loop: bool,
}

/// The keys that a client tracks.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) enum Which {
    /// The keys that it reads.
    Read,
    /// The keys that it reads after `CLIENT CACHING YES`.
    OptIn,
    /// The keys that it reads, except after `CLIENT CACHING NO`.
    OptOut,
    /// All keys that begin with one of these, read or not. The prefixes as given, and as a set.
    Prefixes(Vec<Box<[u8]>>, Prefixes),
}

impl Mode {
    /// Whether to record the keys that the next command reads.
    pub(super) fn notes_reads(&self) -> bool {
        match self.which {
            Which::Read => true,
            Which::OptIn => self.caching,
            Which::OptOut => !self.caching,
            Which::Prefixes(..) => false,
        }
    }
}

/// The tracking state of a server.
#[derive(Default)]
pub(super) struct Tracking {
    /// The number of clients that track.
    clients: AtomicUsize,
    table: Mutex<Table>,
}

#[derive(Default)]
struct Table {
    /// The clients that track, by id; with the prefixes of those that track prefixes.
    clients: HashMap<u64, (Arc<Client>, Option<Prefixes>)>,
    noted: HashMap<Arc<[u8]>, Noted>,
    /// Keys by when they were first recorded. An entry that no longer matches `noted` has been sent.
    order: VecDeque<(u64, Arc<[u8]>)>,
    next: u64,
    reads: usize,
    bytes: usize,
}

struct Noted {
    since: u64,
    /// The clients that have read it, sorted. Some may have left.
    readers: Vec<u64>,
}

/// Numbers of tracked keys, reads and prefixes.
pub(super) struct Totals {
    pub(super) clients: usize,
    pub(super) keys: usize,
    pub(super) reads: usize,
}

impl Tracking {
    /// Whether any client tracks.
    pub(super) fn any(&self) -> bool {
        self.clients.load(Ordering::Acquire) > 0
    }

    /// Starts tracking for the client.
    pub(super) fn start(&self, client: &Arc<Client>, which: &Which) {
        let prefixes = match which {
            Which::Prefixes(_, prefixes) => Some(prefixes.clone()),
            Which::Read | Which::OptIn | Which::OptOut => None,
        };
        let mut table = self.table.lock();
        table.clients.insert(client.id, (client.clone(), prefixes));
        self.clients.store(table.clients.len(), Ordering::Release);
    }

    /// Stops tracking for the client.
    pub(super) fn stop(&self, client: &Client) {
        let mut table = self.table.lock();
        table.clients.remove(&client.id);
        if table.clients.is_empty() {
            *table = Table::default();
        }
        self.clients.store(table.clients.len(), Ordering::Release);
    }

    /// Records that the client is about to read these keys.
    pub(super) fn note<'k>(&self, client: u64, keys: impl Iterator<Item = &'k [u8]>) {
        let mut table = self.table.lock();
        keys.for_each(|key| table.note(client, key));
    }

    /// Drops the records that the client has read these keys, which it is about to write. As in Redis it tracks them
    /// again once it reads them again.
    pub(super) fn forget<'k>(&self, client: u64, keys: impl Iterator<Item = &'k [u8]>) {
        let mut table = self.table.lock();
        keys.for_each(|key| table.forget(client, key));
    }

    /// Sends invalidations for a changed key.
    pub(super) fn changed(&self, key: &[u8]) {
        if !self.any() {
            return;
        }
        let mut table = self.table.lock();
        let message = invalidation(Some(key));
        for (client, prefixes) in table.clients.values() {
            if prefixes.as_ref().is_some_and(|prefixes| prefixes.cover(key)) {
                client.outbox.push_in_resp3(&message);
            }
        }
        table.notify_readers(key, &message);
    }

    /// Sends invalidations for all keys, any of which may have changed.
    pub(super) fn all_changed(&self) {
        let mut table = self.table.lock();
        let message = invalidation(None);
        table.clients.values().for_each(|(client, _)| client.outbox.push_in_resp3(&message));
        let Table { noted, order, reads, bytes, .. } = &mut *table;
        noted.clear();
        order.clear();
        (*reads, *bytes) = (0, 0);
    }

    pub(super) fn totals(&self) -> Totals {
        let table = self.table.lock();
        Totals { clients: table.clients.len(), keys: table.noted.len(), reads: table.reads }
    }
}

impl Table {
    fn note(&mut self, client: u64, key: &[u8]) {
        let readers = match self.noted.get_mut(key) {
            Some(noted) => &mut noted.readers,
            None => {
                let key: Arc<[u8]> = key.into();
                self.next += 1;
                self.bytes += key.len();
                self.order.push_back((self.next, key.clone()));
                &mut self.noted.entry(key).or_insert(Noted { since: self.next, readers: Vec::new() }).readers
            }
        };
        let Err(place) = readers.binary_search(&client) else { return };
        readers.insert(place, client);
        self.reads += 1;
        self.make_room();
    }

    fn forget(&mut self, client: u64, key: &[u8]) {
        let Some(noted) = self.noted.get_mut(key) else { return };
        let Ok(place) = noted.readers.binary_search(&client) else { return };
        noted.readers.remove(place);
        self.reads -= 1;
        if noted.readers.is_empty() {
            self.noted.remove(key);
            self.bytes -= key.len();
        }
    }

    fn make_room(&mut self) {
        while (self.reads > MAX_READS || self.bytes > MAX_BYTES)
            && let Some((since, key)) = self.order.pop_front()
        {
            if self.noted.get(&key).is_some_and(|noted| noted.since == since) {
                self.notify_readers(&key, &invalidation(Some(&key)));
            }
        }
        // Recorded keys that change leave entries behind. Compacting is rare, and halves the queue.
        if self.order.len() > 2 * self.noted.len() + 1024 {
            let noted = &self.noted;
            self.order.retain(|(since, key)| noted.get(key).is_some_and(|noted| noted.since == *since));
        }
    }

    fn notify_readers(&mut self, key: &[u8], message: &[u8]) {
        let Some(Noted { readers, .. }) = self.noted.remove(key) else { return };
        self.reads -= readers.len();
        self.bytes -= key.len();
        for reader in readers {
            if let Some((client, None)) = self.clients.get(&reader) {
                client.outbox.push_in_resp3(message);
            }
        }
    }
}

/// The invalidation message for a key, or for all keys.
fn invalidation(key: Option<&[u8]>) -> Vec<u8> {
    let mut message = Vec::new();
    let mut reply = Reply::new(&mut message, Proto::Resp3);
    reply.push(2);
    reply.bulk(b"invalidate");
    match key {
        Some(key) => {
            reply.array(1);
            reply.bulk(key);
        }
        None => reply.null(),
    }
    message
}

#[cfg(test)]
mod tests {
    use tokio_util::sync::CancellationToken;

    use super::super::clients::Clients;
    use super::*;
    use crate::model::timestamp;

    fn client(clients: &Clients) -> Arc<Client> {
        let address = ([127, 0, 0, 1], 1).into();
        let client = clients.add(9, (address, address), timestamp::ZERO, CancellationToken::new()).unwrap();
        client.outbox.switch(Proto::Resp3, &mut Vec::new());
        client
    }

    /// The keys that the client got invalidations for, `_` for all.
    fn invalidated(client: &Client) -> String {
        let mut out = Vec::new();
        client.outbox.take(&mut out);
        let text = String::from_utf8(out).unwrap().replace('_', "*\r\n$\r\n_");
        text.split("invalidate\r\n")
            .skip(1)
            .map(|rest| rest.split("\r\n").nth(2).unwrap().to_owned())
            .collect()
    }

    #[test]
    fn a_reader_is_notified_once_and_a_prefix_always() {
        let (clients, tracking) = (Clients::default(), Tracking::default());
        let (reader, other, prefix) = (client(&clients), client(&clients), client(&clients));
        tracking.start(&reader, &Which::Read);
        tracking.start(&other, &Which::Read);
        let prefixes = Prefixes::new(&[b"a"]).unwrap();
        tracking.start(&prefix, &Which::Prefixes(Vec::new(), prefixes));
        tracking.note(reader.id, [&b"a"[..], b"a", b"b"].into_iter());
        for key in [b"a", b"a", b"b", b"c"] {
            tracking.changed(key);
        }
        assert_eq!(
            (invalidated(&reader), invalidated(&other), invalidated(&prefix)),
            ("ab".into(), "".into(), "aa".into())
        );
        tracking.note(reader.id, [&b"a"[..]].into_iter());
        tracking.all_changed();
        assert_eq!(
            (invalidated(&reader), invalidated(&other), invalidated(&prefix)),
            ("_".into(), "_".into(), "_".into())
        );
        tracking.changed(b"a");
        assert_eq!((invalidated(&reader), invalidated(&prefix)), ("".into(), "a".into()));
        [reader, other, prefix].iter().for_each(|client| tracking.stop(client));
        assert!(!tracking.any());
    }

    #[test]
    fn what_is_noted_is_bounded_and_the_oldest_is_invalidated() {
        let (clients, tracking) = (Clients::default(), Tracking::default());
        let reader = client(&clients);
        tracking.start(&reader, &Which::Read);
        let key = |n: usize| format!("{n},").into_bytes();
        for n in 0..MAX_READS + 3 {
            tracking.note(reader.id, [&key(n)[..]].into_iter());
        }
        assert_eq!((tracking.totals().reads, invalidated(&reader)), (MAX_READS, "0,1,2,".into()));
        for n in 0..10_000 {
            tracking.note(reader.id, [&key(n)[..]].into_iter());
            let table = tracking.table.lock();
            assert!(table.order.len() <= 2 * table.noted.len() + 1024);
            assert_eq!(table.bytes, table.noted.keys().map(|key| key.len()).sum::<usize>());
            drop(table);
            tracking.changed(&key(n));
        }
    }

    #[test]
    fn what_is_forgotten_is_not_invalidated_and_takes_no_room() {
        let (clients, tracking) = (Clients::default(), Tracking::default());
        let (writer, other) = (client(&clients), client(&clients));
        [&writer, &other].into_iter().for_each(|client| tracking.start(client, &Which::Read));
        tracking.note(writer.id, [&b"a"[..], b"b"].into_iter());
        tracking.note(other.id, [&b"a"[..]].into_iter());
        tracking.forget(writer.id, [&b"a"[..], b"b", b"c"].into_iter());
        assert_eq!((tracking.totals().keys, tracking.totals().reads, tracking.table.lock().bytes), (1, 1, 1));
        [b"a", b"b"].into_iter().for_each(|key| tracking.changed(key));
        assert_eq!((invalidated(&writer), invalidated(&other)), ("".into(), "a".into()));
    }
}
