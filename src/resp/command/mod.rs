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

mod bitfield;
mod bits;
mod client;
mod cluster;
mod config;
mod connection;
mod context;
mod counter;
mod entry;
mod error;
mod expiry;
mod info;
mod introspect;
mod keyspace;
mod lcs;
mod many;
mod options;
mod parts;
mod pubsub;
mod refused;
mod sapwood;
mod script;
mod server;
mod several;
mod string;
mod sweep;
mod table;
mod tracking;
mod transaction;
mod wait;
mod watch;

pub(super) use context::{Context, Flow, Long, Wait};

use std::fmt::Display;

use super::Args;
use super::call::Call;
use context::{Handler, Outcome, Progress};
use entry::{ADMIN, CONDITIONAL, Command, NO_AUTH, READ, SUBSCRIBED, UNQUEUED, resolve};
use error::CommandError;
use options::SetOptions;
use table::TABLE;

/// The commands' names, in the order of their indexes in [`Call`] and the counters.
pub(crate) fn names() -> impl Iterator<Item = &'static str> {
    TABLE.iter().map(|command| command.name)
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
    match long.step(cx) {
        Ok(Progress::More) => false,
        Ok(Progress::Done) => true,
        Err(error) => {
            cx.session.counts.fail();
            cx.fail(start, &error);
            true
        }
    }
}

/// Lets a waiting command reply, if it can or this is the `last` time; `true` once it has.
pub(super) fn try_reply(cx: &mut Context<'_>, wait: &mut dyn Wait, last: bool) -> bool {
    let start = cx.out.len();
    wait.try_reply(cx, last).unwrap_or_else(|error| {
        cx.session.counts.fail();
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
                return transaction::queue(cx, args, &TABLE[index], index);
            }
            Some(index) if TABLE[index].takes(args.len()) => {}
            _ => queue.break_off(),
        }
    }
    let index = found.ok_or_else(|| refused::explain(args))?;
    dispatch(cx, args, index)
}

/// Executes a request whose command has this index in the table.
fn dispatch(cx: &mut Context<'_>, args: Args<'_>, index: usize) -> Outcome {
    cx.session.counts.call(index, &cx.shared.stats);
    call(cx, args, index).inspect_err(|_| cx.session.counts.fail())
}

fn call(cx: &mut Context<'_>, args: Args<'_>, index: usize) -> Outcome {
    let command = &TABLE[index];
    let (command, call) = resolve(command, Call::of(index), args)?;
    cx.session.call = call;
    if !cx.session.authenticated && !command.flags.has(NO_AUTH) {
        return Err(CommandError::NoAuth);
    }
    if cx.session.is_subscribed() && !command.flags.has(SUBSCRIBED) {
        return Err(CommandError::Subscribed(command.name));
    }
    if cx.shared.monitors.any() && !command.flags.has(ADMIN) {
        cx.shared.monitors.show(cx.now(), cx.session.client.peer, args);
    }
    if cx.session.may_lack && depends_on_keys(args, command) && lacks(cx, args, command) {
        return Err(CommandError::Loading);
    }
    if cx.session.tracking.is_some() {
        note_reads(cx, args, command, &TABLE[index]);
    }
    match command.handler {
        Handler::Plain(handler) => handler(cx, args),
        Handler::Dispatching(handler) => handler(cx, args, dispatch),
    }
}

/// Whether a command reads its keys, or writes depending on their values. `DEL` does not: it deletes existing keys,
/// and only counts them.
fn depends_on_keys(args: Args<'_>, command: &Command) -> bool {
    let is_conditional_set =
        || command.name == "set" && SetOptions::parse(args.tail(3)).is_ok_and(SetOptions::depends_on_key);
    command.flags.has(READ) || command.flags.has(CONDITIONAL) || is_conditional_set()
}

/// Whether one of a command's keys is absent. Commands with many keys check each when they reach it.
fn lacks(cx: &Context<'_>, args: Args<'_>, command: &Command) -> bool {
    let mut keys = command.keys.places(args).filter_map(|place| args.get(place));
    args.len() <= many::AT_ONCE && keys.any(|key| cx.is_absent(key))
}

/// Records the keys that a tracking client is about to read. `CLIENT CACHING` applies to the next command that is not
/// `CLIENT`.
fn note_reads(cx: &mut Context<'_>, args: Args<'_>, command: &Command, parent: &Command) {
    let Some(mode) = cx.session.tracking.as_mut().filter(|_| parent.name != "client") else { return };
    if mode.notes_reads() && command.flags.has(READ) {
        let keys = command.keys.places(args).filter_map(|place| args.get(place));
        cx.shared.tracking.note(cx.session.client.id, keys);
    }
    mode.caching = false;
}
