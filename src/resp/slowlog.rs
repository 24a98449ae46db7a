//! The log of slow commands: the latest ones that took longer than a threshold.
//!
//! Two readings of the clock for each command would slow pipelined reads. So by default only those commands are timed
//! that are likely to take long: those that run in steps, those that execute others (`EXEC`), and large requests. All
//! are timed once the threshold is below [`TIMES_ALL_BELOW`].

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicUsize, Ordering::Relaxed};
use std::time::Duration;

use tracing_mutex::parkinglot::Mutex;

use super::Args;
use super::clients::Client;

/// The threshold of a new log, in microseconds, as in Redis.
const SLOWER_THAN: i64 = 10_000;
/// How many entries a new log keeps, as in Redis, and the most that it can be set to: some MiB.
const MAX_LEN: usize = 128;
pub(super) const MOST: usize = 1024;
/// Below this threshold, in microseconds, every command is timed. It is about what a step takes.
const TIMES_ALL_BELOW: i64 = 1000;
/// Requests with more arguments or more bytes are timed.
const MANY_ARGS: usize = 16;
const MANY_BYTES: usize = 16 << 10;
/// Most arguments of an entry, and bytes of each, as in Redis.
const SHOWN_ARGS: usize = 32;
const SHOWN_BYTES: usize = 128;

/// The arguments of a request, shortened.
pub(super) type Shown = Vec<Box<[u8]>>;

/// A long command that is timed, between its steps.
pub(super) struct Running {
    /// The index of its counters.
    pub(super) slot: usize,
    pub(super) is_sampled: bool,
    pub(super) took: Duration,
    pub(super) shown: Shown,
}

/// The log of a server.
pub(super) struct SlowLog {
    /// In microseconds; negative for none, 0 for all commands.
    slower_than: AtomicI64,
    max_len: AtomicUsize,
    entries: Mutex<Entries>,
}

#[derive(Default)]
struct Entries {
    next: u64,
    /// The latest first.
    all: VecDeque<Arc<Entry>>,
}

/// A slow command.
pub(super) struct Entry {
    pub(super) id: u64,
    /// When it had ended, in seconds since 1970.
    pub(super) seconds: u64,
    pub(super) micros: u64,
    pub(super) args: Shown,
    pub(super) peer: String,
    /// The name of the client.
    pub(super) name: String,
}

impl Default for SlowLog {
    fn default() -> Self {
        SlowLog {
            slower_than: AtomicI64::new(SLOWER_THAN),
            max_len: AtomicUsize::new(MAX_LEN),
            entries: Mutex::default(),
        }
    }
}

impl SlowLog {
    /// Whether to time a request, which `may_be_long` whatever its size.
    pub(super) fn times(&self, args: Args<'_>, may_be_long: bool) -> bool {
        let slower_than = self.slower_than.load(Relaxed);
        let is_large = || may_be_long || args.len() > MANY_ARGS || args.bytes() > MANY_BYTES;
        slower_than >= 0 && (slower_than < TIMES_ALL_BELOW || is_large())
    }

    /// The threshold in microseconds.
    pub(super) fn slower_than(&self) -> i64 {
        self.slower_than.load(Relaxed)
    }

    pub(super) fn set_slower_than(&self, micros: i64) {
        self.slower_than.store(micros, Relaxed);
    }

    /// Most entries.
    pub(super) fn max_len(&self) -> usize {
        self.max_len.load(Relaxed)
    }

    pub(super) fn set_max_len(&self, max_len: usize) {
        self.max_len.store(max_len.min(MOST), Relaxed);
        self.entries.lock().all.truncate(max_len);
    }

    /// Whether a command that took so long is recorded.
    pub(super) fn is_slow(&self, took: Duration) -> bool {
        u128::try_from(self.slower_than()).is_ok_and(|slower_than| took.as_micros() >= slower_than)
    }

    /// Records a command that [is slow](Self::is_slow).
    pub(super) fn add(&self, took: Duration, unix_seconds: u64, client: &Client, args: Shown) {
        let Some(others) = self.max_len().checked_sub(1) else { return };
        let (peer, name) = (client.peer.to_string(), client.labels().name.clone());
        let micros = u64::try_from(took.as_micros()).unwrap_or(u64::MAX);
        let mut entries = self.entries.lock();
        let id = entries.next;
        entries.next += 1;
        entries.all.truncate(others);
        let entry = Entry { id, seconds: unix_seconds, micros, args, peer, name };
        entries.all.push_front(Arc::new(entry));
    }

