//! Starts and stops the nodes of a demonstration.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use serde::Deserialize;
use serde_json::{Value, json};

use super::query::Sent;
use crate::http::host::DemoControl;
use crate::http::problem::Problem;
use crate::http::state::App;

/// Most keys that one request loads.
const MAX_COUNT: u64 = 10_000_000;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Which {
    node: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Load {
    node: String,
    prefix: String,
    count: u64,
}

fn of(app: &App) -> Result<&dyn DemoControl, Problem> {
    app.host
        .demo()
        .ok_or_else(|| Problem::unknown("this is no demonstration: its nodes are not started from here"))
}

pub(super) async fn stop(
    State(app): State<Arc<App>>,
    Sent(which): Sent<Which>,
) -> Result<StatusCode, Problem> {
    of(&app)?.stop(&which.node).await?;
    Ok(StatusCode::NO_CONTENT)
}

pub(super) async fn start(
    State(app): State<Arc<App>>,
    Sent(which): Sent<Which>,
) -> Result<StatusCode, Problem> {
    of(&app)?.start(&which.node).await?;
    Ok(StatusCode::NO_CONTENT)
}

pub(super) async fn add(State(app): State<Arc<App>>) -> Result<Json<Value>, Problem> {
    let node = of(&app)?.add().await?;
    Ok(Json(json!({ "node": node })))
}

pub(super) async fn load(State(app): State<Arc<App>>, Sent(load): Sent<Load>) -> Result<StatusCode, Problem> {
    let demo = of(&app)?;
    if load.count > MAX_COUNT {
        return Err(Problem::bad(format!("count is at most {MAX_COUNT}")));
    }
    demo.load(&load.node, &load.prefix, load.count).await?;
    Ok(StatusCode::NO_CONTENT)
}
