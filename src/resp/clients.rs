//! The connections of a server, for `CLIENT LIST` and `CLIENT KILL`.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU8, AtomicU64, AtomicUsize, Ordering::Relaxed};

use tokio_util::sync::CancellationToken;
use tracing_mutex::parkinglot::{Mutex, MutexGuard};

use super::call::Call;
use super::outbox::Outbox;
use crate::acl::{DEFAULT_USER, User};
use crate::model::{Time, timestamp};

/// What `CLIENT LIST` shows of a connection outside a transaction.
pub(super) const NO_TRANSACTION: i64 = -1;

/// The part of a connection that other connections can read and change.
pub(super) struct Client {
    pub(super) id: u64,
    pub(super) peer: SocketAddr,
    /// The address it was accepted at.
    pub(super) local: SocketAddr,
    /// Ends the connection at once, even while it waits for its client to read.
    pub(super) kill: CancellationToken,
    /// Pushes to the client.
    pub(super) outbox: Outbox,
    connected: Time,
    /// The time and the command of its last request, in the encodings of [`Time`] and [`Call`].
    active: AtomicU64,
    last_call: AtomicU64,
    pub(super) resp3: AtomicBool,
    pub(super) monitors: AtomicBool,
    /// Whether it has subscribed to events.
    pub(super) reads_events: AtomicBool,
    /// Whether its reads are no accesses (`CLIENT NO-TOUCH`).
    pub(super) reads_untouched: AtomicBool,
    /// Whether it tracks keys, and whether it tracks all keys under some prefixes.
    pub(super) tracks: AtomicBool,
    pub(super) broadcasts: AtomicBool,
    /// Whether it watches keys.
    pub(super) watches: AtomicBool,
    /// The number of its subscriptions.
    pub(super) channels: AtomicUsize,
    pub(super) patterns: AtomicUsize,
    /// The number of the selected database.
    pub(super) database: AtomicU8,
    /// Whether its command waits for something outside the node.
    pub(super) waits: AtomicBool,
    /// The number of requests since `MULTI`, or [`NO_TRANSACTION`].
    pub(super) queued: AtomicI64,
    /// The bytes of these requests.
    pub(super) queued_bytes: AtomicUsize,
    labels: Mutex<Labels>,
    login: Mutex<LoggedIn>,
}

/// Whose rights a connection has.
#[derive(Clone)]
pub(super) struct LoggedIn {
    pub(super) user: Arc<User>,
    pub(super) is_authenticated: bool,
    /// Whether it is `default` without having proved a password.
    pub(super) is_anonymous: bool,
}

/// The name, library and version that a client has set.
#[derive(Clone, Default)]
pub(super) struct Labels {
    pub(super) name: String,
    pub(super) lib_name: String,
    pub(super) lib_version: String,
}

impl Client {
    /// Records the client's last command.
    pub(super) fn note(&self, now: Time, call: Call) {
        self.active.store(now.0, Relaxed);
        self.last_call.store(call.to_bits(), Relaxed);
    }

    /// For how many seconds it has been connected.
    pub(super) fn age(&self, now: Time) -> u64 {
        timestamp::distance(now.max(self.connected), self.connected).as_secs()
    }

