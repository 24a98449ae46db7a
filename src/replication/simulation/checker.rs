//! What must hold, looked at after every step.

mod held;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::Ordering;
use std::time::Duration;

use super::history::Plan;
use super::node::{Process, name};
use crate::model::counter::{Counter, Slot};
use crate::model::stamp::ZERO;
use crate::model::{Incarnation, Stamp, Time, Vector};
use crate::replication::message::Refusal;
use crate::store::Totals;

mod cell;
mod counting;

pub(super) use cell::Held;
use cell::{is_nobodys, nobodys};

/// A write as whoever made it knows it.
#[derive(Clone, Debug)]
struct Write {
    time: Time,
    key: usize,
    version: Stamp,
    /// For an `EXPIRE` or `PERSIST`.
    qualifier: Option<Stamp>,
    /// What it has left of the slots that it changed.
    counts: Vec<Count>,
}

/// A slot as a write has left it.
#[derive(Clone, Debug)]
struct Count {
    owner: Incarnation,
    slot: Slot,
}

/// What is known of one process.
#[derive(Default)]
struct Ledger {
    totals: Totals,
    floor: Time,
    held: Vec<Option<Held>>,
    /// The least that each key can hold from here on, by what admission goes by.
    effective: Vec<Time>,
    /// The latest version that was seen dead here.
    buried: Vec<Option<Stamp>>,
    /// The latest that was ever held.
    best: Vec<Option<Held>>,
    verified: Vector,
    latest: Time,
}

/// Something that must never happen.
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
    /// The newest version of each key that anyone wrote.
    newest: Vec<Option<Stamp>>,
    ledgers: BTreeMap<usize, Ledger>,
    /// What daemons dropped while they were alone and had too many tombstones, by key.
    dropped: Vec<Option<Stamp>>,
    /// What made something what it is may have come and gone between two looks.
    looks_rarely: bool,
    /// A member has lapsed or was forgotten: what it alone held may be killed.
    pub(super) excused: bool,
    /// A founder was restarted, or an operator founded: clusters may have been founded apart.
    pub(super) apart: bool,
    /// How far what a link's queue called held was checked.
    drained: BTreeMap<(u64, u64), usize>,
    held: held::Checked,
    dropped_before: u64,
    pub(super) rounds: u64,
    pub(super) healed: u64,
    pub(super) kills: u64,
    pub(super) lifts: u64,
    pub(super) strangers: BTreeSet<usize>,
    ended: BTreeSet<Incarnation>,
    /// Those that ended while the others were not one cluster, or before those who had met them met the others: their
    /// counts may be killed.
    left_apart: BTreeSet<Incarnation>,
    /// Every floor that any process has had.
    floors: BTreeSet<Time>,
    now: Duration,
    notes: Option<Vec<(Duration, Option<usize>, String)>>,
}

impl Checker {
    pub(super) fn new(plan: &Plan, _seed: u64, traced: bool) -> Self {
        Checker {
            keys: (0..plan.keys).map(|key| format!("key:{key}").into_bytes()).collect(),
            newest: vec![None; plan.keys],
            dropped: vec![None; plan.keys],
            looks_rarely: plan.is_full_size(),
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

    fn fail_at(&mut self, key: Option<usize>, what: String) {
        let at = self.now;
        self.violation.get_or_insert(Violation { at, what, key });
    }

    /// Notes something for the trace of a failure.
    pub(super) fn note(&mut self, now: Duration, key: Option<usize>, text: impl FnOnce() -> String) {
        self.now = now;
        if let Some(notes) = &mut self.notes {
            notes.push((now, key, text()));
        }
    }

    /// What was noted of a key and of the cluster as a whole.
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
            effective: vec![ZERO; keys],
            buried: vec![None; keys],
            best: vec![None; keys],
            ..Ledger::default()
        };
        self.ledgers.insert(node, ledger);
        self.drained.clear();
        self.note(now, None, || format!("n{node} starts as {}", process.incarnation()));
    }

    /// A process ends; `apart` if the others are not one cluster.
    pub(super) fn end(&mut self, node: usize, process: &Process, apart: bool, now: Duration) {
        self.ledgers.remove(&node);
        self.ended.insert(process.incarnation());
        self.left_apart.extend(apart.then(|| process.incarnation()));
        self.note(now, None, || format!("n{node} ends"));
    }

