//! The events of one history: what its clients do and which faults occur, all drawn from the seed.

use std::time::Duration;

use rand::Rng as _;

use super::checker::Tally;
use super::plan::Act;
use super::world::{Due, World};
use crate::model::Deadline;
use crate::model::counter::strict_number;
use crate::store::{Batch, Live, Write};

impl World {
    pub(super) fn next_act(&mut self) {
        if self.calm || self.now > self.plan.active {
            return;
        }
        let pace = u64::try_from(self.plan.pace.as_millis()).unwrap_or(u64::MAX);
        let pause = self.millis(1..2 * pace);
        self.after(pause, Due::NextAct);
        if self.rng.random_ratio(1, self.plan.fault_every) {
            self.fault();
        } else {
            let node = self.rng.random_range(0..self.plan.nodes);
            let key = self.rng.random_range(0..self.plan.keys);
            self.client(node, key);
            self.check(node);
        }
    }

    pub(super) fn act(&mut self, act: Act) -> Option<usize> {
        match act {
            Act::Mend(from, to) => self.mend(from, to),
            Act::Clock(node, skew) => self.nodes[node].skew = skew,
            _ if self.calm => {}
            Act::Burst(node) => {
                for key in 0..self.plan.keys {
                    if self.rng.random_bool(0.7) {
                        self.client(node, key);
                    }
                }
                return Some(node);
            }
            Act::Leave(node) => self.leave(node),
            Act::Damage(node) => self.damage(node),
            Act::KeepAlive(node) => {
                self.keep_alive(node);
                return Some(node);
            }
        }
        None
    }

    /// A client writes something to a key.
    fn client(&mut self, node: usize, key: usize) {
        let seconds = self.rng.random_range(1..15);
        // Some are far beyond the end of the clock.
        let seconds = if seconds < 14 { seconds } else { 1 << 40 };
        let deadline = Deadline::after(self.wall(node), Duration::from_secs(seconds));
        let large = if self.plan.max_memory.is_some() { 0.2 } else { 0.05 };
        let size = if self.rng.random_bool(large) { 300 } else { 8 };
        let mut value = vec![0; self.rng.random_range(0..size)];
        self.rng.fill(&mut value[..]);
        let counted = key % 3 == 1;
        let write = match self.rng.random_range(0..20) {
            0..8 if counted => Write::Add(i64::from(value.first().copied().unwrap_or(1)) - 100),
            0..8 => Write::Set { value: &value, deadline: None },
            8..10 => Write::Set { value: &value, deadline: Some(deadline) },
            10..16 => Write::Delete,
            16..18 => Write::Deadline(Some(deadline)),
            _ => Write::Deadline(None),
        };
        let through = self.write(node, key, write);
        if self.plan.harsh && through > 0 && self.rng.random_bool(0.15) {
            self.wait_for_some(node, key, through);
        }
    }

    /// Writes as a client would, unless no process there takes writes. Returns the feed sequence of the write;
    /// 0 if nothing was written.
    pub(super) fn write(&mut self, node: usize, key: usize, write: Write<'_>) -> u64 {
        let wall = self.wall(node);
        let Some(process) = self.nodes[node].process.as_mut().filter(|process| process.leaving.is_none())
        else {
            return 0;
        };
        let store = &process.replica.local.store;
        let name = self.checker.key(key).to_vec();
        let before = Tally::of(process, &name);
        let mut batch = Batch::default();
        store.begin(&mut batch, wall);
        let is_text = |live: Live<'_>| strict_number(live.value()).is_none();
        let written = store.write(&mut batch, &name, |live| match write {
            // A real node refuses a client's `INCR` of text in the same way.
            Write::Add(_) if live.is_some_and(is_text) => (Write::Keep, ()),
            write => (write, ()),
        });
        let through = store.publish(&mut batch);
        let after = Tally::of(process, &name);
        let (max_memory, tallies) = (self.plan.max_memory, [&before, &after]);
        if let Err(error) = written {
            self.checker.on_refused_write(node, key, write, &error, max_memory, tallies);
            return 0;
        }
        self.checker.on_taken_write(node, key, max_memory, tallies);
        let (woken, number) = (std::mem::replace(&mut process.feed_woken, true), process.number);
        if let Some(process) = &self.nodes[node].process {
            if let Write::Add(by) = write {
                let now = process.replica.local.store.now(wall);
                self.checker.on_add(node, key, by, before.held(), after.held(), now);
            }
            self.checker.on_write(node, process, key, before.held(), after.held().cloned());
        }
        if !woken {
            let pause = if self.rng.random_bool(0.05) { self.millis(0..400) } else { self.millis(0..3) };
            self.after(pause, Due::Feed(node, number));
        }
        through
    }

