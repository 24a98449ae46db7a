//! Moves frames of one link between a connection and its [session](super::session).
//!
//! One task per link runs three loops concurrently: it reads, writes and sends heartbeats. The first loop to
//! end ends the link; an error of a peer ends only its own link.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use tokio::time::{Instant, MissedTickBehavior, interval, sleep_until};
use tracing_mutex::parkinglot::Mutex;

use super::Shared;
use super::cells::CellsEncoder;
use super::faults::Traffic;
use super::frames::{FrameReader, FrameWriter};
use super::hello::Refused;
use super::message::Refusal;
use super::peers::Link;
use super::push;
use super::session::{Event, LinkError, SILENCE_LIMIT};
use crate::cluster::EventKind;

/// The interval between the heartbeats of each side.
pub(super) const HEARTBEAT_EVERY: Duration = Duration::from_secs(1);

/// The most queued bytes that are gathered for one write to the socket.
const WRITE_BATCH: usize = 1 << 20;

/// How many bytes a link receives or sends before it lets the node's other tasks run: a few milliseconds of
/// merging, so that healing delays neither clients nor the link's own heartbeats.
const FAIR_SHARE: usize = 256 << 10;

/// Runs an admitted link to its end. Returns the last message to send to the peer, if any.
pub(super) async fn run(
    shared: &Shared,
    link: Arc<Link>,
    reader: &mut FrameReader,
    writer: &mut FrameWriter,
) -> Option<Refused> {
    let mut ending = Ending { shared, link: &link, error: LinkError::Dropped };
    let wire = Wire { shared, link: &link, heard: Mutex::new(Instant::now()) };
    // Each loop runs to the end of the link, so dropping the others midway loses nothing that the end of the
    // link would not lose.
    let outcome = tokio::select! {
        end = wire.read(reader) => end,
        end = wire.write(writer) => end,
        end = wire.heartbeat() => end,
        () = link.stop.cancelled() => Err(LinkError::Superseded),
    };
    if let Err(error) = &outcome {
        shared.count_damage(error);
    }
    ending.error = match outcome {
        Err(_) if shared.draining.is_cancelled() => LinkError::Stopping,
        Err(_) if shared.faults.cuts(&link.peer) => LinkError::Cut,
        Err(LinkError::Superseded) if shared.local.members.lock().incarnation() != link.own => {
            LinkError::Renewed
        }
        Err(error) => error,
        Ok(()) => LinkError::Closed,
    };
    match &ending.error {
        error @ LinkError::Skewed(_) => Some(Refused { refusal: Refusal::Skewed, text: error.to_string() }),
        _ => None,
    }
}

/// Ends a link in the table when it is dropped, also if the link's task was dropped or panicked.
struct Ending<'a> {
    shared: &'a Shared,
    link: &'a Link,
    error: LinkError,
}

impl Drop for Ending<'_> {
    fn drop(&mut self) {
        let news = self.shared.unlink(self.link, &self.error);
        if news {
            // The peer may have reached only some nodes with its last pushes, and from here on others have to
            // relay its writes. So the next heartbeat, which reports the end of the link, is sent at once.
            let (now, links) = (Instant::now(), self.shared.peers.links());
            let heartbeat = (!links.is_empty()).then(|| self.shared.heartbeat());
            for other in links {
                other.session.lock().want_sync(now);
                other.queue.heartbeat(heartbeat.clone().unwrap_or_default());
            }
        }
    }
}

/// What the loops of one link share.
struct Wire<'a> {
    shared: &'a Shared,
    link: &'a Arc<Link>,
    heard: Mutex<Instant>,
}

