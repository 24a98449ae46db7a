//! The control plane of one node: which connections become links, and what follows from what happens on them.
//!
//! ```text
//!   frames of a new connection ---> Handshake --+
//!                                               v
//!   a link's frames, its second, its end ---> Replica ---> table of peers, members, sessions, queues
//!   an operator's command, a shutdown ------->    |
//!                                                 +------> events for the driver: dial, announce, deliver, log
//! ```
//!
//! No I/O, no task and no clock. The tasks of a running node drive it, and so does the scheduler of the simulation: both
//! perform what it asks for. Of a link it asks through the link itself: its queue has woken ([`Queue::ready`]), or its
//! connection is to be closed ([`Link::stop`]). The rest it returns, as [`Effect`]s.
//!
//! Frames of different links are handled concurrently: nothing here holds a lock over more than one step of one link.
//!
//! [`Queue::ready`]: super::queue::Queue::ready

mod handshake;
mod leave;

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use bytes::Bytes;
use tokio::time::Instant;
use tracing_mutex::parkinglot::Mutex;

pub(super) use handshake::{Agreed, Handshake, Reply, Verdict};
pub(super) use leave::Leave;

use super::cells::CellsEncoder;
use super::heartbeat;
use super::hello::{Introduction, Refused};
use super::link_error::{LinkError, SILENCE_LIMIT};
use super::local::Local;
use super::members::ForgetError;
use super::message::Refusal;
use super::peers::{Admitted, Link, Peers};
use super::push::{self, PushBuffers};
use super::session::{Event, Finished};
use super::sync::SyncFailed;
use crate::ablation::{Ablation, ablated};
use crate::cluster::{Direction, Figures, LostCell};
use crate::model::{Incarnation, Time};
use crate::store::{Discarded, KeyCopy, TooManyOrigins};

/// The state of one node that decides about its peers.
pub(super) struct Replica {
    pub(super) local: Local,
    pub(super) peers: Peers,
    /// Locked for each push, so that pushes are queued in the order of the feed.
    buffers: Mutex<PushBuffers>,
}

/// A task for the driver.
#[derive(Debug)]
pub(super) enum Effect {
    /// Dial an address that was not dialled before.
    Dial(String),
    /// Show that a sync over this link has found many differences.
    Healing,
    /// Show that a sync over this link has finished.
    Finished(Finished),
    /// Show that a sync over this link has failed.
    Failed { deep: bool, why: SyncFailed },
    /// Deliver what a client of the peer has published: channel and content.
    Deliver(Box<[u8]>, Box<[u8]>),
    /// Pass on the peer's reply to the key query with this number.
    KeyReply(u32, Box<KeyCopy>),
    /// Record that a cell was given up.
    Lost(LostCell),
    /// Show that the peer has run out of room (true), or has room again (false).
    Withholding(bool),
}

/// The outcome of a frame that was received over a link.
pub(super) struct Received {
    /// Also if the frame was bad: what came before its fault was done.
    pub(super) effects: Vec<Effect>,
    /// Whether a sync is under way, or why the link must end.
    pub(super) in_sync: Result<bool, LinkError>,
}

/// What a link has to send now.
pub(super) struct Polled {
    pub(super) effects: Vec<Effect>,
    pub(super) in_sync: bool,
    /// When there may be something to send without the queue being woken.
    pub(super) wake_at: Option<Instant>,
}

impl Replica {
    pub(super) fn new(local: Local, peers: Peers) -> Self {
        Replica { local, peers, buffers: Mutex::default() }
    }

    /// Returns the incarnation as which this node goes now.
    pub(super) fn incarnation(&self) -> Incarnation {
        self.local.members.lock().incarnation()
    }

    /// Adds an address to those that are dialled. Returns whether it is a new one that is not this node's own.
    pub(super) fn add_target(&self, address: &str, now: Instant) -> bool {
        // A node that does not listen for peers advertises an empty address.
        !address.is_empty() && self.peers.own().advertise != address && self.peers.add_target(address, now)
    }

    /// Refuses a second link to `peer`, and a peer whose name another live node has.
    fn check(&self, peer: &Introduction, own: Incarnation, direction: Direction) -> Result<(), Refused> {
        self.peers.check(peer, own, direction)?;
        if self.local.members.lock().has_live_namesake(&peer.name, peer.incarnation) {
            let text = format!("another live node is named {:?}: give one another --name", peer.name);
            return Err(Refused { refusal: Refusal::Duplicate, text });
        }
        Ok(())
    }

