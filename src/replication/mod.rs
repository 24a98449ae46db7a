//! Replication: links to every peer, pushes of what is written here, syncs for what was missed.
//!
//! ```text
//!   store.feed --> push --> queue of each link --> link --> peer
//!                                                   ^
//!   dial, accept --> connect (hello, judge) --------+--> merge into the store
//!                      peers: who is linked, and why not
//! ```
//!
//! Pure parts: [`hello`] judges a peer, [`session`] holds the conversation with one, [`sync`] compares and
//! exchanges states, [`members`] knows who has incorporated what and how far the stable time may rise, [`message`] and [`codec`] are
//! the wire. The rest moves bytes and asks the clock. Invariants:
//!
//! * A local writer never waits for a peer: it hands its changes to the feed and goes on.
//! * There is one link a pair of nodes, whoever dialled.
//! * A link is registered for pushes before its first sync starts, so nothing falls between the two.
//! * Nothing received is merged before all of its frame was checked and the clock has moved past it.

mod announce;
mod cells;
mod codec;
mod connect;
mod dial;
mod drain;
mod faults;
mod figures;
mod frames;
mod heartbeat;
mod hello;
mod joining;
mod key_query;
mod link;
mod local;
mod lost;
mod members;
mod message;
mod operator;
mod peers;
mod publish;
mod push;
mod queue;
mod refused;
mod session;
#[cfg(any(test, feature = "simulation"))]
#[cfg_attr(not(feature = "simulation"), expect(unreachable_pub, reason = "public for the example `soak`"))]
pub mod simulation;
mod sync;
mod tokens;
mod tombstones;
mod traffic;
mod upkeep;
mod verification;
mod write_acks;
mod wrong_port;

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use tokio::sync::{Semaphore, watch};
use tokio::time::{Instant, sleep, timeout};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use announce::Announcer;
use codec::FrameError;
pub use drain::ShutdownReport;
use faults::Faults;
pub(crate) use hello::Identity;
use hello::{Introduction, Refused};
use joining::Joining;
use key_query::KeyQueries;
pub(crate) use local::HealingConfig;
use local::Local;
use lost::LostFile;
use members::MembershipConfig;
use message::Refusal;
use peers::{Link, Peers};
use publish::Messages;
use session::{Finished, LinkError};
use sync::SyncFailed;
use verification::Verifications;
use wrong_port::LoggedClients;

use crate::cluster::{Direction, EventKind, Events, NodeState, PeerStatus, Recorded, Subscribers};
use crate::env::{Env, Listener};
use crate::log_limit::LogLimit;
use crate::model::Incarnation;
use crate::stats::Stats;
use crate::store::Store;

/// How many accepted connections may be at their hellos at one time.
const MAX_HANDSHAKES: usize = 64;

/// How long to wait before accepting again when the system refused to.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// How long a starting node waits to hear one of its peers before it serves clients: what it wrote before a
/// restart may be later than its clock.
const FIRST_CONTACT: Duration = Duration::from_secs(1);

/// What every part of replication shares.
struct Shared {
    local: Local,
    env: Arc<dyn Env>,
    peers: Peers,
    announcer: Arc<Announcer>,
    faults: Faults,
    /// Who has spoken another protocol to the peer port.
    wrong_clients: LoggedClients,
    /// Where they should have gone.
    client_port: Option<u16>,
    lost: LostFile,
    verifications: Verifications,
    /// What clients have published, on its way to the links.
    messages: Messages,
    subscribers: OnceLock<Arc<dyn Subscribers>>,
    /// What people have asked of the peers.
    queries: KeyQueries,
    /// What clients do here, to be told to the peers.
    stats: Arc<Stats>,
    started: Instant,
    joining: watch::Sender<Joining>,
    /// Whether it is [`Joining::Fetching`], for those who ask before every batch of requests.
    fetching: AtomicBool,
    /// Peers may know this node's address from an earlier run: its port was given, not picked by the system.
    known_address: bool,
    /// The node shuts down, and may be waiting until a peer holds its writes.
    stopping: AtomicBool,
    /// From here on no new links: nobody is dialled or accepted.
    draining: CancellationToken,
    /// Ends every task.
    stop: CancellationToken,
    /// Another node has taken this one's name: the node must stop.
    superseded: CancellationToken,
    tracker: TaskTracker,
    /// For tasks that start others.
    itself: std::sync::Weak<Shared>,
}

