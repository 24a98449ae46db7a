//! The protocol with one linked peer: pushes, acknowledgements, syncs, heartbeats. It does no I/O: frames come and go
//! through the caller, and both clocks are arguments, so that a simulation can drive it. It changes what all links share
//! (the store, the members, the write acknowledgements), each under its own lock.
//!
//! ```text
//!   receive(frame) --> [ inbound: pushes merged, acknowledgements due ]
//!                      [ sync: offered, exchanging                   ] --> poll() --> frames
//!   tick() ----------> [ due: verification, relay, retry              ]
//!                                   |
//!                                   +--> events, for the driver
//! ```

mod exchange;
mod inbound;

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use bytes::Bytes;
use tokio::time::Instant;

use super::cells::{self, CellsError};
use super::codec;
use super::figures::LastHeartbeat;
use super::hello::Refused;
use super::key_query;
use super::link_error::LinkError;
use super::local::{Local, SyncPermit};
use super::members::Summary;
use super::message::Message;
use super::queue::{Queue, StateMark};
use super::sync::{Progress, Sync, SyncFailed};
use crate::ablation::{Ablation, ablated};
use crate::cluster::LostCell;
use crate::model::{Incarnation, Time, timestamp};
use crate::store::{Cell, KeyCopy, Shortfall};

/// The most bytes and messages of a sync that one poll gathers before other tasks of the node may run.
const POLL_BATCH: usize = 512 << 10;
const POLL_FRAMES: usize = 8;

/// Something that the driver of a session must act on.
#[derive(Debug)]
pub(super) enum Event {
    /// An exchange ended, so another may begin on this link or on others.
    TurnOver,
    /// A sync with the peer has found many differences.
    Healing,
    /// A sync with the peer has finished: everything that it held is incorporated here.
    Finished(Finished),
    /// A sync failed.
    Failed { deep: bool, why: SyncFailed },
    /// The address of a node that this one has no link to.
    Dial(Incarnation, String),
    /// A message that a client of the peer has published: channel and content.
    Published(Box<[u8]>, Box<[u8]>),
    /// Cells to relay to a peer that has no link to their origin.
    Relay(Incarnation, Vec<Cell>),
    /// The peer's reply to the key query with this number.
    KeyReply(u32, Box<KeyCopy>),
    /// A cell was given up.
    Lost(LostCell),
    /// The peer has run out of room (true), or has room again (false).
    Withholding(bool),
}

/// A sync that finished.
#[derive(Clone, Copy, Debug)]
pub(super) struct Finished {
    /// Whether it was the first over this link.
    pub(super) first: bool,
    /// Whether [`Event::Healing`] was emitted for it.
    pub(super) healed: bool,
    pub(super) deep: bool,
    pub(super) progress: Progress,
    pub(super) took: Duration,
}

/// One end of the protocol over one link.
pub(super) struct Session {
    /// The incarnation with which this node has introduced itself.
    own: Incarnation,
    peer: Incarnation,
    name: String,
    queue: Arc<Queue>,
    inbound: Inbound,
    sync: Option<Current>,
    /// A sync that the peer has offered and that waits for a permit.
    offered: Option<Offer>,
    /// The syncs that this side offers have numbers of one parity, those of the peer the other.
    next_number: u32,
    wanted: Option<Wanted>,
    last_sync: Option<Instant>,
    /// Whether the last sync failed.
    failed: bool,
    verified: Option<Instant>,
    /// What the peer's last heartbeat contained.
    last_heartbeat: Option<LastHeartbeat>,
    deep_wanted: bool,
    joined: bool,
    /// The time up to which the peer has every write of this node's clients.
    handed_over: Time,
    events: Vec<Event>,
}

/// The state that follows from the peer's pushes.
#[derive(Default)]
struct Inbound {
    /// The peer's epoch, and the number of its pushes that were merged in it.
    epoch: u32,
    puts: u64,
    acknowledged: u64,
    /// The feed sequence up to which the peer's pushes carry its own changes.
    through: u64,
    /// Whether nothing from the peer was lost since the last sync began: this node then holds all that the
    /// pushes carry.
    whole: bool,
    /// Set while data from the peer was refused for want of memory: nothing is acknowledged until a sync has
    /// delivered it.
    refused: Option<Withheld>,
    scratch: Vec<u8>,
}

