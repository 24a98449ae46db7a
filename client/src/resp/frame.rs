//! Decodes replies and pushes on the client's side, in RESP2 and RESP3.
//!
//! ```text
//!             leaf, or an aggregate's last element
//!            ┌──────────────────────────────────────► the frame below is one element nearer its end;
//!   element ─┤                                        with none below, the reply is complete
//!            └──────────────────────────────────────► one more aggregate is open
//!             an aggregate's header
//! ```
//!
//! Every element is consumed as soon as it is complete. So a reply of a million elements is decoded in one pass, and
//! the caller's buffer never holds more than one element.

use bytes::Bytes;
use memchr::memchr;
use thiserror::Error;

/// The first bytes of all types, including the streamed ones.
const TYPES: &[u8] = b"$*:+-%~>_#,(=!|;.";
/// The longest line (a status, an error or a number) in bytes.
const MAX_LINE: usize = 64 << 10;
/// Capacity made for an aggregate's elements when its header is read, whatever length the header has.
const FIRST_ELEMENTS: usize = 16;
/// The longest single bulk in bytes, as in Redis.
const MAX_BULK: usize = 512 << 20;

/// One reply, or one push.
#[derive(Clone, Debug, PartialEq)]
pub enum Frame {
    /// A status, such as `OK`.
    Simple(String),
    /// An error, its code first.
    Error(String),
    /// An integer.
    Int(i64),
    /// Bytes: a key or a value.
    Bulk(Bytes),
    /// No value.
    Null,
    /// A list.
    Array(Vec<Frame>),
    /// Pairs, in the order they came.
    Map(Vec<(Frame, Frame)>),
    /// Elements that the sender declares distinct.
    Set(Vec<Frame>),
    /// A push, which answers no request.
    Push(Vec<Frame>),
    /// A boolean.
    Bool(bool),
    /// A floating-point number.
    Double(f64),
    /// An integer that may not fit 64 bits, in decimal digits.
    Big(String),
    /// Text for people.
    Verbatim {
        /// Three letters: `txt`, `mkd`.
        format: String,
        /// The text.
        text: Bytes,
    },
}

/// The limits of one reply. Exceeding one is an error.
#[derive(Clone, Copy, Debug)]
pub struct FrameLimits {
    /// Most nested aggregates. Default: 32.
    pub max_depth: usize,
    /// Most elements in all. Default: 2^24, sixteen times the number of keys that a node is built for.
    pub max_elements: usize,
    /// Most bytes in all. Default: 1 GiB.
    pub max_bytes: usize,
}

impl Default for FrameLimits {
    fn default() -> Self {
        Self { max_depth: 32, max_elements: 1 << 24, max_bytes: 1 << 30 }
    }
}

/// The bytes are not a reply, or the reply exceeds a limit. The stream cannot be resumed: close the connection.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum FrameError {
    /// No type begins with this byte.
    #[error("no reply begins with '{}'", .0.escape_ascii())]
    UnknownType(u8),
    /// The server speaks HTTP.
    #[error("it answers in HTTP, so it is no client port")]
    Http,
    /// The bytes after the type byte do not fit the type.
    #[error("malformed {0}")]
    Malformed(&'static str),
    /// The streamed types of RESP3 (`$?`, `*?`), which no server sends.
    #[error("streamed replies are not supported")]
    Streamed,
    /// A line is too long.
    #[error("a line is longer than {MAX_LINE} bytes")]
    LineTooLong,
    /// Over [`FrameLimits::max_depth`].
    #[error("more than {0} aggregates inside one another")]
    TooDeep(usize),
    /// Over [`FrameLimits::max_elements`].
    #[error("more than {0} elements in one reply")]
    TooManyElements(usize),
    /// Over [`FrameLimits::max_bytes`].
    #[error("a reply is larger than {0} bytes")]
    TooLarge(usize),
}

