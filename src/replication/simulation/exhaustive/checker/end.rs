//! Checks the end, once all faults have ended and everything was exchanged.

use std::collections::BTreeMap;

use super::super::adapter::{self, View};
use super::{Checker, dot};
use crate::model::counter::Slot;
use crate::model::{Incarnation, Time, Timestamp};
use crate::replication::local::Local;

impl Checker {
    /// Returns what keeps the nodes from being equal and without tombstones.
    pub(in super::super) fn difference(&self, locals: &[&Local], wall: Time) -> Option<String> {
        for (node, local) in locals.iter().enumerate() {
            let totals = local.store.totals();
            if totals.dead_cells > 0 || totals.dead != 0 {
                return Some(format!("n{node} keeps {} tombstones", totals.dead_cells.max(1)));
            }
        }
        for (key, bytes) in self.keys.iter().enumerate() {
            let shown = |local: &Local| {
                let now = local.store.now(wall);
                let view = adapter::view(local, bytes);
                let view = view.as_ref();
                let register = view.filter(|view| view.is_live(now)).map(View::rank);
                let counts = |view: &&View| {
                    let slots = view.slots.iter().filter(|(_, slot)| view.counts(slot, now));
                    slots.copied().collect::<Vec<_>>()
                };
                let value = local.store.read(bytes, now, |live| live.map(|live| live.value().to_vec()));
                (register, view.as_ref().map(counts).unwrap_or_default(), value)
            };
            let first = shown(locals[0]);
            for (node, local) in locals.iter().enumerate().skip(1) {
                let other = shown(local);
                if first != other {
                    return Some(format!("k{key}: n0 shows {first:?}, n{node} {other:?}"));
                }
            }
        }
        None
    }

    /// Checks, after everything was exchanged, that each key is the newest that a running process ever held.
    pub(in super::super) fn check_end(&mut self, locals: &[&Local], wall: Time) {
        let Some(local) = locals.first() else { return };
        let now = local.store.now(wall);
        for key in 0..self.keys.len() {
            self.check_end_of_register(key, local, now);
            self.check_end_of_counter(key, local, now);
        }
    }

    fn check_end_of_register(&mut self, key: usize, local: &Local, now: Time) {
        let view = adapter::view(local, self.keys[key]);
        let shown = view.as_ref().filter(|view| view.is_live(now));
        let bests = self.ledgers.iter().filter_map(|ledger| ledger.best.get(&key));
        let Some(best) = bests.max_by_key(|best| best.rank()).cloned() else { return };
        let expected = best.timestamp.filter(|_| best.is_live(now));
        match (expected, shown) {
            (Some(_), Some(shown)) if shown.rank() == best.rank() => {}
            (Some(timestamp), shown) => {
                // A node that has purged a later write may have refused it.
                let replaced = self.purged.iter().any(|&(of, purged)| of == key && purged > timestamp);
                let lost = self.lost.contains(&(key, timestamp));
                if !replaced && !lost || shown.is_some_and(|shown| shown.timestamp < Some(timestamp)) {
                    let shown = shown.and_then(|shown| shown.timestamp).map_or("nothing".into(), dot);
                    self.fail(|| {
                        let by = best.deadline_by.map_or("nothing".into(), dot);
                        format!(
                            "all show {shown} of k{key}, and {} by {by} is the newest held",
                            dot(timestamp)
                        )
                    });
                }
            }
            (None, None) => {}
            (None, Some(shown)) => {
                self.undone += 1;
                let is_barred =
                    |dot: Option<Timestamp>| dot.is_some_and(|dot| self.barred.contains(&(key, dot)));
                if !self.may_undo || is_barred(shown.timestamp) && is_barred(shown.deadline_by) {
                    let (shown, best) = (shown.timestamp.map(dot), best.timestamp.map(dot));
                    self.fail(|| format!("all show {shown:?} of k{key}, and {best:?} had been deleted"));
                }
            }
        }
    }

    fn check_end_of_counter(&mut self, key: usize, local: &Local, now: Time) {
        // What a deadline has ended depends on the registers that the copies had with it.
        if self.has_deadlines(key) {
            return;
        }
        let view = adapter::view(local, self.keys[key]);
        let mut joined = BTreeMap::<Incarnation, Slot>::new();
        for ledger in &self.ledgers {
            for (&(_, owner), &slot) in ledger.slots.iter().filter(|((of, _), _)| *of == key) {
                joined.entry(owner).and_modify(|known| *known = known.merge(slot)).or_insert(slot);
            }
        }
        for (owner, slot) in joined {
            let slots = view.iter().flat_map(|view| &view.slots);
            let counts = |slot: &Slot| view.as_ref().is_some_and(|view| view.counts(slot, now));
            let held = slots.clone().find(|(other, slot)| *other == owner && counts(slot));
            let held = held.map(|(_, slot)| *slot);
            if slot.is_reset() {
                if let Some(held) = held {
                    self.undone += 1;
                    if !self.may_undo {
                        self.fail(|| format!("all count {held:?} of {owner} in k{key}, which was reset"));
                    }
                }
            } else if held
                .is_none_or(|held| (held.start, held.last, held.net()) != (slot.start, slot.last, slot.net()))
            {
                self.fail(|| {
                    format!("all count {held:?} of {owner} in k{key}, and {slot:?} is the newest held")
                });
            }
        }
    }
}
