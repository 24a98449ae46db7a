//! Checks every step, in terms of what clients did and what processes show. Of healing it uses only the claims
//! of summary vectors.

mod held;

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use super::node::{Process, name};
use super::plan::Plan;
use crate::cluster::LostCell;
use crate::model::counter::Slot;
use crate::model::{Incarnation, Time, Timestamp, Vector};
use crate::replication::message::Refusal;
use crate::store::Totals;

mod cell;
mod counting;
mod end;
mod memory;

pub(super) use cell::Held;
use counting::{Count, Counted, Slots};
pub(super) use held::Says;
pub(super) use memory::Tally;

/// A write, as its node has applied it.
#[derive(Clone, Debug)]
pub(super) struct Write {
    time: Time,
    pub(super) key: usize,
    /// The register after it; `None` if it left the register unchanged.
    register: Option<Register>,
    /// The slots that it changed, as it has left them.
    counts: Vec<Count>,
}

#[derive(Clone, Copy, Debug)]
struct Register {
    timestamp: Timestamp,
    deadline_timestamp: Timestamp,
    is_live: bool,
    deadline: Option<Time>,
}

/// What the checker has seen of one process.
#[derive(Default)]
struct Ledger {
    totals: Totals,
    stable: Time,
    held: Vec<Option<Held>>,
    /// For the timestamp of each value that it has shown, the deadline timestamps that it held the value with, and
    /// whether the value was gone later.
    shown: Vec<BTreeMap<Timestamp, Shown>>,
    /// The latest timestamp that was ever held.
    best: Vec<Option<Timestamp>>,
    slots: Vec<Slots>,
    synced: Vector,
    latest: Time,
}

#[derive(Default)]
struct Shown {
    deadline_timestamps: BTreeSet<Timestamp>,
    is_gone: bool,
}

/// A violation of a guarantee.
#[derive(Clone, Debug)]
pub(super) struct Violation {
    pub(super) at: Duration,
    pub(super) what: String,
    pub(super) key: Option<usize>,
}

#[derive(Default)]
pub(super) struct Checker {
    pub(super) violation: Option<Violation>,
    keys: Vec<Vec<u8>>,
    /// Every write, by the incarnation that made it, in order.
    writes: BTreeMap<Incarnation, Vec<Write>>,
    /// The timestamp of every register that was ever written, by key, and the earliest deadline that it ever had.
    registers: Vec<BTreeMap<Timestamp, Option<Time>>>,
    counted: Vec<Counted>,
    ledgers: BTreeMap<usize, Ledger>,
    /// The writes that were given up: key and dot.
    lost: BTreeSet<(usize, Timestamp)>,
    /// What must exist in the end: the newest value of each key that a process still holds, if it is the newest
    /// ever written, and its slots.
    lasting: Vec<(usize, Lasting)>,
    /// The latest stable time of any process: no process has purged anything later.
    stable: Time,
    /// Whether a member lapsed or was removed by an operator.
    pub(super) has_lapsed: bool,
    /// Incarnations that ended while two nodes that had met them had not heard of one another.
    last_in_common: BTreeSet<Incarnation>,
    /// How far the claims of a link's queue were checked.
    drained: BTreeMap<(u64, u64), usize>,
    held: held::Checked,
    pub(super) syncs: u64,
    pub(super) healed: u64,
    /// Clients' writes that were refused for want of memory, and how often a link began to lack room.
    pub(super) refused: u64,
    pub(super) withheld: u64,
    /// `WAIT`s, and those of them that were fulfilled.
    pub(super) waits: u64,
    pub(super) fulfilled: u64,
    now: Duration,
    notes: Option<Vec<(Duration, Option<usize>, String)>>,
}

#[derive(Clone, Copy, Debug)]
enum Lasting {
    Value(Timestamp),
    Slot(Incarnation, Slot),
}

impl Checker {
    pub(super) fn new(plan: &Plan, traced: bool) -> Self {
        Checker {
            keys: (0..plan.keys).map(|key| format!("key:{key}").into_bytes()).collect(),
            registers: vec![BTreeMap::new(); plan.keys],
            counted: vec![Counted::default(); plan.keys],
            notes: traced.then(Vec::new),
            ..Checker::default()
        }
    }

    pub(super) fn key(&self, key: usize) -> &[u8] {
        &self.keys[key]
    }

    pub(super) fn fail(&mut self, what: String) {
        self.fail_at(None, what);
    }

