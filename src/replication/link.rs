//! The conversation with one peer over one connection: hello, then pushes, acknowledgements, rounds and beats.
//!
//! ```text
//!  dialler                          dialled
//!  Hello -------------------------->
//!        <-------------------------- Hello
//!  judge; Welcome ----------------->
//!        <------------------ judge; Welcome
//!        <----- Put Ack Gap Start State Credit Done Beat ----->
//! ```
//!
//! One task a link runs four loops side by side: it reads, writes, beats and asks for rounds. Whichever ends
//! first ends the link; a peer's mistake never reaches beyond it.

use std::collections::VecDeque;
use std::io;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use bytes::Bytes;
use parking_lot::Mutex;
use tokio::sync::Notify;
use tokio::time::{Instant, MissedTickBehavior, interval, timeout};
use uhlc::NTP64;

use super::Shared;
use super::codec::{self, CodecError, Packed};
use super::frames::{FrameReader, FrameWriter};
use super::hello::Refused;
use super::message::{
    Acquaintance, Carrier, Cells, CellsEncoder, CellsError, Message, Refusal, incarnation_number,
};
use super::peers::Link;
use super::round::{self, Answer, Ask, NotAsked, Part};
use crate::cluster::PeerState;
use crate::model::{Time, stamp};
use crate::store::{Merged, PREFETCH_AHEAD};

/// How often each side says that it is alive.
const BEAT_EVERY: Duration = Duration::from_secs(1);

/// A peer that was not heard for this long is down. TCP alone does not notice a stopped process.
const SILENCE_LIMIT: Duration = Duration::from_secs(5);

/// How long one round may keep the others waiting. A slower one goes on, beside the next.
const ROUND_ALONE: Duration = Duration::from_secs(30);

/// How often a daemon that had to refuse data for want of memory asks for it again.
const REFUSED_RETRY: Duration = Duration::from_secs(5);

/// How often a peer is told at most that this daemon may hold what it lacks.
const CHECK_EVERY: Duration = Duration::from_secs(5);

/// How many queued bytes are gathered for one write to the socket.
const WRITE_BATCH: usize = 1 << 20;

/// How many bytes a link takes in or sends before it lets the daemon's other tasks run: a few milliseconds of
/// merging, so that a heal holds up neither clients nor its own beats.
const FAIR_SHARE: usize = 256 << 10;

