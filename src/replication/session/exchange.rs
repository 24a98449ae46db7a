//! When a sync begins, who begins it, and what follows from its end.

use std::sync::atomic::Ordering;
use std::time::Duration;

use bytes::Bytes;
use tokio::time::Instant;

use super::{Accepted, Current, Event, Finished, LinkError, Offer, Session, Wanted, Withheld};
use crate::ablation::{Ablation, ablated};
use crate::model::timestamp::ZERO;
use crate::model::{Incarnation, Time};
use crate::replication::cells::{Carrier, CellsEncoder};
use crate::replication::codec;
use crate::replication::link_error::STALL_LIMIT;
use crate::replication::local::{Local, SyncPermit};
use crate::replication::members::Summary;
use crate::replication::message::Message;
use crate::replication::queue::StateMark;
use crate::replication::sync::{PeerSummary, Sync, Terms};
use crate::store::{Room, Shortfall};

/// The longest that an exchange that makes progress delays the others. After that another one may run beside it.
const ALONE: Duration = Duration::from_secs(30);

/// The longest that the peer's answer to an offer may wait for a permit here. To the peer this looks like a stalled
/// sync, so it is well below [`STALL_LIMIT`].
const ANSWER_WAIT: Duration = Duration::from_secs(8);

/// How long an exchange may move nothing before it gives up its permit. Ten times a retransmission over a line
/// with a round trip of 80 ms, and a tenth of [`ALONE`].
const IDLE_LIMIT: Duration = Duration::from_secs(3);

/// The interval at which two linked nodes verify that they are equal.
pub(super) const VERIFY_EVERY: Duration = Duration::from_secs(5);

/// The interval while tombstones wait for the stable time.
const VERIFY_SOON: Duration = Duration::from_secs(2);

/// The interval after a sync that failed, for want of memory or at the retraction limit.
const FAILED_PAUSE: Duration = Duration::from_secs(30);

/// The shortest pause between two syncs, if the second one is wanted before its interval has passed.
const SYNC_PAUSE: Duration = Duration::from_secs(1);

/// How long an offer may stay unanswered: the peer may let it wait for up to [`ALONE`].
const OFFER_LIMIT: Duration = Duration::from_secs(ALONE.as_secs() + STALL_LIMIT.as_secs());

/// How often a side that receives parts of frames, and has nothing else to send, reports that bytes arrive. The
/// sender cannot see this: its bytes may lie in buffers on the way for longer than [`STALL_LIMIT`].
const RECEIVING_EVERY: Duration = Duration::from_secs(1);

/// A busy connection counts as one on which the sync moves until this many bytes of other frames have passed:
/// the socket buffers of both sides and a batch of pushes may lie before the next message of the sync.
const AHEAD: u64 = 8 << 20;

/// The pause before asking again for data that was refused for want of memory, once there is room for all of
/// it.
const REFUSED_RETRY: Duration = Duration::from_secs(1);

/// The same pause when there is room for only a part: the peer may have deleted the rest, or the rest is sent
/// and refused once more.
const PARTIAL_RETRY: Duration = Duration::from_secs(5);

/// A difference of fewer cells than this may come from pushes that were in flight when the sync compared.
const IN_FLIGHT: u64 = 10_000;

impl Session {
    /// Asks for a sync as soon as one may begin.
    pub(in crate::replication) fn want_sync(&mut self, now: Instant) {
        let since = self.wanted.map_or(now, |wanted| wanted.since);
        self.wanted = Some(Wanted { since, probe: false });
    }

    /// Asks for a sync that also compares values.
    pub(in crate::replication) fn want_deep_sync(&mut self, now: Instant) {
        self.deep_wanted = true;
        self.want_sync(now);
    }

