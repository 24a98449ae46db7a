//! Commands that change several keys in one step on this node: transactions of one command.
//!
//! Peers take the changes key by key, like those of `EXEC`.

use super::context::{Context, DONE, Outcome, integer, is};
use super::entry::COUNTED_PAIRS;
use super::error::CommandError;
use super::options::{Condition, Expiry, SetOptions};
use crate::model::{Database, Deadline};
use crate::resp::Args;
use crate::resp::transaction::MAX_REQUESTS;
use crate::store::{Live, Write};

const SAME: &str = "ERR source and destination objects are the same";

/// The value of a key and its deadline.
struct Held {
    value: Vec<u8>,
    deadline: Option<Deadline>,
}

/// What a key holds; `None` if it is absent.
fn held(cx: &Context<'_>, key: &[u8]) -> Option<Held> {
    cx.keyspace.read(key, cx.now(), |live| {
        live.map(|live: Live<'_>| Held { value: live.value().to_vec(), deadline: live.deadline() })
    })
}

fn exists(cx: &Context<'_>, key: &[u8]) -> bool {
    !cx.is_absent(key)
}

fn put(cx: &mut Context<'_>, key: &[u8], held: &Held) -> Result<(), CommandError> {
    let write = Write::Set { value: &held.value, deadline: held.deadline };
    Ok(cx.keyspace.write(cx.batch, key, |_| (write, ()))?)
}

fn delete(cx: &mut Context<'_>, key: &[u8]) -> Result<(), CommandError> {
    Ok(cx.keyspace.write(cx.batch, key, |_| (Write::Delete, ()))?)
}

pub(super) fn rename(cx: &mut Context<'_>, args: Args<'_>) -> Outcome {
    move_value(cx, args, false)?;
    cx.reply().ok();
    DONE
}

pub(super) fn renamenx(cx: &mut Context<'_>, args: Args<'_>) -> Outcome {
    let is_done = move_value(cx, args, true)?;
    cx.reply().int(i64::from(is_done));
    DONE
}

/// Moves the value and the deadline of one key to another; returns whether it did. What other nodes add to a counter
/// meanwhile stays with the old name, and is deleted with it.
fn move_value(cx: &mut Context<'_>, args: Args<'_>, only_if_free: bool) -> Result<bool, CommandError> {
    let (from, to) = (&args[1], &args[2]);
    cx.together([from, to].into_iter(), |cx| {
        let held = held(cx, from).ok_or(CommandError::said("ERR no such key"))?;
        if only_if_free && exists(cx, to) {
            return Ok(false);
        }
        if from != to {
            // First what may be refused.
            put(cx, to, &held)?;
            delete(cx, from)?;
        }
        Ok(true)
    })
}

pub(super) fn copy(cx: &mut Context<'_>, args: Args<'_>) -> Outcome {
    let (from, to) = (&args[1], &args[2]);
    let mut replaces = false;
    let selected = cx.keyspace.database;
    let mut target = selected;
    let mut at = 3;
    while let Some(word) = args.get(at) {
        match args.get(at + 1) {
            _ if is(word, "replace") => replaces = true,
            Some(database) if is(word, "db") => {
                target = cx.database(database)?;
                at += 1;
            }
            _ => return Err(CommandError::Syntax),
        }
        at += 1;
    }
    if from == to && target == selected {
        return Err(CommandError::said(SAME));
    }
    let is_done = cx.together_across([(selected, from), (target, to)].into_iter(), |cx| {
        let Some(held) = held(cx, from) else { return Ok(false) };
        cx.within(target, |cx| {
            let may_put = replaces || !exists(cx, to);
            if may_put { put(cx, to, &held).map(|()| true) } else { Ok(false) }
        })
    })?;
    cx.reply().int(i64::from(is_done));
    DONE
}

/// `MOVE`. What other nodes add to a counter meanwhile is deleted with the key.
pub(super) fn move_key(cx: &mut Context<'_>, args: Args<'_>) -> Outcome {
    let key = &args[1];
    let (selected, target) = (cx.keyspace.database, cx.database(&args[2])?);
    if target == selected {
        return Err(CommandError::said(SAME));
    }
    let is_done = cx.together_across([(selected, key), (target, key)].into_iter(), |cx| {
        let Some(held) = held(cx, key) else { return Ok(false) };
        let is_put = cx.within(target, |cx| {
            // First what may be refused.
            if exists(cx, key) { Ok(false) } else { put(cx, key, &held).map(|()| true) }
        })?;
        if is_put {
            delete(cx, key)?;
        }
        Ok::<bool, CommandError>(is_put)
    })?;
    cx.reply().int(i64::from(is_done));
    DONE
}

/// The other database in which `MOVE` or `COPY` reaches its last key, if the request names one.
pub(super) fn other_database(cx: &Context<'_>, args: Args<'_>) -> Option<Database> {
    let named = if is(&args[0], "move") {
        args.get(2)
    } else {
        let options = args.tail(3);
        let at = options.iter().rposition(|word| is(word, "db"))?;
        options.get(at + 1)
    };
    cx.database(named?).ok()
}

/// Checks that a command locks no more keys than a transaction may.
pub(super) fn check_number(command: &str, keys: usize) -> Result<(), CommandError> {
    if keys > MAX_REQUESTS {
        return Err(CommandError::said(format!(
            "ERR {command} takes at most {MAX_REQUESTS} keys: they are locked together"
        )));
    }
    Ok(())
}

pub(super) fn msetnx(cx: &mut Context<'_>, args: Args<'_>) -> Outcome {
    if args.len().is_multiple_of(2) {
        return Err(CommandError::Arity("msetnx"));
    }
    let options = SetOptions { condition: Condition::Absent, ..SetOptions::default() };
    set_all(cx, args.tail(1), options, None, "MSETNX")
}

pub(super) fn msetex(cx: &mut Context<'_>, args: Args<'_>) -> Outcome {
    let numkeys = integer(&args[1]).ok().and_then(|number| i32::try_from(number).ok());
    let numkeys = numkeys.and_then(|number| usize::try_from(number).ok()).filter(|number| *number > 0);
    let numkeys = numkeys.ok_or(CommandError::said("ERR invalid numkeys value"))?;
    if numkeys.saturating_mul(2) + 2 > args.len() {
        return Err(CommandError::said("ERR wrong number of key-value pairs"));
    }
    let options = SetOptions::parse(args.tail(2 + 2 * numkeys))?;
    let is_known = matches!(options.condition, Condition::Always | Condition::Absent | Condition::Present);
    if options.returns_old || !is_known {
        return Err(CommandError::Syntax);
    }
    let deadline = options.deadline(cx.now(), "msetex")?;
    set_all(cx, args.tail(2).head(2 * numkeys), options, deadline, "MSETEX")
}

/// Whether what `MSETEX` does depends on the present values of its keys.
pub(super) fn msetex_depends_on_keys(args: Args<'_>) -> bool {
    let end = COUNTED_PAIRS.places(args).last().map_or(args.len(), |last| last + 2);
    SetOptions::parse(args.tail(end)).is_ok_and(SetOptions::depends_on_key)
}

/// Sets all pairs of keys and values, or none; replies with whether it did.
fn set_all(
    cx: &mut Context<'_>,
    pairs: Args<'_>,
    options: SetOptions<'_>,
    deadline: Option<Deadline>,
    command: &str,
) -> Outcome {
    check_number(command, pairs.len() / 2)?;
    let pairs = || {
        (0..pairs.len())
            .step_by(2)
            .map(move |at| (at, at + 1))
            .filter_map(move |(key, value)| pairs.get(key).zip(pairs.get(value)))
    };
    pairs().try_for_each(|(key, value)| cx.shared.store.check_lengths(key, value))?;
    let keeps = options.expiry == Expiry::Keep;
    let is_done = cx.together(pairs().map(|(key, _)| key), |cx| {
        let holds = |key| match options.condition {
            Condition::Absent => !exists(cx, key),
            Condition::Present => exists(cx, key),
            _ => true,
        };
        if !pairs().all(|(key, _)| holds(key)) {
            return Ok(false);
        }
        cx.wholly(|cx| {
            for (key, value) in pairs() {
                cx.keyspace.write(cx.batch, key, |live| {
                    let kept = live.filter(|_| keeps).and_then(Live::deadline);
                    (Write::Set { value, deadline: deadline.or(kept) }, ())
                })?;
            }
            Ok(true)
        })
    })?;
    cx.reply().int(i64::from(is_done));
    DONE
}
