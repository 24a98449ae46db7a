//! The commands: one table, and the functions behind it.
//!
//! **Purpose.** Find a request's command, check what can be checked of every command alike, and execute it.
//!
//! **Place in the picture.** Above the parser and the store, below the connection. A command is executed at once, into the
//! connection's output; one that may take long is begun, and the connection goes on with it in bounded steps.
//!
//! **Invariants.**
//! - A command that fails leaves nothing but its error in the output.
//! - Nothing here waits: no lock of the store is held longer than one closure, and there is no `.await`.

mod client;
mod config;
mod connection;
mod entry;
mod error;
mod expiry;
mod info;
mod introspect;
mod keyspace;
mod options;
mod refused;
mod sapwood;
mod server;
mod string;
mod sweep;
mod table;

pub(super) use entry::{Call, Command};
pub(super) use error::CommandError;
pub(super) use table::TABLE;

use std::fmt::Display;

use super::server::Shared;
use super::session::Session;
use super::{Args, Proto, Reply};
use crate::model::Time;
use crate::store::Batch;
use entry::{ADMIN, NO_AUTH};

/// Replies of one command beyond this are refused: one request for the same large value a million times over must not
/// take a daemon down.
const MAX_REPLY: usize = 256 << 20;

/// All that a command may reach.
pub(super) struct Context<'a> {
    pub(super) shared: &'a Shared,
    pub(super) session: &'a mut Session,
    pub(super) batch: &'a mut Batch,
    pub(super) out: &'a mut Vec<u8>,
}

impl Context<'_> {
    fn reply(&mut self) -> Reply<'_> {
        Reply::new(self.out, self.session.proto)
    }

    fn now(&self) -> Time {
        self.batch.now()
    }

    fn proto(&self) -> Proto {
        self.session.proto
    }
}

/// How the connection goes on after a command.
pub(super) enum Flow {
    /// With the next one.
    Continue,
    /// Not at all: it closes once the output is written.
    Close,
    /// With further steps of this one.
    Long(Box<dyn Long>),
}

/// A command in bounded steps. Between two of them the connection lets others run.
pub(super) trait Long: Send {
    /// Goes on for about a millisecond at most.
    fn step(&mut self, cx: &mut Context<'_>) -> Result<Progress, CommandError>;
}

/// What a step led to.
pub(super) enum Progress {
    /// There is more to do, and nothing in the output yet.
    More,
    /// The reply is in the output.
    Done,
}

type Outcome = Result<Flow, CommandError>;
type Handler = fn(&mut Context<'_>, Args<'_>) -> Outcome;

const DONE: Outcome = Ok(Flow::Continue);

/// Executes one request, its reply or error at the end of the output.
pub(super) fn execute(cx: &mut Context<'_>, args: Args<'_>) -> Flow {
    let start = cx.out.len();
    run(cx, args).unwrap_or_else(|error| {
        fail(cx, start, &error);
        Flow::Continue
    })
}

/// Takes one step of a long command; `true` once it has ended.
pub(super) fn step(cx: &mut Context<'_>, long: &mut dyn Long) -> bool {
    let start = cx.out.len();
    match long.step(cx) {
        Ok(Progress::More) => false,
        Ok(Progress::Done) => true,
        Err(error) => {
            fail(cx, start, &error);
            true
        }
    }
}

/// Replies with an error to a request that is not executed.
pub(super) fn refuse(cx: &mut Context<'_>, error: &dyn Display) {
    cx.session.counts.errors += 1;
    cx.reply().error(&error.to_string());
}

fn fail(cx: &mut Context<'_>, start: usize, error: &CommandError) {
    cx.out.truncate(start);
    refuse(cx, error);
}

fn run(cx: &mut Context<'_>, args: Args<'_>) -> Outcome {
    let Some(index) = table::find(&args[0]) else { return Err(refused::explain(args)) };
    let command = &TABLE[index];
    cx.session.counts.call(index, &cx.shared.stats);
    let (command, call) = resolve(command, Call::of(index), args)?;
    cx.session.call = call;
    if !cx.session.authenticated && !command.flags.has(NO_AUTH) {
        return Err(CommandError::NoAuth);
    }
    if cx.shared.monitors.any() && !command.flags.has(ADMIN) {
        cx.shared.monitors.show(cx.now(), cx.session.client.peer, args);
    }
    (command.handler)(cx, args)
}

/// The subcommand that `args` name, if `command` has any; with the number of arguments checked.
fn resolve(
    command: &'static Command,
    call: Call,
    args: Args<'_>,
) -> Result<(&'static Command, Call), CommandError> {
    if !command.takes(args.len()) {
        return Err(CommandError::Arity(command.name));
    }
    let Some(name) = args.get(1).filter(|_| !command.subcommands.is_empty()) else {
        return Ok((command, call));
    };
    let Some(index) = command.subcommands.iter().position(|sub| sub.is_named(name)) else {
        return Err(CommandError::unknown_subcommand(command, name));
    };
    let sub = &command.subcommands[index];
    if !sub.takes(args.len()) {
        return Err(CommandError::Arity(sub.name));
    }
    Ok((sub, call.with_subcommand(index)))
}

/// Takes the first step of a command that may be long.
fn begin(cx: &mut Context<'_>, mut long: impl Long + 'static) -> Outcome {
    match long.step(cx)? {
        Progress::Done => DONE,
        Progress::More => Ok(Flow::Long(Box::new(long))),
    }
}

/// Whether `arg` is this word, in whatever case.
fn is(arg: &[u8], word: &str) -> bool {
    arg.eq_ignore_ascii_case(word.as_bytes())
}

fn integer(arg: &[u8]) -> Result<i64, CommandError> {
    super::number::strict_number(arg).ok_or(CommandError::NotAnInteger)
}
