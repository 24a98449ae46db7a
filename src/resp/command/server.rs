//! Commands about the node as a whole.

use super::context::{Context, DONE, Flow, Outcome, is};
use super::error::CommandError;
use super::sweep;
use crate::model::{Database, timestamp};
use crate::resp::Args;

/// Replies with the machine's clock, as Redis does, and not with the hybrid clock.
pub(super) fn time(cx: &mut Context<'_>, _args: Args<'_>) -> Outcome {
    let micros = timestamp::distance(cx.shared.env.wall_clock(), timestamp::ZERO).as_micros();
    let mut reply = cx.reply();
    reply.array(2);
    reply.bulk((micros / 1_000_000).to_string().as_bytes());
    reply.bulk((micros % 1_000_000).to_string().as_bytes());
    DONE
}

pub(super) fn monitor(cx: &mut Context<'_>, _args: Args<'_>) -> Outcome {
    cx.session.start_monitoring(cx.shared);
    cx.audit("MONITOR", None);
    cx.reply().ok();
    DONE
}

pub(super) fn flushall(cx: &mut Context<'_>, args: Args<'_>) -> Outcome {
    flush(cx, args, None)
}

pub(super) fn flushdb(cx: &mut Context<'_>, args: Args<'_>) -> Outcome {
    let database = cx.keyspace.database;
    flush(cx, args, Some(database))
}

/// Deletes all keys of a database, or of all.
fn flush(cx: &mut Context<'_>, args: Args<'_>, database: Option<Database>) -> Outcome {
    match args.get(1) {
        None => {}
        Some(mode) if args.len() == 2 && (is(mode, "async") || is(mode, "sync")) => {}
        Some(_) => return Err(CommandError::Syntax),
    }
    let name = if is(&args[0], "flushdb") { "FLUSHDB" } else { "FLUSHALL" };
    if !cx.shared.settings.enable_flush {
        let why = match database {
            Some(_) => "this would delete every key of the database on every node",
            None => "this would delete every key on every node",
        };
        return Err(CommandError::unsupported(name, why, "To allow it, start this node with --enable-flush"));
    }
    cx.audit(name, database.map(|database| database.to_string()).as_deref());
    sweep::flush(cx, database)
}

/// Sends no reply, as in Redis: the client sees the connection close.
pub(super) fn shutdown(cx: &mut Context<'_>, args: Args<'_>) -> Outcome {
    if args.len() == 2 && is(&args[1], "abort") {
        return Err(CommandError::unsupported(
            "SHUTDOWN ABORT",
            "a shutdown that has begun is completed",
            "Start the node again: it fetches the keys from its peers",
        ));
    }
    let known = |word: &[u8]| ["nosave", "save", "now", "force"].iter().any(|other| is(word, other));
    let both = |word: &str| args.iter().any(|arg| is(arg, word));
    if !args.tail(1).iter().all(known) || both("save") && both("nosave") {
        return Err(CommandError::Syntax);
    }
    cx.audit("SHUTDOWN", None);
    cx.shared.settings.shutdown.cancel();
    Ok(Flow::Close)
}
