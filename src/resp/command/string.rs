//! Commands on values.

use super::context::{Context, DONE, Outcome};
use super::error::CommandError;
use super::many::{self, Each};
use super::options::{Condition, Expiry, Moment, SetOptions, digest, getex as getex_options};
use crate::resp::{Args, Reply};
use crate::store::{Live, Write};

/// Most bytes in the reply of one command. Otherwise one request for the same large value a million times could
/// exhaust the node's memory.
const MAX_REPLY: usize = 256 << 20;

pub(super) fn get(cx: &mut Context<'_>, args: Args<'_>) -> Outcome {
    value(cx, &args[1]);
    DONE
}

/// Replies with the value of `key`.
fn value(cx: &mut Context<'_>, key: &[u8]) {
    let mut reply = Reply::new(cx.out, cx.session.proto);
    let found = cx.keyspace.read(key, cx.batch.now(), |live| {
        value_of(&mut reply, live);
        live.is_some()
    });
    cx.session.counts.lookup(found);
}

fn value_of(reply: &mut Reply<'_>, live: Option<Live<'_>>) {
    match live {
        Some(live) => reply.bulk(live.value()),
        None => reply.null(),
    }
}

/// `MGET`: adds one value after the other.
struct Values {
    /// The start of the reply in the output.
    start: usize,
}

impl Each for Values {
    const READS: bool = true;

    fn take(&mut self, cx: &mut Context<'_>, args: Args<'_>, at: usize) -> Result<(), CommandError> {
        value(cx, &args[at]);
        let is_too_large = cx.out.len() - self.start > MAX_REPLY;
        if is_too_large { Err(CommandError::ReplyTooLarge(MAX_REPLY)) } else { Ok(()) }
    }

    fn end(&mut self, _cx: &mut Context<'_>) {}
}

pub(super) fn mget(cx: &mut Context<'_>, args: Args<'_>) -> Outcome {
    let start = cx.out.len();
    cx.reply().array(args.len() - 1);
    many::each(cx, args, Values { start })
}

pub(super) fn strlen(cx: &mut Context<'_>, args: Args<'_>) -> Outcome {
    let len = cx.keyspace.read(&args[1], cx.now(), |live| live.map_or(0, |live| live.value().len()));
    cx.reply().int(i64::try_from(len).unwrap_or(i64::MAX));
    DONE
}

pub(super) fn set(cx: &mut Context<'_>, args: Args<'_>) -> Outcome {
    let (key, value) = (&args[1], &args[2]);
    if args.len() == 3 {
        cx.keyspace.write(cx.batch, key, |_| (Write::Set { value, deadline: None }, ()))?;
        cx.reply().ok();
        return DONE;
    }
    let options = SetOptions::parse(args.tail(3))?;
    // Refused whether or not the condition holds.
    cx.shared.store.check_lengths(key, value)?;
    let deadline = options.deadline(cx.now(), "set")?;
    let keep = options.expiry == Expiry::Keep;
    let mut reply = Reply::new(cx.out, cx.session.proto);
    let done = cx.keyspace.write(cx.batch, key, |live| {
        if options.returns_old {
            value_of(&mut reply, live);
        }
        if !options.condition.holds(live.map(Live::value)) {
            return (Write::Keep, false);
        }
        let kept = live.filter(|_| keep).and_then(Live::deadline);
        (Write::Set { value, deadline: deadline.or(kept) }, true)
    })?;
    match (options.returns_old, done) {
        (true, _) => {}
        (false, true) => reply.ok(),
        (false, false) => reply.null(),
    }
    DONE
}

pub(super) fn setnx(cx: &mut Context<'_>, args: Args<'_>) -> Outcome {
    let (key, value) = (&args[1], &args[2]);
    cx.shared.store.check_lengths(key, value)?;
    let done = cx.keyspace.write(cx.batch, key, |live| {
        if live.is_none() { (Write::Set { value, deadline: None }, true) } else { (Write::Keep, false) }
    })?;
    cx.reply().int(i64::from(done));
    DONE
}

pub(super) fn setex(cx: &mut Context<'_>, args: Args<'_>) -> Outcome {
    set_with_deadline(cx, args, true, "setex")
}

pub(super) fn psetex(cx: &mut Context<'_>, args: Args<'_>) -> Outcome {
    set_with_deadline(cx, args, false, "psetex")
}

fn set_with_deadline(
    cx: &mut Context<'_>,
    args: Args<'_>,
    in_seconds: bool,
    command: &'static str,
) -> Outcome {
    let (key, amount, value) = (&args[1], &args[2], &args[3]);
    let deadline = Some(Moment { amount, in_seconds, from_now: true }.deadline(cx.now(), command)?);
    cx.keyspace.write(cx.batch, key, |_| (Write::Set { value, deadline }, ()))?;
    cx.reply().ok();
    DONE
}

pub(super) fn mset(cx: &mut Context<'_>, args: Args<'_>) -> Outcome {
    if args.len().is_multiple_of(2) {
        return Err(CommandError::Arity("mset"));
    }
    // All pairs are checked before the first is written.
    for at in (1..args.len()).step_by(2) {
        cx.shared.store.check_lengths(&args[at], &args[at + 1])?;
    }
    many::each(cx, args, Pairs)
}

/// `MSET`: writes one pair after the other.
struct Pairs;

impl Each for Pairs {
    const WIDTH: usize = 2;