    /// Asks for the syncs that are due, and detects one that stands still. Called at least once a second.
    pub(in crate::replication) fn tick(&mut self, local: &Local, now: Instant) -> Result<(), LinkError> {
        if let Some(current) = &mut self.sync {
            let waits_for_answer = current.sync.is_offered() && current.accepted.is_none();
            if now - current.moved > if waits_for_answer { OFFER_LIMIT } else { STALL_LIMIT } {
                return Err(LinkError::Stalled);
            }
            if current.pass_turn(local, now) {
                self.events.push(Event::TurnOver);
            }
        }
        if let Some(withheld) = &mut self.inbound.refused
            && let Some(pause) = withheld.retry_pause(local)
            && now - withheld.since >= pause
        {
            withheld.note_sync(local, now);
            self.want_sync(now);
        }
        self.note_handed_over(local, local.store.now(ZERO));
        if self.wanted.is_some() || self.sync.is_some() {
            return Ok(());
        }
        let since = self.last_sync.map_or(Duration::MAX, |at| now - at);
        let every = match local.has_dead.load(Ordering::Relaxed) {
            _ if self.failed => FAILED_PAUSE,
            true => VERIFY_SOON,
            false => VERIFY_EVERY,
        };
        if since >= every {
            self.wanted = Some(Wanted { since: now, probe: true });
        } else if since >= SYNC_PAUSE && local.members.lock().has_news_for(self.peer) {
            self.want_sync(now);
        }
        Ok(())
    }

    /// Records that the peer has every local write up to `time`, if it has acknowledged everything. The caller
    /// reads `time` before this check.
    pub(super) fn note_handed_over(&mut self, local: &Local, time: Time) {
        if local.store.feed().is_empty() && self.queue.is_drained() {
            self.handed_over = self.handed_over.max(time);
        }
    }

    /// Returns the time up to which the peer has had every write of this node's clients.
    pub(super) fn handed_over(&self, local: &Local) -> Time {
        self.handed_over.max(local.handed_over(self.peer))
    }

    pub(super) fn on_start(&mut self, local: &Local, offer: Offer, wall: Time) -> Result<(), LinkError> {
        self.observe(local, &offer.theirs, wall)?;
        local.members.lock().on_summary(self.peer, &offer.theirs);
        if let Some(current) = &self.sync {
            if !current.sync.is_offered() {
                return Err(LinkError::OutOfTurn("Start"));
            }
            // Both sides have offered at once: the offer of the larger incarnation stands.
            if local.members.lock().incarnation() > self.peer {
                return Ok(());
            }
            self.deep_wanted |= current.sync.is_deep();
            self.sync = None;
        }
        if self.offered.is_some() {
            return Err(LinkError::OutOfTurn("Start"));
        }
        self.offered = Some(offer);
        Ok(())
    }

    pub(super) fn on_accept(
        &mut self,
        local: &Local,
        number: u32,
        theirs: Summary,
        sums: &[u8],
        wall: Time,
        now: Instant,
    ) -> Result<(), LinkError> {
        self.observe(local, &theirs, wall)?;
        local.members.lock().on_summary(self.peer, &theirs);
        let Some(current) = self.current(number, now).filter(|current| current.sync.is_offered()) else {
            return Ok(());
        };
        let sums = current.sync.read_sums(sums, &local.store)?;
        current.accepted = Some(Accepted { theirs, sums, at: now });
        self.take_up(local, now);
        Ok(())
    }

    /// Begins the exchange that the peer has accepted, unless another one has to end first: cells that the
    /// other exchange brings need not come from this peer too, because its digests will then be equal.
    pub(super) fn take_up(&mut self, local: &Local, now: Instant) {
        let Some(current) = &mut self.sync else { return };
        let Some(accepted) = &current.accepted else { return };
        // Only an exchange that moves cells holds up others.
        let permit = if current.sync.is_probe() {
            None
        } else {
            let Some(permit) = local.permits.acquire(now - accepted.at < ANSWER_WAIT) else { return };
            Some(permit)
        };
        let Some(Accepted { theirs, sums, at }) = current.accepted.take() else { return };
        (current.permit, current.moved, current.idle) = (permit, now, false);
        let ours = current.sync.ours().clone();
        let theirs = Session::peer_summary(self.peer, local, &ours, theirs);
        current.sync.on_accept(theirs, sums, &local.store, at);
    }

    /// Derives what a sync may assume from the peer's summary at its start.
    fn peer_summary(peer: Incarnation, local: &Local, ours: &Summary, summary: Summary) -> PeerSummary {
        let members = local.members.lock();
        let limited = members.has_incorporated(peer, &summary, local.store.stable_time());
        let coverage = members.coverage(&ours.hashes, &summary.hashes);
        PeerSummary { summary, limited, coverage }
    }

