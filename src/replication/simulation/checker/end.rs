//! Checks how a history ends: that all nodes become equal, and hold what must last.

use super::super::node::Process;
use super::{Checker, Held, Lasting};
use crate::model::counter::Slot;

impl Checker {
    /// Returns what keeps the cluster from being equal and clean, if anything does.
    pub(in super::super) fn unconverged(&self, processes: &[(usize, &Process)]) -> Option<String> {
        let mut others = processes.iter();
        let (first, one) = others.next()?;
        for (node, process) in processes {
            let dead = process.replica.local.store.totals().dead_cells;
            if dead > 0 {
                return Some(format!("n{node} keeps {dead} tombstones"));
            }
        }
        for (node, process) in others {
            for key in &self.keys {
                let (a, b) = (one.replica.local.store.cell(key), process.replica.local.store.cell(key));
                let (a, b) = (a.map(|cell| Held::read(one, &cell)), b.map(|cell| Held::read(process, &cell)));
                if a != b {
                    return Some(format!("{}: n{first} holds {a:?}, n{node} {b:?}", key.escape_ascii()));
                }
            }
        }
        None
    }

    /// Records what these processes hold that must exist in the end, once clients and faults have ended.
    pub(in super::super) fn quiesce(&mut self, processes: &[(usize, &Process)]) {
        // What a leaving process could not hand over in time is lost with it.
        for (_, process) in processes.iter().filter(|(_, process)| process.leaving.is_none()) {
            for key in 0..self.keys.len() {
                let cell = process.replica.local.store.cell(&self.keys[key]);
                let Some(held) = cell.map(|cell| Held::read(process, &cell)) else { continue };
                if held.value.is_some() && held.deadline.is_none() && self.is_newest(key, held.timestamp) {
                    self.lasting.push((key, Lasting::Value(held.timestamp)));
                }
                let slots = self.lasting_slots(key, &held);
                self.lasting.extend(slots.into_iter().map(|(owner, slot)| (key, Lasting::Slot(owner, slot))));
            }
        }
    }

    /// Checks that everything that had to last exists, after all nodes have converged.
    pub(in super::super) fn check_end(&mut self, processes: &[(usize, &Process)]) {
        for (node, process) in processes {
            self.recompute(*node, process);
        }
        let Some((_, process)) = processes.first() else { return };
        for (key, lasting) in std::mem::take(&mut self.lasting) {
            let cell = process.replica.local.store.cell(&self.keys[key]);
            let held = cell.map(|cell| Held::read(process, &cell));
            let is_there = match lasting {
                Lasting::Value(timestamp) => {
                    let is_present = |held: &Held| held.timestamp == timestamp;
                    let may_expire = self.registers[key].get(&timestamp).is_some_and(Option::is_some);
                    // If there was too little memory, clients have deleted since.
                    held.as_ref().is_some_and(is_present)
                        || may_expire
                        || !self.is_newest(key, timestamp)
                        || self.is_lost(key, timestamp.incarnation(), timestamp.time())
                }
                Lasting::Slot(owner, slot) => {
                    let present = held.as_ref().and_then(|held| held.counter.slot(owner));
                    let is_present = |present: &Slot| {
                        present.start == slot.start && present.last >= slot.last && !present.is_reset()
                    };
                    present.is_some_and(is_present)
                        || self.counted[key].may_have_ended(owner, slot.start, slot.last)
                        || self.is_lost(key, owner, slot.last)
                }
            };
            if !is_there {
                let text = format!("all hold {held:?}, and {lasting:?} had to last");
                return self.fail_at(Some(key), text);
            }
        }
    }
}
