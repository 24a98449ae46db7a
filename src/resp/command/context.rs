//! The input and outcome of a command, and helpers to read arguments.

use std::fmt::Display;

use tokio::time::Instant;

use super::error::CommandError;
use crate::cluster::Acknowledgements;
use crate::env::BoxFuture;
use crate::model::counter::strict_number;
use crate::model::{Database, Time};
use crate::resp::session::Session;
use crate::resp::shared::Shared;
use crate::resp::{Args, Proto, Reply};
use crate::store::{Batch, Keyspace};

/// Everything that a command can use.
pub(in crate::resp) struct Context<'a> {
    pub(in crate::resp) shared: &'a Shared,
    /// The keys of the selected database. What a command does with one of them is a step of its own, unless it is
    /// [`together`](Self::together).
    pub(in crate::resp) keyspace: Keyspace<'a>,
    pub(in crate::resp) session: &'a mut Session,
    pub(in crate::resp) batch: &'a mut Batch,
    pub(in crate::resp) out: &'a mut Vec<u8>,
}

impl Context<'_> {
    pub(super) fn reply(&mut self) -> Reply<'_> {
        Reply::new(self.out, self.session.proto)
    }

    /// Runs `work` with the ranges of these keys locked: to everybody else on this node it is one step. It must touch
    /// no other key. In a transaction, which has locked the keys of all its commands, it just runs.
    pub(super) fn together<'k, T>(
        &mut self,
        keys: impl Iterator<Item = &'k [u8]>,
        work: impl FnOnce(&mut Self) -> T,
    ) -> T {
        let selected = self.keyspace.database;
        self.together_across(keys.map(|key| (selected, key)), work)
    }

    /// As [`together`](Self::together), with keys of several databases.
    pub(super) fn together_across<'k, T>(
        &mut self,
        keys: impl Iterator<Item = (Database, &'k [u8])>,
        work: impl FnOnce(&mut Self) -> T,
    ) -> T {
        let was_free = self.keyspace.lock(keys);
        let outcome = work(self);
        if was_free {
            self.keyspace.unlock();
        }
        outcome
    }

    /// Runs `work`, which is [`together`](Self::together), so that all of its writes are applied, or none if it fails. In a
    /// script, the script decides about what was written before the failure.
    pub(super) fn wholly<T>(
        &mut self,
        work: impl FnOnce(&mut Self) -> Result<T, CommandError>,
    ) -> Result<T, CommandError> {
        let is_own = self.keyspace.buffer();
        let outcome = work(self);
        if is_own {
            self.keyspace.end(self.batch, outcome.is_ok());
        }
        outcome
    }

    /// Runs `work` with the keys of another database.
    pub(super) fn within<T>(&mut self, database: Database, work: impl FnOnce(&mut Self) -> T) -> T {
        let selected = std::mem::replace(&mut self.keyspace.database, database);
        let outcome = work(self);
        self.keyspace.database = selected;
        outcome
    }

    /// Selects the database of this and the next commands.
    pub(super) fn select(&mut self, database: Database) {
        self.keyspace.database = database;
        self.session.select(database);
    }

    /// The database that `arg` names.
    ///
    /// # Errors
    /// If this node's clients may not select it.
    pub(super) fn database(&self, arg: &[u8]) -> Result<Database, CommandError> {
        let number = i32::try_from(integer(arg)?).map_err(|_| {
            CommandError::said("ERR value is out of range, value must between -2147483648 and 2147483647")
        })?;
        let number = u8::try_from(number).ok();
        let number = number.filter(|number| u16::from(*number) < self.shared.settings.databases);
        number.map(Database::new).ok_or(CommandError::said("ERR DB index is out of range"))
    }

    /// Replies with an error instead of what the output holds from `start` on.
    pub(super) fn fail(&mut self, start: usize, error: &dyn Display) {
        self.out.truncate(start.max(self.session.kept));
        self.session.counts.errors += 1;
        let text = error.to_string();
        self.shared.stats.error(&text);
        self.reply().error(&text);
    }

    /// Moves the client's pushes from the outbox to the output, before what is written next. While `EXEC` replies with
    /// an array, they wait.
    pub(super) fn take_pushes(&mut self) {
        if !self.session.is_executing {
            self.session.take_pushes(self.out);
        }
    }

    /// Marks all of the output as messages rather than replies: `CLIENT REPLY OFF` does not suppress them.
    pub(super) fn keep(&mut self) {
        self.session.kept = self.out.len();
    }

    /// Publishes the writes so far to the peers, and returns the feed sequence of this connection's last write; 0 if
    /// it has written nothing.
    pub(super) fn publish(&mut self) -> u64 {
        self.session.publish(&self.shared.store, self.batch);
        self.session.written
    }

    /// Logs that this client has executed an operator's command.
    pub(super) fn audit(&self, command: &str, detail: Option<&str>) {
        self.shared.audit.command(&self.session.client, command, detail);
    }

    /// Whether a key is absent here.
    pub(super) fn is_absent(&self, key: &[u8]) -> bool {
        self.keyspace.peek(key, self.now(), |live| live.is_none())
    }

    /// Whether a key of a database is absent here.
    pub(super) fn is_absent_in(&self, database: Database, key: &[u8]) -> bool {
        self.keyspace.peek_stored(&database.stored(key), self.now(), |live| live.is_none())
    }

    pub(super) fn now(&self) -> Time {
        self.batch.now()
    }

    pub(super) fn proto(&self) -> Proto {
        self.session.proto
    }
}

