//! Commands about deadlines.

use super::context::{Context, DONE, Outcome};
use super::options::{ExpireOptions, Moment};
use crate::model::{Deadline, Time};
use crate::resp::Args;
use crate::store::{Live, Write};

pub(super) fn expire(cx: &mut Context<'_>, args: Args<'_>) -> Outcome {
    set_deadline(cx, args, Moment { amount: &args[2], in_seconds: true, from_now: true }, "expire")
}

pub(super) fn pexpire(cx: &mut Context<'_>, args: Args<'_>) -> Outcome {
    set_deadline(cx, args, Moment { amount: &args[2], in_seconds: false, from_now: true }, "pexpire")
}

pub(super) fn expireat(cx: &mut Context<'_>, args: Args<'_>) -> Outcome {
    set_deadline(cx, args, Moment { amount: &args[2], in_seconds: true, from_now: false }, "expireat")
}

pub(super) fn pexpireat(cx: &mut Context<'_>, args: Args<'_>) -> Outcome {
    set_deadline(cx, args, Moment { amount: &args[2], in_seconds: false, from_now: false }, "pexpireat")
}

fn set_deadline(cx: &mut Context<'_>, args: Args<'_>, moment: Moment<'_>, command: &'static str) -> Outcome {
    let options = ExpireOptions::parse(args.tail(3))?;
    let deadline = moment.signed_deadline(cx.now(), command)?;
    let done = cx.keyspace.write(cx.batch, &args[1], |live| match live {
        Some(live) if options.allow(live.deadline(), deadline) => (Write::Deadline(Some(deadline)), true),
        _ => (Write::Keep, false),
    })?;
    cx.reply().int(i64::from(done));
    DONE
}

pub(super) fn persist(cx: &mut Context<'_>, args: Args<'_>) -> Outcome {
    let done = cx.keyspace.write(cx.batch, &args[1], |live| match live.and_then(Live::deadline) {
        Some(_) => (Write::Deadline(None), true),
        None => (Write::Keep, false),
    })?;
    cx.reply().int(i64::from(done));
    DONE
}

pub(super) fn ttl(cx: &mut Context<'_>, args: Args<'_>) -> Outcome {
    show_deadline(cx, args, |deadline, now| seconds(left(deadline, now)))
}

pub(super) fn pttl(cx: &mut Context<'_>, args: Args<'_>) -> Outcome {
    show_deadline(cx, args, left)
}

pub(super) fn expiretime(cx: &mut Context<'_>, args: Args<'_>) -> Outcome {
    show_deadline(cx, args, |deadline, _| seconds(deadline.as_unix_millis()))
}

pub(super) fn pexpiretime(cx: &mut Context<'_>, args: Args<'_>) -> Outcome {
    show_deadline(cx, args, |deadline, _| deadline.as_unix_millis())
}

/// Milliseconds from `now` to a future deadline.
fn left(deadline: Deadline, now: Time) -> u64 {
    deadline.as_unix_millis().saturating_sub(now.as_unix_millis())
}

/// Milliseconds in seconds, rounded as Redis rounds them.
fn seconds(millis: u64) -> u64 {
    millis.saturating_add(500) / 1000
}

/// Replies with `show` of the deadline and the present time; -1 without a deadline, -2 without the key.
fn show_deadline(cx: &mut Context<'_>, args: Args<'_>, show: fn(Deadline, Time) -> u64) -> Outcome {
    let now = cx.now();
    let shown = cx.keyspace.peek(&args[1], now, |live| match live.map(Live::deadline) {
        None => -2,
        Some(None) => -1,
        Some(Some(deadline)) => i64::try_from(show(deadline, now)).unwrap_or(i64::MAX),
    });
    cx.reply().int(shown);
    DONE
}