impl Shared {
    /// Starts to dial an address learnt from a peer, unless that is under way.
    fn dial(&self, target: &str) {
        self.start_dialling(target, true);
    }

    fn start_dialling(&self, target: &str, learnt: bool) {
        // A node that does not listen for peers advertises nothing, and nothing can be dialled.
        if target.is_empty() {
            return;
        }
        let Some(shared) = self.itself.upgrade() else { return };
        if shared.peers.own().advertise != target && shared.peers.add_target(target) {
            let dialling = dial::keep_linked(Arc::clone(&shared), target.to_owned(), learnt);
            shared.spawn(&shared.stop, dialling);
        }
    }

    /// The links that are not cut off.
    fn open_links(&self) -> Vec<Arc<Link>> {
        let mut links = self.peers.links();
        links.retain(|link| !self.faults.cuts(&link.peer));
        links
    }

    /// Whether a node may link that says this of its place in the cluster.
    fn check_place(&self, peer: &Introduction) -> Result<(), Refused> {
        let members = self.local.members.lock();
        if members.has_live_namesake(&peer.name, peer.incarnation) {
            let text = format!("another live node is named {:?}: give one another --name", peer.name);
            return Err(Refused { refusal: Refusal::Duplicate, text });
        }
        Ok(())
    }

    /// Makes a connection, over which this node is known as `own`, the link to a peer: from here on it takes part
    /// in pushes.
    fn admit(
        &self,
        peer: &Introduction,
        own: Incarnation,
        direction: Direction,
        remote: SocketAddr,
    ) -> Result<Arc<Link>, Refused> {
        let link = self.peers.admit(peer, own, direction, remote)?;
        let now = self.local.store.now(self.env.wall_clock());
        self.local.members.lock().on_link(&peer.name, peer.incarnation, peer.place.generation, now);
        Ok(link)
    }

    /// Ends a link in the table; returns whether the peer is unlinked now.
    fn unlink(&self, link: &Link, error: &LinkError) -> bool {
        link.session.lock().end(&self.local);
        let (state, reason) = (error.state(), &*error.to_string());
        let news = self.peers.closed(link, state, reason);
        if news {
            let (peer, state) = (&link.peer, state.as_str());
            if error.is_loss() {
                tracing::warn!(%peer, state, reason, "peer unlinked");
            } else {
                tracing::info!(%peer, state, reason, "peer unlinked");
            }
            self.local.members.lock().on_unlink(link.incarnation);
            self.verifications.fail(&link.peer, reason);
            self.peers.links().iter().for_each(|other| other.queue.wake());
        }
        news
    }

    /// A sync over `link` has finished.
    fn finished(&self, link: &Link, Finished { first, healed, deep, progress, took }: Finished) {
        let (cells_in, cells_out) = (progress.cells_in, progress.cells_out);
        if healed {
            tracing::info!(peer = %link.peer, cells_in, cells_out, ?took, "healed: both hold the same");
        } else {
            tracing::debug!(peer = %link.peer, cells_in, cells_out, ?took, "verified: both hold the same");
        }
        if deep {
            self.verifications.finish(&link.peer, progress, took);
        }
        self.peers.joined(link);
        self.local.counts.syncs.fetch_add(1, Ordering::Relaxed);
        if first || healed {
            let moved = format!("{cells_in} cells in, {cells_out} out, in {took:.1?}");
            self.announcer.announce(EventKind::Healed, &link.peer, moved);
        }
    }

    fn failed(&self, link: &Link, deep: bool, why: &SyncFailed) {
        self.local.counts.failed_syncs.fetch_add(1, Ordering::Relaxed);
        match why {
            SyncFailed::RetractionLimit => tracing::error!(peer = %link.peer, %why, "a sync was given up"),
            _ => tracing::warn!(peer = %link.peer, %why, "a sync was given up"),
        }
        if deep {
            self.verifications.fail(&link.peer, &why.to_string());
        }
    }

