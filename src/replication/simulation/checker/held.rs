//! Checks that what is reported as held is held: by a queue about its peer, by `WAIT`, and by a node about
//! itself for tokens.

use std::collections::BTreeMap;

use super::super::node::{LinkEnd, Process};
use super::super::world::World;
use super::{Checker, Write};
use crate::model::Incarnation;

/// How many of a writer's changes were found at a holder, by the source of the claim.
#[derive(Default)]
pub(super) struct Checked(BTreeMap<(Says, Incarnation, u64), usize>);

/// The source of a claim that the holder holds what the writer wrote.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
enum Says {
    Writer,
    Holder,
}

impl World {
    /// Checks what a process claims about its peers and about itself.
    pub(in super::super) fn check_held(&mut self, node: usize) {
        let Some(process) = &self.nodes[node].process else { return };
        for (&peer, LinkEnd { link, .. }) in &process.links {
            let Some(other) = &self.nodes[peer].process else { continue };
            if other.incarnation() != link.incarnation {
                continue;
            }
            self.checker.check_claim(Says::Writer, (node, process), (peer, other), link.queue.held());
            let through = process.replica.local.write_acks.held(process.incarnation(), other.incarnation());
            self.checker.check_claim(Says::Holder, (peer, other), (node, process), through);
        }
    }

    /// Checks the count that `WAIT` returns at `node`: at least that many other nodes hold the change `through`
    /// or what has replaced it. A peer that has ended still counts until the node has noticed the end.
    pub(in super::super) fn check_reply(&mut self, node: usize, through: u64, count: usize) {
        let Some(process) = &self.nodes[node].process else { return };
        let Some(write) = self.checker.write_of(process, through) else { return };
        let others = (0..self.plan.nodes).filter(|&peer| peer != node);
        let holds = |peer: &usize| match (&self.nodes[*peer].process, process.links.get(peer)) {
            (Some(other), link) => {
                let is_another = link.is_some_and(|end| end.link.incarnation != other.incarnation());
                is_another || self.checker.is_held(*peer, other, write)
            }
            (None, link) => link.is_some(),
        };
        let holders: Vec<_> = others.filter(holds).collect();
        if count > holders.len() {
            let text =
                format!("WAIT at n{node} counts {count} holders of {write:?}, and only {holders:?} hold it");
            let key = write.key;
            self.checker.fail_at(Some(key), text);
        }
    }
}

impl Checker {
    /// Returns the write that a process has published as its change `through`.
    fn write_of(&self, process: &Process, through: u64) -> Option<&Write> {
        let writes = self.writes.get(&process.incarnation())?;
        let later = usize::try_from(process.replica.local.store.feed().sequence() - through).ok()?;
        writes.get(writes.len().checked_sub(later + 1)?)
    }

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
