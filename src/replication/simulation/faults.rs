//! Faults of nodes and links: crashes, leaves, cuts.

use std::time::Duration;

use rand::Rng as _;

use super::network::{Frame, Stage};
use super::node::{Leaving, LinkEnd};
use super::world::{DRAIN_LIMIT, Due, GOODBYE_LIMIT, World};
use crate::cluster::Figures;
use crate::model::Incarnation;
use crate::replication::replica::Leave;

impl World {
    /// Ends the process at a node. Its peers notice at once, or by its silence.
    pub(super) fn crash(&mut self, node: usize) {
        if !self.end_process(node) {
            return;
        }
        let silent = self.rng.random_bool(0.3);
        for number in self.network.of(node) {
            let lost = self.rng.random_bool(0.5);
            let Some(wire) = self.network.connections.get_mut(&number) else { continue };
            let side = usize::from(wire.ends[1] == node);
            wire.lines[side].clear();
            wire.stages[side] = Stage::Closed;
            if lost || silent {
                wire.lines[1 - side].clear();
            }
            if !silent {
                self.send(number, 1 - side, Frame::End);
            }
        }
    }

    /// Ends the process at a node, if one runs. Returns whether one did.
    fn end_process(&mut self, node: usize) -> bool {
        let Some(ended) = self.nodes[node].process.take() else { return false };
        self.note_end(node, ended.incarnation());
        true
    }

    /// Tells the checker that an incarnation has ended at a node.
    pub(super) fn note_end(&mut self, node: usize, incarnation: Incarnation) {
        let running: Vec<_> = self.nodes.iter().filter_map(|node| node.process.as_ref()).collect();
        self.checker.end(node, incarnation, &running, self.now);
    }

    /// Starts an orderly stop: no more writes, and a goodbye as soon as a peer holds everything.
    pub(super) fn leave(&mut self, node: usize) {
        let limit = self.now + DRAIN_LIMIT;
        let Some(process) = &mut self.nodes[node].process else { return };
        if process.leaving.is_none() {
            process.leaving = Some(Leaving { limit, has_parted: false });
            let number = process.number;
            self.checker.note(self.now, None, || format!("n{node} begins to leave"));
            self.after(Duration::ZERO, Due::Drained(node, number));
        }
    }

    pub(super) fn leave_if_drained(&mut self, node: usize) {
        let (now, wall, instant) = (self.now, self.wall(node), self.instant());
        let Some(process) = &mut self.nodes[node].process else { return };
        let links = process.all_links();
        let (number, replica) = (process.number, &process.replica);
        let Some(leaving) = process.leaving.as_mut() else { return };
        let held = replica.leave(&links, || replica.peers.knows_someone(instant)) == Leave::Now;
        if !held && now < leaving.limit {
            return self.after(Duration::from_millis(50), Due::Drained(node, number));
        }
        leaving.has_parted = true;
        self.checker.note(now, None, || format!("n{node} says goodbye, drained: {held}"));
        replica.say_goodbye(&links, &replica.heartbeat(wall, &Figures::default()));
        self.after(GOODBYE_LIMIT, Due::Stop(node, number));
    }

    pub(super) fn stop(&mut self, node: usize) {
        self.end_waits(node);
        self.drop_links(node);
        if !self.end_process(node) {
            return;
        }
        for number in self.network.of(node) {
            let side = usize::from(self.network.connections[&number].ends[1] == node);
            self.close(number, side);
        }
    }

    /// Breaks a connection: frames in flight are lost, and the two ends notice one after the other.
    pub(super) fn reset(&mut self, connection: u64) {
        let Some(wire) = self.network.connections.get_mut(&connection) else { return };
        wire.broken = true;
        wire.lines.iter_mut().for_each(super::network::Line::clear);
        for side in [0, 1] {
            let late = self.millis(0..300);
            self.after(late, Due::Break(connection, side));
        }
    }

    pub(super) fn cut(&mut self, from: usize, to: usize) {
        self.network.cut(from, to);
    }

    /// Ends a cut: frames that it held back arrive now, if the link still stands.
    pub(super) fn mend(&mut self, from: usize, to: usize) {
        if !self.network.mend(from, to) {
            return;
        }
        for number in self.network.between(from, to) {
            let wire = &self.network.connections[&number];
            let side = usize::from(wire.ends[1] == to);
            for _ in 0..wire.lines[side].frames.len() {
                self.after(Duration::from_millis(1), Due::Arrive(number, side));
            }
        }
    }

    /// Checks that the peer holds everything that a queue claims.
    pub(super) fn check_drained(&mut self, node: usize) {
        let Some(process) = &self.nodes[node].process else { return };
        for (&peer, LinkEnd { link, .. }) in &process.links {
            if let Some(other) = &self.nodes[peer].process
                && other.incarnation() == link.incarnation
                && process.replica.local.store.feed().is_empty()
                && link.queue.is_drained()
            {
                self.checker.check_drained(node, process, peer, other);
            }
        }
    }
}
