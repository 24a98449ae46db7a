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
use super::faults::Traffic;
use super::frames::{FrameReader, FrameWriter};
use super::hello::Refused;
use super::link_error::LinkError;
use super::message::Refusal;
use super::peers::Link;
use super::replica::{Effect, Polled, Received};
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
    let wire = Wire { shared, link: &link, last_received: Mutex::new(Instant::now()) };
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
        Err(LinkError::Superseded) if shared.replica.local.members.lock().incarnation() != link.own => {
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
        self.shared.unlink(self.link, &self.error);
    }
}

/// What the loops of one link share.
struct Wire<'a> {
    shared: &'a Shared,
    link: &'a Arc<Link>,
    last_received: Mutex<Instant>,
}

impl Wire<'_> {
    async fn read(&self, reader: &mut FrameReader) -> Result<(), LinkError> {
        let mut share = 0;
        let on_bytes = |continues| {
            let now = Instant::now();
            *self.last_received.lock() = now;
            if continues {
                self.link.session.lock().on_part_received(now);
            }
        };
        loop {
            self.shared.faults.pass(&self.link.peer, Traffic::Inward).await;
            let Some(frame) = reader.next(on_bytes).await? else { return Err(LinkError::Closed) };
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
        let Received { effects, in_sync } =
            self.shared.replica.receive(self.link, frame, wall, Instant::now());
        self.perform(effects);
        in_sync.map(Some)
    }

    async fn write(&self, writer: &mut FrameWriter) -> Result<(), LinkError> {
        let mut frames = VecDeque::new();
        loop {
            let (wall, now) = (self.shared.env.wall_clock(), Instant::now());
            let Polled { effects, in_sync, wake_at } =
                self.shared.replica.poll(self.link, &mut frames, WRITE_BATCH, wall, now);
            self.perform(effects);
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
            let paused = last.elapsed() >= 2 * HEARTBEAT_EVERY;
            self.link.carried.sample(last.elapsed());
            last = Instant::now();
            let (last_received, heartbeat) = (*self.last_received.lock(), self.shared.heartbeat());
            self.shared.replica.tick(self.link, last_received, paused, heartbeat, last)?;
        }
    }

    fn perform(&self, effects: Vec<Effect>) {
        let peer = &self.link.peer;
        for effect in effects {
            match effect {
                Effect::Healing => self.shared.announcer.announce(EventKind::Healing, peer, ""),
                Effect::Finished(finished) => self.shared.finished(self.link, finished),
                Effect::Failed { deep, why } => self.shared.failed(self.link, deep, &why),
                Effect::Dial(address) => self.shared.keep_linked(address, true),
                Effect::Deliver(channel, message) => {
                    if let Some(subscribers) = self.shared.subscribers.get() {
                        subscribers.deliver(&channel, &message);
                    }
                }
                Effect::KeyReply(query, copy) => {
                    self.shared.queries.answer(self.link.incarnation, query, *copy);
                }
                Effect::Lost(lost) => self.shared.lost.write(lost),
                Effect::Withholding(true) => {
                    tracing::warn!(%peer, "out of memory: refusing what the peer sends until there is room");
                }
                Effect::Withholding(false) => {
                    tracing::info!(%peer, "there is room again for what the peer sends");
                }
            }
        }
    }
}
