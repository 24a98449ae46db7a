//! The Redis and http ports' view of a node.

use tokio_util::sync::CancellationToken;

use crate::cluster::{
    Activity, Cluster, ClusterError, Events, Figures, HealingStatus, LostCell, NodeState, PeerStatus,
    Recorded, RemoteNode, Scope, Token, TokenError, Verification, Way,
};
use crate::env::BoxFuture;
use crate::model::Incarnation;
use crate::replication::Replication;
use crate::store::KeyCopy;

/// Implements the traits through which the Redis and http ports see the cluster.
pub(super) struct View {
    pub(super) replication: Replication,
    pub(super) stop: CancellationToken,
}

impl Cluster for View {
    fn state(&self) -> NodeState {
        if self.stop.is_cancelled() { NodeState::Draining } else { self.replication.state() }
    }

    fn is_fetching(&self) -> bool {
        self.replication.is_fetching()
    }

    fn joining_reason(&self) -> Option<String> {
        self.replication.joining_reason()
    }

    fn peers(&self) -> Vec<PeerStatus> {
        self.replication.peers()
    }

    fn events(&self) -> Events {
        self.replication.events()
    }

    fn recorded_events(&self, after: u64) -> Vec<Recorded> {
        self.replication.recorded_events(after)
    }

    fn name_of(&self, incarnation: Incarnation) -> Option<String> {
        self.replication.name_of(incarnation)
    }

    fn healing(&self) -> HealingStatus {
        self.replication.healing()
    }

    fn activity(&self) -> Activity {
        self.replication.activity()
    }

    fn figures(&self) -> Figures {
        self.replication.figures()
    }

    fn remote_figures(&self) -> Vec<RemoteNode> {
        self.replication.remote_figures()
    }

    fn differing(&self, peer: &str) -> Option<Vec<u8>> {
        self.replication.differing(peer)
    }

    fn query_key(&self, key: &[u8]) -> BoxFuture<'static, Vec<(String, Option<KeyCopy>)>> {
        self.replication.query_key(key)
    }

    fn lost(&self) -> Vec<LostCell> {
        self.replication.lost()
    }

    fn forget(&self, name: &str) -> Result<(), ClusterError> {
        self.replication.forget(name)
    }

    fn rejoin(&self) -> Result<(), ClusterError> {
        self.replication.rejoin()
    }

    fn cut(&self, peer: &str, way: Way) -> Result<(), ClusterError> {
        self.replication.cut(peer, way)
    }

    fn mend(&self, peer: &str, way: Way) -> Result<(), ClusterError> {
        self.replication.mend(peer, way)
    }

    fn verify(&self) {
        self.replication.verify();
    }

    fn publish(&self, channel: &[u8], message: &[u8]) {
        self.replication.publish(channel, message);
    }

    fn dropped_messages(&self) -> u64 {
        self.replication.dropped_messages()
    }

    fn verified(&self) -> Vec<Verification> {
        self.replication.verified()
    }

    fn acknowledged_by(&self, through: u64) -> Vec<String> {
        self.replication.acknowledged_by(through)
    }

    fn more_acknowledged(&self, through: u64) -> BoxFuture<'static, ()> {
        self.replication.more_acknowledged(through)
    }

    fn token(&self) -> Token {
        self.replication.token()
    }

    fn is_ready(&self, token: &Token, scope: Scope) -> Result<bool, TokenError> {
        self.replication.is_ready(token, scope)
    }

    fn readiness_changed(&self, token: &Token, scope: Scope) -> BoxFuture<'static, ()> {
        self.replication.readiness_changed(token, scope)
    }

    fn seek(&self, token: &Token) {
        self.replication.seek(token);
    }
}
