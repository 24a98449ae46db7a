//! One client's connection: reads what has arrived, executes all of it, and writes all replies together.
//!
//! ```text
//!            ┌──────────────────────── more ────────────────────────┐
//!            ▼                                                      │
//!   read ──► parse ──► execute ──► (a long command: step, yield) ──►┤
//!    ▲                                                              │ output above 256 KiB, nothing left, or a
//!    │                                                              │ command that waits: the rest comes after it
//!    └───────────────────── write ◄──── publish ◄───────────────────┘
//! ```
//!
//! **Invariants.**
//! - At every `.await` all writes so far are published, because the task may be dropped there.
//! - A client that does not read costs at most [`FLUSH_AT`] and one reply, and twice [`MAX_WAITING`] if it receives
//!   pushes. While it does not read, nothing more of its input is read.
//!
//! [`MAX_WAITING`]: super::outbox::MAX_WAITING

use std::io;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use bytes::BufMut as _;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::time::{Instant, sleep};
use tokio_util::sync::CancellationToken;
use zeroize::Zeroize as _;

use super::buffer;
use super::clients::Client;
use super::command::{self, Context, Flow, Long, Wait};
use super::session::Session;
use super::shared::Shared;
use super::waiting::Waiting;
use super::watch;
use super::{ProtocolError, Reply, RequestParser, Step};
use crate::env::BoxStream;
use crate::model::Database;
use crate::stats::ONE_IN;
use crate::store::{Batch, PREFETCH_AHEAD};
use crate::time_slice::TimeSlice;

/// Output is written once it is larger than this.
const FLUSH_AT: usize = 256 << 10;
/// Space made for a read: enough for a pipeline of a hundred small writes.
const READ_AT_LEAST: usize = 16 << 10;
/// Most bytes of one read. This bounds how much of a pipeline is executed before other tasks run, and the space made
/// because a client announced a length.
const READ_AT_MOST: usize = 1 << 20;
/// After this many requests of one pipeline the task yields.
const YIELD_EVERY: u32 = 512;
/// How long a long command continues after the client has closed its sending side: it may still read.
const HALF_CLOSED: Duration = Duration::from_secs(1);

/// Serves one client until it leaves, is to be closed, or `stop` is cancelled.
pub(super) async fn serve(
    shared: Arc<Shared>,
    stream: BoxStream,
    client: Arc<Client>,
    stop: CancellationToken,
) {
    tracing::debug!(client = %client.peer, id = client.id, "connection opened");
    let kill = client.kill.clone();
    let mut connection = Connection::new(shared, stream, client);
    // Dropping this future loses only replies: see the first invariant.
    let outcome = tokio::select! {
        biased;
        () = kill.cancelled() => Ok(()),
        outcome = connection.work(stop) => outcome,
    };
    let (peer, id) = (connection.session.client.peer, connection.session.client.id);
    match outcome {
        _ if connection.session.client.outbox.has_overflowed() => {
            connection.shared.stats.cut_off.fetch_add(1, Relaxed);
            connection.shared.audit.cut_off(&connection.session.client);
        }
        Ok(()) => tracing::debug!(client = %peer, id, "connection closed"),
        Err(error) => tracing::debug!(client = %peer, id, %error, "connection lost"),
    }
    // In short slices, because there may be thousands of subscriptions.
    while !connection.session.unsubscribe(&connection.shared, &TimeSlice::begin()) {
        tokio::task::yield_now().await;
    }
}

struct Connection {
    shared: Arc<Shared>,
    stream: BoxStream,
    session: Session,
    parser: RequestParser,
    /// Bytes read and not yet executed.
    input: Vec<u8>,
    /// How many more bytes the parser needs.
    need: usize,
    /// Replies not yet written.
    output: Vec<u8>,
    batch: Batch,
    /// The number of batches executed; some of them are measured.
    batches: u32,
    /// A command that has not replied yet; later commands are executed after it has.
    waiting: Option<Waiting>,
}

/// The result of parsing and executing the next request.
enum Next {
    Go(Flow),
    /// The rest of the request has not arrived.
    Wait,
}

