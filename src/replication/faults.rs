//! Cuts: blocks the traffic of a link as a broken network would, without closing anything.
//!
//! A cut link stands still until it is mended or, after a few seconds of silence, counts as dead; meanwhile no
//! new link is made. For demonstrations and tests, and only if faults are enabled.
//!
//! A task that sends, or acts on what a peer has sent, holds a [`Passage`] meanwhile. [`Faults::cut`] waits for
//! the held ones, so nothing passes a cut after it has returned.

use std::collections::BTreeMap;
use std::future::poll_fn;
use std::pin::pin;
use std::task::Poll;

use tokio::sync::watch;
use tokio::time::Instant;
use tracing_mutex::parkinglot::{RwLock, RwLockReadGuard};

use crate::cluster::Way;

/// The name that stands for all peers.
pub(super) const EVERYONE: &str = "*";

/// Which directions are cut, and since when one of them is.
#[derive(Clone, Copy, Debug)]
struct Cut {
    inward: bool,
    outward: bool,
    since: Instant,
}

/// A cut, as it is displayed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct CutOff {
    pub(super) way: Way,
    pub(super) since: Instant,
}

/// The cuts by the name of the peer.
type Cuts = BTreeMap<String, Cut>;

/// Permission to let one thing pass. No cut begins while it is held, so it is held only for moments. A holder
/// must not ask for another: a waiting cut would block both.
#[must_use]
pub(super) struct Passage<'a>(#[expect(dead_code, reason = "held")] Option<RwLockReadGuard<'a, Cuts>>);

/// The kind of traffic that is to pass.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Traffic {
    /// What the peer has sent.
    Inward,
    /// What is sent to the peer.
    Outward,
    /// The handshake of a new link, which needs both directions.
    Handshake,
}

impl Traffic {
    fn is_cut_by(self, cut: Cut) -> bool {
        match self {
            Traffic::Inward => cut.inward,
            Traffic::Outward => cut.outward,
            Traffic::Handshake => cut.inward || cut.outward,
        }
    }
}

/// The cuts in force.
pub(super) struct Faults {
    pub(super) enabled: bool,
    cuts: RwLock<Cuts>,
    changed: watch::Sender<()>,
}

impl Faults {
    pub(super) fn new(enabled: bool) -> Self {
        Faults { enabled, cuts: RwLock::default(), changed: watch::Sender::new(()) }
    }

    pub(super) fn cut(&self, peer: &str, way: Way) {
        self.set(peer, way, true);
    }

    /// Mends a peer, or every cut peer for [`EVERYONE`]. Returns whether anything was cut.
    pub(super) fn mend(&self, peer: &str, way: Way) -> bool {
        let mut names: Vec<String> = self.cuts.read().keys().cloned().collect();
        names.retain(|name| peer == EVERYONE || name == peer);
        names.iter().for_each(|name| self.set(name, way, false));
        !names.is_empty()
    }

    fn set(&self, peer: &str, way: Way, cut: bool) {
        let mut cuts = self.cuts.write();
        let fresh = Cut { inward: false, outward: false, since: Instant::now() };
        let directions = cuts.entry(peer.to_owned()).or_insert(fresh);
        if way != Way::Out {
            directions.inward = cut;
        }
        if way != Way::In {
            directions.outward = cut;
        }
        cuts.retain(|_, directions| directions.inward || directions.outward);
        drop(cuts);
        self.changed.send_replace(());
    }

    /// Returns a receiver that is notified of every change.
    pub(super) fn changes(&self) -> watch::Receiver<()> {
        self.changed.subscribe()
    }

    /// Whether anything to or from this peer is cut; for [`EVERYONE`], whether all peers are cut at once.
    pub(super) fn cuts(&self, peer: &str) -> bool {
        self.passage(peer, Traffic::Handshake).is_none()
    }

