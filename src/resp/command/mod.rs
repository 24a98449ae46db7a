//! The commands: one table, and the functions behind it.
//!
//! **Purpose.** Find a request's command, make the checks that all commands share, and execute it.
//!
//! **Place in the picture.** Above the parser and the store, below the connection. A command executes at once and
//! writes to the connection's output. One that may take long runs in bounded steps, which the connection drives.
//!
//! ```text
//!   dispatch (this file) ──► table ──► the commands' functions, a file a group ──► context, entry ──► error
//! ```
//!
//! **Invariants.**
//! - A command that fails leaves nothing but its error in the output.
//! - Nothing here blocks: no lock of the store is held longer than one closure, and there is no `.await`.

mod acl;
mod bitfield;
mod bits;
mod categories;
mod client;
mod cluster;
mod config;
mod connection;
mod context;
mod counter;
mod dump;
mod entry;
mod error;
mod expiry;
mod info;
mod inspect;
mod introspect;
mod keyspace;
mod lcs;
mod many;
mod no_cluster;
mod options;
mod parts;
mod pubsub;
mod refused;
mod rights;
mod room;
mod sapwood;
mod script;
mod server;
mod several;
mod slow;
mod specs;
mod string;
mod sweep;
mod table;
mod timing;
mod tracking;
mod transaction;
mod wait;
mod watch;

pub(crate) use categories::catalog;
pub(super) use context::{Context, Flow, Long, Wait};
pub(super) use rights::{close_unwelcome, renew, renew_listener};

use std::fmt::Display;

use super::Args;
use super::call::Call;
use context::{Dispatch, Outcome, Progress};
use entry::{ADMIN, CONDITIONAL, CROSSES, Command, READ, SELECTS, SUBSCRIBED, UNQUEUED, WRITE, resolve};
use error::CommandError;
use options::SetOptions;
use table::{TABLE, WHOLE};
use timing::Timing;

/// The names of the commands and subcommands, in the order of their counters.
pub(crate) fn names() -> impl Iterator<Item = &'static str> {
    WHOLE.all().map(|command| command.name)
}

/// Executes one request; appends its reply or error to the output.
pub(super) fn execute(cx: &mut Context<'_>, args: Args<'_>) -> Flow {
    let start = cx.out.len();
    run(cx, args).unwrap_or_else(|error| {
        cx.fail(start, &error);
        Flow::Continue
    })
}

/// Runs one step of a long command, whose reply begins at `start` in the output; `true` once it has ended.
pub(super) fn step(cx: &mut Context<'_>, long: &mut dyn Long, start: usize) -> bool {
    timing::step(cx, |cx| match long.step(cx) {
        Ok(Progress::More) => false,
        Ok(Progress::Done) => true,
        Err(error) => {
            cx.session.counts.fail(table::slot(cx.session.call), &cx.shared.stats);
            cx.fail(start, &error);
            true
        }
    })
}

/// Lets a waiting command reply, if it can or this is the `last` time; `true` once it has.
pub(super) fn try_reply(cx: &mut Context<'_>, wait: &mut dyn Wait, last: bool) -> bool {
    let start = cx.out.len();
    wait.try_reply(cx, last).unwrap_or_else(|error| {
        cx.session.counts.fail(table::slot(cx.session.call), &cx.shared.stats);
        cx.fail(start, &error);
        true
    })
}

/// Replies with an error to a request that is not executed.
pub(super) fn refuse(cx: &mut Context<'_>, error: &dyn Display) {
    if let Some(queue) = &mut cx.session.queue {
        queue.break_off();
    }
    cx.fail(cx.out.len(), error);
}

fn run(cx: &mut Context<'_>, args: Args<'_>) -> Outcome {
    let found = table::find(&args[0]);
    if let Some(queue) = &mut cx.session.queue {
        match found {
            Some(index) if !TABLE[index].flags.has(UNQUEUED) => {
                return checked(cx, args, index, transaction::queue);
            }
            Some(index) if TABLE[index].takes(args.len()) => {}
            _ => queue.break_off(),
        }
    }
    let index = found.ok_or_else(|| refused::explain(args))?;
    checked(cx, args, index, dispatch)
}

/// Executes a request by `then`, which checks the rights for it. If it has many arguments and the rights are limited, they
/// are checked in steps before.
#[inline(always)] // `then` is a constant: so the usual request is a direct call.
fn checked(cx: &mut Context<'_>, args: Args<'_>, index: usize, then: Dispatch) -> Outcome {
    if cx.session.is_limited() && args.len() > rights::AT_ONCE {
        return rights::check_in_steps(cx, args, index, then);
    }
    then(cx, args, index)
}