/// Data from the peer that was refused for want of memory.
struct Withheld {
    /// When the first of it was refused, or when a sync to fetch it was last wanted or ended.
    since: Instant,
    /// Whether a sync has started since, in which nothing was refused so far.
    retried: bool,
    /// The room that was missing since the last sync began.
    shortfall: Shortfall,
    /// [`Local::deliveries`](super::local::Local) at `since`.
    deliveries: u64,
}

struct Current {
    sync: Sync,
    /// Which of this side's own changes the peer will have when the sync has finished.
    state: StateMark,
    /// The peer's epoch when the sync began.
    gaps: u32,
    began: Instant,
    /// When a message of it was last sent or received, or the connection was too busy to move one.
    moved: Instant,
    /// When a message of it was last sent.
    spoke: Instant,
    /// Whether parts of frames have arrived since.
    receives: bool,
    /// Bytes of other frames that have passed since a message of it was sent or received.
    others: u64,
    permit: Option<SyncPermit>,
    /// Whether the permit was given up because the exchange stood still.
    idle: bool,
    /// The answer to this side's offer, while another exchange keeps it waiting.
    accepted: Option<Accepted>,
    /// Whether [`Event::Healing`] was emitted.
    heals: bool,
}

struct Accepted {
    theirs: Summary,
    sums: Vec<u64>,
    at: Instant,
}

struct Offer {
    number: u32,
    deep: bool,
    probe: bool,
    theirs: Summary,
    since: Instant,
}

/// A sync that this side wants to begin.
#[derive(Clone, Copy)]
struct Wanted {
    since: Instant,
    /// Whether to only look for a difference.
    probe: bool,
}

impl Session {
    /// Creates the session of a new link, which wants a sync at once.
    pub(super) fn new(
        own: Incarnation,
        peer: Incarnation,
        name: &str,
        queue: Arc<Queue>,
        now: Instant,
    ) -> Self {
        Session {
            own,
            peer,
            name: name.to_owned(),
            queue,
            inbound: Inbound::default(),
            sync: None,
            offered: None,
            next_number: u32::from(own > peer),
            wanted: Some(Wanted { since: now, probe: false }),
            last_sync: None,
            failed: false,
            verified: None,
            last_heartbeat: None,
            deep_wanted: false,
            joined: false,
            handed_over: timestamp::ZERO,
            events: Vec::new(),
        }
    }

