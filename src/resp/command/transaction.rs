//! `MULTI`, `EXEC`, `WATCH`: requests that are one step to all other clients of this node.
//!
//! ```text
//!   MULTI ──► queue (each is checked, nothing is executed) ──► EXEC:
//!      lock the ranges of all keys ──► has a watched key changed? ──► execute what has keys, and SELECT ──► unlock
//!      ──► execute what has none (PUBLISH, PING, …) ──► reply
//! ```
//!
//! Peers take the writes cell by cell, so clients of other nodes may see some of them before the others, and a write
//! there that is concurrent decides for its key alone. A request without keys runs after the locks are released: it
//! could take long or wait for other locks, and the keys are none of its concern. Those that concern all keys are not
//! allowed.

use std::sync::atomic::Ordering::Relaxed;

use super::context::{Context, DONE, Dispatch, Flow, Long, Outcome, Progress, begin};
use super::entry::{CROSSES, Command, DENY_OOM, NO_MULTI, RUNS_SCRIPT, SELECTS, resolve};
use super::error::{CommandError, shown_name};
use super::many::{self, Each};
use super::pubsub::Deferred;
use super::rights;
use super::script;
use super::several::other_database;
use super::table::{TABLE, slot};
use crate::model::Database;
use crate::resp::Args;
use crate::resp::args::OwnedArgs;
use crate::resp::call::Call;
use crate::resp::transaction::{Effect, MAX_BYTES, MAX_REQUESTS, MAX_WATCHED, Queued};
use crate::time_slice::TimeSlice;

pub(super) fn multi(cx: &mut Context<'_>, _args: Args<'_>) -> Outcome {
    if cx.session.queue.is_some() {
        return Err(CommandError::said("ERR MULTI calls can not be nested"));
    }
    cx.session.start_transaction();
    cx.reply().ok();
    DONE
}

/// Keeps a request for `EXEC`; `index` is that of its command in the table.
///
/// # Errors
/// If it can be told that it would fail, or that it cannot be part of a transaction. `EXEC` then executes nothing.
pub(super) fn queue(cx: &mut Context<'_>, args: Args<'_>, index: usize) -> Outcome {
    cx.session.call = Call::of(index);
    if let Err(error) = admit(cx, args, &TABLE[index], index) {
        cx.shared.stats.reject(slot(cx.session.call));
        if let Some(queue) = &mut cx.session.queue {
            queue.break_off();
        }
        return Err(error);
    }
    cx.reply().simple("QUEUED");
    DONE
}

fn admit(
    cx: &mut Context<'_>,
    args: Args<'_>,
    command: &'static Command,
    index: usize,
) -> Result<(), CommandError> {
    let (command, call) = resolve(command, Call::of(index), args)?;
    cx.session.call = call;
    if cx.session.is_limited() {
        rights::check(cx, args, command, call)?;
    }
    if command.flags.has(NO_MULTI) {
        let name = shown_name(command.name);
        return Err(CommandError::unsupported(
            &format!("{name} inside a transaction"),
            "it concerns all keys, or what the connection receives",
            "Send it before MULTI or after EXEC",
        ));
    }
    if command.flags.has(RUNS_SCRIPT) {
        script::check(cx, command.name)?;
    }
    if command.flags.has(DENY_OOM) {
        cx.keyspace.store().check_write(1)?;
    }
    let effect = effect(cx, args, command);
    let Some(queue) = &mut cx.session.queue else { return Ok(()) };
    let is_within = queue.push(index, command.keys, effect, args);
    cx.session.client.queued_bytes.store(queue.bytes(), Relaxed);
    cx.session.client.queued.store(i64::try_from(queue.len()).unwrap_or(i64::MAX), Relaxed);
    if !is_within {
        return Err(CommandError::said(format!(
            "ERR a transaction has at most {MAX_REQUESTS} commands and keys, and {MAX_BYTES} bytes: send it in parts, or \
             without MULTI"
        )));
    }
    Ok(())
}

