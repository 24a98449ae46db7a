//! What is said to be held is held: what a queue says of its peer, for `WAIT`, and what a daemon says of itself, for
//! tokens.

use std::collections::BTreeMap;

use super::super::node::Process;
use super::super::world::World;
use super::Checker;
use crate::model::Incarnation;

/// How many of a writer's changes were found with a holder, by who says so.
#[derive(Default)]
pub(super) struct Checked(BTreeMap<(Says, Incarnation, u64), usize>);

/// Who claims that the holder holds what the writer wrote.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
enum Says {
    Writer,
    Holder,
}

impl World {
    /// Looks at what a process says of its peers and of itself.
    pub(in super::super) fn check_held(&mut self, node: usize) {
        let Some(process) = &self.nodes[node].process else { return };
        for (&peer, link) in &process.links {
            let Some(other) = &self.nodes[peer].process else { continue };
            if other.incarnation() != link.incarnation {
                continue;
            }
            self.checker.check_claim(Says::Writer, (node, process), (peer, other), link.queue.held());
            let through = process.local.holdings.held(process.incarnation(), other.incarnation());
            self.checker.check_claim(Says::Holder, (peer, other), (node, process), through);
        }
    }
}

impl Checker {
    fn check_claim(
        &mut self,
        says: Says,
        (node, writer): (usize, &Process),
        (peer, holder): (usize, &Process),
        through: u64,
    ) {
        let own = writer.incarnation();
        let Some(writes) = self.writes.get(&own) else { return };
        // Each write is one change; those of earlier incarnations of the process came before.
        let earlier = writer.local.store.feed().sequence() - writes.len() as u64;
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
