//! Replication: links to every peer, pushes of what is written here, rounds for what was missed.
//!
//! ```text
//!   store.feed --> push --> queue of each link --> link --> peer
//!                                                   ^
//!   dial, accept --> connect (hello, judge) --------+--> merge into the store
//!                      peers: who is linked, and why not
//! ```
//!
//! Pure parts: [`hello`] judges a peer, [`round`] exchanges states, [`message`] and [`codec`] are the wire.
//! The rest moves bytes. Invariants:
//!
//! * A local writer never waits for a peer: it hands its changes to the feed and goes on.
//! * There is one link a pair of daemons, whoever dialled.
//! * A link is registered for pushes before its first round starts, so nothing falls between the two.
//! * Nothing received is merged before all of its frame was checked and the clock has moved past it.

mod codec;
mod connect;
mod dial;
mod frames;
mod hello;
mod link;
mod message;
mod peers;
mod push;
mod queue;
mod refused;
mod round;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use tokio::sync::Semaphore;
use tokio::time::{Instant, sleep, timeout};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

pub(crate) use hello::Identity;
use message::Message;
use peers::Peers;

use crate::cluster::PeerStatus;
use crate::env::{Env, Listener};
use crate::store::Store;

/// How many accepted connections may be at their hellos at one time.
const MAX_HANDSHAKES: usize = 64;

/// The longest a daemon calls itself joining.
const JOIN_LIMIT: Duration = Duration::from_secs(30);

/// How long to wait before accepting again when the system refused to.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// How often a draining daemon looks whether a peer holds everything.
const DRAIN_POLL: Duration = Duration::from_millis(2);

/// How long goodbyes may take to leave.
const GOODBYE_LIMIT: Duration = Duration::from_millis(500);

/// What every part of replication shares.
struct Shared {
    store: Arc<Store>,
    env: Arc<dyn Env>,
    peers: Peers,
    /// One permit: one state is taken at a time.
    rounds: Semaphore,
    joined: AtomicBool,
    /// How many links have had to refuse data for want of memory, and have not got it since.
    refusing: AtomicUsize,
    /// From here on no new links: nobody is dialled or accepted.
    draining: CancellationToken,
    /// Ends every task.
    stop: CancellationToken,
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
        let Some(shared) = self.itself.upgrade() else { return };
        if shared.peers.own().advertise != target && shared.peers.add_target(target) {
            let dialling = dial::keep_linked(Arc::clone(&shared), target.to_owned(), learnt);
            shared.spawn(&shared.stop, dialling);
        }
    }

    /// Runs a task until it ends or `until` is cancelled.
    fn spawn(&self, until: &CancellationToken, task: impl Future<Output = ()> + Send + 'static) {
        let until = until.clone();
        self.tracker.spawn(async move { until.run_until_cancelled(task).await });
    }
}

/// The running replication of one daemon.
pub(crate) struct Replication {
    shared: Arc<Shared>,
}

impl Replication {
    /// Starts to accept peers on `listener` and to dial those in `join`.
    pub(crate) fn start(
        store: Arc<Store>,
        env: Arc<dyn Env>,
        own: Identity,
        listener: Box<dyn Listener>,
        join: &[String],
        queue_limit: usize,
    ) -> Self {
        let shared = Arc::new_cyclic(|itself| Shared {
            store,
            env,
            peers: Peers::new(own, queue_limit),
            rounds: Semaphore::new(1),
            joined: AtomicBool::new(false),
            refusing: AtomicUsize::new(0),
            draining: CancellationToken::new(),
            stop: CancellationToken::new(),
            tracker: TaskTracker::new(),
            itself: itself.clone(),
        });
        shared.store.feed().open();
        shared.spawn(&shared.stop, push::run(Arc::clone(&shared)));
        shared.spawn(&shared.draining, accept(Arc::clone(&shared), listener));
        for target in join {
            shared.start_dialling(target, false);
        }
        shared.spawn(&shared.stop, settle(Arc::clone(&shared)));
        Replication { shared }
    }

    /// Whether the first round with every peer that could be reached has finished.
    pub(crate) fn is_joined(&self) -> bool {
        self.shared.joined.load(Ordering::Relaxed)
    }

    /// Whether data of a peer was refused for want of memory and is still missing.
    pub(crate) fn is_refusing(&self) -> bool {
        self.shared.refusing.load(Ordering::Relaxed) > 0
    }

    /// Every peer, as `SAPWOOD PEERS` shows them.
    pub(crate) fn peers(&self) -> Vec<PeerStatus> {
        self.shared.peers.status()
    }

    /// Waits until a peer holds everything, at most `limit`; then says goodbye and ends all links.
    pub(crate) async fn drain(&self, limit: Duration) {
        let shared = &self.shared;
        let started = Instant::now();
        shared.draining.cancel();
        let held = async {
            while !shared.store.feed().is_empty() {
                sleep(DRAIN_POLL).await;
            }
            loop {
                let links = shared.peers.links();
                if links.is_empty() && shared.peers.expects_someone() {
                    tracing::warn!("stopping without a link to any peer: what they have not got is lost");
                }
                if links.is_empty() || links.iter().any(|link| link.queue.is_drained()) {
                    break;
                }
                sleep(DRAIN_POLL).await;
            }
        };
        if timeout(limit, held).await.is_err() {
            tracing::warn!(?limit, "stopping although no peer holds every write");
        }
        let links = shared.peers.links();
        for link in &links {
            link.queue.send(&Message::Goodbye);
        }
        // A peer closes when it has taken in all that came before the goodbye.
        let until = (started + limit).max(Instant::now() + GOODBYE_LIMIT);
        while Instant::now() < until && !shared.peers.links().is_empty() {
            sleep(DRAIN_POLL).await;
        }
        shared.stop.cancel();
        for link in links {
            link.stop.cancel();
        }
        shared.tracker.close();
        shared.tracker.wait().await;
    }
}

impl Drop for Replication {
    /// A node dropped without a shutdown leaves no task behind.
    fn drop(&mut self) {
        self.shared.draining.cancel();
        self.shared.stop.cancel();
    }
}

/// Calls the daemon joined once the first round with everyone reachable has finished, or after a time limit.
async fn settle(shared: Arc<Shared>) {
    let mut changes = shared.peers.changes();
    let settled = async { while !shared.peers.is_settled() && changes.changed().await.is_ok() {} };
    if timeout(JOIN_LIMIT, settled).await.is_err() {
        tracing::warn!(limit = ?JOIN_LIMIT, "serving although not every peer's state has been taken");
    }
    shared.joined.store(true, Ordering::Relaxed);
}

async fn accept(shared: Arc<Shared>, mut listener: Box<dyn Listener>) {
    let handshakes = Arc::new(Semaphore::new(MAX_HANDSHAKES));
    loop {
        match listener.accept().await {
            Ok((stream, remote)) => {
                let Ok(permit) = Arc::clone(&handshakes).try_acquire_owned() else {
                    tracing::warn!(%remote, "too many peers at their hellos: connection closed");
                    continue;
                };
                let serving = Arc::clone(&shared);
                shared.spawn(&shared.stop, async move {
                    connect::accepted(&serving, stream, remote, permit).await;
                });
            }
            Err(error) => {
                tracing::warn!(%error, "cannot accept a peer");
                sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}

#[cfg(test)]
mod tests;
