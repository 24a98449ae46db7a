//! `SAPWOOD`: commands that Redis does not have.

use super::context::{Context, DONE, Outcome};
use super::introspect::explain;
use super::sweep;
use crate::model::{Deadline, Time, Timestamp, timestamp};
use crate::resp::{Args, Reply};

const HELP: &[&str] = &[
    "SAPWOOD <subcommand> [<arg> ...]. Subcommands are:",
    "COUNTER <key>",
    "    Return what a key counts, and who counted it.",
    "CUT <peer>|* [IN|OUT|BOTH]",
    "    Stop what the link to a peer, or to all, carries, as a broken network would. Needs --enable-faults.",
    "DIGEST",
    "    Return the digest of all live keys, and how many they are. Nodes that agree show the same.",
    "EVENTS",
    "    Push what happens to links and members, from here on until RESET.",
    "FORGET <name>",
    "    Stop waiting for a member that is down, until it is heard again.",
    "HEALING",
    "    Return how far healing has come, and what it waits for.",
    "LOST",
    "    Return the writes that this node alone held and had to give up when it came back.",
    "MEND <peer>|* [IN|OUT|BOTH]",
    "    Undo CUT.",
    "META <key>",
    "    Return the timestamps and the deadline of a key, a deleted one included.",
    "PEERS",
    "    Return the state of the links to the peers.",
    "READY <token> <milliseconds> [STATE]",
    "    Wait until this node holds what clients had written to the node that issued the token, or with STATE all",
    "    that could be read there. Return 1, or 0 after that time; 0 milliseconds are for ever.",
    "REJOIN DISCARD",
    "    Discard every key of this node, and take those of its peers as a new incarnation.",
    "TOKEN",
    "    Return a token for all that was written to this node, for READY on another.",
    "UNWATCH",
    "    End WATCH.",
    "VERIFIED",
    "    Return what VERIFY has found, for each peer.",
    "VERIFY",
    "    Start to compare every cell and its value with every linked peer, and to heal what differs.",
    "WAITFOR <name>[,<name> ...] <milliseconds>",
    "    Wait until these nodes hold what this connection wrote. Return the names of those that do.",
    "WATCH <prefix> [<prefix> ...] [FROM <cursor>]",
    "    Send the keys that begin with one of these, then every change of them, wherever it is written.",
    "HELP",
    "    Print this help.",
];

pub(super) fn help(cx: &mut Context<'_>, _args: Args<'_>) -> Outcome {
    explain(cx, HELP)
}

pub(super) fn digest(cx: &mut Context<'_>, _args: Args<'_>) -> Outcome {
    sweep::sweep_then_reply(cx, |cx| {
        let totals = cx.shared.store.totals();
        let mut reply = cx.reply();
        reply.array(2);
        reply.bulk(format!("{:016x}", totals.live).as_bytes());
        number(&mut reply, totals.live_cells);
    })
}

pub(super) fn meta(cx: &mut Context<'_>, args: Args<'_>) -> Outcome {
    let meta = cx.keyspace.meta(&args[2], cx.now());
    let mut reply = cx.reply();
    let Some(meta) = meta else {
        reply.null();
        return DONE;
    };
    reply.map(9);
    timestamp_of(&mut reply, ["timestamp", "timestamp_ms", "origin"], meta.timestamp);
    timestamp_of(
        &mut reply,
        ["deadline_timestamp", "deadline_timestamp_ms", "deadline_origin"],
        meta.deadline_timestamp,
    );
    reply.bulk(b"live");
    reply.bool(meta.value_bytes.is_some());
    reply.bulk(b"deadline_ms");
    reply.int(Deadline::reply(meta.deadline));
    reply.bulk(b"value_bytes");
    reply.int(meta.value_bytes.map_or(-1, |len| i64::try_from(len).unwrap_or(i64::MAX)));
    DONE
}

/// Writes a timestamp as three pairs: its time as Time, its time in milliseconds, and the writer's incarnation.
fn timestamp_of(reply: &mut Reply<'_>, [time, time_ms, origin]: [&str; 3], timestamp: Timestamp) {
    reply.bulk(time.as_bytes());
    // As text, because the upper half of the range exceeds the protocol's integers.
    reply.bulk(timestamp.time().0.to_string().as_bytes());
    reply.bulk(time_ms.as_bytes());
    reply.int(millis(timestamp.time()));
    reply.bulk(origin.as_bytes());
    reply.bulk(timestamp.incarnation().to_string().as_bytes());
}

fn millis(time: Time) -> i64 {
    i64::try_from(timestamp::unix_millis(time)).unwrap_or(i64::MAX)
}

fn number(reply: &mut Reply<'_>, value: u64) {
    reply.int(i64::try_from(value).unwrap_or(i64::MAX));
}
