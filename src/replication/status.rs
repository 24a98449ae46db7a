//! The node's own state, its peers and their events, as its clients see them.

use std::sync::atomic::Ordering;

use super::Replication;
use crate::cluster::{Events, NodeState, PeerStatus, Recorded, Status};
use crate::model::Incarnation;

impl Status for Replication {
    fn state(&self) -> NodeState {
        self.shared.state()
    }

    fn is_fetching(&self) -> bool {
        self.shared.fetching.load(Ordering::Acquire)
    }

    fn joining_reason(&self) -> Option<String> {
        self.shared.joining.borrow().reason()
    }

    fn peers(&self) -> Vec<PeerStatus> {
        self.shared.status()
    }

    fn name_of(&self, incarnation: Incarnation) -> Option<String> {
        self.shared.replica.local.members.lock().name_of(incarnation).map(str::to_owned)
    }

    fn events(&self) -> Events {
        self.shared.announcer.events()
    }

    fn recorded_events(&self, after: u64) -> Vec<Recorded> {
        self.shared.announcer.recorded(after)
    }
}
