//! Accepts connections, enforces their limits, and closes them.

use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::DefaultBodyLimit;
use axum::http::StatusCode;
use axum::middleware;
use axum::routing::get;
use bytes::BytesMut;
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::sync::Semaphore;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::host::Host;
use super::problem::Problem;
use super::stall_limit::StallLimited;
use super::state::{App, MAX_BODY, Options};
use super::{api, guard, health, metrics, page};
use crate::accept::Acceptor;
use crate::config::DEFAULT_CLIENT_PORT;
use crate::env::{BoxStream, Listener};

/// Most connections at a time: a page takes one or two, a scraper and a health check one each. Further ones get a
/// 503.
pub(crate) const MAX_CONNECTIONS: usize = 256;

/// Most bytes of a request's head. It may contain a long key, up to the longest URL: 64 KiB.
const MAX_HEAD: usize = 128 << 10;

/// Most header fields of a request: browsers send about twenty.
const MAX_HEADERS: usize = 64;

/// Time limit for the arrival of a head, and for an idle connection between two requests.
const HEAD_LIMIT: Duration = Duration::from_secs(30);

/// Time limit for a client that reads nothing of a response.
const STALL_LIMIT: Duration = Duration::from_secs(30);

/// How long a stopping server waits for clients to read responses, and a client over the limit may take to read its
/// error: many times what a network needs, and too short to matter to an operator.
const DRAIN_LIMIT: Duration = Duration::from_millis(500);

/// Most bytes of a connection that are read to detect its protocol.
const FIRST_READ: usize = 16 << 10;

/// The response to a connection over the limit.
const FULL: &[u8] = b"HTTP/1.1 503 Service Unavailable\r\ncontent-length: 0\r\nconnection: close\r\n\r\n";

/// Serves the nodes of `host` until `stop` is cancelled; returns once every connection is closed, after at most 500
/// ms.
pub async fn serve(
    listener: Box<dyn Listener>,
    host: Arc<dyn Host>,
    options: Options,
    stop: CancellationToken,
) {
    let app = Arc::new(App::new(host, options, stop.clone()));
    let router = router(&app);
    let connections = TaskTracker::new();
    let places = Arc::new(Semaphore::new(app.options.connections.min(MAX_CONNECTIONS)));
    let mut acceptor = Acceptor::new(listener, "cannot accept connections of the page");
    while let Some((stream, _)) = stop.run_until_cancelled(acceptor.next()).await {
        match Arc::clone(&places).try_acquire_owned() {
            Ok(place) => {
                let (router, stop) = (router.clone(), stop.clone());
                connections.spawn(async move {
                    connection(stream, router, stop).await;
                    drop(place);
                });
            }
            Err(_) => _ = connections.spawn(refuse(stream, FULL)),
        }
    }
    drop(acceptor);
    connections.close();
    connections.wait().await;
    app.topics.ended().await;
}

fn router(app: &Arc<App>) -> Router {
    let nothing =
        || async { Problem::unknown("there is nothing at this path: docs/http.md lists what there is") };
    let method = || async { Problem::new(StatusCode::METHOD_NOT_ALLOWED, "not with this method") };
    Router::new()
        .merge(page::routes(&app.token))
        .merge(api::routes())
        .route("/healthz", get(health::alive))
        .route("/readyz", get(health::ready))
        .route("/metrics", get(metrics::show))
        .fallback(nothing)
        .method_not_allowed_fallback(method)
        .layer(DefaultBodyLimit::max(MAX_BODY))
        .layer(middleware::from_fn_with_state(Arc::clone(app), guard::watch))
        .with_state(Arc::clone(app))
}

/// Serves one connection to its end. An error of its client ends only this connection.
async fn connection(mut stream: BoxStream, router: Router, stop: CancellationToken) {
    let mut front = BytesMut::with_capacity(FIRST_READ);
    let first = timeout(HEAD_LIMIT, stream.read_buf(&mut front));
    if !matches!(stop.run_until_cancelled(first).await, Some(Ok(Ok(1..)))) {
        return;
    }
    // Commands of Redis clients begin with an asterisk, HTTP requests never do.
    if front.first() == Some(&b'*') {
        let answer = format!(
            "-ERR this is the http port of a Sapwood node: clients use its client port, {DEFAULT_CLIENT_PORT} by default\r\n"
        );
        return refuse(stream, answer.as_bytes()).await;
    }
    let mut builder = http1::Builder::new();
    builder
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_LIMIT)
        .max_buf_size(MAX_HEAD)
        .max_headers(MAX_HEADERS);
    let stream = TokioIo::new(StallLimited::new(stream, front, STALL_LIMIT));
    let mut serving = pin!(builder.serve_connection(stream, TowerToHyperService::new(router)));
    let outcome = tokio::select! {
        outcome = serving.as_mut() => outcome,
        () = stop.cancelled() => {
            serving.as_mut().graceful_shutdown();
            // Clients that have not read their responses by then lose them.
            timeout(DRAIN_LIMIT, serving).await.unwrap_or(Ok(()))
        }
    };
    if let Err(error) = outcome {
        tracing::debug!(%error, "a connection of the page has failed");
    }
}

/// Sends `text` and closes the connection.
async fn refuse(mut stream: BoxStream, text: &[u8]) {
    let refusal = async {
        stream.write_all(text).await?;
        stream.shutdown().await
    };
    // The client is refused either way.
    let _ = timeout(DRAIN_LIMIT, refusal).await;
}
