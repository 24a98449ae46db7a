//! Parses requests on the server's side.
//!
//! ```text
//!             '*'           count > 0               last argument ends
//!   between ───────► count ───────────► arguments ─────────────────────► between   (Request)
//!      ▲  │            │ count <= 0         │ over a limit
//!      │  │            ▼                    ▼
//!      │  │         between             skipping ──────────────────────► between   (TooLarge)
//!      └──┘ any other byte: an inline line, or a blank one; a zero byte or a TLS record is an error
//! ```
//!
//! The position inside a partly arrived request is kept, so each call resumes where the last one stopped. A request
//! over a limit is discarded as it arrives, and the connection stays open.

use std::mem;

use memchr::memchr;
use thiserror::Error;

use super::{
    args::{Args, Span},
    inline,
    limits::{Limits, TooLarge},
    lookahead::Lookahead,
    number::short_number,
};
use crate::config::DEFAULT_PEER_PORT;
use crate::model::counter::strict_number;
use crate::store::PREFETCH_AHEAD;

/// Redis's `proto-max-bulk-len`: a longer announced argument is an error that closes the connection.
const MAX_WIRE_BULK: usize = 512 << 20;
/// Redis's `PROTO_INLINE_MAX_SIZE`: the longest line (inline request or length header) in bytes.
const MAX_LINE: usize = 64 << 10;
/// Bytes of a header's number of eight digits with its line end.
const SHORT_LINE: usize = 10;
/// Redis's limit before authentication: enough for `HELLO 3 AUTH …`.
const MAX_UNAUTHENTICATED_ARGS: usize = 10;
const MAX_UNAUTHENTICATED_BULK: usize = 16 << 10;
/// Capacity kept between requests, in elements, so that one large request does not enlarge an idle connection for
/// ever.
const KEPT_SPANS: usize = 1024;
const KEPT_TEXT: usize = 4096;

/// The bytes are not the protocol. The stream cannot be resumed: send `ERR` and this text, and close.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum ProtocolError {
    /// The count after `*` is not a number, or above `i32::MAX`.
    #[error("Protocol error: invalid multibulk length")]
    InvalidMultibulkLength,
    /// The length after `$` is not a number, negative, or above 512 MiB.
    #[error("Protocol error: invalid bulk length")]
    InvalidBulkLength,
    /// More than ten arguments before authentication.
    #[error("Protocol error: unauthenticated multibulk length")]
    UnauthenticatedMultibulkLength,
    /// An argument above 16 KiB before authentication.
    #[error("Protocol error: unauthenticated bulk length")]
    UnauthenticatedBulkLength,
    /// An argument does not begin with `$`.
    #[error("Protocol error: expected '$', got '{}'", .0.escape_ascii())]
    ExpectedDollar(u8),
    /// The bytes after an argument are not CR LF. (Redis does not check; here it is an error, because the stream is
    /// out of step.)
    #[error("Protocol error: expected CRLF after an argument")]
    ExpectedCrlf,
    /// No line end within 64 KiB of `*`.
    #[error("Protocol error: too big mbulk count string")]
    TooBigMultibulkCount,
    /// No line end within 64 KiB of `$`.
    #[error("Protocol error: too big bulk count string")]
    TooBigBulkCount,
    /// An inline request longer than 64 KiB.
    #[error("Protocol error: too big inline request")]
    TooBigInline,
    /// An inline request has an unclosed quote.
    #[error("Protocol error: unbalanced quotes in request")]
    UnbalancedQuotes,
    /// An HTTP request (`POST`, `Host:`): a browser was tricked into connecting. Close without a reply.
    #[error("Protocol error: an HTTP request, possibly cross-protocol scripting")]
    CrossProtocol,
    /// A zero byte at the start of a request: a node dialled the client port as a peer port.
    #[error(
        "Protocol error: this is the client port of a Sapwood node; --join wants its peer port, {} by default",
        DEFAULT_PEER_PORT
    )]
    PeerProtocol,
    /// A TLS record at the start of a request. The client would not understand a reply.
    #[error("Protocol error: TLS, which this port does not speak")]
    Tls,
}

