//! One connection to one node.

use std::{
    fmt,
    future::poll_fn,
    io,
    task::{Context, Poll, ready},
    time::Duration,
};

use bytes::{Buf, BytesMut};
use tokio::{io::Interest, net::TcpStream, time::timeout};

use crate::ClientError;
use crate::resp::{Decoded, Frame, FrameDecoder, FrameLimits, encode_request};

/// Space made for one read, so that a pipeline's replies take few system calls.
const READ_CHUNK: usize = 64 << 10;

/// How to connect.
#[derive(Clone)]
pub struct Options {
    /// The user to log in as. Default: `default`. Without a password it has no effect.
    pub user: Option<String>,
    /// The user's password, if it has one.
    pub password: Option<String>,
    /// Time limit for connecting, and then for silence while a reply is awaited. Default: 5 s.
    pub timeout: Duration,
    /// Use RESP3, which has types for maps, sets and pushes, rather than RESP2. Default: no.
    pub resp3: bool,
}

impl Default for Options {
    fn default() -> Self {
        Self { user: None, password: None, timeout: Duration::from_secs(5), resp3: false }
    }
}

impl fmt::Debug for Options {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { user, password, timeout, resp3 } = self;
        f.debug_struct("Options")
            .field("user", user)
            .field("password", &password.as_ref().map(|_| "…"))
            .field("timeout", timeout)
            .field("resp3", resp3)
            .finish()
    }
}

/// A connection that sends requests and receives their replies in order.
///
/// ```no_run
/// # async fn example() -> Result<(), sapwood_client::ClientError> {
/// use sapwood_client::{Connection, Options};
///
/// let mut connection = Connection::connect("127.0.0.1:7171", Options::default()).await?;
/// connection.call(&[b"SET", b"greeting", b"hello"]).await?;
/// println!("{:?}", connection.call(&[b"GET", b"greeting"]).await?);
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
pub struct Connection {
    stream: TcpStream,
    timeout: Duration,
    decoder: FrameDecoder,
    input: BytesMut,
    /// Encoded requests of the current exchange, without the bytes already written.
    output: Vec<u8>,
    /// Set while replies are awaited. If it is still set at the next request, replies are out of step or a stream has
    /// begun.
    awaiting: bool,
}

impl Connection {
    /// Connects to `addr` (`HOST:PORT`), authenticates and selects the protocol.
    pub async fn connect(addr: &str, options: Options) -> Result<Self, ClientError> {
        Self::open(addr, &options).await.map_err(|error| error.while_connecting(addr))
    }

    async fn open(addr: &str, options: &Options) -> Result<Self, ClientError> {
        let stream = timeout(options.timeout, TcpStream::connect(addr))
            .await
            .map_err(|_| ClientError::Timeout { after: options.timeout })??;
        stream.set_nodelay(true)?;
        let mut connection = Self {
            stream,
            timeout: options.timeout,
            decoder: FrameDecoder::new(FrameLimits::default()),
            input: BytesMut::new(),
            output: Vec::new(),
            awaiting: false,
        };
        connection.greet(options).await?;
        Ok(connection)
    }

    async fn greet(&mut self, options: &Options) -> Result<(), ClientError> {
        let password = options.password.as_deref().map(str::as_bytes);
        let user = options.user.as_deref().map(str::as_bytes);
        match (options.resp3, password) {
            (true, Some(password)) => {
                self.call(&[b"HELLO", b"3", b"AUTH", user.unwrap_or(b"default"), password]).await?
            }
            (true, None) => self.call(&[b"HELLO", b"3"]).await?,
            (false, Some(password)) => match user {
                Some(user) => self.call(&[b"AUTH", user, password]).await?,
                None => self.call(&[b"AUTH", password]).await?,
            },
            (false, None) => return Ok(()),
        };
        Ok(())
    }

    /// Sends one request, the command's name first, and returns its reply. Pushes that arrive meanwhile are dropped.
    ///
    /// An error reply is [`ClientError::Server`]. The connection stays usable after it, but after no other error. If
    /// the future is dropped before it completes, the request may or may not be applied, and the connection is
    /// unusable.
    pub async fn call(&mut self, args: &[&[u8]]) -> Result<Frame, ClientError> {
        self.pipeline([args]).await.pop().unwrap_or(Err(ClientError::Lost))
    }

