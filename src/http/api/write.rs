//! Writes from the page, to database 0: through the same store and by the same rules as those of any client.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use serde::Deserialize;
use serde_json::{Value, json};

use super::bytes::Given;
use super::query::Sent;
use crate::http::host::NodeApi;
use crate::http::problem::Problem;
use crate::http::state::App;
use crate::model::{Database, Deadline, Time};
use crate::store::{Batch, Live, Write, increment};

/// Most random increments in one request.
const MAX_TIMES: u64 = 100_000;

/// The task yields after this many increments.
const STEP: u64 = 256;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Put {
    node: Option<String>,
    key: Given,
    value: Given,
    ttl_ms: Option<u64>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Delete {
    node: Option<String>,
    key: Given,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Incr {
    node: Option<String>,
    key: Given,
    by: Option<i64>,
    set: Option<i64>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RandomIncr {
    key: Given,
    times: u64,
}

pub(super) async fn write(State(app): State<Arc<App>>, Sent(put): Sent<Put>) -> Result<StatusCode, Problem> {
    let api = app.api(put.node.as_deref())?;
    let (key, value) = (put.key.bytes()?, put.value.bytes()?);
    let deadline = |now| put.ttl_ms.map(|ttl| Deadline::after(now, Duration::from_millis(ttl)));
    apply(&api, &key, |now, _| (Write::Set { value: &value, deadline: deadline(now) }, ()))?;
    Ok(StatusCode::NO_CONTENT)
}

pub(super) async fn delete(
    State(app): State<Arc<App>>,
    Sent(delete): Sent<Delete>,
) -> Result<Json<Value>, Problem> {
    let api = app.api(delete.node.as_deref())?;
    let deleted = apply(&api, &delete.key.bytes()?, |_, live| (Write::Delete, live.is_some()))?;
    Ok(Json(json!({ "deleted": deleted })))
}

pub(super) async fn incr(
    State(app): State<Arc<App>>,
    Sent(incr): Sent<Incr>,
) -> Result<Json<Value>, Problem> {
    let api = app.api(incr.node.as_deref())?;
    let key = incr.key.bytes()?;
    let value = match (incr.by, incr.set) {
        (Some(by), None) => add(&api, &key, by)?,
        (None, Some(to)) => {
            let value = to.to_string();
            apply(&api, &key, |_, _| (Write::Set { value: value.as_bytes(), deadline: None }, ()))?;
            to
        }
        _ => return Err(Problem::bad("say by or set, one of the two")),
    };
    Ok(Json(json!({ "value": value.to_string() })))
}

pub(super) async fn random_incr(
    State(app): State<Arc<App>>,
    Sent(RandomIncr { key, times }): Sent<RandomIncr>,
) -> Result<Json<Value>, Problem> {
    if times > MAX_TIMES {
        return Err(Problem::bad(format!("times is at most {MAX_TIMES}")));
    }
    let (apis, key) = (app.host.nodes(), key.bytes()?);
    let mut added: BTreeMap<String, i64> = apis.iter().map(|api| (api.name.clone(), 0)).collect();
    for n in 0..times {
        let random = app.options.env.random();
        let pick = usize::try_from(random >> 32).unwrap_or(0).checked_rem(apis.len());
        let Some(api) = pick.and_then(|pick| apis.get(pick)) else {
            return Err(Problem::unknown("no node runs"));
        };
        let by = i64::try_from(random % 10).unwrap_or(0) + 1;
        add(api, &key, by)?;
        added.entry(api.name.clone()).and_modify(|sum| *sum += by);
        if n % STEP == STEP - 1 {
            tokio::task::yield_now().await;
        }
    }
    Ok(Json(json!({ "added": added })))
}

/// Adds to this node's slot of a counter; returns the counter's value there.
fn add(api: &NodeApi, key: &[u8], by: i64) -> Result<i64, Problem> {
    Ok(apply(api, key, |_, live| increment(live, by))??)
}

/// Applies the write that `decide` returns for the present time and the cell, and passes it to the peers.
fn apply<'v, T>(
    api: &NodeApi,
    key: &[u8],
    decide: impl FnOnce(Time, Option<Live<'_>>) -> (Write<'v>, T),
) -> Result<T, Problem> {
    let mut batch = Batch::default();
    api.store.begin(&mut batch, api.env.wall_clock());
    let now = batch.now();
    let key = Database::ZERO.stored(key);
    let outcome = api.store.write(&mut batch, &key, |live| decide(now, live))?;
    api.store.publish(&mut batch);
    Ok(outcome)
}
