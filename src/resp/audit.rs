//! Log lines about operators' commands and misbehaving clients, each kind with a rate limit.

use tokio::time::Instant;

use super::ProtocolError;
use super::clients::Client;
use crate::log_limit::LogLimit;

/// Most lines per second about commands: far more than operators type, and few for a disk.
const COMMANDS: u32 = 10;

/// Writes these log lines, and enforces their limits.
pub(super) struct Audit {
    failed_auth: LogLimit,
    commands: LogLimit,
    bad_requests: LogLimit,
    cut_off: LogLimit,
}

impl Default for Audit {
    fn default() -> Self {
        let one = || LogLimit::new(LogLimit::ONE);
        Audit { failed_auth: one(), commands: LogLimit::new(COMMANDS), bad_requests: one(), cut_off: one() }
    }
}

impl Audit {
    /// Logs that a client sent a wrong user or password. Neither is logged: people confuse the two.
    pub(super) fn failed_auth(&self, client: &Client) {
        self.failed_auth.write(Instant::now(), |left_out| {
            tracing::warn!(client = %client.peer, left_out, "failed AUTH");
        });
    }

    /// Logs a command that changes what all clients see. `detail` must hold no value and no password.
    pub(super) fn command(&self, client: &Client, command: &str, detail: Option<&str>) {
        self.commands.write(Instant::now(), |left_out| {
            tracing::info!(client = %client.peer, command, detail, left_out, "command of an operator");
        });
    }

    /// Logs that a connection closes because of what its client sent.
    pub(super) fn bad_request(&self, client: &Client, error: &ProtocolError) {
        self.bad_requests.write(Instant::now(), |left_out| {
            tracing::info!(client = %client.peer, %error, left_out, "closing a connection");
        });
    }

    /// Logs that a connection closes because its client does not read.
    pub(super) fn cut_off(&self, client: &Client) {
        self.cut_off.write(Instant::now(), |left_out| {
            tracing::info!(
                client = %client.peer,
                id = client.id,
                left_out,
                "connection cut off: it does not read what it has subscribed to"
            );
        });
    }
}
