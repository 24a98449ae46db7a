//! Checks every step and the end, in terms of what clients wrote and what nodes show. It uses no rule of
//! healing.

mod claims;
mod end;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use super::action::{ClientWrite, Scenario};
use super::adapter::{self, View};
use crate::model::counter::Slot;
use crate::model::timestamp::ZERO;
use crate::model::{Incarnation, Time, Timestamp};
use crate::replication::local::Local;

/// The effect of a client's write.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Kind {
    /// A new value. For each slot that the write has seen and reset: owner, start and last increment.
    Set(Vec<(Incarnation, Time, Time)>),
    Del(Vec<(Incarnation, Time, Time)>),
    /// Another deadline for the value with this timestamp, or for a counter whose register was never set.
    Deadline(Option<Timestamp>),
    Add,
}

/// A client's write, as the node that accepted it has applied it.
#[derive(Clone, Debug)]
struct Write {
    dot: Timestamp,
    key: usize,
    kind: Kind,
    deadline: Option<Time>,
}

/// Why a process does not show a value any more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Cause {
    Expired,
    /// Deleted, replaced or retracted.
    Gone,
}

/// The history of one process.
#[derive(Clone, Debug, Default)]
struct Ledger {
    views: Vec<Option<View>>,
    shown: Vec<Option<Timestamp>>,
    /// Values that it has shown and no longer shows: key and timestamp.
    dropped: BTreeMap<(usize, Timestamp), Cause>,
    /// The writes of deadlines that it has seen: key, timestamp of the value (`None` for a counter), and timestamp
    /// of the deadline.
    deadlines: BTreeSet<(usize, Option<Timestamp>, Timestamp)>,
    /// The latest register that a client wrote and this process ever held, by key.
    best: BTreeMap<usize, View>,
    /// The join of all copies of each slot that it ever held.
    slots: BTreeMap<(usize, Incarnation), Slot>,
    /// The latest increment of each owner that it has seen, and has seen reset or removed.
    over: BTreeMap<(usize, Incarnation), Time>,
    /// The latest increment of each owner that no longer counts because a deadline has passed.
    masked: BTreeMap<(usize, Incarnation), Time>,
    /// The latest time of any timestamp that it has seen.
    latest: Time,
    vector: Vec<(Incarnation, Time)>,
    /// Its incarnation, and its members.
    own: Option<Incarnation>,
    members: Vec<Incarnation>,
    /// Every register that it has held: key and timestamp.
    held: BTreeSet<(usize, Timestamp)>,
    /// The dots of deadlines that its summary vector covered at the last check.
    covered: BTreeSet<Timestamp>,
}

pub(super) struct Checker {
    keys: &'static [&'static [u8]],
    may_undo: bool,
    may_give_up: bool,
    /// Whether the next check is of the effect of a push.
    pub(super) is_push: bool,
    /// Every client's write, by its timestamp.
    writes: Vec<Write>,
    ledgers: Vec<Ledger>,
    /// Registers that were dead at a process, which then discarded them.
    purged: BTreeSet<(usize, Timestamp)>,
    /// Writes of members that are older than a purged register: the process has incorporated them, and so has every
    /// member.
    barred: BTreeSet<(usize, Timestamp)>,
    /// The registers that some process ever held: its node, key and timestamp.
    holders: BTreeSet<(usize, usize, Timestamp)>,
    /// The writes that were given up: key and timestamp.
    lost: BTreeSet<(usize, Timestamp)>,
    /// The latest stable time of any process.
    stable: Time,
    /// Deletes that were undone by writes which no node had seen when the deletes were purged.
    pub(super) undone: u64,
    pub(super) violation: Option<String>,
}

