//! Nodes that were refused, or that refused this one, for display.

use std::cmp::Reverse;
use std::time::Duration;

use tokio::time::Instant;

use super::back_off::REDIAL_LIMIT;
use crate::cluster::{PeerState, PeerStatus};
use crate::model::Incarnation;

/// The most refused nodes that are shown; beyond it the one heard longest ago is dropped.
const MAX_SHOWN: usize = 64;

/// How long a refused node is shown after it was last heard. One that still tries is heard every few seconds.
pub(super) const SHOWN: Duration = Duration::from_secs(60);

/// How long a namesake is shown after it was last heard. A live one tries again within [`REDIAL_LIMIT`]; if the
/// node was restarted, the earlier process is gone.
const NAMESAKE_SHOWN: Duration = REDIAL_LIMIT.saturating_add(Duration::from_secs(4));

/// The nodes that were refused lately.
#[derive(Default)]
pub(super) struct RefusedPeers(Vec<RefusedPeer>);

struct RefusedPeer {
    name: String,
    incarnation: Option<Incarnation>,
    address: String,
    state: PeerState,
    reason: String,
    since: Instant,
    heard: Instant,
}

impl RefusedPeers {
    /// Records a refusal. Returns whether it is new.
    pub(super) fn note(
        &mut self,
        name: &str,
        incarnation: Option<Incarnation>,
        address: &str,
        state: PeerState,
        reason: &str,
        now: Instant,
    ) -> bool {
        let row = RefusedPeer {
            name: name.to_owned(),
            incarnation,
            address: address.to_owned(),
            state,
            reason: reason.to_owned(),
            since: now,
            heard: now,
        };
        // Two processes cannot listen at one address: a restarted one replaces the row of its predecessor.
        let same = |known: &&mut RefusedPeer| match (known.incarnation, incarnation) {
            (Some(known), Some(refused)) if known == refused => true,
            (Some(_), Some(_)) => known.address == row.address && known.name == row.name,
            _ => known.address == row.address,
        };
        if let Some(known) = self.0.iter_mut().find(same) {
            let news = known.state != state || known.incarnation != incarnation;
            let since = if news { row.since } else { known.since };
            *known = RefusedPeer { since, ..row };
            return news;
        }
        self.0.retain(|refused| refused.is_shown(now));
        if self.0.len() >= MAX_SHOWN {
            self.0.sort_by_key(|refused| Reverse(refused.heard));
            self.0.pop();
        }
        self.0.push(row);
        true
    }

    /// Removes a node that was accepted, or has a row elsewhere. Returns the state that it had here.
    pub(super) fn forget(&mut self, incarnation: Incarnation) -> Option<PeerState> {
        let index = self.0.iter().position(|refused| refused.incarnation == Some(incarnation))?;
        Some(self.0.remove(index).state)
    }

    /// Removes nodes of a name that was accepted: any other live node of that name is heard again soon.
    pub(super) fn forget_name(&mut self, name: &str) {
        self.0.retain(|refused| refused.name != name);
    }

    /// Removes namesakes of a node whose link has ended: they may be accepted now.
    pub(super) fn forget_namesakes(&mut self, name: &str) {
        self.0.retain(|refused| refused.name != name || refused.state != PeerState::Duplicate);
    }

    /// Returns their rows in `SAPWOOD PEERS`.
    pub(super) fn status(&self, now: Instant) -> impl Iterator<Item = PeerStatus> {
        self.0.iter().filter(move |refused| refused.is_shown(now)).map(move |refused| refused.status(now))
    }
}

impl RefusedPeer {
    fn is_shown(&self, now: Instant) -> bool {
        let limit = if self.state == PeerState::Duplicate { NAMESAKE_SHOWN } else { SHOWN };
        now.saturating_duration_since(self.heard) < limit
    }

    fn status(&self, now: Instant) -> PeerStatus {
        PeerStatus {
            reason: self.reason.clone(),
            incarnation: self.incarnation,
            address: self.address.clone(),
            since: now.saturating_duration_since(self.since),
            ..PeerStatus::new(&*self.name, self.state)
        }
    }
}