/// What a request is to the others of its transaction. One that names no database that exists will fail.
fn effect(cx: &Context<'_>, args: Args<'_>, command: &Command) -> Effect {
    if command.flags.has(SELECTS) {
        cx.database(&args[1]).map_or(Effect::Own, Effect::Selects)
    } else if command.flags.has(CROSSES) {
        other_database(cx, args).map_or(Effect::Own, Effect::Reaches)
    } else {
        Effect::Own
    }
}

pub(super) fn discard(cx: &mut Context<'_>, _args: Args<'_>) -> Outcome {
    if cx.session.queue.is_none() {
        return Err(CommandError::said("ERR DISCARD without MULTI"));
    }
    cx.session.end_transaction();
    cx.reply().ok();
    DONE
}

pub(super) fn watch(cx: &mut Context<'_>, args: Args<'_>) -> Outcome {
    if cx.session.queue.is_some() {
        return Err(CommandError::said("ERR WATCH inside MULTI is not allowed"));
    }
    many::each(cx, args, Watch)
}

struct Watch;

impl Each for Watch {
    fn take(&mut self, cx: &mut Context<'_>, args: Args<'_>, at: usize) -> Result<(), CommandError> {
        let stored = cx.keyspace.stored(&args[at]);
        let seen = cx.keyspace.seen(&stored, cx.now());
        if cx.session.watched.get_or_insert_default().add(stored, seen) {
            Ok(())
        } else {
            Err(CommandError::said(format!(
                "ERR a connection watches at most {MAX_WATCHED} keys: UNWATCH first"
            )))
        }
    }

    fn end(&mut self, cx: &mut Context<'_>) {
        cx.reply().ok();
    }
}

pub(super) fn unwatch(cx: &mut Context<'_>, _args: Args<'_>) -> Outcome {
    cx.session.watched = None;
    cx.reply().ok();
    DONE
}

/// Executes the queued requests, each by `dispatch`.
pub(super) fn exec(cx: &mut Context<'_>, args: Args<'_>, dispatch: Dispatch) -> Outcome {
    let outcome = execute(cx, dispatch);
    let deferred = Deferred::take(cx, None);
    if let Ok(Some((requests, Replies { begin: first, ends }))) = outcome {
        let replies = cx.out.split_off(first);
        let exec = args.to_owned();
        return begin(cx, Rest { deferred, requests, replies, ends, at: 0, dispatch, running: None, exec });
    }
    show_exec(cx, args);
    outcome?;
    begin(cx, deferred)
}

/// Shows `EXEC` to the monitors, once what it executes was shown.
fn show_exec(cx: &Context<'_>, args: Args<'_>) {
    if cx.shared.monitors.any() {
        cx.shared.monitors.show(cx.now(), cx.session.database(), &cx.session.client.peer, args, None);
    }
}

/// Executes the requests with keys; returns all requests if there are others.
fn execute(cx: &mut Context<'_>, dispatch: Dispatch) -> Result<Option<(Vec<Queued>, Replies)>, CommandError> {
    if cx.session.queue.is_none() {
        return Err(CommandError::said("ERR EXEC without MULTI"));
    }
    let (queue, watched) = cx.session.end_transaction();
    let generation = queue.as_ref().map(|queue| queue.generation);
    let Some(requests) = queue.and_then(|queue| queue.requests()) else {
        return Err(CommandError::said("EXECABORT Transaction discarded because of previous errors."));
    };
    if cx.session.may_lack && requests.iter().any(Queued::has_keys) {
        return Err(CommandError::said(format!(
            "EXECABORT Transaction discarded because of: {}",
            CommandError::Loading
        )));
    }
    let watched_keys = watched.iter().filter_map(|(stored, _)| Database::of(stored));
    let keys = requests.iter().flat_map(Queued::keys).chain(watched_keys);
    let replies = cx.together_across(keys, |cx| {
        let now = cx.now();
        let is_changed = watched.iter().any(|(stored, seen)| seen.is_changed(cx.keyspace.seen(stored, now)));
        (!is_changed).then(|| {
            // Unless users were reloaded, the rights for the keys were checked when the requests were queued.
            cx.session.are_rights_checked = generation == Some(cx.session.generation());
            let replies = execute_with_keys(cx, &requests, dispatch);
            cx.session.are_rights_checked = false;
            replies
        })
    });
    cx.publish();
    match replies {
        None => {
            cx.reply().null_array();
            Ok(None)
        }
        Some(_) if requests.iter().all(Queued::needs_lock) => Ok(None),
        Some(replies) => Ok(Some((requests, replies))),
    }
}