/// The result of [`FrameDecoder::next`]. Drop `consumed` bytes from the front of the buffer.
#[derive(Debug, PartialEq)]
pub enum Decoded {
    /// A complete reply or push.
    Frame {
        /// The reply.
        frame: Frame,
        /// Bytes to drop.
        consumed: usize,
    },
    /// The reply is not complete.
    Incomplete {
        /// Bytes to drop: elements that the decoder already holds.
        consumed: usize,
        /// At least this many more bytes are needed. The other side claims it: never allocate by it without a bound.
        need: usize,
    },
}

/// An incremental decoder of replies, one per connection.
///
/// ```
/// # use sapwood_client::resp::{Decoded, Frame, FrameDecoder, FrameLimits};
/// let mut decoder = FrameDecoder::new(FrameLimits::default());
/// assert_eq!(decoder.next(b"*2\r\n:1\r\n:")?, Decoded::Incomplete { consumed: 8, need: 1 });
/// let frame = Frame::Array(vec![Frame::Int(1), Frame::Int(2)]);
/// assert_eq!(decoder.next(b":2\r\n")?, Decoded::Frame { frame, consumed: 4 });
/// # Ok::<(), sapwood_client::resp::FrameError>(())
/// ```
#[derive(Debug)]
pub struct FrameDecoder {
    limits: FrameLimits,
    /// Aggregates whose elements are still arriving, outermost first. At most `max_depth`, which bounds the capacity
    /// reserved for elements that have not arrived.
    open: Vec<Open>,
    /// Elements announced and bytes consumed so far by the current reply.
    elements: usize,
    bytes: usize,
    /// Bytes of the current line already searched for its end.
    scanned: usize,
}

#[derive(Debug)]
struct Open {
    kind: Kind,
    /// Elements still missing; never 0.
    left: usize,
    items: Vec<Frame>,
}

#[derive(Clone, Copy, Debug)]
enum Kind {
    Array,
    Map,
    Set,
    Push,
    /// RESP3 attributes of the following reply, which are ignored.
    Attribute,
}

/// One element at the front of the buffer, and its length there.
enum Element {
    Leaf(Frame, usize),
    Header(Kind, usize, usize),
    Incomplete { need: usize },
}

impl FrameDecoder {
    /// Creates a decoder for the start of a connection.
    pub fn new(limits: FrameLimits) -> Self {
        Self { limits, open: Vec::new(), elements: 0, bytes: 0, scanned: 0 }
    }

    /// Decodes elements from the front of `buf` until a reply is complete or the bytes run out.
    ///
    /// `buf` must begin at the first byte not consumed, and grow only at its end. After an error the decoder must not
    /// be used again.
    pub fn next(&mut self, buf: &[u8]) -> Result<Decoded, FrameError> {
        let mut consumed = 0;
        loop {
            let complete = match self.element(&buf[consumed..])? {
                Element::Incomplete { need } => return Ok(Decoded::Incomplete { consumed, need }),
                Element::Leaf(frame, len) => {
                    consumed += self.spend(len)?;
                    self.close(frame)
                }
                Element::Header(kind, count, len) => {
                    consumed += self.spend(len)?;
                    self.announce(kind, count)?
                }
            };
            if let Some(frame) = complete {
                (self.elements, self.bytes) = (0, 0);
                return Ok(Decoded::Frame { frame, consumed });
            }
        }
    }

    fn spend(&mut self, len: usize) -> Result<usize, FrameError> {
        self.bytes += len;
        if self.bytes > self.limits.max_bytes {
            return Err(FrameError::TooLarge(self.limits.max_bytes));
        }
        Ok(len)
    }

    /// Opens an aggregate of `count` elements; completes an empty one at once.
    fn announce(&mut self, kind: Kind, count: usize) -> Result<Option<Frame>, FrameError> {
        self.elements = self.elements.saturating_add(count);
        if self.elements > self.limits.max_elements {
            return Err(FrameError::TooManyElements(self.limits.max_elements));
        }
        if self.open.len() >= self.limits.max_depth {
            return Err(FrameError::TooDeep(self.limits.max_depth));
        }
        if count == 0 {
            return Ok(kind.frame(Vec::new()).and_then(|empty| self.close(empty)));
        }
        self.open.push(Open { kind, left: count, items: Vec::with_capacity(count.min(FIRST_ELEMENTS)) });
        Ok(None)
    }

