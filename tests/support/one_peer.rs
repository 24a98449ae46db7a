//! A node's face without its cluster: the real Redis protocol, and a [`Cluster`](sapwood::internal::cluster::Cluster) that is made up.
#![allow(clippy::unwrap_used, reason = "a helper of tests fails as a test does")]
#![allow(dead_code, unreachable_pub, reason = "each test binary uses its own part")]

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use sapwood::config::KeyspaceEvents;
use sapwood::internal::cluster::{
    Acknowledgements, Activity, Administration, ClusterError, Copies, Direction, EventSender, Events,
    Figures, Heal, Healing, HealingStatus, LostCell, NodeState, PeerSecurity, PeerState, PeerStatus,
    Publisher, Recorded, RemoteNode, Scope, Statistics, Status, Token, TokenError, Verification,
    VerificationState, Way,
};
use sapwood::internal::env::{BoxFuture, SystemEnv};
use sapwood::internal::model::{Deadline, HashSeed, RangeCount, Timestamp, timestamp};
use sapwood::internal::resp::{Limits, Server, Settings};
use sapwood::internal::store::{EvictionPolicy, KeyCopy, Lengths, Store, StoreConfig};
use tokio_util::sync::CancellationToken;

/// A cluster of one peer that never changes. It records the calls that would change it.
#[derive(Default)]
pub struct OnePeer {
    /// The calls that changed something, in order.
    pub calls: Arc<Mutex<Vec<String>>>,
    /// What a comparison has found.
    pub verified: Vec<Verification>,
    /// What happens to it.
    pub events: EventSender,
    /// Up to which write `b` holds all.
    pub held: u64,
    /// The state of `b` is being fetched.
    pub fetching: Arc<std::sync::atomic::AtomicBool>,
}

impl OnePeer {
    /// As a node with `--enable-faults` that knows one other member, `b`.
    fn record(&self, what: String, peer: Option<&str>) -> Result<(), ClusterError> {
        if let Some(unknown) = peer.filter(|peer| !["b", "*"].contains(peer)) {
            return Err(ClusterError::UnknownMember(unknown.into()));
        }
        self.calls.lock().unwrap().push(what);
        Ok(())
    }
}

impl Status for OnePeer {
    fn state(&self) -> NodeState {
        NodeState::Ready
    }

    fn is_fetching(&self) -> bool {
        self.fetching.load(std::sync::atomic::Ordering::Relaxed)
    }

    fn joining_reason(&self) -> Option<String> {
        None
    }

    fn peers(&self) -> Vec<PeerStatus> {
        let mut peer = PeerStatus::new("b", PeerState::Healing);
        peer.address = "127.0.0.1:7172".into();
        peer.direction = Some(Direction::Out);
        peer.since = Duration::from_millis(5);
        (peer.queued_bytes, peer.received_bytes, peer.sent_bytes) = (1, 2, 3);
        peer.ranges_differing = 4;
        let mut heal = Heal::default();
        heal.took = Duration::from_millis(8);
        (heal.cells_in, heal.cells_out, heal.cells_left) = (5, 6, 7);
        (heal.bytes_in, heal.bytes_out) = (50, 60);
        heal.time_left = Some(Duration::from_millis(9));
        peer.heal = Some(heal);
        vec![peer]
    }

    fn name_of(&self, _incarnation: sapwood::internal::model::Incarnation) -> Option<String> {
        None
    }

    fn events(&self) -> Events {
        self.events.subscribe()
    }

    fn recorded_events(&self, after: u64) -> Vec<Recorded> {
        self.events.recorded(after)
    }
}

impl Healing for OnePeer {
    fn healing(&self) -> HealingStatus {
        let mut healing = HealingStatus::default();
        healing.members = 2;
        healing.stable_age = Some(Duration::from_millis(12_345));
        healing.tombstones = 3;
        healing.waits_for = vec!["b".into(), "c".into()];
        (healing.retractions, healing.late, healing.lost) = (4, 5, 2);
        healing.dropped_tombstones = 6;
        healing
    }

    fn differing(&self, _peer: &str) -> Option<Vec<u8>> {
        None
    }

    fn lost(&self) -> Vec<LostCell> {
        let time = timestamp::time_since_epoch(Duration::from_secs(10));
        let timestamp = Timestamp::new(time, timestamp::incarnation(7).unwrap());
        let cell = LostCell::new(b"k\xff".to_vec(), b"v".to_vec(), timestamp, "b");
        let mut large = LostCell::new(b"l".to_vec(), Vec::new(), timestamp, "b");
        (large.value, large.value_bytes) = (None, 9_000_000);
        large.deadline = Some(Deadline::from_unix_millis(20_000));
        vec![cell, large]
    }

