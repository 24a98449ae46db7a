//! What the exploration needs of the core under test, in one place: everything that depends on how membership, stable
//! time and cells are represented is here, and nothing of it is elsewhere in this module.

use std::fmt::{self, Write as _};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use bytes::Bytes;
use xxhash_rust::xxh3::Xxh3;

use crate::cluster::{Figures, TrafficKind};
use crate::model::counter::{Base, Slot};
use crate::model::{HashSeed, Incarnation, RangeCount, Stamp, Time, stamp};
use crate::replication::beat;
use crate::replication::cells::{Carrier, CellsEncoder};
use crate::replication::codec::PREFIX;
use crate::replication::local::{HealingConfig, Local};
use crate::replication::members::MembershipConfig;
use crate::replication::message;
use crate::replication::round::ListLimit;
use crate::store::{Store, StoreConfig};

const MAX_CLOCK_SKEW: Duration = Duration::from_millis(500);

/// How far the clock is moved at one time: more than the margin of the stable time, the silence after which a member may
/// be left behind, and every deadline that a client sets here.
pub(super) const STEP: Duration = Duration::from_secs(100);

/// Whether an `EXPIRE` or `PERSIST` that a process had not seen may bring back a value that it has seen deleted or
/// replaced. One that it has seen expire may always come back so.
pub(super) const UNSEEN_DEADLINE_UNDOES_DELETES: bool = false;

/// What one node holds of one key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct View {
    /// The timestamp of the `SET` or `DEL`; `None` if nobody has set it, as of a key that was only counted with.
    pub(super) version: Option<Stamp>,
    pub(super) value: Option<Vec<u8>>,
    pub(super) deadline: Option<Time>,
    /// The timestamp of the write that set the deadline.
    pub(super) deadline_by: Option<Stamp>,
    pub(super) slots: Vec<(Incarnation, Slot)>,
    /// Slots that began up to here do not count.
    void: Time,
    base: Base,
}

impl View {
    /// Whether the register shows a value.
    pub(super) fn is_live(&self, now: Time) -> bool {
        self.value.is_some() && self.deadline.is_none_or(|deadline| deadline > now)
    }

    /// Whether a slot counts.
    pub(super) fn counts(&self, slot: &Slot, now: Time) -> bool {
        slot.is_active(self.base.void_at(self.void, now))
    }

    /// The latest time of its timestamps.
    pub(super) fn latest(&self) -> Time {
        let slots = self.slots.iter().map(|(_, slot)| slot.last);
        let stamps = [self.version, self.deadline_by].into_iter().flatten();
        stamps.map(|stamp| *stamp.get_time()).chain(slots).max().unwrap_or_default()
    }

    /// What decides between copies of the register.
    pub(super) fn rank(&self) -> (Option<Stamp>, Option<Stamp>) {
        (self.version, self.deadline_by)
    }
}

pub(super) fn name(node: usize) -> String {
    format!("n{node}")
}

pub(super) fn address(node: usize) -> String {
    format!("n{node}:1")
}

/// The incarnation that a node has after so many restarts.
pub(super) fn incarnation(node: usize, restarts: u8) -> Incarnation {
    let number = (node as u128 + 1) * 16 + u128::from(restarts);
    stamp::incarnation(number).expect("it is not zero")
}

/// A node that starts, with nothing in it, in a cluster of `nodes`.
pub(super) fn start(node: usize, restarts: u8, nodes: usize, wall: Time) -> Local {
    let own = incarnation(node, restarts);
    let store = Arc::new(Store::new(StoreConfig {
        seed: HashSeed::of_cluster("exhaustive"),
        ranges: RangeCount::power_of_two(2),
        incarnation: own,
        max_memory: None,
        feed_limit: 1 << 20,
    }));
    let healing = HealingConfig {
        max_clock_skew: MAX_CLOCK_SKEW,
        forget_after: None,
        tombstone_limit: 1000,
        join_first: false,
    };
    let founds = node == 0 && restarts == 0;
    let others = (0..nodes).filter(|&other| other != node && !founds);
    let membership = MembershipConfig {
        name: name(node),
        incarnation: own,
        lineage: node as u128 + 1,
        join: others.map(address).collect(),
        max_clock_skew: MAX_CLOCK_SKEW,
        forget_after: None,
    };
    let mut local = Local::new(store, healing, membership, wall);
    local.list_limit = ListLimit(4);
    local.store.feed().open();
    local
}

/// What happens at the hellos of two nodes; false if one refuses the other.
pub(super) fn greet(local: &Local, peer: &Local) -> bool {
    let place = peer.members.lock().place(peer.store.floor());
    let mut members = local.members.lock();
    !members.is_stranger(local.store.floor(), place.lineage, place.founded, place.floor)
}