/// Executes a request whose command has this index in the table.
fn dispatch(cx: &mut Context<'_>, args: Args<'_>, index: usize) -> Outcome {
    cx.session.call = Call::of(index);
    let command = match admit(cx, args, index) {
        Ok(command) => command,
        Err(error) => {
            cx.shared.stats.reject(table::slot(cx.session.call));
            return Err(error);
        }
    };
    let slot = table::slot(cx.session.call);
    cx.session.counts.call(slot, &cx.shared.stats);
    let timing = Timing::begin(cx, args, command);
    let outcome = room::run(cx, args, command, dispatch);
    if outcome.is_err() {
        cx.session.counts.fail(slot, &cx.shared.stats);
    }
    timing.end(cx, args, slot, matches!(outcome, Ok(Flow::Long(_))));
    outcome
}

/// Makes the checks that all commands share; returns the command or subcommand.
fn admit(cx: &mut Context<'_>, args: Args<'_>, index: usize) -> Result<&'static Command, CommandError> {
    let (command, call) = resolve(&TABLE[index], Call::of(index), args)?;
    cx.session.call = call;
    if cx.session.is_limited() {
        rights::check(cx, args, command, call)?;
    }
    if cx.session.is_subscribed() && !command.flags.has(SUBSCRIBED) {
        return Err(CommandError::Subscribed(command.name));
    }
    // `EXEC` is shown after what it executes.
    if cx.shared.monitors.any() && command.name != "exec" {
        show(cx, args, command);
    }
    if cx.session.may_lack && depends_on_keys(args, command) && lacks(cx, args, command) {
        return Err(CommandError::Loading);
    }
    if cx.session.tracking.is_some() {
        note_reads(cx, args, command, &TABLE[index]);
    }
    Ok(command)
}

/// Shows a request to the monitors.
fn show(cx: &Context<'_>, args: Args<'_>, command: &Command) {
    if command.flags.has(ADMIN) {
        return;
    }
    let selected = cx.session.database();
    // As in Redis, a SELECT is shown with the database that it selects.
    let shown = if command.flags.has(SELECTS) { cx.database(&args[1]).unwrap_or(selected) } else { selected };
    // A client that ends its own monitoring is not shown that.
    let unless = (command.name == "reset").then_some(cx.session.client.id);
    let from: &dyn Display = if cx.session.runs_script { &"lua" } else { &cx.session.client.peer };
    cx.shared.monitors.show(cx.now(), shown, from, args, unless);
}

/// Whether a command reads its keys, or writes depending on their values. `DEL` does not: it deletes existing keys,
/// and only counts them.
fn depends_on_keys(args: Args<'_>, command: &Command) -> bool {
    let is_conditional_set = || match command.name {
        "set" => SetOptions::parse(args.tail(3)).is_ok_and(SetOptions::depends_on_key),
        "msetex" => several::msetex_depends_on_keys(args),
        _ => false,
    };
    command.flags.has(READ) || command.flags.has(CONDITIONAL) || is_conditional_set()
}

/// Whether one of a command's keys is absent. Commands with many keys check each when they reach it.
fn lacks(cx: &Context<'_>, args: Args<'_>, command: &Command) -> bool {
    let other = if command.flags.has(CROSSES) { several::other_database(cx, args) } else { None };
    let mut keys = command.keys.reached(args, cx.keyspace.database, other);
    args.len() <= many::AT_ONCE && keys.any(|(database, key)| cx.is_absent_in(database, key))
}

/// Records the keys that a tracking client is about to read, and drops those that it is about to write if it wants no
/// invalidations of its own writes. `CLIENT CACHING` applies to the next command that is not
/// `CLIENT`.
fn note_reads(cx: &mut Context<'_>, args: Args<'_>, command: &Command, parent: &Command) {
    let Some(mode) = cx.session.tracking.as_mut().filter(|_| parent.name != "client") else { return };
    let keys = command.keys.places(args).filter_map(|place| args.get(place));
    if mode.notes_reads() && command.flags.has(READ) {
        cx.shared.tracking.note(cx.session.client.id, keys);
    } else if mode.no_loop && command.flags.has(WRITE) {
        cx.shared.tracking.forget(cx.session.client.id, keys);
    }
    mode.caching = false;
}