    /// Handles the checked message of a frame.
    ///
    /// # Errors
    /// [`LinkError`]: the link must end. What was merged before stays merged.
    pub(super) fn receive(
        &mut self,
        local: &Local,
        frame: &[u8],
        wall: Time,
        now: Instant,
    ) -> Result<(), LinkError> {
        let message = codec::decode::<Message<'_>>(frame)?;
        if let Some(current) = &mut self.sync {
            current.others = current.others.saturating_add(frame.len() as u64);
        }
        match message {
            Message::Put { through, cells } => {
                self.merge(local, &cells, wall, now, false)?;
                self.inbound.puts += 1;
                self.inbound.through = self.inbound.through.max(through);
                self.note_held(local);
                if ablated(Ablation::SyncsAloneRaise) {
                    let own_time = local.store.now(wall);
                    let vector = [(self.peer, own_time)].into_iter().collect();
                    let summary = Summary { vector, ..Summary::default() };
                    local.members.lock().on_sync(&summary, &[], &BTreeSet::new());
                }
            }
            Message::Ack { epoch, puts } => {
                let time = local.store.now(timestamp::ZERO);
                let (before, held) = self.queue.acknowledge(epoch, puts);
                local.write_acks.peer_holds(before, held);
                self.note_handed_over(local, time);
            }
            Message::Gap => {
                self.inbound.epoch += 1;
                self.inbound.puts = 0;
                self.inbound.acknowledged = 0;
                self.inbound.whole = ablated(Ablation::SyncAfterGap);
                self.want_sync(now);
            }
            Message::Start { sync, deep, probe, summary } => {
                let theirs = Summary::read(&summary)?;
                self.on_start(local, Offer { number: sync, deep, probe, theirs, since: now }, wall)?;
            }
            Message::Heartbeat(heartbeat) => self.on_heartbeat(local, &heartbeat, wall, now)?,
            Message::Goodbye => {
                let hlc = local.store.now(wall);
                local.members.lock().on_goodbye(self.peer, hlc);
                return Err(LinkError::Goodbye);
            }
            Message::Refuse { refusal, text } => {
                return Err(LinkError::Refused(Refused { refusal, text: text.to_owned() }));
            }
            Message::Publish { channel, message } => {
                self.events.push(Event::Published(channel.into(), message.into()));
            }
            Message::KeyQuery { query, key } => {
                // Best effort, and bounded like published messages: a peer that asks and does not read gets no
                // reply.
                self.queue.publish(key_query::answer(&local.store, query, key, local.store.now(wall)));
            }
            Message::KeyReply { query, copy } => {
                self.events.push(Event::KeyReply(query, Box::new(key_query::read(&copy)?)));
            }
            Message::Welcome { .. } => return Err(LinkError::OutOfTurn("Welcome")),
            Message::Cells { sync, cells, ends } => {
                let merged = self.merge(local, &cells, wall, now, true)?;
                if let Some(current) = self.current(sync, now) {
                    current.sync.on_merged(merged, frame.len() as u64);
                    current.sync.on_ends(ends, &local.store)?;
                }
            }
            Message::Accept { sync, summary, sums } => {
                let theirs = Summary::read(&summary)?;
                self.on_accept(local, sync, theirs, sums, wall, now)?;
            }
            Message::Coverage { sync, items } => {
                if let Some(current) = self.current(sync, now) {
                    current.sync.on_coverage(items)?;
                }
            }
            Message::Retract { sync, origins, items } => {
                let retractions = cells::read_retractions(&local.store, origins, items)?;
                if let Some(current) = self.current(sync, now) {
                    current.sync.on_merged(0, frame.len() as u64);
                    self.retract(local, retractions);
                }
            }
            Message::Digests { sync, answer, items } => {
                if let Some(current) = self.current(sync, now) {
                    current.sync.on_digests(items, answer, &local.store)?;
                }
            }
            Message::Differ { sync, items } => {
                if let Some(current) = self.current(sync, now) {
                    current.sync.on_differ(items, &local.store, now)?;
                }
            }
            Message::List { sync, origins, items } => {
                if let Some(current) = self.current(sync, now) {
                    current.sync.on_list(origins, items, &local.store)?;
                }
            }
            Message::Uncovered { sync, items } => {
                if let Some(current) = self.current(sync, now) {
                    current.sync.on_uncovered(items, &local.store)?;
                }
            }
            Message::Credit { sync, bytes } => {
                if let Some(current) = self.current(sync, now) {
                    current.sync.on_credit(bytes);
                }
            }
            Message::Done { sync } => {
                if let Some(current) = self.current(sync, now) {
                    current.sync.on_done()?;
                }
                self.conclude_if_over(local, now);
            }
            Message::Abort { sync, reason } => {
                if let Some(current) = self.current(sync, now) {
                    current.sync.on_abort(reason);
                }
                self.conclude_if_over(local, now);
            }
        }
        Ok(())
    }

    /// Returns the sync under way, if it has this number: messages of a sync that failed may still arrive.
    fn current(&mut self, number: u32, now: Instant) -> Option<&mut Current> {
        let current = self.sync.as_mut().filter(|current| current.sync.number() == number)?;
        (current.moved, current.others) = (now, 0);
        Some(current)
    }

