//! The log: on stderr, as text for people or JSON for collectors.

use anyhow::Context as _;
use serde::Deserialize;
use tracing_mutex::parkinglot::Mutex;
use tracing_subscriber::EnvFilter;
use tracing_subscriber::reload;

use super::output::{Paint, Stream};

/// What is logged, and how.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct LogSettings {
    /// A level, or a filter such as `info,sapwood::replication=debug`.
    pub(crate) filter: String,
    pub(crate) format: LogFormat,
}

impl Default for LogSettings {
    fn default() -> Self {
        LogSettings { filter: "info".into(), format: LogFormat::Text }
    }
}

/// The format of log lines.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum LogFormat {
    /// Text for people.
    Text,
    /// One JSON object a line, for collectors.
    Json,
}

/// The filter of the process's log.
pub(crate) struct LogFilter {
    shown: Mutex<String>,
    set: Box<dyn Fn(EnvFilter) -> Result<(), reload::Error> + Send + Sync>,
}

impl LogFilter {
    /// The filter as text.
    pub(crate) fn shown(&self) -> String {
        self.shown.lock().clone()
    }

    /// Replaces the filter.
    pub(crate) fn set(&self, filter: &str) -> anyhow::Result<()> {
        (self.set)(parse(filter)?)?;
        filter.clone_into(&mut self.shown.lock());
        Ok(())
    }
}

/// Sets up the process's log. Call it once.
pub(crate) fn start(settings: &LogSettings) -> anyhow::Result<LogFilter> {
    let log = tracing_subscriber::fmt()
        .with_env_filter(parse(&settings.filter)?)
        .with_writer(std::io::stderr)
        // It reports a failed write to stderr (a closed terminal, a full disk) by a panic.
        .log_internal_errors(false);
    let (started, set): (_, Box<dyn Fn(_) -> _ + Send + Sync>) = match settings.format {
        LogFormat::Text => {
            let log = log.with_ansi(Paint::on(Stream::Stderr).colours).with_filter_reloading();
            let handle = log.reload_handle();
            (log.try_init(), Box::new(move |filter| handle.reload(filter)))
        }
        LogFormat::Json => {
            let log = log.json().flatten_event(true).with_filter_reloading();
            let handle = log.reload_handle();
            (log.try_init(), Box::new(move |filter| handle.reload(filter)))
        }
    };
    started.map_err(anyhow::Error::from_boxed).context("cannot start the log")?;
    Ok(LogFilter { shown: Mutex::new(settings.filter.clone()), set })
}

fn parse(filter: &str) -> anyhow::Result<EnvFilter> {
    EnvFilter::try_new(filter).with_context(|| format!("--log {filter}"))
}