    fn fault(&mut self) {
        let nodes = self.plan.nodes;
        let node = self.rng.random_range(0..nodes);
        let other = (node + self.rng.random_range(1..nodes)) % nodes;
        if self.plan.long && self.rng.random_bool(0.2) {
            let span = self.millis(62_000..75_000);
            return self.isolate(node, span);
        }
        let span = match self.rng.random_range(0..10) {
            0..4 => self.millis(200..4_000),
            4..8 => self.millis(4_000..15_000),
            _ => self.millis(15_000..36_000),
        };
        if self.plan.harsh && self.rng.random_bool(0.3) {
            return self.harsh_fault(node, span);
        }
        match self.rng.random_range(0..100) {
            0..10 => self.cut_for(span, &[(node, other)]),
            10..20 => self.cut_for(span, &[(node, other), (other, node)]),
            20..35 => {
                let side: Vec<bool> = (0..nodes).map(|_| self.rng.random_bool(0.5)).collect();
                let all = (0..nodes).flat_map(|a| (0..nodes).map(move |b| (a, b)));
                let apart: Vec<_> = all.filter(|&(a, b)| side[a] != side[b]).collect();
                self.cut_for(span, &apart);
            }
            35..45 => self.isolate(node, span),
            45..55 => {
                for number in self.network.between(node, other) {
                    self.reset(number);
                }
            }
            55..65 => {
                self.crash(node);
                self.restart_after(node, span);
            }
            65..75 => {
                self.leave(node);
                self.restart_after(node, span + Duration::from_secs(4));
            }
            75..82 => self.jump(node, span),
            82..90 => {
                if let Some(process) = &self.nodes[node].process {
                    process.links.values().for_each(|end| end.link.queue.lose_pushes());
                }
            }
            90..96 => self.after(Duration::ZERO, Due::Act(Act::Burst(node))),
            _ if self.plan.forgetful => self.forget(node, other),
            _ => {
                // The node comes back while it is cut off, and writes.
                self.leave(node);
                self.restart_after(node, Duration::from_secs(4));
                self.isolate(node, span);
            }
        }
    }

    pub(super) fn restart_after(&mut self, node: usize, span: Duration) {
        self.nodes[node].starts_at = Some(self.now + span);
        self.after(span, Due::Start(node));
    }

    fn jump(&mut self, node: usize, span: Duration) {
        let usual = self.plan.skew[node];
        let far = if self.rng.random_bool(0.5) { 400 } else { 8000 };
        let skew = usual + self.rng.random_range(-far..far);
        self.checker.note(self.now, None, || format!("the clock of n{node} is off by {skew} ms"));
        self.nodes[node].skew = skew;
        self.after(span, Due::Act(Act::Clock(node, usual)));
    }

    pub(super) fn isolate(&mut self, node: usize, span: Duration) {
        let others = (0..self.plan.nodes).filter(|&other| other != node);
        let both: Vec<_> = others.flat_map(|other| [(node, other), (other, node)]).collect();
        self.cut_for(span, &both);
    }

    pub(super) fn cut_for(&mut self, span: Duration, directions: &[(usize, usize)]) {
        self.checker.note(self.now, None, || format!("cut for {span:?}: {directions:?}"));
        for &(from, to) in directions {
            self.cut(from, to);
            self.after(span, Due::Act(Act::Mend(from, to)));
        }
    }

    fn forget(&mut self, node: usize, other: usize) {
        let (wall, instant) = (self.wall(node), self.instant());
        let Some(process) = &self.nodes[node].process else { return };
        let forgotten = process.replica.forget(&super::node::name(other), wall, instant);
        if forgotten.is_ok() {
            self.checker.has_lapsed = true;
            self.checker.note(self.now, None, || format!("n{node} receives a FORGET of n{other}"));
        }
    }
}
