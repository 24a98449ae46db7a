//! The JSON API of the page. `docs/http.md` and `openapi.json` describe it.

mod bytes;
mod demo;
mod faults;
mod key;
mod keys;
mod query;
mod ranges;
mod sampler;
mod status;
mod stream;
mod write;

use std::sync::Arc;

use axum::Router;
use axum::http::header;
use axum::routing::{get, post};

use super::state::App;

/// The machine-readable description of the API.
const OPEN_API: &str = include_str!("openapi.json");

pub(super) fn routes() -> Router<Arc<App>> {
    let open_api = || async { ([(header::CONTENT_TYPE, "application/json")], OPEN_API) };
    Router::new()
        .route("/api/openapi.json", get(open_api))
        .route("/api/status", get(status::show))
        .route("/api/events", get(status::events))
        .route("/api/keys", get(keys::show))
        .route("/api/key", get(key::show))
        .route("/api/ranges", get(ranges::show))
        .route("/api/stream", get(stream::show))
        .route("/api/write", post(write::write))
        .route("/api/delete", post(write::delete))
        .route("/api/incr", post(write::incr))
        .route("/api/random-incr", post(write::random_incr))
        .route("/api/cut", post(faults::cut))
        .route("/api/mend", post(faults::mend))
        .route("/api/demo/stop", post(demo::stop))
        .route("/api/demo/start", post(demo::start))
        .route("/api/demo/add", post(demo::add))
        .route("/api/demo/load", post(demo::load))
}
