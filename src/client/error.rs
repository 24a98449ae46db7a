//! What can go wrong, and what became of the request when it did.

use std::{io, sync::Arc, time::Duration};

use thiserror::Error;

use crate::resp::FrameError;

/// Why there is no reply to show. Cloned to every request of a pipeline that it leaves without one.
#[derive(Clone, Debug, Error)]
#[non_exhaustive]
pub enum ClientError {
    /// No connection came about; no request was sent.
    #[error("could not reach {addr}: {}{}", reason(.source), hint(.source))]
    Unreachable {
        /// The address as given.
        addr: String,
        /// What the system said.
        source: Arc<io::Error>,
    },
    /// No connection came about in time; no request was sent.
    #[error("could not reach {addr} within {after:?}")]
    ConnectTimeout {
        /// The address as given.
        addr: String,
        /// The limit in force.
        after: Duration,
    },
    /// The node refused the password or the protocol version; no request was sent.
    #[error("{addr} refused the connection: {code} {message}")]
    Refused {
        /// The address as given.
        addr: String,
        /// The error's first word, such as `WRONGPASS`.
        code: String,
        /// The rest of it.
        message: String,
    },
    /// The node answered with an error: it did not apply the request.
    #[error("{code} {message}")]
    Server {
        /// The error's first word, such as `ERR` or `NOAUTH`.
        code: String,
        /// The rest of it.
        message: String,
    },
    /// Nothing moved on the connection for so long. The request may or may not have been applied.
    #[error("no reply within {after:?}; the request may or may not have been applied")]
    Timeout {
        /// The limit in force.
        after: Duration,
    },
    /// The node closed the connection. The request may or may not have been applied.
    #[error("the node closed the connection before it replied; the request may or may not have been applied")]
    Closed,
    /// The connection failed. The request may or may not have been applied.
    #[error("the connection failed before a reply came ({}); the request may or may not have been applied", reason(.0))]
    Io(#[source] Arc<io::Error>),
    /// The reply was not understood. The request may or may not have been applied.
    #[error("the reply was not understood ({0}); the request may or may not have been applied")]
    Protocol(#[from] FrameError),
    /// There was no connection in time, or no room among the requests in flight. This one was not sent.
    #[error("the request was not sent within {after:?}: {}", trouble(.cause.as_deref()))]
    NotSent {
        /// The limit in force.
        after: Duration,
        /// Why there was no connection; none if there was one.
        #[source]
        cause: Option<Arc<ClientError>>,
    },
    /// The runtime of the client has ended. The request may or may not have been applied.
    #[error("the client has been stopped; the request may or may not have been applied")]
    Stopped,
    /// The list of nodes was empty; no request was sent.
    #[error("there is no address to connect to")]
    NoAddress,
    /// Some of what was written before went over a connection that has been replaced, so the node asked cannot know who
    /// holds it. Nothing was changed.
    #[error(
        "an earlier write went over a connection that was replaced since, so nobody can say who holds it: write it again"
    )]
    Replaced,
    /// The node answered, but not as is usual for this request, which it may have applied.
    #[error("unexpected reply to {request}: {reply}")]
    Unexpected {
        /// The command.
        request: String,
        /// The beginning of the reply.
        reply: String,
    },
    /// The value is not what was asked for, or cannot be made of what was given. Nothing was changed.
    #[error("not a fitting value: {0}")]
    Value(String),
    /// An earlier request failed, was given up halfway or began a stream. This one was not sent.
    #[error("an earlier request left the connection unusable; this request was not sent")]
    Lost,
}

impl ClientError {
    /// Whether the node may have applied the request all the same. `false` is certain.
    ///
    /// Of `MSET` and `DEL` with many keys, an error reply leaves open whether those before the one in question were
    /// applied.
    pub fn may_be_applied(&self) -> bool {
        match self {
            Self::Timeout { .. }
            | Self::Closed
            | Self::Io(_)
            | Self::Protocol(_)
            | Self::Stopped
            | Self::Unexpected { .. } => true,
            Self::Unreachable { .. }
            | Self::ConnectTimeout { .. }
            | Self::Refused { .. }
            | Self::Server { .. }
            | Self::NotSent { .. }
            | Self::NoAddress
            | Self::Replaced
            | Self::Value(_)
            | Self::Lost => false,
        }
    }

    /// The same failure, met before any request of the caller's was sent.
    pub(super) fn while_connecting(self, addr: &str) -> Self {
        let addr = addr.to_owned();
        let unreachable = |source| Self::Unreachable { addr: addr.clone(), source };
        match self {
            Self::Io(source) => unreachable(source),
            Self::Timeout { after } => Self::ConnectTimeout { addr, after },
            Self::Server { code, message } => Self::Refused { addr, code, message },
            Self::Closed => unreachable(Arc::new(io::ErrorKind::UnexpectedEof.into())),
            Self::Protocol(error) => unreachable(Arc::new(io::Error::new(io::ErrorKind::InvalidData, error))),
            other => other,
        }
    }
}

impl From<io::Error> for ClientError {
    fn from(error: io::Error) -> Self {
        Self::Io(Arc::new(error))
    }
}

/// The system's words without its error number, where the standard library has them.
fn reason(error: &io::Error) -> String {
    match error.raw_os_error() {
        Some(_) => error.kind().to_string(),
        None => error.to_string(),
    }
}

fn trouble(cause: Option<&ClientError>) -> String {
    cause.map_or_else(|| "too many others are in flight".into(), ToString::to_string)
}

fn hint(error: &io::Error) -> &'static str {
    match error.kind() {
        io::ErrorKind::ConnectionRefused => "; is `sapwood serve` running there?",
        _ => "",
    }
}
