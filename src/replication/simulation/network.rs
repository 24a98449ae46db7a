//! Simulated connections: frames arrive in order in either direction, after a delay; cuts hold them back,
//! resets lose them.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;

use bytes::Bytes;

use crate::replication::replica::Handshake;

/// The state of one end of a connection.
pub(super) enum Stage {
    /// Messages of the handshake pass.
    New(Box<Handshake>),
    /// The end belongs to a link.
    Up,
    Closed,
}

pub(super) enum Frame {
    Bytes(Bytes),
    /// A frame that was changed on its way.
    Damaged(Bytes),
    /// The other end has closed.
    End,
}

/// The frames in flight in one direction.
pub(super) struct Line {
    pub(super) frames: VecDeque<(Duration, Frame)>,
    pub(super) bytes: usize,
    /// When the last frame arrives; no later frame arrives before it.
    last: Duration,
    latency: Duration,
}

pub(super) struct Connection {
    /// The nodes at both ends; the first one dialled.
    pub(super) ends: [usize; 2],
    pub(super) stages: [Stage; 2],
    /// Indexed by the receiving end.
    pub(super) lines: [Line; 2],
    /// Nothing arrives any more; the ends have not noticed yet.
    pub(super) broken: bool,
}

impl Line {
    fn new(latency: Duration) -> Self {
        Line { frames: VecDeque::new(), bytes: 0, last: Duration::ZERO, latency }
    }

    /// Sends a frame. Returns when it arrives.
    pub(super) fn send(&mut self, frame: Frame, now: Duration, jitter: Duration) -> Duration {
        let arrives = self.last.max(now + self.latency + jitter);
        self.last = arrives;
        if let Frame::Bytes(bytes) = &frame {
            self.bytes += bytes.len();
        }
        self.frames.push_back((arrives, frame));
        arrives
    }

    /// Returns the first frame, if it has arrived.
    pub(super) fn receive(&mut self, now: Duration) -> Option<Frame> {
        self.frames.front().filter(|(arrives, _)| *arrives <= now)?;
        let (_, frame) = self.frames.pop_front()?;
        if let Frame::Bytes(bytes) | Frame::Damaged(bytes) = &frame {
            self.bytes -= bytes.len();
        }
        Some(frame)
    }

    /// Loses every frame in flight.
    pub(super) fn clear(&mut self) {
        self.frames.clear();
        self.bytes = 0;
    }
}

/// The connections, and the directions between two nodes that are cut.
#[derive(Default)]
pub(super) struct Network {
    pub(super) connections: BTreeMap<u64, Connection>,
    pub(super) opened: u64,
    /// Directions from one node to another that are cut, and by how many cuts.
    cuts: BTreeMap<(usize, usize), u32>,
    /// The pairs of nodes that can reach each other at all; the smaller number first.
    pub(super) edges: BTreeSet<(usize, usize)>,
}

impl Network {
    pub(super) fn new(edges: BTreeSet<(usize, usize)>) -> Self {
        Network { edges, ..Network::default() }
    }

    /// Opens a connection, over which `from` sends the first message of `handshake`.
    pub(super) fn open(
        &mut self,
        from: usize,
        to: usize,
        latencies: [Duration; 2],
        handshake: Handshake,
    ) -> u64 {
        self.opened += 1;
        let connection = Connection {
            ends: [from, to],
            stages: [handshake, Handshake::accept()].map(|handshake| Stage::New(Box::new(handshake))),
            lines: latencies.map(Line::new),
            broken: false,
        };
        self.connections.insert(self.opened, connection);
        self.opened
    }

    pub(super) fn has_edge(&self, a: usize, b: usize) -> bool {
        self.edges.contains(&(a.min(b), a.max(b)))
    }

    pub(super) fn is_cut(&self, from: usize, to: usize) -> bool {
        self.cuts.contains_key(&(from, to))
    }

    pub(super) fn cut(&mut self, from: usize, to: usize) {
        *self.cuts.entry((from, to)).or_default() += 1;
    }

    /// Ends one cut. Returns whether frames flow again.
    pub(super) fn mend(&mut self, from: usize, to: usize) -> bool {
        let Some(count) = self.cuts.get_mut(&(from, to)) else { return false };
        *count -= 1;
        let flows = *count == 0;
        if flows {
            self.cuts.remove(&(from, to));
        }
        flows
    }

    /// Returns all connections that have an end at this node.
    pub(super) fn of(&self, node: usize) -> Vec<u64> {
        self.connections.iter().filter(|(_, c)| c.ends.contains(&node)).map(|(&number, _)| number).collect()
    }

    /// Returns all connections between two nodes, whichever dialled.
    pub(super) fn between(&self, a: usize, b: usize) -> Vec<u64> {
        let joins = |ends: [usize; 2]| ends == [a, b] || ends == [b, a];
        self.connections.iter().filter(|(_, c)| joins(c.ends)).map(|(&number, _)| number).collect()
    }
}
