//! The commands that run and keep scripts.

use std::sync::Arc;

use super::super::context::{Context, DONE, Dispatch, Outcome, begin, integer, is};
use super::super::entry::Table;
use super::super::error::CommandError;
use super::super::pubsub::Deferred;
use super::call::Caller;
use super::check;
use super::limits::Limits;
use super::machine::{self, Ended, Job};
use crate::resp::Args;
use crate::resp::scripts::Script;

/// `EVAL` and `EVAL_RO`.
pub(in super::super) fn eval(
    cx: &mut Context<'_>,
    args: Args<'_>,
    dispatch: Dispatch,
    table: &Table,
) -> Outcome {
    run(cx, args, compiled, dispatch, table)
}

/// `EVALSHA` and `EVALSHA_RO`.
pub(in super::super) fn evalsha(
    cx: &mut Context<'_>,
    args: Args<'_>,
    dispatch: Dispatch,
    table: &Table,
) -> Outcome {
    run(cx, args, find, dispatch, table)
}

fn count_keys(args: Args<'_>) -> Result<usize, CommandError> {
    let count = integer(&args[2])?;
    let count =
        usize::try_from(count).map_err(|_| CommandError::said("ERR Number of keys can't be negative"))?;
    if count > args.len() - 3 {
        return Err(CommandError::said("ERR Number of keys can't be greater than number of args"));
    }
    Ok(count)
}

/// The script of this text.
fn compiled(cx: &Context<'_>, source: &[u8]) -> Result<Arc<Script>, CommandError> {
    cx.shared.scripts.load(source).map_err(CommandError::said)
}

/// The script of this SHA-1.
fn find(cx: &Context<'_>, sha: &[u8]) -> Result<Arc<Script>, CommandError> {
    let script = cx.shared.scripts.find(sha);
    script.ok_or_else(|| CommandError::said("NOSCRIPT No matching script. Please use EVAL."))
}

/// Runs a script with its keys locked; `script` returns the one that the first argument means.
fn run(
    cx: &mut Context<'_>,
    args: Args<'_>,
    script: fn(&Context<'_>, &[u8]) -> Result<Arc<Script>, CommandError>,
    dispatch: Dispatch,
    table: &Table,
) -> Outcome {
    let call = cx.session.call;
    let name = table.name_of(call);
    check(cx, name)?;
    let count = count_keys(args)?;
    let script = script(cx, &args[1])?;
    if cx.session.may_lack && count > 0 {
        return Err(CommandError::Loading);
    }
    let keys = args.tail(3).head(count);
    let shared = cx.shared;
    let running = shared.scripts.run();
    let client = cx.session.proto;
    let deferred = cx.session.deferred.len();
    let ended = cx.together(keys.iter(), |cx| {
        let limits = Limits::begin(shared.settings.script_time_limit, running.kill.clone());
        let job = Job { script: &script, keys, argv: args.tail(3 + count), client, limits: &limits };
        cx.keyspace.buffer();
        let is_executing = std::mem::replace(&mut cx.session.is_executing, true);
        cx.session.runs_script = true;
        let mut caller = Caller {
            cx: &mut *cx,
            dispatch,
            table,
            declared: keys.iter().collect(),
            only_reads: script.only_reads || name.ends_with("_ro"),
            limits: &limits,
            published: 0,
        };
        let ended = machine::run(&job, &mut caller);
        cx.session.runs_script = false;
        cx.session.is_executing = is_executing;
        cx.keyspace.end(cx.batch, ended.is_ok());
        ended
    });
    cx.session.call = call;
    let failure = match ended {
        Ok(Ended::Reply(reply)) => {
            cx.out.extend_from_slice(&reply);
            None
        }
        Ok(Ended::Failed(text)) => Some(CommandError::said(text)),
        Err(limit) => {
            cx.session.deferred.truncate(deferred);
            Some(CommandError::said(limit.to_string()))
        }
    };
    // `EXEC` sends it once it has released its locks.
    if cx.session.deferred.is_empty() || cx.keyspace.is_locked() {
        return failure.map_or(DONE, Err);
    }
    let deferred = Deferred::take(cx, failure);
    begin(cx, deferred)
}

pub(in super::super) fn exists(cx: &mut Context<'_>, args: Args<'_>) -> Outcome {
    check(cx, "script|exists")?;
    let shared = cx.shared;
    let mut reply = cx.reply();
    reply.array(args.len() - 2);
    args.tail(2).iter().for_each(|sha| reply.int(i64::from(shared.scripts.find(sha).is_some())));
    DONE
}

pub(in super::super) fn flush(cx: &mut Context<'_>, args: Args<'_>) -> Outcome {
    check(cx, "script|flush")?;
    let is_mode = |arg: &[u8]| is(arg, "sync") || is(arg, "async");
    if args.len() > 3 || !args.get(2).is_none_or(is_mode) {
        return Err(CommandError::said("ERR SCRIPT FLUSH only support SYNC|ASYNC option"));
    }
    cx.shared.scripts.flush();
    cx.reply().ok();
    DONE
}

pub(in super::super) fn kill(cx: &mut Context<'_>, _args: Args<'_>) -> Outcome {
    check(cx, "script|kill")?;
    if !cx.shared.scripts.kill() {
        return Err(CommandError::said("NOTBUSY No scripts in execution right now."));
    }
    cx.reply().ok();
    DONE
}

pub(in super::super) fn load(cx: &mut Context<'_>, args: Args<'_>) -> Outcome {
    check(cx, "script|load")?;
    let script = compiled(cx, &args[2])?;
    cx.reply().bulk(script.sha.as_bytes());
    DONE
}

pub(in super::super) fn show(cx: &mut Context<'_>, args: Args<'_>) -> Outcome {
    check(cx, "script|show")?;
    let script = find(cx, &args[2]).map_err(|_| CommandError::said("NOSCRIPT No matching script."))?;
    cx.reply().bulk(&script.source);
    DONE
}
