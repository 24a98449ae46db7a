//! The file of lost cells: one JSON object per line.
//!
//! ```text
//!   link --write--> bounded queue --> thread --> file
//! ```
//!
//! A link never waits for the file: a separate thread writes to it, because a disk that hangs would block a
//! worker of the runtime. A cell that finds no room in the queue, or cannot be written, is counted and logged,
//! and appears in `sapwood lost` only. Without a file there is no thread, so simulated nodes have none.

use std::fs::File;
use std::io::{self, Write};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering::Relaxed};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use tokio::sync::watch;
use tokio::time::timeout;
use tracing_mutex::parkinglot::Mutex;

use crate::cluster::LostCell;
use crate::model::{Deadline, timestamp};

/// The most cells that may wait for the file: as many as `sapwood lost` lists.
const MAX_WAITING: usize = 10_000;

/// The most bytes of keys and values that may wait: as much as `sapwood lost` keeps.
const MAX_WAITING_BYTES: usize = 16 << 20;

/// How long a stopping node waits until all lost cells are in the file. A disk takes milliseconds.
const FLUSH_LIMIT: Duration = Duration::from_secs(1);

/// The file that lost cells are appended to, if one is configured.
pub(super) struct LostFile(Option<Writer>);

/// The link side of the writing thread.
struct Writer {
    /// `None` once no more cells are accepted.
    cells: Mutex<Option<SyncSender<LostCell>>>,
    counts: Arc<Counts>,
    /// Becomes true when the thread has ended, with everything written.
    ended: watch::Receiver<bool>,
}

#[derive(Default)]
struct Counts {
    /// The number of cells that wait.
    cells: AtomicUsize,
    bytes: AtomicUsize,
    /// Cells that are not in the file.
    unwritten: AtomicU64,
}

fn size(lost: &LostCell) -> usize {
    lost.key.len() + lost.value.as_ref().map_or(0, Vec::len)
}

impl LostFile {
    /// Opens the file for appending.
    ///
    /// # Errors
    /// The error of the system.
    pub(super) fn open(path: Option<&Path>) -> io::Result<Self> {
        let Some(path) = path else { return Ok(LostFile(None)) };
        Self::to(File::options().create(true).append(true).open(path)?)
    }

    fn to(file: impl Write + Send + 'static) -> io::Result<Self> {
        let (sender, cells) = sync_channel(MAX_WAITING);
        let (end, ended) = watch::channel(false);
        let counts = Arc::new(Counts::default());
        let seen = Arc::clone(&counts);
        std::thread::Builder::new().name("sapwood-lost".into()).spawn(move || {
            write_all(file, &cells, &seen);
            end.send_replace(true);
        })?;
        Ok(LostFile(Some(Writer { cells: Mutex::new(Some(sender)), counts, ended })))
    }

    /// Queues a cell to be appended. Never waits.
    pub(super) fn write(&self, lost: LostCell) {
        let Some(Writer { cells, counts, .. }) = &self.0 else { return };
        let size = size(&lost);
        let cells = cells.lock();
        // Under the lock, so that the check still holds when the cell is queued.
        let has_room = counts.bytes.load(Relaxed) + size <= MAX_WAITING_BYTES;
        counts.bytes.fetch_add(size, Relaxed);
        counts.cells.fetch_add(1, Relaxed);
        if !has_room || cells.as_ref().is_none_or(|cells| cells.try_send(lost).is_err()) {
            drop(cells);
            counts.bytes.fetch_sub(size, Relaxed);
            counts.cells.fetch_sub(1, Relaxed);
            let unwritten = counts.unwritten.fetch_add(1, Relaxed) + 1;
            // Logged for the first, second, fourth and so on: there may be many.
            if unwritten.is_power_of_two() {
                tracing::error!(
                    unwritten,
                    "--lost-file is too slow: what was given up is in `sapwood lost` only"
                );
            }
        }
    }

    /// Accepts no more cells, and waits until the accepted ones are written, for at most [`FLUSH_LIMIT`].
    pub(super) async fn close(&self) {
        let Some(Writer { cells, counts, ended }) = &self.0 else { return };
        *cells.lock() = None;
        let mut ended = ended.clone();
        // An error means that the thread has ended: there is nothing to wait for.
        let _ = timeout(FLUSH_LIMIT, ended.wait_for(|ended| *ended)).await;
        let unwritten = counts.unwritten.load(Relaxed) + counts.cells.load(Relaxed) as u64;
        if unwritten > 0 {
            tracing::error!(unwritten, "stopping although --lost-file lacks what was given up");
        }
    }
}