/// How the connection continues after a command.
pub(in crate::resp) enum Flow {
    /// It executes the next command.
    Continue,
    /// It closes once the output is written.
    Close,
    /// It executes further steps of this command.
    Long(Box<dyn Long>),
    /// It waits until this command has replied, at the latest at this time, if there is one.
    Wait(Box<dyn Wait>, Option<Instant>),
}

/// A command that waits for something outside the node. Meanwhile the connection's next commands wait too.
pub(in crate::resp) trait Wait: Send {
    /// Replies if the awaited condition holds, or with the present state if this is the `last` time; returns whether
    /// it did.
    fn try_reply(&mut self, cx: &mut Context<'_>, last: bool) -> Result<bool, CommandError>;

    /// Resolves when the result of [`try_reply`](Self::try_reply) may have changed since this call.
    fn changed(&self, cluster: &dyn Acknowledgements) -> BoxFuture<'static, ()>;
}

/// A command that runs in bounded steps. The connection yields between them.
pub(in crate::resp) trait Long: Send {
    /// Runs for about 1 ms at most: see [`TimeSlice`](crate::time_slice::TimeSlice).
    fn step(&mut self, cx: &mut Context<'_>) -> Result<Progress, CommandError>;
}

/// The result of a step.
pub(in crate::resp) enum Progress {
    /// There is more to do; the output holds part of the reply.
    More,
    /// The output holds the whole reply.
    Done,
}

pub(super) type Outcome = Result<Flow, CommandError>;

/// Executes a request whose command has this index in the table.
pub(super) type Dispatch = fn(&mut Context<'_>, Args<'_>, usize) -> Outcome;

/// The function of a command.
#[derive(Clone, Copy)]
pub(super) enum Handler {
    Plain(fn(&mut Context<'_>, Args<'_>) -> Outcome),
    /// It executes other requests.
    Dispatching(fn(&mut Context<'_>, Args<'_>, Dispatch) -> Outcome),
}

pub(super) const DONE: Outcome = Ok(Flow::Continue);

/// Runs the first step of a command that may be long.
pub(super) fn begin(cx: &mut Context<'_>, mut long: impl Long + 'static) -> Outcome {
    match long.step(cx)? {
        Progress::Done => DONE,
        Progress::More => Ok(Flow::Long(Box::new(long))),
    }
}

/// Whether `arg` is this word, ignoring case.
pub(super) fn is(arg: &[u8], word: &str) -> bool {
    arg.eq_ignore_ascii_case(word.as_bytes())
}

pub(super) fn integer(arg: &[u8]) -> Result<i64, CommandError> {
    strict_number(arg).ok_or(CommandError::NotAnInteger)
}
