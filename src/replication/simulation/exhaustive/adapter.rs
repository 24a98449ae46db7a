//! The interface to the core under test: only this file depends on how membership, stable time and cells are
//! represented.

use std::fmt::{self, Write as _};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use bytes::Bytes;
use xxhash_rust::xxh3::Xxh3;

use crate::cluster::{Figures, TrafficKind};
use crate::model::counter::{Expiry, Lives, RegisterLife, Slot};
use crate::model::{Deadline, HashSeed, Incarnation, RangeCount, Time, Timestamp, timestamp};
use crate::replication::cells::{Carrier, CellsEncoder};
use crate::replication::codec;
use crate::replication::heartbeat;
use crate::replication::local::{HealingConfig, Local};
use crate::replication::members::MembershipConfig;
use crate::replication::message;
use crate::replication::sync::ListLimit;
use crate::store::{Lengths, Origins, Store, StoreConfig};

const MAX_CLOCK_SKEW: Duration = Duration::from_millis(500);

/// How far the clock is moved at one time: more than the margin of the stable time, the silence after which a
/// member may lapse, and every deadline that a client sets here.
pub(super) const STEP: Duration = Duration::from_secs(100);

/// The clock at the start of a history, in seconds since the Unix epoch.
const EPOCH: Duration = Duration::from_secs(1 << 30);

/// Returns the time at which all clocks begin.
pub(super) fn epoch() -> Time {
    timestamp::time_since_epoch(EPOCH)
}

/// Returns the number of clock ticks between two moves of the clock.
pub(super) fn step() -> u64 {
    timestamp::time_since_epoch(STEP).0
}

/// A node's copy of one key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct View {
    /// The timestamp of the `SET` or `DEL`; `None` if there was none, as for a key that only has a counter.
    pub(super) timestamp: Option<Timestamp>,
    pub(super) value: Option<Vec<u8>>,
    /// The moment at which the deadline passes.
    pub(super) deadline: Option<Time>,
    /// The timestamp of the write that set the deadline.
    pub(super) deadline_by: Option<Timestamp>,
    pub(super) slots: Vec<(Incarnation, Slot)>,
    /// The deadline of a counter without a value, with its writer.
    pub(super) expiry: Option<(Incarnation, Expiry)>,
}

impl View {
    /// Whether the register shows a value.
    pub(super) fn is_live(&self, now: Time) -> bool {
        self.value.is_some() && self.deadline.is_none_or(|deadline| deadline > now)
    }

    /// Whether a slot counts.
    pub(super) fn counts(&self, slot: &Slot, now: Time) -> bool {
        slot.is_active(self.lives().passed(now))
    }

    fn lives(&self) -> Lives {
        let timestamps = [self.timestamp, self.deadline_by].into_iter().flatten();
        let written = timestamps.map(|timestamp| timestamp.time()).max().unwrap_or_default();
        let register = RegisterLife { written, expires_at: self.deadline, has_value: self.value.is_some() };
        Lives { register, expiry: self.expiry.map(|(_, expiry)| expiry) }
    }

    /// Returns the timestamp of the write that set the counter's deadline.
    pub(super) fn expiry_by(&self) -> Option<Timestamp> {
        self.expiry.map(|(writer, expiry)| Timestamp::new(expiry.set_at, writer))
    }

    /// Whether something here replaces a deadline of `before` that had not passed at that time, and so keeps
    /// alive what that deadline would end.
    pub(super) fn keeps_alive(&self, before: &View) -> bool {
        let is_after = |deadline: Option<Time>, successor: Option<Timestamp>| {
            deadline.is_some_and(|deadline| successor.is_none_or(|by| by.time() < deadline))
        };
        let expiry = before.expiry.and_then(|(_, expiry)| expiry.expires_at());
        before.timestamp == self.timestamp && before.deadline_by != self.deadline_by
            || before.timestamp != self.timestamp && is_after(before.deadline, self.timestamp)
            || before.expiry != self.expiry && is_after(expiry, self.expiry_by())
    }