impl Checker {
    pub(super) fn new(scenario: &Scenario, keys: &'static [&'static [u8]]) -> Self {
        let ledgers = (0..scenario.nodes).map(|_| Ledger::new(keys.len())).collect();
        Checker {
            keys,
            may_undo: scenario.may_undo,
            may_give_up: scenario.may_give_up,
            is_push: false,
            writes: Vec::new(),
            ledgers,
            purged: BTreeSet::new(),
            barred: BTreeSet::new(),
            holders: BTreeSet::new(),
            lost: BTreeSet::new(),
            stable: ZERO,
            undone: 0,
            violation: None,
        }
    }

    pub(super) fn fail(&mut self, what: impl FnOnce() -> String) {
        if self.violation.is_none() {
            self.violation = Some(what());
        }
    }

    /// Starts another, empty process at a node.
    pub(super) fn begin(&mut self, node: usize) {
        self.ledgers[node] = Ledger::new(self.keys.len());
    }

    /// Records a client's write that was accepted.
    pub(super) fn on_write(
        &mut self,
        node: usize,
        local: &Local,
        write: ClientWrite,
        (before, after): (Option<&View>, &View),
        now: Time,
    ) {
        let (key, own) = (write.key(), local.store.own_incarnation());
        let counted = before
            .into_iter()
            .flat_map(|before| before.slots.iter().filter(|(_, slot)| before.counts(slot, now)));
        let seen: Vec<_> = counted.map(|&(owner, slot)| (owner, slot.start, slot.last)).collect();
        let (seen_last, last) = (self.ledgers[node].latest, after.latest());
        if last <= seen_last {
            self.fail(|| {
                let [last, seen] = [last, seen_last].map(|time| dot(Timestamp::new(time, own)));
                format!("n{node} writes {last} although it has seen {seen}")
            });
        }
        let is_new =
            after.timestamp.is_some() && before.and_then(|before| before.timestamp) != after.timestamp;
        if let (true, Some(timestamp)) = (is_new, after.timestamp) {
            let kind = if after.value.is_some() { Kind::Set(seen) } else { Kind::Del(seen) };
            self.note(Write { dot: timestamp, key, kind, deadline: after.deadline });
        }
        match write {
            ClientWrite::Incr(_) => {
                let slot = after.slots.iter().find(|(owner, _)| *owner == own);
                let last = slot.map_or(ZERO, |(_, slot)| slot.last);
                self.note(Write { dot: Timestamp::new(last, own), key, kind: Kind::Add, deadline: None });
            }
            ClientWrite::Expire(_) | ClientWrite::Persist(_) => {
                let by = before.and_then(|before| before.deadline_by);
                if let Some(dot) = after.deadline_by.filter(|dot| Some(*dot) != by && !is_new) {
                    let kind = Kind::Deadline(after.timestamp);
                    self.note(Write { dot, key, kind, deadline: after.deadline });
                }
                let by = before.and_then(View::expiry_by);
                if let Some(dot) = after.expiry_by().filter(|dot| Some(*dot) != by) {
                    let deadline = after.expiry.and_then(|(_, expiry)| expiry.expires_at());
                    self.note(Write { dot, key, kind: Kind::Deadline(None), deadline });
                }
            }
            ClientWrite::Set(_) | ClientWrite::SetFor(_) | ClientWrite::Del(_) => {}
        }
    }

    /// Records that a process has given up a write. The process cannot know whether another one has held it
    /// and then removed it: such a write is not lost.
    pub(super) fn on_lost(&mut self, node: usize, key: &[u8], timestamp: Timestamp) {
        let Some(key) = self.keys.iter().position(|known| *known == key) else { return };
        if self.holders.iter().any(|&(other, of, held)| other != node && (of, held) == (key, timestamp)) {
            return;
        }
        self.lost.insert((key, timestamp));
        if !self.may_give_up {
            self.fail(|| format!("n{node} gives up {} of k{key}", dot(timestamp)));
        }
    }

    fn note(&mut self, write: Write) {
        let at = self.writes.partition_point(|other| other.dot < write.dot);
        self.writes.insert(at, write);
    }

    fn is_clients(&self, key: usize, timestamp: Timestamp) -> bool {
        self.writes.iter().any(|write| write.key == key && write.dot == timestamp)
    }

    /// Checks a process after something happened to it.
    pub(super) fn look(&mut self, node: usize, local: &Local, wall: Time) {
        let now = local.store.now(wall);
        let mut ledger = std::mem::take(&mut self.ledgers[node]);
        let mut changed = false;
        ledger.own = Some(local.store.own_incarnation());
        ledger.members = adapter::members(local);
        for key in 0..self.keys.len() {
            let view = adapter::view(local, self.keys[key]);
            if let Some(timestamp) = view.as_ref().and_then(|view| view.timestamp) {
                ledger.held.insert((key, timestamp));
                self.holders.insert((node, key, timestamp));
            }
            changed |= view != ledger.views[key];
            self.look_at_register((node, local), key, &mut ledger, view.as_ref(), now);
            self.look_at_slots(node, key, &mut ledger, view.as_ref(), now);
            if let Some(view) = &view {
                ledger.latest = ledger.latest.max(view.latest());
                ledger.deadlines.extend(view.deadline_by.map(|by| (key, view.timestamp, by)));
                ledger.deadlines.extend(view.expiry_by().map(|by| (key, None, by)));
                let is_best = ledger.best.get(&key).is_none_or(|best| best.rank() < view.rank());
                if is_best && view.timestamp.is_some_and(|timestamp| self.is_clients(key, timestamp)) {
                    ledger.best.insert(key, view.clone());
                }
            }
            ledger.views[key] = view;
        }
        self.stable = self.stable.max(adapter::stable_time(local));
        let vector = adapter::summary_vector(local);
        if vector != ledger.vector {
            changed = true;
            ledger.vector = vector;
        }
        let deadlines = self.writes.iter().filter(|write| matches!(write.kind, Kind::Deadline(_)));
        ledger.covered =
            deadlines.map(|write| write.dot).filter(|&dot| adapter::covers(local, dot)).collect();
        if changed {
            self.check_claims(node, &ledger, now);
        }
        self.ledgers[node] = ledger;
    }

    fn look_at_register(
        &mut self,
        (node, local): (usize, &Local),
        key: usize,
        ledger: &mut Ledger,
        view: Option<&View>,
        now: Time,
    ) {
        let before = ledger.views[key].as_ref();
        // A dead register that was replaced by nothing, or by something older, was discarded.
        if let Some(timestamp) =
            before.filter(|before| !before.is_live(now)).and_then(|before| before.timestamp)
            && view.is_none_or(|view| view.timestamp < Some(timestamp))
        {
            self.purged.insert((key, timestamp));
            let older = self.writes.iter().filter(|write| write.key == key && write.dot < timestamp);
            let of_members = older.filter(|write| adapter::is_member(local, write.dot.incarnation()));
            self.barred.extend(of_members.map(|write| (key, write.dot)));
            self.bar_closed(local, key, timestamp);
        }
        let shown = view.filter(|view| view.is_live(now)).and_then(|view| view.timestamp);
        if let Some(was) = ledger.shown[key].filter(|was| shown != Some(*was)) {
            let copies = [before, view].into_iter().flatten().filter(|copy| copy.timestamp == Some(was));
            let mut deadlines = copies.filter_map(|copy| copy.deadline);
            let expired = deadlines.any(|deadline| deadline <= now);
            ledger.dropped.insert((key, was), if expired { Cause::Expired } else { Cause::Gone });
        }
        ledger.shown[key] = shown;
        let (Some(timestamp), Some(view)) = (shown, view) else { return };
        if let Some(&cause) = ledger.dropped.get(&(key, timestamp)) {
            // An unseen `EXPIRE` or `PERSIST` may show its value again, if the process still held the register or
            // a sync brought it.
            let is_same = before.is_some_and(|before| before.timestamp == Some(timestamp));
            let is_news = view.deadline_by.is_some_and(|by| !ledger.covered.contains(&by));
            if ledger.is_unseen(key, view) && (is_same || is_news && !self.is_push) {
                ledger.dropped.remove(&(key, timestamp));
            } else {
                self.fail(|| {
                    format!("n{node} shows {} of k{key} again, which it has seen {cause:?}", dot(timestamp))
                });
            }
        }
    }

    /// Bars what a member has ever held of incarnations that are away: they were closed before this purge.
    fn bar_closed(&mut self, local: &Local, key: usize, timestamp: Timestamp) {
        for ledger in &self.ledgers {
            let Some(of) = ledger.own.filter(|&of| adapter::is_member(local, of)) else { continue };
            let is_away = |held: &Timestamp| {
                let writer = held.incarnation();
                writer != of && !ledger.members.contains(&writer) && !adapter::is_member(local, writer)
            };
            let held = ledger.held.iter().filter(|(of, held)| *of == key && *held < timestamp);
            self.barred.extend(held.filter(|(_, held)| is_away(held)));
        }
    }

    fn look_at_slots(
        &mut self,
        node: usize,
        key: usize,
        ledger: &mut Ledger,
        view: Option<&View>,
        now: Time,
    ) {
        let slots = |view: Option<&View>| view.map_or(Vec::new(), |view| view.slots.clone());
        // A write that replaces a deadline before it has passed may keep alive what that deadline would have
        // ended.
        if let (Some(before), Some(view)) = (&ledger.views[key], view)
            && view.keeps_alive(before)
        {
            ledger.masked.retain(|&(of, _), _| of != key);
        }
        for (owner, before) in slots(ledger.views[key].as_ref()) {
            let is_left = view.is_some_and(|view| view.slots.iter().any(|(other, _)| *other == owner));
            if !is_left {
                let over = ledger.over.entry((key, owner)).or_insert(ZERO);
                *over = before.last.max(*over);
            }
        }
        let Some(view) = view else { return };
        for &(owner, slot) in &view.slots {
            let joined = ledger.slots.get(&(key, owner)).map_or(slot, |known| known.merge(slot));
            ledger.slots.insert((key, owner), joined);
            let known = |map: &BTreeMap<(usize, Incarnation), Time>| map.get(&(key, owner)).copied();
            let (over, masked) = (known(&ledger.over).unwrap_or(ZERO), known(&ledger.masked).unwrap_or(ZERO));
            if slot.is_reset() {
                ledger.over.insert((key, owner), over.max(slot.last));
                continue;
            }
            if !view.counts(&slot, now) {
                ledger.masked.insert((key, owner), masked.max(slot.last));
                continue;
            }
            // A slot that was removed comes back whole with increments that were not seen.
            let before = ledger.views[key].as_ref();
            let was_held = before.is_some_and(|before| {
                before.slots.iter().any(|(of, held)| *of == owner && held.start == slot.start)
            });
            let over = if was_held || slot.last <= over { over } else { ZERO };
            let over = over.max(masked);
            let mark = if slot.reset.mark >= slot.start { slot.reset.mark } else { ZERO };
            let mut counted = 0;
            for add in self.adds(key, owner) {
                counted += i128::from(add >= slot.start && add <= slot.last && add > mark);
                if add >= slot.start && add > mark && add <= slot.last && add <= over {
                    return self.fail(|| {
                        format!("n{node} counts {} of k{key} again", dot(Timestamp::new(add, owner)))
                    });
                }
            }
            if counted != slot.net() {
                let net = slot.net();
                return self.fail(|| {
                    format!("n{node} counts {net} of {owner} in k{key} where {counted} increments were made")
                });
            }
            if mark > ZERO {
                let known = ledger.over.entry((key, owner)).or_default();
                *known = mark.max(*known);
            }
        }
    }

    fn adds(&self, key: usize, owner: Incarnation) -> Vec<Time> {
        let adds = self
            .writes
            .iter()
            .filter(|write| write.key == key && write.kind == Kind::Add && write.dot.incarnation() == owner);
        adds.map(|write| write.dot.time()).collect()
    }

    fn has_deadlines(&self, key: usize) -> bool {
        self.writes.iter().any(|write| {
            write.key == key && (write.deadline.is_some() || matches!(write.kind, Kind::Deadline(_)))
        })
    }

    /// Describes the checker's state, which two states with the same future must have in common.
    pub(super) fn describe(&self, f: &mut impl fmt::Write) -> fmt::Result {
        let Checker { writes, purged, barred, holders, lost, stable, .. } = self;
        write!(f, "{writes:?}{purged:?}{barred:?}{holders:?}{lost:?}{stable:?}")?;
        self.ledgers.iter().try_for_each(|ledger| {
            let Ledger { shown, dropped, deadlines, best, slots, over, masked, latest, held, .. } = ledger;
            let best: Vec<_> = best.values().map(View::rank).collect();
            write!(
                f,
                "{shown:?}{dropped:?}{deadlines:?}{best:?}{slots:?}{over:?}{masked:?}{latest:?}{held:?}"
            )
        })
    }
}

