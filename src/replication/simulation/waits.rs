//! Clients of harsh histories that `WAIT` for their writes. Acknowledgements, counts and wake-ups are those of
//! [`WriteAcks`](crate::replication::write_acks::WriteAcks); only the loop of a client's connection is
//! simulated here.

use std::task::{Context, Poll, Waker};
use std::time::Duration;

use rand::Rng as _;

use super::CONVERGENCE_LIMIT;
use super::node::{ClientWait, Process};
use super::world::{Due, SECOND, World};
use crate::env::BoxFuture;
use crate::store::Write;

/// How long a client waits, once all nodes are equal, for all peers that its node is linked to. A sync that is
/// under way then takes a second or two.
const LAST_WAIT: Duration = Duration::from_secs(10);

/// The longest that nodes may take to become equal again, and to purge their tombstones, after the last writes. Nodes that
/// were equal within a second may still have to close the incarnations that ended before that.
const EQUAL_AGAIN_LIMIT: Duration = CONVERGENCE_LIMIT;

/// When a `WAIT` is checked.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Look {
    /// When it was received.
    First,
    /// After an event at its node.
    Later,
    /// When the node stops.
    Last,
}

impl Process {
    /// Returns the nodes whose peers count for a `WAIT`.
    fn holders(&self, through: u64) -> Vec<usize> {
        let queues = self.links.iter().map(|(&peer, end)| (peer, &*end.link.queue));
        self.replica.local.write_acks.holders(through, queues)
    }

    fn wait_for_holders(&self, through: u64) -> BoxFuture<'static, ()> {
        self.replica
            .local
            .write_acks
            .wait_for_holders(through, self.links.values().map(|end| &*end.link.queue))
    }
}

impl World {
    /// Makes a client wait for some peers to hold its latest write, or for a timeout.
    pub(super) fn wait_for_some(&mut self, node: usize, key: usize, through: u64) {
        let wanted = self.rng.random_range(1..=self.plan.nodes);
        let timeout = if self.rng.random_bool(0.5) { self.millis(5..200) } else { self.millis(200..8_000) };
        self.wait(node, key, through, wanted, timeout);
    }

    /// Makes a client wait until `wanted` peers hold everything up to its write with this sequence.
    fn wait(&mut self, node: usize, key: usize, through: u64, wanted: usize, timeout: Duration) {
        let deadline = self.now + timeout;
        let Some(process) = self.nodes[node].process.as_ref().filter(|_| through > 0) else { return };
        let (number, changed) = (process.number, process.wait_for_holders(through));
        self.after(timeout, Due::Waited(node, number));
        self.checker.waits += 1;
        let wait = ClientWait { key, through, wanted, deadline, changed };
        self.look_at_wait(node, wait, Look::First);
    }

    /// Replies to the clients whose `WAIT` an event at the node may have completed.
    pub(super) fn reply_to_waits(&mut self, node: usize) {
        self.look_at_waits(node, Look::Later);
    }

    /// Replies to all waiting clients of a node that stops.
    pub(super) fn end_waits(&mut self, node: usize) {
        self.look_at_waits(node, Look::Last);
    }

    fn look_at_waits(&mut self, node: usize, look: Look) {
        let Some(process) = &mut self.nodes[node].process else { return };
        for wait in std::mem::take(&mut process.waits) {
            self.look_at_wait(node, wait, look);
        }
    }

    fn look_at_wait(&mut self, node: usize, mut wait: ClientWait, look: Look) {
        let Some(process) = &mut self.nodes[node].process else { return };
        let mut context = Context::from_waker(Waker::noop());
        let is_woken = matches!(wait.changed.as_mut().poll(&mut context), Poll::Ready(()));
        let is_due = look == Look::Last || wait.deadline <= self.now;
        let is_looked_at = look == Look::First || is_woken || is_due;
        if is_looked_at {
            wait.changed = process.wait_for_holders(wait.through);
        }
        let holders = process.holders(wait.through);
        if holders.len() < wait.wanted && !is_due {
            process.waits.push(wait);
        } else if is_looked_at {
            self.reply_to_wait(node, &wait, &holders);
        } else {
            let ClientWait { through, wanted, .. } = wait;
            self.checker.fail(format!(
                "{holders:?} hold what n{node} wrote up to {through}, and a client that waits for {wanted} was not woken"
            ));
        }
    }

    fn reply_to_wait(&mut self, node: usize, wait: &ClientWait, holders: &[usize]) {
        let &ClientWait { key, through, wanted, .. } = wait;
        self.checker.fulfilled += u64::from(holders.len() >= wanted);
        self.replies.insert((node, through), holders.len());
        self.checker.note(self.now, Some(key), || {
            format!("n{node} replies to WAIT {wanted} of its change {through}: {holders:?}")
        });
        self.check_reply(node, through, holders.len());
    }

    /// Lets clients of each node write again after all nodes have become equal, and checks that all peers come
    /// to hold that.
    pub(super) fn write_again(&mut self) {
        // Not a counter: its slots would grow where a write resets them.
        let key = 3 * self.rng.random_range(0..self.plan.keys.div_ceil(3));
        for node in 0..self.plan.nodes {
            let through = self.write(node, key, Write::Set { value: b"again", deadline: None });
            let linked = self.nodes[node].process.as_ref().map_or(0, |process| process.links.len());
            if through == 0 {
                return self.checker.fail(format!("n{node} takes no write although all have become equal"));
            }
            self.replies.clear();
            self.wait(node, key, through, linked, LAST_WAIT);
            let reply = loop {
                match self.replies.get(&(node, through)) {
                    _ if self.checker.violation.is_some() => return,
                    Some(&reply) => break reply,
                    None => self.run_until(self.now + SECOND / 10),
                }
            };
            if reply < linked {
                self.checker.fail(format!(
                    "WAIT {linked} at n{node} returns {reply} after {LAST_WAIT:?} without faults"
                ));
            }
        }
        let until = self.now + EQUAL_AGAIN_LIMIT;
        while let Some(left) = self.unconverged()
            && self.checker.violation.is_none()
        {
            if self.now >= until {
                return self
                    .checker
                    .fail(format!("not equal {EQUAL_AGAIN_LIMIT:?} after the last writes: {left}"));
            }
            self.run_until(self.now + SECOND);
        }
    }
}
