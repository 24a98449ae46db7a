//! Commands on counters.

use super::context::{Context, DONE, Outcome, integer};
use super::error::CommandError;
use crate::model::timestamp;
use crate::resp::Args;
use crate::store::increment;

pub(super) fn incr(cx: &mut Context<'_>, args: Args<'_>) -> Outcome {
    add(cx, &args[1], 1)
}

pub(super) fn decr(cx: &mut Context<'_>, args: Args<'_>) -> Outcome {
    add(cx, &args[1], -1)
}

pub(super) fn incrby(cx: &mut Context<'_>, args: Args<'_>) -> Outcome {
    add(cx, &args[1], integer(&args[2])?)
}

pub(super) fn decrby(cx: &mut Context<'_>, args: Args<'_>) -> Outcome {
    let by = integer(&args[2])?.checked_neg();
    add(cx, &args[1], by.ok_or(CommandError::said("ERR decrement would overflow"))?)
}

/// Adds to this node's slot of a counter; replies with the counter's value here.
fn add(cx: &mut Context<'_>, key: &[u8], by: i64) -> Outcome {
    let sum = cx.keyspace.write(cx.batch, key, |live| increment(live, by))??;
    cx.reply().int(sum);
    DONE
}

/// Replies with a counter's value and the slots it is made of.
pub(super) fn breakdown(cx: &mut Context<'_>, args: Args<'_>) -> Outcome {
    let count = cx.keyspace.count(&args[2], cx.now());
    let Some(count) = count else {
        cx.reply().null();
        return DONE;
    };
    let own = cx.shared.settings.incarnation;
    let names: Vec<_> = count
        .slots
        .iter()
        .map(|(owner, _)| {
            let name = || cx.shared.cluster.name_of(*owner).unwrap_or_default();
            if *owner == own { cx.shared.settings.name.clone() } else { name() }
        })
        .collect();
    let mut reply = cx.reply();
    // Sums as text, because they may exceed the protocol's integers.
    reply.map(3);
    reply.bulk(b"value");
    reply.bulk(count.sum.to_string().as_bytes());
    reply.bulk(b"base");
    reply.bulk(count.base.to_string().as_bytes());
    reply.bulk(b"slots");
    reply.array(count.slots.len());
    for ((owner, slot), name) in count.slots.iter().zip(names) {
        reply.map(5);
        reply.bulk(b"name");
        reply.bulk(name.as_bytes());
        reply.bulk(b"incarnation");
        reply.bulk(owner.to_string().as_bytes());
        reply.bulk(b"up");
        reply.bulk(slot.up().to_string().as_bytes());
        reply.bulk(b"down");
        reply.bulk(slot.down().to_string().as_bytes());
        reply.bulk(b"last_ms");
        reply.int(i64::try_from(timestamp::unix_millis(slot.last)).unwrap_or(i64::MAX));
    }
    DONE
}
