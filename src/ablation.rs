//! Rules that can be switched off, so that a checker can be shown to notice.
//!
//! The simulation of whole clusters proves nothing unless it fails when a rule is missing. Each [`Ablation`]
//! leaves out one rule, at the one place where it is applied. In a build without the simulation
//! [`ablated`] is the constant `false` and nothing of this remains.

/// A rule to leave out.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[cfg_attr(not(any(test, feature = "simulation")), expect(dead_code, reason = "one is the simulation's own"))]
pub(crate) enum Ablation {
    /// A cell that is absent is taken in however old it is.
    Admission,
    /// What a daemon brought along to its first contact is not lifted.
    Lift,
    /// The floor follows the clock instead of what members hold.
    PurgeByTime,
    /// A push counts as proof that everything before it arrived.
    RoundsAloneVerify,
    /// A kill is stamped just above what it kills, not at the floor.
    KillAtFloor,
    /// An unfounded daemon waits for its own addresses alone.
    OwnJoinListOnly,
    /// A link carries rounds before it takes part in pushes.
    SubscribeFirst,
    /// The sums of a range do not follow its cells; what they cost is measured by leaving them out.
    Sums,
    /// The digest leaves tombstones out.
    DigestTombstones,
    /// The clock does not move past what is received.
    ObserveReceived,
    /// A prefix counts as exchanged before the cells that were asked for have arrived.
    ExchangeInFull,
    /// An unfounded daemon computes floors like a founded one.
    Founding,
    /// Members lapse although others hear them.
    LapseOnlySilent,
    /// The stamp of an `EXPIRE` makes an old version admissible.
    AdmitByVersion,
    /// A watcher that catches up is told changes that later ones of their keys follow.
    LastOfKeys,
    /// A reader of changes is not told that it fell behind the floor of its log.
    ToldOfLag,
    /// Acknowledged pushes count as held although others were lost before them and no state was sent since.
    StateAfterLoss,
    /// Writes made during a sync count as held when the sync finishes.
    StateAsOfItsStart,
    /// What a peer's pushes reach up to counts as held although it said that some were lost.
    RoundAfterGap,
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

/// Whether this rule is left out: never.
#[cfg(not(any(test, feature = "simulation")))]
#[inline(always)]
pub(crate) const fn ablated(_rule: Ablation) -> bool {
    false
}