/// Writes cells until the queue is closed.
fn write_all(mut file: impl Write, cells: &Receiver<LostCell>, counts: &Counts) {
    let mut is_failing = false;
    for lost in cells {
        let written = file.write_all(line(&lost).as_bytes());
        counts.bytes.fetch_sub(size(&lost), Relaxed);
        counts.cells.fetch_sub(1, Relaxed);
        match written {
            Ok(()) => is_failing = false,
            Err(error) => {
                let unwritten = counts.unwritten.fetch_add(1, Relaxed) + 1;
                if !std::mem::replace(&mut is_failing, true) || unwritten.is_power_of_two() {
                    tracing::error!(%error, unwritten, "cannot write to --lost-file");
                }
            }
        }
    }
}

fn line(lost: &LostCell) -> String {
    let object = serde_json::json!({
        "database": lost.database,
        "key": STANDARD.encode(&lost.key),
        "value": lost.value.as_ref().map(|value| STANDARD.encode(value)),
        "value_bytes": lost.value_bytes,
        "timestamp_ms": timestamp::unix_millis(lost.timestamp.time()),
        "origin": lost.timestamp.incarnation().to_string(),
        "deadline_ms": lost.deadline.map(Deadline::as_unix_millis),
        "peer": lost.peer,
    });
    format!("{object}\n")
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc::{Sender, channel};
    use std::time::Instant;

    use super::*;
    use crate::model::timestamp::{ZERO, incarnation};

    /// A disk that hangs until it is released, and then keeps what was written.
    struct Disk {
        held: Option<Receiver<()>>,
        written: Arc<Mutex<Vec<u8>>>,
    }

    impl Write for Disk {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            if let Some(held) = self.held.take() {
                let _ = held.recv();
            }
            self.written.lock().extend_from_slice(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    fn hanging() -> (LostFile, Sender<()>, Arc<Mutex<Vec<u8>>>) {
        let (release, held) = channel();
        let written = Arc::default();
        let file = LostFile::to(Disk { held: Some(held), written: Arc::clone(&written) }).unwrap();
        (file, release, written)
    }

    fn lost(key: String, value: usize) -> LostCell {
        LostCell {
            database: Some(0),
            key: key.into(),
            value: Some(vec![b'x'; value]),
            value_bytes: value,
            timestamp: crate::model::Timestamp::new(ZERO, incarnation(1).unwrap()),
            deadline: None,
            peer: "b".into(),
        }
    }

    #[tokio::test]
    async fn a_disk_that_hangs_holds_up_nobody_and_what_waits_is_written_in_the_end() {
        let (file, release, written) = hanging();
        let started = Instant::now();
        (0..100).for_each(|n| file.write(lost(format!("key:{n}"), 10)));
        assert!(started.elapsed() < Duration::from_secs(5));
        assert!(written.lock().is_empty());
        drop(release);
        file.close().await;
        let written = String::from_utf8(written.lock().clone()).unwrap();
        assert_eq!(written.lines().count(), 100);
        assert!(
            written.starts_with(&format!(
                "{{\"database\":0,\"deadline_ms\":null,\"key\":\"{}\"",
                STANDARD.encode("key:0")
            )),
            "{written}"
        );
    }

    #[tokio::test]
    async fn what_a_disk_that_hangs_leaves_no_room_for_is_counted() {
        let (file, release, written) = hanging();
        let counts = Arc::clone(&file.0.as_ref().unwrap().counts);
        (0..MAX_WAITING_BYTES / (1 << 20) + 2).for_each(|n| file.write(lost(n.to_string(), 1 << 20)));
        assert_eq!(counts.unwritten.load(Relaxed), 3);
        (0..MAX_WAITING + 1).for_each(|n| file.write(lost(n.to_string(), 0)));
        assert!(counts.unwritten.load(Relaxed) > 3, "cells are limited too");
        assert!(written.lock().is_empty());
        drop(release);
    }

    #[tokio::test]
    async fn a_node_that_stops_waits_for_a_disk_that_hangs_for_a_bounded_time() {
        let (file, release, _) = hanging();
        file.write(lost("key".into(), 10));
        let started = Instant::now();
        file.close().await;
        assert!(started.elapsed() >= FLUSH_LIMIT && started.elapsed() < Duration::from_secs(30));
        file.write(lost("late".into(), 10));
        assert_eq!(file.0.as_ref().unwrap().counts.unwritten.load(Relaxed), 1);
        drop(release);
    }
}
