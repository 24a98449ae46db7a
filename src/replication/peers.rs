//! The table of peers: which are linked, why others are not, and which of two connections to a peer stays.
//!
//! No I/O and no clock: [`Replica`](super::replica::Replica) and the tasks that dial change it, and say the time.

mod rows;
mod targets;

pub(super) use targets::TargetOutcome;

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use tokio::sync::watch;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tracing_mutex::parkinglot::Mutex;

use targets::Target;

use super::hello::{Identity, Introduction, MAX_PEERS, Refused};
use super::message::Refusal;
use super::queue::Queue;
use super::refused::RefusedPeers;
use super::session::Session;
use super::traffic::Carried;
use crate::ablation::{Ablation, ablated};
use crate::cluster::{Direction, PeerState};
use crate::model::Incarnation;

/// A live connection to a peer.
pub(super) struct Link {
    number: u64,
    pub(super) peer: String,
    pub(super) incarnation: Incarnation,
    /// The incarnation of this node when the link came about.
    pub(super) own: Incarnation,
    /// The address at which others dial it; empty if it cannot be dialled.
    pub(super) advertise: String,
    direction: Direction,
    remote: SocketAddr,
    pub(super) queue: Arc<Queue>,
    pub(super) session: Mutex<Session>,
    /// Ends the connection.
    pub(super) stop: CancellationToken,
    pub(super) carried: Carried,
    /// Whether the first sync on this link has finished.
    joined: AtomicBool,
}

/// The table of all nodes that this node links, refuses or dials.
pub(super) struct Peers {
    own: Identity,
    queue_limit: usize,
    table: Mutex<Table>,
    changed: watch::Sender<()>,
}

/// A connection that has become the link to its peer.
pub(super) struct Admitted {
    pub(super) link: Arc<Link>,
    /// The link that it replaces; its connection is to be closed.
    pub(super) replaced: Option<Arc<Link>>,
}

#[derive(Default)]
struct Table {
    /// By name: a restarted node replaces its earlier incarnation.
    peers: BTreeMap<String, Peer>,
    refused: RefusedPeers,
    /// The targets to dial, by the address as it was given or received.
    targets: BTreeMap<String, Target>,
    links_made: u64,
    /// How often nodes were refused, by the name of the state.
    refusals: BTreeMap<&'static str, (PeerState, u64)>,
}

struct Peer {
    incarnation: Incarnation,
    advertise: String,
    state: PeerState,
    reason: String,
    since: Instant,
    /// When an earlier link to this incarnation last verified that both are equal.
    verified: Option<Instant>,
    link: Option<Arc<Link>>,
}

impl Peers {
    pub(super) fn new(own: Identity, queue_limit: usize) -> Self {
        Peers { own, queue_limit, table: Mutex::default(), changed: watch::Sender::new(()) }
    }

    pub(super) fn own(&self) -> &Identity {
        &self.own
    }

    /// Returns a receiver that is notified of every change of the table.
    pub(super) fn changes(&self) -> watch::Receiver<()> {
        self.changed.subscribe()
    }

    /// Whether a connection that `dialler` opened to or from `peer` should become the link. Checked before the
    /// link is offered and again, in [`admit`](Self::admit), when it is accepted.
    ///
    /// If two nodes dial each other at once, both must keep the same one of the two connections: the one
    /// dialled by the larger incarnation. A second connection by the same dialler means that it has lost the
    /// first.
    pub(super) fn check(
        &self,
        peer: &Introduction,
        own: Incarnation,
        direction: Direction,
    ) -> Result<(), Refused> {
        self.table.lock().check(&self.own.name, own, peer, direction)
    }