/// The result of [`RequestParser::next`]. Drop `consumed` bytes from the front of the buffer.
#[derive(Debug)]
pub enum Step<'a> {
    /// A request of at least one argument.
    Request {
        /// Its arguments.
        args: Args<'a>,
        /// Its length, including blank lines before it.
        consumed: usize,
    },
    /// A request over a limit, skipped to its end. Reply with the text of `what`.
    TooLarge {
        /// The first limit that it exceeds.
        what: TooLarge,
        /// Bytes to drop.
        consumed: usize,
    },
    /// The request is not complete.
    Incomplete {
        /// Bytes to drop: blank lines, and skipped bytes.
        consumed: usize,
        /// At least this many more bytes are needed. The client claims it: never allocate by it without a bound.
        need: usize,
    },
}

/// An incremental parser of requests, one per connection.
///
/// ```
/// # use sapwood::internal::resp::{Limits, RequestParser, Step};
/// let mut parser = RequestParser::new(Limits::default());
/// let mut buf = &b"PING\r\n*2\r\n$3\r\nGET\r\n$1\r\nk\r\n*1\r\n"[..];
/// let mut names = Vec::new();
/// loop {
///     match parser.next(buf)? {
///         Step::Request { args, consumed } => {
///             names.push(args[0].to_vec());
///             buf = &buf[consumed..];
///         }
///         Step::TooLarge { consumed, .. } => buf = &buf[consumed..],
///         Step::Incomplete { .. } => break,
///     }
/// }
/// assert_eq!(names, [&b"PING"[..], b"GET"]);
/// # Ok::<(), sapwood::internal::resp::ProtocolError>(())
/// ```
#[derive(Debug)]
pub struct RequestParser {
    limits: Limits,
    authenticated: bool,
    ahead: Lookahead,
    /// Arguments found so far. Positions are relative to the request's first byte, or to `text` for an inline
    /// request.
    spans: Vec<Span>,
    /// The resolved words of an inline request.
    text: Vec<u8>,
    /// Arguments still missing; 0 between requests.
    args_left: usize,
    /// The length of the argument whose header has been read but whose payload has not.
    bulk: Option<usize>,
    /// Start of the next header or payload, relative to the request's first byte not yet consumed.
    at: usize,
    /// Bytes of the current line already searched for its end.
    scanned: usize,
    /// Set once the request exceeds a limit. From then on nothing of it is kept.
    skipping: Option<TooLarge>,
}

/// The result of one look at the buffer.
enum Progress {
    Blank { consumed: usize },
    Inline { consumed: usize },
    Multibulk { consumed: usize },
    TooLarge { what: TooLarge, consumed: usize },
    Incomplete { consumed: usize, need: usize },
}

impl RequestParser {
    /// Creates a parser for the start of a connection whose client has not authenticated yet.
    pub fn new(limits: Limits) -> Self {
        let max_command = limits.max_command.min(u32::MAX as usize);
        Self {
            limits: Limits { max_command, ..limits },
            authenticated: false,
            ahead: Lookahead::default(),
            spans: Vec::new(),
            text: Vec::new(),
            args_left: 0,
            bulk: None,
            at: 0,
            scanned: 0,
            skipping: None,
        }
    }

    /// Sets whether the client has authenticated, or need not. Before that, Redis's narrow limits apply.
    pub fn set_authenticated(&mut self, yes: bool) {
        if !yes {
            self.ahead.discard();
        }
        self.authenticated = yes;
    }

    /// Parses the next plain requests at the front of `buf`, which [`RequestParser::next`] then returns without looking at
    /// them again. Collects their second arguments, which usually are keys. Returns how many requests are ahead, and how
    /// many of them have such an argument.
    #[inline]
    pub(super) fn look_ahead<'a>(
        &mut self,
        buf: &'a [u8],
        keys: &mut [&'a [u8]; PREFETCH_AHEAD],
    ) -> (usize, usize) {
        if self.may_be_plain() {
            self.ahead.fill(buf, &self.limits);
        }
        (self.ahead.len(), self.ahead.keys(buf, keys))
    }

