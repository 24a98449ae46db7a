//! Makes room for requests that need more of it than a single write may evict for.
//!
//! A write evicts under the lock of its key, and so only a bounded number of keys. If many small ones have to go for a
//! large value, the request evicts in steps before it begins, while no key is locked. If it grows the cells by more than
//! its arguments, or peers have sent more meanwhile, it is refused; then it evicts in steps as well and runs again: nothing
//! of it was applied, or the same is applied again.

use super::context::{Context, Dispatch, Flow, Handler, Long, Outcome, Progress, begin};
use super::entry::{Command, DENY_OOM};
use super::error::CommandError;
use crate::resp::Args;
use crate::resp::args::OwnedArgs;
use crate::store::WriteError;
use crate::time_slice::TimeSlice;

/// Bytes that a cell takes beside its key and its value, rounded up.
const OVERHEAD: usize = 64;

/// How often a request runs again. Others may take the room that it has made, but hardly this often.
const MOST_TRIES: u32 = 8;

/// Executes a request whose command was admitted.
#[inline]
pub(super) fn run(
    cx: &mut Context<'_>,
    args: Args<'_>,
    command: &'static Command,
    dispatch: Dispatch,
) -> Outcome {
    if cx.shared.store.evicts() && !cx.keyspace.is_locked() {
        return run_evicting(cx, args, command, dispatch);
    }
    handle(cx, args, command, dispatch)
}

#[inline]
fn handle(cx: &mut Context<'_>, args: Args<'_>, command: &Command, dispatch: Dispatch) -> Outcome {
    match command.handler {
        Handler::Plain(handler) => handler(cx, args),
        Handler::Dispatching(handler) => handler(cx, args, dispatch),
    }
}

#[inline(never)]
fn run_evicting(
    cx: &mut Context<'_>,
    args: Args<'_>,
    command: &'static Command,
    dispatch: Dispatch,
) -> Outcome {
    let make_room =
        |bytes| MakeRoom { args: args.to_owned(), command, dispatch, bytes, tries: 0, running: None };
    let bytes = estimate(cx, args, command);
    if bytes > 0 && cx.shared.store.needs_eviction(bytes) {
        return begin(cx, make_room(bytes));
    }
    let start = cx.out.len();
    match handle(cx, args, command, dispatch) {
        Err(error) if can_retry(cx, &error) => {
            cx.out.truncate(start.max(cx.session.kept));
            let bytes = cx.batch.refused();
            begin(cx, make_room(bytes))
        }
        outcome => outcome,
    }
}

/// The bytes by which most requests with these arguments grow the cells at most; 0 if this one does not.
fn estimate(cx: &Context<'_>, args: Args<'_>, command: &Command) -> u64 {
    let of_arguments = || (args.iter().map(<[u8]>::len).sum(), args.len());
    let (bytes, cells) = match command.name {
        "exec" => cx.session.queue.as_ref().map_or((0, 0), |queue| (queue.bytes(), queue.len())),
        "eval" | "evalsha" => of_arguments(),
        _ if command.flags.has(DENY_OOM) => of_arguments(),
        _ => (0, 0),
    };
    bytes.saturating_add(cells.saturating_mul(OVERHEAD)) as u64
}

/// Whether a request failed because memory was full, and might not if keys were evicted.
pub(super) fn can_retry(cx: &Context<'_>, error: &CommandError) -> bool {
    matches!(error, CommandError::Write(WriteError::OutOfMemory))
        && !cx.keyspace.is_locked()
        && cx.shared.store.can_make_room(cx.batch)
}

/// A request that waits for room, and then runs.
struct MakeRoom {
    args: OwnedArgs,
    command: &'static Command,
    dispatch: Dispatch,
    bytes: u64,
    tries: u32,
    /// The rest of the request, if it takes several steps and has begun.
    running: Option<Box<dyn Long>>,
}

impl Long for MakeRoom {
    fn step(&mut self, cx: &mut Context<'_>) -> Result<Progress, CommandError> {
        if let Some(running) = &mut self.running {
            return running.step(cx);
        }
        let time = TimeSlice::begin();
        while cx.shared.store.evict_for(cx.batch, self.bytes) {
            if time.is_over() {
                return Ok(Progress::More);
            }
        }
        // If nothing was left to evict, the request finds out.
        let start = cx.out.len();
        match handle(cx, self.args.as_args(), self.command, self.dispatch) {
            Ok(Flow::Continue | Flow::Close) => Ok(Progress::Done),
            Ok(Flow::Wait(mut wait, _)) => wait.try_reply(cx, true).map(|_| Progress::Done),
            Ok(Flow::Long(long)) => {
                self.running = Some(long);
                Ok(Progress::More)
            }
            Err(error) if self.tries < MOST_TRIES && can_retry(cx, &error) => {
                cx.out.truncate(start.max(cx.session.kept));
                (self.bytes, self.tries) = (cx.batch.refused(), self.tries + 1);
                Ok(Progress::More)
            }
            Err(error) => Err(error),
        }
    }
}
