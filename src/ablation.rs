//! Rules that can be switched off, to show that a checker notices.
//!
//! The simulation of whole clusters proves nothing unless it fails when a rule is missing. Each [`Ablation`] leaves
//! out one rule, at the one place where it is applied. In a build without the simulation [`ablated`] is the constant
//! `false`, so the compiler removes every check.

/// A rule to leave out. Each variant describes the node without the rule.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Ablation {
    /// An absent part is admitted although the summary vector covers it.
    Admission,
    /// Incarnations that are away are not closed: their writes that were received only by pushes stay uncovered.
    Close,
    /// The stable time rises while incarnations that are away are not closed.
    WaitAway,
    /// The stable time runs ahead of what members hold.
    EarlyPurge,
    /// The stable time is not reset when a member is added.
    Regroup,
    /// After a member is added or leaves, the stable time rises and incarnations are closed before all members have
    /// exchanged the states they had after that.
    ExchangeAfterRegroup,
    /// As [`ExchangeAfterRegroup`](Self::ExchangeAfterRegroup), but only after a member has left.
    ExchangeAfterLeave,
    /// A part that is dead at the stable time is purged although the summary vector does not cover it.
    PurgeUncovered,
    /// What other members have received of incarnations that are away is ignored.
    SeenExchanged,
    /// The stable time follows the clock instead of what members hold.
    PurgeByTime,
    /// A push counts as proof that everything before it arrived.
    SyncsAloneRaise,
    /// Digests leave out what is dead at the higher stable time, although the two nodes count different members.
    Cutoff,
    /// A sync counts what was given up in it as incorporated, although the peer has not dropped and listed that yet.
    ClaimGivenUp,
    /// A deadline that had passed when its successor was written does not end the lives that began before it.
    EndedBySuccessor,
    /// A link carries syncs before it takes part in pushes.
    SubscribeFirst,
    /// The sums of a range are not updated when a cell is replaced; used to measure what they cost.
    Sums,
    /// The digest leaves tombstones out.
    DigestTombstones,
    /// The clock does not move past received times.
    ObserveReceived,
    /// A tree node counts as exchanged before the requested cells have arrived.
    ExchangeInFull,
    /// A range counts as equal once its uncovered cells were exchanged, without another comparison.
    VerifyUncovered,
    /// Ranges whose brief sums look equal count as equal.
    VerifyRest,
    /// Members lapse although others receive their heartbeats.
    LapseOnlySilent,
    /// A watcher that catches up is sent changes that later ones of their keys follow.
    LastOfKeys,
    /// A reader of changes is not notified that it fell behind the oldest change of its log.
    ToldOfLag,
    /// Acknowledged pushes count as held although earlier pushes were lost and no state was sent since.
    StateAfterLoss,
    /// Writes made during a sync count as held when the sync finishes.
    StateAsOfItsStart,
    /// Every linked peer counts for `WAIT`, whether or not it has acknowledged the write.
    CountAcknowledged,
    /// Pushes are acknowledged although some of their cells were refused for lack of memory.
    AcknowledgeMerged,
    /// A sync that refused cells for lack of memory counts as completed.
    FailRefused,
    /// Cells that were refused for lack of memory are not requested again once there is room.
    RetryRefused,
    /// A delete that grows the cells is refused beyond the memory limits, as other writes are.
    AdmitDeletes,
    /// A connection becomes a link although this node has discarded its state since it introduced itself over it.
    Renewed,
    /// Links go on after this node has discarded its state.
    RejoinEndsLinks,
    /// Of two connections between two nodes, each takes the later one for the link.
    OneConnection,
    /// A peer's pushes count as held although it reported that some were lost.
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

/// Checks that a test fails if a rule is left out.
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