    /// Finds the next request at the front of `buf`.
    ///
    /// `buf` must begin at the first byte not consumed, and grow only at its end. After an error the parser must not
    /// be used again.
    pub fn next<'a>(&'a mut self, buf: &'a [u8]) -> Result<Step<'a>, ProtocolError> {
        if self.may_be_plain() {
            self.ahead.fill(buf, &self.limits);
            if let Some(request) = self.ahead.take() {
                self.scanned = 0;
                let args = self.ahead.args(request, buf);
                return Ok(Step::Request { args, consumed: request.length });
            }
        }
        let mut start = 0;
        loop {
            let request = &buf[start..];
            let progress = match request.first() {
                _ if self.args_left > 0 => self.arguments(request)?,
                None => Progress::Incomplete { consumed: 0, need: 1 },
                Some(b'*') => self.multibulk(request)?,
                Some(0) => return Err(ProtocolError::PeerProtocol),
                Some(0x16) => return Err(ProtocolError::Tls),
                Some(_) => self.inline(request)?,
            };
            return Ok(match progress {
                Progress::Blank { consumed } => {
                    start += consumed;
                    continue;
                }
                Progress::Multibulk { consumed } => {
                    Step::Request { args: Args::new(request, &self.spans), consumed: start + consumed }
                }
                Progress::Inline { consumed } => {
                    Step::Request { args: Args::new(&self.text, &self.spans), consumed: start + consumed }
                }
                Progress::TooLarge { what, consumed } => Step::TooLarge { what, consumed: start + consumed },
                Progress::Incomplete { consumed, need } => {
                    Step::Incomplete { consumed: start + consumed, need }
                }
            });
        }
    }

    /// Whether the fast path may take the next request: it knows neither the limits before authentication nor what is left
    /// of large requests.
    #[inline]
    fn may_be_plain(&self) -> bool {
        self.args_left == 0
            && self.authenticated
            && self.spans.capacity() <= KEPT_SPANS
            && self.text.capacity() <= KEPT_TEXT
    }

    /// Parses `*count`, then the arguments.
    fn multibulk(&mut self, buf: &[u8]) -> Result<Progress, ProtocolError> {
        use ProtocolError::{InvalidMultibulkLength, TooBigMultibulkCount, UnauthenticatedMultibulkLength};
        let Some((count, end)) = self.header(buf, 0, InvalidMultibulkLength, TooBigMultibulkCount)? else {
            return Ok(Progress::Incomplete { consumed: 0, need: 1 });
        };
        if count > i64::from(i32::MAX) {
            return Err(InvalidMultibulkLength);
        }
        let count = usize::try_from(count).unwrap_or(0);
        if count > MAX_UNAUTHENTICATED_ARGS && !self.authenticated {
            return Err(UnauthenticatedMultibulkLength);
        }
        if count == 0 {
            return Ok(Progress::Blank { consumed: end });
        }
        self.forget();
        self.args_left = count;
        self.at = end;
        if count > self.limits.max_args {
            self.skipping = Some(TooLarge::Args(self.limits.max_args));
        }
        self.arguments(buf)
    }

    /// Parses the arguments of a multibulk request that have arrived.
    fn arguments(&mut self, buf: &[u8]) -> Result<Progress, ProtocolError> {
        while self.args_left > 0 {
            let len = match self.bulk {
                Some(len) => len,
                None => match self.bulk_header(buf)? {
                    Some(len) => len,
                    None => return Ok(self.pause(buf, 1)),
                },
            };
            let payload = &buf[self.at..];
            match payload.get(len..len + 2) {
                Some(b"\r\n") => {}
                Some(_) => return Err(ProtocolError::ExpectedCrlf),
                None => {
                    self.bulk = Some(len);
                    return Ok(self.pause(buf, len + 2 - payload.len()));
                }
            }
            if self.skipping.is_none() {
                self.spans.push(Span::new(self.at, len));
            }
            self.at += len + 2;
            self.bulk = None;
            self.args_left -= 1;
        }
        let consumed = self.at;
        Ok(match self.skipping.take() {
            Some(what) => Progress::TooLarge { what, consumed },
            None => Progress::Multibulk { consumed },
        })
    }

    /// Parses `$length` at `self.at`, and checks it against the limits.
    fn bulk_header(&mut self, buf: &[u8]) -> Result<Option<usize>, ProtocolError> {
        use ProtocolError::{ExpectedDollar, InvalidBulkLength, TooBigBulkCount, UnauthenticatedBulkLength};
        match buf.get(self.at) {
            Some(b'$') => {}
            Some(other) => return Err(ExpectedDollar(*other)),
            None => return Ok(None),
        }
        let Some((len, end)) = self.header(buf, self.at, InvalidBulkLength, TooBigBulkCount)? else {
            return Ok(None);
        };
        let len = usize::try_from(len).map_err(|_| InvalidBulkLength)?;
        if len > MAX_WIRE_BULK {
            return Err(InvalidBulkLength);
        }
        if len > MAX_UNAUTHENTICATED_BULK && !self.authenticated {
            return Err(UnauthenticatedBulkLength);
        }
        if self.skipping.is_none() {
            self.skipping = self.limits.exceeded_by(len, end + len + 2);
            if self.skipping.is_some() {
                self.forget();
            }
        }
        self.at = end;
        Ok(Some(len))
    }