    /// Makes a connection, over which this node has introduced itself as `own`, the link to a peer. From here on the
    /// link receives pushes, and the peer has an effect on this node.
    fn admit(
        &self,
        peer: &Introduction,
        own: Incarnation,
        direction: Direction,
        remote: SocketAddr,
        wall: Time,
        now: Instant,
    ) -> Result<Admitted, LinkError> {
        if self.incarnation() != own && !ablated(Ablation::Renewed) {
            return Err(LinkError::Renewed);
        }
        // Before this node accepts another write, its clock moves past all that the peer has seen.
        self.local.store.observe(peer.hlc);
        let admitted = self.peers.admit(peer, own, direction, remote, now).map_err(LinkError::Refused)?;
        let hlc = self.local.store.now(wall);
        self.local.members.lock().on_link(&peer.name, peer.incarnation, peer.place.generation, hlc);
        if let Some(replaced) = &admitted.replaced {
            replaced.stop.cancel();
        }
        Ok(admitted)
    }

    /// Handles a frame of a link.
    pub(super) fn receive(&self, link: &Link, frame: &[u8], wall: Time, now: Instant) -> Received {
        let (received, events, has_work, in_sync) = {
            let mut session = link.session.lock();
            let received = session.receive(&self.local, frame, wall, now);
            (received, session.take_events(), session.has_work(), session.is_exchanging())
        };
        if has_work {
            link.queue.wake();
        }
        Received { effects: self.act_on(link, events, now), in_sync: received.map(|()| in_sync) }
    }

    /// Moves what a link has to send to `frames`: of its queue about `bytes` bytes, and what its session has due.
    pub(super) fn poll(
        &self,
        link: &Link,
        frames: &mut VecDeque<Bytes>,
        bytes: usize,
        wall: Time,
        now: Instant,
    ) -> Polled {
        link.queue.take(frames, bytes);
        let (wake_at, in_sync, events) = {
            let mut session = link.session.lock();
            session.poll(&self.local, wall, now, frames);
            (session.wake_at(now), session.is_exchanging(), session.take_events())
        };
        Polled { effects: self.act_on(link, events, now), in_sync, wake_at }
    }

    /// Does what is due for a link every second. `last_received` is when something last arrived. After a pause of this node
    /// itself (`paused`) what the peer has sent meanwhile is not read yet, so nothing is concluded from silence.
    pub(super) fn tick(
        &self,
        link: &Link,
        last_received: Instant,
        paused: bool,
        heartbeat: Bytes,
        now: Instant,
    ) -> Result<(), LinkError> {
        if !paused && now.saturating_duration_since(last_received) > SILENCE_LIMIT {
            return Err(LinkError::Silent);
        }
        link.queue.heartbeat(heartbeat);
        if !paused {
            link.session.lock().tick(&self.local, now)?;
        }
        link.queue.wake();
        Ok(())
    }

    /// Returns the frame of this node's next heartbeat.
    pub(super) fn heartbeat(&self, wall: Time, figures: &Figures) -> Bytes {
        let peers = self.peers.linked_addresses();
        let peers = peers.iter().map(|(name, incarnation, at)| (name.as_str(), *incarnation, at.as_str()));
        heartbeat::frame(&self.local, wall, peers, figures)
    }

    /// Queues this node's writes of late to all links, and then what `follow` adds.
    pub(super) fn push(&self, follow: impl FnOnce(&[Arc<Link>])) {
        self.push_with(&mut self.buffers.lock(), follow);
    }

    /// Queues this node's writes of late to all links, unless another thread does.
    pub(super) fn try_push(&self) {
        if let Some(mut buffers) = self.buffers.try_lock() {
            self.push_with(&mut buffers, |_| ());
        }
    }

    fn push_with(&self, buffers: &mut PushBuffers, follow: impl FnOnce(&[Arc<Link>])) {
        let PushBuffers { encoder, cells } = buffers;
        let store = &self.local.store;
        let taken = store.feed().take(cells);
        let mut links = self.peers.links();
        if taken.overflowed {
            links.iter().for_each(|link| link.queue.lose_pushes());
        }
        if ablated(Ablation::SubscribeFirst) {
            links.retain(|link| link.session.lock().verified_at().is_some());
        }
        if links.is_empty() {
            cells.clear();
        } else {
            push::spread(store, encoder, cells.drain(..), taken.through, &links);
        }
        follow(&links);
        store.feed().handed_on();
    }