    pub(super) fn fail_at(&mut self, key: Option<usize>, what: String) {
        let at = self.now;
        self.violation.get_or_insert(Violation { at, what, key });
    }

    /// Adds a note to the trace of a failure.
    pub(super) fn note(&mut self, now: Duration, key: Option<usize>, text: impl FnOnce() -> String) {
        self.now = now;
        if let Some(notes) = &mut self.notes {
            notes.push((now, key, text()));
        }
    }

    /// Returns the notes of a key and of the cluster as a whole.
    pub(super) fn trace(&self, key: Option<usize>) -> Vec<String> {
        let notes = self.notes.iter().flatten();
        let fits = |of: &Option<usize>| of.is_none() || key.is_none() || *of == key;
        notes
            .filter(|(_, of, _)| fits(of))
            .map(|(at, _, text)| format!("{:9.3}  {text}", at.as_secs_f64()))
            .collect()
    }

    /// A process begins to run at a node.
    pub(super) fn begin(&mut self, node: usize, process: &Process, now: Duration) {
        let keys = self.keys.len();
        let ledger = Ledger {
            held: vec![None; keys],
            shown: (0..keys).map(|_| BTreeMap::new()).collect(),
            best: vec![None; keys],
            slots: vec![Slots::new(); keys],
            ..Ledger::default()
        };
        self.ledgers.insert(node, ledger);
        self.drained.clear();
        self.note(now, None, || format!("n{node} starts as {}", process.incarnation()));
    }

    /// An incarnation ends at a node, while these processes run.
    pub(super) fn end(&mut self, node: usize, of: Incarnation, running: &[&Process], now: Duration) {
        self.ledgers.remove(&node);
        let knows = |process: &Process, of| process.replica.local.members.lock().name_of(of).is_some();
        let met: Vec<_> = running.iter().filter(|process| knows(process, of)).collect();
        if met.iter().any(|process| met.iter().any(|other| !knows(process, other.incarnation()))) {
            self.last_in_common.insert(of);
        }
        self.note(now, None, || format!("n{node} ends"));
    }

    /// Records a client's write that was accepted, with the cell before and after.
    pub(super) fn on_write(
        &mut self,
        node: usize,
        process: &Process,
        key: usize,
        before: Option<&Held>,
        after: Option<Held>,
    ) {
        let Some(after) = after.filter(|after| before != Some(after)) else { return };
        let own = process.incarnation();
        let before_latest = before.map(Held::latest);
        let written = after.latest();
        if before_latest.is_some_and(|before| before >= written) {
            self.fail_at(Some(key), format!("n{node} wrote {written} over {before_latest:?}"));
        }
        let ledger = self.ledgers.get_mut(&node).expect("a process that runs has a ledger");
        if written.time() <= ledger.latest {
            let latest = ledger.latest;
            self.fail_at(Some(key), format!("n{node} wrote {written} although it had seen {latest:?}"));
        } else if written.incarnation() != own || written.time() <= process.replica.local.store.stable_time()
        {
            self.fail_at(Some(key), format!("n{node} wrote {written} below the stable time or as another"));
        }
        let register = |held: &Held| (held.timestamp, held.deadline_timestamp);
        let is_changed = before.map(register) != Some(register(&after)) && after.is_written();
        let counts = Checker::counts_of(before, &after);
        let counted = &mut self.counted[key];
        counts.iter().for_each(|count| counted.note(count));
        let expiry = after.counter.expiry.and_then(|(_, expiry)| expiry.expires_at());
        counted.deadline = counted.deadline.max(expiry.max(after.deadline).unwrap_or_default());
        let register = is_changed.then_some(Register {
            timestamp: after.timestamp,
            deadline_timestamp: after.deadline_timestamp,
            is_live: after.value.is_some(),
            deadline: after.deadline,
        });
        if let Some(register) = register {
            let earliest = self.registers[key].entry(register.timestamp).or_default();
            *earliest = [*earliest, register.deadline].into_iter().flatten().min();
        }
        self.writes.entry(own).or_default().push(Write { time: written.time(), key, register, counts });
    }

    /// Records how far a process may have purged.
    pub(super) fn note_stable(&mut self, process: &Process) {
        self.stable = self.stable.max(process.replica.local.store.stable_time());
    }

