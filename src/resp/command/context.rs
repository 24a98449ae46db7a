//! What a command is given and what it gives back, and the words that its function reads arguments with.

use tokio::time::Instant;

use super::error::CommandError;
use crate::cluster::Cluster;
use crate::env::BoxFuture;
use crate::model::Time;
use crate::model::counter::strict_number;
use crate::resp::session::Session;
use crate::resp::shared::Shared;
use crate::resp::{Args, Proto, Reply};
use crate::store::Batch;

/// All that a command may reach.
pub(in crate::resp) struct Context<'a> {
    pub(in crate::resp) shared: &'a Shared,
    pub(in crate::resp) session: &'a mut Session,
    pub(in crate::resp) batch: &'a mut Batch,
    pub(in crate::resp) out: &'a mut Vec<u8>,
}

impl Context<'_> {
    pub(super) fn reply(&mut self) -> Reply<'_> {
        Reply::new(self.out, self.session.proto)
    }

    /// Moves what others have pushed to the client into the output: it comes before what is written next.
    pub(super) fn take_pushes(&mut self) {
        self.session.take_pushes(self.out);
    }

    /// Declares all of the output to be messages rather than replies: it is sent though the client wants no replies.
    pub(super) fn keep(&mut self) {
        self.session.kept = self.out.len();
    }

    /// Hands what was written so far to the peers, and returns the place of this connection's last write in the
    /// sequence of all; 0 if it has written nothing.
    pub(super) fn publish(&mut self) -> u64 {
        self.session.publish(&self.shared.store, self.batch);
        self.session.written
    }

    /// Logs that this client has had a command of an operator executed.
    pub(super) fn audit(&self, command: &str, detail: Option<&str>) {
        self.shared.audit.command(&self.session.client, command, detail);
    }

    /// Whether a key is absent here.
    pub(super) fn is_absent(&self, key: &[u8]) -> bool {
        self.shared.store.read(key, self.now(), |live| live.is_none())
    }

    pub(super) fn now(&self) -> Time {
        self.batch.now()
    }

    pub(super) fn proto(&self) -> Proto {
        self.session.proto
    }
}

/// How the connection goes on after a command.
pub(in crate::resp) enum Flow {
    /// With the next one.
    Continue,
    /// Not at all: it closes once the output is written.
    Close,
    /// With further steps of this one.
    Long(Box<dyn Long>),
    /// Not before this one has replied: at this moment at the latest, if there is one.
    Wait(Box<dyn Wait>, Option<Instant>),
}

/// A command that waits for something outside. Other connections go on meanwhile; the next commands of this one wait.
pub(in crate::resp) trait Wait: Send {
    /// Replies, if what it waits for has come, or whatever has come if this is the last time; returns whether it did.
    fn try_reply(&mut self, cx: &mut Context<'_>, last: bool) -> Result<bool, CommandError>;

    /// Resolves when [`try_reply`](Self::try_reply) may do what it would not at the moment of this call.
    fn changed(&self, cluster: &dyn Cluster) -> BoxFuture<'static, ()>;
}

/// A command in bounded steps. Between two of them the connection lets others run.
pub(in crate::resp) trait Long: Send {
    /// Goes on for about a millisecond at most: see [`TimeSlice`](crate::time_slice::TimeSlice).
    fn step(&mut self, cx: &mut Context<'_>) -> Result<Progress, CommandError>;
}

/// What a step led to.
pub(in crate::resp) enum Progress {
    /// There is more to do; what is in the output is a part of the reply.
    More,
    /// The whole reply is in the output.
    Done,
}

pub(super) type Outcome = Result<Flow, CommandError>;
pub(super) type Handler = fn(&mut Context<'_>, Args<'_>) -> Outcome;

pub(super) const DONE: Outcome = Ok(Flow::Continue);

/// Takes the first step of a command that may be long.
pub(super) fn begin(cx: &mut Context<'_>, mut long: impl Long + 'static) -> Outcome {
    match long.step(cx)? {
        Progress::Done => DONE,
        Progress::More => Ok(Flow::Long(Box::new(long))),
    }
}

/// Whether `arg` is this word, in whatever case.
pub(super) fn is(arg: &[u8], word: &str) -> bool {
    arg.eq_ignore_ascii_case(word.as_bytes())
}

pub(super) fn integer(arg: &[u8]) -> Result<i64, CommandError> {
    strict_number(arg).ok_or(CommandError::NotAnInteger)
}