    /// The latest entries, at most `count`.
    pub(super) fn latest(&self, count: usize) -> Vec<Arc<Entry>> {
        self.entries.lock().all.iter().take(count).cloned().collect()
    }

    pub(super) fn len(&self) -> usize {
        self.entries.lock().all.len()
    }

    pub(super) fn clear(&self) {
        self.entries.lock().all.clear();
    }
}

/// The arguments of a request as an entry keeps them.
pub(super) fn shown(args: Args<'_>) -> Shown {
    let left_out = args.len().saturating_sub(SHOWN_ARGS);
    let kept = if left_out > 0 { SHOWN_ARGS - 1 } else { args.len() };
    let mut shown: Shown = args.iter().take(kept).map(shortened).collect();
    if left_out > 0 {
        shown.push(format!("... ({} more arguments)", args.len() - kept).into_bytes().into());
    }
    shown
}

fn shortened(arg: &[u8]) -> Box<[u8]> {
    match arg.split_at_checked(SHOWN_BYTES) {
        Some((first, rest)) if !rest.is_empty() => {
            [first, format!("... ({} more bytes)", rest.len()).as_bytes()].concat().into()
        }
        _ => arg.into(),
    }
}

#[cfg(test)]
mod tests {
    use tokio_util::sync::CancellationToken;

    use super::super::clients::Clients;
    use super::super::{Limits, RequestParser, Step};
    use super::*;
    use crate::model::timestamp;

    fn with_args(request: &str, check: impl FnOnce(Args<'_>)) {
        let mut parser = RequestParser::new(Limits::default());
        let line = format!("{request}\n");
        let Ok(Step::Request { args, .. }) = parser.next(line.as_bytes()) else { panic!("{request}") };
        check(args);
    }

    #[test]
    fn the_latest_are_kept_and_no_more_than_allowed() {
        let address = ([127, 0, 0, 1], 1).into();
        let clients = Clients::default();
        let client = clients.add(9, (address, address), timestamp::ZERO, CancellationToken::new()).unwrap();
        let log = SlowLog::default();
        let note = |micros| {
            let took = Duration::from_micros(micros);
            if log.is_slow(took) {
                log.add(took, 7, &client, Vec::new());
            }
        };
        note(9_999);
        assert_eq!(log.len(), 0);
        (0..200).for_each(|n| note(10_000 + n));
        assert_eq!((log.len(), log.latest(1)[0].id, log.latest(1)[0].micros), (128, 199, 10_199));
        log.set_max_len(2);
        assert_eq!(log.len(), 2);
        note(10_000);
        assert_eq!(log.latest(9).iter().map(|entry| entry.id).collect::<Vec<_>>(), [200, 199]);
        log.set_slower_than(-1);
        note(1_000_000);
        log.clear();
        assert_eq!(log.len(), 0);
    }

    #[test]
    fn what_cannot_be_slow_is_timed_only_if_the_threshold_is_low() {
        let log = SlowLog::default();
        let many = "k ".repeat(20);
        for (threshold, small, large) in [(10_000, false, true), (999, true, true), (-1, false, false)] {
            log.set_slower_than(threshold);
            with_args("GET k", |args| assert_eq!(log.times(args, false), small));
            with_args("EXEC", |args| assert_eq!(log.times(args, true), large));
            with_args(&format!("MGET {many}"), |args| assert_eq!(log.times(args, false), large));
            with_args(&format!("SET k {}", "v".repeat(20_000)), |args| {
                assert_eq!(log.times(args, false), large);
            });
        }
    }

    #[test]
    fn long_requests_are_shortened_as_in_redis() {
        with_args(&format!("MGET {}", "k ".repeat(32)), |args| {
            let shown = shown(args);
            assert_eq!((shown.len(), &*shown[31]), (32, &b"... (2 more arguments)"[..]));
        });
        with_args(&format!("SET k {}", "v".repeat(130)), |args| {
            let expected = format!("{}... (2 more bytes)", "v".repeat(128));
            assert_eq!(*shown(args)[2], *expected.as_bytes());
        });
    }
}
