//! The task that owns a client's connection.
//!
//! ```text
//!   callers ──encode──► Queue::output ──one write a turn──► socket
//!   callers ◄──wake──── Queue::deliver ◄──────frames─────── socket
//! ```
//!
//! A turn reads and delivers all replies that have arrived, then writes all requests that were queued meanwhile.
//! Callers that just got their replies tend to send again at once, so the driver lets them run first: then one write
//! takes the requests of all.

use std::future::{Future, poll_fn};
use std::io;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use bytes::{Buf as _, BytesMut};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite};
use tokio::time::{Duration, Instant, Sleep, sleep_until};

use crate::ClientError;
use crate::connection::Parts;
use crate::dial::Dialer;
use crate::exchange::Shared;
use crate::queue::{Taken, Unasked};
use crate::resp::{Decoded, Frame, FrameDecoder};

/// Space made for one read, so that a pipeline's replies take few system calls.
const READ_CHUNK: usize = 64 << 10;
/// Capacity that an output buffer keeps; more is released after a large request.
const KEPT_OUTPUT: usize = 256 << 10;

/// Keeps one client connected. Ends when the last handle is dropped.
#[derive(Debug)]
pub(crate) struct Driver {
    shared: Arc<Shared>,
    dialer: Dialer,
    patience: Duration,
}

/// Why a conversation has ended.
enum End {
    /// The last client was dropped.
    Closed,
    Lost {
        error: ClientError,
        /// Whether the connection has delivered a reply.
        served: bool,
    },
}

impl Driver {
    pub(crate) fn new(shared: Arc<Shared>, dialer: Dialer, patience: Duration) -> Self {
        Self { shared, dialer, patience }
    }

    /// Drives `first`, and then one connection after the other.
    pub(crate) async fn run(mut self, first: Parts) {
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
                // The node accepted the connection and then refused the client: without a pause this would loop.
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
    /// Also runs if the runtime shuts down: no caller may wait for ever.
    fn drop(&mut self) {
        let mut wakers = Vec::new();
        self.shared.queue().stop(&ClientError::Stopped, &mut wakers);
        wakers.into_iter().for_each(Waker::wake);
    }
}

/// Runs `work` while enforcing the deadlines of requests; `None` if the last client was dropped.
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

/// Enforces the deadlines of all requests with one timer.
struct Clock {
    patience: Duration,
    /// Created with the first deadline.
    sleep: Option<Pin<Box<Sleep>>>,
    wakers: Vec<Waker>,
}

impl Clock {
    fn new(patience: Duration) -> Self {
        Self { patience, sleep: None, wakers: Vec::new() }
    }

    /// Sweeps whenever the alarm is due. Returns whether to close the connection, on which bytes last came at
    /// `last_received`.
    fn keep(
        &mut self,
        shared: &Shared,
        last_received: Option<Instant>,
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
            let given_up = queue.sweep(Instant::now(), last_received, self.patience, &mut self.wakers);
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

/// How a turn ended.
enum Turn {
    /// Nothing is left to do until there is more to read or write, or the alarm is due.
    Over { alarm: Option<Instant> },
    /// The last client was dropped.
    Closed,
}

/// The exchange of requests and replies on one connection, over any kind of stream.
struct Conversation<S> {
    stream: S,
    number: u64,
    decoder: FrameDecoder,
    input: BytesMut,
    replies: Vec<Frame>,
    /// Encoded requests taken from the queue; the first `written` bytes have been written.
    output: Vec<u8>,
    written: usize,
    last_received: Instant,
    served: bool,
    /// Whether other tasks were already let run first in this turn.
    waited: bool,
    /// Whether more than one caller seems to use the connection.
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
            last_received: Instant::now(),
            served: false,
            waited: false,
            busy: false,
            wakers: Vec::new(),
        }
    }

    /// Runs one turn.
    fn poll(&mut self, shared: &Shared, clock: &mut Clock, cx: &mut Context<'_>) -> Poll<End> {
        // Read first: a connection that has ended is noticed before a request is written to it, and a node that
        // refuses the client sends the reason before it closes.
        if let Err(error) = self.read(shared, cx) {
            return self.lost(error);
        }
        let alarm = match self.write(shared, cx) {
            Ok(Turn::Over { alarm }) => alarm,
            Ok(Turn::Closed) => return Poll::Ready(End::Closed),
            Err(error) => return self.lost(error.into()),
        };
        if clock.keep(shared, Some(self.last_received), alarm, cx) {
            return self.lost(ClientError::Timeout { after: clock.patience });
        }
        Poll::Pending
    }

    fn lost(&self, error: ClientError) -> Poll<End> {
        Poll::Ready(End::Lost { error, served: self.served })
    }

    /// Reads and delivers what has arrived.
    fn read(&mut self, shared: &Shared, cx: &mut Context<'_>) -> Result<(), ClientError> {
        loop {
            self.input.reserve(READ_CHUNK);
            match pin!(self.stream.read_buf(&mut self.input)).poll(cx)? {
                Poll::Pending => return Ok(()),
                Poll::Ready(0) => return Err(ClientError::Closed),
                Poll::Ready(_) => {}
            }
            self.last_received = Instant::now();
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

    /// Writes the queued requests, as far as the socket takes them.
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
                    // Runs again after all callers that can run now.
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
            // Flushes what was written before; a no-op for a stream without a buffer.
            if let Poll::Ready(flushed) = Pin::new(&mut self.stream).poll_flush(cx) {
                flushed?;
            }
            return Ok(Turn::Over { alarm });
        }
    }
}

#[cfg(test)]
mod tests;