    /// The labels that the client has set.
    pub(super) fn labels(&self) -> MutexGuard<'_, Labels> {
        self.labels.lock()
    }

    /// Whose rights the connection has.
    pub(super) fn login(&self) -> LoggedIn {
        self.login.lock().clone()
    }

    pub(super) fn set_login(&self, login: LoggedIn) {
        *self.login.lock() = login;
    }

    /// The last command.
    pub(super) fn last_call(&self) -> Call {
        Call::from_bits(self.last_call.load(Relaxed))
    }

    /// Whether it has subscriptions.
    pub(super) fn is_subscriber(&self) -> bool {
        self.channels.load(Relaxed) + self.patterns.load(Relaxed) > 0
    }

    /// The flags that Redis shows for it.
    fn flags(&self) -> String {
        let mut flags = String::new();
        for (letter, set) in [
            ('O', self.monitors.load(Relaxed)),
            ('P', self.is_subscriber()),
            ('b', self.waits.load(Relaxed)),
            ('x', self.queued.load(Relaxed) != NO_TRANSACTION),
            ('t', self.tracks.load(Relaxed)),
            ('B', self.broadcasts.load(Relaxed)),
            ('T', self.reads_untouched.load(Relaxed)),
        ] {
            if set {
                flags.push(letter);
            }
        }
        if flags.is_empty() { "N".into() } else { flags }
    }

    /// Appends its line of `CLIENT LIST`; `command` is the name of its last command.
    ///
    /// The fields are those of Redis in their order, because clients parse them. What is not measured is 0, and -1 is no
    /// file.
    pub(super) fn describe(&self, now: Time, command: &str, into: &mut String) {
        let secs = |since: Time| timestamp::distance(now.max(since), since).as_secs();
        let labels = self.labels.lock().clone();
        let user = self.login().user.name.clone();
        let (queued, waiting) = (self.queued_bytes.load(Relaxed), self.outbox.len());
        writeln!(
            into,
            "id={} addr={} laddr={} fd=-1 name={} age={} idle={} flags={} db={} sub={} psub={} ssub=0 multi={} qbuf=0 \
             qbuf-free=0 argv-mem=0 multi-mem={queued} rbs=0 rbp=0 obl=0 oll={} omem={waiting} tot-mem={} events=r \
             cmd={command} user={} redir={} resp={} lib-name={} lib-ver={}",
            self.id,
            self.peer,
            self.local,
            labels.name,
            secs(self.connected),
            secs(Time(self.active.load(Relaxed))),
            self.flags(),
            self.database.load(Relaxed),
            self.channels.load(Relaxed),
            self.patterns.load(Relaxed),
            self.queued.load(Relaxed),
            u8::from(waiting > 0),
            queued + waiting,
            user,
            if self.tracks.load(Relaxed) { 0 } else { -1 },
            if self.resp3.load(Relaxed) { 3 } else { 2 },
            labels.lib_name,
            labels.lib_version,
        )
        .expect("a string takes all that is written");
    }
}

/// All connections of a server, in the order in which they were accepted.
#[derive(Default)]
pub(super) struct Clients {
    next: AtomicU64,
    all: Mutex<BTreeMap<u64, Arc<Client>>>,
}

impl Clients {
    /// Registers a connection, unless there are `limit` already.
    pub(super) fn add(
        &self,
        limit: usize,
        (peer, local): (SocketAddr, SocketAddr),
        now: Time,
        kill: CancellationToken,
    ) -> Option<Arc<Client>> {
        let mut all = self.all.lock();
        if all.len() >= limit {
            return None;
        }
        let client = Arc::new(Client {
            id: self.next.fetch_add(1, Relaxed) + 1,
            peer,
            local,
            outbox: Outbox::new(kill.clone()),
            kill,
            connected: now,
            active: AtomicU64::new(now.0),
            last_call: AtomicU64::new(Call::NONE.to_bits()),
            resp3: AtomicBool::new(false),
            monitors: AtomicBool::new(false),
            reads_events: AtomicBool::new(false),
            reads_untouched: AtomicBool::new(false),
            tracks: AtomicBool::new(false),
            broadcasts: AtomicBool::new(false),
            watches: AtomicBool::new(false),
            channels: AtomicUsize::new(0),
            patterns: AtomicUsize::new(0),
            database: AtomicU8::new(0),
            waits: AtomicBool::new(false),
            queued: AtomicI64::new(NO_TRANSACTION),
            queued_bytes: AtomicUsize::new(0),
            labels: Mutex::default(),
            login: Mutex::new(LoggedIn {
                user: Arc::new(User::powerless(DEFAULT_USER)),
                is_authenticated: false,
                is_anonymous: true,
            }),
        });
        all.insert(client.id, client.clone());
        Some(client)
    }

    /// Removes a connection.
    pub(super) fn remove(&self, id: u64) {
        self.all.lock().remove(&id);
    }

    /// The number of connections.
    pub(super) fn len(&self) -> usize {
        self.all.lock().len()
    }

    /// All connections, by id.
    pub(super) fn all(&self) -> Vec<Arc<Client>> {
        self.all.lock().values().cloned().collect()
    }
}