/// The replies of the requests that were executed while the keys were locked, in the output.
struct Replies {
    /// Where the first of them begins.
    begin: usize,
    /// Where that of each request ends, relative to `begin`; for another request, where it would be.
    ends: Vec<usize>,
}

fn execute_with_keys(cx: &mut Context<'_>, requests: &[Queued], dispatch: Dispatch) -> Replies {
    cx.reply().array(requests.len());
    let begin = cx.out.len();
    let ends = requests.iter().map(|request| {
        if request.needs_lock() {
            let start = cx.out.len();
            if let Err(error) = complete(cx, request, dispatch) {
                cx.fail(start, &error);
            }
        }
        cx.out.len() - begin
    });
    Replies { begin, ends: ends.collect() }
}

/// Executes a request to its end.
fn complete(cx: &mut Context<'_>, request: &Queued, dispatch: Dispatch) -> Result<(), CommandError> {
    let flow = dispatch(cx, request.args(), request.command)?;
    if let Flow::Long(mut long) = flow {
        while let Progress::More = long.step(cx)? {}
    }
    Ok(())
}

/// `EXEC`, once the requests with keys have been executed: executes the others, and replies to all in their order.
struct Rest {
    deferred: Deferred,
    requests: Vec<Queued>,
    replies: Vec<u8>,
    ends: Vec<usize>,
    /// The next request.
    at: usize,
    dispatch: Dispatch,
    /// A long command that has begun, and where its reply begins in the output.
    running: Option<(Box<dyn Long>, usize)>,
    /// The request `EXEC` itself, for monitors.
    exec: OwnedArgs,
}

impl Long for Rest {
    fn step(&mut self, cx: &mut Context<'_>) -> Result<Progress, CommandError> {
        if let Progress::More = self.deferred.step(cx)? {
            return Ok(Progress::More);
        }
        cx.session.is_executing = true;
        let time = TimeSlice::begin();
        let is_done = loop {
            if self.at == self.requests.len() {
                break true;
            }
            if time.is_over() {
                break false;
            }
            self.advance(cx);
        };
        cx.session.is_executing = false;
        if is_done {
            show_exec(cx, self.exec.as_args());
        }
        Ok(if is_done { Progress::Done } else { Progress::More })
    }
}

impl Rest {
    /// Replies to the next request, or runs a step of the long one that has begun.
    fn advance(&mut self, cx: &mut Context<'_>) {
        if self.requests[self.at].needs_lock() {
            let begin = self.at.checked_sub(1).map_or(0, |before| self.ends[before]);
            cx.out.extend_from_slice(&self.replies[begin..self.ends[self.at]]);
        } else {
            let (start, progress) = match self.running.take() {
                Some((long, start)) => (start, Self::step_of(cx, long)),
                None => (cx.out.len(), self.begin(cx)),
            };
            match progress {
                Ok(Some(long)) => {
                    self.running = Some((long, start));
                    return;
                }
                Ok(None) => {}
                Err(error) => cx.fail(start, &error),
            }
        }
        self.at += 1;
    }

    /// Begins the next request; returns it if it is long.
    fn begin(&self, cx: &mut Context<'_>) -> Result<Option<Box<dyn Long>>, CommandError> {
        let request = &self.requests[self.at];
        match (self.dispatch)(cx, request.args(), request.command)? {
            Flow::Continue | Flow::Close => Ok(None),
            Flow::Long(long) => Ok(Some(long)),
            // It replies with what holds now: in Redis, too, nothing in a transaction waits.
            Flow::Wait(mut wait, _) => wait.try_reply(cx, true).map(|_| None),
        }
    }

    /// Runs a step of a long command; returns it if there is more to do.
    fn step_of(cx: &mut Context<'_>, mut long: Box<dyn Long>) -> Result<Option<Box<dyn Long>>, CommandError> {
        Ok(match long.step(cx)? {
            Progress::More => Some(long),
            Progress::Done => None,
        })
    }
}
