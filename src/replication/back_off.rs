//! How long a node waits before it dials again.

use std::time::Duration;

/// How long opening a connection, or resolving a name, may take.
pub(super) const CONNECT_LIMIT: Duration = Duration::from_secs(3);

/// The first pause after a failure; each further failure doubles it.
const FIRST_PAUSE: Duration = Duration::from_millis(100);

/// The longest pause between two attempts, and how often a name is resolved again.
const LONGEST_PAUSE: Duration = Duration::from_secs(5);

/// Every node that has the address of a reachable node dials it within this time.
pub(super) const REDIAL_LIMIT: Duration = LONGEST_PAUSE.saturating_add(CONNECT_LIMIT);

/// Pauses that double, each shortened at random by up to a half so that nodes do not retry in step.
pub(super) struct BackOff(Duration);

impl BackOff {
    pub(super) fn new() -> Self {
        BackOff(FIRST_PAUSE)
    }

    /// Begins with the longest pause.
    pub(super) fn longest() -> Self {
        BackOff(LONGEST_PAUSE)
    }

    /// Returns the next pause; `random` is any number.
    pub(super) fn next(&mut self, random: u64) -> Duration {
        let full = self.0;
        self.0 = (full * 2).min(LONGEST_PAUSE);
        let thousandths = u32::try_from(random % 500).unwrap_or(0);
        full - full * thousandths / 1000
    }
}
