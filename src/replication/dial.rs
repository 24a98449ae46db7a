//! Dials every address given to `--join` or received from a peer until it is linked.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use tokio::time::{Instant, sleep, timeout};
use tokio_util::sync::CancellationToken;

use super::Shared;
use super::back_off::{BackOff, CONNECT_LIMIT};
use super::connect::{self, Ended};
use super::faults::EVERYONE;
use super::link_error::LinkError;
use super::peers::TargetOutcome;

/// A link that lasted at least this long resets the pauses.
const GOOD_LINK: Duration = Duration::from_secs(10);

/// The most addresses of one name that are dialled.
const MAX_ADDRESSES: usize = 64;

/// Keeps links to all addresses that `target` resolves to, until the node stops or, for a learnt address, its
/// peer leaves.
pub(super) async fn keep_linked(shared: Arc<Shared>, target: String, learnt: bool) {
    let mut dialled: HashMap<SocketAddr, CancellationToken> = HashMap::new();
    let mut back_off = BackOff::new();
    loop {
        match resolve(&shared, &target).await {
            Ok(mut addresses) => {
                addresses.sort_unstable();
                addresses.dedup();
                addresses.truncate(MAX_ADDRESSES);
                shared.replica.peers.resolved(&target, &addresses);
                dialled.retain(|address, gone| {
                    let still_named = addresses.contains(address);
                    if !still_named {
                        gone.cancel();
                    }
                    still_named
                });
                for address in addresses {
                    dialled.entry(address).or_insert_with(|| {
                        let gone = shared.stop.child_token();
                        let dialling = dial(Arc::clone(&shared), target.clone(), address);
                        shared.spawn(&gone, dialling);
                        gone
                    });
                }
                back_off = BackOff::longest();
            }
            Err(reason) => {
                note_outcome(&shared, &target, TargetOutcome::Unreachable(reason));
                shared.replica.peers.resolved(&target, &[]);
            }
        }
        if shared.draining.run_until_cancelled(sleep(back_off.next(shared.env.random()))).await.is_none() {
            return;
        }
        if learnt && shared.replica.peers.has_left(&target) {
            shared.replica.peers.remove_target(&target);
            dialled.into_values().for_each(|gone| gone.cancel());
            return;
        }
    }
}

async fn resolve(shared: &Shared, target: &str) -> Result<Vec<SocketAddr>, String> {
    match timeout(CONNECT_LIMIT, shared.env.resolve(target)).await {
        Ok(Ok(addresses)) if addresses.is_empty() => Err("the name has no address".into()),
        Ok(Ok(addresses)) => Ok(addresses),
        Ok(Err(error)) => Err(format!("cannot resolve the name: {error}")),
        Err(_) => Err("resolving the name timed out".into()),
    }
}

/// Whether all peers are cut, or one that is known at this address.
fn is_cut(shared: &Shared, target: &str, address: SocketAddr) -> bool {
    shared.faults.cuts(EVERYONE)
        || shared.replica.peers.names_at(target, address).iter().any(|name| shared.faults.cuts(name))
}

/// Records the outcome of dialling an address, and logs it if it is new and means that no node was found.
fn note_outcome(shared: &Shared, address: &str, outcome: TargetOutcome) {
    if !shared.replica.peers.set_target(address, outcome.clone(), Instant::now()) {
        return;
    }
    match outcome {
        TargetOutcome::Unreachable(reason) => {
            tracing::info!(address, state = "down", reason, "cannot reach a peer");
        }
        TargetOutcome::NotAPeer(reason) => {
            tracing::warn!(address, state = "down", reason, "not a peer's address");
        }
        TargetOutcome::Untrusted(reason) => {
            tracing::warn!(address, state = "untrusted", reason, "a peer is not authenticated");
        }
        TargetOutcome::Known => {}
    }
}

/// Keeps a link to one address.
async fn dial(shared: Arc<Shared>, target: String, address: SocketAddr) {
    let mut back_off = BackOff::new();
    let mut changes = shared.replica.peers.changes();
    let mut faults = shared.faults.changes();
    let first = AtomicBool::new(true);
    let note = |outcome| {
        note_outcome(&shared, &target, outcome);
        if first.swap(false, Ordering::Relaxed) {
            shared.replica.peers.tried(&target);
        }
    };
    loop {
        while shared.replica.peers.is_linked_at(&target) {
            note(TargetOutcome::Known);
            if changes.changed().await.is_err() {
                return;
            }
        }
        if shared.draining.is_cancelled() {
            return;
        }
        let started = Instant::now();
        let connecting = async {
            // A connection that is cut is not opened: the other end must not receive it.
            if is_cut(&shared, &target, address) { None } else { Some(shared.env.connect(address).await) }
        };
        let ended = match timeout(CONNECT_LIMIT, connecting).await {
            Ok(None) => Ended::Failed(LinkError::Cut.to_string()),
            Ok(Some(Ok(stream))) => {
                let linked = |incarnation| {
                    note(TargetOutcome::Known);
                    shared.replica.peers.found_at(&target, address, incarnation);
                };
                connect::dialled(&shared, stream, address, &target, linked).await
            }
            Ok(Some(Err(error))) => Ended::Failed(error.to_string()),
            Err(_) => Ended::Failed("connecting timed out".into()),
        };
        match ended {
            Ended::Unlinked if started.elapsed() > GOOD_LINK => back_off = BackOff::new(),
            Ended::Unlinked => {}
            Ended::Itself => {
                let own = shared.replica.local.members.lock().incarnation();
                shared.replica.peers.found_at(&target, address, own);
                return note(TargetOutcome::Known);
            }
            Ended::LinkedElsewhere(incarnation) => {
                shared.replica.peers.found_at(&target, address, incarnation);
                note(TargetOutcome::Known);
                while shared.replica.peers.is_linked(incarnation) {
                    if changes.changed().await.is_err() {
                        return;
                    }
                }
            }
            Ended::Refused => note(TargetOutcome::Known),
            Ended::Failed(reason) => note(TargetOutcome::Unreachable(reason)),
            Ended::NotAPeer(reason) => note(TargetOutcome::NotAPeer(reason)),
            Ended::Untrusted(reason) => {
                if shared.replica.peers.distrusted(&target, address, &reason) {
                    tracing::warn!(address = target, reason, "a peer is not authenticated any more");
                }
                note(TargetOutcome::Untrusted(reason));
            }
        }
        let pause = back_off.next(shared.env.random());
        let waited = async {
            tokio::select! {
                () = sleep(pause) => {}
                // A cut may have been mended.
                Ok(()) = faults.changed() => back_off = BackOff::new(),
            }
        };
        if shared.draining.run_until_cancelled(waited).await.is_none() {
            return;
        }
    }
}
