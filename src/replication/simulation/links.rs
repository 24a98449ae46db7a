//! Links: carries their frames, performs what the nodes ask for, and ends them.

use std::collections::VecDeque;
use std::pin::pin;
use std::task::{Context, Waker};
use std::time::Duration;

use rand::Rng as _;

use super::network::{Frame, Stage};
use super::node::{Address, Process};
use super::world::{Due, SECOND, World};
use crate::cluster::Figures;
use crate::replication::cells::CellsError;
use crate::replication::codec;
use crate::replication::link_error::LinkError;
use crate::replication::peers::Link;
use crate::replication::replica::Effect;
use crate::replication::sync::SyncFailed;

impl World {
    /// Dials every target that is not linked.
    pub(super) fn dial(&mut self, node: usize) {
        let Some(process) = self.nodes[node].process.as_ref().filter(|process| process.is_open()) else {
            return;
        };
        let linked = |to: &Address| process.links.contains_key(&to.node);
        let wanted: Vec<_> = process.targets().into_iter().filter(|to| !linked(to)).collect();
        for target in wanted {
            let to = target.node;
            let under_way = self.network.between(node, to).into_iter().any(|number| {
                let connection = &self.network.connections[&number];
                connection.ends[0] == node && matches!(connection.stages[0], Stage::New(_))
            });
            let is_there = self.nodes[to].process.is_some() && self.nodes[to].address == target;
            if to != node && self.network.has_edge(node, to) && !under_way && is_there {
                self.open(node, to);
            }
        }
    }

    /// Takes writes from the feed and queues them to all links.
    pub(super) fn feed(&mut self, node: usize) {
        let Some(process) = &mut self.nodes[node].process else { return };
        process.feed_woken = false;
        process.replica.push(|_| ());
    }

    /// Does what a node does every second for one link.
    pub(super) fn heartbeat(&mut self, node: usize, connection: u64) {
        let (wall, instant) = (self.wall(node), self.instant());
        let Some(process) = &mut self.nodes[node].process else { return };
        let frame = process.replica.heartbeat(wall, &Figures::default());
        let Some(end) = process.links.values().find(|end| end.connection == connection) else { return };
        let side = end.side;
        match process.replica.tick(&end.link, end.last_received, false, frame, instant) {
            Ok(()) => self.after(SECOND, Due::Heartbeat(node, connection)),
            Err(error) => self.end_link(node, connection, side, &error),
        }
    }

    /// Sends what is due on every link that may have something to send after an event, and closes what is to be closed.
    /// An event at one node wakes no link of another.
    pub(super) fn run_links(&mut self, at: Option<usize>) {
        match at {
            Some(node) => self.look_at_links(node),
            None => (0..self.plan.nodes).for_each(|node| self.look_at_links(node)),
        }
        while let Some((node, peer)) = self.stirred.pop_first() {
            self.pump(node, peer);
            self.look_at_links(node);
        }
    }

    /// Looks which links of a node were woken, and which are to be closed.
    fn look_at_links(&mut self, node: usize) {
        let Some(process) = &self.nodes[node].process else { return };
        let mut context = Context::from_waker(Waker::noop());
        let mut closing = Vec::new();
        for (&peer, end) in &process.links {
            if end.link.stop.is_cancelled() {
                closing.push((end.connection, end.side));
            } else if pin!(end.link.queue.ready()).poll(&mut context).is_ready() {
                self.stirred.insert((node, peer));
            }
        }
        for (connection, side) in closing {
            self.close_for(connection, side, &LinkError::Superseded);
        }
    }