    /// Counts a frame that was damaged on its way, if that is what ended a connection.
    fn count_damage(&self, error: &LinkError) {
        if let LinkError::Frame(FrameError::Damaged) = error {
            self.local.counts.damaged_frames.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Runs a task until it ends or `until` is cancelled.
    fn spawn(&self, until: &CancellationToken, task: impl Future<Output = ()> + Send + 'static) {
        let until = until.clone();
        self.tracker.spawn(async move { until.run_until_cancelled(task).await });
    }
}

/// What replication is started with.
pub(crate) struct Setup {
    pub(crate) store: Arc<Store>,
    pub(crate) stats: Arc<Stats>,
    pub(crate) env: Arc<dyn Env>,
    pub(crate) own: Identity,
    pub(crate) incarnation: Incarnation,
    pub(crate) healing: HealingConfig,
    pub(crate) join: Vec<String>,
    /// Where this node takes clients, if it does.
    pub(crate) client_port: Option<u16>,
    /// Peers may know this node's address from an earlier run.
    pub(crate) known_address: bool,
    /// Bytes of pushes that may wait for one peer.
    pub(crate) queue_limit: usize,
    pub(crate) lost_file: Option<PathBuf>,
    pub(crate) enable_faults: bool,
    /// How long a node that reaches no peer waits for one before it calls itself ready.
    pub(crate) ready_alone_after: Duration,
    /// How many accepted connections may be at their hellos at one time, up to [`MAX_HANDSHAKES`].
    pub(crate) handshakes: usize,
}

/// The running replication of one node.
pub(crate) struct Replication {
    shared: Arc<Shared>,
}

impl Replication {
    /// Starts to accept peers on `listener`, if there is one, and to dial those in `join`.
    pub(crate) fn start(setup: Setup, listener: Option<Box<dyn Listener>>) -> std::io::Result<Self> {
        let Setup {
            store,
            stats,
            env,
            own,
            incarnation,
            healing,
            join,
            client_port,
            known_address,
            queue_limit,
            lost_file,
            enable_faults,
            ready_alone_after,
            handshakes,
        } = setup;
        let lost = LostFile::open(lost_file.as_deref())?;
        let membership =
            MembershipConfig { name: own.name.clone(), incarnation, forget_after: healing.forget_after };
        let now = store.now(env.wall_clock());
        let announcer = Arc::new(Announcer::new(Arc::clone(&env)));
        let shared = Arc::new_cyclic(|itself| Shared {
            local: Local::new(store, healing, membership, now),
            env,
            peers: Peers::new(own, queue_limit, Arc::clone(&announcer)),
            announcer,
            faults: Faults::new(enable_faults),
            wrong_clients: LoggedClients::default(),
            client_port,
            lost,
            verifications: Verifications::default(),
            messages: Messages::default(),
            subscribers: OnceLock::new(),
            queries: KeyQueries::default(),
            stats,
            started: Instant::now(),
            joining: watch::Sender::new(Joining::Seeking),
            fetching: AtomicBool::new(false),
            known_address,
            stopping: AtomicBool::new(false),
            draining: CancellationToken::new(),
            stop: CancellationToken::new(),
            superseded: CancellationToken::new(),
            tracker: TaskTracker::new(),
            itself: itself.clone(),
        });
        shared.local.store.feed().open();
        shared.spawn(&shared.stop, push::run(Arc::clone(&shared)));
        shared.spawn(&shared.stop, upkeep::tick(Arc::clone(&shared)));
        shared.spawn(&shared.stop, upkeep::sweep(Arc::clone(&shared)));
        shared.spawn(&shared.stop, upkeep::limit_tombstones(Arc::clone(&shared)));
        if let Some(listener) = listener {
            shared.spawn(&shared.draining, accept(Arc::clone(&shared), listener, handshakes));
        }
        for target in &join {
            shared.start_dialling(target, false);
        }
        shared.spawn(&shared.stop, joining::settle(Arc::clone(&shared), ready_alone_after));
        Ok(Replication { shared })
    }

    /// Waits until a peer was heard or all were tried, for a second at most: the clock is then past what this
    /// node wrote before it was restarted.
    pub(crate) async fn first_contact(&self) {
        let peers = &self.shared.peers;
        let mut changes = peers.changes();
        let heard = async { while !peers.is_contacted() && changes.changed().await.is_ok() {} };
        let _ = timeout(FIRST_CONTACT, heard).await;
        self.shared.look_at_joining();
    }

    /// Resolves when another node has taken this one's name.
    pub(crate) fn superseded(&self) -> CancellationToken {
        self.shared.superseded.clone()
    }

    /// This node's own state.
    pub(crate) fn state(&self) -> NodeState {
        self.shared.state()
    }

    /// Whether the states of peers are being taken: what is absent here may be with them.
    pub(crate) fn is_fetching(&self) -> bool {
        self.shared.fetching.load(Ordering::Acquire)
    }

    /// Why this node is [joining](NodeState::Joining) still; `None` if it is not.
    pub(crate) fn why_joining(&self) -> Option<String> {
        self.shared.joining.borrow().reason()
    }

    /// Resolves once it is not any more, or replication ends.
    ///
    /// # Errors
    /// Why it is refused by those that it reached, if that has lasted; or that it has stopped.
    pub(crate) async fn joined(&self) -> Result<(), String> {
        let mut joining = self.shared.joining.subscribe();
        let is_known =
            |joining: &Joining| matches!(joining, Joining::Done | Joining::Refused { lasts: true, .. });
        match self.shared.stop.run_until_cancelled(joining.wait_for(is_known)).await {
            // The sender lives as long as this borrows it.
            Some(known) => known.ok().and_then(|joining| joining.reason()).map_or(Ok(()), Err),
            None => Err("it was stopped".into()),
        }
    }

    /// Hands what the peers' clients publish to `subscribers`; the first one stays. Until then nobody hears it.
    pub(crate) fn set_subscribers(&self, subscribers: Arc<dyn Subscribers>) {
        let _ = self.shared.subscribers.set(subscribers);
    }

    /// Sends what a client has published to the subscribers of every linked peer. Never waits.
    pub(crate) fn publish(&self, channel: &[u8], message: &[u8]) {
        if !self.shared.peers.links().is_empty() {
            self.shared.messages.add(channel, message);
        }
    }

    /// Messages that were dropped on their way to a peer.
    pub(crate) fn dropped_messages(&self) -> u64 {
        self.shared.messages.dropped()
    }

    /// What happens to the links and the members from here on.
    pub(crate) fn events(&self) -> Events {
        self.shared.announcer.events()
    }

    /// The last events after the one with this id.
    pub(crate) fn recorded_events(&self, after: u64) -> Vec<Recorded> {
        self.shared.announcer.recorded(after)
    }

    /// Every peer, as `SAPWOOD PEERS` shows them.
    pub(crate) fn peers(&self) -> Vec<PeerStatus> {
        self.shared.status()
    }

    /// Ends every task at once; nothing is drained.
    pub(crate) fn abandon(&self) {
        self.shared.draining.cancel();
        self.shared.stop.cancel();
        self.shared.announcer.close();
    }
}

impl Drop for Replication {
    /// A node dropped without a shutdown leaves no task behind.
    fn drop(&mut self) {
        self.abandon();
    }
}

async fn accept(shared: Arc<Shared>, mut listener: Box<dyn Listener>, handshakes: usize) {
    let handshakes = Arc::new(Semaphore::new(handshakes.min(MAX_HANDSHAKES)));
    let (crowds, faults) = (LogLimit::new(LogLimit::ONE), LogLimit::new(LogLimit::ONE));
    loop {
        match listener.accept().await {
            Ok((stream, remote)) => {
                let Ok(permit) = Arc::clone(&handshakes).try_acquire_owned() else {
                    crowds.write(Instant::now(), |left_out| {
                        tracing::warn!(%remote, left_out, "too many peers at their hellos: connection closed");
                    });
                    continue;
                };
                let serving = Arc::clone(&shared);
                shared.spawn(&shared.stop, async move {
                    connect::accepted(&serving, stream, remote, permit).await;
                });
            }
            Err(error) => {
                faults.write(Instant::now(), |left_out| {
                    tracing::warn!(%error, left_out, "cannot accept a peer");
                });
                sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}

#[cfg(test)]
mod tests;
