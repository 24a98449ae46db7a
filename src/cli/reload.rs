//! Reloads the settings while a node runs: applies the log filter, and logs which others have changed.

use anyhow::Context as _;
use sapwood::Node;
use tracing::Level;

use super::check_config::differing;
use super::logging::LogFilter;
use super::settings::{ConfigArgs, Loaded};

/// The settings that a running node was started with.
#[cfg_attr(not(unix), expect(dead_code, reason = "there is no SIGHUP"))]
pub(crate) struct Reload {
    args: ConfigArgs,
    running: Loaded,
    filter: LogFilter,
}

#[cfg_attr(not(unix), expect(dead_code, reason = "there is no SIGHUP"))]
impl Reload {
    /// `args` are the flags and the environment, `running` the settings that resulted at the start.
    pub(crate) fn new(args: ConfigArgs, running: Loaded, filter: LogFilter) -> Self {
        Reload { args, running, filter }
    }

    /// Reads users, credentials of peers and the settings again, and logs the results. What is invalid changes nothing.
    ///
    /// It blocks while it reads, so it must be called outside the runtime's workers.
    pub(crate) fn run(&self, node: &Node) {
        // The node logs the outcome of both.
        node.reload_peer_credentials();
        if self.running.config.users_file.is_some() {
            let _ = node.reload_users();
        }
        if self.args.config.is_none() {
            tracing::info!("SIGHUP: there is no --config file, so there are no settings to reload");
            return;
        }
        let reloaded = self.args.clone().load().map_err(anyhow::Error::from);
        if let Err(error) = reloaded.and_then(|loaded| self.apply(&loaded)) {
            tracing::error!(
                error = format!("{error:#}"),
                "SIGHUP: not reloaded, all settings stay as they are"
            );
        }
    }

    fn apply(&self, loaded: &Loaded) -> anyhow::Result<()> {
        let log = &loaded.log.filter;
        let switched = self.switch(log).context("the log filter cannot be changed")?;
        if let Some(in_file) = loaded.file_log().filter(|in_file| in_file != log) {
            tracing::info!(in_file, log, "SIGHUP: a flag or a variable overrides the file's log");
        }
        let changed = differing(&self.running, loaded);
        if !changed.is_empty() {
            tracing::warn!(
                settings = changed.join(", "),
                "SIGHUP: these settings have changed and need a restart"
            );
        } else if !switched {
            tracing::info!("SIGHUP: no setting has changed");
        }
        Ok(())
    }

    /// Sets the log filter if it differs from the present one; returns whether it did. The change is logged under the
    /// filter that shows it.
    fn switch(&self, log: &str) -> anyhow::Result<bool> {
        let before = self.filter.shown();
        if before == log {
            return Ok(false);
        }
        let say = || tracing::info!(before, log, "SIGHUP: the log filter was reloaded");
        let is_shown = tracing::enabled!(Level::INFO);
        if is_shown {
            say();
        }
        self.filter.set(log)?;
        if !is_shown {
            say();
        }
        Ok(true)
    }
}
