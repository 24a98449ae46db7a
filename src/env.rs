//! The node's interface to the outside world: network, wall clock, randomness, and the limit on open files.
//!
//! The rest of the node uses only these and tokio's timers: no threads, no `spawn_blocking`, no `SystemTime`. So a
//! whole cluster can run in one process on simulated time over a simulated network.

use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use rand::TryRngCore as _;
use rand::rngs::OsRng;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};

use crate::model::{Incarnation, Time, timestamp};

/// A boxed future, as object-safe async methods return it.
pub type BoxFuture<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// A connection over any transport.
pub trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}

impl<S: AsyncRead + AsyncWrite + Send + Unpin> Stream for S {}

/// A boxed connection.
pub type BoxStream = Box<dyn Stream>;

/// A bound listening socket.
pub trait Listener: Send {
    /// The address that the socket is bound to, with the real port if 0 was asked for.
    ///
    /// # Errors
    /// As the operating system reports them.
    fn local_addr(&self) -> io::Result<SocketAddr>;

    /// Waits for the next connection and returns it with its peer's address. Cancel-safe: a dropped future loses no
    /// connection.
    fn accept(&mut self) -> BoxFuture<'_, io::Result<(BoxStream, SocketAddr)>>;
}

/// Network, wall clock and randomness.
pub trait Env: Send + Sync + 'static {
    /// The machine's clock. It may step back or jump; the hybrid clock above it does not.
    fn wall_clock(&self) -> Time;

    /// Sixty-four random bits.
    fn random(&self) -> u64;

    /// How many files and connections the process may have open; `None` without a limit.
    fn max_open_files(&self) -> Option<u64> {
        None
    }

    /// Binds a listening socket.
    fn listen(&self, address: SocketAddr) -> BoxFuture<'_, io::Result<Box<dyn Listener>>>;

    /// Opens a connection. Sets no time limit of its own.
    fn connect(&self, address: SocketAddr) -> BoxFuture<'_, io::Result<BoxStream>>;

    /// Resolves `host_port` to all its current addresses.
    fn resolve<'a>(&'a self, host_port: &'a str) -> BoxFuture<'a, io::Result<Vec<SocketAddr>>>;
}

/// Draws a new incarnation.
pub(crate) fn draw_incarnation(env: &dyn Env) -> Incarnation {
    loop {
        let id = (u128::from(env.random()) << 64) | u128::from(env.random());
        if let Some(incarnation) = timestamp::incarnation(id) {
            return incarnation;
        }
    }
}

/// The real environment: TCP sockets, the system's clock, resolver and entropy.
#[derive(Clone, Copy, Debug, Default)]
pub struct SystemEnv;

impl Env for SystemEnv {
    #[expect(clippy::disallowed_methods, reason = "the one place where the machine's clock is read")]
    fn wall_clock(&self) -> Time {
        let since_epoch = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or(Duration::ZERO);
        timestamp::time_since_epoch(since_epoch)
    }

    fn random(&self) -> u64 {
        OsRng.try_next_u64().expect("the operating system provides entropy")
    }

    #[cfg(unix)]
    fn max_open_files(&self) -> Option<u64> {
        rustix::process::getrlimit(rustix::process::Resource::Nofile).current
    }

    fn listen(&self, address: SocketAddr) -> BoxFuture<'_, io::Result<Box<dyn Listener>>> {
        Box::pin(async move {
            let listener = TcpListener::bind(address).await?;
            Ok(Box::new(listener) as Box<dyn Listener>)
        })
    }

    fn connect(&self, address: SocketAddr) -> BoxFuture<'_, io::Result<BoxStream>> {
        Box::pin(async move { without_delay(TcpStream::connect(address).await?) })
    }

    fn resolve<'a>(&'a self, host_port: &'a str) -> BoxFuture<'a, io::Result<Vec<SocketAddr>>> {
        Box::pin(async move { Ok(tokio::net::lookup_host(host_port).await?.collect()) })
    }
}

impl Listener for TcpListener {
    fn local_addr(&self) -> io::Result<SocketAddr> {
        self.local_addr()
    }

    fn accept(&mut self) -> BoxFuture<'_, io::Result<(BoxStream, SocketAddr)>> {
        Box::pin(async move {
            let (stream, from) = TcpListener::accept(self).await?;
            Ok((without_delay(stream)?, from))
        })
    }
}

/// Disables Nagle's algorithm: requests and pushes are written whole, so waiting to fill a segment only adds latency.
fn without_delay(stream: TcpStream) -> io::Result<BoxStream> {
    stream.set_nodelay(true)?;
    Ok(Box::new(stream))
}
