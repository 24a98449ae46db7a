//! Links: makes them, carries their frames and ends them.

use std::collections::VecDeque;
use std::time::Duration;

use bytes::Bytes;
use rand::Rng as _;

use super::network::{Frame, Stage};
use super::node::{Address, Process, name};
use super::world::{Due, HANDSHAKE_LIMIT, SECOND, World};
use crate::ablation::{Ablation, ablated};
use crate::cluster::Figures;
use crate::model::Time;
use crate::replication::cells::{CellsEncoder, CellsError};
use crate::replication::codec;
use crate::replication::heartbeat;
use crate::replication::push;
use crate::replication::session::{Event, LinkError, SILENCE_LIMIT};
use crate::replication::sync::SyncFailed;

impl World {
    /// Dials every target that is not linked.
    pub(super) fn dial(&mut self, node: usize) {
        let Some(process) = self.nodes[node].process.as_ref().filter(|process| process.leaving.is_none())
        else {
            return;
        };
        let wanted: Vec<_> =
            process.targets.iter().copied().filter(|to| !process.links.contains_key(&to.node)).collect();
        for target in wanted {
            let to = target.node;
            let under_way = self.network.between(node, to).into_iter().any(|number| {
                let connection = &self.network.connections[&number];
                connection.ends[0] == node && matches!(connection.stages[0], Stage::Hello | Stage::Welcome(_))
            });
            let is_there = self.nodes[to].process.is_some() && self.nodes[to].address == target;
            if to == node || !self.network.has_edge(node, to) || under_way || !is_there {
                continue;
            }
            let slow = if self.rng.random_bool(0.1) { 400 } else { 30 };
            let latencies = [self.millis(1..slow), self.millis(1..slow)];
            let connection = self.network.open(node, to, latencies);
            self.after(HANDSHAKE_LIMIT, Due::Handshake(connection));
            self.say_hello(connection, 0);
        }
    }

    /// Takes writes from the feed and queues them to all links.
    pub(super) fn feed(&mut self, node: usize) {
        let Some(process) = &mut self.nodes[node].process else { return };
        process.feed_woken = false;
        let store = &process.local.store;
        let mut cells = Vec::new();
        let taken = store.feed().take(&mut cells);
        if taken.overflowed {
            process.links.values().for_each(|link| link.queue.lose_pushes());
        }
        let links = process
            .links
            .values()
            .filter(|link| !ablated(Ablation::SubscribeFirst) || link.session.verified_at().is_some());
        let queues: Vec<_> = links.map(|link| &link.queue).collect();
        if !queues.is_empty() {
            let put = |frame: Bytes, through| {
                queues.iter().for_each(|queue| queue.put(frame.clone(), through));
            };
            push::encode(store, &mut process.encoder, cells, taken.through, put);
        }
        store.feed().handed_on();
        self.stirred.extend(process.links.keys().map(|&peer| (node, peer)));
    }

    /// Does what a node does every second for one link.
    pub(super) fn heartbeat(&mut self, node: usize, connection: u64) {
        let (wall, instant, now) = (self.wall(node), self.instant(), self.now);
        let Some(process) = &mut self.nodes[node].process else { return };
        let frame = heartbeat_of(process, wall);
        let Some((&peer, link)) = process.links.iter_mut().find(|(_, link)| link.connection == connection)
        else {
            return;
        };
        let side = link.side;
        if now - link.heard > SILENCE_LIMIT {
            return self.close(connection, side);
        }
        link.queue.heartbeat(frame);
        if let Err(error) = link.session.tick(&process.local, instant) {
            return self.end_link(node, connection, side, &error);
        }
        self.stirred.insert((node, peer));
        self.after(SECOND, Due::Heartbeat(node, connection));
    }

    /// Sends what is due on every link that may have something to send.
    pub(super) fn settle(&mut self) {
        while let Some((node, peer)) = self.stirred.pop_first() {
            self.pump(node, peer);
        }
    }

    pub(super) fn pump(&mut self, node: usize, peer: usize) {
        let (wall, instant) = (self.wall(node), self.instant());
        loop {
            let Some(process) = &mut self.nodes[node].process else { return };
            let Some(link) = process.links.get_mut(&peer) else { return };
            let connection = link.connection;
            let Some(wire) = self.network.connections.get(&connection) else { return };
            // A socket holds no more than this.
            if wire.lines[1 - link.side].bytes > self.plan.socket {
                return;
            }
            let mut frames = VecDeque::new();
            link.queue.take(&mut frames, self.plan.socket);
            link.session.poll(&process.local, wall, instant, &mut frames);
            let events = link.session.take_events();
            let side = link.side;
            let wake_at = link.session.wake_at(instant).filter(|&at| link.wake_at != Some(at));
            if let Some(at) = wake_at {
                link.wake_at = Some(at);
                self.after(at.saturating_duration_since(instant), Due::Wake(node, connection));
            }
            self.handle(node, peer, events);
            if frames.is_empty() {
                return;
            }
            for frame in frames {
                self.send(connection, 1 - side, Frame::Bytes(frame));
            }
        }
    }

    pub(super) fn send(&mut self, connection: u64, to: usize, frame: Frame) {
        let jitter = self.rng.random_range(0..3_000);
        let Some(wire) = self.network.connections.get_mut(&connection) else { return };
        if wire.broken || matches!(wire.stages[to], Stage::Closed) {
            return;
        }
        let arrives = wire.lines[to].send(frame, self.now, Duration::from_micros(jitter));
        self.after(arrives - self.now, Due::Arrive(connection, to));
    }

