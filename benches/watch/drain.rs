//! Watchers that read all that they receive, in one thread, and know whether they end with the final values.
//!
//! They do not parse: they look for keys of the load's length and for how the value behind each begins. So a thousand of
//! them take little from the load on the same core.

use std::cell::RefCell;
use std::io::ErrorKind;
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering::Relaxed};
use std::thread::JoinHandle;

use anyhow::{Context as _, Result, bail, ensure};
use memchr::memmem;
use tokio::io::AsyncWriteExt as _;
use tokio::net::TcpStream;
use tokio::task::{JoinSet, LocalSet};

/// What a final value begins with; no byte of it is in the load's values.
pub(crate) const FINAL: &[u8] = b"!final";
/// What comes before the number of a key, and between that and its value of 100 bytes.
const BEFORE: &[u8] = b"$16\r\nkey:";
const BETWEEN: &[u8] = b"\r\n$100\r\n";
const DIGITS: usize = 12;
/// A key, up to where it shows whether its value is final.
const ENOUGH: usize = BEFORE.len() + DIGITS + BETWEEN.len() + FINAL.len();
/// Read at a time, by all of them into one buffer.
const READ: usize = 256 << 10;

/// What the watchers have come to.
#[derive(Default)]
pub(crate) struct Progress {
    /// Those that have received the whole snapshot.
    pub(crate) live: AtomicUsize,
    /// Those whose last value of every key is final.
    pub(crate) done: AtomicUsize,
    pub(crate) bytes: AtomicU64,
    stop: AtomicBool,
}

/// The thread of the watchers.
pub(crate) struct Watchers {
    pub(crate) progress: Arc<Progress>,
    thread: Option<JoinHandle<Result<()>>>,
}

impl Watchers {
    /// Begins to watch all keys of the load, on the cores of the calling thread.
    pub(crate) fn start(server: SocketAddr, watchers: u32, keys: u32) -> Watchers {
        let progress = Arc::new(Progress::default());
        let shown = Arc::clone(&progress);
        let thread = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
            LocalSet::new().block_on(&runtime, watch(server, watchers, keys as usize, &shown))
        });
        Watchers { progress, thread: Some(thread) }
    }

    /// Whether they have ended by themselves, which they only do if something is wrong.
    pub(crate) fn have_ended(&self) -> bool {
        self.thread.as_ref().is_none_or(JoinHandle::is_finished)
    }

    /// # Errors
    /// What a watcher received that it should not have, or did not receive.
    pub(crate) fn end(mut self) -> Result<()> {
        self.progress.stop.store(true, Relaxed);
        let thread = self.thread.take().context("ended already")?;
        thread.join().map_err(|_| anyhow::anyhow!("the thread of the watchers panicked"))?
    }
}

impl Drop for Watchers {
    fn drop(&mut self) {
        self.progress.stop.store(true, Relaxed);
    }
}

async fn watch(server: SocketAddr, watchers: u32, keys: usize, progress: &Arc<Progress>) -> Result<()> {
    let buffer = Rc::new(RefCell::new(vec![0; READ]));
    let mut tasks = JoinSet::new();
    for _ in 0..watchers {
        let mut stream = TcpStream::connect(server).await?;
        stream.write_all(b"HELLO 3\r\nSAPWOOD WATCH key:\r\n").await?;
        let watcher = Watcher { received: Received::new(keys), progress: Arc::clone(progress) };
        tasks.spawn_local(watcher.read(stream, Rc::clone(&buffer)));
    }
    let mut tick = tokio::time::interval(std::time::Duration::from_millis(20));
    while !progress.stop.load(Relaxed) {
        tokio::select! {
            ended = tasks.join_next() => ended.context("nobody watches")??,
            _ = tick.tick() => Ok(()),
        }?;
    }
    Ok(())
}

struct Watcher {
    received: Received,
    progress: Arc<Progress>,
}

impl Watcher {
    /// Reads for ever; ends with an error alone.
    async fn read(mut self, stream: TcpStream, buffer: Rc<RefCell<Vec<u8>>>) -> Result<()> {
        // What was read and is not yet enough.
        let mut rest = Vec::new();
        loop {
            stream.readable().await?;
            let mut buffer = buffer.borrow_mut();
            buffer[..rest.len()].copy_from_slice(&rest);
            let read = match stream.try_read(&mut buffer[rest.len()..]) {
                Ok(0) => bail!("the node has closed a watch"),
                Ok(read) => read,
                Err(error) if error.kind() == ErrorKind::WouldBlock => continue,
                Err(error) => return Err(error.into()),
            };
            self.progress.bytes.fetch_add(read as u64, Relaxed);
            let all = &buffer[..rest.len() + read];
            let (was_live, was_done) = (self.received.live, self.received.is_done());
            let seen = self.received.take(all)?;
            rest = all[seen..].to_vec();
            if self.received.live && !was_live {
                self.progress.live.fetch_add(1, Relaxed);
            }
            match (was_done, self.received.is_done()) {
                (false, true) => _ = self.progress.done.fetch_add(1, Relaxed),
                (true, false) => bail!("a watcher received an older value after the final one"),
                _ => {}
            }
        }
    }
}

/// What one watcher has received.
struct Received {
    /// Whether the last value of each key was final, and of how many it was.
    is_final: Vec<bool>,
    finals: usize,
    resets: usize,
    live: bool,
}

impl Received {
    fn new(keys: usize) -> Received {
        Received { is_final: vec![false; keys], finals: 0, resets: 0, live: false }
    }

    fn is_done(&self) -> bool {
        self.finals == self.is_final.len()
    }

    /// Takes in what it can; returns up to where.
    fn take(&mut self, bytes: &[u8]) -> Result<usize> {
        if !self.live {
            // In a page of its own, which may be cut anywhere: what is left is looked at again.
            self.resets += memmem::find_iter(bytes, b"$5\r\nreset\r\n").count();
            self.live = memmem::find(bytes, b"$4\r\nlive\r\n").is_some();
        } else if memmem::find(bytes, b"$5\r\nreset\r\n").is_some() {
            bail!("a watcher was reset");
        }
        let mut seen = bytes.len().saturating_sub(ENOUGH);
        for at in memmem::find_iter(bytes, BEFORE) {
            let Some(event) = bytes.get(at..at + ENOUGH) else { break };
            self.learn(&event[BEFORE.len()..])?;
            seen = seen.max(at + ENOUGH);
        }
        Ok(seen)
    }

    fn learn(&mut self, event: &[u8]) -> Result<()> {
        let (digits, value) = event.split_at(DIGITS);
        ensure!(value.starts_with(BETWEEN), "{:?}", String::from_utf8_lossy(event));
        let key: usize = std::str::from_utf8(digits)?.parse()?;
        let was_final = self.is_final.get_mut(key).context("a key that nobody has written")?;
        let is_final = value.ends_with(FINAL);
        self.finals = self.finals + usize::from(is_final) - usize::from(*was_final);
        *was_final = is_final;
        Ok(())
    }
}