    /// Stops until more has arrived. Bytes of a skipped request are dropped at once.
    fn pause(&mut self, buf: &[u8], need: usize) -> Progress {
        if self.skipping.is_none() {
            return Progress::Incomplete { consumed: 0, need };
        }
        if let Some(len) = &mut self.bulk {
            let arrived = (*len).min(buf.len() - self.at);
            *len -= arrived;
            self.at += arrived;
        }
        // Less than the true need, so that the caller does not gather 512 MiB only to drop them.
        Progress::Incomplete { consumed: mem::take(&mut self.at), need: 1 }
    }

    /// Parses a request typed by hand, or sent by another kind of client.
    fn inline(&mut self, buf: &[u8]) -> Result<Progress, ProtocolError> {
        let window = &buf[..buf.len().min(MAX_LINE)];
        let Some(found) = memchr(b'\n', &window[self.scanned..]) else {
            if window.len() == MAX_LINE {
                return Err(ProtocolError::TooBigInline);
            }
            self.scanned = window.len();
            return Ok(Progress::Incomplete { consumed: 0, need: 1 });
        };
        let end = mem::take(&mut self.scanned) + found;
        let line = &buf[..end];
        if is_http(line) {
            return Err(ProtocolError::CrossProtocol);
        }
        self.forget();
        inline::split(line, &mut self.text, &mut self.spans).map_err(|_| ProtocolError::UnbalancedQuotes)?;
        let consumed = end + 1;
        if self.spans.is_empty() {
            return Ok(Progress::Blank { consumed });
        }
        let longest = Args::new(&self.text, &self.spans).iter().map(<[u8]>::len).max().unwrap_or(0);
        let too_large = if self.spans.len() > self.limits.max_args {
            Some(TooLarge::Args(self.limits.max_args))
        } else {
            self.limits.exceeded_by(longest, consumed)
        };
        Ok(match too_large {
            Some(what) => Progress::TooLarge { what, consumed },
            None => Progress::Inline { consumed },
        })
    }

    /// Discards the arguments of the last request, or of one that is being skipped.
    fn forget(&mut self) {
        self.spans.clear();
        self.text.clear();
        self.spans.shrink_to(KEPT_SPANS);
        self.text.shrink_to(KEPT_TEXT);
    }

    /// The number in the header line at `buf[at]`, and the end of the line; `None` if it has not fully arrived.
    #[inline]
    fn header(
        &mut self,
        buf: &[u8],
        at: usize,
        invalid: ProtocolError,
        too_long: ProtocolError,
    ) -> Result<Option<(i64, usize)>, ProtocolError> {
        if let Some((number, len)) = short_number::<SHORT_LINE>(&buf[at + 1..]) {
            self.scanned = 0;
            return Ok(Some((number.into(), at + 1 + len)));
        }
        self.unusual_header(buf, at, invalid, too_long)
    }

    /// [`Self::header`] for lines that are long, malformed or incomplete.
    #[cold]
    fn unusual_header(
        &mut self,
        buf: &[u8],
        at: usize,
        invalid: ProtocolError,
        too_long: ProtocolError,
    ) -> Result<Option<(i64, usize)>, ProtocolError> {
        let line = &buf[at..];
        let window = &line[..line.len().min(MAX_LINE)];
        let Some(found) = memchr(b'\r', &window[self.scanned..]) else {
            if window.len() == MAX_LINE {
                return Err(too_long);
            }
            self.scanned = window.len();
            return Ok(None);
        };
        self.scanned += found;
        let Some(&after) = line.get(self.scanned + 1) else { return Ok(None) };
        let end = mem::take(&mut self.scanned);
        match strict_number(&line[1..end]) {
            Some(number) if after == b'\n' => Ok(Some((number, at + end + 2))),
            _ => Err(invalid),
        }
    }
}

/// Whether the line's first word is one that only HTTP uses.
fn is_http(line: &[u8]) -> bool {
    let word = line.split(|byte| inline::is_blank(*byte)).next().unwrap_or_default();
    word.eq_ignore_ascii_case(b"post") || word.eq_ignore_ascii_case(b"host:")
}

#[cfg(test)]
impl RequestParser {
    /// Bytes of capacity held.
    pub(super) fn capacity(&self) -> usize {
        self.spans.capacity() * size_of::<Span>() + self.text.capacity()
    }
}

#[cfg(test)]
mod tests;
