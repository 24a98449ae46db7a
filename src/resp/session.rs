//! The state of a connection between commands.

use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;

use super::Proto;
use super::call::Call;
use super::clients::{Client, LoggedIn, NO_TRANSACTION};
use super::hub::{Kind, Subscriptions};
use super::shared::Shared;
use super::slowlog::Running;
use super::tracking::{Mode, Which};
use super::transaction::{Queue, WatchedKeys};
use super::users::Table;
use crate::acl::User;
use crate::model::Database;
use crate::stats::Counts;
use crate::store::{Batch, Keyspace, Store, TooDeep};
use crate::time_slice::TimeSlice;
use crate::watch::Watcher;

/// The replies that the client wants (`CLIENT REPLY`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Replies {
    On,
    Off,
    /// Suppress the replies to the present and the next command.
    SkipNext,
    /// Suppress the reply to the present command.
    Skip,
}

/// The state of a connection between commands.
pub(super) struct Session {
    pub(super) client: Arc<Client>,
    pub(super) proto: Proto,
    /// Whose rights the client has. Unless it is authenticated, that is `default`, whose rights it does not have then.
    user: Arc<User>,
    is_authenticated: bool,
    /// Whether its requests need a check: it is not authenticated, or its user may not do everything.
    is_limited: bool,
    /// The table of users that `user` is from.
    generation: u64,
    /// Whether the rights for the keys and channels of the request that is being executed are checked.
    pub(super) are_rights_checked: bool,
    /// Whether a request has contained a password since the input was last overwritten.
    pub(super) has_read_password: bool,
    pub(super) replies: Replies,
    /// Whether its reads are no accesses (`CLIENT NO-TOUCH`).
    reads_untouched: bool,
    /// The current or the last command.
    pub(super) call: Call,
    pub(super) counts: Counts,
    /// The long command that is being executed.
    pub(super) running: Option<Box<Running>>,
    /// How many bytes of the output are not replies: `CLIENT REPLY` does not suppress them.
    pub(super) kept: usize,
    pub(super) subscriptions: Subscriptions,
    /// The feed sequence of its last write; 0 if it has written nothing.
    pub(super) written: u64,
    /// Whether absent keys may exist on peers whose states are being fetched.
    pub(super) may_lack: bool,
    /// The requests since `MULTI`; `None` outside a transaction.
    pub(super) queue: Option<Box<Queue>>,
    /// The database that its requests are about.
    database: Database,
    /// The keys of `WATCH`.
    pub(super) watched: Option<Box<WatchedKeys>>,
    /// Whether a request of a transaction is being executed.
    pub(super) is_executing: bool,
    /// Whether what is being executed comes from a script.
    pub(super) runs_script: bool,
    /// The channels and messages that scripts have published, to be sent once no keys are locked.
    pub(super) deferred: Vec<[Box<[u8]>; 2]>,
    /// Set while the connection tracks keys.
    pub(super) tracking: Option<Mode>,
    /// Set while the connection watches: see [`watch`](Self::watch).
    pub(super) watcher: Option<Box<Watcher>>,
}

impl Session {
    pub(super) fn new(client: Arc<Client>, users: &Table) -> Self {
        let mut session = Session {
            client,
            user: Arc::clone(users.users.default_user()),
            is_authenticated: false,
            is_limited: true,
            generation: users.generation,
            are_rights_checked: false,
            has_read_password: false,
            proto: Proto::default(),
            replies: Replies::On,
            reads_untouched: false,
            call: Call::NONE,
            counts: Counts::default(),
            running: None,
            kept: 0,
            subscriptions: Subscriptions::default(),
            may_lack: false,
            written: 0,
            queue: None,
            database: Database::ZERO,
            watched: None,
            is_executing: false,
            runs_script: false,
            deferred: Vec::new(),
            tracking: None,
            watcher: None,
        };
        session.begin_anonymous(users);
        session
    }

    /// Whose rights the client has.
    pub(super) fn user(&self) -> &Arc<User> {
        &self.user
    }

    /// Whether the client has authenticated, or need not.
    pub(super) fn is_authenticated(&self) -> bool {
        self.is_authenticated
    }

    /// Whether its requests need a check of rights.
    pub(super) fn is_limited(&self) -> bool {
        self.is_limited
    }

    /// The number of the table of users that its rights are from.
    pub(super) fn generation(&self) -> u64 {
        self.generation
    }

    /// Becomes a user who has proved a password.
    pub(super) fn log_in(&mut self, user: Arc<User>, generation: u64) {
        self.become_user(user, true, false, generation);
    }

    /// Becomes `default` without a password, and has its rights if it needs none.
    pub(super) fn begin_anonymous(&mut self, users: &Table) {
        let user = Arc::clone(users.users.default_user());
        let is_open = user.is_open();
        self.become_user(user, is_open, true, users.generation);
    }

    /// Loses all rights.
    pub(super) fn log_out(&mut self, users: &Table) {
        let user = Arc::clone(users.users.default_user());
        self.become_user(user, false, true, users.generation);
    }

    fn become_user(&mut self, user: Arc<User>, is_authenticated: bool, is_anonymous: bool, generation: u64) {
        self.is_authenticated = is_authenticated;
        self.is_limited = !is_authenticated || !user.rights.are_unlimited();
        self.generation = generation;
        self.client.set_login(LoggedIn { user: Arc::clone(&user), is_authenticated, is_anonymous });
        self.user = user;
    }

    /// The selected database.
    pub(super) fn database(&self) -> Database {
        self.database
    }