    /// Checks a process after something happened to it.
    pub(super) fn look(&mut self, node: usize, process: &Process, wall: Time, now: Duration) {
        self.now = now;
        let (totals, stable) =
            (process.replica.local.store.totals(), process.replica.local.store.stable_time());
        let Some(ledger) = self.ledgers.get_mut(&node) else { return };
        if totals != ledger.totals || stable != ledger.stable {
            if stable != ledger.stable {
                self.note(now, None, || format!("n{node} has stable time {stable:?}"));
            }
            self.compare(node, process, process.replica.local.store.now(wall));
            if let Some(ledger) = self.ledgers.get_mut(&node) {
                (ledger.totals, ledger.stable) = (totals, stable);
            }
        }
        self.check_claims(node, process);
    }

    fn compare(&mut self, node: usize, process: &Process, now: Time) {
        let Some(mut ledger) = self.ledgers.remove(&node) else { return };
        for key in 0..self.keys.len() {
            let cell = process.replica.local.store.cell(&self.keys[key]);
            let held = cell.map(|cell| Held::read(process, &cell));
            if held == ledger.held[key] {
                continue;
            }
            let text = held.clone();
            self.note(self.now, Some(key), || format!("n{node} key {key}: {text:?}"));
            self.look_at_register(node, key, held.as_ref(), &mut ledger, now);
            self.look_at_counter(node, key, held.as_ref(), &mut ledger.slots[key]);
            if let Some(held) = &held {
                ledger.latest = ledger.latest.max(held.latest().time());
                ledger.best[key] = ledger.best[key].max(Some(held.timestamp));
            }
            ledger.held[key] = held;
        }
        self.ledgers.insert(node, ledger);
    }

    /// Checks that a value that was shown and then gone at a process is not shown again, unless an `EXPIRE`
    /// or `PERSIST` that the process had not seen keeps it alive.
    fn look_at_register(
        &mut self,
        node: usize,
        key: usize,
        held: Option<&Held>,
        ledger: &mut Ledger,
        now: Time,
    ) {
        let live = held.filter(|held| held.is_live(now));
        for (timestamp, shown) in &mut ledger.shown[key] {
            shown.is_gone |= live.is_none_or(|live| live.timestamp != *timestamp);
        }
        let Some(live) = live else { return };
        let shown = ledger.shown[key].entry(live.timestamp).or_default();
        if shown.is_gone && shown.deadline_timestamps.contains(&live.deadline_timestamp) {
            return self.fail_at(Some(key), format!("n{node} shows {live:?} again, which was gone there"));
        }
        shown.is_gone = false;
        shown.deadline_timestamps.insert(live.deadline_timestamp);
    }

    /// Checks the summary vector: each entry claims every write of an incarnation up to a time.
    fn check_claims(&mut self, node: usize, process: &Process) {
        let Some(ledger) = self.ledgers.get_mut(&node) else { return };
        let origins = process.replica.local.store.origins();
        let synced: Vector = origins.iter().map(|(of, coverage)| (of, coverage.synced)).collect();
        if synced == ledger.synced {
            return;
        }
        let before = std::mem::replace(&mut ledger.synced, synced.clone());
        for (of, until) in synced.iter() {
            let Some(writes) = self.writes.get(&of) else { continue };
            let from = writes.partition_point(|write| write.time <= before.time_of(of));
            let claimed = writes[from..].iter().take_while(|write| write.time <= until);
            let missing = claimed.clone().find(|write| !self.is_held(node, process, write));
            if let Some(missing) = missing.cloned() {
                let text = format!("n{node} claims {of} up to {until:?} and lacks {missing:?}");
                return self.fail_at(Some(missing.key), text);
            }
        }
    }

    /// Checks a queue's claim that its peer holds everything.
    pub(super) fn check_drained(&mut self, node: usize, process: &Process, peer: usize, other: &Process) {
        let own = process.incarnation();
        let Some(writes) = self.writes.get(&own) else { return };
        let checked = self.drained.get(&(process.number, other.number)).copied().unwrap_or(0);
        let missing = writes[checked..].iter().find(|write| !self.is_held(peer, other, write));
        self.drained.insert((process.number, other.number), writes.len());
        if let Some(missing) = missing.cloned() {
            let text = format!("n{node} counts on n{peer}, which lacks {missing:?}");
            self.fail_at(Some(missing.key), text);
        }
    }