impl Connection {
    fn new(shared: Arc<Shared>, stream: BoxStream, client: Arc<Client>) -> Self {
        let session = Session::new(client, &shared.users.current());
        let mut parser = RequestParser::new(shared.settings.limits);
        parser.set_authenticated(session.is_authenticated());
        Connection {
            session,
            parser,
            input: Vec::new(),
            need: 0,
            output: Vec::new(),
            batch: Batch::default(),
            batches: 0,
            waiting: None,
            shared,
            stream,
        }
    }

    async fn work(&mut self, stop: CancellationToken) -> io::Result<()> {
        let mut stopped = pin!(stop.cancelled());
        loop {
            self.input.reserve(self.need.clamp(READ_AT_LEAST, READ_AT_MOST));
            // Also while a command waits, to notice when the client leaves; but only up to this size.
            let may_read = self.waiting.is_none() || self.input.len() < READ_AT_MOST;
            let has_large_buffers = self.has_large_buffers();
            let mut room = (&mut self.input).limit(READ_AT_MOST);
            // Cancel-safe: a dropped read has read nothing, the outbox keeps what has arrived, and the command and
            // the watcher keep what they wait for.
            let read = tokio::select! {
                biased;
                () = &mut stopped => {
                    self.end_waits().await?;
                    break;
                }
                () = Waiting::stirred(&mut self.waiting) => None,
                read = self.stream.read_buf(&mut room), if may_read => Some(read?),
                () = self.session.client.outbox.arrived(), if self.session.listens() => {
                    self.flush().await?;
                    continue;
                }
                () = watch::ready(self.session.watcher.as_deref()) => {
                    self.send_page().await?;
                    continue;
                }
                () = sleep(buffer::IDLE), if has_large_buffers => {
                    self.free_buffers();
                    continue;
                }
            };
            match read {
                Some(0) => break,
                Some(read) => self.session.counts.bytes_in += read as u64,
                None => _ = self.try_complete_wait(false),
            }
            if self.waiting.is_none() && !self.execute_all().await? {
                break;
            }
            // A client that sends requests without pause must get its watched changes too.
            if self.session.watcher.is_some() {
                tokio::select! {
                    biased;
                    () = watch::ready(self.session.watcher.as_deref()) => self.send_page().await?,
                    () = std::future::ready(()) => {}
                }
            }
        }
        self.stream.shutdown().await
    }

    /// Executes all complete requests in the input and writes their replies; `false` if the connection is to close.
    async fn execute_all(&mut self) -> io::Result<bool> {
        let started = self.batches.is_multiple_of(ONE_IN).then(Instant::now);
        self.batches = self.batches.wrapping_add(1);
        self.begin();
        let (mut at, mut executed) = (0, 0u32);
        let mut prepared = 0;
        let open = loop {
            let start = self.output.len();
            if prepared == 0 {
                prepared = self.prepare(at);
            }
            prepared -= 1;
            match self.next(&mut at) {
                Next::Wait => break true,
                Next::Go(Flow::Close) => {
                    self.session.drop_unwanted_reply(&mut self.output, start);
                    break false;
                }
                Next::Go(Flow::Continue) => {}
                Next::Go(Flow::Long(long)) => self.drive(long, start).await?,
                Next::Go(Flow::Wait(wait, deadline)) => {
                    if !self.wait_for(wait, deadline) {
                        break true;
                    }
                    continue;
                }
            }
            self.session.drop_unwanted_reply(&mut self.output, start);
            if self.output.len() > FLUSH_AT {
                self.flush().await?;
                self.begin();
            }
            executed += 1;
            if executed.is_multiple_of(YIELD_EVERY) {
                self.give_way().await;
            }
        };
        if std::mem::take(&mut self.session.has_read_password) {
            self.input[..at].zeroize();
        }
        self.input.drain(..at);
        buffer::trim(&mut self.input);
        self.session.client.note(self.batch.now(), self.session.call);
        if let Some(started) = started {
            self.shared.stats.latency.add(started.elapsed());
        }
        self.flush().await?;
        Ok(open)
    }

