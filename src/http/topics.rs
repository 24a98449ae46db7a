//! The topics of streams: each is sampled once for all of its readers, and only while it has any.
//!
//! ```text
//!   reader ──► subscribe ──► Topics: one task a topic ──► watch channel ──► every reader of the topic
//!                              ends with its last reader
//! ```

use std::collections::HashMap;
use std::sync::Arc;

use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing_mutex::parkinglot::Mutex;

/// A topic that readers can subscribe to.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub(super) enum Topic {
    Status,
    /// The copies of a key.
    Key(Vec<u8>),
    /// The first keys under a prefix.
    Keys(Vec<u8>),
    /// The ranges that differ between two nodes.
    Ranges(String, String),
}

impl Topic {
    /// The name of its events.
    pub(super) fn name(&self) -> &'static str {
        match self {
            Topic::Status => "status",
            Topic::Key(_) => "key",
            Topic::Keys(_) => "keys",
            Topic::Ranges(..) => "ranges",
        }
    }
}

/// The latest sample in JSON; `None` before the first.
pub(super) type Sample = Option<Arc<str>>;

/// The topics with readers.
pub(super) struct Topics {
    open: Mutex<HashMap<Topic, watch::Sender<Sample>>>,
    tasks: TaskTracker,
    stop: CancellationToken,
}

impl Topics {
    /// Creates topics whose tasks end when `stop` is cancelled.
    pub(super) fn new(stop: CancellationToken) -> Topics {
        Topics { open: Mutex::default(), tasks: TaskTracker::new(), stop }
    }

    /// Waits until all tasks have ended, after they were stopped.
    pub(super) async fn ended(&self) {
        self.tasks.close();
        self.tasks.wait().await;
    }

    /// Runs a task that ends with the server.
    pub(super) fn spawn(&self, task: impl Future<Output = ()> + Send + 'static) {
        let stop = self.stop.clone();
        self.tasks.spawn(async move { _ = stop.run_until_cancelled(task).await });
    }

    /// Subscribes to a topic; the latest sample is there at once, if there is one. The first reader of a topic starts
    /// the task that `sample` returns, which sends the samples.
    pub(super) fn subscribe<F>(
        &self,
        topic: &Topic,
        sample: impl FnOnce(watch::Sender<Sample>) -> F,
    ) -> watch::Receiver<Sample>
    where
        F: Future<Output = ()> + Send + 'static,
    {
        let mut open = self.open.lock();
        if let Some(sender) = open.get(topic) {
            let mut receiver = sender.subscribe();
            if receiver.borrow().is_some() {
                receiver.mark_changed();
            }
            return receiver;
        }
        let (sender, receiver) = watch::channel(None);
        open.insert(topic.clone(), sender.clone());
        self.spawn(sample(sender));
        receiver
    }

    /// Closes a topic without readers; returns whether it did.
    pub(super) fn close(&self, topic: &Topic) -> bool {
        let mut open = self.open.lock();
        let is_unread = open.get(topic).is_some_and(|sender| sender.receiver_count() == 0);
        if is_unread {
            open.remove(topic);
        }
        is_unread
    }
}

#[cfg(test)]
impl Topics {
    /// Whether no topic is open and no task runs.
    pub(super) fn is_idle(&self) -> bool {
        self.open.lock().is_empty() && self.tasks.is_empty()
    }
}
