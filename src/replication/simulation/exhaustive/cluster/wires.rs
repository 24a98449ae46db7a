//! Links and wires: sends, delivers and loses the frames between nodes.

use std::collections::VecDeque;
use std::sync::Arc;

use bytes::Bytes;
use xxhash_rust::xxh3::Xxh3;

use super::super::adapter::{self, name};
use super::{Cluster, Link, MAX_FRAMES, Node};
use crate::replication::cells::CellsEncoder;
use crate::replication::codec;
use crate::replication::local::Local;
use crate::replication::message::Message;
use crate::replication::push;
use crate::replication::queue::Queue;
use crate::replication::session::{Event, Session};

impl Cluster<'_> {
    /// Puts everything that a node has to send onto the wires.
    pub(super) fn pump(&mut self, node: usize) {
        let mut again = true;
        while std::mem::take(&mut again) {
            let peers: Vec<usize> = self.nodes[node].links.keys().copied().collect();
            let wall = self.wall_of(node);
            for peer in peers {
                let mut frames = VecDeque::new();
                let Node { local, links, .. } = &mut self.nodes[node];
                let Some(link) = links.get_mut(&peer) else { continue };
                link.queue.take(&mut frames, usize::MAX);
                link.session.poll(local, wall, self.now, &mut frames);
                let events = link.session.take_events();
                for frame in &frames {
                    link.remember(local, self.keys, frame);
                }
                again |= !frames.is_empty();
                self.wire(node, peer).extend(frames);
                again |= self.handle(node, events);
            }
        }
        for link in self.nodes[node].links.values_mut().filter(|link| !link.session.has_work()) {
            link.past = 0;
        }
    }

    /// Handles the events of a session. Returns whether there may be more to send.
    pub(super) fn handle(&mut self, node: usize, events: Vec<Event>) -> bool {
        let mut again = false;
        for event in events {
            match event {
                Event::TurnOver => again = true,
                Event::Relay(to, cells) => {
                    let Node { local, links, .. } = &self.nodes[node];
                    let to =
                        links.iter().find(|(peer, _)| self.nodes[**peer].local.store.own_incarnation() == to);
                    if let Some((_, link)) = to {
                        let put = |frame, through| link.queue.put(frame, through);
                        push::encode(&local.store, &mut CellsEncoder::default(), cells, 0, put);
                        again = true;
                    }
                }
                Event::Failed { why, .. } if self.scenario.max_memory.is_none() => {
                    self.checker.fail(|| format!("a sync of n{node} failed: {why}"));
                }
                Event::Lost(lost) => self.checker.on_lost(node, &lost.key, lost.timestamp),
                _ => {}
            }
        }
        again
    }

    /// Delivers the oldest frame on a wire.
    pub(super) fn receive(&mut self, from: usize, to: usize) -> bool {
        let arrived = self.take_one(from, to);
        self.deliver_answers();
        arrived
    }

    pub(super) fn take_one(&mut self, from: usize, to: usize) -> bool {
        let Some(frame) = self.wire(from, to).pop_front() else { return false };
        let wall = self.wall_of(to);
        let Node { local, links, .. } = &mut self.nodes[to];
        let Some(link) = links.get_mut(&from) else { return false };
        let message = codec::open(&frame).expect("the wires damage nothing");
        let received = link.session.receive(local, message, wall, self.now);
        let events = link.session.take_events();
        link.remember(local, self.keys, &frame);
        if let Err(error) = received {
            self.checker.fail(|| format!("n{to} takes n{from} for a liar: {error}"));
        }
        self.checker.is_push = matches!(self::message(&frame), Some(Message::Put { .. }));
        self.handle(to, events);
        self.checker.look(to, &self.nodes[to].local, wall);
        self.checker.is_push = false;
        self.pump(to);
        true
    }

    /// Delivers acknowledgements and credits that are next on their wires: nothing that the checker checks
    /// depends on when they arrive.
    pub(super) fn deliver_answers(&mut self) {
        let count = self.nodes.len();
        let mut again = true;
        while std::mem::take(&mut again) {
            for from in 0..count {
                for to in 0..count {
                    while self.on_wire(from, to).front().is_some_and(is_answer) {
                        again |= self.take_one(from, to);
                    }
                }
            }
        }
    }

    /// Delivers everything that is on any wire.
    pub(super) fn deliver_all(&mut self) {
        let count = self.nodes.len();
        for _ in 0..MAX_FRAMES {
            let mut moved = false;
            for from in 0..count {
                for to in 0..count {
                    moved |= self.receive(from, to);
                }
            }
            if !moved {
                return;
            }
        }
        self.checker.fail(|| "the nodes never stop to send".into());
    }

    pub(super) fn begin(&mut self, node: usize, peer: usize) -> bool {
        let before = self.on_wire(node, peer).len();
        let Some(link) = self.nodes[node].links.get_mut(&peer) else { return false };
        link.session.want_sync(self.now);
        self.pump(node);
        self.deliver_answers();
        self.on_wire(node, peer).len() > before
    }

    /// Runs a sync with everything on the wires between two nodes, up to `frames` frames. Returns whether there
    /// was anything, and whether nothing was left.
    pub(super) fn sync(&mut self, node: usize, peer: usize, frames: usize) -> (bool, bool) {
        if !self.is_linked(node, peer) {
            return (false, false);
        }
        if self.is_idle(node, peer) && !self.begin(node, peer) {
            return (false, false);
        }
        let (mut left, mut turn) = (frames, (node, peer));
        while left > 0 {
            let (from, to) = turn;
            turn = (to, from);
            if self.receive(from, to) {
                left -= 1;
            } else if self.on_wire(to, from).is_empty() {
                break;
            }
        }
        if left == 0 && frames == MAX_FRAMES {
            self.checker.fail(|| format!("a sync of n{node} and n{peer} does not end"));
        }
        let ended = self.on_wire(node, peer).is_empty() && self.on_wire(peer, node).is_empty();
        (left < frames, ended)
    }

    pub(super) fn cut(&mut self, a: usize, b: usize) -> bool {
        let mut cut = false;
        for (node, peer) in [(a, b), (b, a)] {
            self.wire(node, peer).clear();
            let incarnation = self.nodes[peer].local.store.own_incarnation();
            let Node { local, links, .. } = &mut self.nodes[node];
            if let Some(mut link) = links.remove(&peer) {
                link.session.end(local);
                adapter::unlink(local, incarnation);
                cut = true;
            }
        }
        // The end of an exchange lets others begin.
        self.pump(a);
        self.pump(b);
        self.deliver_answers();
        cut
    }

    pub(super) fn link(&mut self, a: usize, b: usize) -> bool {
        if self.is_linked(a, b) {
            return false;
        }
        let welcome = [(a, b), (b, a)]
            .map(|(node, peer)| adapter::greet(&self.nodes[node].local, peer, &self.nodes[peer].local));
        if welcome != [true, true] {
            return false;
        }
        for (node, peer) in [(a, b), (b, a)] {
            let ids = [node, peer].map(|node| self.nodes[node].local.store.own_incarnation());
            adapter::link(&self.nodes[node].local, peer, &self.nodes[peer].local, self.wall_of(node));
            let queue = Arc::new(Queue::new(1 << 20));
            let session = Session::new(ids[0], ids[1], &name(peer), Arc::clone(&queue), self.now);
            let link = Link { queue, session, past: 1 };
            self.nodes[node].links.insert(peer, link);
        }
        self.pump(a);
        self.pump(b);
        // Both offer a sync at once, and one of the offers stands.
        self.receive(a, b);
        self.receive(b, a);
        true
    }

    pub(super) fn lose(&mut self, from: usize, to: usize) -> bool {
        let wire = self.wire(from, to);
        let before = wire.len();
        wire.retain(|frame| !matches!(message(frame), Some(Message::Put { .. })));
        if wire.len() == before {
            return false;
        }
        if let Some(link) = self.nodes[from].links.get(&to) {
            link.queue.lose_pushes();
        }
        self.pump(from);
        self.deliver_answers();
        true
    }

    pub(super) fn heartbeat(&mut self, from: usize, to: usize) -> bool {
        let is_heartbeat = |frame: &Bytes| matches!(message(frame), Some(Message::Heartbeat(_)));
        if !self.is_linked(from, to) || self.on_wire(from, to).iter().any(is_heartbeat) {
            return false;
        }
        let Node { local, links, .. } = &self.nodes[from];
        let links: Vec<_> =
            links.keys().map(|&peer| (peer, self.nodes[peer].local.store.own_incarnation())).collect();
        let frame = adapter::heartbeat(local, &links, self.wall_of(from));
        let wire = self.wire(from, to);
        wire.push_back(frame);
        if wire.len() == 1 {
            self.receive(from, to);
        }
        true
    }
}

impl Link {
    /// Adds a frame that a session has received or sent, and what its node held then, to the session's past.
    fn remember(&mut self, local: &Local, keys: &[&[u8]], frame: &Bytes) {
        if !self.session.has_work() {
            self.past = 0;
            return;
        }
        // A heartbeat changes the state of the node, but not of the session.
        if is_answer(frame) || matches!(message(frame), Some(Message::Heartbeat(_))) {
            return;
        }
        let mut hasher = Xxh3::new();
        hasher.update(&self.past.to_le_bytes());
        adapter::hash_frame(frame, &mut hasher);
        adapter::hash_cells(local, keys, &mut hasher);
        adapter::hash_state(local, &mut hasher);
        self.past = hasher.digest();
    }
}

fn message(frame: &Bytes) -> Option<Message<'_>> {
    codec::decode(codec::open(frame).ok()?).ok()
}

/// Whether a frame only acknowledges, or closes a sync so that it is acknowledged.
pub(super) fn is_answer(frame: &Bytes) -> bool {
    match message(frame) {
        Some(Message::Ack { .. } | Message::Credit { .. }) => true,
        Some(Message::Put { cells, .. }) => cells.cells.0.is_empty(),
        _ => false,
    }
}