    fn begin(&mut self) {
        command::renew(&mut self.session, &self.shared);
        self.session.may_lack = self.shared.is_loading();
        self.shared.store.begin(&mut self.batch, self.shared.env.wall_clock());
    }

    /// Parses the next requests and prefetches their keys; returns how many requests to execute before the next call, at
    /// least one.
    fn prepare(&mut self, at: usize) -> usize {
        let mut keys = [&[][..]; PREFETCH_AHEAD];
        let (requests, found) = self.parser.look_ahead(&self.input[at..], &mut keys);
        // For a single lookup a prefetch gains nothing. Only in database 0 keys are stored as the requests contain them.
        if found > 1 && self.session.database() == Database::ZERO {
            self.shared.store.prefetch(&keys[..found]);
        }
        requests.max(1)
    }

    /// Parses and executes the request at `at`, and advances `at`.
    fn next(&mut self, at: &mut usize) -> Next {
        let mut cx = Context {
            shared: &self.shared,
            keyspace: self.session.keyspace(&self.shared.store),
            session: &mut self.session,
            batch: &mut self.batch,
            out: &mut self.output,
        };
        let flow = match self.parser.next(&self.input[*at..]) {
            Ok(Step::Request { args, consumed }) => {
                *at += consumed;
                command::execute(&mut cx, args)
            }
            Ok(Step::TooLarge { what, consumed }) => {
                *at += consumed;
                command::refuse(&mut cx, &what);
                Flow::Continue
            }
            Ok(Step::Incomplete { consumed, need }) => {
                *at += consumed;
                self.need = need;
                return Next::Wait;
            }
            Err(error) => {
                cx.shared.audit.bad_request(&cx.session.client, &error);
                // Sends no reply to a browser that was tricked into connecting, which could read it.
                if !matches!(error, ProtocolError::CrossProtocol | ProtocolError::Tls) {
                    Reply::new(cx.out, cx.session.proto).error(&format!("ERR {error}"));
                }
                Flow::Close
            }
        };
        drop(cx);
        self.parser.set_authenticated(self.session.is_authenticated());
        Next::Go(flow)
    }

    /// Yields to other tasks, after publishing the writes so far to the peers.
    async fn give_way(&mut self) {
        self.session.publish(&self.shared.store, &mut self.batch);
        tokio::task::yield_now().await;
        self.begin();
    }

