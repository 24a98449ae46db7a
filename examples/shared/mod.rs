//! What the examples share.
#![allow(dead_code, reason = "each example uses its own part")]

use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use anyhow::{Result, bail};
use sapwood::Node;
use sapwood::status::PeerState;
use tokio::time::{Instant, sleep};

/// How long anything may take in an example: a link that is cut is given up after a few seconds.
const PATIENCE: Duration = Duration::from_secs(30);

/// An address of this host on which the system chooses the port.
pub(crate) fn any_port() -> SocketAddr {
    (Ipv4Addr::LOCALHOST, 0).into()
}

/// How many others a node is linked to.
pub(crate) fn linked(node: &Node) -> usize {
    node.peers().iter().filter(|peer| peer.state == PeerState::Linked).count()
}

/// Waits until a condition holds, for a while.
pub(crate) async fn until(what: &str, mut condition: impl FnMut() -> bool) -> Result<()> {
    let started = Instant::now();
    while !condition() {
        if started.elapsed() > PATIENCE {
            bail!("not within {PATIENCE:?}: {what}");
        }
        sleep(Duration::from_millis(2)).await;
    }
    Ok(())
}
