//! The commands that run and keep scripts.

use std::sync::Arc;

use super::super::context::{Context, DONE, Dispatch, Outcome, integer, is};
use super::super::entry::Table;
use super::super::error::CommandError;
use super::call::Caller;
use super::check;
use super::limits::Limits;
use super::machine::{self, Ended};
use crate::resp::Args;
use crate::resp::scripts::Script;

pub(in super::super) fn eval(
    cx: &mut Context<'_>,
    args: Args<'_>,
    dispatch: Dispatch,
    table: &Table,
) -> Outcome {
    check(cx, "eval")?;
    let count = count_keys(args)?;
    let script = cx.shared.scripts.load(&args[1]).map_err(CommandError::said)?;
    run(cx, args, count, &script, false, dispatch, table)
}

pub(in super::super) fn eval_ro(
    cx: &mut Context<'_>,
    args: Args<'_>,
    dispatch: Dispatch,
    table: &Table,
) -> Outcome {
    check(cx, "eval_ro")?;
    let count = count_keys(args)?;
    let script = cx.shared.scripts.load(&args[1]).map_err(CommandError::said)?;
    run(cx, args, count, &script, true, dispatch, table)
}

pub(in super::super) fn evalsha(
    cx: &mut Context<'_>,
    args: Args<'_>,
    dispatch: Dispatch,
    table: &Table,
) -> Outcome {
    check(cx, "evalsha")?;
    let count = count_keys(args)?;
    let script = find(cx, &args[1])?;
    run(cx, args, count, &script, false, dispatch, table)
}

pub(in super::super) fn evalsha_ro(
    cx: &mut Context<'_>,
    args: Args<'_>,
    dispatch: Dispatch,
    table: &Table,
) -> Outcome {
    check(cx, "evalsha_ro")?;
    let count = count_keys(args)?;
    let script = find(cx, &args[1])?;
    run(cx, args, count, &script, true, dispatch, table)
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

fn find(cx: &Context<'_>, sha: &[u8]) -> Result<Arc<Script>, CommandError> {
    let script = cx.shared.scripts.find(sha);
    script.ok_or_else(|| CommandError::said("NOSCRIPT No matching script. Please use EVAL."))
}

/// Runs a script with its keys locked.
fn run(
    cx: &mut Context<'_>,
    args: Args<'_>,
    count: usize,
    script: &Script,
    only_reads: bool,
    dispatch: Dispatch,
    table: &Table,
) -> Outcome {
    if cx.session.may_lack && count > 0 {
        return Err(CommandError::Loading);
    }
    let (keys, argv) = (args.tail(3).head(count), args.tail(3 + count));
    let shared = cx.shared;
    let running = shared.scripts.run();
    let call = cx.session.call;
    let proto = cx.session.proto;
    let ended = cx.together(keys.iter(), |cx| {
        let limits = Limits::begin(shared.settings.script_time_limit, running.kill.clone());
        cx.keyspace.buffer();
        let is_executing = std::mem::replace(&mut cx.session.is_executing, true);
        let mut caller = Caller {
            cx: &mut *cx,
            dispatch,
            table,
            declared: keys.iter().collect(),
            only_reads: only_reads || script.only_reads,
            limits: &limits,
        };
        let ended = machine::run(script, keys, argv, proto, &limits, &mut caller);
        cx.session.is_executing = is_executing;
        cx.keyspace.end(cx.batch, ended.is_ok());
        ended
    });
    cx.session.call = call;
    match ended {
        Ok(Ended::Reply(reply)) => cx.out.extend_from_slice(&reply),
        Ok(Ended::Failed(text)) => return Err(CommandError::said(text)),
        Err(limit) => return Err(CommandError::said(limit.to_string())),
    }
    DONE
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
    let script = cx.shared.scripts.load(&args[2]).map_err(CommandError::said)?;
    cx.reply().bulk(script.sha.as_bytes());
    DONE
}

pub(in super::super) fn show(cx: &mut Context<'_>, args: Args<'_>) -> Outcome {
    check(cx, "script|show")?;
    let script = find(cx, &args[2]).map_err(|_| CommandError::said("NOSCRIPT No matching script."))?;
    cx.reply().bulk(&script.source);
    DONE
}
