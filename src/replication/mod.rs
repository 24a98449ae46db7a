//! Replication: links to every peer, pushes of local changes, syncs for what the pushes missed.
//!
//! ```text
//!   store.feed --> push --> queue of each link --> link --> peer
//!                                                   ^
//!   dial, accept --> connect (handshake) -----------+--> merge into the store
//!                      replica, peers: who is linked, and why not
//! ```
//!
//! Pure parts: [`replica`] decides about connections, links and commands, [`hello`] judges a peer, [`session`] runs the
//! protocol with one, [`sync`] compares and exchanges states, [`members`] tracks what each member has incorporated and
//! computes the stable time, [`message`] and [`codec`] are the wire format. The simulation runs these very parts. The
//! rest moves bytes and reads the clock. Invariants:
//!
//! * A local writer never waits for a peer: it appends its changes to the feed and continues.
//! * There is one link per pair of nodes, whichever of the two dialled.
//! * A link is registered for pushes before its first sync starts, so no change falls between the two.
//! * Locks are taken in this order: a link's session; the members; the ranges of the store. Those of a queue, of the write
//!   acknowledgements and of the lost writes come last, and the table of peers is locked with none of these held. Debug
//!   builds panic if two locks are ever taken in both orders.
//! * A received frame is merged only after the whole frame was checked and the clock has moved past its
//!   timestamps.

mod announce;
mod back_off;
mod cells;
mod codec;
mod connect;
mod dial;
mod drain;
mod faults;
mod figures;
mod frames;
mod healing;
mod heartbeat;
mod hello;
mod joining;
mod key_query;
mod link;
mod link_error;
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
mod replica;
mod session;
#[cfg(any(test, feature = "simulation"))]
#[cfg_attr(not(feature = "simulation"), expect(unreachable_pub, reason = "public for the example `soak`"))]
pub mod simulation;
mod status;
mod sync;
mod tokens;
mod tombstones;
mod traffic;
mod upkeep;
mod verification;
mod write_acks;
mod wrong_port;

use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use tokio::sync::{Semaphore, watch};
use tokio::time::{Instant, timeout};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use announce::Announcer;
use codec::FrameError;
pub use drain::ShutdownReport;
use faults::Faults;
pub(crate) use hello::Identity;
use hello::Refused;
use joining::Joining;
use key_query::KeyQueries;
use link_error::LinkError;
pub(crate) use local::HealingConfig;
use local::Local;
use lost::LostFile;
use members::MembershipConfig;
use peers::{Admitted, Link, Peers};
use publish::Messages;
use replica::Replica;
use session::Finished;
use sync::SyncFailed;
use verification::Verifications;
use wrong_port::LoggedClients;

use crate::accept::Acceptor;
use crate::cluster::{EventKind, PeerState, Subscribers};
use crate::env::{Env, Listener};
use crate::log_limit::LogLimit;
use crate::model::Incarnation;
use crate::stats::Stats;
use crate::store::Store;
use crate::tls::PeerTls;

/// The most accepted connections that may be in their handshake at one time.
const MAX_HANDSHAKES: usize = 64;

/// How long a starting node waits for its first peer before it serves clients: timestamps that it gave out
/// before a restart may be later than its clock.
const FIRST_CONTACT: Duration = Duration::from_secs(1);

/// The state that every part of replication shares.
struct Shared {
    replica: Replica,
    env: Arc<dyn Env>,
    announcer: Announcer,
    faults: Faults,
    /// Clients that have sent another protocol to the peer port.
    wrong_clients: LoggedClients,
    /// Authenticates the other side of every connection; `None` accepts everyone.
    tls: Option<Arc<PeerTls>>,
    /// The port that these clients should use.
    client_port: Option<u16>,
    lost: LostFile,
    verifications: Verifications,
    /// What clients have published and the links have yet to send.
    messages: Messages,
    subscribers: OnceLock<Arc<dyn Subscribers>>,
    /// Key queries to the peers that wait for replies.
    queries: KeyQueries,
    /// Client statistics of this node, which heartbeats send to the peers.
    stats: Arc<Stats>,
    started: Instant,
    joining: watch::Sender<Joining>,
    /// Whether `joining` is [`Joining::Fetching`]: an atomic, because it is read before every batch of
    /// requests.
    fetching: AtomicBool,
    /// Whether peers may have this node's address from an earlier run: its port was given, not picked by the
    /// system.
    known_address: bool,
    /// Whether the node is shutting down. It may still wait until a peer holds its writes.
    stopping: AtomicBool,
    /// Cancelled when no new links may begin: the node neither dials nor accepts.
    draining: CancellationToken,
    /// Cancelled when the node begins to stop; replication goes on until it was drained.
    node_stops: CancellationToken,
    /// Cancelled to end every task.
    stop: CancellationToken,
    /// Cancelled when another node has taken this node's name: this node must stop.
    superseded: CancellationToken,
    tracker: TaskTracker,
    /// For tasks that start others.
    itself: std::sync::Weak<Shared>,
}

