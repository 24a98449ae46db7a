//! The task that owns a client's connection.
//!
//! ```text
//!   callers ──encode──► Queue::output ──one write a turn──► socket
//!   callers ◄──wake──── Queue::deliver ◄──────frames─────── socket
//! ```
//!
//! A turn reads and hands over all replies that are there, then writes all requests that came together meanwhile. Callers
//! that were just given their replies tend to ask again at once: the driver lets them go first, so that one write takes
//! the requests of all.

use std::future::{Future, poll_fn};
use std::io;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use bytes::{Buf as _, BytesMut};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite};
use tokio::time::{Duration, Instant, Sleep, sleep_until};

use super::ClientError;
use super::connection::Parts;
use super::dial::Dialer;
use super::exchange::Shared;
use super::queue::{Taken, Unasked};
use crate::resp::{Decoded, Frame, FrameDecoder};

/// Room made for one read: a pipeline's replies in few system calls.
const READ_CHUNK: usize = 64 << 10;
/// Room that an output buffer keeps: more is given back after a large request.
const KEPT_OUTPUT: usize = 256 << 10;

/// Keeps one client connected. Ends when the last handle is gone.
#[derive(Debug)]
pub(super) struct Driver {
    shared: Arc<Shared>,
    dialer: Dialer,
    patience: Duration,
}

/// Why a conversation is over.
enum End {
    /// No client is left.
    Closed,
    Lost {
        error: ClientError,
        /// Whether the connection was of use.
        served: bool,
    },
}

impl Driver {
    pub(super) fn new(shared: Arc<Shared>, dialer: Dialer, patience: Duration) -> Self {
        Self { shared, dialer, patience }
    }

    /// Drives `first`, and then one connection after the other.
    pub(super) async fn run(mut self, first: Parts) {
        let mut clock = Clock::new(self.patience);
        let mut parts = first;
        for number in 1.. {
            let mut conversation = Conversation::new(parts, number);
            let end = poll_fn(|cx| conversation.poll(&self.shared, &mut clock, cx)).await;
            let End::Lost { error, served } = end else { return };
            self.lose(&conversation, error);
            drop(conversation);
            if served {
                self.dialer.succeeded();
            } else {
                // It was let in and turned away: without a pause this would go sync and sync.
                let pause = self.dialer.pause();
                if attended(pause, &self.shared, &mut clock).await.is_none() {
                    return;
                }
            }
            let reached = attended(self.dialer.again(&self.shared), &self.shared, &mut clock).await;
            let Some((connection, addr)) = reached else { return };
            self.shared.queue().connected(addr);
            parts = connection.into_parts();
        }
    }

    fn lose<S>(&self, conversation: &Conversation<S>, error: ClientError) {
        let unwritten = &conversation.output[conversation.written..];
        let mut wakers = Vec::new();
        {
            let mut queue = self.shared.queue();
            queue.lose(unwritten, &error, &mut wakers);
            queue.disconnected(error);
        }
        wakers.into_iter().for_each(Waker::wake);
    }
}

impl Drop for Driver {
    /// Also when the runtime shuts down under it: nobody may wait for ever.
    fn drop(&mut self) {
        let mut wakers = Vec::new();
        self.shared.queue().stop(&ClientError::Stopped, &mut wakers);
        wakers.into_iter().for_each(Waker::wake);
    }
}

/// Does `work` while the deadlines of requests are kept; `None` if no client is left.
async fn attended<T>(work: impl Future<Output = T>, shared: &Shared, clock: &mut Clock) -> Option<T> {
    let mut work = pin!(work);
    poll_fn(|cx| {
        if let Poll::Ready(done) = work.as_mut().poll(cx) {
            return Poll::Ready(Some(done));
        }
        let alarm = {
            let mut queue = shared.queue();
            queue.attend(cx.waker());
            if queue.is_closed() {
                return Poll::Ready(None);
            }
            queue.alarm()
        };
        clock.keep(shared, None, alarm, cx);
        Poll::Pending
    })
    .await
}

/// The deadlines of all requests, with one timer.
struct Clock {
    patience: Duration,
    /// Made with the first deadline.
    sleep: Option<Pin<Box<Sleep>>>,
    wakers: Vec<Waker>,
}

impl Clock {
    fn new(patience: Duration) -> Self {
        Self { patience, sleep: None, wakers: Vec::new() }
    }

    /// Sweeps whenever the alarm is due. Returns whether the connection, heard last at `heard`, is to be given up.
    fn keep(
        &mut self,
        shared: &Shared,
        heard: Option<Instant>,
        mut alarm: Option<Instant>,
        cx: &mut Context<'_>,
    ) -> bool {
        while let Some(due) = alarm {
            let sleep = self.sleep.get_or_insert_with(|| Box::pin(sleep_until(due)));
            if sleep.deadline() != due {
                sleep.as_mut().reset(due);
            }
            if sleep.as_mut().poll(cx).is_pending() {
                break;
            }
            let mut queue = shared.queue();
            let given_up = queue.sweep(Instant::now(), heard, self.patience, &mut self.wakers);
            alarm = queue.alarm();
            drop(queue);
            self.wakers.drain(..).for_each(Waker::wake);
            if given_up {
                return true;
            }
        }
        false
    }
}

