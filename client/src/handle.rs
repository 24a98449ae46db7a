//! The client handle that tasks share.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use crate::connection::into_result;
use crate::dial::Dialer;
use crate::driver::Driver;
use crate::exchange::{Exchange, Shared};
use crate::pushes::Pushes;
use crate::queue::{Outcome, Queue};
use crate::resp::Frame;
use crate::unconfirmed::Unconfirmed;
use crate::{ClientError, ClientOptions};

/// Longer waits count as this one, so that sums of times stay in range.
const LONGEST: Duration = Duration::from_secs(365 * 24 * 3600);

/// The effect of sending a request twice.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Effect {
    /// The request changes nothing.
    Read,
    /// The second time leaves the same state.
    Repeatable,
    /// The second time changes more, or its reply would mislead.
    Once,
    /// The second time has an effect too, but changes no key.
    Message,
}

impl Effect {
    fn may_repeat(self) -> bool {
        matches!(self, Effect::Read | Effect::Repeatable)
    }

    fn writes(self) -> bool {
        matches!(self, Effect::Repeatable | Effect::Once)
    }
}

/// A connection to one of several nodes, shared by any number of tasks.
///
/// Clones are cheap and share the connection. Requests of different tasks are pipelined automatically: requests that
/// are queued together are written together. All methods take `&self`. Dropping the future of one does not affect the
/// others; its own request may or may not be applied.
///
/// Needs a tokio runtime with I/O and time enabled. The connection is closed when the last clone is dropped.
///
/// # When a connection fails
///
/// The client reconnects automatically, to the next node of the list, with a growing pause once it has tried them
/// all. It stays with a node for as long as that replies. What happens to a request:
///
/// | | not yet written | written, no reply |
/// |---|---|---|
/// | reads; `set`, `set_with` without a condition, `mset`, `delete`, `expire` | sent when connected again | sent again when connected again |
/// | `incr`, `decr` and kin, `set_with` with a condition, `persist`, `publish`, `call` | sent when connected again | an error that [may be applied](ClientError::may_be_applied) |
///
/// All this is within the request's time-out. A request whose reply is merely late is never sent again. A request
/// that is sent again may be applied twice: if another client writes the key between the two, the second wins over
/// that write. The reply is that to the second.
///
/// Requests of different tasks, or concurrent requests of one task, have no order between them across a failure.
///
/// # Examples
///
/// ```no_run
/// # async fn example() -> Result<(), sapwood_client::ClientError> {
/// use sapwood_client::Client;
///
/// let client = Client::connect(["127.0.0.1:7171", "127.0.0.1:7271"]).await?;
/// client.set("greeting", "hello").await?;
/// assert_eq!(client.get("greeting").await?.as_deref(), Some(&b"hello"[..]));
/// # Ok(())
/// # }
/// ```
pub struct Client {
    handle: Arc<Handle>,
    /// The writes of this clone only.
    unconfirmed: Unconfirmed,
}

/// Closes the queue when the last clone is dropped, so that the driver ends.
#[derive(Debug)]
struct Handle {
    shared: Arc<Shared>,
    addrs: Arc<[Arc<str>]>,
    options: ClientOptions,
}

impl Drop for Handle {
    fn drop(&mut self) {
        self.shared.queue().close();
    }
}

impl Client {
    /// Connects to the first of `addrs` (`HOST:PORT`) that can be reached; the others are used after a failure.
    ///
    /// # Errors
    /// If none can be reached: the error of the last one tried.
    pub async fn connect<A: AsRef<str>>(addrs: impl IntoIterator<Item = A>) -> Result<Client, ClientError> {
        Self::connect_with(addrs, ClientOptions::default()).await
    }

    /// [`Client::connect`] with options.
    ///
    /// # Errors
    /// As [`Client::connect`].
    pub async fn connect_with<A: AsRef<str>>(
        addrs: impl IntoIterator<Item = A>,
        mut options: ClientOptions,
    ) -> Result<Client, ClientError> {
        options.request_timeout = options.request_timeout.min(LONGEST);
        let addrs: Arc<[Arc<str>]> = addrs.into_iter().map(|addr| Arc::from(addr.as_ref())).collect();
        let mut dialer = Dialer::new(Arc::clone(&addrs), options.clone());
        let (connection, addr) = dialer.once().await?;
        let mut queue = Queue::new(options.max_requests_in_flight, options.max_bytes_in_flight);
        queue.connected(addr);
        let shared = Arc::new(Shared::new(queue));
        let driver = Driver::new(Arc::clone(&shared), dialer, options.request_timeout);
        tokio::spawn(driver.run(connection.into_parts()));
        Ok(Client {
            handle: Arc::new(Handle { shared, addrs, options }),
            unconfirmed: Unconfirmed::default(),
        })
    }

    /// The address of the currently connected node, as it was given.
    pub fn connected_to(&self) -> Option<String> {
        self.handle.shared.queue().addr().map(|addr| addr.to_string())
    }

    /// The number of requests that were accepted and have no reply yet, requests with dropped futures included: at
    /// most [`max_requests_in_flight`](ClientOptions::max_requests_in_flight).
    pub fn requests_in_flight(&self) -> usize {
        self.handle.shared.queue().in_flight()
    }

