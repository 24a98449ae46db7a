//! Puts new files to use while the node runs, and warns before certificates end.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::{Instant, MissedTickBehavior, interval};

use super::{PeerTls, material};
use crate::file_watch::{FileWatch, Stamps};

/// How often the files are looked at.
const LOOK_EVERY: Duration = Duration::from_secs(5);

/// How often a certificate that ends soon is reported.
const WARN_EVERY: Duration = Duration::from_secs(24 * 3600);

/// Watches the files of `tls` for as long as the node runs.
pub(crate) async fn watch(tls: Arc<PeerTls>) {
    let mut ticks = interval(LOOK_EVERY);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let look = || Stamps::of(tls.files());
    let mut files = FileWatch::default();
    files.note_read(look());
    let mut warned: Option<Instant> = None;
    loop {
        ticks.tick().await;
        let present = look();
        if files.has_changed(&present) {
            files.note_read(present);
            if tls.reload_and_log("the files have changed") {
                warned = None;
            }
        }
        if warned.is_none_or(|at| at.elapsed() >= WARN_EVERY) {
            warned = Some(Instant::now());
            tls.warn_of_expiry();
        }
    }
}

impl PeerTls {
    /// Reads the files again because of `why`, and logs the outcome. Returns whether later connections use other ones.
    pub(crate) fn reload_and_log(&self, why: &str) -> bool {
        let failed_before = self.status().error.is_some();
        match self.reload() {
            Ok(true) => {
                tracing::info!(
                    why,
                    "new certificates or secrets of peers are used for new links; links stay"
                );
                true
            }
            Ok(false) if failed_before => {
                tracing::info!(
                    why,
                    "the files of certificates or secrets of peers are valid again, as before"
                );
                false
            }
            Ok(false) => {
                tracing::debug!(why, "certificates and secrets of peers are the same as before");
                false
            }
            Err(error) => {
                tracing::error!(%error, why, "new certificates or secrets of peers are not used: those before stay");
                false
            }
        }
    }

    fn warn_of_expiry(&self) {
        let expires = self.status().expires;
        let now = super::peer::unix_time(&*self.env);
        if let Some(problem) = expires.and_then(|at| material::warning(at, now)) {
            tracing::warn!(problem, "the certificate of --peer-tls-cert ends soon");
        }
    }
}