    /// The keys of the selected database.
    pub(super) fn keyspace<'s>(&self, store: &'s Store) -> Keyspace<'s> {
        let mut keyspace = Keyspace::new(store, self.database);
        if self.reads_untouched {
            keyspace.stop_touching();
        }
        keyspace
    }

    /// Selects a database.
    pub(super) fn select(&mut self, database: Database) {
        self.database = database;
        self.client.database.store(database.number(), Relaxed);
    }

    /// Sets whether LRU and LFU ignore the reads of this connection.
    pub(super) fn read_untouched(&mut self, untouched: bool) {
        self.reads_untouched = untouched;
        self.client.reads_untouched.store(untouched, Relaxed);
    }

    /// Starts to queue requests.
    pub(super) fn start_transaction(&mut self) {
        self.queue = Some(Box::new(Queue::new(self.database, self.generation)));
        self.client.queued.store(0, Relaxed);
    }

    /// Ends a transaction, and with it the watch of keys; returns what was queued.
    pub(super) fn end_transaction(&mut self) -> (Option<Box<Queue>>, Box<WatchedKeys>) {
        self.client.queued.store(NO_TRANSACTION, Relaxed);
        self.client.queued_bytes.store(0, Relaxed);
        (self.queue.take(), self.watched.take().unwrap_or_default())
    }

    /// Publishes the writes of a batch to the peers.
    pub(super) fn publish(&mut self, store: &Store, batch: &mut Batch) {
        self.written = self.written.max(store.publish(batch));
    }

    /// Removes the reply that begins at `start` if the client does not want it.
    pub(super) fn drop_unwanted_reply(&mut self, out: &mut Vec<u8>, start: usize) {
        match self.replies {
            Replies::On => return,
            Replies::Off => {}
            Replies::SkipNext => self.replies = Replies::Skip,
            Replies::Skip => self.replies = Replies::On,
        }
        out.truncate(start.max(self.kept));
    }

    /// Whether pushes may arrive for this connection.
    pub(super) fn listens(&self) -> bool {
        let reads_changes = self.reads_events() || self.client.monitors.load(Relaxed);
        reads_changes || self.tracking.is_some() || !self.subscriptions.is_empty()
    }

    /// Whether replies could be mistaken for messages, so that only few commands are allowed: RESP2 does not
    /// distinguish them.
    pub(super) fn is_subscribed(&self) -> bool {
        let listens = !self.subscriptions.is_empty() || self.reads_events() || self.watcher.is_some();
        self.proto == Proto::Resp2 && listens
    }

    /// Updates the number of subscriptions that other connections see.
    pub(super) fn show_subscriptions(&self, shared: &Shared) {
        self.client.channels.store(self.subscriptions.count(Kind::Channel), Relaxed);
        self.client.patterns.store(self.subscriptions.count(Kind::Pattern), Relaxed);
        shared.adjust_observer();
    }

    /// Ends subscriptions, without confirmations, until none is left or `time` is over; returns whether none is left.
    pub(super) fn unsubscribe(&mut self, shared: &Shared, time: &TimeSlice) -> bool {
        if self.subscriptions.is_empty() {
            return true;
        }
        for kind in [Kind::Channel, Kind::Pattern] {
            while let Some(name) = self.subscriptions.first(kind).cloned() {
                if time.is_over() {
                    return false;
                }
                shared.hub.leave(kind, &name, &self.client);
                self.subscriptions.remove(kind, &name);
            }
        }
        self.show_subscriptions(shared);
        true
    }

    fn reads_events(&self) -> bool {
        self.client.reads_events.load(Relaxed)
    }

    pub(super) fn start_events(&mut self, shared: &Shared) {
        if !self.client.reads_events.swap(true, Relaxed) {
            shared.event_readers.add(&self.client);
        }
    }

    pub(super) fn stop_events(&mut self, shared: &Shared) {
        if self.client.reads_events.swap(false, Relaxed) {
            shared.event_readers.remove(&self.client);
        }
    }

    /// Moves the pushes in the outbox to the end of the output.
    pub(super) fn take_pushes(&mut self, out: &mut Vec<u8>) {
        self.client.outbox.take(out);
        self.kept = out.len();
    }

    /// Starts tracking. Changes are followed before any key is read, so that no change in between is missed.
    pub(super) fn start_tracking(&mut self, shared: &Shared, mode: Mode) -> Result<(), TooDeep> {
        shared.tracking.start(&self.client, &mode.which);
        self.client.tracks.store(true, Relaxed);
        self.client.broadcasts.store(matches!(mode.which, Which::Prefixes(..)), Relaxed);
        self.tracking = Some(mode);
        shared.observer.adjust().inspect_err(|_| self.stop_tracking(shared))
    }

    pub(super) fn stop_tracking(&mut self, shared: &Shared) {
        if self.tracking.take().is_some() {
            shared.tracking.stop(&self.client);
            self.client.tracks.store(false, Relaxed);
            self.client.broadcasts.store(false, Relaxed);
            shared.adjust_observer();
        }
    }

    /// Starts or stops watching.
    pub(super) fn watch(&mut self, watcher: Option<Watcher>) {
        self.client.watches.store(watcher.is_some(), Relaxed);
        self.watcher = watcher.map(Box::new);
    }

    pub(super) fn start_monitoring(&mut self, shared: &Shared) {
        if !self.client.monitors.swap(true, Relaxed) {
            shared.monitors.add(&self.client);
        }
    }

    pub(super) fn stop_monitoring(&mut self, shared: &Shared) {
        if self.client.monitors.swap(false, Relaxed) {
            shared.monitors.remove(&self.client);
        }
    }
}