/// A link to a node is up.
pub(super) fn link(local: &Local, peer: usize, other: &Local, wall: Time) {
    let place = other.members.lock().place(other.store.floor());
    local.store.observe(other.store.now(wall));
    let now = local.store.now(wall);
    local.members.lock().on_link(&name(peer), place.incarnation, place.generation, now);
}

/// A link to an incarnation has ended.
pub(super) fn unlink(local: &Local, peer: Incarnation) {
    local.members.lock().on_unlink(peer);
}

/// Once a second: what a node does beside its links. `reached` are the incarnations of the nodes that it was linked to.
pub(super) fn tick(local: &Local, node: usize, reached: &[Option<Incarnation>], wall: Time) {
    local.tick(wall);
    let now = local.store.now(wall);
    for range in 0..local.store.range_count() {
        local.store.sweep(range, now);
        local.store.purge(range);
    }
    local.members.lock().found_if_complete(|at| {
        let other = (0..reached.len()).find(|&other| address(other) == at)?;
        if other == node { Some(Vec::new()) } else { reached[other].map(|found| vec![found]) }
    });
}

/// The frame of the next heartbeat of a node that has links to these.
pub(super) fn heartbeat(local: &Local, links: &[(usize, Incarnation)], wall: Time) -> Bytes {
    let peers: Vec<_> = links.iter().map(|&(peer, id)| (name(peer), id, address(peer))).collect();
    let peers = peers.iter().map(|(name, id, address)| (name.as_str(), *id, address.as_str()));
    beat::frame(local, wall, peers, &Figures::default())
}

/// Declares every member away that is not linked and was not heard of late; returns whether there was one.
pub(super) fn let_lapse(local: &Local, wall: Time) -> bool {
    let now = local.store.now(wall);
    !local.members.lock().lapse_overdue(true, now).is_empty()
}

/// The time below which every member holds every write, as this node knows.
pub(super) fn stable_time(local: &Local) -> Time {
    local.store.floor()
}

/// Up to which time this node says to hold the writes of each incarnation.
pub(super) fn summary_vector(local: &Local) -> Vec<(Incarnation, Time)> {
    local.members.lock().verified().iter().collect()
}

/// Whether `of` was declared away and what members hold of it is with all of them: its other writes are given up.
pub(super) fn is_closed(_local: &Local, _of: Incarnation) -> bool {
    false
}

/// What a node holds of a key.
pub(super) fn view(local: &Local, key: &[u8]) -> Option<View> {
    let store = &local.store;
    let cell = store.cell(key)?;
    let parts = cell.parts();
    let is_set = parts.origin != crate::store::Origins::NOBODY;
    let stamp = |time, origin| Stamp::new(time, store.incarnation(origin));
    let version = is_set.then(|| stamp(parts.time, parts.origin));
    let qualifier = parts.qualifier.map(|(time, origin)| stamp(time, origin));
    let counter = cell.counter();
    let mut slots: Vec<_> =
        counter.slots.iter().map(|&(owner, slot)| (store.incarnation(owner), slot)).collect();
    slots.sort_unstable_by_key(|(owner, _)| *owner);
    let written = parts.qualifier.map_or(parts.time, |(time, _)| time.max(parts.time));
    Some(View {
        version,
        value: parts.value.map(<[u8]>::to_vec),
        deadline: parts.deadline,
        deadline_by: qualifier.or(version),
        slots,
        void: counter.void,
        base: Base { written, deadline: parts.deadline, lift: parts.lift, has_value: parts.value.is_some() },
    })
}

/// Adds to a fingerprint all that a node holds of its keys, exactly.
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

/// Adds a frame to a fingerprint, without the number of the sync that it belongs to: how many there were before on the
/// same link makes no difference to what follows.
pub(super) fn hash_frame(frame: &[u8], hasher: &mut Xxh3) {
    /// Where the number begins: behind the length of the frame and the kind of the message.
    const NUMBER: usize = PREFIX + 1;
    /// Integers below this take one byte.
    const ONE_BYTE: u8 = 251;
    let has_number = message::kind(&frame[PREFIX..]) == TrafficKind::Rounds;
    let short = frame.get(NUMBER).is_some_and(|&number| number < ONE_BYTE);
    if has_number && short {
        hasher.update(&frame[..NUMBER]);
        hasher.update(&frame[NUMBER + 1..]);
    } else {
        hasher.update(frame);
    }
}

/// Adds to a fingerprint all that a node holds beside its keys and its links.
pub(super) fn hash_state(local: &Local, hasher: &mut Xxh3) {
    hasher.update(&local.store.now(stamp::ZERO).0.to_le_bytes());
    hasher.update(&stable_time(local).0.to_le_bytes());
    hasher.update(&[u8::from(local.relays.load(Ordering::Relaxed))]);
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
