//! Makes room for a request that writes more than a single write may evict for.
//!
//! It evicts in bounded steps before the request locks or changes anything. The store's own eviction, under the lock of a
//! key, is bounded by a number of keys: many small ones may have to go for a large value.

use super::context::{Context, Dispatch, Flow, Long, Outcome, Progress, begin};
use super::entry::{Command, DENY_OOM};
use super::error::CommandError;
use crate::resp::Args;
use crate::resp::args::OwnedArgs;
use crate::time_slice::TimeSlice;

/// Bytes that a cell takes beside its key and its value, rounded up.
const OVERHEAD: usize = 64;

/// Executes a request, after making room for it if it needs that; `execute` executes it.
#[inline]
pub(super) fn for_request(
    cx: &mut Context<'_>,
    args: Args<'_>,
    command: &'static Command,
    index: usize,
    execute: Dispatch,
) -> Option<Outcome> {
    if !cx.shared.store.evicts() || cx.keyspace.is_locked() {
        return None;
    }
    let bytes = estimate(cx, args, command);
    let is_needed = bytes > 0 && cx.shared.store.needs_eviction(bytes);
    is_needed.then(|| begin(cx, MakeRoom { args: args.to_owned(), index, bytes, execute, running: None }))
}

/// By how many bytes a request grows the cells at most, unless it is one that writes more than its arguments.
fn estimate(cx: &Context<'_>, args: Args<'_>, command: &Command) -> u64 {
    let (bytes, keys) = match &cx.session.queue {
        Some(queue) if command.name == "exec" => (queue.bytes(), queue.len()),
        _ if command.flags.has(DENY_OOM) || command.name.starts_with("eval") => {
            (args.iter().map(<[u8]>::len).sum(), args.len())
        }
        _ => (0, 0),
    };
    bytes.saturating_add(keys.saturating_mul(OVERHEAD)) as u64
}

/// A request that waits for room, and then runs.
struct MakeRoom {
    args: OwnedArgs,
    index: usize,
    bytes: u64,
    execute: Dispatch,
    /// What the request has begun, if it is long itself.
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
        match (self.execute)(cx, self.args.as_args(), self.index) {
            Ok(Flow::Continue | Flow::Close) => Ok(Progress::Done),
            Ok(Flow::Wait(mut wait, _)) => wait.try_reply(cx, true).map(|_| Progress::Done),
            Ok(Flow::Long(long)) => {
                self.running = Some(long);
                Ok(Progress::More)
            }
            // It has counted as a failure.
            Err(error) => {
                cx.fail(start, &error);
                Ok(Progress::Done)
            }
        }
    }
}
