//! `MONITOR`: shows every command of every connection to the monitoring clients.

use std::fmt::Display;
use std::io::Write as _;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use tracing_mutex::parkinglot::Mutex;

use super::Args;
use super::clients::Client;
use crate::model::{Database, Time, timestamp};

/// Most arguments of a command, and bytes of each, that are shown: more would overflow the monitors' outboxes.
const MAX_ARGS: usize = 128;
const MAX_ARG: usize = 1024;

/// All monitoring connections of a server.
#[derive(Default)]
pub(super) struct Monitors {
    /// The length of `all`. While it is 0, a command costs one atomic load.
    count: AtomicUsize,
    all: Mutex<Vec<Arc<Client>>>,
}

impl Monitors {
    /// Whether anybody monitors.
    pub(super) fn any(&self) -> bool {
        self.count.load(Ordering::Relaxed) > 0
    }

    /// Starts to show commands to the client.
    pub(super) fn add(&self, client: &Arc<Client>) {
        let mut all = self.all.lock();
        all.push(client.clone());
        self.count.store(all.len(), Ordering::Relaxed);
    }

    /// Stops showing commands to the client.
    pub(super) fn remove(&self, client: &Client) {
        let mut all = self.all.lock();
        all.retain(|other| other.id != client.id);
        self.count.store(all.len(), Ordering::Relaxed);
    }

    /// Shows a command on a database to all monitors, `unless` it is this client. It comes `from` an address, or from a
    /// script.
    pub(super) fn show(
        &self,
        now: Time,
        database: Database,
        from: &dyn Display,
        args: Args<'_>,
        unless: Option<u64>,
    ) {
        let line = line(now, database, from, args);
        for client in self.all.lock().iter().filter(|client| Some(client.id) != unless) {
            client.outbox.add(&line);
        }
    }
}

fn line(now: Time, database: Database, from: &dyn Display, args: Args<'_>) -> Vec<u8> {
    let micros = timestamp::distance(now, timestamp::ZERO).as_micros();
    let mut line = Vec::new();
    write!(line, "+{}.{:06} [{database} {from}]", micros / 1_000_000, micros % 1_000_000)
        .expect("a vector takes all that is written");
    let mut secrets = 0_u8;
    for (i, arg) in args.iter().take(MAX_ARGS).enumerate() {
        let shown = if secrets > 0 || (i > 0 && args[0].eq_ignore_ascii_case(b"auth")) {
            secrets = secrets.saturating_sub(1);
            &b"(redacted)"[..]
        } else {
            arg
        };
        if i > 1 && args[0].eq_ignore_ascii_case(b"hello") && shown.eq_ignore_ascii_case(b"auth") {
            secrets = 2;
        }
        line.extend_from_slice(b" \"");
        line.extend(shown.iter().take(MAX_ARG).flat_map(|byte| byte.escape_ascii()));
        line.push(b'"');
        if shown.len() > MAX_ARG {
            line.extend_from_slice(format!("... ({} more bytes)", shown.len() - MAX_ARG).as_bytes());
        }
    }
    if args.len() > MAX_ARGS {
        line.extend_from_slice(format!(" ... ({} more arguments)", args.len() - MAX_ARGS).as_bytes());
    }
    line.extend_from_slice(b"\r\n");
    line
}

#[cfg(test)]
mod tests {
    use super::super::{Limits, RequestParser, Step};
    use super::*;

    #[test]
    fn passwords_are_redacted_and_everything_else_escaped() {
        for (request, shown) in [
            ("AUTH default secret", r#""AUTH" "(redacted)" "(redacted)""#),
            ("hello 3 auth u p setname x", r#""hello" "3" "auth" "(redacted)" "(redacted)" "setname" "x""#),
            (r#"SET "a\n" 1"#, r#""SET" "a\n" "1""#),
        ] {
            let mut parser = RequestParser::new(Limits::default());
            let bytes = format!("{request}\n");
            let Ok(Step::Request { args, .. }) = parser.next(bytes.as_bytes()) else { panic!("{request}") };
            let now = timestamp::from_unix_millis(1500).unwrap();
            let line = line(now, Database::new(5), &"127.0.0.1:9", args);
            assert_eq!(String::from_utf8(line).unwrap(), format!("+1.500000 [5 127.0.0.1:9] {shown}\r\n"));
        }
    }
}