    /// Returns the latest time of its timestamps.
    pub(super) fn latest(&self) -> Time {
        let slots = self.slots.iter().map(|(_, slot)| slot.last);
        let timestamps = [self.timestamp, self.deadline_by, self.expiry_by()].into_iter().flatten();
        timestamps.map(|timestamp| timestamp.time()).chain(slots).max().unwrap_or_default()
    }

    /// Returns the key by which copies of the register are ordered.
    pub(super) fn rank(&self) -> (Option<Timestamp>, Option<Timestamp>) {
        (self.timestamp, self.deadline_by)
    }
}

pub(super) fn name(node: usize) -> String {
    format!("n{node}")
}

pub(super) fn address(node: usize) -> String {
    format!("n{node}:1")
}

/// Returns the incarnation of a node after this number of restarts.
pub(super) fn incarnation(node: usize, restarts: u8) -> Incarnation {
    let number = (node as u128 + 1) * 16 + u128::from(restarts);
    timestamp::incarnation(number).expect("it is not zero")
}

/// Creates a node that starts empty.
pub(super) fn start(node: usize, restarts: u8, max_memory: Option<u64>, wall: Time) -> Local {
    let own = incarnation(node, restarts);
    let store = Arc::new(Store::new(StoreConfig {
        seed: HashSeed::of_cluster("exhaustive"),
        ranges: RangeCount::power_of_two(2),
        incarnation: own,
        max_memory,
        eviction: crate::store::EvictionPolicy::NoEviction,
        lengths: Lengths::UNLIMITED,
        feed_limit: 1 << 20,
    }));
    let healing = HealingConfig { max_clock_skew: MAX_CLOCK_SKEW, forget_after: None, tombstone_limit: 1000 };
    let membership = MembershipConfig { name: name(node), incarnation: own, forget_after: None };
    let now = store.now(wall);
    let mut local = Local::new(store, healing, membership, now);
    local.list_limit = ListLimit(4);
    local.store.feed().open(|| ());
    local
}

/// Handles the hello of another node. Returns false if the node refuses the link.
pub(super) fn greet(local: &Local, peer: usize, other: &Local) -> bool {
    !local.members.lock().has_live_namesake(&name(peer), other.store.own_incarnation())
}

/// Records that a link to a node is up.
pub(super) fn link(local: &Local, peer: usize, other: &Local, wall: Time) {
    let place = other.members.lock().place();
    local.store.observe(other.store.now(wall));
    let now = local.store.now(wall);
    local.members.lock().on_link(&name(peer), place.incarnation, place.generation, now);
}

/// Records that a link to an incarnation has ended.
pub(super) fn unlink(local: &Local, peer: Incarnation) {
    local.members.lock().on_unlink(peer);
}

/// Does what a node does once a second beside its links.
pub(super) fn tick(local: &Local, wall: Time) {
    local.tick(wall);
    let now = local.store.now(wall);
    for range in 0..local.store.range_count() {
        local.store.sweep(range, now);
        local.store.purge(range);
    }
}

/// Returns the next heartbeat of a node with these links.
pub(super) fn heartbeat(local: &Local, links: &[(usize, Incarnation)], wall: Time) -> Bytes {
    let peers: Vec<_> = links.iter().map(|&(peer, id)| (name(peer), id, address(peer))).collect();
    let peers = peers.iter().map(|(name, id, address)| (name.as_str(), *id, address.as_str()));
    heartbeat::frame(local, wall, peers, &Figures::default())
}

/// Declares every member away that is not linked and was not heard of late. Returns whether there was one.
pub(super) fn let_lapse(local: &Local, wall: Time) -> bool {
    let now = local.store.now(wall);
    !local.members.lock().lapse_overdue(true, now).is_empty()
}

/// Returns the node's stable time.
pub(super) fn stable_time(local: &Local) -> Time {
    local.store.stable_time()
}

/// Returns the node's summary vector.
pub(super) fn summary_vector(local: &Local) -> Vec<(Incarnation, Time)> {
    let mut vector: Vec<_> =
        local.store.origins().iter().map(|(of, coverage)| (of, coverage.synced)).collect();
    vector.sort_unstable();
    vector
}