    pub(super) fn pump(&mut self, node: usize, peer: usize) {
        let (wall, instant) = (self.wall(node), self.instant());
        loop {
            let Some(process) = &mut self.nodes[node].process else { return };
            let Some(end) = process.links.get_mut(&peer) else { return };
            let (connection, side) = (end.connection, end.side);
            let Some(wire) = self.network.connections.get(&connection) else { return };
            // A socket holds no more than this.
            if wire.lines[1 - side].bytes > self.plan.socket {
                return;
            }
            let mut frames = VecDeque::new();
            let polled = process.replica.poll(&end.link, &mut frames, self.plan.socket, wall, instant);
            let wake_at = polled.wake_at.filter(|&at| end.wake_at != Some(at));
            if let Some(at) = wake_at {
                end.wake_at = Some(at);
                self.after(at.saturating_duration_since(instant), Due::Wake(node, connection));
            }
            self.perform(node, peer, polled.effects);
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
        let wire = self.network.connections.get_mut(&connection)?;
        if let Stage::New(_) = wire.stages[side]
            && let Stage::New(handshake) = std::mem::replace(&mut wire.stages[side], Stage::Up)
        {
            self.shake_hands(connection, side, handshake, &bytes);
            return Some(node);
        }
        let (wall, instant) = (self.wall(node), self.instant());
        let process = self.nodes[node].process.as_mut()?;
        let end = process.links.get_mut(&from).filter(|end| end.connection == connection)?;
        end.last_received = instant;
        let message = match codec::open(&bytes) {
            Ok(message) => message,
            Err(error) => {
                self.end_link(node, connection, side, &error.into());
                return Some(node);
            }
        };
        let received = process.replica.receive(&end.link, message, wall, instant);
        self.perform(node, from, received.effects);
        if let Err(error) = received.in_sync {
            self.end_link(node, connection, side, &error);
        }
        Some(node)
    }

    pub(super) fn end_link(&mut self, node: usize, connection: u64, side: usize, error: &LinkError) {
        match error {
            // One of two connections has become the link meanwhile.
            LinkError::Goodbye | LinkError::Refused(_) | LinkError::Skewed(_) | LinkError::Silent => {}
            LinkError::Cells(CellsError::Future(_)) => {}
            error => self.checker.fail(format!("n{node} takes an honest peer for a liar: {error}")),
        }
        self.close_for(connection, side, error);
    }

    /// Performs what a process asks for.
    fn perform(&mut self, node: usize, from: usize, effects: Vec<Effect>) {
        for effect in effects {
            let Some(process) = &self.nodes[node].process else { return };
            match effect {
                Effect::Finished(finished) => {
                    self.checker.syncs += 1;
                    self.checker.healed += finished.progress.cells_in;
                }
                Effect::Failed { why: SyncFailed::RetractionLimit, .. } => {
                    self.checker.fail(format!("n{node} has come to the retraction limit"));
                }
                Effect::Lost(lost) => self.checker.on_lost(node, process, &lost, self.now),
                Effect::Withholding(withholds) => {
                    self.checker.withheld += u64::from(withholds);
                    let what = if withholds { "lacks room for" } else { "has taken all" };
                    self.checker.note(self.now, None, || format!("n{node} {what} cells of n{from}"));
                }
                Effect::Failed { why, .. } => {
                    self.checker
                        .note(self.now, None, || format!("a sync of n{node} with n{from} fails: {why}"));
                }
                // Every second each node dials what it is not linked to.
                Effect::Dial(_) | Effect::Healing | Effect::Deliver(..) | Effect::KeyReply(..) => {}
            }
        }
    }

    /// Closes an end of a connection, or records that it has noticed the close. Frames in flight may still
    /// arrive.
    pub(super) fn close(&mut self, connection: u64, side: usize) {
        self.close_for(connection, side, &LinkError::Closed);
    }

    fn close_for(&mut self, connection: u64, side: usize, error: &LinkError) {
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
        let Some(process) = &mut self.nodes[node].process else { return };
        let Some((peer, _)) = process.link_over(connection) else { return };
        if let Some(end) = process.links.remove(&peer) {
            self.end_link_over(node, &end.link, error);
        }
    }

    /// Ends a link whose connection has ended.
    pub(super) fn end_link_over(&mut self, node: usize, link: &Link, error: &LinkError) {
        let (wall, instant) = (self.wall(node), self.instant());
        let Some(Process { replica, .. }) = &self.nodes[node].process else { return };
        replica.close(link, error, || replica.heartbeat(wall, &Figures::default()), instant);
    }
}