    /// Sends all `calls` without waiting between them, and returns as many results in the same order.
    ///
    /// All are encoded before the first is sent. If the connection fails, each call still without a reply gets the
    /// same error; otherwise each result is as for [`Connection::call`].
    pub async fn pipeline<'a>(
        &mut self,
        calls: impl IntoIterator<Item = &'a [&'a [u8]]>,
    ) -> Vec<Result<Frame, ClientError>> {
        self.output.clear();
        let mut expected = 0;
        for args in calls {
            encode_request(&mut self.output, args);
            expected += 1;
        }
        let mut results = Vec::with_capacity(expected);
        if let Err(error) = self.exchange(expected, &mut results).await {
            results.resize(expected, Err(error));
        }
        results
    }

    /// Sends one request that is answered by a stream, such as `SUBSCRIBE`; [`Connection::receive`] reads it.
    ///
    /// The connection serves nothing else from then on.
    pub async fn stream(&mut self, args: &[&[u8]]) -> Result<(), ClientError> {
        self.output.clear();
        encode_request(&mut self.output, args);
        self.exchange(0, &mut Vec::new()).await?;
        self.awaiting = true;
        Ok(())
    }

    /// Waits without a limit for the next frame of a stream, pushes and errors included. Cancel-safe.
    pub async fn receive(&mut self) -> Result<Frame, ClientError> {
        poll_fn(|cx| self.poll_receive(cx)).await
    }

    /// Takes the connection apart, so that the caller can drive the stream itself. No reply may be awaited.
    pub(crate) fn into_parts(self) -> Parts {
        debug_assert!(!self.awaiting, "a connection with a request under way is taken apart");
        Parts { stream: self.stream, decoder: self.decoder, input: self.input }
    }

    /// The polled form of [`Connection::receive`].
    pub(crate) fn poll_receive(&mut self, cx: &mut Context<'_>) -> Poll<Result<Frame, ClientError>> {
        loop {
            if let Some(frame) = self.decode()? {
                return Poll::Ready(Ok(frame));
            }
            ready!(self.stream.poll_read_ready(cx))?;
            self.read()?;
        }
    }

    /// Sends a `PING` during a RESP3 stream; the reply is a frame of the stream.
    pub(crate) fn try_ping(&mut self) -> Result<(), ClientError> {
        const PING: &[u8] = b"*1\r\n$4\r\nPING\r\n";
        // A stream sends nothing else. So if these few bytes do not fit, the node has stopped reading.
        match self.stream.try_write(PING) {
            Ok(len) if len == PING.len() => Ok(()),
            Ok(_) => Err(ClientError::Closed),
            Err(error) => Err(error.into()),
        }
    }

    /// Writes `output` and collects `expected` replies at the same time: a node that cannot write its replies stops
    /// reading requests.
    async fn exchange(
        &mut self,
        expected: usize,
        results: &mut Vec<Result<Frame, ClientError>>,
    ) -> Result<(), ClientError> {
        if std::mem::replace(&mut self.awaiting, true) {
            return Err(ClientError::Lost);
        }
        let mut written = 0;
        while written < self.output.len() || results.len() < expected {
            let interest = if written < self.output.len() {
                Interest::READABLE | Interest::WRITABLE
            } else {
                Interest::READABLE
            };
            let ready = timeout(self.timeout, self.stream.ready(interest))
                .await
                .map_err(|_| ClientError::Timeout { after: self.timeout })??;
            // Read first: a node that refuses the client sends the reason before it closes, and then writing fails.
            if ready.is_readable() {
                self.read()?;
                while let Some(frame) = self.decode()? {
                    match frame {
                        Frame::Push(_) => {}
                        reply if results.len() < expected => results.push(into_result(reply)),
                        _ => return Err(ClientError::Lost),
                    }
                }
            }
            if ready.is_writable() {
                written += would_block_is_zero(self.stream.try_write(&self.output[written..]))?;
            }
        }
        self.output.shrink_to(READ_CHUNK);
        self.awaiting = false;
        Ok(())
    }

    /// Reads the bytes that have arrived, if any.
    fn read(&mut self) -> Result<(), ClientError> {
        self.input.reserve(READ_CHUNK);
        match self.stream.try_read_buf(&mut self.input) {
            Ok(0) => Err(ClientError::Closed),
            other => Ok(would_block_is_zero(other).map(drop)?),
        }
    }

    /// The next frame among the bytes that have been read.
    fn decode(&mut self) -> Result<Option<Frame>, ClientError> {
        let (frame, consumed) = match self.decoder.next(&self.input)? {
            Decoded::Frame { frame, consumed } => (Some(frame), consumed),
            Decoded::Incomplete { consumed, .. } => (None, consumed),
        };
        self.input.advance(consumed);
        Ok(frame)
    }
}

/// The parts of a connection: the authenticated stream, and the bytes already read from it.
#[derive(Debug)]
pub(crate) struct Parts<S = TcpStream> {
    pub(crate) stream: S,
    pub(crate) decoder: FrameDecoder,
    pub(crate) input: BytesMut,
}

fn would_block_is_zero(result: io::Result<usize>) -> io::Result<usize> {
    match result {
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(0),
        other => other,
    }
}

/// Turns an error reply into an error: its code, then its message.
pub(crate) fn into_result(reply: Frame) -> Result<Frame, ClientError> {
    match reply {
        Frame::Error(text) => {
            let (code, message) = text.split_once(' ').unwrap_or((&text, ""));
            Err(ClientError::Server { code: code.to_owned(), message: message.to_owned() })
        }
        reply => Ok(reply),
    }
}

#[cfg(test)]
mod tests;
