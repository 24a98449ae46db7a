//! `/api/stream`: sends changes as server-sent events.

use std::convert::Infallible;
use std::future::poll_fn;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use axum::response::sse::{Event, KeepAlive, KeepAliveStream, Sse};
use futures_core::Stream;
use serde::Deserialize;
use tokio::sync::{mpsc, watch};

use super::query::{Asked, bytes};
use super::sampler::subscribe;
use super::status::events_after;
use crate::cluster::Events;
use crate::http::problem::Problem;
use crate::http::state::App;
use crate::http::topics::{Sample, Topic};
use crate::model::Incarnation;

/// Most events that wait for a reader. If there are more, no further ones are made until it has read.
const MAX_WAITING: usize = 8;

/// How often a stream without events sends a sign of life.
const KEEP_ALIVE: Duration = Duration::from_secs(15);

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Query {
    key: Option<String>,
    key64: Option<String>,
    prefix: Option<String>,
    prefix64: Option<String>,
    map: Option<String>,
    after: Option<u64>,
}

impl Query {
    fn topics(self) -> Result<Vec<Topic>, Problem> {
        let key = bytes(self.key, self.key64.as_deref(), "key")?.map(Topic::Key);
        let keys = bytes(self.prefix, self.prefix64.as_deref(), "prefix")?.map(Topic::Keys);
        let map = self.map.map(|map| match map.split_once(',') {
            Some((from, to)) => Ok(Topic::Ranges(from.to_owned(), to.to_owned())),
            None => Err(Problem::bad("map names two nodes: map=A,B")),
        });
        Ok([Some(Topic::Status), key, keys, map.transpose()?].into_iter().flatten().collect())
    }
}

pub(super) async fn show(
    State(app): State<Arc<App>>,
    headers: HeaderMap,
    Asked(query): Asked<Query>,
) -> Result<Sse<KeepAliveStream<EventStream>>, Problem> {
    let last = headers.get("last-event-id").and_then(|id| id.to_str().ok()?.parse().ok());
    let after = last.or(query.after).unwrap_or(0);
    let topics = query.topics()?;
    let Ok(place) = Arc::clone(&app.streams).try_acquire_owned() else {
        return Err(Problem::new(StatusCode::SERVICE_UNAVAILABLE, "too many streams are open already"));
    };
    let (sender, receiver) = mpsc::channel(MAX_WAITING);
    let topics = topics.into_iter().map(|topic| {
        let samples = subscribe(&app, &topic);
        (topic, samples)
    });
    let mut reader = Reader { topics: topics.collect(), app: Arc::clone(&app), sender, after };
    app.topics.spawn(async move {
        // An error means that the reader has left.
        let _ = reader.run().await;
        drop(place);
    });
    // An event rather than a comment: scripts do not see comments, and could not tell a hanging connection from a
    // quiet one.
    let alive = Event::default().event("alive").data("{}");
    Ok(Sse::new(EventStream(receiver)).keep_alive(KeepAlive::new().interval(KEEP_ALIVE).event(alive)))
}

/// The events of one stream.
pub(super) struct EventStream(mpsc::Receiver<Event>);

impl Stream for EventStream {
    type Item = Result<Event, Infallible>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        self.0.poll_recv(cx).map(|event| event.map(Ok))
    }
}

/// The reader has closed the stream.
struct Left;

/// Sends the events of one stream.
struct Reader {
    topics: Vec<(Topic, watch::Receiver<Sample>)>,
    app: Arc<App>,
    sender: mpsc::Sender<Event>,
    /// The id of the last recorded event that was sent.
    after: u64,
}

impl Reader {
    async fn run(&mut self) -> Result<(), Left> {
        let (mut nodes, mut live) = self.follow();
        loop {
            self.send_recorded().await?;
            let changed = tokio::select! {
                () = self.sender.closed() => return Err(Left),
                // Cancel-safe: it takes only the notification that something has changed.
                changed = changed(&mut self.topics) => Some(changed),
                // A missed event is still in the record.
                () = happened(&mut live) => None,
            };
            let Some((name, sample)) = changed else { continue };
            if let Some(sample) = sample {
                self.send(Event::default().event(name).data(&*sample)).await?;
            }
            // A demonstration may have started or stopped nodes.
            if self.nodes() != nodes {
                (nodes, live) = self.follow();
            }
        }
    }

    fn nodes(&self) -> Vec<Incarnation> {
        self.app.host.nodes().iter().map(|api| api.store.own_incarnation()).collect()
    }

    /// Subscribes to the events of each node from this call on.
    fn follow(&self) -> (Vec<Incarnation>, Vec<Events>) {
        let live = self.app.host.nodes().iter().map(|api| api.cluster.events()).collect();
        (self.nodes(), live)
    }

    async fn send_recorded(&mut self) -> Result<(), Left> {
        for row in events_after(&self.app.host.nodes(), self.after) {
            self.after = row.id;
            let Ok(data) = serde_json::to_string(&row) else { continue };
            self.send(Event::default().event("event").id(row.id.to_string()).data(data)).await?;
        }
        Ok(())
    }

    async fn send(&self, event: Event) -> Result<(), Left> {
        self.sender.send(event).await.map_err(|_| Left)
    }
}

/// Waits for a topic to change; returns the name of its events and its sample.
async fn changed(topics: &mut [(Topic, watch::Receiver<Sample>)]) -> (&'static str, Sample) {
    loop {
        let mut waits: Vec<_> = topics.iter_mut().map(|(_, samples)| Box::pin(samples.changed())).collect();
        let at = poll_fn(|cx| {
            let ready =
                waits.iter_mut().position(|wait| matches!(wait.as_mut().poll(cx), Poll::Ready(Ok(()))));
            ready.map_or(Poll::Pending, Poll::Ready)
        })
        .await;
        drop(waits);
        if let Some((topic, samples)) = topics.get_mut(at) {
            return (topic.name(), samples.borrow_and_update().clone());
        }
    }
}

/// Waits for an event on one of the nodes.
async fn happened(live: &mut Vec<Events>) {
    poll_fn(|cx| {
        let mut is_news = false;
        live.retain_mut(|events| match Pin::new(events).poll_next(cx) {
            Poll::Ready(Some(_)) => {
                is_news = true;
                true
            }
            Poll::Ready(None) => false,
            Poll::Pending => true,
        });
        if is_news { Poll::Ready(()) } else { Poll::Pending }
    })
    .await;
}