impl Wire<'_> {
    async fn read(&self, reader: &mut FrameReader) -> Result<(), LinkError> {
        let mut share = 0;
        let heard = |continues| {
            let now = Instant::now();
            *self.heard.lock() = now;
            if continues {
                self.link.session.lock().on_part_received(now);
            }
        };
        loop {
            self.shared.faults.pass(&self.link.peer, Traffic::Inward).await;
            let Some(frame) = reader.next(heard).await? else { return Err(LinkError::Closed) };
            let in_sync = loop {
                if let Some(in_sync) = self.take_in(&frame)? {
                    break in_sync;
                }
                self.shared.faults.pass(&self.link.peer, Traffic::Inward).await;
            };
            share += frame.len();
            // A small message of a sync can ask for many ranges to be read.
            if share > FAIR_SHARE || (in_sync && frame.len() < FAIR_SHARE / 2) {
                share = 0;
                tokio::task::yield_now().await;
            }
        }
    }

    /// Handles a frame, unless the peer is cut. Returns whether a sync is under way then.
    fn take_in(&self, frame: &[u8]) -> Result<Option<bool>, LinkError> {
        let Some(_held) = self.shared.faults.passage(&self.link.peer, Traffic::Inward) else {
            return Ok(None);
        };
        if self.link.stop.is_cancelled() {
            return Err(LinkError::Superseded);
        }
        self.link.carried.receive(frame);
        let wall = self.shared.env.wall_clock();
        let (has_work, in_sync, events) = {
            let mut session = self.link.session.lock();
            session.receive(&self.shared.local, frame, wall, Instant::now())?;
            (session.has_work(), session.is_exchanging(), session.take_events())
        };
        if has_work {
            self.link.queue.wake();
        }
        self.handle(events);
        Ok(Some(in_sync))
    }

    async fn write(&self, writer: &mut FrameWriter) -> Result<(), LinkError> {
        let mut frames = VecDeque::new();
        loop {
            self.link.queue.take(&mut frames, WRITE_BATCH);
            let wall = self.shared.env.wall_clock();
            let (wake_at, in_sync, events) = {
                let mut session = self.link.session.lock();
                session.poll(&self.shared.local, wall, Instant::now(), &mut frames);
                (session.wake_at(Instant::now()), session.is_exchanging(), session.take_events())
            };
            self.handle(events);
            if frames.is_empty() {
                match wake_at {
                    Some(at) => tokio::select! {
                        () = self.link.queue.ready() => {}
                        () = sleep_until(at) => {}
                    },
                    None => self.link.queue.ready().await,
                }
                continue;
            }
            let bytes = frames.iter().map(Bytes::len).sum::<usize>();
            frames.iter().for_each(|frame| self.link.carried.send(frame));
            let busy = |passed| self.link.session.lock().on_part_sent(passed, Instant::now());
            // A write that a cut interrupts continues where it stopped once the cut is mended.
            loop {
                let writing = writer.write(&mut frames, busy);
                match self.shared.faults.guard(&self.link.peer, Traffic::Outward, writing).await {
                    Some(written) => break written?,
                    None => self.shared.faults.pass(&self.link.peer, Traffic::Outward).await,
                }
            }
            if bytes > FAIR_SHARE || in_sync {
                tokio::task::yield_now().await;
            }
        }
    }

    async fn heartbeat(&self) -> Result<(), LinkError> {
        let mut ticks = interval(HEARTBEAT_EVERY);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut last = Instant::now();
        loop {
            ticks.tick().await;
            // After a pause of this node itself, what the peer has sent meanwhile is not read yet.
            let awake = last.elapsed() < 2 * HEARTBEAT_EVERY;
            self.link.carried.sample(last.elapsed());
            last = Instant::now();
            if awake && self.heard.lock().elapsed() > SILENCE_LIMIT {
                return Err(LinkError::Silent);
            }
            self.link.queue.heartbeat(self.shared.heartbeat());
            if awake {
                self.link.session.lock().tick(&self.shared.local, last)?;
            }
            self.link.queue.wake();
        }
    }

    fn handle(&self, events: Vec<Event>) {
        let peer = &self.link.peer;
        for event in events {
            match event {
                Event::TurnOver => self.shared.peers.links().iter().for_each(|link| link.queue.wake()),
                Event::Healing => self.shared.announcer.announce(EventKind::Healing, peer, ""),
                Event::Finished(finished) => self.shared.finished(self.link, finished),
                Event::Failed { deep, why } => self.shared.failed(self.link, deep, &why),
                Event::Dial(incarnation, address) => {
                    let own = self.shared.local.members.lock().incarnation();
                    if incarnation != own && !self.shared.peers.is_linked(incarnation) {
                        self.shared.dial(&address);
                    }
                }
                Event::Relay(to, cells) => {
                    let links = self.shared.peers.links();
                    let link = links.into_iter().filter(|link| link.incarnation == to).collect::<Vec<_>>();
                    push::spread(&self.shared.local.store, &mut CellsEncoder::default(), cells, 0, &link);
                }
                Event::Heard(channel, message) => {
                    if let Some(subscribers) = self.shared.subscribers.get() {
                        subscribers.deliver(&channel, &message);
                    }
                }
                Event::KeyReply(query, copy) => {
                    self.shared.queries.answer(self.link.incarnation, query, *copy);
                }
                Event::Lost(lost) => self.shared.lost.write(lost),
                Event::Withholding(true) => {
                    tracing::warn!(%peer, "out of memory: refusing what the peer sends until there is room");
                }
                Event::Withholding(false) => {
                    tracing::info!(%peer, "there is room again for what the peer sends");
                }
            }
        }
    }
}
