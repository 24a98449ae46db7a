//! `/api/ranges`: the ranges of keys that differ between two nodes.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::{Deserialize, Serialize};

use super::query::Asked;
use crate::http::problem::Problem;
use crate::http::state::App;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Query {
    from: String,
    to: String,
}

/// One bit for each range.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub(super) struct Map {
    from: String,
    to: String,
    known: &'static str,
    bits: String,
}

pub(super) async fn show(
    State(app): State<Arc<App>>,
    Asked(Query { from, to }): Asked<Query>,
) -> Result<Json<Map>, Problem> {
    let unknown =
        || Problem::unknown(format!("{from:?} and {to:?} are not two linked nodes that are known here"));
    Map::of(&app, &from, &to).ok_or_else(unknown).map(Json)
}

impl Map {
    /// Compares the stores if both nodes are in this process; else uses the findings of the sync under way. `None` if
    /// neither is possible.
    pub(super) fn of(app: &App, from: &str, to: &str) -> Option<Map> {
        let apis = app.host.nodes();
        let api = |name: &str| apis.iter().find(|api| api.name == name);
        let (known, bits) = match (api(from), api(to)) {
            (Some(one), Some(other)) => {
                let count = one.store.range_count();
                let mut bits = vec![0u8; count.div_ceil(8)];
                let differing =
                    (0..count).filter(|&r| one.store.live_digest(r) != other.store.live_digest(r));
                differing.for_each(|range| bits[range / 8] |= 1 << (range % 8));
                ("stores", bits)
            }
            (Some(one), None) => ("sync", one.cluster.differing(to)?),
            (None, Some(other)) => ("sync", other.cluster.differing(from)?),
            (None, None) => return None,
        };
        Some(Map { from: from.to_owned(), to: to.to_owned(), known, bits: STANDARD.encode(bits) })
    }
}
