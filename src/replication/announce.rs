//! Publishes events about links and members to subscribers.

use std::sync::Arc;
use std::time::UNIX_EPOCH;

use crate::cluster::{Event, EventKind, EventSender, Events, Recorded};
use crate::env::Env;
use crate::model::timestamp;

/// Sends events, stamped with the machine's time.
pub(super) struct Announcer {
    sender: EventSender,
    env: Arc<dyn Env>,
}

impl Announcer {
    pub(super) fn new(env: Arc<dyn Env>) -> Self {
        Announcer { sender: EventSender::new(), env }
    }

    /// Returns the stream of events from now on.
    pub(super) fn events(&self) -> Events {
        self.sender.subscribe()
    }

    /// Returns the last events after the one with this id.
    pub(super) fn recorded(&self, after: u64) -> Vec<Recorded> {
        self.sender.recorded(after)
    }

    /// Ends the streams of events: nothing is published from here on.
    pub(super) fn close(&self) {
        self.sender.close();
    }

    pub(super) fn announce(&self, kind: EventKind, peer: &str, reason: impl Into<String>) {
        let time = UNIX_EPOCH + timestamp::distance(self.env.wall_clock(), timestamp::ZERO);
        self.sender.send(Event { kind, peer: peer.to_owned(), reason: reason.into(), time });
    }
}
