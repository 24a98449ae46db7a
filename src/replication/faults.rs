//! Cuts: what a link carries is held up, as a broken network would, without closing anything.
//!
//! A cut link stands still until it is mended or, after a few seconds of silence, taken for dead; meanwhile no new
//! one comes about. For demonstrations and tests, and only if faults are enabled.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};

use parking_lot::Mutex;
use tokio::sync::watch;
use tokio::time::Instant;

use crate::cluster::Way;

/// The peer that stands for all of them.
pub(super) const EVERYONE: &str = "*";

/// Which directions are cut, and since when one of them is.
#[derive(Clone, Copy, Debug)]
struct Cut {
    inward: bool,
    outward: bool,
    since: Instant,
}

/// A cut, as people are shown it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct CutOff {
    pub(super) way: Way,
    pub(super) since: Instant,
}

/// The cuts in force.
pub(super) struct Faults {
    pub(super) enabled: bool,
    cuts: Mutex<BTreeMap<String, Cut>>,
    /// Spares the lookup, which every frame would otherwise pay for.
    any: AtomicBool,
    changed: watch::Sender<()>,
}

impl Faults {
    pub(super) fn new(enabled: bool) -> Self {
        Faults {
            enabled,
            cuts: Mutex::default(),
            any: AtomicBool::new(false),
            changed: watch::Sender::new(()),
        }
    }

    pub(super) fn cut(&self, peer: &str, way: Way) {
        self.set(peer, way, true);
    }

    /// Mends a peer; for [`EVERYONE`] every peer that was cut. Returns whether anything was cut there.
    pub(super) fn mend(&self, peer: &str, way: Way) -> bool {
        let mut names: Vec<String> = self.cuts.lock().keys().cloned().collect();
        names.retain(|name| peer == EVERYONE || name == peer);
        names.iter().for_each(|name| self.set(name, way, false));
        !names.is_empty()
    }

    fn set(&self, peer: &str, way: Way, cut: bool) {
        let mut cuts = self.cuts.lock();
        let fresh = Cut { inward: false, outward: false, since: Instant::now() };
        let directions = cuts.entry(peer.to_owned()).or_insert(fresh);
        if way != Way::Out {
            directions.inward = cut;
        }
        if way != Way::In {
            directions.outward = cut;
        }
        cuts.retain(|_, directions| directions.inward || directions.outward);
        self.any.store(!cuts.is_empty(), Ordering::Relaxed);
        drop(cuts);
        self.changed.send_replace(());
    }

    /// Wakes its holder after every change.
    pub(super) fn changes(&self) -> watch::Receiver<()> {
        self.changed.subscribe()
    }

    /// Whether anything to or from this peer is cut.
    pub(super) fn cuts(&self, peer: &str) -> bool {
        self.is_cut(peer, |cut| cut.inward || cut.outward)
    }

    /// What of this peer is cut, by its own name or with all others, and since when.
    pub(super) fn cut_of(&self, peer: &str) -> Option<CutOff> {
        let cuts = self.cuts.lock();
        let found = || [peer, EVERYONE].into_iter().filter_map(|name| cuts.get(name));
        let since = found().map(|cut| cut.since).min()?;
        let way = match (found().any(|cut| cut.inward), found().any(|cut| cut.outward)) {
            (true, false) => Way::In,
            (false, true) => Way::Out,
            _ => Way::Both,
        };
        Some(CutOff { way, since })
    }

    fn is_cut(&self, peer: &str, which: impl Fn(Cut) -> bool) -> bool {
        if !self.any.load(Ordering::Relaxed) {
            return false;
        }
        let cuts = self.cuts.lock();
        [peer, EVERYONE].iter().any(|name| cuts.get(*name).is_some_and(|cut| which(*cut)))
    }

    /// Waits until what the peer sends may arrive.
    pub(super) async fn pass_in(&self, peer: &str) {
        self.pass(peer, |cut| cut.inward).await;
    }

    /// Waits until what is sent to the peer may leave.
    pub(super) async fn pass_out(&self, peer: &str) {
        self.pass(peer, |cut| cut.outward).await;
    }

    async fn pass(&self, peer: &str, which: impl Fn(Cut) -> bool) {
        if !self.is_cut(peer, &which) {
            return;
        }
        let mut changes = self.changes();
        while self.is_cut(peer, &which) && changes.changed().await.is_ok() {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn cuts_are_by_peer_and_direction_until_mended() {
        let faults = Faults::new(true);
        faults.pass_in("b").await;
        faults.cut("b", Way::In);
        assert!(faults.cuts("b") && !faults.cuts("c"));
        assert_eq!(faults.cut_of("b").map(|cut| cut.way), Some(Way::In));
        assert_eq!(faults.cut_of("c"), None);
        faults.pass_out("b").await;
        let passed = async { tokio::join!(faults.pass_in("b"), async { faults.mend("b", Way::Both) }) };
        passed.await;
        faults.cut(EVERYONE, Way::Both);
        assert!(faults.cuts("b") && faults.cuts("c"));
        faults.cut("c", Way::Out);
        assert_eq!(faults.cut_of("c").map(|cut| cut.way), Some(Way::Both));
        assert!(!faults.mend("b", Way::Both) && faults.cuts("b"), "it is cut with all others");
        assert!(faults.mend(EVERYONE, Way::Both));
        assert!(!faults.cuts("b") && !faults.cuts("c"));
    }
}
