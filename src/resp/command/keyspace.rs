//! Commands on keys of any type.

use super::context::{Context, DONE, Outcome, integer, is};
use super::error::CommandError;
use super::many::{self, Each};
use super::sweep::{self, ScanRequest};
use crate::resp::Args;
use crate::store::Write;

/// How many keys `SCAN` visits by default, as in Redis.
const SCAN_COUNT: usize = 10;

/// Deletes keys and counts them.
#[derive(Default)]
struct Delete(i64);

impl Each for Delete {
    fn take(&mut self, cx: &mut Context<'_>, args: Args<'_>, at: usize) -> Result<(), CommandError> {
        let live = cx.keyspace.write(cx.batch, &args[at], |live| (Write::Delete, live.is_some()))?;
        self.0 += i64::from(live);
        Ok(())
    }

    fn end(&mut self, cx: &mut Context<'_>) {
        cx.reply().int(self.0);
    }
}

pub(super) fn del(cx: &mut Context<'_>, args: Args<'_>) -> Outcome {
    many::each(cx, args, Delete::default())
}

/// Counts the keys that exist; with `TOUCHES` it accesses them too.
#[derive(Default)]
struct Exists<const TOUCHES: bool>(i64);

impl<const TOUCHES: bool> Each for Exists<TOUCHES> {
    const READS: bool = true;

    fn take(&mut self, cx: &mut Context<'_>, args: Args<'_>, at: usize) -> Result<(), CommandError> {
        let (key, now) = (&args[at], cx.now());
        let exists = if TOUCHES { cx.keyspace.touch(key, now) } else { !cx.is_absent(key) };
        self.0 += i64::from(exists);
        Ok(())
    }

    fn end(&mut self, cx: &mut Context<'_>) {
        cx.reply().int(self.0);
    }
}

pub(super) fn exists(cx: &mut Context<'_>, args: Args<'_>) -> Outcome {
    many::each(cx, args, Exists::<false>::default())
}

pub(super) fn touch(cx: &mut Context<'_>, args: Args<'_>) -> Outcome {
    many::each(cx, args, Exists::<true>::default())
}

pub(super) fn kind(cx: &mut Context<'_>, args: Args<'_>) -> Outcome {
    let live = cx.keyspace.peek(&args[1], cx.now(), |live| live.is_some());
    cx.reply().simple(if live { "string" } else { "none" });
    DONE
}

pub(super) fn dbsize(cx: &mut Context<'_>, _args: Args<'_>) -> Outcome {
    sweep::count(cx)
}

pub(super) fn keys(cx: &mut Context<'_>, args: Args<'_>) -> Outcome {
    sweep::keys(cx, args)
}

pub(super) fn scan(cx: &mut Context<'_>, args: Args<'_>) -> Outcome {
    let cursor = std::str::from_utf8(&args[1]).ok().and_then(|cursor| cursor.parse().ok());
    let cursor = cursor.ok_or(CommandError::said("ERR invalid cursor"))?;
    let mut request = ScanRequest { cursor, pattern: None, count: SCAN_COUNT, strings: true };
    let mut at = 2;
    while let Some(word) = args.get(at) {
        let value = args.get(at + 1).ok_or(CommandError::Syntax)?;
        if is(word, "match") {
            request.pattern = Some(value);
        } else if is(word, "count") {
            let count = integer(value)?;
            request.count =
                usize::try_from(count).ok().filter(|count| *count > 0).ok_or(CommandError::Syntax)?;
        } else if is(word, "type") {
            request.strings = is(value, "string");
        } else {
            return Err(CommandError::Syntax);
        }
        at += 2;
    }
    sweep::scan(cx, &request)
}

pub(super) fn randomkey(cx: &mut Context<'_>, _args: Args<'_>) -> Outcome {
    sweep::random_key(cx)
}
