//! The steps that a cluster can take, and which of them a scenario allows.

use std::fmt;

/// A client's write to the key with this number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum ClientWrite {
    Set(u8),
    /// A `SET` with a deadline that passes when the clock is moved.
    SetFor(u8),
    Del(u8),
    /// A deadline that passes when the clock is moved.
    Expire(u8),
    Persist(u8),
    Incr(u8),
}

impl ClientWrite {
    pub(super) fn key(self) -> usize {
        let (ClientWrite::Set(key)
        | ClientWrite::SetFor(key)
        | ClientWrite::Del(key)
        | ClientWrite::Expire(key)
        | ClientWrite::Persist(key)
        | ClientWrite::Incr(key)) = self;
        usize::from(key)
    }
}

impl fmt::Display for ClientWrite {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ClientWrite::Set(key) => write!(f, "SET k{key}"),
            ClientWrite::SetFor(key) => write!(f, "SET k{key} with a deadline"),
            ClientWrite::Del(key) => write!(f, "DEL k{key}"),
            ClientWrite::Expire(key) => write!(f, "EXPIRE k{key}"),
            ClientWrite::Persist(key) => write!(f, "PERSIST k{key}"),
            ClientWrite::Incr(key) => write!(f, "INCR k{key}"),
        }
    }
}

/// One step of a history.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Action {
    /// A client writes at a node; the push goes onto the wire to every linked peer.
    Write {
        node: u8,
        write: ClientWrite,
    },
    /// The oldest frame on the wire from one node to another arrives.
    Deliver {
        from: u8,
        to: u8,
    },
    /// A node offers a sync to a peer.
    Begin {
        node: u8,
        peer: u8,
    },
    /// A sync, begun by `node` unless one is under way, with everything on the wires between the two.
    Sync {
        node: u8,
        peer: u8,
    },
    /// The same, but the link is cut after so many frames.
    Interrupt {
        node: u8,
        peer: u8,
        frames: u8,
    },
    Cut {
        a: u8,
        b: u8,
    },
    /// The link comes up, and the first sync over it has been offered.
    Link {
        a: u8,
        b: u8,
    },
    /// The queue of pushes from one node to another overflows: the pushes in flight are lost.
    Lose {
        from: u8,
        to: u8,
    },
    /// A node sends a heartbeat; it arrives at once if nothing is in flight before it.
    Heartbeat {
        from: u8,
        to: u8,
    },
    /// A node computes its stable time, frees what has expired and purges.
    Tick {
        node: u8,
    },
    /// Heartbeats go over every link with nothing in flight, then every node ticks.
    Upkeep,
    /// A node declares the members away that it has no link to and has not heard of late.
    Lapse {
        node: u8,
    },
    /// A process ends, and an empty one starts in its place, without links.
    Restart {
        node: u8,
    },
    /// The clock moves past every deadline set so far.
    Pass,
}

impl fmt::Display for Action {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Action::Write { node, write } => write!(f, "{write} at n{node}"),
            Action::Deliver { from, to } => write!(f, "a frame arrives n{from} -> n{to}"),
            Action::Begin { node, peer } => write!(f, "n{node} offers a sync to n{peer}"),
            Action::Sync { node, peer } => write!(f, "sync n{node} - n{peer}"),
            Action::Interrupt { node, peer, frames } => {
                write!(f, "sync n{node} - n{peer}, cut after {frames} frames")
            }
            Action::Cut { a, b } => write!(f, "cut n{a} - n{b}"),
            Action::Link { a, b } => write!(f, "link n{a} - n{b}"),
            Action::Lose { from, to } => write!(f, "pushes lost n{from} -> n{to}"),
            Action::Heartbeat { from, to } => write!(f, "heartbeat n{from} -> n{to}"),
            Action::Tick { node } => write!(f, "tick of n{node}"),
            Action::Upkeep => write!(f, "heartbeats over idle links, tick of all"),
            Action::Lapse { node } => write!(f, "n{node} declares away whom it has not heard"),
            Action::Restart { node } => write!(f, "restart of n{node}"),
            Action::Pass => write!(f, "the clock moves past all deadlines"),
        }
    }
}

/// The size of the steps of syncs and upkeep.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Grain {
    /// Every frame, heartbeat and tick is a step.
    Frames,
    /// Every frame of a sync is a step; heartbeats and ticks are one.
    Syncs,
    /// A sync is one step, which may be cut after any frame; heartbeats and ticks are one.
    Whole,
}

/// A cluster to explore, the steps it may take, and how often.
#[derive(Clone, Copy, Debug)]
pub(super) struct Scenario {
    pub(super) name: &'static str,
    pub(super) nodes: usize,
    /// Pairs that never have a link.
    pub(super) never_linked: &'static [(u8, u8)],
    pub(super) grain: Grain,
    /// Every client may make any of these writes, at any node of `writers`.
    pub(super) writes: &'static [ClientWrite],
    /// The nodes at which clients write; empty for all.
    pub(super) writers: &'static [u8],
    /// The steps that have been taken before every history begins.
    pub(super) before: &'static [Action],
    pub(super) limits: Limits,
    /// The most steps of a history.
    pub(super) depth: usize,
    /// Whether a purged delete may be undone by a write that no node had seen when it was purged, as documented
    /// for nodes that were away or not met yet.
    pub(super) may_undo: bool,
    /// Whether a member that is declared away may cost writes, as documented.
    pub(super) may_give_up: bool,
    /// Whether the nodes have met before the history begins.
    pub(super) met: bool,
    /// How many milliseconds the clock of each node is ahead; a node that is not listed is not ahead.
    pub(super) ahead: &'static [u64],
    /// Every node's `--max-memory`. In the end clients delete every key at every node.
    pub(super) max_memory: Option<u64>,
}

/// How often each kind of step may happen in one history.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Limits {
    pub(super) writes: u8,
    pub(super) cuts: u8,
    pub(super) losses: u8,
    pub(super) restarts: u8,
    pub(super) lapses: u8,
    pub(super) passes: u8,
}

impl Limits {
    pub(super) const NONE: Limits =
        Limits { writes: 0, cuts: 0, losses: 0, restarts: 0, lapses: 0, passes: 0 };

    /// Returns the limit that counts this kind of step, if there is one.
    pub(super) fn of(&mut self, action: Action) -> Option<&mut u8> {
        match action {
            Action::Write { .. } => Some(&mut self.writes),
            Action::Cut { .. } | Action::Interrupt { .. } => Some(&mut self.cuts),
            Action::Lose { .. } => Some(&mut self.losses),
            Action::Restart { .. } => Some(&mut self.restarts),
            Action::Lapse { .. } => Some(&mut self.lapses),
            Action::Pass => Some(&mut self.passes),
            _ => None,
        }
    }

    pub(super) fn bytes(self) -> [u8; 6] {
        [self.writes, self.cuts, self.losses, self.restarts, self.lapses, self.passes]
    }
}
