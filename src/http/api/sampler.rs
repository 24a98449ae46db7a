//! Samples the topics of streams.
//!
//! A sample is sent if it differs from the one before. A slow reader gets the latest sample, not all.

use std::sync::Arc;
use std::time::Duration;

use serde::Serialize;
use tokio::sync::watch;
use tokio::time::{Instant, Interval, MissedTickBehavior, interval};

use super::key::KeyView;
use super::keys::{DEFAULT_LIMIT, Page, Place, page};
use super::ranges::Map;
use super::status::Status;
use crate::http::state::App;
use crate::http::topics::{Sample, Topic};
use crate::store::{KeyCopy, Totals};

/// The shortest time between two samples of each topic.
const STATUS_EVERY: Duration = Duration::from_millis(500);
const KEY_EVERY: Duration = Duration::from_millis(250);
const KEYS_EVERY: Duration = Duration::from_secs(1);
const RANGES_EVERY: Duration = Duration::from_millis(200);

/// How often other nodes are asked for a key again while the copies differ.
const LOOK_AGAIN: Duration = Duration::from_secs(1);

/// Subscribes to a topic; the latest sample is there at once, if there is one.
pub(super) fn subscribe(app: &Arc<App>, topic: &Topic) -> watch::Receiver<Sample> {
    app.topics.subscribe(topic, |sender| sample(Arc::clone(app), topic.clone(), sender))
}

/// Samples a topic for as long as it has readers.
async fn sample(app: Arc<App>, topic: Topic, sender: watch::Sender<Sample>) {
    let mut sampler = Sampler::new(&topic);
    loop {
        // A sample that is dropped has no reader.
        let fresh = tokio::select! {
            biased;
            () = sender.closed() => {
                if app.topics.close(&topic) {
                    return;
                }
                continue;
            }
            fresh = sampler.next(&app) => fresh,
        };
        if let Some(fresh) = fresh {
            sender.send_if_modified(|latest| {
                let is_news = latest.as_deref() != Some(&fresh);
                if is_news {
                    *latest = Some(fresh.into());
                }
                is_news
            });
        }
    }
}

/// The last sample, to decide whether another one is worth taking.
enum Sampler {
    Status { ticks: Interval, last: Option<Box<Status>> },
    Key { ticks: Interval, key: Vec<u8>, last: Option<Held>, is_equal: bool, looked: Instant },
    Keys { ticks: Interval, prefix: Vec<u8>, last: Option<Totals>, sent: Option<Page> },
    Ranges { ticks: Interval, from: String, to: String },
}

/// The copies of a key on the nodes of this process, and the names of their linked peers.
#[derive(PartialEq)]
struct Held {
    copies: Vec<(String, KeyCopy)>,
    links: Vec<String>,
}

impl Held {
    fn of(app: &App, key: &[u8]) -> Held {
        let apis = app.host.nodes();
        let links = apis.iter().flat_map(|api| api.cluster.peers());
        Held {
            links: links.filter(|peer| peer.state.is_linked()).map(|peer| peer.name).collect(),
            copies: apis.iter().map(|api| (api.name.clone(), api.copy(key))).collect(),
        }
    }
}

impl Sampler {
    fn new(topic: &Topic) -> Sampler {
        let every = |time| {
            let mut ticks = interval(time);
            ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
            ticks
        };
        match topic.clone() {
            Topic::Status => Sampler::Status { ticks: every(STATUS_EVERY), last: None },
            Topic::Key(key) => {
                let (ticks, looked) = (every(KEY_EVERY), Instant::now());
                Sampler::Key { ticks, key, last: None, is_equal: false, looked }
            }
            Topic::Keys(prefix) => Sampler::Keys { ticks: every(KEYS_EVERY), prefix, last: None, sent: None },
            Topic::Ranges(from, to) => Sampler::Ranges { ticks: every(RANGES_EVERY), from, to },
        }
    }

    /// The next sample, if it may differ from the last one.
    async fn next(&mut self, app: &App) -> Option<String> {
        match self {
            Sampler::Status { ticks, last } => {
                ticks.tick().await;
                let status = Status::of(app);
                let still = Box::new(status.still());
                let is_news = last.as_ref() != Some(&still);
                *last = Some(still);
                is_news.then(|| json(&status)).flatten()
            }
            Sampler::Key { ticks, key, last, is_equal, looked } => {
                ticks.tick().await;
                let held = Held::of(app, key);
                let is_due = !*is_equal && looked.elapsed() >= LOOK_AGAIN;
                if last.as_ref() == Some(&held) && !is_due {
                    return None;
                }
                let view = KeyView::of(app, key).await;
                (*last, *is_equal, *looked) = (Some(held), view.is_equal(), Instant::now());
                json(&view)
            }
            Sampler::Keys { ticks, prefix, last, sent } => {
                ticks.tick().await;
                let api = app.host.nodes().into_iter().next()?;
                let totals = api.store.totals();
                if *last == Some(totals) {
                    return None;
                }
                let fresh = page(&api, prefix, Place::default(), DEFAULT_LIMIT, app.options.values).await;
                *last = Some(totals);
                let is_news = !sent.as_ref().is_some_and(|sent| sent.shows_the_same(&fresh));
                let text = is_news.then(|| json(&fresh)).flatten();
                *sent = Some(fresh);
                text
            }
            Sampler::Ranges { ticks, from, to } => {
                ticks.tick().await;
                json(&Map::of(app, from, to)?)
            }
        }
    }
}

fn json(value: &impl Serialize) -> Option<String> {
    serde_json::to_string(value).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::env::SystemEnv;
    use crate::http::host::{Host, NodeApi};
    use crate::http::state::Options;
    use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
    use tokio_util::sync::CancellationToken;

    /// A host without nodes that counts how often its nodes are requested.
    #[derive(Default)]
    struct Looks(AtomicUsize);

    impl Host for Looks {
        fn nodes(&self) -> Vec<NodeApi> {
            self.0.fetch_add(1, Relaxed);
            Vec::new()
        }
    }

    fn app(host: &Arc<Looks>) -> Arc<App> {
        let options = Options {
            address: "127.0.0.1:1".parse().unwrap(),
            env: Arc::new(SystemEnv),
            connections: 8,
            writes: false,
            values: false,
            faults: false,
        };
        Arc::new(App::new(Arc::clone(host) as Arc<dyn Host>, options, CancellationToken::new()))
    }

    #[tokio::test(start_paused = true)]
    async fn a_topic_is_sampled_once_for_all_its_readers_and_not_at_all_without_one() {
        let host = Arc::new(Looks::default());
        let app = app(&host);
        let second = || tokio::time::sleep(Duration::from_secs(1));
        second().await;
        assert_eq!(host.0.load(Relaxed), 0, "nobody reads");
        let mut readers: Vec<_> = (0..10).map(|_| subscribe(&app, &Topic::Status)).collect();
        second().await;
        assert!((2..=3).contains(&host.0.load(Relaxed)), "{} looks", host.0.load(Relaxed));
        for reader in &mut readers {
            assert!(reader.has_changed().unwrap() && reader.borrow_and_update().is_some());
        }
        let late = subscribe(&app, &Topic::Status);
        assert!(late.has_changed().unwrap(), "who comes later gets the latest at once");
        second().await;
        assert!(!readers[0].has_changed().unwrap(), "nothing has changed");
        drop((readers, late));
        second().await;
        let looks = host.0.load(Relaxed);
        second().await;
        assert_eq!(host.0.load(Relaxed), looks, "the last reader has left");
        assert!(app.topics.is_idle());
    }
}
