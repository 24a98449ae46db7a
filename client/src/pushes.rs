//! A connection for pushes from the node, reopened whenever it ends.
//!
//! ```text
//!   Away ──► Dialing ──► Open ──► Away (it ended, or a PING was not answered) …
//!                          └────► Ended (the node refused)
//! ```

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use tokio::time::{Instant, Sleep, sleep_until};

use crate::connection::into_result;
use crate::dial::Dialer;
use crate::resp::Frame;
use crate::{ClientError, Connection};

type Opened = (Dialer, Result<Connection, ClientError>);

/// Receives the frames of a separate connection. It uses RESP3, in which a PING can be answered among pushes: that
/// tells a quiet node from one that is gone.
pub(crate) struct Pushes {
    state: State,
    /// How long the node may be silent: then the client sends a PING, and after as long again it closes the
    /// connection.
    patience: Duration,
    timer: Pin<Box<Sleep>>,
    /// When the last frame came; updated only when the timer checks, not with every frame.
    last_received: Instant,
    asked: bool,
}

enum State {
    /// Not connected; whether to pause before dialling.
    Away(Dialer, bool),
    Dialing(Pin<Box<dyn Future<Output = Opened> + Send>>),
    Open(Dialer, Box<Connection>),
    Ended,
}

impl Pushes {
    pub(crate) fn new(dialer: Dialer, patience: Duration) -> Self {
        let last_received = Instant::now();
        let timer = Box::pin(sleep_until(last_received + patience));
        Self { state: State::Away(dialer, false), patience, timer, last_received, asked: false }
    }

    /// Continues with a connection that `dialer` has opened and on which the request has been sent.
    pub(crate) fn opened(dialer: Dialer, connection: Connection, patience: Duration) -> Self {
        let mut pushes = Self::new(dialer.clone(), patience);
        pushes.state = State::Open(dialer, Box::new(connection));
        pushes
    }

    /// The next frame; `None` after an error. `request` returns the request to send on a new connection.
    pub(crate) fn poll(
        &mut self,
        mut request: impl FnMut() -> Vec<Bytes>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame, ClientError>>> {
        loop {
            self.state = match std::mem::replace(&mut self.state, State::Ended) {
                State::Ended => return Poll::Ready(None),
                State::Away(dialer, pause) => State::Dialing(Box::pin(open(dialer, pause, request()))),
                State::Dialing(mut opening) => match opening.as_mut().poll(cx) {
                    Poll::Pending => {
                        self.state = State::Dialing(opening);
                        return Poll::Pending;
                    }
                    Poll::Ready((dialer, Ok(connection))) => {
                        self.on_received();
                        State::Open(dialer, Box::new(connection))
                    }
                    Poll::Ready((_, Err(error))) => return Poll::Ready(Some(Err(error))),
                },
                State::Open(mut dialer, mut connection) => match self.poll_open(&mut connection, cx) {
                    Poll::Pending => {
                        self.state = State::Open(dialer, connection);
                        return Poll::Pending;
                    }
                    Poll::Ready(Ok(Frame::Simple(_))) => State::Open(dialer, connection),
                    Poll::Ready(Ok(error @ Frame::Error(_))) => return Poll::Ready(Some(into_result(error))),
                    Poll::Ready(Ok(frame)) => {
                        dialer.succeeded();
                        self.state = State::Open(dialer, connection);
                        return Poll::Ready(Some(Ok(frame)));
                    }
                    Poll::Ready(Err(error)) => {
                        // The same node may be able to resume without a gap; one that is silent may stay silent.
                        if !matches!(error, ClientError::Timeout { .. }) {
                            dialer.stay();
                        }
                        State::Away(dialer, true)
                    }
                },
            };
        }
    }

    fn poll_open(
        &mut self,
        connection: &mut Connection,
        cx: &mut Context<'_>,
    ) -> Poll<Result<Frame, ClientError>> {
        if let Poll::Ready(frame) = connection.poll_receive(cx) {
            self.on_received();
            return Poll::Ready(frame);
        }
        while self.timer.as_mut().poll(cx).is_ready() {
            let now = Instant::now();
            let mut next = self.last_received + self.patience;
            if next <= now {
                if std::mem::replace(&mut self.asked, true) {
                    return Poll::Ready(Err(ClientError::Timeout { after: self.patience }));
                }
                connection.try_ping()?;
                next = now + self.patience;
            }
            self.timer.as_mut().reset(next);
        }
        Poll::Pending
    }

    fn on_received(&mut self) {
        self.asked = false;
        self.last_received = Instant::now();
    }
}

/// Tries one node after the other until one accepts the request, or refuses it for good.
async fn open(mut dialer: Dialer, pause: bool, request: Vec<Bytes>) -> Opened {
    if pause {
        dialer.pause().await;
    }
    let args: Vec<&[u8]> = request.iter().map(|arg| &arg[..]).collect();
    loop {
        match dialer.once().await {
            Ok((mut connection, _)) => {
                if connection.stream(&args).await.is_ok() {
                    return (dialer, Ok(connection));
                }
            }
            Err(error @ ClientError::Refused { .. }) if is_lasting(&error) => return (dialer, Err(error)),
            Err(_) => {}
        }
        dialer.pause().await;
    }
}

/// Whether a retry cannot succeed after this error.
pub(crate) fn is_lasting(error: &ClientError) -> bool {
    matches!(error, ClientError::Refused { code, .. } if ["WRONGPASS", "NOAUTH", "NOPROTO"].contains(&&code[..]))
}

impl fmt::Debug for Pushes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let state = match self.state {
            State::Away(..) => "away",
            State::Dialing(_) => "dialing",
            State::Open(..) => "open",
            State::Ended => "ended",
        };
        f.debug_struct("Pushes").field("state", &state).finish_non_exhaustive()
    }
}
