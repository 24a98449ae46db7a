//! Rules that can be switched off, so that a checker can be shown to notice.
//!
//! The simulation of whole clusters proves nothing unless it fails when a rule is missing. Each [`Ablation`]
//! leaves out one rule, at the one place where it is applied. In a build without the simulation
//! [`ablated`] is the constant `false` and nothing of this remains.

/// A rule to leave out.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[cfg_attr(not(any(test, feature = "simulation")), expect(dead_code, reason = "one is the simulation's own"))]
pub(crate) enum Ablation {
    /// A part that is absent is admitted although the summary vector covers it.
    Admission,
    /// Incarnations that are away are not closed: what was received of them by pushes alone stays news.
    Close,
    /// The stable time rises while some are away and not closed.
    WaitAway,
    /// The stable time runs ahead of what members hold.
    EarlyPurge,
    /// The stable time stays as it is when there is a member more.
    Regroup,
    /// The stable time rises again before all members have exchanged their states of after there was a member more.
    ExchangeAfterRegroup,
    /// What is dead at the stable time is purged although the summary vector does not cover it.
    PurgeUncovered,
    /// What others have received of those that are away is not taken note of.
    SeenExchanged,
    /// The stable time follows the clock instead of what members hold.
    PurgeByTime,
    /// A push counts as proof that everything before it arrived.
    SyncsAloneRaise,
    /// Digests leave out what is dead at the higher stable time although the two count with other members.
    Cutoff,
    /// A sync counts what was given up in it as incorporated, although the peer has not dropped and listed that yet.
    ClaimGivenUp,
    /// A deadline that had passed when its successor was written leaves the lives that it ended.
    EndedBySuccessor,
    /// A link carries syncs before it takes part in pushes.
    SubscribeFirst,
    /// The sums of a range do not follow its cells; what they cost is measured by leaving them out.
    Sums,
    /// The digest leaves tombstones out.
    DigestTombstones,
    /// The clock does not move past what is received.
    ObserveReceived,
    /// A prefix counts as exchanged before the cells that were asked for have arrived.
    ExchangeInFull,
    /// Members lapse although others hear them.
    LapseOnlySilent,
    /// A watcher that catches up is told changes that later ones of their keys follow.
    LastOfKeys,
    /// A reader of changes is not told that it fell behind the floor of its log.
    ToldOfLag,
    /// Acknowledged pushes count as held although others were lost before them and no state was sent since.
    StateAfterLoss,
    /// Writes made during a sync count as held when the sync finishes.
    StateAsOfItsStart,
    /// Every linked peer counts for `WAIT`, whether or not it has acknowledged the write.
    CountAcknowledged,
    /// Pushes are acknowledged although cells of theirs were refused for want of memory.
    AcknowledgeMerged,
    /// A sync that refused cells for want of memory counts as finished.
    FailRefused,
    /// Cells that were refused for want of memory are not asked for again once there is room.
    RetryRefused,
    /// A delete that grows the cells is refused beyond the memory limits, as other writes are.
    AdmitDeletes,
    /// What a peer's pushes reach up to counts as held although it said that some were lost.
    SyncAfterGap,
}

#[cfg(any(test, feature = "simulation"))]
mod switch {
    use std::cell::Cell;

    use super::Ablation;

    thread_local! {
        static ABLATED: Cell<Option<Ablation>> = const { Cell::new(None) };
    }

    /// Whether this rule is left out, on this thread.
    pub(crate) fn ablated(rule: Ablation) -> bool {
        ABLATED.get() == Some(rule)
    }

    /// Leaves out a rule on this thread, or none.
    #[cfg(test)]
    pub(crate) fn ablate(rule: Option<Ablation>) {
        ABLATED.set(rule);
    }
}

#[cfg(any(test, feature = "simulation"))]
pub(crate) use switch::ablated;

#[cfg(test)]
pub(crate) use switch::ablate;

/// Expects a test to fail where a rule is left out.
#[cfg(test)]
pub(crate) fn must_fail_without(rule: Ablation, test: fn()) {
    let outcome = std::thread::spawn(move || {
        ablate(Some(rule));
        test();
    });
    assert!(outcome.join().is_err(), "the test passes without {rule:?}");
}

/// Whether this rule is left out: never.
#[cfg(not(any(test, feature = "simulation")))]
#[inline(always)]
pub(crate) const fn ablated(_rule: Ablation) -> bool {
    false
}