impl Ledger {
    fn new(keys: usize) -> Self {
        Ledger { views: vec![None; keys], shown: vec![None; keys], ..Ledger::default() }
    }

    /// Whether this copy has its deadline from an `EXPIRE` or `PERSIST` that this process had not seen.
    fn is_unseen(&self, key: usize, view: &View) -> bool {
        let by = view.deadline_by.filter(|by| Some(*by) != view.timestamp);
        by.is_some_and(|by| !self.deadlines.contains(&(key, view.timestamp, by)))
    }
}

impl fmt::Display for Write {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let what = match self.kind {
            Kind::Set(_) => "SET",
            Kind::Del(_) => "DEL",
            Kind::Deadline(_) => "the deadline",
            Kind::Add => "INCR",
        };
        write!(f, "{what} {} of k{}", dot(self.dot), self.key)
    }
}

/// Formats a timestamp for people: how often the clock was moved before, how many timestamps were drawn since,
/// and its writer.
pub(super) fn dot(timestamp: Timestamp) -> String {
    let since = timestamp.time().0.saturating_sub(adapter::epoch().0);
    let step = adapter::step().max(1);
    let id = u128::from_le_bytes(timestamp.incarnation().to_le_bytes());
    let who = match (id / 16, id % 16) {
        (node @ 1..=9, restarts) => {
            format!("n{}{}", node - 1, "'".repeat(usize::try_from(restarts).unwrap_or(0)))
        }
        _ => format!("{id:x}"),
    };
    format!("{}.{}@{who}", since / step, since % step)
}
