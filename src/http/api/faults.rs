//! Cuts and mends links, for people who want to see the effect.

use std::sync::Arc;

use axum::extract::State;
use axum::http::StatusCode;
use serde::Deserialize;

use super::query::Sent;
use crate::cluster::Way;
use crate::http::problem::Problem;
use crate::http::state::App;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Fault {
    node: Option<String>,
    peer: String,
    way: Option<WireWay>,
}

#[derive(Clone, Copy, Deserialize)]
#[serde(rename_all = "lowercase")]
enum WireWay {
    In,
    Out,
    Both,
}

impl Fault {
    fn way(&self) -> Way {
        match self.way {
            Some(WireWay::In) => Way::In,
            Some(WireWay::Out) => Way::Out,
            Some(WireWay::Both) | None => Way::Both,
        }
    }
}

pub(super) async fn cut(
    State(app): State<Arc<App>>,
    Sent(fault): Sent<Fault>,
) -> Result<StatusCode, Problem> {
    app.api(fault.node.as_deref())?.cluster.cut(&fault.peer, fault.way())?;
    Ok(StatusCode::NO_CONTENT)
}

pub(super) async fn mend(
    State(app): State<Arc<App>>,
    Sent(fault): Sent<Fault>,
) -> Result<StatusCode, Problem> {
    app.api(fault.node.as_deref())?.cluster.mend(&fault.peer, fault.way())?;
    Ok(StatusCode::NO_CONTENT)
}
