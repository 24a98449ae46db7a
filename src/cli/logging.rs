//! Log lines: on stderr, as text for people or JSON for collectors.

use anyhow::Context as _;
use sapwood::config::{Config, LogFormat};
use tracing_subscriber::EnvFilter;

use super::output::{Paint, Stream};

/// Sets up the process's log. Call it once.
pub(crate) fn start(config: &Config) -> anyhow::Result<()> {
    let filter = EnvFilter::try_new(&config.log).with_context(|| format!("--log {}", config.log))?;
    let log = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr);
    let started = match config.log_format {
        LogFormat::Text => log.with_ansi(Paint::on(Stream::Stderr).colours).try_init(),
        LogFormat::Json => log.json().flatten_event(true).try_init(),
    };
    started.map_err(anyhow::Error::from_boxed).context("cannot start the log")
}
