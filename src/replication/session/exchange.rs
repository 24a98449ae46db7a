//! When a round begins, who begins it, and what follows from its end.

use std::sync::atomic::Ordering;
use std::time::Duration;

use bytes::Bytes;
use tokio::time::Instant;

use super::{Accepted, Current, Event, Finished, LinkError, Offer, Session, Wanted};
use crate::model::{Time, stamp};
use crate::replication::cells::{Carrier, CellsEncoder};
use crate::replication::codec;
use crate::replication::local::{Local, Turn};
use crate::replication::members::Sight;
use crate::replication::message::Message;
use crate::replication::queue::StateMark;
use crate::replication::round::{Round, Terms};
use crate::store::{Room, Shortfall};

/// How long one exchange may keep the others waiting. A slower one goes on, beside the next.
const ALONE: Duration = Duration::from_secs(30);

/// How often two linked daemons verify that they are equal.
pub(super) const VERIFY_EVERY: Duration = Duration::from_secs(5);

/// The same while tombstones wait for the floor.
const VERIFY_SOON: Duration = Duration::from_secs(2);

/// The same after a round that failed, for want of memory or because the fuse has blown.
const FAILED_PAUSE: Duration = Duration::from_secs(30);

/// How soon after a round another one may follow that something calls for.
const ROUND_PAUSE: Duration = Duration::from_secs(1);

/// How long a round may stand still.
pub(super) const STALL_LIMIT: Duration = Duration::from_secs(90);

/// How soon a daemon that had to refuse data for want of memory asks for it again, once there is room for all of it.
const REFUSED_RETRY: Duration = Duration::from_secs(1);

/// The same once there is room for a part: it may be that the peer has deleted the rest, or that the rest is sent and
/// refused once more.
const PARTIAL_RETRY: Duration = Duration::from_secs(5);

/// Fewer cells than these may differ because they were in flight when a round looked.
const IN_FLIGHT: u64 = 10_000;

impl Session {
    /// Asks for a round as soon as one may be.
    pub(in crate::replication) fn want_round(&mut self, now: Instant) {
        let since = self.wanted.map_or(now, |wanted| wanted.since);
        self.wanted = Some(Wanted { since, patient: false });
    }

    /// Asks for a round that compares values too.
    pub(in crate::replication) fn want_deep_round(&mut self, now: Instant) {
        self.deep_wanted = true;
        self.want_round(now);
    }

    /// Once a second or more often: asks for the rounds that are due, and notices one that stands still.
    pub(in crate::replication) fn tick(&mut self, local: &Local, now: Instant) -> Result<(), LinkError> {
        if self.round.as_ref().is_some_and(|current| now - current.moved > STALL_LIMIT) {
            return Err(LinkError::Stalled);
        }
        if let Some(withheld) = &mut self.inbound.refused
            && let Some(pause) = retry_pause(local.store.room_for(&withheld.shortfall))
            && now - withheld.since >= pause
        {
            withheld.since = now;
            self.want_round(now);
        }
        if self.wanted.is_some() || self.round.is_some() {
            return Ok(());
        }
        let since = self.last_round.map_or(Duration::MAX, |at| now - at);
        let every = match local.has_dead.load(Ordering::Relaxed) {
            _ if self.failed => FAILED_PAUSE,
            true => VERIFY_SOON,
            false => VERIFY_EVERY,
        };
        if since >= every {
            self.wanted = Some(Wanted { since: now, patient: true });
        } else if since >= ROUND_PAUSE && local.members.lock().has_news_for(self.peer) {
            self.want_round(now);
        }
        Ok(())
    }

