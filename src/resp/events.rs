//! `SAPWOOD EVENTS`: events of the links and the members, pushed to subscribed clients.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use tracing_mutex::parkinglot::Mutex;

use super::clients::Client;
use super::{Proto, Reply};
use crate::cluster::{Event, Missed};

/// The connections of a server that have subscribed to events, by id.
#[derive(Default)]
pub(super) struct EventReaders(Mutex<BTreeMap<u64, Arc<Client>>>);

impl EventReaders {
    /// Subscribes a client from this call on.
    pub(super) fn add(&self, client: &Arc<Client>) {
        self.0.lock().insert(client.id, client.clone());
    }

    /// Unsubscribes a client.
    pub(super) fn remove(&self, client: &Client) {
        self.0.lock().remove(&client.id);
    }

    /// Sends an event, or the number of missed ones, to all subscribers; `now` is the machine's time.
    pub(super) fn send(&self, event: &Result<Event, Missed>, now: SystemTime) {
        let message = message(event, now);
        self.0.lock().values().for_each(|client| client.outbox.push(&message));
    }
}

fn message(event: &Result<Event, Missed>, now: SystemTime) -> Vec<u8> {
    let missed;
    let (kind, peer, reason, time) = match event {
        Ok(event) => (event.kind.as_str(), &*event.peer, &*event.reason, event.time),
        Err(Missed(count)) => {
            missed = count.to_string();
            ("missed", "", &*missed, now)
        }
    };
    let millis = time.duration_since(UNIX_EPOCH).map_or(0, |since| since.as_millis());
    let mut message = Vec::new();
    let mut reply = Reply::new(&mut message, Proto::Resp3);
    reply.push(5);
    ["event", kind, peer, reason].iter().for_each(|text| reply.bulk(text.as_bytes()));
    reply.int(i64::try_from(millis).unwrap_or(i64::MAX));
    message
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::cluster::EventKind;

    #[test]
    fn an_event_is_a_push_of_five() {
        let at = |millis| UNIX_EPOCH + Duration::from_millis(millis);
        let event =
            Event { kind: EventKind::Down, peer: "b".into(), reason: "it shut down".into(), time: at(1500) };
        let text = |event| String::from_utf8(message(&event, at(7))).unwrap();
        assert_eq!(
            text(Ok(event)),
            ">5\r\n$5\r\nevent\r\n$4\r\ndown\r\n$1\r\nb\r\n$12\r\nit shut down\r\n:1500\r\n"
        );
        assert_eq!(text(Err(Missed(3))), ">5\r\n$5\r\nevent\r\n$6\r\nmissed\r\n$0\r\n\r\n$1\r\n3\r\n:7\r\n");
    }
}