impl Shared {
    /// Starts to dial an address received from a peer, unless it is being dialled already.
    fn dial(&self, target: &str) {
        self.start_dialling(target, true);
    }

    fn start_dialling(&self, target: &str, learnt: bool) {
        if self.replica.add_target(target, Instant::now()) {
            self.keep_linked(target.to_owned(), learnt);
        }
    }

    /// Starts to dial an address that has just been added to the table.
    fn keep_linked(&self, target: String, learnt: bool) {
        let Some(shared) = self.itself.upgrade() else { return };
        let dialling = dial::keep_linked(Arc::clone(&shared), target, learnt);
        shared.spawn(&shared.stop, dialling);
    }

    /// Returns the links that are not cut.
    fn open_links(&self) -> Vec<Arc<Link>> {
        let mut links = self.replica.peers.links();
        links.retain(|link| !self.faults.cuts(&link.peer));
        links
    }

    /// Shows a connection that has become the link to a peer.
    fn announce_link(&self, Admitted { link, replaced }: &Admitted) {
        let (peer, remote, direction) = (&link.peer, link.remote(), link.direction().as_str());
        let address = &link.advertise;
        tracing::info!(%peer, state = "joining", address, %remote, direction, "peer linked");
        if replaced.is_none() {
            self.announcer.announce(EventKind::Up, peer, "");
        }
    }

    /// Ends a link whose connection has ended, and shows it if the peer is unlinked now.
    fn unlink(&self, link: &Link, error: &LinkError) {
        if !self.replica.close(link, error, || self.heartbeat(), Instant::now()) {
            return;
        }
        let (peer, state, reason) = (&link.peer, error.state().as_str(), &*error.to_string());
        if error.is_loss() {
            tracing::warn!(%peer, state, reason, "peer unlinked");
        } else {
            tracing::info!(%peer, state, reason, "peer unlinked");
        }
        self.announcer.announce(EventKind::Down, peer, reason);
        self.verifications.fail(peer, reason);
    }

    /// Records that a node was refused, or refused this one, and shows it if that is new.
    fn refused(&self, name: &str, incarnation: Option<Incarnation>, address: &str, refused: &Refused) {
        let news = self.replica.peers.refused(name, incarnation, address, refused, Instant::now());
        let Some(state) = news.map(PeerState::as_str) else { return };
        tracing::warn!(peer = name, state, address, reason = refused.text, "peer refused");
        self.announcer.announce(EventKind::Refused, name, format!("{state}: {}", refused.text));
    }

