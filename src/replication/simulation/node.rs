//! A node of the simulation: the real state, sessions and queues, without their tasks.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use super::plan::Plan;
use crate::env::BoxFuture;
use crate::model::{HashSeed, Incarnation, RangeCount, Time, timestamp};
use crate::replication::hello::Identity;
use crate::replication::local::{HealingConfig, Local};
use crate::replication::members::MembershipConfig;
use crate::replication::peers::{Link, Peers};
use crate::replication::replica::Replica;
use crate::replication::sync::ListLimit;
use crate::store::{Lengths, Store, StoreConfig};

/// The name that all simulated nodes share.
pub(super) const CLUSTER: &str = "oak";

/// Where wall clocks stand when a history begins, in seconds since the Unix epoch.
const EPOCH: u64 = 1_700_000_000;

/// A node's name and address, and its process if one runs.
pub(super) struct Node {
    pub(super) identity: Identity,
    pub(super) address: Address,
    /// The addresses in its `--join`.
    pub(super) join: Vec<Address>,
    /// The offset of the machine's clock, in milliseconds.
    pub(super) skew: i64,
    pub(super) process: Option<Process>,
    /// When a process will start, if none runs now.
    pub(super) starts_at: Option<Duration>,
}

/// One run of the node, from a start to a crash or a stop.
pub(super) struct Process {
    /// The number of this process in its history.
    pub(super) number: u64,
    pub(super) replica: Replica,
    /// The ends of its links, by the node at the other end.
    pub(super) links: BTreeMap<usize, LinkEnd>,
    /// Whether the task that takes from the feed has been woken.
    pub(super) feed_woken: bool,
    /// Clients that have no reply to their `WAIT` yet.
    pub(super) waits: Vec<ClientWait>,
    /// Set while it stops.
    pub(super) leaving: Option<Leaving>,
}

/// A `WAIT` without a reply.
pub(super) struct ClientWait {
    pub(super) key: usize,
    /// The sequence of the write that it waits for.
    pub(super) through: u64,
    pub(super) wanted: usize,
    pub(super) deadline: Duration,
    /// Resolves when the count may have risen.
    pub(super) changed: BoxFuture<'static, ()>,
}

/// How far a process that stops has come.
#[derive(Clone, Copy)]
pub(super) struct Leaving {
    /// When it says goodbye even if no peer holds everything.
    pub(super) limit: Duration,
    /// Whether it has said goodbye: it makes no new links from then on.
    pub(super) has_parted: bool,
}

/// One end of a link.
pub(super) struct LinkEnd {
    pub(super) connection: u64,
    /// The end of the connection that this is: 0 for the dialler.
    pub(super) side: usize,
    pub(super) link: Arc<Link>,
    pub(super) last_received: Instant,
    pub(super) wake_at: Option<Instant>,
}

/// Where a process of a node listens, or did.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Address {
    pub(super) node: usize,
    pub(super) port: u32,
}

impl Address {
    pub(super) fn first_of(node: usize) -> Address {
        Address { node, port: 1 }
    }

    pub(super) fn parse(address: &str) -> Option<Address> {
        let (node, port) = address.strip_prefix('n')?.split_once(':')?;
        Some(Address { node: node.parse().ok()?, port: port.parse().ok()? })
    }
}

impl std::fmt::Display for Address {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "n{}:{}", self.node, self.port)
    }
}

pub(super) fn name(node: usize) -> String {
    format!("n{node}")
}

impl Node {
    pub(super) fn new(node: usize, plan: &Plan) -> Self {
        Node {
            identity: Identity {
                cluster: CLUSTER.into(),
                name: name(node),
                advertise: Address::first_of(node).to_string(),
                max_clock_skew: plan.max_clock_skew,
            },
            address: Address::first_of(node),
            join: plan.join[node].iter().map(|&other| Address::first_of(other)).collect(),
            skew: plan.skew[node],
            process: None,
            starts_at: Some(plan.starts_at[node]),
        }
    }

    /// Moves the node to an address, where its processes listen from now on.
    pub(super) fn place_at(&mut self, address: Address) {
        self.address = address;
        self.identity.advertise = address.to_string();
    }

    /// Returns the time of the machine's clock.
    pub(super) fn wall(&self, now: Duration) -> Time {
        let true_time = Duration::from_secs(EPOCH) + now;
        let off = Duration::from_millis(self.skew.unsigned_abs());
        timestamp::time_since_epoch(if self.skew < 0 { true_time - off } else { true_time + off })
    }
}

impl Process {
    pub(super) fn new(
        number: u64,
        node: &Node,
        incarnation: Incarnation,
        plan: &Plan,
        base: Instant,
        now: Duration,
    ) -> Self {
        let store = Arc::new(Store::new(StoreConfig {
            seed: HashSeed::of_cluster(CLUSTER),
            ranges: plan.ranges,
            incarnation,
            max_memory: plan.max_memory,
            eviction: crate::store::EvictionPolicy::NoEviction,
            lengths: Lengths::UNLIMITED,
            feed_limit: plan.feed_limit,
        }));
        let healing = HealingConfig {
            max_clock_skew: plan.max_clock_skew,
            forget_after: plan.forget_after,
            tombstone_limit: plan.tombstone_limit,
        };
        let membership = MembershipConfig {
            name: node.identity.name.clone(),
            incarnation,
            forget_after: plan.forget_after,
        };
        let hlc = store.now(node.wall(now));
        let mut local = Local::new(store, healing, membership, hlc);
        let peers = Peers::new(node.identity.clone(), plan.queue_limit);
        for target in &node.join {
            peers.add_target(&target.to_string(), base + now);
        }
        if plan.ranges != RangeCount::FULL {
            local.list_limit = ListLimit(4);
        }
        // A quarter of the processes compare ranges further down at once, as nodes do with what uncovered cells leave.
        local.lists_uncovered = number % 4 != 3;
        local.store.feed().open(|| ());
        Process {
            number,
            replica: Replica::new(local, peers),
            links: BTreeMap::new(),
            feed_woken: false,
            waits: Vec::new(),
            leaving: None,
        }
    }

    pub(super) fn incarnation(&self) -> Incarnation {
        self.replica.incarnation()
    }

    /// Returns the end of the link over a connection, and the node that it leads to.
    pub(super) fn link_over(&mut self, connection: u64) -> Option<(usize, &mut LinkEnd)> {
        let mut ends = self.links.iter_mut();
        ends.find(|(_, end)| end.connection == connection).map(|(&peer, end)| (peer, end))
    }

    /// Whether it takes part in new links.
    pub(super) fn is_open(&self) -> bool {
        self.leaving.is_none_or(|leaving| !leaving.has_parted)
    }

    /// The addresses that it dials.
    pub(super) fn targets(&self) -> BTreeSet<Address> {
        self.replica.peers.targets().iter().filter_map(|target| Address::parse(target)).collect()
    }

    /// Returns its links.
    pub(super) fn all_links(&self) -> Vec<Arc<Link>> {
        self.links.values().map(|end| Arc::clone(&end.link)).collect()
    }
}