    /// Accepts or offers a sync, if one is due and may begin.
    pub(super) fn begin(&mut self, local: &Local, wall: Time, now: Instant) -> Option<Bytes> {
        let uncovered = local.lists_uncovered && self.inbound.refused.is_none();
        let mut terms = Terms { deep: false, probe: false, list_limit: local.list_limit, uncovered };
        if let Some(offer) = &self.offered {
            // While this node's own offer is out, only offers of larger incarnations are accepted: see
            // `SyncPermits`.
            let may_wait = now - offer.since < ALONE;
            let waits = local.permits.is_exchanging()
                || (local.permits.is_offering() && local.members.lock().incarnation() > self.peer);
            if waits && may_wait {
                return None;
            }
            let permit = if offer.probe { None } else { Some(local.permits.acquire(may_wait)?) };
            let Offer { number, deep, theirs, .. } = self.offered.take()?;
            let state = self.mark_state(local);
            let ours = local.summary(wall);
            let packed = ours.pack();
            terms.deep = deep;
            let theirs = Session::peer_summary(self.peer, local, &ours, theirs);
            let (sync, sums) = Sync::accept(number, terms, ours.clone(), theirs, &local.store, now);
            self.enter(sync, state, permit, now);
            let accept = Message::Accept { sync: number, summary: ours.wire(&packed), sums: &sums };
            return Some(codec::frame(&accept));
        }
        let wanted = self.wanted?;
        if local.permits.is_busy() && now - wanted.since < ALONE {
            return None;
        }
        if self.pause_until().is_some_and(|until| now < until) {
            return None;
        }
        self.wanted = None;
        let state = self.mark_state(local);
        let ours = local.summary(wall);
        let packed = ours.pack();
        self.next_number = self.next_number.wrapping_add(2);
        let number = self.next_number;
        terms.deep = std::mem::take(&mut self.deep_wanted);
        terms.probe = wanted.probe && !terms.deep;
        let Terms { deep, probe, .. } = terms;
        self.enter(Sync::offer(number, terms, ours.clone(), now), state, Some(local.permits.offer()), now);
        let start = Message::Start { sync: number, deep, probe, summary: ours.wire(&packed) };
        Some(codec::frame(&start))
    }

    /// Returns when this side may offer a sync again.
    pub(super) fn pause_until(&self) -> Option<Instant> {
        self.last_sync.filter(|_| self.joined).map(|at| at + SYNC_PAUSE)
    }

    /// Called before any digest is read: what is written or lost later need not be in the state.
    fn mark_state(&self, local: &Local) -> StateMark {
        self.queue.mark_state(local.store.feed().sequence())
    }

    pub(super) fn enter(&mut self, sync: Sync, state: StateMark, permit: Option<SyncPermit>, now: Instant) {
        if let Some(withheld) = &mut self.inbound.refused {
            (withheld.retried, withheld.shortfall) = (true, Shortfall::default());
        }
        let gaps = self.inbound.epoch;
        self.sync = Some(Current {
            sync,
            state,
            gaps,
            began: now,
            moved: now,
            others: 0,
            spoke: now,
            receives: false,
            permit,
            idle: false,
            accepted: None,
            heals: false,
        });
    }

    /// Records that a frame has left in part, so what follows it cannot move. `passed` is the size of the
    /// frames that have left whole with it.
    pub(in crate::replication) fn on_part_sent(&mut self, passed: u64, now: Instant) {
        let Some(current) = &mut self.sync else { return };
        current.others = current.others.saturating_add(passed);
        if current.others < AHEAD {
            current.moved = now;
        }
    }

    /// Records that a frame has arrived in part, so what follows it cannot move.
    pub(in crate::replication) fn on_part_received(&mut self, now: Instant) {
        let Some(current) = &mut self.sync else { return };
        if current.others < AHEAD {
            (current.moved, current.receives) = (now, true);
        }
    }

    /// Emits [`Event::Healing`] once per sync: for the first over a link as soon as anything is exchanged, for
    /// a later one when more is exchanged than may have been in flight.
    fn announce_healing(&mut self) {
        let least = if self.joined { IN_FLIGHT } else { 1 };
        let Some(current) = self.sync.as_mut().filter(|current| !current.heals) else { return };
        let progress = current.sync.progress();
        if progress.cells_in + progress.cells_out >= least {
            current.heals = true;
            self.events.push(Event::Healing);
        }
    }