    fn take(&mut self, cx: &mut Context<'_>, args: Args<'_>, at: usize) -> Result<(), CommandError> {
        let (key, value) = (&args[at], &args[at + 1]);
        cx.keyspace.write(cx.batch, key, |_| (Write::Set { value, deadline: None }, ()))?;
        Ok(())
    }

    fn end(&mut self, cx: &mut Context<'_>) {
        cx.reply().ok();
    }
}

pub(super) fn getset(cx: &mut Context<'_>, args: Args<'_>) -> Outcome {
    let (key, value) = (&args[1], &args[2]);
    replace(cx, key, Write::Set { value, deadline: None })
}

pub(super) fn getdel(cx: &mut Context<'_>, args: Args<'_>) -> Outcome {
    replace(cx, &args[1], Write::Delete)
}

/// Replies with the value of `key` and writes, in one atomic step.
fn replace(cx: &mut Context<'_>, key: &[u8], write: Write<'_>) -> Outcome {
    let mut reply = Reply::new(cx.out, cx.session.proto);
    let found = cx.keyspace.write(cx.batch, key, |live| {
        value_of(&mut reply, live);
        (write, live.is_some())
    })?;
    cx.session.counts.lookup(found);
    DONE
}

pub(super) fn delex(cx: &mut Context<'_>, args: Args<'_>) -> Outcome {
    const WHICH: &str = "ERR Invalid condition. Use IFEQ, IFNE, IFDEQ, or IFDNE";
    let condition = match args.len() {
        2 => Condition::Always,
        4 => Condition::of_value(&args[2], &args[3])?.ok_or(CommandError::said(WHICH))?,
        _ => return Err(CommandError::Arity("delex")),
    };
    let is_deleted = cx.keyspace.write(cx.batch, &args[1], |live| {
        let may_delete = live.is_some() && condition.holds(live.map(Live::value));
        (if may_delete { Write::Delete } else { Write::Keep }, may_delete)
    })?;
    cx.reply().int(i64::from(is_deleted));
    DONE
}

pub(super) fn digest_of(cx: &mut Context<'_>, args: Args<'_>) -> Outcome {
    let found = cx.keyspace.read(&args[1], cx.now(), |live| live.map(|live| digest(live.value())));
    cx.session.counts.lookup(found.is_some());
    match found {
        Some(digest) => cx.reply().bulk(&digest),
        None => cx.reply().null(),
    }
    DONE
}

pub(super) fn getex(cx: &mut Context<'_>, args: Args<'_>) -> Outcome {
    let key = &args[1];
    let deadline = match getex_options(args.tail(2))? {
        Expiry::At(moment) => Some(moment.deadline(cx.now(), "getex")),
        Expiry::Remove => None,
        Expiry::Unsaid | Expiry::Keep => return get(cx, args),
    };
    let mut reply = Reply::new(cx.out, cx.session.proto);
    let outcome = cx.keyspace.write(cx.batch, key, |live| {
        value_of(&mut reply, live);
        match (live, deadline) {
            (None, _) => (Write::Keep, Ok(false)),
            (Some(_), Some(Ok(deadline))) => (Write::Deadline(Some(deadline)), Ok(true)),
            (Some(_), Some(Err(error))) => (Write::Keep, Err(error)),
            (Some(live), None) if live.deadline().is_none() => (Write::Keep, Ok(true)),
            (Some(_), None) => (Write::Deadline(None), Ok(true)),
        }
    })?;
    cx.session.counts.lookup(outcome?);
    DONE
}