    /// Returns the permission to let something pass, unless it is cut.
    pub(super) fn passage(&self, peer: &str, traffic: Traffic) -> Option<Passage<'_>> {
        if !self.enabled {
            return Some(Passage(None));
        }
        let cuts = self.cuts.read();
        let mut found = [peer, EVERYONE].into_iter().filter_map(|name| cuts.get(name));
        if found.any(|cut| traffic.is_cut_by(*cut)) { None } else { Some(Passage(Some(cuts))) }
    }

    /// Returns what is cut of this peer, by its own name or with all others, and since when.
    pub(super) fn cut_of(&self, peer: &str) -> Option<CutOff> {
        let cuts = self.cuts.read();
        let found = || [peer, EVERYONE].into_iter().filter_map(|name| cuts.get(name));
        let since = found().map(|cut| cut.since).min()?;
        let way = match (found().any(|cut| cut.inward), found().any(|cut| cut.outward)) {
            (true, false) => Way::In,
            (false, true) => Way::Out,
            _ => Way::Both,
        };
        Some(CutOff { way, since })
    }

    /// Waits until something may pass.
    pub(super) async fn pass(&self, peer: &str, traffic: Traffic) {
        if self.passage(peer, traffic).is_some() {
            return;
        }
        let mut changes = self.changes();
        while self.passage(peer, traffic).is_none() && changes.changed().await.is_ok() {}
    }

    /// Runs a future to its end unless its traffic is cut: each of its steps holds a passage. Returns `None` if
    /// it was cut; the future may then have run in part.
    pub(super) async fn guard<F: Future>(
        &self,
        peer: &str,
        traffic: Traffic,
        future: F,
    ) -> Option<F::Output> {
        if !self.enabled {
            return Some(future.await);
        }
        let mut future = pin!(future);
        let mut changes = self.changes();
        let steps = poll_fn(|context| match self.passage(peer, traffic) {
            Some(_held) => future.as_mut().poll(context).map(Some),
            None => Poll::Ready(None),
        });
        let mut steps = pin!(steps);
        loop {
            tokio::select! {
                outcome = &mut steps => return outcome,
                // The next step checks whether the traffic is cut.
                Ok(()) = changes.changed() => {}
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn cuts_are_by_peer_and_direction_until_mended() {
        let faults = Faults::new(true);
        faults.pass("b", Traffic::Inward).await;
        faults.cut("b", Way::In);
        assert!(faults.cuts("b") && !faults.cuts("c"));
        assert_eq!(faults.cut_of("b").map(|cut| cut.way), Some(Way::In));
        assert_eq!(faults.cut_of("c"), None);
        faults.pass("b", Traffic::Outward).await;
        assert!(
            faults.passage("b", Traffic::Inward).is_none()
                && faults.passage("b", Traffic::Handshake).is_none()
        );
        let mended = async { faults.mend("b", Way::Both) };
        let passed = async { tokio::join!(faults.pass("b", Traffic::Inward), mended) };
        passed.await;
        faults.cut(EVERYONE, Way::Both);
        assert!(faults.cuts("b") && faults.cuts("c"));
        faults.cut("c", Way::Out);
        assert_eq!(faults.cut_of("c").map(|cut| cut.way), Some(Way::Both));
        assert!(!faults.mend("b", Way::Both) && faults.cuts("b"), "it is cut with all others");
        assert!(faults.mend(EVERYONE, Way::Both));
        assert!(!faults.cuts("b") && !faults.cuts("c"));
    }
    #[tokio::test]
    async fn what_is_under_way_stops_at_a_cut() {
        let faults = Faults::new(true);
        let steps = std::sync::atomic::AtomicU32::new(0);
        let counting = async {
            loop {
                steps.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
                tokio::task::yield_now().await;
            }
        };
        let counting = faults.guard("b", Traffic::Outward, counting);
        let cutting = async {
            while steps.load(std::sync::atomic::Ordering::Relaxed) < 10 {
                tokio::task::yield_now().await;
            }
            faults.cut("b", Way::In);
            tokio::task::yield_now().await;
            faults.cut(EVERYONE, Way::Out);
            steps.load(std::sync::atomic::Ordering::Relaxed)
        };
        let (outcome, at_the_cut): (Option<()>, u32) = tokio::join!(counting, cutting);
        assert_eq!(outcome, None);
        assert_eq!(steps.into_inner(), at_the_cut);
        // Nothing moves, and the guard ends nevertheless.
        let standing = std::future::pending::<()>();
        let ended = async {
            tokio::join!(faults.guard("c", Traffic::Inward, standing), async { faults.cut("c", Way::In) })
        };
        assert_eq!(ended.await.0, None);
    }
}