    pub(super) fn conclude_if_over(&mut self, local: &Local, now: Instant) {
        self.announce_healing();
        let Some(outcome) = self.sync.as_ref().and_then(|current| current.sync.outcome()) else { return };
        let Some(current) = self.sync.take() else { return };
        let Current { sync, state, gaps, began, permit, heals, .. } = current;
        drop(permit);
        self.last_sync = Some(now);
        let (deep, progress) = (sync.is_deep(), sync.progress());
        self.events.push(Event::TurnOver);
        self.failed = outcome.is_err();
        if let Some(withheld) = &mut self.inbound.refused {
            withheld.note_sync(local, now);
        }
        local.counts.retractions.fetch_add(sync.retracted(), Ordering::Relaxed);
        if let Err(why) = outcome {
            self.events.push(Event::Failed { deep, why });
            return;
        }
        if progress.cells_in > 0 {
            local.deliveries.fetch_add(1, Ordering::Relaxed);
        }
        let mut members = local.members.lock();
        if members.incarnation() != self.own {
            // What this node held when the sync began may have been discarded since.
            return;
        }
        members.on_sync(sync.theirs(), sync.coverage(), sync.gave_up());
        drop(members);
        self.handed_over = self.handed_over.max(sync.ours().vector.time_of(self.own));
        // The peer acknowledges it like any push, and only if it refused nothing: then it has merged all that
        // the sync sent.
        let closing = CellsEncoder::default().finish(&local.store, Carrier::Put { through: state.through() });
        let state = if ablated(Ablation::StateAsOfItsStart) { self.mark_state(local) } else { state };
        self.queue.close_state(closing, state);
        if self.inbound.refused.take_if(|withheld| withheld.retried).is_some() {
            local.refusing.fetch_sub(1, Ordering::Relaxed);
            self.events.push(Event::Withholding(false));
        }
        self.inbound.whole |= gaps == self.inbound.epoch && self.inbound.refused.is_none();
        self.note_held(local);
        local.write_acks.verified();
        let first = !std::mem::replace(&mut self.joined, true);
        self.verified = Some(now);
        let finished = Finished { first, healed: heals, deep, progress, took: now - began };
        self.events.push(Event::Finished(finished));
    }
}

impl Current {
    /// Reports to the peer, if due, that its bytes arrive, by granting it zero bytes of credit. Only arriving
    /// bytes lead to this, so the two sides cannot keep a sync alive by such messages alone.
    pub(super) fn report_receiving(&mut self, now: Instant) -> Option<Bytes> {
        let is_due = self.receives && !self.sync.is_offered() && now - self.spoke >= RECEIVING_EVERY;
        is_due.then(|| {
            (self.spoke, self.receives) = (now, false);
            codec::frame(&Message::Credit { sync: self.sync.number(), bytes: 0 })
        })
    }

    /// Gives up the permit of an exchange that stands still, and takes a free one again when the exchange has
    /// moved since. Returns whether it gave the permit up.
    fn pass_turn(&mut self, local: &Local, now: Instant) -> bool {
        let is_still = now - self.moved > IDLE_LIMIT;
        if is_still && self.permit.take().is_some() {
            self.idle = true;
            return true;
        }
        if !is_still && self.idle && !self.sync.is_offered() {
            self.permit = local.permits.acquire(true);
            self.idle = self.permit.is_none();
        }
        false
    }
}

impl Withheld {
    /// Returns how long to wait before asking again, or `None` as long as neither there is room nor another peer may have
    /// sent what this one was refused for.
    fn retry_pause(&self, local: &Local) -> Option<Duration> {
        let may_be_here = local.deliveries.load(Ordering::Relaxed) != self.deliveries;
        match local.store.room_for(&self.shortfall) {
            _ if ablated(Ablation::RetryRefused) => None,
            Room::None => may_be_here.then_some(PARTIAL_RETRY),
            Room::Some => Some(PARTIAL_RETRY),
            Room::All => Some(REFUSED_RETRY),
        }
    }

    /// Records that a sync was wanted, or has ended.
    fn note_sync(&mut self, local: &Local, now: Instant) {
        (self.since, self.deliveries) = (now, local.deliveries.load(Ordering::Relaxed));
    }
}
