//! Has the checker look at what nodes claim to be held.

use super::checker::Says;
use super::node::LinkEnd;
use super::world::World;

impl World {
    /// Checks what a process claims about its peers and about itself.
    pub(super) fn check_held(&mut self, node: usize) {
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
    pub(super) fn check_reply(&mut self, node: usize, through: u64, count: usize) {
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