    /// Makes a connection the link to `peer`, in place of an earlier one.
    pub(super) fn admit(
        &self,
        peer: &Introduction,
        own: Incarnation,
        direction: Direction,
        remote: SocketAddr,
        now: Instant,
    ) -> Result<Admitted, Refused> {
        let mut table = self.table.lock();
        table.check(&self.own.name, own, peer, direction)?;
        table.links_made += 1;
        let queue = Arc::new(Queue::new(self.queue_limit));
        let session = Session::new(own, peer.incarnation, &peer.name, Arc::clone(&queue), now);
        let link = Arc::new(Link {
            number: table.links_made,
            peer: peer.name.clone(),
            incarnation: peer.incarnation,
            own,
            advertise: peer.advertise.clone(),
            direction,
            remote,
            queue,
            session: Mutex::new(session),
            stop: CancellationToken::new(),
            carried: Carried::default(),
            joined: AtomicBool::new(false),
        });
        table.refused.forget_name(&peer.name);
        table.make_room(&peer.name);
        let before = table.peers.get(&peer.name).filter(|before| before.incarnation == peer.incarnation);
        let row = Peer {
            incarnation: peer.incarnation,
            advertise: peer.advertise.clone(),
            state: PeerState::Joining,
            reason: String::new(),
            since: now,
            verified: before.and_then(|before| before.verified),
            link: Some(Arc::clone(&link)),
        };
        let replaced = table.peers.insert(peer.name.clone(), row).and_then(|peer| peer.link);
        drop(table);
        self.changed.send_replace(());
        Ok(Admitted { link, replaced })
    }

    /// Records that the first sync on `link` has finished. Returns whether it is the peer's current link, and this
    /// its first sync.
    pub(super) fn joined(&self, link: &Link, now: Instant) -> bool {
        link.joined.store(true, Ordering::Relaxed);
        self.set_state(link, PeerState::Linked, "", now)
    }

    /// Records that the connection of `link` has ended. Returns whether the peer is unlinked now.
    pub(super) fn closed(&self, link: &Link, state: PeerState, reason: &str, now: Instant) -> bool {
        self.set_state(link, state, reason, now)
    }

    /// Sets the state of the peer. Returns whether that is a change: the link is the peer's current one, and
    /// the state is another.
    fn set_state(&self, link: &Link, state: PeerState, reason: &str, now: Instant) -> bool {
        // Read before the table is locked, because a session may be merging a frame.
        let verified = link.session.lock().verified_at();
        let mut table = self.table.lock();
        let Some(peer) = table.peers.get_mut(&link.peer) else { return false };
        if peer.link.as_ref().is_none_or(|present| present.number != link.number) || peer.state == state {
            return false;
        }
        peer.state = state;
        reason.clone_into(&mut peer.reason);
        peer.since = now;
        if !state.is_linked() {
            peer.link = None;
            peer.verified = verified.or(peer.verified);
            table.refused.forget_namesakes(&link.peer);
        }
        drop(table);
        self.changed.send_replace(());
        true
    }

    /// Records that a node was refused, or refused this one. Returns its state in the table if that is new.
    pub(super) fn refused(
        &self,
        name: &str,
        incarnation: Option<Incarnation>,
        address: &str,
        refused: &Refused,
        now: Instant,
    ) -> Option<PeerState> {
        let state = match refused.refusal {
            Refusal::WrongCluster => PeerState::WrongCluster,
            Refusal::Duplicate => PeerState::Duplicate,
            Refusal::Skewed => PeerState::Skewed,
            Refusal::Incompatible | Refusal::Crowded => PeerState::Incompatible,
            Refusal::Untrusted => PeerState::Untrusted,
            Refusal::Linked | Refusal::Itself => return None,
        };
        let mut table = self.table.lock();
        table.refusals.entry(state.as_str()).or_insert((state, 0)).1 += 1;
        let news = table.refuse(name, incarnation, address, state, &refused.text, now);
        drop(table);
        if news {
            self.changed.send_replace(());
        }
        news.then_some(state)
    }

    /// Records that an operator has removed a peer: it is not waited for until it is heard again.
    pub(super) fn forgotten(&self, name: &str, now: Instant) {
        if let Some(peer) = self.table.lock().peers.get_mut(name).filter(|peer| peer.link.is_none()) {
            peer.state = PeerState::Lapsed;
            "forgotten by an operator".clone_into(&mut peer.reason);
            peer.since = now;
        }
        self.changed.send_replace(());
    }