/// Why a link ended. What was merged before stays merged.
#[derive(Debug, thiserror::Error)]
pub(super) enum LinkError {
    #[error("it closed the connection")]
    Closed,
    #[error("{0}")]
    Io(#[from] io::Error),
    #[error(transparent)]
    Codec(#[from] CodecError),
    #[error(transparent)]
    Cells(#[from] CellsError),
    #[error(transparent)]
    NotAsked(#[from] NotAsked),
    #[error("it sent {0} out of turn")]
    OutOfTurn(&'static str),
    #[error("not heard for {}s", SILENCE_LIMIT.as_secs())]
    Silent,
    #[error("its clock ran {0:.1?} ahead of this one, more than --max-clock-skew allows: set both by NTP")]
    Skewed(Duration),
    #[error("it shut down")]
    Goodbye,
    #[error("{0}")]
    Refused(Refused),
    #[error("another connection took its place")]
    Superseded,
    #[error("this daemon is stopping")]
    Stopping,
    #[error("its address is no longer dialled")]
    Dropped,
}

impl LinkError {
    /// The state that the peer is in after this.
    pub(super) fn state(&self) -> PeerState {
        match self {
            LinkError::Skewed(_) | LinkError::Cells(CellsError::Future(_)) => PeerState::Skewed,
            LinkError::Goodbye => PeerState::Left,
            LinkError::Refused(refused) if refused.refusal == Refusal::Skewed => PeerState::Skewed,
            _ => PeerState::Down,
        }
    }
}

/// Runs an admitted link to its end; returns what the peer should be told of it, if anything.
pub(super) async fn run(
    shared: &Shared,
    link: Arc<Link>,
    reader: &mut FrameReader,
    writer: &mut FrameWriter,
) -> Option<Refused> {
    let mut ending = Ending { shared, link: &link, error: LinkError::Dropped };
    let session = Session {
        shared,
        link: &link,
        inbound: Mutex::default(),
        heard: Mutex::new(Instant::now()),
        round_wanted: Notify::new(),
        round_done: Notify::new(),
    };
    session.round_wanted.notify_one();
    // Each loop runs to the link's end or not at all, so dropping the others mid-way loses nothing that the
    // link's end would not.
    let outcome = tokio::select! {
        end = session.read(reader) => end,
        end = session.write(writer) => end,
        end = session.beat() => end,
        end = session.ask_for_rounds() => end,
        () = link.stop.cancelled() => Err(LinkError::Superseded),
    };
    ending.error = match outcome {
        Err(_) if shared.draining.is_cancelled() => LinkError::Stopping,
        Err(error) => error,
        Ok(()) => LinkError::Closed,
    };
    match &ending.error {
        error @ LinkError::Skewed(_) => Some(Refused { refusal: Refusal::Skewed, text: error.to_string() }),
        _ => None,
    }
}

/// Ends a link in the table, whether its task ran to the end, was dropped or panicked.
struct Ending<'a> {
    shared: &'a Shared,
    link: &'a Link,
    error: LinkError,
}

impl Drop for Ending<'_> {
    fn drop(&mut self) {
        let news = self.shared.peers.closed(self.link, self.error.state(), &self.error.to_string());
        if news {
            // The peer may have reached some of us with its last pushes and not the others.
            for other in self.shared.peers.links() {
                other.suspect.store(true, Ordering::Relaxed);
            }
        }
    }
}

/// What the loops of one link share.
struct Session<'a> {
    shared: &'a Shared,
    link: &'a Link,
    inbound: Mutex<Inbound>,
    heard: Mutex<Instant>,
    round_wanted: Notify,
    round_done: Notify,
}

/// What the peer's messages have led to.
#[derive(Default)]
struct Inbound {
    /// The peer's epoch, and its pushes that were merged in it.
    epoch: u32,
    puts: u64,
    acknowledged: u64,
    ask: Ask,
    /// The round that the peer asked for, and how often pushes to it had been lost when it began.
    answer: Option<(Answer, u64)>,
    /// Something of the peer's was refused for want of memory: nothing is acknowledged until a round has
    /// brought it.
    refused: Option<Withheld>,
    scratch: Vec<u8>,
}

/// Data that the peer sent and this daemon had no room for.
struct Withheld {
    /// When it was refused, or a round to get it was wanted.
    since: Instant,
    /// A round has started since, in which nothing was refused so far.
    retried: bool,
}

impl Drop for Session<'_> {
    fn drop(&mut self) {
        if self.inbound.get_mut().refused.is_some() {
            self.shared.refusing.fetch_sub(1, Ordering::Relaxed);
        }
    }
}

impl Session<'_> {
    async fn read(&self, reader: &mut FrameReader) -> Result<(), LinkError> {
        let mut share = 0;
        let heard = || *self.heard.lock() = Instant::now();
        while let Some(frame) = reader.next(heard).await? {
            self.link.received.fetch_add(frame.len() as u64, Ordering::Relaxed);
            self.receive(&frame)?;
            share += frame.len();
            if share > FAIR_SHARE {
                share = 0;
                tokio::task::yield_now().await;
            }
        }
        Err(LinkError::Closed)
    }

