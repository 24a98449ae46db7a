//! Checks that what a summary vector claims is held.

use super::super::adapter::View;
use super::{Checker, Kind, Ledger, Write, dot};
use crate::model::{Incarnation, Time, Timestamp};

impl Checker {
    /// Checks that every claimed write is held, or was replaced, or was deleted and purged.
    pub(super) fn check_claims(&mut self, node: usize, ledger: &Ledger, now: Time) {
        for &(of, until) in &ledger.vector {
            let claimed =
                self.writes.iter().filter(|write| write.dot.incarnation() == of && write.dot.time() <= until);
            let missing = claimed.clone().find(|write| {
                !self.is_held(ledger.views[write.key].as_ref(), write, now)
                    && !self.lost.contains(&(write.key, write.dot))
            });
            if let Some(missing) = missing.cloned() {
                return self.fail(|| {
                    let until = dot(Timestamp::new(until, of));
                    format!("n{node} claims to hold all up to {until} and lacks {missing}")
                });
            }
        }
    }

    fn is_held(&self, view: Option<&View>, write: &Write, now: Time) -> bool {
        let key = write.key;
        let timestamp = match &write.kind {
            Kind::Add => {
                let (owner, at) = (write.dot.incarnation(), write.dot.time());
                let slot = view.and_then(|view| view.slots.iter().find(|(other, _)| *other == owner));
                return slot.is_some_and(|(_, slot)| slot.last >= at || slot.start > at)
                    || self.is_reset(key, owner, at)
                    || self.has_deadlines(key);
            }
            Kind::Deadline(timestamp) => {
                let Some(timestamp) = timestamp else { return true };
                let held = view.filter(|view| view.timestamp == Some(*timestamp));
                if held.is_some_and(|view| view.deadline_by >= Some(write.dot)) {
                    return true;
                }
                if held.is_some() {
                    return false;
                }
                *timestamp
            }
            Kind::Set(_) | Kind::Del(_) => write.dot,
        };
        if view.is_some_and(|view| view.timestamp >= Some(timestamp)) {
            return true;
        }
        // A missing cell fulfils a delete; a node that has purged it may omit it from a sync.
        let is_dead = |other: &Write| match other.kind {
            Kind::Del(_) => true,
            Kind::Set(_) | Kind::Deadline(_) => other.deadline.is_some_and(|deadline| deadline <= now),
            Kind::Add => false,
        };
        if is_dead(write) && view.is_none_or(|view| !view.is_live(now)) {
            return true;
        }
        let later = self.writes.iter().filter(|other| other.key == key && other.dot >= timestamp);
        later.filter(|other| is_dead(other)).any(|other| {
            let dead = if let Kind::Deadline(Some(timestamp)) = other.kind { timestamp } else { other.dot };
            other.dot.time() <= self.stable || self.purged.contains(&(key, dead))
        })
    }

    /// Whether a client's write has reset an increment.
    fn is_reset(&self, key: usize, owner: Incarnation, at: Time) -> bool {
        self.writes.iter().filter(|write| write.key == key).any(|write| match &write.kind {
            Kind::Set(seen) | Kind::Del(seen) => {
                seen.iter().any(|&(of, start, last)| of == owner && start <= at && at <= last)
            }
            Kind::Deadline(_) | Kind::Add => false,
        })
    }
}