    /// Whether a peer that advertises `address` is linked.
    pub(super) fn is_linked_at(&self, address: &str) -> bool {
        self.table.lock().peers.values().any(|peer| peer.link.is_some() && peer.advertise == address)
    }

    /// Whether another node was linked or refused, or an address is dialled that may not be this node's own.
    pub(super) fn knows_someone(&self, now: Instant) -> bool {
        !self.status(now).is_empty()
    }

    /// Whether a peer is or was linked.
    pub(super) fn has_met_one(&self) -> bool {
        !self.table.lock().peers.is_empty()
    }

    /// Whether this incarnation is linked.
    pub(super) fn is_linked(&self, incarnation: Incarnation) -> bool {
        let table = self.table.lock();
        table.peers.values().any(|peer| peer.link.is_some() && peer.incarnation == incarnation)
    }

    /// Whether the peer that advertises `address` has left the cluster.
    pub(super) fn has_left(&self, address: &str) -> bool {
        let table = self.table.lock();
        let mut there = table.peers.values().filter(|peer| peer.advertise == address).peekable();
        there.peek().is_some() && there.all(|peer| peer.state == PeerState::Gone)
    }

    /// Returns every live link.
    pub(super) fn links(&self) -> Vec<Arc<Link>> {
        self.table.lock().peers.values().filter_map(|peer| peer.link.clone()).collect()
    }

    /// Returns name, incarnation and address of every linked peer.
    pub(super) fn linked_addresses(&self) -> Vec<(String, Incarnation, String)> {
        let table = self.table.lock();
        let linked = table.peers.iter().filter(|(_, peer)| peer.link.is_some());
        linked.map(|(name, peer)| (name.clone(), peer.incarnation, peer.advertise.clone())).collect()
    }

    /// Whether every address has been dialled once and the first sync with every linked peer has finished.
    pub(super) fn is_joined(&self) -> bool {
        let table = self.table.lock();
        table.targets.values().all(|target| target.untried == Some(0))
            && table.peers.values().filter_map(|peer| peer.link.as_ref()).all(|link| link.is_joined())
    }

    /// Whether a peer is or was linked, or every address has been dialled once.
    pub(super) fn is_contacted(&self) -> bool {
        let table = self.table.lock();
        !table.peers.is_empty() || table.targets.values().all(|target| target.untried == Some(0))
    }

    /// Returns how many links were made, and how often nodes were refused, by state.
    pub(super) fn made_and_refused(&self) -> (u64, Vec<(PeerState, u64)>) {
        let table = self.table.lock();
        (table.links_made, table.refusals.values().copied().collect())
    }
}

impl Table {
    fn check(
        &self,
        own_name: &str,
        own: Incarnation,
        peer: &Introduction,
        direction: Direction,
    ) -> Result<(), Refused> {
        let refuse = |refusal, text: String| Err(Refused { refusal, text });
        let Some(present) = self.peers.get(&peer.name) else {
            if self.peers.values().filter(|peer| peer.link.is_some()).count() >= MAX_PEERS {
                return refuse(Refusal::Crowded, format!("{own_name} has {MAX_PEERS} peers"));
            }
            return Ok(());
        };
        let Some(link) = &present.link else { return Ok(()) };
        if link.incarnation != peer.incarnation {
            let text = format!("another live node is named {:?}: give one another --name", peer.name);
            return refuse(Refusal::Duplicate, text);
        }
        let stays = match (link.direction, direction) {
            (Direction::Out, Direction::Out) => true,
            (Direction::In, Direction::In) => false,
            (Direction::Out, Direction::In) => own > peer.incarnation,
            (Direction::In, Direction::Out) => own < peer.incarnation,
        };
        if stays && !ablated(Ablation::OneConnection) {
            return refuse(Refusal::Linked, "the two are linked already".into());
        }
        Ok(())
    }

