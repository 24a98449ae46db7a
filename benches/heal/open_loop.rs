//! Reads at a fixed rate that does not wait for replies: one that comes late counts with all the time since it was
//! due, and so do those behind it.

use std::io::{Read as _, Write as _};
use std::net::{Shutdown, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};

use crate::support::load::{self, KEY, VALUE, encode, write_key};

/// Between two reads: 2,000 a second.
const INTERVAL: Duration = Duration::from_micros(500);

/// One read: when it was due, and how long from then until its reply had come.
pub(crate) type Sample = (Instant, Duration);

/// Reads under way on one node.
pub(crate) struct OpenLoop {
    stop: Arc<AtomicBool>,
    sending: JoinHandle<Result<()>>,
    receiving: JoinHandle<Result<Vec<Sample>>>,
}

impl OpenLoop {
    /// Starts to read keys from `0..keys`.
    pub(crate) fn start(server: SocketAddr, keys: u32) -> Result<OpenLoop> {
        let stop = Arc::new(AtomicBool::new(false));
        let mut to = load::open(server)?;
        let mut from = to.try_clone()?;
        let started = Instant::now();
        let due = move |count: u32| started + INTERVAL * count;
        let stopping = Arc::clone(&stop);
        let sending = thread::Builder::new().name("reads".into()).spawn(move || {
            let mut request = encode(&[b"GET", &[b'0'; KEY]]);
            let key_at = request.len() - 2 - KEY;
            for count in 0.. {
                wait_until(due(count));
                if stopping.load(Ordering::Relaxed) {
                    break;
                }
                // A prime step, so that neighbours are far apart.
                let key = u64::from(count) * 7_919 % u64::from(keys);
                write_key(&mut request[key_at..key_at + KEY], u32::try_from(key)?);
                to.write_all(&request)?;
            }
            // The node answers what it has got and closes.
            Ok(to.shutdown(Shutdown::Write)?)
        })?;
        let receiving = thread::Builder::new().name("replies".into()).spawn(move || {
            let mut samples = Vec::new();
            let mut replies = Replies::default();
            let mut buffer = vec![0; 64 << 10];
            loop {
                let read = from.read(&mut buffer).context("a reply did not come")?;
                let now = Instant::now();
                if read == 0 {
                    return Ok(samples);
                }
                for _ in 0..replies.feed(&buffer[..read])? {
                    let due = due(u32::try_from(samples.len())?);
                    samples.push((due, now.saturating_duration_since(due)));
                }
            }
        })?;
        Ok(OpenLoop { stop, sending, receiving })
    }

    /// Stops and returns every read.
    pub(crate) fn finish(self) -> Result<Vec<Sample>> {
        self.stop.store(true, Ordering::Relaxed);
        self.sending.join().ok().context("the sender of reads panicked")??;
        self.receiving.join().ok().context("the receiver of replies panicked")?
    }
}

/// Counts replies: a value of the bench's size, or none.
#[derive(Default)]
struct Replies {
    rest: Vec<u8>,
}

impl Replies {
    fn feed(&mut self, bytes: &[u8]) -> Result<u32> {
        const NONE: &[u8] = b"$-1\r\n";
        const SOME: &[u8] = b"$100\r\n";
        self.rest.extend_from_slice(bytes);
        let (mut at, mut count) = (0, 0);
        loop {
            let left = &self.rest[at..];
            let size = match left {
                left if left.starts_with(NONE) => NONE.len(),
                left if left.starts_with(SOME) => SOME.len() + VALUE + 2,
                left if left.len() < SOME.len() => break,
                left => bail!("unexpected reply {:?}", String::from_utf8_lossy(&left[..left.len().min(80)])),
            };
            if left.len() < size {
                break;
            }
            at += size;
            count += 1;
        }
        self.rest.drain(..at);
        Ok(count)
    }
}

#[expect(clippy::disallowed_methods, reason = "keeps to a schedule: what is awaited is the time itself")]
fn wait_until(due: Instant) {
    let left = due.saturating_duration_since(Instant::now());
    if !left.is_zero() {
        thread::sleep(left);
    }
}
