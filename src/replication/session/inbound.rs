//! Handles the peer's pushes, cells and heartbeats.

use std::collections::BTreeMap;
use std::sync::atomic::Ordering;

use tokio::time::Instant;

use super::{Event, LinkError, Session, Withheld};
use crate::ablation::{Ablation, ablated};
use crate::model::{Incarnation, Time, timestamp};
use crate::replication::figures::{self, LastHeartbeat};
use crate::replication::heartbeat;
use crate::replication::local::Local;
use crate::replication::members::Summary;
use crate::replication::message::{Cells, Heartbeat};
use crate::store::{
    Cell, Counter, Origin, Outcome, PREFETCH_AHEAD, Parts, ReceivedBy, Retraction, Shortfall,
};

impl Session {
    pub(super) fn on_heartbeat(
        &mut self,
        local: &Local,
        heartbeat: &Heartbeat<'_>,
        wall: Time,
        now: Instant,
    ) -> Result<(), LinkError> {
        let (theirs, hlc) = (Time(heartbeat.wall), Time(heartbeat.hlc));
        // A heartbeat may be delayed, so it can show that the peer's clock leads, but not that it lags: the
        // peer detects that itself.
        if theirs > timestamp::later(wall, local.config.max_clock_skew) {
            return Err(LinkError::Skewed(timestamp::distance(theirs, wall)));
        }
        let max_accepted = local.max_accepted(wall);
        if hlc > max_accepted {
            return Err(LinkError::Skewed(timestamp::distance(hlc, wall)));
        }
        local.store.observe(hlc);
        let summary = Summary::read(&heartbeat.summary)?;
        self.observe(local, &summary, wall)?;
        let (gossip, addresses) = heartbeat::read(heartbeat, max_accepted)?;
        let figures = figures::read(heartbeat.figures, heartbeat.keys)?;
        let links_changed = self.last_heartbeat.as_ref().is_none_or(|last| last.links != gossip.links);
        self.last_heartbeat = Some(LastHeartbeat { at: now, figures, links: gossip.links.clone() });
        let hlc = local.store.now(wall);
        let mut members = local.members.lock();
        members.on_heartbeat(self.peer, &summary, gossip, hlc);
        if links_changed {
            // Cells that arrive from now on are relayed, without waiting for the next tick.
            local.relays.store(members.must_relay(hlc), Ordering::Relaxed);
        }
        drop(members);
        self.events
            .extend(addresses.into_iter().map(|(incarnation, address)| Event::Dial(incarnation, address)));
        Ok(())
    }

    /// Merges received cells and returns how many. The caller has checked all of them and moved the clock past
    /// them.
    pub(super) fn merge(
        &mut self,
        local: &Local,
        cells: &Cells<'_>,
        wall: Time,
        now: Instant,
        in_sync: bool,
    ) -> Result<u64, LinkError> {
        let store = &local.store;
        let checked = cells.check(store, wall, local.max_accepted(wall))?;
        store.observe(checked.latest);
        checked.seen.iter().for_each(|&(origin, time)| store.origins().see(origin, time));
        let by = if in_sync {
            ReceivedBy::Sync {
                cutoff: self.sync.as_ref().map(|current| current.sync.cutoff()).unwrap_or_default(),
            }
        } else {
            ReceivedBy::Push
        };
        let relay = !in_sync && local.relays.load(Ordering::Relaxed);
        let mut fresh = Vec::new();
        for cells in checked.cells.chunks(PREFETCH_AHEAD) {
            let mut keys = [&[][..]; PREFETCH_AHEAD];
            keys.iter_mut().zip(cells).for_each(|(next, (key, ..))| *next = key);
            store.prefetch(&keys[..cells.len()]);
            for (key, parts, counter) in cells {
                let merged = store.merge(&mut self.inbound.scratch, key, parts, counter, by);
                match merged.outcome {
                    Outcome::Applied if relay => {
                        fresh.extend(store.cell(key).map(|cell| (author(parts, counter), cell)));
                    }
                    Outcome::Applied | Outcome::Known => {}
                    Outcome::Refused(bytes) => {
                        let fails = in_sync && !ablated(Ablation::FailRefused);
                        if let Some(current) = self.sync.as_mut().filter(|_| fails) {
                            current.sync.on_refused();
                        }
                        self.withhold(local, bytes, now);
                    }
                }
                match (merged.retraction, &mut self.sync) {
                    (None, _) => {}
                    (Some(retraction), Some(current)) if in_sync => {
                        current.sync.on_removed(key, retraction, store);
                    }
                    // The peer has not received the write that removed this: a sync sends it.
                    (Some(_), _) => {
                        local.counts.late.fetch_add(1, Ordering::Relaxed);
                        self.want_sync(now);
                    }
                }
            }
        }
        self.relay(local, fresh);
        Ok(checked.cells.len() as u64)
    }

    /// Removes the retracted dots, where they are still held.
    pub(super) fn retract(&mut self, local: &Local, retractions: Vec<(&[u8], Retraction)>) {
        for (key, retraction) in retractions {
            if let Some(retracted) = local.store.retract(key, &retraction) {
                let lost = local.give_up(&retracted, &self.name, self.handed_over(local));
                self.events.extend(lost.map(Event::Lost));
            }
        }
    }

    /// Relays newly applied cells to the peers that have no link to their origin.
    pub(super) fn relay(&mut self, local: &Local, fresh: Vec<(Origin, Cell)>) {
        if fresh.is_empty() {
            return;
        }
        let members = local.members.lock();
        let mut relays: BTreeMap<Incarnation, Vec<Cell>> = BTreeMap::new();
        for (origin, cell) in fresh {
            let origin = local.store.incarnation(origin);
            for peer in members.without_link_to(origin).filter(|&peer| peer != self.peer) {
                relays.entry(peer).or_default().push(cell.clone());
            }
        }
        self.events.extend(relays.into_iter().map(|(peer, cells)| Event::Relay(peer, cells)));
    }

    /// Records up to which feed sequence this node holds the changes of the peer's clients.
    pub(super) fn note_held(&self, local: &Local) {
        if self.inbound.whole {
            local.write_acks.hold(self.own, self.peer, self.inbound.through);
        }
    }

    /// Records that a cell was refused for lack of this many bytes of room.
    fn withhold(&mut self, local: &Local, bytes: u64, now: Instant) {
        self.inbound.whole = false;
        if self.inbound.refused.is_none() {
            local.refusing.fetch_add(1, Ordering::Relaxed);
            self.events.push(Event::Withholding(true));
        }
        let withheld = self.inbound.refused.get_or_insert(Withheld {
            since: now,
            retried: false,
            shortfall: Shortfall::default(),
            deliveries: local.deliveries.load(Ordering::Relaxed),
        });
        withheld.retried = false;
        withheld.shortfall.add(bytes);
    }
}

/// Returns the writer of the latest write in a received cell: the write that it was pushed for.
fn author(parts: &Parts<'_>, counter: &Counter) -> Origin {
    let timestamp = (parts.time, parts.origin);
    let register =
        parts.deadline_timestamp.map_or(timestamp, |deadline_timestamp| deadline_timestamp.max(timestamp));
    let slots = counter.slots.iter().map(|&(owner, slot)| (slot.last, owner));
    let expiry = counter.expiry.map(|(writer, expiry)| (expiry.set_at, writer));
    slots.chain(expiry).fold(register, Ord::max).1
}