    /// Runs a long command, whose reply begins at `start`, to its end. Between steps it publishes the writes and
    /// yields.
    ///
    /// # Errors
    /// If the client has closed the connection. A client that only closed its sending side looks the same, so the
    /// command continues for [`HALF_CLOSED`].
    async fn drive(&mut self, mut long: Box<dyn Long>, start: usize) -> io::Result<()> {
        let mut closed = None;
        loop {
            self.give_way().await;
            if closed.is_none() && self.has_closed().await? {
                closed = Some(Instant::now());
            }
            if closed.is_some_and(|since| since.elapsed() > HALF_CLOSED) {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            let mut cx = Context {
                shared: &self.shared,
                keyspace: self.session.keyspace(&self.shared.store),
                session: &mut self.session,
                batch: &mut self.batch,
                out: &mut self.output,
            };
            if command::step(&mut cx, &mut *long, start) {
                return Ok(());
            }
        }
    }

    /// Reads what has arrived without waiting; returns whether the client has closed its sending side.
    async fn has_closed(&mut self) -> io::Result<bool> {
        if self.input.len() >= READ_AT_MOST {
            return Ok(false);
        }
        self.input.reserve(READ_AT_LEAST);
        let mut room = (&mut self.input).limit(READ_AT_MOST);
        let read = tokio::select! {
            biased;
            read = self.stream.read_buf(&mut room) => read?,
            () = std::future::ready(()) => return Ok(false),
        };
        self.session.counts.bytes_in += read as u64;
        Ok(read == 0)
    }

    /// Starts the wait of a command; returns whether it has replied at once.
    fn wait_for(&mut self, command: Box<dyn Wait>, deadline: Option<Instant>) -> bool {
        self.waiting = Some(Waiting::new(command, deadline, &*self.shared.cluster));
        self.session.client.waits.store(true, Relaxed);
        self.try_complete_wait(false)
    }

    /// Lets the waiting command reply, if it can or this is the `last` time; returns whether no command waits any more.
    fn try_complete_wait(&mut self, last: bool) -> bool {
        let Some(mut waiting) = self.waiting.take() else { return true };
        waiting.rearm(&*self.shared.cluster);
        let (start, last) = (self.output.len(), last || waiting.is_due());
        let mut cx = Context {
            shared: &self.shared,
            keyspace: self.session.keyspace(&self.shared.store),
            session: &mut self.session,
            batch: &mut self.batch,
            out: &mut self.output,
        };
        let has_replied = command::try_reply(&mut cx, &mut *waiting.command, last);
        drop(cx);
        if !has_replied {
            self.waiting = Some(waiting);
            return false;
        }
        self.session.drop_unwanted_reply(&mut self.output, start);
        self.session.client.waits.store(false, Relaxed);
        true
    }

    /// On shutdown, lets waiting commands reply with the present state, and executes the requests behind them.
    async fn end_waits(&mut self) -> io::Result<()> {
        while self.waiting.is_some() {
            self.try_complete_wait(true);
            if !self.execute_all().await? {
                break;
            }
        }
        Ok(())
    }

    /// Publishes the writes, and writes the replies and the outbox.
    async fn flush(&mut self) -> io::Result<()> {
        self.session.publish(&self.shared.store, &mut self.batch);
        if self.session.listens() {
            command::renew_listener(&mut self.session, &self.shared);
            self.session.take_pushes(&mut self.output);
        }
        self.session.counts.bytes_out += self.output.len() as u64;
        self.shared.stats.add(&mut self.session.counts);
        self.write().await
    }

    /// Writes the watcher's next page, after the pending output.
    async fn send_page(&mut self) -> io::Result<()> {
        command::renew_listener(&mut self.session, &self.shared);
        if !self.output.is_empty() {
            self.flush().await?;
        }
        let Some(watcher) = &mut self.session.watcher else { return Ok(()) };
        let started = Instant::now();
        let page = watcher.next(self.shared.env.wall_clock());
        let messages = page.map(|page| watch::render(&page, self.session.proto)).unwrap_or_default();
        watcher.pay(started.elapsed());
        if !messages.is_empty() {
            let mut write = pin!(self.stream.write_all(&messages));
            // Counts the time that the system takes for the write, which is most of the work, but not waits for the
            // client.
            let write = std::future::poll_fn(|cx| {
                let started = Instant::now();
                let written = write.as_mut().poll(cx);
                watcher.pay(started.elapsed());
                written
            });
            self.shared.unless_cut(write).await?;
            self.session.counts.bytes_out += messages.len() as u64;
            self.shared.stats.add(&mut self.session.counts);
        }
        tokio::task::yield_now().await;
        Ok(())
    }

    fn has_large_buffers(&self) -> bool {
        [self.input.capacity(), self.output.capacity(), self.batch.capacity()]
            .into_iter()
            .any(buffer::is_large)
    }

    /// Frees the buffers that large requests have grown; a request that has partly arrived keeps its own.
    fn free_buffers(&mut self) {
        buffer::trim_idle(&mut self.input);
        buffer::trim_idle(&mut self.output);
        self.batch.free_buffers();
    }

    async fn write(&mut self) -> io::Result<()> {
        self.session.kept = 0;
        if !self.output.is_empty() {
            self.shared.unless_cut(self.stream.write_all(&self.output)).await?;
        }
        self.output.clear();
        buffer::trim(&mut self.output);
        Ok(())
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        self.session.stop_monitoring(&self.shared);
        while !self.session.unsubscribe(&self.shared, &TimeSlice::begin()) {}
        self.session.stop_events(&self.shared);
        self.session.stop_tracking(&self.shared);
        self.shared.clients.remove(self.session.client.id);
        self.shared.stats.open.fetch_sub(1, Relaxed);
    }
}
