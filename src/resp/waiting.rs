//! A connection's command that waits for something outside; the commands behind it wait too.

use tokio::time::{Instant, sleep_until};

use super::command::Wait;
use crate::cluster::Cluster;
use crate::env::BoxFuture;

/// A command that has not replied yet.
pub(super) struct Waiting {
    pub(super) command: Box<dyn Wait>,
    /// When it replies in any case; `None` for never.
    deadline: Option<Instant>,
    changed: BoxFuture<'static, ()>,
}

impl Waiting {
    pub(super) fn new(command: Box<dyn Wait>, deadline: Option<Instant>, cluster: &dyn Cluster) -> Self {
        let changed = command.changed(cluster);
        Waiting { command, deadline, changed }
    }

    /// From here on [`stirred`](Self::stirred) tells of what happens later.
    pub(super) fn rearm(&mut self, cluster: &dyn Cluster) {
        self.changed = self.command.changed(cluster);
    }

    pub(super) fn is_due(&self) -> bool {
        self.deadline.is_some_and(|deadline| deadline <= Instant::now())
    }

    /// Resolves when it may reply; never if there is none. Cancel-safe: what it waits for is kept. To be [rearmed](Self::rearm)
    /// afterwards.
    pub(super) async fn stirred(waiting: &mut Option<Self>) {
        let Some(Waiting { deadline, changed, .. }) = waiting else { return std::future::pending().await };
        match *deadline {
            Some(deadline) => tokio::select! {
                () = changed => {}
                () = sleep_until(deadline) => {}
            },
            None => changed.await,
        }
    }
}