    pub(super) fn on_start(&mut self, local: &Local, offer: Offer, wall: Time) -> Result<(), LinkError> {
        self.observe(local, &offer.theirs, wall)?;
        local.members.lock().on_sight(self.peer, &offer.theirs);
        if let Some(current) = &self.round {
            if !current.round.is_offered() {
                return Err(LinkError::OutOfTurn("Start"));
            }
            // Both have offered at once: the offer of the larger incarnation stands.
            if local.members.lock().incarnation() > self.peer {
                return Ok(());
            }
            self.deep_wanted |= current.round.is_deep();
            self.round = None;
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
        theirs: Sight,
        sums: &[u8],
        wall: Time,
        now: Instant,
    ) -> Result<(), LinkError> {
        self.observe(local, &theirs, wall)?;
        local.members.lock().on_sight(self.peer, &theirs);
        let Some(current) = self.current(number, now).filter(|current| current.round.is_offered()) else {
            return Ok(());
        };
        let sums = current.round.read_sums(sums, &local.store)?;
        current.accepted = Some(Accepted { theirs, sums, at: now });
        self.take_up(local, wall, now);
        Ok(())
    }

    /// Begins the exchange that the peer has agreed to, unless another one has to end first: what that one brings
    /// need not come from this peer too, whose sums will then be found equal.
    pub(super) fn take_up(&mut self, local: &Local, wall: Time, now: Instant) {
        let Some(current) = &mut self.round else { return };
        let Some(accepted) = &current.accepted else { return };
        // To hold up others is for those that move something.
        let turn = if current.round.is_patient() {
            None
        } else {
            let Some(turn) = local.gate.turn(now - accepted.at < ALONE) else { return };
            Some(turn)
        };
        let Some(Accepted { theirs, sums, at }) = current.accepted.take() else { return };
        (current.turn, current.moved) = (turn, now);
        self.lift_before_first_contact(local, &theirs, wall);
        let guarded = self.is_guarded(local, &theirs);
        if let Some(current) = &mut self.round {
            current.round.on_accept(theirs, sums, guarded, &local.store, at);
        }
    }

    /// What this daemon wrote before it knew its cluster must not be taken for what the cluster has deleted.
    pub(super) fn lift_before_first_contact(&self, local: &Local, theirs: &Sight, wall: Time) {
        let own_is_founded = local.members.lock().is_founded();
        if !own_is_founded && theirs.founded && (theirs.floor > stamp::ZERO || !theirs.alone) {
            local.store.lift(&theirs.vector, wall);
        }
    }

    /// Whether the peer counts and claims to hold what the floor here has passed.
    pub(super) fn is_guarded(&self, local: &Local, theirs: &Sight) -> bool {
        let members = local.members.lock();
        let claimed = theirs.vector.time_of(members.incarnation());
        members.is_present(self.peer) && claimed >= local.store.floor() && claimed > stamp::ZERO
    }

    /// Accepts or offers a round, if one is due and may begin.
    pub(super) fn begin(&mut self, local: &Local, wall: Time, now: Instant) -> Option<Bytes> {
        let mut terms = Terms { deep: false, patient: false, list_limit: local.list_limit };
        if let Some(offer) = &self.offered {
            // Beside an offer of one's own, only those of larger incarnations are taken: see `Gate`.
            let may_wait = now - offer.since < ALONE;
            let waits = local.gate.is_exchanging()
                || (local.gate.is_offering() && local.members.lock().incarnation() > self.peer);
            if waits && may_wait {
                return None;
            }
            let turn = if offer.patient { None } else { Some(local.gate.turn(may_wait)?) };
            let Offer { number, deep, theirs, .. } = self.offered.take()?;
            self.lift_before_first_contact(local, &theirs, wall);
            let guarded = self.is_guarded(local, &theirs);
            let state = self.mark_state(local);
            let ours = local.sight(wall);
            let packed = ours.pack();
            terms.deep = deep;
            let (round, sums) = Round::accept(number, terms, &ours, theirs, guarded, &local.store, now);
            self.enter(round, state, turn, now);
            let accept = Message::Accept { round: number, sight: ours.wire(&packed), sums: &sums };
            return Some(codec::frame(&accept));
        }
        let wanted = self.wanted?;
        if local.gate.is_busy() && now - wanted.since < ALONE {
            return None;
        }
        if self.joined && self.last_round.is_some_and(|at| now - at < ROUND_PAUSE) {
            return None;
        }
        self.wanted = None;
        let state = self.mark_state(local);
        let ours = local.sight(wall);
        let packed = ours.pack();
        self.next_number = self.next_number.wrapping_add(2);
        let number = self.next_number;
        terms.deep = std::mem::take(&mut self.deep_wanted);
        terms.patient = wanted.patient && !terms.deep;
        let Terms { deep, patient, .. } = terms;
        self.enter(Round::offer(number, terms, ours.floor, now), state, Some(local.gate.offer()), now);
        let start = Message::Start { round: number, deep, patient, sight: ours.wire(&packed) };
        Some(codec::frame(&start))
    }

    /// Taken before any digest is read: what is written or lost from then on need not be in the state.
    fn mark_state(&self, local: &Local) -> StateMark {
        self.queue.mark_state(local.store.feed().sequence())
    }

    pub(super) fn enter(&mut self, round: Round, state: StateMark, turn: Option<Turn>, now: Instant) {
        if let Some(withheld) = &mut self.inbound.refused {
            (withheld.retried, withheld.shortfall) = (true, Shortfall::default());
        }
        let gaps = self.inbound.epoch;
        self.round =
            Some(Current { round, state, gaps, began: now, moved: now, turn, accepted: None, heals: false });
    }

    /// Tells once of a round that it heals: the first over a link as soon as anything is exchanged, a later one when
    /// that is more than may have been in flight.
    fn announce_healing(&mut self) {
        let least = if self.joined { IN_FLIGHT } else { 1 };
        let Some(current) = self.round.as_mut().filter(|current| !current.heals) else { return };
        let progress = current.round.progress();
        if progress.cells_in + progress.cells_out >= least {
            current.heals = true;
            self.events.push(Event::Healing);
        }
    }

    pub(super) fn conclude_if_over(&mut self, local: &Local, wall: Time, now: Instant) {
        self.announce_healing();
        let Some(outcome) = self.round.as_ref().and_then(|current| current.round.outcome()) else { return };
        let Some(current) = self.round.take() else { return };
        let Current { round, state, gaps, began, turn, heals, .. } = current;
        drop(turn);
        self.last_round = Some(now);
        let (deep, progress) = (round.is_deep(), round.progress());
        self.events.push(Event::TurnOver);
        self.failed = outcome.is_err();
        if let Some(withheld) = &mut self.inbound.refused {
            withheld.since = now;
        }
        local.counts.kills.fetch_add(round.killed(), Ordering::Relaxed);
        if let Err(why) = outcome {
            self.events.push(Event::Failed { deep, why });
            return;
        }
        let hlc = local.store.now(wall);
        let mut members = local.members.lock();
        if members.incarnation() != self.own {
            // What this daemon held when the round began may have been discarded since.
            return;
        }
        members.on_round(self.peer, round.theirs(), hlc);
        local.store.raise_floor(round.floor());
        if members.is_founded() {
            local.store.close_to_writes(false);
        }
        drop(members);
        // Acknowledged like any push, and only if nothing was refused: so what the round sent has been merged.
        let closing = CellsEncoder::default().finish(&local.store, Carrier::Put { through: state.through() });
        self.queue.close_state(closing, state);
        if self.inbound.refused.take_if(|withheld| withheld.retried).is_some() {
            local.refusing.fetch_sub(1, Ordering::Relaxed);
            self.events.push(Event::Withholding(false));
        }
        self.inbound.whole |= gaps == self.inbound.epoch && self.inbound.refused.is_none();
        self.note_held(local);
        local.holdings.verified();
        let first = !std::mem::replace(&mut self.joined, true);
        self.verified = Some(now);
        let finished = Finished { first, healed: heals, deep, progress, took: now - began };
        self.events.push(Event::Finished(finished));
    }
}

/// How long to wait before what was refused is asked for again; `None` for as long as there is no room.
fn retry_pause(room: Room) -> Option<Duration> {
    match room {
        Room::None => None,
        Room::Some => Some(PARTIAL_RETRY),
        Room::All => Some(REFUSED_RETRY),
    }
}