/// Whether the node's summary vector covers a write.
pub(super) fn covers(local: &Local, dot: Timestamp) -> bool {
    let (of, at) = (dot.incarnation(), dot.time());
    of == local.store.own_incarnation() || at <= local.store.origins().coverage_of(of).covered()
}

/// Whether the stable time of this node waits for an incarnation.
pub(super) fn is_member(local: &Local, of: Incarnation) -> bool {
    local.members.lock().is_present(of)
}

/// Returns all members of the node.
pub(super) fn members(local: &Local) -> Vec<Incarnation> {
    let members = local.members.lock();
    let all: Vec<_> = members.roster().map(|(_, member)| member.incarnation).collect();
    all.into_iter().filter(|&of| members.is_present(of)).collect()
}

/// Returns a node's copy of a key.
pub(super) fn view(local: &Local, key: &[u8]) -> Option<View> {
    let store = &local.store;
    let cell = store.cell(key)?;
    let parts = cell.parts();
    let is_set = parts.origin != Origins::NOBODY;
    let dot = |time, origin| Timestamp::new(time, store.incarnation(origin));
    let timestamp = is_set.then(|| dot(parts.time, parts.origin));
    let deadline_timestamp = parts.deadline_timestamp.map(|(time, origin)| dot(time, origin));
    let counter = cell.counter();
    let mut slots: Vec<_> =
        counter.slots.iter().map(|&(owner, slot)| (store.incarnation(owner), slot)).collect();
    slots.sort_unstable_by_key(|(owner, _)| *owner);
    Some(View {
        timestamp,
        value: parts.value.map(<[u8]>::to_vec),
        deadline: parts.deadline.map(Deadline::moment),
        deadline_by: deadline_timestamp.or(timestamp),
        slots,
        expiry: counter.expiry.map(|(writer, expiry)| (store.incarnation(writer), expiry)),
    })
}

/// Adds a node's copies of the keys to a fingerprint.
pub(super) fn hash_cells(local: &Local, keys: &[&[u8]], hasher: &mut Xxh3) {
    for key in keys {
        let Some(cell) = local.store.cell(key) else {
            hasher.update(&[0]);
            continue;
        };
        let mut encoder = CellsEncoder::default();
        encoder.add(&cell);
        hasher.update(&encoder.finish(&local.store, Carrier::Put { through: 0 }));
    }
}

/// Adds a frame to a fingerprint, without the number of its sync: how many syncs came before on the same link
/// does not affect what follows.
pub(super) fn hash_frame(frame: &[u8], hasher: &mut Xxh3) {
    /// The offset of the number: it follows the kind of the message.
    const NUMBER: usize = 1;
    /// Integers below this take one byte.
    const ONE_BYTE: u8 = 251;
    let message = codec::open(frame).expect("the wires damage nothing");
    hasher.update(&message.len().to_le_bytes());
    let has_number = message::kind(message) == TrafficKind::Syncs;
    let short = message.get(NUMBER).is_some_and(|&number| number < ONE_BYTE);
    if has_number && short {
        hasher.update(&message[..NUMBER]);
        hasher.update(&message[NUMBER + 1..]);
    } else {
        hasher.update(message);
    }
}

/// Adds a node's state beside its keys and links to a fingerprint: clock, stable time, summary vector and
/// members.
pub(super) fn hash_state(local: &Local, hasher: &mut Xxh3) {
    hasher.update(&local.store.now(timestamp::ZERO).0.to_le_bytes());
    hasher.update(&stable_time(local).0.to_le_bytes());
    hasher.update(&[u8::from(local.relays.load(Ordering::Relaxed))]);
    // Includes the summary vector, which is a part of it.
    write!(Hashed(hasher), "{:?}", local.members.lock()).expect("hashing does not fail");
}

/// Hashes what is written to it.
pub(super) struct Hashed<'h>(pub(super) &'h mut Xxh3);

impl fmt::Write for Hashed<'_> {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        self.0.update(text.as_bytes());
        Ok(())
    }
}
