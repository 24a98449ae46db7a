//! `SAPWOOD WATCH` of a connection: waits for its next page, and encodes the messages.

use super::{Proto, Reply};
use crate::model::Deadline;
use crate::watch::{Page, WatchEvent, WatchItem, Watcher};

/// Waits until the watcher has a page; for ever without a watcher.
pub(super) async fn ready(watcher: Option<&Watcher>) {
    match watcher {
        Some(watcher) => watcher.ready().await,
        None => std::future::pending().await,
    }
}

/// A page encoded as messages of a protocol version. All watchers of the page share them.
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

/// Writes key, value, deadline, time and origin of an item.
fn describe(reply: &mut Reply<'_>, item: &WatchItem) {
    reply.bulk(item.key());
    match item.value() {
        Some(value) => reply.bulk(value),
        None => reply.null(),
    }
    reply.int(Deadline::reply(item.deadline().filter(|_| item.value().is_some())));
    // As text, because the upper half of the range exceeds the protocol's integers.
    reply.bulk(item.time().0.to_string().as_bytes());
    reply.bulk(item.origin().to_string().as_bytes());
}
