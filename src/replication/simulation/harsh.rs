//! Faults of harsh histories: nodes that move and join other nodes than before, stops before the first contact,
//! damaged frames, and keys that a cut-off node keeps alive. The other histories do without them, so that their
//! seeds keep their meaning. Harsh histories also have clients that [wait](super::waits) and limits of
//! [memory](super::memory).

use std::time::Duration;

use bytes::Bytes;
use rand::Rng as _;
use rand::seq::IteratorRandom as _;

use super::network::{Frame, Stage};
use super::node::Address;
use super::plan::Act;
use super::world::{DRAIN_LIMIT, Due, SECOND, World};
use crate::model::{Deadline, timestamp};
use crate::replication::codec;
use crate::store::Write;

impl World {
    pub(super) fn harsh_fault(&mut self, node: usize, span: Duration) {
        if self.plan.rejoins && self.rng.random_bool(0.4) {
            return self.rejoin(node);
        }
        match self.rng.random_range(0..10) {
            0..3 => self.damage(node),
            3..5 => self.stop_early(node, span),
            5..8 => {
                self.crash(node);
                self.restart_after(node, span);
            }
            _ => {
                let away = if self.plan.long { self.millis(62_000..75_000) } else { span.max(SECOND * 4) };
                self.isolate(node, away);
                for _ in 0..3 {
                    let at = self.rng.random_range(Duration::ZERO..away);
                    self.after(at, Due::Act(Act::KeepAlive(node)));
                }
            }
        }
    }

    /// Makes a node discard everything and join the others as a new incarnation: to the checker, a process that ends
    /// and another that begins.
    fn rejoin(&mut self, node: usize) {
        self.end_waits(node);
        let incarnation = timestamp::incarnation(self.rng.random()).expect("a random id is not zero");
        let (wall, now) = (self.wall(node), self.now);
        let Some(process) = self.nodes[node].process.as_mut().filter(|process| process.leaving.is_none())
        else {
            return;
        };
        let ended = process.incarnation();
        let discarded = process.replica.rejoin(incarnation, wall);
        let mut discarded = discarded.expect("a history has few incarnations");
        while process.replica.local.store.free(&mut discarded) {}
        self.processes += 1;
        process.number = self.processes;
        process.feed_woken = true;
        self.note_end(node, ended);
        if let Some(process) = &self.nodes[node].process {
            self.checker.begin(node, process, now);
        }
        self.after(Duration::ZERO, Due::Feed(node, self.processes));
        self.after(SECOND, Due::Tick(node, self.processes));
    }

    /// Gives a starting process another address and other nodes to join, at times.
    pub(super) fn move_node(&mut self, node: usize) {
        if self.rng.random_bool(0.3) {
            let port = self.nodes[node].address.port + 1;
            self.nodes[node].place_at(Address { node, port });
        }
        if self.rng.random_bool(0.3) {
            let others = (0..self.plan.nodes).filter(|&other| other != node);
            let known: Vec<_> = others.filter(|_| self.rng.random_bool(0.4)).collect();
            self.nodes[node].join = known.into_iter().map(|other| self.nodes[other].address).collect();
            let join =
                format!("n{node} is at {} and joins {:?}", self.nodes[node].address, self.nodes[node].join);
            self.checker.note(self.now, None, || join);
        }
    }

    /// Updates every node's `--join` to the present addresses, as an operator would.
    pub(super) fn join_all(&mut self) {
        let instant = self.instant();
        let addresses: Vec<_> = self.nodes.iter().map(|node| node.address).collect();
        for (node, join) in self.plan.join.iter().enumerate() {
            let join = join.iter().map(|&other| addresses[other]);
            self.nodes[node].join = join.clone().collect();
            if let Some(process) = &mut self.nodes[node].process {
                for address in join {
                    process.replica.peers.add_target(&address.to_string(), instant);
                }
            }
        }
    }

    /// Stops a process in order soon after it has begun, perhaps before any peer has linked.
    fn stop_early(&mut self, node: usize, span: Duration) {
        self.crash(node);
        let begins = self.millis(100..2_000);
        let stops = begins + self.millis(0..500);
        let ends = stops + DRAIN_LIMIT + SECOND;
        if self.rng.random_bool(0.5) {
            self.isolate(node, ends);
        }
        self.restart_after(node, begins);
        self.after(begins + Duration::from_millis(1), Due::Act(Act::Burst(node)));
        self.after(stops, Due::Act(Act::Leave(node)));
        self.after(ends + span, Due::Start(node));
    }

    /// Changes a byte of a frame in flight to a node.
    pub(super) fn damage(&mut self, node: usize) {
        let lines = self.network.of(node).into_iter().filter_map(|number| {
            let wire = &self.network.connections[&number];
            let side = usize::from(wire.ends[1] == node);
            (!wire.lines[side].frames.is_empty()).then_some((number, side))
        });
        let Some((number, side)) = lines.choose(&mut self.rng) else {
            // No frame is in flight: the next one is damaged.
            return self.after(Duration::from_millis(20), Due::Act(Act::Damage(node)));
        };
        let Some(wire) = self.network.connections.get_mut(&number) else { return };
        let frames = &mut wire.lines[side].frames;
        let at = self.rng.random_range(0..frames.len());
        if let Frame::Bytes(bytes) = &mut frames[at].1 {
            let mut damaged = bytes.to_vec();
            let byte = self.rng.random_range(0..damaged.len());
            damaged[byte] ^= self.rng.random_range(1..=u8::MAX);
            self.checker.note(self.now, None, || format!("a frame on its way to n{node} is damaged"));
            frames[at].1 = Frame::Damaged(damaged.into());
        }
    }

    /// Delivers a damaged frame: it is detected, and ends the connection.
    pub(super) fn take_damaged(&mut self, connection: u64, side: usize, bytes: &Bytes) {
        if codec::open(bytes).is_ok()
            && !matches!(self.network.connections[&connection].stages[side], Stage::Closed)
        {
            self.checker.fail("a damaged frame is taken for a whole one".into());
        }
        self.close(connection, side);
    }

    /// Makes a client extend or remove the deadlines of keys.
    pub(super) fn keep_alive(&mut self, node: usize) {
        for key in 0..self.plan.keys {
            let deadline = Deadline::after(self.wall(node), self.millis(20_000..90_000));
            match self.rng.random_range(0..4) {
                0 => _ = self.write(node, key, Write::Deadline(None)),
                1 => _ = self.write(node, key, Write::Deadline(Some(deadline))),
                _ => {}
            }
        }
    }
}
