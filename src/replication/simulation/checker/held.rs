//! Checks that what is reported as held is held: by a queue about its peer, by `WAIT`, and by a node about
//! itself for tokens.

use std::collections::BTreeMap;

use super::super::node::Process;
use super::{Checker, Write};
use crate::model::Incarnation;

/// How many of a writer's changes were found at a holder, by the source of the claim.
#[derive(Default)]
pub(super) struct Checked(BTreeMap<(Says, Incarnation, u64), usize>);

/// The source of a claim that the holder holds what the writer wrote.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(in super::super) enum Says {
    Writer,
    Holder,
}

impl Checker {
    /// Returns the write that a process has published as its change `through`.
    pub(in super::super) fn write_of(&self, process: &Process, through: u64) -> Option<&Write> {
        let writes = self.writes.get(&process.incarnation())?;
        let later = usize::try_from(process.replica.local.store.feed().sequence() - through).ok()?;
        writes.get(writes.len().checked_sub(later + 1)?)
    }

    /// Checks that `holder` holds what `writer` wrote up to its change `through`.
    pub(in super::super) fn check_claim(
        &mut self,
        says: Says,
        (node, writer): (usize, &Process),
        (peer, holder): (usize, &Process),
        through: u64,
    ) {
        let own = writer.incarnation();
        let Some(writes) = self.writes.get(&own) else { return };
        // Each write is one change; those of earlier incarnations of the process came before.
        let earlier = writer.replica.local.store.feed().sequence() - writes.len() as u64;
        let until = usize::try_from(through.saturating_sub(earlier)).unwrap_or(usize::MAX).min(writes.len());
        let checked = self.held.0.insert((says, own, holder.number), until).unwrap_or(0).min(until);
        let missing = writes[checked..until].iter().find(|write| !self.is_held(peer, holder, write));
        if let Some(missing) = missing.cloned() {
            let text = format!(
                "n{peer} lacks {missing:?}, of change {through} of n{node} at the latest, which it holds as the \
                 {says:?} says"
            );
            self.fail_at(Some(missing.key), text);
        }
    }
}