    fn verify(&self) {
        self.record("verify".into(), None).unwrap();
    }

    fn verified(&self) -> Vec<Verification> {
        self.verified.clone()
    }
}

impl Statistics for OnePeer {
    fn peer_security(&self) -> PeerSecurity {
        PeerSecurity::default()
    }

    fn activity(&self) -> Activity {
        Activity::default()
    }

    fn figures(&self) -> Figures {
        Figures::default()
    }

    fn remote_figures(&self) -> Vec<RemoteNode> {
        Vec::new()
    }
}

impl Copies for OnePeer {
    fn query_key(&self, _key: &[u8]) -> BoxFuture<'static, Vec<(String, Option<KeyCopy>)>> {
        Box::pin(std::future::ready(Vec::new()))
    }
}

impl Administration for OnePeer {
    fn forget(&self, name: &str) -> Result<(), ClusterError> {
        self.record(format!("forget {name}"), Some(name))
    }

    fn rejoin(&self) -> Result<(), ClusterError> {
        self.record("rejoin".into(), None)
    }

    fn cut(&self, peer: &str, way: Way) -> Result<(), ClusterError> {
        self.record(format!("cut {peer} {}", way.as_str()), Some(peer))
    }

    fn mend(&self, peer: &str, way: Way) -> Result<(), ClusterError> {
        self.record(format!("mend {peer} {}", way.as_str()), Some(peer))
    }
}

impl Acknowledgements for OnePeer {
    fn acknowledged_by(&self, through: u64) -> Vec<String> {
        if through <= self.held { vec!["b".into()] } else { Vec::new() }
    }

    fn more_acknowledged(&self, _through: u64) -> BoxFuture<'static, ()> {
        Box::pin(std::future::pending())
    }

    fn token(&self) -> Token {
        let incarnation = timestamp::incarnation(7).unwrap();
        Token { name: "a".into(), incarnation, generation: 1, sequence: 2, time: timestamp::ZERO }
    }

    fn is_ready(&self, token: &Token, _scope: Scope) -> Result<bool, TokenError> {
        if token.name == "gone" { Err(TokenError::Gone("gone".into())) } else { Ok(token.name == "a") }
    }

    fn readiness_changed(&self, _token: &Token, _scope: Scope) -> BoxFuture<'static, ()> {
        Box::pin(std::future::pending())
    }

    fn seek(&self, token: &Token) {
        self.record(format!("seek {}", token.name), None).unwrap();
    }
}

impl Publisher for OnePeer {
    fn publish(&self, channel: &[u8], message: &[u8]) {
        let [channel, message] = [channel, message].map(|bytes| bytes.escape_ascii().to_string());
        self.record(format!("publish {channel} {message}"), None).unwrap();
    }

    fn dropped_messages(&self) -> u64 {
        7
    }
}

/// One row of what a comparison has found.
pub fn verification(peer: &str, state: VerificationState, differing_ranges: u64) -> Verification {
    Verification {
        peer: peer.into(),
        state,
        cells: 1_000,
        differing_ranges,
        healed_cells: differing_ranges * 2,
        took: Duration::from_millis(4),
    }
}

/// What a server on `address` needs to know, without a password.
pub fn settings(address: SocketAddr, stop: &CancellationToken) -> Settings {
    Settings {
        name: "a".into(),
        cluster_name: "test".into(),
        incarnation: timestamp::incarnation(7).unwrap(),
        client_addr: address,
        password: None,
        users: None,
        limits: Limits::default(),
        databases: 16,
        max_clients: 100,
        max_memory: None,
        enable_flush: true,
        enable_scripts: cfg!(feature = "scripts"),
        script_time_limit: Duration::from_millis(100),
        serve_while_joining: false,
        notify_keyspace_events: KeyspaceEvents::NONE,
        shutdown: stop.clone(),
    }
}

/// A server of an empty store.
pub fn server(cluster: OnePeer, settings: Settings) -> Server {
    let store = Store::new(StoreConfig {
        seed: HashSeed::of_cluster("test"),
        ranges: RangeCount::FULL,
        incarnation: settings.incarnation,
        max_memory: settings.max_memory,
        eviction: EvictionPolicy::NoEviction,
        lengths: Lengths { key: 1024, value: 1 << 20 },
        feed_limit: 1 << 20,
    });
    Server::new(Arc::new(store), Arc::new(SystemEnv), Arc::new(cluster), settings)
}