    /// Adds a complete frame to the innermost open aggregate, and closes those that it completes. Returns the reply
    /// once that is complete.
    fn close(&mut self, mut frame: Frame) -> Option<Frame> {
        while let Some(mut open) = self.open.pop() {
            open.items.push(frame);
            open.left -= 1;
            if open.left > 0 {
                self.open.push(open);
                return None;
            }
            frame = open.kind.frame(open.items)?;
        }
        Some(frame)
    }

    /// Decodes the element at the front of `buf`.
    fn element(&mut self, buf: &[u8]) -> Result<Element, FrameError> {
        // Checked at once rather than at the line's end, because another kind of server may never send one.
        if buf.starts_with(b"HTTP/") {
            return Err(FrameError::Http);
        }
        if let Some(first) = buf.first().filter(|first| !TYPES.contains(first)) {
            return Err(FrameError::UnknownType(*first));
        }
        let Some((line, len)) = self.line(buf)? else { return Ok(Element::Incomplete { need: 1 }) };
        let leaf = |frame| Ok(Element::Leaf(frame, len));
        let header = |kind, what| {
            Ok(match length(line, what)? {
                Some(count) => Element::Header(kind, count, len),
                None => Element::Leaf(Frame::Null, len),
            })
        };
        match buf[0] {
            b'+' => leaf(Frame::Simple(text(line))),
            b'-' => leaf(Frame::Error(text(line))),
            b':' => leaf(Frame::Int(number(line, "integer")?)),
            b'_' if line.is_empty() => leaf(Frame::Null),
            b'_' => Err(FrameError::Malformed("null")),
            b'#' if line == b"t" => leaf(Frame::Bool(true)),
            b'#' if line == b"f" => leaf(Frame::Bool(false)),
            b'#' => Err(FrameError::Malformed("boolean")),
            b',' => leaf(Frame::Double(number(line, "double")?)),
            b'(' => leaf(Frame::Big(big_number(line)?)),
            b'$' => self.payload(buf, line, len, |bytes| Ok(Frame::Bulk(Bytes::copy_from_slice(bytes)))),
            b'!' => self.payload(buf, line, len, |bytes| Ok(Frame::Error(text(bytes)))),
            b'=' => self.payload(buf, line, len, verbatim),
            b'*' => header(Kind::Array, "array length"),
            b'~' => header(Kind::Set, "set length"),
            b'>' => header(Kind::Push, "push length"),
            b'%' => paired(header(Kind::Map, "map length")?),
            b'|' => paired(header(Kind::Attribute, "attribute length")?),
            _ => Err(FrameError::Streamed),
        }
    }

    /// The line at the front of `buf` without its type byte and CR LF, and its length with them.
    fn line<'a>(&mut self, buf: &'a [u8]) -> Result<Option<(&'a [u8], usize)>, FrameError> {
        let window = &buf[..buf.len().min(MAX_LINE)];
        let Some(found) = memchr(b'\n', &window[self.scanned..]) else {
            if window.len() == MAX_LINE {
                return Err(FrameError::LineTooLong);
            }
            self.scanned = window.len();
            return Ok(None);
        };
        let end = std::mem::take(&mut self.scanned) + found;
        match &buf[..end] {
            [_, line @ .., b'\r'] => Ok(Some((line, end + 1))),
            _ => Err(FrameError::Malformed("line end")),
        }
    }

    /// Decodes a leaf whose bytes follow its header line, `line`, of `start` bytes.
    fn payload(
        &self,
        buf: &[u8],
        line: &[u8],
        start: usize,
        leaf: impl FnOnce(&[u8]) -> Result<Frame, FrameError>,
    ) -> Result<Element, FrameError> {
        let Some(len) = length(line, "bulk length")? else { return Ok(Element::Leaf(Frame::Null, start)) };
        if len > MAX_BULK || self.bytes + len > self.limits.max_bytes {
            return Err(FrameError::TooLarge(self.limits.max_bytes.min(MAX_BULK)));
        }
        let end = start + len;
        match buf.get(end..end + 2) {
            Some(b"\r\n") => Ok(Element::Leaf(leaf(&buf[start..end])?, end + 2)),
            Some(_) => Err(FrameError::Malformed("bulk end")),
            None => Ok(Element::Incomplete { need: end + 2 - buf.len() }),
        }
    }
}