    /// Records the end of a sync over `link`.
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
        if first {
            tracing::info!(peer = %link.peer, state = "linked", "holding all of the peer's state");
        }
        if first || healed {
            let moved = format!("{cells_in} cells in, {cells_out} out, in {took:.1?}");
            self.announcer.announce(EventKind::Healed, &link.peer, moved);
        }
    }

    fn failed(&self, link: &Link, deep: bool, why: &SyncFailed) {
        match why {
            SyncFailed::RetractionLimit => tracing::error!(peer = %link.peer, %why, "a sync was given up"),
            _ => tracing::warn!(peer = %link.peer, %why, "a sync was given up"),
        }
        if deep {
            self.verifications.fail(&link.peer, &why.to_string());
        }
    }

    /// Counts a damaged frame, if that is what ended a connection.
    fn count_damage(&self, error: &LinkError) {
        if let LinkError::Frame(FrameError::Damaged) = error {
            self.replica.local.counts.damaged_frames.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Runs a task until it ends or `until` is cancelled.
    fn spawn(&self, until: &CancellationToken, task: impl Future<Output = ()> + Send + 'static) {
        let until = until.clone();
        self.tracker.spawn(async move { until.run_until_cancelled(task).await });
    }
}

/// The parameters that replication starts with.
pub(crate) struct Setup {
    pub(crate) store: Arc<Store>,
    pub(crate) stats: Arc<Stats>,
    pub(crate) env: Arc<dyn Env>,
    pub(crate) own: Identity,
    pub(crate) incarnation: Incarnation,
    /// Authenticates the other side of every connection; `None` accepts everyone.
    pub(crate) tls: Option<Arc<PeerTls>>,
    pub(crate) healing: HealingConfig,
    pub(crate) join: Vec<String>,
    /// The port on which this node serves clients, if it does.
    pub(crate) client_port: Option<u16>,
    /// Whether peers may have this node's address from an earlier run.
    pub(crate) known_address: bool,
    /// The most bytes of pushes that may wait for one peer.
    pub(crate) queue_limit: usize,
    pub(crate) lost_file: Option<PathBuf>,
    pub(crate) enable_faults: bool,
    /// How long a node without links waits for a peer before it reports itself ready.
    pub(crate) ready_alone_after: Duration,
    /// The most accepted connections that may be in their handshake at one time, up to [`MAX_HANDSHAKES`].
    pub(crate) handshakes: usize,
    /// Cancelled when the node begins to stop: it is [draining](crate::cluster::NodeState::Draining) from then on.
    pub(crate) node_stops: CancellationToken,
}

/// The running replication of one node.
pub(crate) struct Replication {
    shared: Arc<Shared>,
}

impl Replication {
    /// Starts to accept peers on `listener`, if it is given, and to dial the addresses in `join`.
    pub(crate) fn start(setup: Setup, listener: Option<Box<dyn Listener>>) -> std::io::Result<Self> {
        let Setup {
            store,
            stats,
            env,
            own,
            incarnation,
            tls,
            healing,
            join,
            client_port,
            known_address,
            queue_limit,
            lost_file,
            enable_faults,
            ready_alone_after,
            handshakes,
            node_stops,
        } = setup;
        let lost = LostFile::open(lost_file.as_deref())?;
        let membership =
            MembershipConfig { name: own.name.clone(), incarnation, forget_after: healing.forget_after };
        let now = store.now(env.wall_clock());
        let shared = Arc::new_cyclic(|itself| Shared {
            replica: Replica::new(Local::new(store, healing, membership, now), Peers::new(own, queue_limit)),
            announcer: Announcer::new(Arc::clone(&env)),
            env,
            faults: Faults::new(enable_faults),
            wrong_clients: LoggedClients::default(),
            tls,
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
            node_stops,
            stop: CancellationToken::new(),
            superseded: CancellationToken::new(),
            tracker: TaskTracker::new(),
            itself: itself.clone(),
        });
        let pusher = Arc::downgrade(&shared);
        shared.replica.local.store.feed().open(move || {
            if let Some(shared) = pusher.upgrade() {
                shared.replica.try_push();
            }
        });
        shared.spawn(&shared.stop, push::run(Arc::clone(&shared)));
        shared.spawn(&shared.stop, upkeep::tick(Arc::clone(&shared)));
        shared.spawn(&shared.stop, upkeep::sweep(Arc::clone(&shared)));
        shared.spawn(&shared.stop, upkeep::evict(Arc::clone(&shared)));
        shared.spawn(&shared.stop, upkeep::limit_tombstones(Arc::clone(&shared)));
        if let Some(listener) = listener {
            shared.spawn(&shared.draining, accept(Arc::clone(&shared), listener, handshakes));
        }
        for target in &join {
            shared.start_dialling(target, false);
        }
        shared.spawn(&shared.stop, joining::publish_until_joined(Arc::clone(&shared), ready_alone_after));
        Ok(Replication { shared })
    }

    /// Waits until a peer has answered or all were tried, for at most a second. The clock is then past every
    /// timestamp that this node gave out before it was restarted.
    pub(crate) async fn first_contact(&self) {
        let peers = &self.shared.replica.peers;
        let mut changes = peers.changes();
        let contacted = async { while !peers.is_contacted() && changes.changed().await.is_ok() {} };
        let _ = timeout(FIRST_CONTACT, contacted).await;
        self.shared.look_at_joining();
    }

    /// Returns a token that is cancelled when another node has taken this node's name.
    pub(crate) fn superseded(&self) -> CancellationToken {
        self.shared.superseded.clone()
    }

    /// Resolves once this node is no longer joining, or replication ends.
    ///
    /// # Errors
    /// The reason why the reached peers refuse this node, if that has lasted; or that replication has stopped.
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

    /// Delivers what the peers' clients publish to `subscribers`. Only the first call has an effect; until then
    /// such messages are dropped.
    pub(crate) fn set_subscribers(&self, subscribers: Arc<dyn Subscribers>) {
        let _ = self.shared.subscribers.set(subscribers);
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

async fn accept(shared: Arc<Shared>, listener: Box<dyn Listener>, handshakes: usize) {
    let handshakes = Arc::new(Semaphore::new(handshakes.min(MAX_HANDSHAKES)));
    let crowds = LogLimit::new(LogLimit::ONE);
    let mut acceptor = Acceptor::new(listener, "cannot accept a peer");
    loop {
        let (stream, remote) = acceptor.next().await;
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
}

#[cfg(test)]
mod tests;
