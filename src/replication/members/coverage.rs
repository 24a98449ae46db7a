//! Incarnations that are not members: when they are closed, and how two nodes compare their coverage.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use xxhash_rust::xxh3::xxh3_64;

use super::summary::BUCKETS;
use super::{Away, Declared, Membership};
use crate::ablation::{Ablation, ablated};
use crate::model::{Incarnation, Time, timestamp};
use crate::store::Coverage;

/// The most incarnations that are not members whose coverage is kept. Beyond it the one with the oldest writes
/// is dropped: its writes are then admitted again if a member that was away since then sends a stale copy.
const MAX_CLOSED: usize = 65_536;

/// How long an incarnation of which only a write was received stays unknown before it counts as ended. Gossip
/// names a living member within seconds.
const UNKNOWN_LIMIT: Duration = Duration::from_secs(60);

/// Up to when the writes of one incarnation that is not a member are incorporated.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::replication) struct ClosedCoverage {
    pub(in crate::replication) incarnation: Incarnation,
    pub(in crate::replication) synced: Time,
    pub(in crate::replication) closed: Time,
}

fn bucket_of(incarnation: Incarnation) -> usize {
    usize::from(incarnation.to_le_bytes()[0]) % BUCKETS
}

impl Membership {
    /// The incarnations that are not members, and their coverage.
    fn others_covered(&self) -> impl Iterator<Item = (Incarnation, Coverage)> {
        let present: BTreeSet<_> = self.roster.present().map(|(_, member)| member.incarnation).collect();
        let others = self.origins.iter().filter(|(_, coverage)| !coverage.is_none());
        others.filter(move |(incarnation, _)| !present.contains(incarnation))
    }

    fn closed(&self) -> impl Iterator<Item = (Incarnation, Coverage)> {
        self.others_covered().filter(|(_, coverage)| !coverage.is_open())
    }

    /// The hash of each bucket of the coverage of closed incarnations; empty if none is closed.
    pub(super) fn coverage_hashes(&self) -> Vec<u64> {
        let mut hashes = Vec::new();
        for (incarnation, coverage) in self.closed() {
            hashes.resize(BUCKETS, 0u64);
            let mut bytes = [0; 32];
            bytes[..16].copy_from_slice(&incarnation.to_le_bytes());
            bytes[16..24].copy_from_slice(&coverage.synced.0.to_le_bytes());
            bytes[24..].copy_from_slice(&coverage.closed.0.to_le_bytes());
            let hash = &mut hashes[bucket_of(incarnation)];
            *hash = hash.wrapping_add(xxh3_64(&bytes));
        }
        hashes
    }

    /// The coverage of closed incarnations in the buckets whose hashes differ between two summaries.
    pub(in crate::replication) fn coverage(&self, ours: &[u64], theirs: &[u64]) -> Vec<ClosedCoverage> {
        let hash = |hashes: &[u64], bucket| hashes.get(bucket).copied().unwrap_or_default();
        let differs = |bucket: usize| hash(ours, bucket) != hash(theirs, bucket);
        let closed = self.closed().filter(|(incarnation, _)| differs(bucket_of(*incarnation)));
        closed
            .map(|(incarnation, coverage)| ClosedCoverage {
                incarnation,
                synced: coverage.synced,
                closed: coverage.closed,
            })
            .collect()
    }

    /// The incarnations that are neither members nor closed, for the summary.
    pub(super) fn open(&self) -> Vec<Away> {
        let since =
            |incarnation| self.away.get(&incarnation).map(|declared| declared.since).unwrap_or_default();
        let open = self.others_covered().filter(|(_, coverage)| coverage.is_open());
        open.map(|(incarnation, coverage)| Away {
            incarnation,
            since: since(incarnation),
            seen: coverage.seen,
        })
        .collect()
    }

    /// Handles a peer's list of incarnations that are away.
    pub(super) fn on_away(&mut self, away: &[Away]) {
        for &Away { incarnation, since, seen } in away {
            if incarnation == self.incarnation {
                continue;
            }
            if let Ok(origin) = self.origins.intern(incarnation)
                && !ablated(Ablation::SeenExchanged)
            {
                self.origins.see(origin, seen);
            }
            // Only others declared it away: they may have members that this node has not received yet, and that
            // have not sent their states here. So this node declares it by its own clock, and then waits for
            // the latest clock of all.
            if let Some(known) = self.away.get_mut(&incarnation) {
                known.since = since.max(known.since);
            }
        }
    }

    /// Records since when incarnations that are not members are away. A write of a closed one opens it again; a
    /// write of a declared one declares it anew, because members may have sent their states before the write
    /// reached them.
    pub(super) fn note_away(&mut self, now: Time) {
        let open: BTreeMap<_, _> =
            self.open().into_iter().map(|away| (away.incarnation, away.seen)).collect();
        self.away.retain(|incarnation, declared| open.get(incarnation) == Some(&declared.seen));
        self.unknown.retain(|incarnation, _| open.contains_key(incarnation));
        for (incarnation, seen) in open {
            if self.away.contains_key(&incarnation) {
                continue;
            }
            let has_ended = self.roster.has_ended(incarnation);
            if !has_ended && !self.unknown.contains_key(&incarnation) && !ablated(Ablation::Regroup) {
                // It may be a member that this node has not received yet.
                self.reset_stable_time();
            }
            let since = *self.unknown.entry(incarnation).or_insert(now);
            if has_ended || timestamp::later(since, UNKNOWN_LIMIT) < now {
                self.away.insert(incarnation, Declared { since: now, seen });
            }
        }
    }

    /// Closes the incarnations that were declared away before `acknowledged`, the time up to which every member has
    /// incorporated every member's state. It must be later than the members' agreement on who they are: then what
    /// any member holds of these incarnations, also from a former member, is held by all. Returns whether none is
    /// left.
    pub(super) fn close_away(&mut self, acknowledged: Time) -> bool {
        self.away.retain(|&incarnation, declared| {
            let is_due = acknowledged > declared.since;
            if is_due && !ablated(Ablation::Close) {
                self.origins.close(incarnation, declared.seen);
            }
            !is_due
        });
        self.open().is_empty() || ablated(Ablation::WaitAway) || ablated(Ablation::Close)
    }

    /// Drops the coverage of the incarnations with the oldest writes if there are too many.
    pub(super) fn limit_coverage(&self) {
        let mut closed: Vec<_> = self.closed().map(|(of, coverage)| (coverage.covered(), of)).collect();
        if closed.len() > MAX_CLOSED {
            closed.sort_unstable();
            let surplus = closed.len() - MAX_CLOSED;
            closed[..surplus].iter().for_each(|&(_, incarnation)| self.origins.drop_coverage(incarnation));
        }
    }
}
