//! The addresses that a node dials, and what was found there.

use std::collections::BTreeMap;
use std::net::SocketAddr;

use tokio::time::Instant;

use super::Peers;
use crate::cluster::PeerState;
use crate::model::Incarnation;
use crate::replication::hello::MAX_PEERS;

/// An address that is dialled.
pub(super) struct Target {
    pub(super) since: Instant,
    /// How many of the first resolved addresses have not been tried; `None` before the name was resolved.
    pub(super) untried: Option<usize>,
    /// The nodes that were found at the target's addresses, this one included.
    found: BTreeMap<SocketAddr, Incarnation>,
    /// The addresses that the target resolves to.
    addresses: Vec<SocketAddr>,
    pub(super) outcome: TargetOutcome,
}

/// The outcome of dialling an address.
#[derive(Clone, PartialEq, Eq)]
pub(in crate::replication) enum TargetOutcome {
    /// No hello has come from there yet, and why.
    Unreachable(String),
    /// The other side speaks another protocol or sends nothing, and why.
    NotAPeer(String),
    /// A node there was not authenticated, or did not authenticate this one, and why.
    Untrusted(String),
    /// The address leads to a node with a row of its own: this one, a peer, or one that was refused.
    Known,
}

impl Peers {
    /// Adds an address to dial. Returns `false` if it is dialled already or there are too many.
    pub(in crate::replication) fn add_target(&self, address: &str, now: Instant) -> bool {
        let mut table = self.table.lock();
        if table.targets.contains_key(address) || table.targets.len() >= MAX_PEERS {
            return false;
        }
        let outcome = TargetOutcome::Unreachable("not dialled yet".into());
        let target =
            Target { since: now, untried: None, found: BTreeMap::new(), addresses: Vec::new(), outcome };
        table.targets.insert(address.to_owned(), target);
        true
    }

    /// Removes an address whose peer has left.
    pub(in crate::replication) fn remove_target(&self, address: &str) {
        self.table.lock().targets.remove(address);
    }

    /// Records the outcome of dialling an address. Once a node has sent a hello from there, its own row shows
    /// the rest. Returns whether that is new.
    pub(in crate::replication) fn set_target(
        &self,
        address: &str,
        outcome: TargetOutcome,
        now: Instant,
    ) -> bool {
        let mut table = self.table.lock();
        let Some(target) = table.targets.get_mut(address) else { return false };
        let news = target.outcome != outcome && target.outcome != TargetOutcome::Known;
        if news {
            target.since = now;
            target.outcome = outcome;
        }
        drop(table);
        if news {
            self.changed.send_replace(());
        }
        news
    }

    /// Returns the addresses to dial.
    #[cfg(any(test, feature = "simulation"))]
    pub(in crate::replication) fn targets(&self) -> Vec<String> {
        self.table.lock().targets.keys().cloned().collect()
    }

    /// Records the addresses that a target resolves to.
    pub(in crate::replication) fn resolved(&self, address: &str, addresses: &[SocketAddr]) {
        let mut table = self.table.lock();
        let Some(target) = table.targets.get_mut(address) else { return };
        target.untried.get_or_insert(addresses.len());
        target.addresses = addresses.to_vec();
        drop(table);
        self.changed.send_replace(());
    }

    /// Records that one of a target's addresses was tried for the first time, with any outcome.
    pub(in crate::replication) fn tried(&self, address: &str) {
        let mut table = self.table.lock();
        let untried = table.targets.get_mut(address).and_then(|target| target.untried.as_mut());
        if let Some(untried) = untried {
            *untried = untried.saturating_sub(1);
        }
        drop(table);
        self.changed.send_replace(());
    }

    /// Records which node was found at one of a target's addresses.
    pub(in crate::replication) fn found_at(
        &self,
        target: &str,
        address: SocketAddr,
        incarnation: Incarnation,
    ) {
        if let Some(target) = self.table.lock().targets.get_mut(target) {
            target.found.insert(address, incarnation);
        }
    }

    /// Records that a peer that was linked before is not authenticated any more, or does not authenticate this node. Returns
    /// whether a peer's row shows this reason for the first time.
    pub(in crate::replication) fn distrusted(&self, target: &str, address: SocketAddr, reason: &str) -> bool {
        let names = self.names_at(target, address);
        let mut table = self.table.lock();
        let mut is_new = false;
        for name in names {
            let unlinked = table.peers.get_mut(&name).filter(|peer| peer.link.is_none());
            if let Some(peer) = unlinked.filter(|peer| peer.state == PeerState::Down && peer.reason != reason)
            {
                reason.clone_into(&mut peer.reason);
                is_new = true;
            }
        }
        is_new
    }

    /// Returns the names of the peers that are or were at one of a target's addresses.
    pub(in crate::replication) fn names_at(&self, target: &str, address: SocketAddr) -> Vec<String> {
        let table = self.table.lock();
        let found = table.targets.get(target).and_then(|target| target.found.get(&address));
        let there = table.peers.iter().filter(|(_, peer)| {
            peer.advertise == target || found.is_some_and(|found| *found == peer.incarnation)
        });
        there.map(|(name, _)| name.clone()).collect()
    }
}
