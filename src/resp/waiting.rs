//! A connection's command that waits for something outside the node, and blocks the commands behind it.

use tokio::time::{Instant, sleep_until};

use super::command::Wait;
use crate::cluster::Acknowledgements;
use crate::env::BoxFuture;

/// A command that has not replied yet.
pub(super) struct Waiting {
    pub(super) command: Box<dyn Wait>,
    /// The time at which it replies in any case; `None` for never.
    deadline: Option<Instant>,
    changed: BoxFuture<'static, ()>,
}

impl Waiting {
    pub(super) fn new(
        command: Box<dyn Wait>,
        deadline: Option<Instant>,
        cluster: &dyn Acknowledgements,
    ) -> Self {
        let changed = command.changed(cluster);
        Waiting { command, deadline, changed }
    }

    /// Makes [`stirred`](Self::stirred) wait for the next change.
    pub(super) fn rearm(&mut self, cluster: &dyn Acknowledgements) {
        self.changed = self.command.changed(cluster);
    }

    pub(super) fn is_due(&self) -> bool {
        self.deadline.is_some_and(|deadline| deadline <= Instant::now())
    }

    /// Resolves when the command may reply; never if there is none. Cancel-safe: what it waits for is kept.
    /// [Rearm](Self::rearm) it afterwards.
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