    pub(super) fn arrive(&mut self, connection: u64, side: usize) -> Option<usize> {
        let ends = self.network.connections.get(&connection)?.ends;
        let (node, from) = (ends[side], ends[1 - side]);
        if self.network.is_cut(from, node) {
            return None;
        }
        let wire = self.network.connections.get_mut(&connection)?;
        let frame = wire.lines[side].receive(self.now)?;
        if self.nodes[from].process.as_ref().is_some_and(|process| process.links.contains_key(&node)) {
            self.stirred.insert((from, node));
        }
        let bytes = match frame {
            Frame::Bytes(bytes) => bytes,
            Frame::Damaged(bytes) => {
                self.take_damaged(connection, side, &bytes);
                return Some(node);
            }
            Frame::End => {
                self.close(connection, side);
                return Some(node);
            }
        };
        if !matches!(self.network.connections[&connection].stages[side], Stage::Up) {
            self.shake_hands(connection, side, &bytes);
            return Some(node);
        }
        let (wall, instant, now) = (self.wall(node), self.instant(), self.now);
        let process = self.nodes[node].process.as_mut()?;
        let (local, links) = (&process.local, &mut process.links);
        let link = links.get_mut(&from).filter(|link| link.connection == connection)?;
        link.heard = now;
        let message = codec::open(&bytes).map_err(LinkError::from);
        let received = message.and_then(|message| link.session.receive(local, message, wall, instant));
        let events = link.session.take_events();
        self.stirred.insert((node, from));
        self.handle(node, from, events);
        if let Err(error) = received {
            self.end_link(node, connection, side, &error);
        }
        Some(node)
    }

    pub(super) fn end_link(&mut self, node: usize, connection: u64, side: usize, error: &LinkError) {
        match error {
            // One of two connections has become the link meanwhile.
            LinkError::Goodbye | LinkError::Refused(_) | LinkError::Skewed(_) => {}
            LinkError::Cells(CellsError::Future(_)) => {}
            error => self.checker.fail(format!("n{node} takes an honest peer for a liar: {error}")),
        }
        self.close(connection, side);
    }

    pub(super) fn handle(&mut self, node: usize, from: usize, events: Vec<Event>) {
        for event in events {
            let Some(process) = &mut self.nodes[node].process else { return };
            match event {
                Event::TurnOver => self.stirred.extend(process.links.keys().map(|&peer| (node, peer))),
                Event::Finished(finished) => {
                    self.checker.syncs += 1;
                    self.checker.healed += finished.progress.cells_in;
                }
                Event::Failed { why: SyncFailed::RetractionLimit, .. } => {
                    self.checker.fail(format!("n{node} has come to the retraction limit"));
                }
                Event::Lost(lost) => self.checker.on_lost(node, process, &lost, self.now),
                Event::Dial(_, address) => process.targets.extend(Address::parse(&address)),
                Event::Relay(to, cells) => {
                    let Some((&peer, link)) = process.links.iter().find(|(_, link)| link.incarnation == to)
                    else {
                        continue;
                    };
                    let put = |frame, through| link.queue.put(frame, through);
                    push::encode(&process.local.store, &mut CellsEncoder::default(), cells, 0, put);
                    self.stirred.insert((node, peer));
                }
                Event::Withholding(withholds) => {
                    self.checker.withheld += u64::from(withholds);
                    let what = if withholds { "lacks room for" } else { "has taken all" };
                    self.checker.note(self.now, None, || format!("n{node} {what} cells of n{from}"));
                }
                Event::Failed { why, .. } => {
                    self.checker
                        .note(self.now, None, || format!("a sync of n{node} with n{from} fails: {why}"));
                }
                Event::Healing | Event::Heard(..) | Event::KeyReply(..) => {}
            }
        }
    }

    /// Closes an end of a connection, or records that it has noticed the close. Frames in flight may still
    /// arrive.
    pub(super) fn close(&mut self, connection: u64, side: usize) {
        let Some(wire) = self.network.connections.get_mut(&connection) else { return };
        if matches!(std::mem::replace(&mut wire.stages[side], Stage::Closed), Stage::Closed) {
            return;
        }
        wire.lines[side].clear();
        let node = wire.ends[side];
        if matches!(wire.stages[1 - side], Stage::Closed) {
            self.network.connections.remove(&connection);
        } else {
            self.send(connection, 1 - side, Frame::End);
        }
        self.unlink(node, connection);
    }

    pub(super) fn unlink(&mut self, node: usize, connection: u64) {
        let instant = self.instant();
        let Some(process) = &mut self.nodes[node].process else { return };
        let Some((peer, link)) = process.link_over(connection) else { return };
        let incarnation = link.incarnation;
        let Some(mut link) = process.links.remove(&peer) else { return };
        link.session.end(&process.local);
        process.local.members.lock().on_unlink(incarnation);
        for (&other, link) in &mut process.links {
            link.session.want_sync(instant);
            self.stirred.insert((node, other));
        }
    }
}

/// Returns a node's heartbeat, sent every second and before it leaves.
pub(super) fn heartbeat_of(process: &Process, wall: Time) -> Bytes {
    let peers =
        process.links.iter().map(|(&peer, link)| (name(peer), link.incarnation, link.address.to_string()));
    let peers: Vec<_> = peers.collect();
    let peers = peers.iter().map(|(name, id, at)| (&**name, *id, &**at));
    heartbeat::frame(&process.local, wall, peers, &Figures::default())
}
