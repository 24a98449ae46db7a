//! Checks memory limits. A refused write changes nothing, is refused only for want of room, and is no delete;
//! and no more is held than the limits allow.

use super::{Checker, Held};
use crate::model::Time;
use crate::replication::simulation::node::Process;
use crate::store::{Cell, Totals, Write, WriteError};

/// Live cells may exceed the limit of clients by one byte in this many, if peers bring them.
const CEILING_SHARE: u64 = 4;

/// The most memory of all cells, as a multiple of the limit of clients.
const HARD_LIMIT: u64 = 16;

/// The memory of all cells beyond which a client's write is refused, as a multiple of the limit of clients.
const WITH_TOMBSTONES: u64 = 2;

/// The most bytes that a new key takes beside its own.
const NEW_KEY: u64 = 150;

/// The most bytes that a counter takes beside its slots: lengths, and the counter's deadline.
const COUNTER: u64 = 40;

/// The most bytes that a slot of a counter takes.
const SLOT: u64 = 68;

/// Everything in a store that a client's write may change.
#[derive(Clone, PartialEq, Debug)]
pub(in super::super) struct Tally {
    totals: Totals,
    live: u64,
    dead: u64,
    sequence: u64,
    /// Whether the key counts as live.
    counts_as_live: bool,
    held: Option<Held>,
}

impl Tally {
    /// Returns the tally of a process and of one of its keys.
    pub(in super::super) fn of(process: &Process, key: &[u8]) -> Tally {
        let store = &process.replica.local.store;
        let cell = store.cell(key);
        Tally {
            totals: store.totals(),
            live: store.memory(),
            dead: store.tombstone_memory(),
            sequence: store.feed().sequence(),
            counts_as_live: cell.as_ref().is_some_and(Cell::counts_as_live),
            held: cell.map(|cell| Held::read(process, &cell)),
        }
    }

    pub(in super::super) fn held(&self) -> Option<&Held> {
        self.held.as_ref()
    }
}

impl Checker {
    /// Checks a client's write that was refused.
    pub(in super::super) fn on_refused_write(
        &mut self,
        node: usize,
        key: usize,
        write: Write<'_>,
        error: &WriteError,
        max_memory: Option<u64>,
        [before, after]: [&Tally; 2],
    ) {
        self.note(self.now, Some(key), || format!("n{node} refuses {write:?}: {error}"));
        if before != after {
            self.fail_at(Some(key), format!("n{node} refused {write:?}, and {before:?} became {after:?}"));
        }
        if matches!(write, Write::Delete) {
            self.fail_at(Some(key), format!("n{node} refused to delete {before:?}: {error}"));
        }
        if *error != WriteError::OutOfMemory {
            return;
        }
        self.refused += 1;
        let bytes = if let Write::Set { value, .. } = write { value.len() as u64 } else { 0 };
        let slots = before.held.as_ref().map_or(0, |held| held.counter.slots.len() as u64);
        let growth = NEW_KEY + bytes + SLOT * (slots + 1);
        let (live, total) = (before.live + growth, before.live + before.dead + growth);
        if max_memory.is_none_or(|max| live <= max && total <= WITH_TOMBSTONES * max) {
            self.fail_at(Some(key), format!("n{node} refused {write:?}, which fits: {before:?}"));
        }
    }

    /// Checks a client's write that was accepted: if it has left a key that counts as live, there was room for
    /// it.
    pub(in super::super) fn on_taken_write(
        &mut self,
        node: usize,
        key: usize,
        max_memory: Option<u64>,
        [before, after]: [&Tally; 2],
    ) {
        let Some(max) = max_memory.filter(|_| after.counts_as_live) else { return };
        let total = |tally: &Tally| tally.live + tally.dead;
        let is_over =
            after.live > max.max(before.live) || total(after) > (WITH_TOMBSTONES * max).max(total(before));
        if is_over {
            self.fail_at(
                Some(key),
                format!("n{node} took more than {max} bytes: {before:?}, then {after:?}"),
            );
        }
    }

    /// Checks that a process holds no more than peers may bring.
    pub(in super::super) fn check_memory(&mut self, node: usize, process: &Process, max: u64) {
        let store = &process.replica.local.store;
        let (live, dead) = (store.memory(), store.tombstone_memory());
        let ceiling = max + max / CEILING_SHARE;
        if live + dead > HARD_LIMIT * max {
            return self.fail(format!("n{node} holds {live} live and {dead} dead bytes of {max}"));
        }
        if live <= ceiling {
            return;
        }
        // Expired cells are accepted beyond the ceiling until the sweep counts them as dead, and so are resets
        // of slots.
        let now = store.now(Time::default());
        let cells = self.keys.iter().filter_map(|key| store.cell(key));
        let expired: u64 =
            cells.filter(|cell| cell.counts_as_live() && !cell.is_live(now)).map(|cell| cell.memory()).sum();
        let cells = self.keys.iter().filter_map(|key| store.cell(key)).filter(Cell::has_counter);
        let resets: u64 = cells.map(|cell| COUNTER + SLOT * cell.counter().slots.len() as u64).sum();
        if live > ceiling + resets + expired {
            self.fail(format!("n{node} holds {live} bytes of {max}, beyond the ceiling {ceiling}"));
        }
    }
}