    fn receive(&self, frame: &[u8]) -> Result<(), LinkError> {
        let mut inbound = self.inbound.lock();
        match codec::decode::<Message<'_>>(frame)? {
            Message::Put(cells) => {
                self.merge(&mut inbound, &cells)?;
                inbound.puts += 1;
                self.link.queue.wake();
            }
            Message::Ack { epoch, puts } => self.link.queue.acknowledge(epoch, puts),
            Message::Gap => {
                tracing::info!(peer = %self.link.peer, "the peer had to drop pushes: taking its state");
                inbound.epoch += 1;
                inbound.puts = 0;
                inbound.acknowledged = 0;
                self.round_wanted.notify_one();
            }
            Message::Check => self.round_wanted.notify_one(),
            Message::Start { .. } if inbound.answer.is_some() => return Err(LinkError::OutOfTurn("Start")),
            Message::Start { digest } => {
                let losses = self.link.queue.losses();
                inbound.answer = Some((Answer::new(&self.shared.store, digest), losses));
                self.link.queue.wake();
            }
            Message::State(cells) => {
                self.merge(&mut inbound, &cells)?;
                inbound.ask.on_state(frame.len() as u64)?;
                self.link.queue.wake();
            }
            Message::Credit { bytes } => {
                if let Some((answer, _)) = &mut inbound.answer {
                    answer.grant(bytes);
                    self.link.queue.wake();
                }
            }
            Message::Done => {
                inbound.ask.on_done()?;
                if inbound.refused.take_if(|refused| refused.retried).is_some() {
                    self.shared.refusing.fetch_sub(1, Ordering::Relaxed);
                    self.link.queue.wake();
                }
                drop(inbound);
                tracing::debug!(peer = %self.link.peer, "round finished");
                self.shared.peers.joined(self.link);
                self.round_done.notify_one();
            }
            Message::Beat { wall, hlc, peers } => {
                drop(inbound);
                self.on_beat(NTP64(wall), NTP64(hlc), peers)?;
            }
            Message::Goodbye => return Err(LinkError::Goodbye),
            Message::Refuse { refusal, text } => {
                return Err(LinkError::Refused(Refused { refusal, text: text.to_owned() }));
            }
            Message::Welcome => return Err(LinkError::OutOfTurn("Welcome")),
        }
        Ok(())
    }

    /// Merges received cells, once all of them were checked and the clock has moved past them.
    fn merge(&self, inbound: &mut Inbound, cells: &Cells<'_>) -> Result<(), LinkError> {
        let store = &self.shared.store;
        let wall = self.shared.env.wall_clock();
        let checked = cells.check(store, wall, self.shared.peers.own().horizon(wall))?;
        store.observe(checked.latest);
        for cells in checked.cells.chunks(PREFETCH_AHEAD) {
            let mut keys = [&[][..]; PREFETCH_AHEAD];
            keys.iter_mut().zip(cells).for_each(|(next, (key, _))| *next = key);
            store.prefetch(&keys[..cells.len()]);
            for (key, parts) in cells {
                let merged = store.merge(&mut inbound.scratch, key, parts);
                if merged == Merged::Refused {
                    self.withhold(inbound);
                }
            }
        }
        Ok(())
    }

    fn withhold(&self, inbound: &mut Inbound) {
        if inbound.refused.is_none() {
            self.shared.refusing.fetch_add(1, Ordering::Relaxed);
            tracing::warn!(peer = %self.link.peer, "out of memory: refusing what the peer sends until there is room");
        }
        inbound.refused = Some(Withheld { since: Instant::now(), retried: false });
    }

    fn on_beat(&self, wall: Time, hlc: Time, peers: Packed<'_>) -> Result<(), LinkError> {
        let own = self.shared.peers.own();
        let here = self.shared.env.wall_clock();
        // A beat may be late, so it can show that the peer's clock leads, but not that it lags: that the peer
        // sees for itself.
        if wall > stamp::later(here, own.max_clock_skew) {
            return Err(LinkError::Skewed(stamp::distance(wall, here)));
        }
        if hlc > own.horizon(here) {
            return Err(LinkError::Skewed(stamp::distance(hlc, here)));
        }
        self.shared.store.observe(hlc);
        for peer in peers.items::<Acquaintance<'_>>() {
            let Acquaintance { incarnation, advertise, .. } = peer?;
            let known = stamp::incarnation(incarnation)
                .is_none_or(|id| id == own.incarnation || self.shared.peers.is_linked(id));
            if !known {
                self.shared.dial(advertise);
            }
        }
        Ok(())
    }

    async fn write(&self, writer: &mut FrameWriter) -> Result<(), LinkError> {
        let mut frames = VecDeque::new();
        let mut encoder = CellsEncoder::default();
        loop {
            self.link.queue.take(&mut frames, WRITE_BATCH);
            self.add_what_is_due(&mut frames, &mut encoder);
            if frames.is_empty() {
                self.link.queue.ready().await;
                continue;
            }
            let bytes = frames.iter().map(Bytes::len).sum::<usize>();
            writer.write(&mut frames).await?;
            self.link.sent.fetch_add(bytes as u64, Ordering::Relaxed);
            if bytes > FAIR_SHARE {
                tokio::task::yield_now().await;
            }
        }
    }

    /// Adds what the peer's messages call for: an acknowledgement, credit, the next part of our state.
    fn add_what_is_due(&self, frames: &mut VecDeque<Bytes>, encoder: &mut CellsEncoder) {
        let mut inbound = self.inbound.lock();
        if inbound.puts > inbound.acknowledged && inbound.refused.is_none() {
            inbound.acknowledged = inbound.puts;
            let ack = Message::Ack { epoch: inbound.epoch, puts: inbound.puts };
            frames.push_back(codec::frame(&ack));
        }
        if let Some(bytes) = inbound.ask.take_credit() {
            frames.push_back(codec::frame(&Message::Credit { bytes }));
        }
        let Some((answer, losses)) = &mut inbound.answer else { return };
        match answer.next(&self.shared.store, encoder) {
            Some(Part::State(frame)) => frames.push_back(frame),
            Some(Part::Done(frame)) => {
                // Acknowledged like any push, and only if nothing was refused: so the state has been merged.
                self.link.queue.put(CellsEncoder::default().finish(&self.shared.store, Carrier::Put));
                self.link.queue.state_sent(*losses);
                inbound.answer = None;
                frames.push_back(frame);
            }
            None => {}
        }
    }

    async fn beat(&self) -> Result<(), LinkError> {
        let mut ticks = interval(BEAT_EVERY);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut peers = Vec::new();
        let mut last = Instant::now();
        let mut checked: Option<Instant> = None;
        loop {
            ticks.tick().await;
            // After a pause of this daemon itself, what the peer said meanwhile has yet to be read.
            let awake = last.elapsed() < 2 * BEAT_EVERY;
            last = Instant::now();
            if awake && self.heard.lock().elapsed() > SILENCE_LIMIT {
                return Err(LinkError::Silent);
            }
            peers.clear();
            self.shared.peers.acquaintances(|name, incarnation, advertise| {
                let incarnation = incarnation_number(incarnation);
                codec::append(&Acquaintance { name, incarnation, advertise }, &mut peers);
            });
            let wall = self.shared.env.wall_clock();
            let hlc = self.shared.store.now(wall);
            let beat = Message::Beat { wall: wall.0, hlc: hlc.0, peers: Packed(&peers) };
            self.link.queue.beat(&beat);
            self.retry_what_was_refused();
            if checked.is_none_or(|at| at.elapsed() > CHECK_EVERY)
                && self.link.suspect.swap(false, Ordering::Relaxed)
            {
                checked = Some(Instant::now());
                self.link.queue.send(&Message::Check);
            }
        }
    }

    fn retry_what_was_refused(&self) {
        let mut inbound = self.inbound.lock();
        if let Some(refused) = &mut inbound.refused
            && refused.since.elapsed() > REFUSED_RETRY
            && self.shared.store.has_room()
        {
            refused.since = Instant::now();
            self.round_wanted.notify_one();
        }
    }

    async fn ask_for_rounds(&self) -> Result<(), LinkError> {
        loop {
            self.round_wanted.notified().await;
            let alone = self.shared.rounds.acquire().await.map_err(|_| LinkError::Superseded)?;
            {
                let mut inbound = self.inbound.lock();
                inbound.ask.start();
                if let Some(refused) = &mut inbound.refused {
                    refused.retried = true;
                }
            }
            let digest = round::digest(&self.shared.store);
            tracing::debug!(peer = %self.link.peer, "round started");
            self.link.queue.send(&Message::Start { digest });
            if timeout(ROUND_ALONE, self.round_done.notified()).await.is_err() {
                drop(alone);
                self.round_done.notified().await;
            }
        }
    }
}