/// How a turn came out.
enum Turn {
    /// Nothing is left to do before there is more to read, to write, or the alarm is due.
    Over { alarm: Option<Instant> },
    /// No client is left.
    Closed,
}

/// What is said on one connection. Any stream will do.
struct Conversation<S> {
    stream: S,
    number: u64,
    decoder: FrameDecoder,
    input: BytesMut,
    replies: Vec<Frame>,
    /// Requests taken from the queue; the first `written` bytes have been written.
    output: Vec<u8>,
    written: usize,
    heard: Instant,
    served: bool,
    /// Others were let go first in this turn.
    waited: bool,
    /// More than one caller seems to use the connection.
    busy: bool,
    wakers: Vec<Waker>,
}

impl<S: AsyncRead + AsyncWrite + Unpin> Conversation<S> {
    fn new(Parts { stream, decoder, input }: Parts<S>, number: u64) -> Self {
        Self {
            stream,
            number,
            decoder,
            input,
            replies: Vec::new(),
            output: Vec::new(),
            written: 0,
            heard: Instant::now(),
            served: false,
            waited: false,
            busy: false,
            wakers: Vec::new(),
        }
    }

    /// One turn.
    fn poll(&mut self, shared: &Shared, clock: &mut Clock, cx: &mut Context<'_>) -> Poll<End> {
        // Read first: a connection that has ended is noticed before a request is written to it, and a node that turns
        // us away says why before it closes.
        if let Err(error) = self.read(shared, cx) {
            return self.lost(error);
        }
        let alarm = match self.write(shared, cx) {
            Ok(Turn::Over { alarm }) => alarm,
            Ok(Turn::Closed) => return Poll::Ready(End::Closed),
            Err(error) => return self.lost(error.into()),
        };
        if clock.keep(shared, Some(self.heard), alarm, cx) {
            return self.lost(ClientError::Timeout { after: clock.patience });
        }
        Poll::Pending
    }

    fn lost(&self, error: ClientError) -> Poll<End> {
        Poll::Ready(End::Lost { error, served: self.served })
    }

    /// Reads and hands over what is there.
    fn read(&mut self, shared: &Shared, cx: &mut Context<'_>) -> Result<(), ClientError> {
        loop {
            self.input.reserve(READ_CHUNK);
            match pin!(self.stream.read_buf(&mut self.input)).poll(cx)? {
                Poll::Pending => return Ok(()),
                Poll::Ready(0) => return Err(ClientError::Closed),
                Poll::Ready(_) => {}
            }
            self.heard = Instant::now();
            let broken = self.decode().err();
            self.hand_over(shared)?;
            if let Some(error) = broken {
                return Err(error.into());
            }
        }
    }

    fn decode(&mut self) -> Result<(), crate::resp::FrameError> {
        loop {
            match self.decoder.next(&self.input)? {
                Decoded::Frame { frame, consumed } => {
                    self.input.advance(consumed);
                    if !matches!(frame, Frame::Push(_)) {
                        self.replies.push(frame);
                    }
                }
                Decoded::Incomplete { consumed, .. } => {
                    self.input.advance(consumed);
                    return Ok(());
                }
            }
        }
    }

    fn hand_over(&mut self, shared: &Shared) -> Result<(), ClientError> {
        if self.replies.is_empty() {
            return Ok(());
        }
        self.served = true;
        let delivered = shared.queue().deliver(self.replies.drain(..), self.number, &mut self.wakers);
        self.busy = self.wakers.len() > 1;
        self.wakers.drain(..).for_each(Waker::wake);
        delivered
            .map_err(|Unasked| io::Error::new(io::ErrorKind::InvalidData, "a reply to no request").into())
    }

    /// Writes what has come together, as far as the socket takes it.
    fn write(&mut self, shared: &Shared, cx: &mut Context<'_>) -> io::Result<Turn> {
        loop {
            let empty = self.written == self.output.len();
            if empty {
                self.output.clear();
                self.output.shrink_to(KEPT_OUTPUT);
                self.written = 0;
            } else if let Poll::Ready(written) =
                Pin::new(&mut self.stream).poll_write(cx, &self.output[self.written..])?
            {
                if written == 0 {
                    return Err(io::ErrorKind::WriteZero.into());
                }
                self.written += written;
                continue;
            }
            let mut queue = shared.queue();
            if queue.is_closed() {
                return Ok(Turn::Closed);
            }
            if empty {
                match queue.take(&mut self.output, cx.waker(), self.busy && !self.waited) {
                    Taken::Bytes => {
                        self.waited = false;
                        continue;
                    }
                    // Behind all callers that can run now.
                    Taken::Soon => {
                        self.waited = true;
                        cx.waker().wake_by_ref();
                    }
                    Taken::Nothing => {}
                }
            } else {
                queue.attend(cx.waker());
            }
            let alarm = queue.alarm();
            drop(queue);
            // Of what was written before; a stream that buffers nothing has nothing to do.
            if let Poll::Ready(flushed) = Pin::new(&mut self.stream).poll_flush(cx) {
                flushed?;
            }
            return Ok(Turn::Over { alarm });
        }
    }
}

#[cfg(test)]
mod tests;