    /// Removes the peer that has been unlinked longest, if there is no room for another.
    fn make_room(&mut self, name: &str) {
        if self.peers.len() < MAX_PEERS || self.peers.contains_key(name) {
            return;
        }
        let unlinked = self.peers.iter().filter(|(_, peer)| peer.link.is_none());
        if let Some((oldest, _)) = unlinked.min_by_key(|(_, peer)| peer.since) {
            let oldest = oldest.clone();
            self.peers.remove(&oldest);
        }
    }

    /// Records a refusal. Returns whether it is new. A node that was a peer keeps its row.
    fn refuse(
        &mut self,
        name: &str,
        incarnation: Option<Incarnation>,
        address: &str,
        state: PeerState,
        reason: &str,
        now: Instant,
    ) -> bool {
        if let Some(peer) = self.peers.get_mut(name)
            && peer.link.is_none()
            && Some(peer.incarnation) == incarnation
        {
            // It may have been refused shortly before its link ended.
            let shown = self.refused.forget(peer.incarnation);
            reason.clone_into(&mut peer.reason);
            if peer.state == state {
                return false;
            }
            peer.state = state;
            peer.since = now;
            return shown != Some(state);
        }
        self.refused.note(name, incarnation, address, state, reason, now)
    }
}

impl Link {
    /// Who dialled.
    pub(super) fn direction(&self) -> Direction {
        self.direction
    }

    /// The address of the other end of its connection.
    pub(super) fn remote(&self) -> SocketAddr {
        self.remote
    }

