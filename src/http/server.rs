//! The server: accepts connections, holds them to their limits, and ends them.

use std::net::SocketAddr;
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
use tokio::time::{Instant, sleep, timeout};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::api::{self, Topics};
use super::patient::Patient;
use super::problem::Problem;
use super::{Host, NodeApi, guard, health, metrics, page};
use crate::config::DEFAULT_CLIENT_PORT;
use crate::env::{BoxStream, Env, Listener};
use crate::log_limit::LogLimit;

/// Most connections at a time: a page takes one or two, a scraper and a probe one each. One more is answered 503.
pub(crate) const MAX_CONNECTIONS: usize = 256;

/// Most bytes of a request's head. A long key travels in it, up to what an address may have: 64 KiB.
const MAX_HEAD: usize = 128 << 10;

/// Most header fields of a request: browsers send about twenty.
const MAX_HEADERS: usize = 64;

/// Most bytes of a request's body. Larger values are written over the Redis protocol.
pub(super) const MAX_BODY: usize = 1 << 20;

/// How long a head may take to arrive, and a connection be idle between two requests.
const HEAD_LIMIT: Duration = Duration::from_secs(30);

/// How long a request may take until its answer begins, the arrival of its body included. Starting and stopping the nodes
/// of a demonstration takes seconds.
pub(super) const REQUEST_LIMIT: Duration = Duration::from_secs(30);

/// The part of all connections that may be streams of events, so that there is always a place for probes and scrapers.
const ONE_STREAM_IN: usize = 2;

/// How long a client may take nothing of an answer.
const STALL_LIMIT: Duration = Duration::from_secs(30);

/// How long a stopping server waits for its answers to be taken, or a client over the limit may take to accept its error:
/// many times what a network needs, and too short to matter to who stops it.
const DRAIN_LIMIT: Duration = Duration::from_millis(500);

/// How long accepting rests after an error, such as too many open files: they end when other connections do.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// How much of a connection is read before it is known what it speaks.
const FIRST_READ: usize = 16 << 10;

/// The answer to one connection too many.
const FULL: &[u8] = b"HTTP/1.1 503 Service Unavailable\r\ncontent-length: 0\r\nconnection: close\r\n\r\n";

/// How a server is set up.
#[derive(Clone)]
pub struct Options {
    /// The address it was bound to.
    pub address: SocketAddr,
    /// Where its secrets come from.
    pub env: Arc<dyn Env>,
    /// Most connections at a time, up to 256. Streams of events get half of them.
    pub connections: usize,
    /// Whether anything may be changed from here.
    pub writes: bool,
    /// Whether values are shown.
    pub values: bool,
    /// Whether links may be cut (if anything may be changed).
    pub faults: bool,
}

/// What all requests share.
pub(super) struct App {
    pub(super) host: Arc<dyn Host>,
    pub(super) options: Options,
    pub(super) address: SocketAddr,
    /// What a request must carry to change anything; only this server's page knows it.
    pub(super) token: String,
    /// What streams are told.
    pub(super) topics: Topics,
    /// Places for streams.
    pub(super) streams: Arc<Semaphore>,
}

impl App {
    pub(super) fn new(host: Arc<dyn Host>, options: Options, stop: CancellationToken) -> App {
        App {
            host,
            address: options.address,
            token: format!("{:016x}{:016x}", options.env.random(), options.env.random()),
            streams: Arc::new(Semaphore::new((options.connections / ONE_STREAM_IN).max(1))),
            options,
            topics: Topics::new(stop),
        }
    }

    /// The node of this name, or the first.
    pub(super) fn api(&self, name: Option<&str>) -> Result<NodeApi, Problem> {
        let mut nodes = self.host.nodes().into_iter();
        match name {
            None => nodes.next().ok_or_else(|| Problem::new(StatusCode::SERVICE_UNAVAILABLE, "no node runs")),
            Some(name) => nodes
                .find(|api| api.name == name)
                .ok_or_else(|| Problem::unknown(format!("no node is named {name:?} here"))),
        }
    }
}

/// Serves the nodes of `host` until `stop` is cancelled; returns once every connection is closed, half a second later
/// at the latest.
pub async fn serve(
    mut listener: Box<dyn Listener>,
    host: Arc<dyn Host>,
    options: Options,
    stop: CancellationToken,
) {
    let app = Arc::new(App::new(host, options, stop.clone()));
    let router = router(&app);
    let connections = TaskTracker::new();
    let places = Arc::new(Semaphore::new(app.options.connections.min(MAX_CONNECTIONS)));
    let faults = LogLimit::new(LogLimit::ONE);
    loop {
        // Cancel-safe: an accept that is dropped has lost no connection.
        let accepted = tokio::select! {
            biased;
            () = stop.cancelled() => break,
            accepted = listener.accept() => accepted,
        };
        match accepted {
            Ok((stream, _)) => match Arc::clone(&places).try_acquire_owned() {
                Ok(place) => {
                    let (router, stop) = (router.clone(), stop.clone());
                    connections.spawn(async move {
                        connection(stream, router, stop).await;
                        drop(place);
                    });
                }
                Err(_) => _ = connections.spawn(refuse(stream, FULL)),
            },
            Err(error) => {
                faults.write(Instant::now(), |left_out| {
                    tracing::warn!(%error, left_out, "cannot accept connections of the page");
                });
                stop.run_until_cancelled(sleep(ACCEPT_PAUSE)).await;
            }
        }
    }
    drop(listener);
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

/// Serves one connection to its end. What its client does wrong ends it and nothing else.
async fn connection(mut stream: BoxStream, router: Router, stop: CancellationToken) {
    let mut front = BytesMut::with_capacity(FIRST_READ);
    let first = timeout(HEAD_LIMIT, stream.read_buf(&mut front));
    if !matches!(stop.run_until_cancelled(first).await, Some(Ok(Ok(1..)))) {
        return;
    }
    // No HTTP request begins with an asterisk, and every command of a Redis client does.
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
    let stream = TokioIo::new(Patient::new(stream, front, STALL_LIMIT));
    let mut serving = pin!(builder.serve_connection(stream, TowerToHyperService::new(router)));
    let outcome = tokio::select! {
        outcome = serving.as_mut() => outcome,
        () = stop.cancelled() => {
            serving.as_mut().graceful_shutdown();
            // Whoever takes no answers by then gets none.
            timeout(DRAIN_LIMIT, serving).await.unwrap_or(Ok(()))
        }
    };
    if let Err(error) = outcome {
        tracing::debug!(%error, "a connection of the page has failed");
    }
}

/// Answers with `text` and closes.
async fn refuse(mut stream: BoxStream, text: &[u8]) {
    let refusal = async {
        stream.write_all(text).await?;
        stream.shutdown().await
    };
    // The client is turned away either way.
    let _ = timeout(DRAIN_LIMIT, refusal).await;
}