    /// A client's write went through: the cell before and after.
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
        let latest = |held: &Held| {
            let slots = held.counter.slots.iter().map(|(owner, slot)| Stamp::new(slot.last, *owner));
            // The version of nobody's is not drawn: it lies just above what is dead.
            let version = if is_nobodys(&held.version) { held.qualifier } else { held.version };
            slots.fold(version.max(held.qualifier), Ord::max)
        };
        let before_rank = before.map(latest);
        let written = latest(&after);
        if before_rank.is_some_and(|before| before >= written) {
            self.fail_at(Some(key), format!("n{node} wrote {written} over {before_rank:?}"));
        }
        let ledger = self.ledgers.get_mut(&node).expect("a process that runs has a ledger");
        if *written.get_time() <= ledger.latest {
            let latest = ledger.latest;
            self.fail_at(Some(key), format!("n{node} wrote {written} although it had seen {latest:?}"));
        } else if *written.get_id() != own || *written.get_time() <= process.local.store.floor() {
            self.fail_at(Some(key), format!("n{node} wrote {written} below its floor or as another"));
        }
        let qualifier = (after.qualifier != after.version).then_some(after.qualifier);
        let counts = Checker::counts_of(before, &after);
        let mut write = Write { time: *written.get_time(), key, version: after.version, qualifier, counts };
        // An increment alone leaves the register as it was.
        if before.is_some_and(|before| before.rank() == after.rank()) {
            (write.version, write.qualifier) = (nobodys(ZERO), None);
        }
        self.writes.entry(own).or_default().push(write);
        self.newest[key] = self.newest[key].max(Some(after.version));
    }

    /// Looks at a process after something happened to it.
    pub(super) fn look(&mut self, node: usize, process: &Process, wall: Time, now: Duration) {
        self.now = now;
        let (totals, floor) = (process.local.store.totals(), process.local.store.floor());
        let Some(ledger) = self.ledgers.get_mut(&node) else { return };
        if floor < ledger.floor {
            let was = ledger.floor;
            return self.fail(format!("the floor of n{node} fell from {was:?} to {floor:?}"));
        }
        if totals != ledger.totals || floor != ledger.floor {
            if floor != ledger.floor {
                self.note(now, None, || format!("n{node} has floor {floor:?}"));
            }
            self.compare(node, process, floor, process.local.store.now(wall));
            if let Some(ledger) = self.ledgers.get_mut(&node) {
                (ledger.totals, ledger.floor) = (totals, floor);
            }
        }
        self.check_claims(node, process);
    }

    /// Notes the floor of a process, which kills are stamped at.
    pub(super) fn note_floor(&mut self, process: &Process) {
        self.floors.insert(process.local.store.floor());
    }

    fn compare(&mut self, node: usize, process: &Process, floor: Time, now: Time) {
        let Some(mut ledger) = self.ledgers.remove(&node) else { return };
        for key in 0..self.keys.len() {
            let cell = process.local.store.cell(&self.keys[key]);
            let held = cell.map(|cell| Held::read(process, &cell));
            let effective = match &held {
                Some(held) if !held.is_dead_at(floor) && held.is_written() => held.admission(),
                Some(held) => held.admission().max(floor),
                None => floor,
            };
            if effective < ledger.effective[key] {
                let was = ledger.effective[key];
                self.fail_at(Some(key), format!("n{node} fell back from {was:?} to {held:?}"));
            }
            ledger.effective[key] = effective;
            if held == ledger.held[key] {
                continue;
            }
            let text = held.clone();
            self.note(self.now, Some(key), || format!("n{node} key {key}: {text:?}"));
            if let Some(held) = &held {
                self.look_for_killed(node, key, held, ledger.held[key].as_ref(), floor);
                self.look_at_cell(node, key, held, &mut ledger, now);
                let best = ledger.best[key].take();
                if let Some(best) = &best {
                    self.look_at_counter(node, key, held, best, floor);
                }
                ledger.best[key] = match best {
                    best if held.is_kill() => best,
                    // What it has dropped of the slots was looked at.
                    Some(best) => Some(Held { counter: Counter::NONE, ..best.stripped(floor) }.join(held)),
                    None => Some(held.clone()),
                };
            }
            ledger.held[key] = held;
        }
        self.ledgers.insert(node, ledger);
    }

    fn look_at_cell(&mut self, node: usize, key: usize, held: &Held, ledger: &mut Ledger, now: Time) {
        let live = held.is_live(now);
        if live && ledger.buried[key].is_some_and(|buried| held.version < buried) && !held.is_lifted() {
            let buried = ledger.buried[key];
            self.fail_at(Some(key), format!("n{node} shows {held:?} although it had seen {buried:?} dead"));
        }
        if !live {
            ledger.buried[key] = ledger.buried[key].max(Some(held.version));
        }
        self.lifts += u64::from(live && held.is_lifted());
        if held.is_kill() {
            self.kills += 1;
            if !self.floors.contains(held.version.get_time()) {
                self.fail_at(Some(key), format!("n{node} was told {held:?}, which is nobody's floor"));
            }
            let victim = ledger.held[key].as_ref().filter(|victim| victim.value.is_some());
            if let Some(victim) = victim
                && !self.excused
                && self.newest[key] == Some(victim.version)
            {
                self.fail_at(Some(key), format!("n{node} gave up {victim:?}, the newest there is"));
            }
            return;
        }
        let latest = held.version.get_time().max(held.qualifier.get_time());
        let counted = held.counter.slots.iter().map(|(_, slot)| slot.last);
        ledger.latest = counted.fold(ledger.latest.max(*latest), Ord::max);
    }

    /// Every verified entry says that all which that incarnation wrote up to then is held.
    fn check_claims(&mut self, node: usize, process: &Process) {
        let members = process.local.members.lock();
        let Some(ledger) = self.ledgers.get_mut(&node) else { return };
        // Where members lapsed, floors rise apart: what is dead at one of them may be unknown at the other, until the
        // next round kills it.
        if self.excused {
            return;
        }
        if *members.verified() == ledger.verified {
            return;
        }
        let verified = members.verified().clone();
        drop(members);
        let before = std::mem::replace(&mut ledger.verified, verified.clone());
        for (of, until) in verified.iter() {
            let Some(writes) = self.writes.get(&of) else { continue };
            let since = before.time_of(of);
            let from = writes.partition_point(|write| write.time <= since);
            let claimed = writes[from..].iter().take_while(|write| write.time <= until);
            let missing = claimed.clone().find(|write| !self.is_held(process, write));
            if let Some(missing) = missing.cloned() {
                return self.fail_at(
                    Some(missing.key),
                    format!("n{node} claims {of} up to {until:?} and lacks {missing:?}"),
                );
            }
        }
    }

    /// A queue says that its peer holds everything.
    pub(super) fn check_drained(&mut self, node: usize, process: &Process, peer: usize, other: &Process) {
        let own = process.incarnation();
        let Some(writes) = self.writes.get(&own).filter(|_| !self.excused) else { return };
        let checked = self.drained.get(&(process.number, other.number)).copied().unwrap_or(0);
        let missing = writes[checked..].iter().find(|write| !self.is_held(other, write));
        self.drained.insert((process.number, other.number), writes.len());
        if let Some(missing) = missing.cloned() {
            let text = format!("n{node} counts on n{peer}, which lacks {missing:?}");
            self.fail_at(Some(missing.key), text);
        }
    }

    /// Whether a process holds a write, or what came after it, or what may stand in its place.
    fn is_held(&self, process: &Process, write: &Write) -> bool {
        let Write { key, version, .. } = *write;
        if holds(process, &self.keys[key], write)
            || self.dropped[key].is_some_and(|dropped| dropped >= version)
            || self.was_replaced(write, process.local.store.floor())
        {
            return true;
        }
        // A delete that was purged may be undone by what was written before the first contact, as documented.
        let cell = process.local.store.cell(&self.keys[key]).map(|cell| Held::read(process, &cell));
        cell.is_some_and(|held| held.is_lifted() && held.lift >= write.time)
            && self.ledgers.values().any(|ledger| ledger.buried[key] >= Some(version))
    }

    /// Whether the deadline of a counter that nobody had set has lost against a later register which was forgotten since.
    fn was_replaced(&self, write: &Write, floor: Time) -> bool {
        let replaces = |other: &Write| {
            // A register that nobody set is kept for the sake of the deadline, so up to the stamp of that.
            let latest = other.qualifier.map_or(other.version, |qualifier| qualifier.max(other.version));
            let later = other.version > write.version && *latest.get_time() <= floor;
            later && other.key == write.key
        };
        is_nobodys(&write.version)
            && write.version != nobodys(ZERO)
            && self.writes.values().flatten().any(replaces)
    }

    pub(super) fn before_dropping(&mut self, _node: usize, process: &Process) {
        self.dropped_before = process.local.counts.dropped_tombstones.load(Ordering::Relaxed);
    }

    /// A daemon that is alone has dropped its oldest tombstones, as documented.
    pub(super) fn after_dropping(&mut self, node: usize, process: &Process) {
        let Some(ledger) = self.ledgers.get_mut(&node) else { return };
        for key in 0..self.keys.len() {
            let left = process.local.store.cell(&self.keys[key]).map(|cell| Held::read(process, &cell));
            if let Some(held) = &ledger.held[key]
                && left.as_ref() != Some(held)
            {
                self.dropped[key] = self.dropped[key].max(Some(held.version));
                ledger.effective[key] = ZERO;
                ledger.buried[key] = None;
                ledger.best[key] = None;
            }
        }
    }

    /// A member lapses at a node.
    pub(super) fn on_lapse(&mut self, node: usize, process: &Process, lapsed: &str, now: Duration) {
        self.excused = true;
        self.note(now, None, || format!("n{node} lets {lapsed} lapse"));
        if process.links.keys().any(|&peer| name(peer) == lapsed) {
            self.fail(format!("n{node} lets {lapsed} lapse, to which it is linked"));
        }
    }

    pub(super) fn on_refusal(&mut self, node: usize, refusal: Refusal, text: &str, now: Duration) {
        self.note(now, None, || format!("{text}: {refusal:?}"));
        if refusal == Refusal::Stranger {
            self.on_stranger(node, now);
        }
    }

    /// A link ends, or never was, because two clusters were founded apart.
    pub(super) fn on_stranger(&mut self, node: usize, now: Duration) {
        self.now = now;
        self.strangers.insert(node);
        if !self.apart {
            self.fail(format!("n{node} meets a stranger although all were to form one cluster"));
        }
    }

    /// The sums of every range are those of its cells.
    pub(super) fn recompute(&mut self, node: usize, process: &Process) {
        let wrong = (0..process.local.store.range_count()).find(|&range| !process.local.store.scrub(range));
        if let Some(range) = wrong {
            self.fail(format!("the sums of range {range} at n{node} are not those of its cells"));
        }
    }

    /// What keeps the cluster from being equal and clean, if anything does.
    pub(super) fn unsettled(&self, processes: &[(usize, &Process)]) -> Option<String> {
        let mut others = processes.iter();
        let (first, one) = others.next()?;
        for (node, process) in processes {
            let dead = process.local.store.totals().dead_cells;
            if dead > 0 {
                return Some(format!("n{node} keeps {dead} tombstones"));
            }
        }
        for (node, process) in others {
            for key in &self.keys {
                let (a, b) = (one.local.store.cell(key), process.local.store.cell(key));
                let (a, b) = (a.map(|cell| Held::read(one, &cell)), b.map(|cell| Held::read(process, &cell)));
                if a != b {
                    return Some(format!("{}: n{first} holds {a:?}, n{node} {b:?}", key.escape_ascii()));
                }
            }
        }
        None
    }

    /// After all has settled: each key is the newest that a process which still runs ever held.
    pub(super) fn check_end(&mut self, processes: &[(usize, &Process)], now: Time) {
        for (node, process) in processes {
            self.recompute(*node, process);
        }
        if self.excused {
            return;
        }
        let Some((_, process)) = processes.first() else { return };
        for key in 0..self.keys.len() {
            let bests = self.ledgers.values().filter_map(|ledger| ledger.best[key].clone());
            let floor = process.local.store.floor();
            // A register that was forgotten decides no more; but where looks are rare, what made it so may not have been
            // seen at every daemon.
            let bests = bests.map(|best| if self.looks_rarely { best } else { best.stripped(floor) });
            let Some(newest) = bests.reduce(|all, best| all.join(&best)) else { continue };
            let newest = newest.stripped(floor);
            let held = process.local.store.cell(&self.keys[key]).map(|cell| Held::read(process, &cell));
            let shown = held.as_ref().and_then(|held| held.shown(now));
            // A purged delete may be undone by what was written before the first contact.
            let lifted = held.as_ref().is_some_and(Held::is_lifted);
            let undone = !newest.is_live(now) && (lifted || self.dropped[key].is_some());
            let unseen = self.looks_rarely && self.newest[key] > Some(newest.version);
            if shown != newest.shown(now) && !undone && !unseen {
                let text = format!("all hold {held:?}, and the newest that was held is {newest:?}");
                return self.fail_at(Some(key), text);
            }
        }
    }
}

/// Whether a process holds a write, or what came after it.
fn holds(process: &Process, key: &[u8], write: &Write) -> bool {
    let floor = process.local.store.floor();
    // The deadline of a counter that nobody has set goes by its own stamp.
    let known = write.qualifier.filter(|_| is_nobodys(&write.version)).unwrap_or(write.version);
    let passed = floor >= *known.get_time();
    let held = process.local.store.cell(key).map(|cell| Held::read(process, &cell));
    if !Checker::holds_counts(process, held.as_ref(), &write.counts) {
        return false;
    }
    let Some(held) = held else { return passed };
    if passed && (held.is_dead_at(floor) || !held.is_written()) {
        return true;
    }
    if write.version == nobodys(ZERO) {
        return true;
    }
    if held.version == write.version {
        return write.qualifier.is_none_or(|qualifier| held.qualifier >= qualifier);
    }
    held.version > write.version
}