    pub(super) fn is_joined(&self) -> bool {
        self.joined.load(Ordering::Relaxed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    use crate::model::Time;

    use super::super::hello::Place;
    use super::super::refused::SHOWN;
    use crate::model::timestamp::incarnation;

    fn peers() -> Peers {
        let own = Identity {
            cluster: "oak".into(),
            name: "own".into(),
            advertise: "own:1".into(),
            max_clock_skew: Duration::from_millis(500),
        };
        Peers::new(own, 1 << 20)
    }

    fn introduction(name: &str, id: u128) -> Introduction {
        let incarnation = incarnation(id).unwrap();
        let place = Place { incarnation, generation: 1 };
        Introduction { name: name.into(), incarnation, place, advertise: format!("{name}:1"), hlc: Time(0) }
    }

    fn admit(peers: &Peers, name: &str, id: u128, direction: Direction) -> Result<Arc<Link>, Refusal> {
        let remote = "127.0.0.1:9".parse().unwrap();
        let own = incarnation(100).unwrap();
        let admitted = peers.admit(&introduction(name, id), own, direction, remote, Instant::now());
        let Admitted { link, replaced } = admitted.map_err(|refused| refused.refusal)?;
        replaced.iter().for_each(|replaced| replaced.stop.cancel());
        Ok(link)
    }

    #[tokio::test]
    async fn of_two_connections_the_one_dialled_by_the_larger_incarnation_stays() {
        for (id, ours_stays) in [(7, true), (700, false)] {
            let (dialled, accepted) = (Direction::Out, Direction::In);
            for (first, second) in [(dialled, accepted), (accepted, dialled)] {
                let peers = peers();
                let link = admit(&peers, "b", id, first).unwrap();
                let replaced = admit(&peers, "b", id, second).is_ok();
                assert_eq!(replaced, (second == dialled) == ours_stays);
                assert_eq!(link.stop.is_cancelled(), replaced);
                assert_eq!(peers.links().len(), 1);
            }
        }
    }

    #[tokio::test]
    async fn a_peer_that_dials_again_has_lost_its_first_connection() {
        let peers = peers();
        let first = admit(&peers, "b", 7, Direction::In).unwrap();
        let second = admit(&peers, "b", 7, Direction::In).unwrap();
        assert!(first.stop.is_cancelled() && !second.stop.is_cancelled());
        peers.closed(&first, PeerState::Down, "late news of the first", Instant::now());
        assert!(peers.is_linked(incarnation(7).unwrap()));
        assert_eq!(admit(&peers, "b", 7, Direction::Out).err(), None, "ours is the larger incarnation");
        assert_eq!(admit(&peers, "b", 7, Direction::Out).err(), Some(Refusal::Linked));
    }

    #[tokio::test]
    async fn a_namesake_is_refused_while_the_other_is_linked_and_welcome_afterwards() {
        let peers = peers();
        let link = admit(&peers, "b", 7, Direction::In).unwrap();
        assert_eq!(admit(&peers, "b", 8, Direction::In).err(), Some(Refusal::Duplicate));
        peers.closed(&link, PeerState::Down, "gone", Instant::now());
        assert!(admit(&peers, "b", 8, Direction::In).is_ok());
        assert_eq!(peers.status(Instant::now()).len(), 1);
    }

    #[tokio::test(start_paused = true)]
    async fn after_two_quick_restarts_one_row_is_left_of_the_name() {
        let peers = peers();
        let names =
            || peers.status(Instant::now()).into_iter().map(|row| (row.name, row.state)).collect::<Vec<_>>();
        let refuse = |id| {
            let refused = Refused { refusal: Refusal::Duplicate, text: "another lives".into() };
            peers.refused("c", incarnation(id), "c:1", &refused, Instant::now());
        };
        let (duplicate, joining) =
            (("c".to_owned(), PeerState::Duplicate), ("c".to_owned(), PeerState::Joining));
        let first = admit(&peers, "c", 7, Direction::In).unwrap();
        refuse(8);
        refuse(9);
        assert_eq!(names(), [joining.clone(), duplicate], "one process at one address");
        peers.closed(&first, PeerState::Down, "not heard for 5s", Instant::now());
        assert_eq!(names(), [("c".to_owned(), PeerState::Down)]);
        refuse(9);
        admit(&peers, "c", 10, Direction::In).unwrap();
        assert_eq!(names().len(), 1);
        // A late refusal belongs to a process that does not try again.
        refuse(9);
        tokio::time::advance(Duration::from_secs(13)).await;
        assert_eq!(names(), [joining]);
    }

    #[tokio::test(start_paused = true)]
    async fn a_namesake_that_lives_keeps_its_row_beside_the_one_that_is_linked() {
        let peers = peers();
        let _link = admit(&peers, "c", 7, Direction::In).unwrap();
        for _ in 0..20 {
            let refused = Refused { refusal: Refusal::Duplicate, text: "another lives".into() };
            peers.refused("c", incarnation(8), "elsewhere:1", &refused, Instant::now());
            tokio::time::advance(super::super::back_off::REDIAL_LIMIT).await;
            assert_eq!(peers.status(Instant::now()).len(), 2);
        }
    }

    #[tokio::test(start_paused = true)]
    async fn names_that_left_make_room_for_new_ones() {
        let peers = peers();
        for n in 0..2 * MAX_PEERS as u128 {
            let link = admit(&peers, &format!("n{n}"), 1000 + n, Direction::In).unwrap();
            peers.closed(&link, PeerState::Gone, "it shut down", Instant::now());
            tokio::time::advance(Duration::from_secs(1)).await;
        }
        assert_eq!(peers.status(Instant::now()).len(), MAX_PEERS);
    }

    #[tokio::test(start_paused = true)]
    async fn a_refused_node_is_shown_while_it_tries_with_its_latest_reason() {
        let peers = peers();
        let refuse = |text: &str| {
            let refused = Refused { refusal: Refusal::Skewed, text: text.into() };
            peers.refused("b", incarnation(7), "b:1", &refused, Instant::now());
        };
        refuse("3600s ahead");
        tokio::time::advance(Duration::from_secs(30)).await;
        refuse("2s ahead");
        let [row] = &peers.status(Instant::now())[..] else { panic!() };
        assert_eq!((row.state, &*row.reason), (PeerState::Skewed, "2s ahead"));
        assert_eq!(row.since, Duration::from_secs(30));
        tokio::time::advance(SHOWN).await;
        assert!(peers.status(Instant::now()).is_empty());
    }
}