    /// Sends any request, the command's name first, and returns its reply.
    ///
    /// The request is sent once: see [When a connection fails](Client#when-a-connection-fails). Do not send commands
    /// that change the state of the connection, such as `SUBSCRIBE`, `MONITOR`, `CLIENT REPLY` or `QUIT`: it is
    /// shared.
    ///
    /// # Errors
    /// [`ClientError::Server`] for an error reply; the others describe what became of the request.
    pub async fn call(&self, args: &[&[u8]]) -> Result<Frame, ClientError> {
        let changes_keys = args.first().is_none_or(|command| !is_harmless(command));
        self.request(if changes_keys { Effect::Once } else { Effect::Message }, args).await
    }

    /// [`Client::call`] for a request that may be sent again: one that changes nothing, or leaves the same state if
    /// it is applied twice.
    ///
    /// # Errors
    /// As [`Client::call`].
    pub async fn call_repeatable(&self, args: &[&[u8]]) -> Result<Frame, ClientError> {
        self.request(Effect::Repeatable, args).await
    }

    pub(crate) async fn request(&self, effect: Effect, args: &[&[u8]]) -> Result<Frame, ClientError> {
        self.request_within(self.handle.options.request_timeout, effect, args).await
    }

    /// [`Client::request`] with its own time-out.
    pub(crate) async fn request_within(
        &self,
        after: Duration,
        effect: Effect,
        args: &[&[u8]],
    ) -> Result<Frame, ClientError> {
        let (frame, connection) = self.exchange(after, effect, args).await?;
        if effect.writes() {
            self.unconfirmed.wrote(connection);
        }
        into_result(frame)
    }

    /// Sends a question about this clone's writes to the node that took them.
    ///
    /// # Errors
    /// [`ClientError::Replaced`] if another connection took one of them.
    pub(crate) async fn ask_of_writes(&self, after: Duration, args: &[&[u8]]) -> Result<Frame, ClientError> {
        let question = self.unconfirmed.ask();
        let replied = self.exchange(after, Effect::Once, args).await;
        match replied.and_then(|(frame, connection)| Ok((into_result(frame)?, connection))) {
            Ok((frame, connection)) => {
                question.answered(connection).then_some(frame).ok_or(ClientError::Replaced)
            }
            Err(error) => {
                question.failed();
                Err(error)
            }
        }
    }

    /// Sends a request until there is a reply; resends after a failure only if `effect` allows it. Returns the reply
    /// and the number of the connection that it came on.
    async fn exchange(
        &self,
        after: Duration,
        effect: Effect,
        args: &[&[u8]],
    ) -> Result<(Frame, u64), ClientError> {
        let deadline = Instant::now() + after.min(LONGEST);
        // The error of an earlier attempt. If there is one, the request may have been applied, whatever the next
        // error says.
        let mut earlier = None;
        let error = loop {
            match Exchange::new(&self.handle.shared, args, deadline).await {
                Outcome::Reply { frame, connection } => return Ok((frame, connection)),
                Outcome::Lost(error) if effect.may_repeat() => earlier = Some(error),
                Outcome::Lost(error) => break error,
                Outcome::TimedOut => break ClientError::Timeout { after },
                Outcome::NotSent(cause) => break ClientError::NotSent { after, cause: cause.map(Arc::new) },
                Outcome::Stopped => break ClientError::Stopped,
            }
        };
        Err(earlier.unwrap_or(error))
    }

    /// A separate connection to the same nodes.
    pub(crate) fn pushes(&self) -> Pushes {
        Pushes::new(self.push_dialer(), self.handle.options.request_timeout)
    }

    /// The dialer for such connections.
    pub(crate) fn push_dialer(&self) -> Dialer {
        Dialer::new(Arc::clone(&self.handle.addrs), self.handle.options.clone()).resp3()
    }

    pub(crate) fn options(&self) -> &ClientOptions {
        &self.handle.options
    }
}

/// Whether [`Client::wait`] can ignore the command: a common one that changes no key.
fn is_harmless(command: &[u8]) -> bool {
    const HARMLESS: &[&str] = &[
        "CLIENT",
        "COMMAND",
        "CONFIG",
        "DBSIZE",
        "ECHO",
        "EXISTS",
        "GET",
        "GETRANGE",
        "INFO",
        "KEYS",
        "MGET",
        "PING",
        "PTTL",
        "PUBLISH",
        "RANDOMKEY",
        "SCAN",
        "STRLEN",
        "TIME",
        "TTL",
        "TYPE",
    ];
    HARMLESS.iter().any(|name| command.eq_ignore_ascii_case(name.as_bytes()))
}

impl Clone for Client {
    /// Another handle of the same connection, without writes yet.
    fn clone(&self) -> Self {
        Self { handle: Arc::clone(&self.handle), unconfirmed: Unconfirmed::default() }
    }
}

impl fmt::Debug for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Client").field("addrs", &self.handle.addrs).finish_non_exhaustive()
    }
}