    /// Does what events of one link's session require of others. Returns what is left for the driver.
    fn act_on(&self, link: &Link, events: Vec<Event>, now: Instant) -> Vec<Effect> {
        events.into_iter().filter_map(|event| self.act_on_one(link, event, now)).collect()
    }

    fn act_on_one(&self, link: &Link, event: Event, now: Instant) -> Option<Effect> {
        match event {
            Event::TurnOver => {
                self.peers.links().iter().for_each(|link| link.queue.wake());
                None
            }
            Event::Dial(incarnation, address) => {
                let is_unlinked = incarnation != self.incarnation() && !self.peers.is_linked(incarnation);
                (is_unlinked && self.add_target(&address, now)).then_some(Effect::Dial(address))
            }
            Event::Relay(to, cells) => {
                let mut links = self.peers.links();
                links.retain(|link| link.incarnation == to);
                push::spread(&self.local.store, &mut CellsEncoder::default(), cells, 0, &links);
                None
            }
            Event::Finished(finished) => {
                self.peers.joined(link, now);
                self.local.counts.syncs.fetch_add(1, Ordering::Relaxed);
                Some(Effect::Finished(finished))
            }
            Event::Failed { deep, why } => {
                self.local.counts.failed_syncs.fetch_add(1, Ordering::Relaxed);
                Some(Effect::Failed { deep, why })
            }
            Event::Healing => Some(Effect::Healing),
            Event::Published(channel, message) => Some(Effect::Deliver(channel, message)),
            Event::KeyReply(query, copy) => Some(Effect::KeyReply(query, copy)),
            Event::Lost(lost) => Some(Effect::Lost(lost)),
            Event::Withholding(withholds) => Some(Effect::Withholding(withholds)),
        }
    }

    /// Ends a link whose connection has ended. Returns whether the peer is unlinked now; `false` if another connection
    /// is the link.
    ///
    /// The peer may have reached only some nodes with its last pushes, and from here on others have to relay its writes.
    /// So the next heartbeat, which reports the end of the link, is sent at once.
    pub(super) fn close(
        &self,
        link: &Link,
        error: &LinkError,
        heartbeat: impl FnOnce() -> Bytes,
        now: Instant,
    ) -> bool {
        link.session.lock().end(&self.local);
        if !self.peers.closed(link, error.state(), &error.to_string(), now) {
            return false;
        }
        self.local.members.lock().on_unlink(link.incarnation);
        let others = self.peers.links();
        if !others.is_empty() {
            let heartbeat = heartbeat();
            for other in others {
                other.session.lock().want_sync(now);
                other.queue.heartbeat(heartbeat.clone());
            }
        }
        true
    }

    /// Removes a member, as an operator demands: it is not waited for until it is heard again.
    pub(super) fn forget(&self, name: &str, wall: Time, now: Instant) -> Result<(), ForgetError> {
        let hlc = self.local.store.now(wall);
        self.local.members.lock().forget(name, hlc)?;
        self.peers.forgotten(name, now);
        Ok(())
    }

    /// Discards everything, as an operator demands, and joins the other nodes as another incarnation. Every link ends.
    ///
    /// Everything is discarded when this returns. The caller frees the memory, in short slices.
    pub(super) fn rejoin(&self, incarnation: Incarnation, wall: Time) -> Result<Discarded, TooManyOrigins> {
        let Replica { local, peers, .. } = self;
        let end_links = || {
            if !ablated(Ablation::RejoinEndsLinks) {
                peers.links().iter().for_each(|link| link.stop.cancel());
            }
        };
        end_links();
        let discarded = local.store.discard(incarnation)?;
        local.write_acks.discard(local.store.feed().sequence());
        let now = local.store.now(wall);
        let mut members = local.members.lock();
        members.discard(incarnation, now);
        // Under the lock that the tick also takes to raise the stable time: it may have raised it since the
        // store was cleared.
        local.store.discard_stable_time();
        drop(members);
        // One may have been admitted meanwhile.
        end_links();
        Ok(discarded)
    }
}
