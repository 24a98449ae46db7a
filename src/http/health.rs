//! Health checks: whether the process is alive, and whether the node is ready.

use std::sync::Arc;
use std::time::Duration;

use axum::extract::{Query, State};
use axum::http::StatusCode;
use serde::Deserialize;

use super::host::NodeApi;
use super::problem::Problem;
use super::state::App;
use crate::cluster::NodeState;
use crate::config::Span;

/// Bytes of a write that a ready node must have memory for: about one ordinary key and value.
const ORDINARY_WRITE: u64 = 256;

/// Further conditions of `/readyz`.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Goals {
    /// The longest lag of a linked peer's acknowledgements, such as `500ms`.
    max_lag: Option<String>,
    /// Most ranges that may differ from a linked peer's.
    max_differs: Option<u64>,
    /// Fewest peers that must be linked.
    min_linked: Option<usize>,
    /// The name of the node, if there are several.
    node: Option<String>,
}

/// Answers that the process is alive.
pub(super) async fn alive() -> &'static str {
    "ok\n"
}

/// Answers whether the node has joined, takes writes and meets the conditions.
pub(super) async fn ready(
    State(app): State<Arc<App>>,
    goals: Result<Query<Goals>, axum::extract::rejection::QueryRejection>,
) -> Result<&'static str, Problem> {
    let Query(goals) = goals.map_err(|error| Problem::bad(error.body_text()))?;
    let max_lag = goals.max_lag.map(|text| text.parse::<Span>()).transpose();
    let max_lag = max_lag.map_err(|error| Problem::bad(format!("max_lag: {error}")))?.map(|span| span.0);
    let api = app.api(goals.node.as_deref())?;
    match why_not(&api).or_else(|| misses(&api, max_lag, goals.max_differs, goals.min_linked)) {
        None => Ok("ready\n"),
        Some(reason) => Err(Problem::new(StatusCode::SERVICE_UNAVAILABLE, reason)),
    }
}

/// Why a node is not ready; `None` if it is. The store decides whether it takes writes.
pub(super) fn why_not(api: &NodeApi) -> Option<String> {
    match api.cluster.state() {
        NodeState::Joining => {
            return Some(format!("joining: {}", api.cluster.joining_reason().unwrap_or_default()));
        }
        NodeState::Full => return Some("full: data of a peer was refused for want of memory".into()),
        NodeState::Draining => return Some("draining: the node is shutting down".into()),
        NodeState::Ready => {}
    }
    api.store.check_write(ORDINARY_WRITE).err().map(|error| format!("it takes no writes: {error}"))
}

/// The condition that a node does not meet, if any.
fn misses(
    api: &NodeApi,
    max_lag: Option<Duration>,
    max_differs: Option<u64>,
    min_linked: Option<usize>,
) -> Option<String> {
    let mut linked = api.cluster.peers();
    linked.retain(|peer| peer.state.is_linked());
    if let Some(least) = min_linked.filter(|least| linked.len() < *least) {
        return Some(format!("linked to {} peers, fewer than {least}", linked.len()));
    }
    linked.iter().find_map(|peer| {
        if let Some(limit) = max_lag.filter(|limit| peer.lag > *limit) {
            return Some(format!("{} lags by {:?}, more than {limit:?}", peer.name, peer.lag));
        }
        let limit = max_differs.filter(|limit| peer.ranges_differing > *limit)?;
        Some(format!(
            "{} ranges differ from those of {}, more than {limit}",
            peer.ranges_differing, peer.name
        ))
    })
}
