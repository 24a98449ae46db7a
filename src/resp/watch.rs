//! What `SAPWOOD WATCH` tells, in bytes.

use super::{Proto, Reply};
use crate::model::{Time, timestamp};
use crate::store::{Item, Page, WatchEvent};

/// A page as messages of the dialect. All watchers that are told the page share them.
pub(super) fn render(page: &Page, proto: Proto) -> bytes::Bytes {
    let rendering = match proto {
        Proto::Resp2 => 0,
        Proto::Resp3 => 1,
    };
    page.rendered(rendering, |events| {
        let mut out = Vec::new();
        let mut reply = Reply::new(&mut out, proto);
        events.iter().for_each(|event| message(&mut reply, event));
        out
    })
}

fn message(reply: &mut Reply<'_>, event: &WatchEvent) {
    match event {
        WatchEvent::Reset { reason } => {
            begin(reply, 3, "reset");
            reply.bulk(reason.name().as_bytes());
        }
        WatchEvent::Entry(item) => {
            begin(reply, 7, "entry");
            describe(reply, item);
        }
        WatchEvent::Live { cursor } => {
            begin(reply, 3, "live");
            reply.bulk(cursor.to_string().as_bytes());
        }
        WatchEvent::Change { cause, item, cursor } => {
            begin(reply, 9, "change");
            reply.bulk(cause.name().as_bytes());
            describe(reply, item);
            reply.bulk(cursor.to_string().as_bytes());
        }
        WatchEvent::Skipped(changes) => {
            begin(reply, 3, "skipped");
            reply.int(i64::try_from(*changes).unwrap_or(i64::MAX));
        }
    }
}

fn begin(reply: &mut Reply<'_>, parts: usize, kind: &str) {
    reply.push(parts);
    reply.bulk(b"watch");
    reply.bulk(kind.as_bytes());
}

/// Key, value, deadline, time and origin.
fn describe(reply: &mut Reply<'_>, item: &Item) {
    reply.bulk(item.key());
    match item.value() {
        Some(value) => reply.bulk(value),
        None => reply.null(),
    }
    reply.int(item.deadline().filter(|_| item.value().is_some()).map_or(-1, millis));
    // In digits, as the upper half of the scale is beyond the integers of the protocol.
    reply.bulk(item.time().0.to_string().as_bytes());
    reply.bulk(item.origin().to_string().as_bytes());
}

fn millis(time: Time) -> i64 {
    i64::try_from(timestamp::unix_millis(time)).unwrap_or(i64::MAX)
}
