//! How long commands take: for the slow log, and for the statistics of a sample of them.
//!
//! A request is timed if it is in the sample, or if [`SlowLog::times`](crate::resp::slowlog::SlowLog::times) it. Steps of
//! long commands are always timed: they take so long that the clock does not matter. What others execute meanwhile does
//! not count, nor does the time that a command waits.

use std::time::Duration;

use tokio::time::Instant;

use super::context::{Context, Handler};
use super::entry::Command;
use crate::model::timestamp;
use crate::resp::Args;
use crate::resp::slowlog::{self, Running, Shown};

/// A request whose execution has begun.
pub(super) struct Timing {
    started: Option<Instant>,
    is_sampled: bool,
}

impl Timing {
    #[inline]
    pub(super) fn begin(cx: &mut Context<'_>, args: Args<'_>, command: &Command) -> Timing {
        let executes_others = matches!(command.handler, Handler::Dispatching(_));
        let is_sampled = cx.session.counts.is_timed();
        let is_timed = is_sampled || cx.shared.slowlog.times(args, executes_others);
        Timing { started: is_timed.then(Instant::now), is_sampled }
    }

    /// Ends the first part of a request, which is all of it unless it `is_long`; `slot` is the index of its counters.
    #[inline]
    pub(super) fn end(self, cx: &mut Context<'_>, args: Args<'_>, slot: usize, is_long: bool) {
        if self.started.is_some() || is_long {
            self.record(cx, args, slot, is_long);
        }
    }

    #[cold]
    fn record(self, cx: &mut Context<'_>, args: Args<'_>, slot: usize, is_long: bool) {
        let took = self.started.map_or(Duration::ZERO, |started| started.elapsed());
        // The parts of a transaction are in the log as a whole.
        let is_part = cx.session.is_executing || cx.keyspace.is_locked();
        if is_long && !is_part {
            let running = Running { slot, is_sampled: self.is_sampled, took, shown: shown(args) };
            cx.session.running = Some(Box::new(running));
            return;
        }
        if self.is_sampled {
            cx.shared.stats.time(slot, took);
        }
        if !is_part {
            note(cx, took, || shown(args));
        }
    }
}

/// Runs a step of a long command; returns whether that was the last, as `run` does.
pub(super) fn step(cx: &mut Context<'_>, run: impl FnOnce(&mut Context<'_>) -> bool) -> bool {
    let started = Instant::now();
    let is_done = run(cx);
    let took = started.elapsed();
    if let Some(running) = &mut cx.session.running {
        running.took += took;
    }
    if is_done && let Some(running) = cx.session.running.take() {
        if running.is_sampled {
            cx.shared.stats.time(running.slot, running.took);
        }
        note(cx, running.took, || running.shown);
    }
    is_done
}

fn note(cx: &Context<'_>, took: Duration, shown: impl FnOnce() -> Shown) {
    if cx.shared.slowlog.is_slow(took) {
        let seconds = timestamp::unix_millis(cx.shared.env.wall_clock()) / 1000;
        cx.shared.slowlog.add(took, seconds, &cx.session.client, shown());
    }
}

/// The arguments for the log, without passwords.
fn shown(args: Args<'_>) -> Shown {
    let has_password = ["auth", "hello"].iter().any(|name| args[0].eq_ignore_ascii_case(name.as_bytes()));
    if has_password && args.len() > 1 {
        vec![args[0].into(), b"(redacted)"[..].into()]
    } else {
        slowlog::shown(args)
    }
}
