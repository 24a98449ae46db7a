//! The errors of a client; each says what became of the request.

use std::{io, sync::Arc, time::Duration};

use thiserror::Error;

use crate::resp::FrameError;

/// Why a request has no reply. If a connection fails, each pending request gets a clone.
#[derive(Clone, Debug, Error)]
#[non_exhaustive]
pub enum ClientError {
    /// The connection could not be made; no request was sent.
    #[error("could not reach {addr}: {}{}", reason(.source), hint(.source))]
    Unreachable {
        /// The address as given.
        addr: String,
        /// The system's error.
        source: Arc<io::Error>,
    },
    /// The connection was not made in time; no request was sent.
    #[error("could not reach {addr} within {after:?}")]
    ConnectTimeout {
        /// The address as given.
        addr: String,
        /// The time limit.
        after: Duration,
    },
    /// The node refused the password or the protocol version; no request was sent.
    #[error("{addr} refused the connection: {code} {message}")]
    Refused {
        /// The address as given.
        addr: String,
        /// The error's first word, such as `WRONGPASS`.
        code: String,
        /// The rest of the message.
        message: String,
    },
    /// The node answered with an error: it did not apply the request.
    #[error("{code} {message}")]
    Server {
        /// The error's first word, such as `ERR` or `NOAUTH`.
        code: String,
        /// The rest of the message.
        message: String,
    },
    /// The connection was silent for too long. The request may or may not have been applied.
    #[error("no reply within {after:?}; the request may or may not have been applied")]
    Timeout {
        /// The time limit.
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
    /// There was no connection in time, or no room among the requests in flight. The request was not sent.
    #[error("the request was not sent within {after:?}: {}", trouble(.cause.as_deref()))]
    NotSent {
        /// The time limit.
        after: Duration,
        /// Why there was no connection; `None` if there was one.
        #[source]
        cause: Option<Arc<ClientError>>,
    },
    /// The runtime of the client has ended. The request may or may not have been applied.
    #[error("the client has been stopped; the request may or may not have been applied")]
    Stopped,
    /// The list of nodes was empty; no request was sent.
    #[error("there is no address to connect to")]
    NoAddress,
    /// Earlier writes went over a connection that has been replaced. The node cannot say which peers hold them. Nothing
    /// was changed.
    #[error(
        "an earlier write went over a connection that was replaced since, so nobody can say who holds it: write it again"
    )]
    Replaced,
    /// The node replied in an unexpected form; it may have applied the request.
    #[error("unexpected reply to {request}: {reply}")]
    Unexpected {
        /// The command.
        request: String,
        /// The beginning of the reply.
        reply: String,
    },
    /// The value is not of the requested type, or cannot be encoded. Nothing was changed.
    #[error("not a fitting value: {0}")]
    Value(String),
    /// An earlier request failed, was dropped before its reply, or began a stream. This one was not sent.
    #[error("an earlier request left the connection unusable; this request was not sent")]
    Lost,
}

impl ClientError {
    /// Whether the node may have applied the request despite the error. `false` is certain.
    ///
    /// After an error reply to `MSET` or `DEL` with many keys, some of the keys may have been changed.
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

    /// The same error, if it came before any request of the caller was sent.
    pub(crate) fn while_connecting(self, addr: &str) -> Self {
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

/// The system's message without the error number, if the standard library has it.
fn reason(error: &io::Error) -> String {
    let kind = error.kind().to_string();
    // The kind of an error that has no name there, such as of too many open files.
    if error.raw_os_error().is_none() || kind == "uncategorized error" { error.to_string() } else { kind }
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_reason_of_an_error_is_never_a_word_that_says_nothing() {
        let error = |number| ClientError::from(io::Error::from_raw_os_error(number)).while_connecting("a:1");
        let (refused, many) = if cfg!(target_os = "linux") { (111, 24) } else { return };
        let text = "could not reach a:1: connection refused; is `sapwood serve` running there?";
        assert_eq!(error(refused).to_string(), text);
        assert_eq!(error(many).to_string(), "could not reach a:1: Too many open files (os error 24)");
    }
}