impl Kind {
    /// The frame of the aggregate's `items`; `None` for an attribute, which is not part of the reply.
    fn frame(self, items: Vec<Frame>) -> Option<Frame> {
        Some(match self {
            Self::Array => Frame::Array(items),
            Self::Set => Frame::Set(items),
            Self::Push => Frame::Push(items),
            Self::Attribute => return None,
            Self::Map => {
                let mut pairs = Vec::with_capacity(items.len() / 2);
                let mut items = items.into_iter();
                while let (Some(key), Some(value)) = (items.next(), items.next()) {
                    pairs.push((key, value));
                }
                Frame::Map(pairs)
            }
        })
    }
}

/// Converts a header that counts pairs into one that counts elements.
fn paired(element: Element) -> Result<Element, FrameError> {
    Ok(match element {
        Element::Header(kind, pairs, len) => Element::Header(kind, pairs.saturating_mul(2), len),
        other => other,
    })
}

/// Parses a length; `None` for -1, RESP2's null.
fn length(line: &[u8], what: &'static str) -> Result<Option<usize>, FrameError> {
    match line {
        b"-1" => Ok(None),
        b"?" => Err(FrameError::Streamed),
        _ => number(line, what).map(Some),
    }
}

fn number<T: std::str::FromStr>(line: &[u8], what: &'static str) -> Result<T, FrameError> {
    str::from_utf8(line).ok().and_then(|text| text.parse().ok()).ok_or(FrameError::Malformed(what))
}

fn big_number(line: &[u8]) -> Result<String, FrameError> {
    let digits = line.strip_prefix(b"-").or(line.strip_prefix(b"+")).unwrap_or(line);
    if digits.is_empty() || !digits.iter().all(u8::is_ascii_digit) {
        return Err(FrameError::Malformed("big number"));
    }
    Ok(text(line))
}

fn verbatim(bytes: &[u8]) -> Result<Frame, FrameError> {
    match bytes {
        [a, b, c, b':', content @ ..] => {
            Ok(Frame::Verbatim { format: text(&[*a, *b, *c]), text: Bytes::copy_from_slice(content) })
        }
        _ => Err(FrameError::Malformed("verbatim text")),
    }
}

/// Text for people: invalid UTF-8 is replaced.
fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

#[cfg(test)]
impl FrameDecoder {
    /// Capacity in bytes for elements of the current reply, without the strings in them.
    pub(super) fn capacity(&self) -> usize {
        fn nested(frames: &[Frame]) -> usize {
            frames.iter().map(of).sum()
        }
        fn of(frame: &Frame) -> usize {
            match frame {
                Frame::Array(items) | Frame::Set(items) | Frame::Push(items) => {
                    items.capacity() * size_of::<Frame>() + nested(items)
                }
                Frame::Map(pairs) => {
                    let inside = pairs.iter().map(|(key, value)| of(key) + of(value)).sum::<usize>();
                    pairs.capacity() * 2 * size_of::<Frame>() + inside
                }
                _ => 0,
            }
        }
        self.open.iter().map(|open| open.items.capacity() * size_of::<Frame>() + nested(&open.items)).sum()
    }
}

#[cfg(test)]
mod tests;
