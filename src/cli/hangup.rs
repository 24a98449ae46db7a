//! SIGHUP: a terminal was closed, or a supervisor asks to reload the settings.

use std::io;

#[cfg(unix)]
use super::output::Stream;

/// Handles SIGHUP, which would otherwise end the process at once.
#[cfg(unix)]
pub(crate) struct Hangup {
    signal: tokio::signal::unix::Signal,
    /// Whether a person started the program on a terminal. After the terminal is closed this cannot be found out.
    interactive: bool,
}

#[cfg(unix)]
impl Hangup {
    pub(crate) fn new() -> io::Result<Self> {
        use std::io::IsTerminal as _;
        use tokio::signal::unix::{SignalKind, signal};
        let interactive = io::stdin().is_terminal() || Stream::Stdout.is_terminal();
        Ok(Hangup { signal: signal(SignalKind::hangup())?, interactive })
    }

    /// Waits until the terminal of the program is closed. Without a terminal it never returns, and each signal calls
    /// `reload`.
    ///
    /// Cancel-safe: a signal that was not acted on stays pending.
    pub(crate) async fn terminal_closed(&mut self, reload: impl Fn()) {
        while self.signal.recv().await.is_some() {
            if self.interactive {
                return;
            }
            reload();
        }
        std::future::pending::<()>().await;
    }
}

#[cfg(not(unix))]
pub(crate) struct Hangup;

#[cfg(not(unix))]
impl Hangup {
    pub(crate) fn new() -> io::Result<Self> {
        Ok(Hangup)
    }

    pub(crate) async fn terminal_closed(&mut self, _reload: impl Fn()) {
        std::future::pending::<()>().await;
    }
}