    /// Whether a process holds a write, or something that has replaced it.
    pub(super) fn is_held(&self, node: usize, process: &Process, write: &Write) -> bool {
        let key = write.key;
        let held = process.replica.local.store.cell(&self.keys[key]).map(|cell| Held::read(process, &cell));
        if !self.holds_counts(key, held.as_ref(), &write.counts) {
            return false;
        }
        let Some(register) = &write.register else { return true };
        let Register { timestamp, deadline_timestamp, is_live, .. } = *register;
        let now = process.replica.local.store.now(Time::default());
        let deadline = self.registers[key].get(&timestamp).copied().flatten();
        let has_expired = deadline.is_some_and(|deadline| deadline <= now);
        match &held {
            Some(held) if held.timestamp > timestamp => return true,
            Some(held) if held.timestamp == timestamp && held.deadline_timestamp >= deadline_timestamp => {
                // The register was retracted, and a tombstone with the same dot is left.
                let is_retracted = is_live && held.value.is_none() && held.deadline.is_none();
                if !is_retracted || held.deadline_timestamp > deadline_timestamp {
                    return true;
                }
            }
            // The value that this delete has replaced is still shown: allowed only if a process may have purged
            // the delete.
            Some(held) if held.timestamp < timestamp && !is_live && held.is_live(now) => {
                return timestamp.time() <= self.stable;
            }
            _ => {}
        }
        // It may be gone: it was a delete, has expired, or something later was here or was purged everywhere.
        let newest_here = self.ledgers.get(&node).and_then(|ledger| ledger.best[key]);
        let mut later = self.registers[key].range(timestamp..).skip(1);
        !is_live
            || has_expired
            || newest_here.is_some_and(|newest| newest > timestamp)
            || later.any(|(later, _)| later.time() <= self.stable)
            || self.is_lost(key, timestamp.incarnation(), timestamp.time())
            // The value is gone, and its deadline with it.
            || deadline_timestamp != timestamp && !self.is_newest(key, timestamp)
    }

    fn is_newest(&self, key: usize, timestamp: Timestamp) -> bool {
        self.registers[key].last_key_value().is_some_and(|(newest, _)| *newest == timestamp)
    }

    fn is_lost(&self, key: usize, origin: Incarnation, time: Time) -> bool {
        self.lost.contains(&(key, Timestamp::new(time, origin)))
    }

    /// Records a reported lost cell: for a counter the sum of its slots, with the dot of the latest.
    pub(super) fn on_lost(&mut self, node: usize, process: &Process, lost: &LostCell, now: Duration) {
        let Some(key) = self.keys.iter().position(|key| *key == lost.key) else { return };
        self.note(now, Some(key), || format!("n{node} gives up {lost:?}"));
        self.lost.insert((key, lost.timestamp));
        let held = process.replica.local.store.cell(&lost.key).map(|cell| Held::read(process, &cell));
        let slots = held.into_iter().flat_map(|held| held.counter.slots);
        let retracted = slots.filter(|(_, slot)| slot.reset.at == slot.last);
        self.lost.extend(retracted.map(|(owner, slot)| (key, Timestamp::new(slot.last, owner))));
        let was_held_apart = self.last_in_common.contains(&lost.timestamp.incarnation());
        if !self.has_lapsed && !was_held_apart && !self.may_be_removed(key, lost.timestamp) {
            self.fail_at(Some(key), format!("n{node} gave up {lost:?} although nobody was away"));
        }
    }

    /// Whether clients have replaced or removed the value or slot with this dot, or have set its deadline. A
    /// removed write may be listed as given up if it was received by pushes alone and its writer was closed.
    fn may_be_removed(&self, key: usize, dot: Timestamp) -> bool {
        match self.registers[key].get(&dot) {
            Some(deadline) => deadline.is_some() || !self.is_newest(key, dot),
            None => self.counted[key].may_have_ended_at(dot.incarnation(), dot.time()),
        }
    }

    /// Records that a member lapses at a node.
    pub(super) fn on_lapse(&mut self, node: usize, process: &Process, lapsed: &str, now: Duration) {
        self.has_lapsed = true;
        self.note(now, None, || format!("n{node} lets {lapsed} lapse"));
        if process.links.keys().any(|&peer| name(peer) == lapsed) {
            self.fail(format!("n{node} lets {lapsed} lapse, to which it is linked"));
        }
    }

    pub(super) fn on_refusal(&mut self, refusal: Refusal, text: &str, now: Duration) {
        self.note(now, None, || format!("{text}: {refusal:?}"));
    }

    /// Checks that the sums of every range are those of its cells.
    pub(super) fn recompute(&mut self, node: usize, process: &Process) {
        let wrong = (0..process.replica.local.store.range_count())
            .find(|&range| !process.replica.local.store.scrub(range));
        if let Some(range) = wrong {
            self.fail(format!("the sums of range {range} at n{node} are not those of its cells"));
        }
    }
}