    /// Moves the clock past every time in the peer's summary, before the summary is acted upon.
    fn observe(&self, local: &Local, theirs: &Summary, wall: Time) -> Result<(), LinkError> {
        let latest = theirs.latest();
        if latest > local.max_accepted(wall) {
            return Err(CellsError::Future(timestamp::distance(latest, wall)).into());
        }
        local.store.observe(latest);
        Ok(())
    }

    /// Adds the frames that are due to `frames`.
    pub(super) fn poll(&mut self, local: &Local, wall: Time, now: Instant, frames: &mut impl Extend<Bytes>) {
        let inbound = &mut self.inbound;
        if inbound.puts > inbound.acknowledged
            && (inbound.refused.is_none() || ablated(Ablation::AcknowledgeMerged))
        {
            inbound.acknowledged = inbound.puts;
            let ack = Message::Ack { epoch: inbound.epoch, puts: inbound.puts };
            frames.extend([codec::frame(&ack)]);
        }
        if let Some(through) = self.queue.take_wanted_state()
            && self.sync.as_ref().is_none_or(|current| current.state.through() < through)
        {
            self.want_sync(now);
        }
        if self.sync.is_none() {
            frames.extend(self.begin(local, wall, now));
        }
        self.take_up(local, now);
        let (mut bytes, mut count) = (0, 0);
        while bytes < POLL_BATCH
            && count < POLL_FRAMES
            && let Some(current) = &mut self.sync
            && let Some(frame) = current.sync.next(&local.store, now)
        {
            bytes += frame.len();
            count += 1;
            (current.moved, current.others) = (now, 0);
            (current.spoke, current.receives) = (now, false);
            frames.extend([frame]);
        }
        frames.extend(self.sync.as_mut().and_then(|current| current.report_receiving(now)));
        self.conclude_if_over(local, now);
    }

    /// Whether [`poll`](Self::poll) may have something to send.
    pub(super) fn has_work(&self) -> bool {
        self.inbound.puts > self.inbound.acknowledged
            || self.sync.is_some()
            || self.offered.is_some()
            || self.wanted.is_some()
    }

    /// When [`poll`](Self::poll) may have something to send although nothing arrived and nothing was queued.
    pub(super) fn wake_at(&self, now: Instant) -> Option<Instant> {
        match &self.sync {
            Some(current) => current.sync.wake_at(),
            None => self.wanted.and(self.pause_until()).filter(|&until| until > now),
        }
    }

    /// Takes the events that have occurred since the last call.
    pub(super) fn take_events(&mut self) -> Vec<Event> {
        std::mem::take(&mut self.events)
    }

    /// The progress and duration of the exchange under way.
    pub(super) fn progress(&self, now: Instant) -> Option<(Progress, Duration)> {
        let current = self.sync.as_ref().filter(|current| !current.sync.is_offered())?;
        Some((current.sync.progress(), now - current.began))
    }

    /// Whether a sync is under way.
    pub(super) fn is_exchanging(&self) -> bool {
        self.sync.as_ref().is_some_and(|current| !current.sync.is_offered())
    }

    /// Whether a sync that compares values is under way.
    pub(super) fn is_verifying(&self) -> bool {
        self.sync.as_ref().is_some_and(|current| current.sync.is_deep() && !current.sync.is_offered())
    }

    /// When both sides were last known to be equal.
    pub(super) fn verified_at(&self) -> Option<Instant> {
        self.verified
    }

    /// What the peer's last heartbeat contained.
    pub(super) fn last_heartbeat(&self) -> Option<&LastHeartbeat> {
        self.last_heartbeat.as_ref()
    }

    /// Calls `visit` for every range that is known to differ.
    pub(super) fn differing(&self, visit: impl FnMut(usize)) {
        self.sync.iter().flat_map(|current| current.sync.differing()).for_each(visit);
    }

    /// Ends the session: it holds no permit from here on.
    pub(super) fn end(&mut self, local: &Local) {
        local.hand_over(self.peer, self.handed_over);
        self.sync = None;
        if self.inbound.refused.take().is_some() {
            local.refusing.fetch_sub(1, Ordering::Relaxed);
        }
    }
}

#[cfg(test)]
mod tests;
