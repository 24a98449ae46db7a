//! Encodes replies.

/// The status reply to a write.
pub const OK: &[u8] = b"+OK\r\n";
/// The reply to `PING`.
pub const PONG: &[u8] = b"+PONG\r\n";
/// The integer 0.
pub const ZERO: &[u8] = b":0\r\n";
/// The integer 1.
pub const ONE: &[u8] = b":1\r\n";
/// An array without elements.
pub const EMPTY_ARRAY: &[u8] = b"*0\r\n";

/// The protocol version of a connection. It begins with RESP2; `HELLO 3` changes it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Proto {
    /// The only version before Redis 6; connections start with it.
    #[default]
    Resp2,
    /// Adds maps, sets, pushes, doubles, booleans and a separate null.
    Resp3,
}

/// Appends replies to a connection's output.
///
/// Types that RESP2 lacks are written as Redis writes them there. An aggregate is written as its header; the caller
/// then appends exactly that many elements.
#[derive(Debug)]
pub struct Reply<'a> {
    out: &'a mut Vec<u8>,
    proto: Proto,
}

impl<'a> Reply<'a> {
    /// A writer at the end of `out`.
    pub fn new(out: &'a mut Vec<u8>, proto: Proto) -> Self {
        Self { out, proto }
    }

    /// The protocol version of the replies.
    pub fn proto(&self) -> Proto {
        self.proto
    }

    /// One of this module's constants, or another encoded reply.
    pub fn raw(&mut self, encoded: &[u8]) {
        self.out.extend_from_slice(encoded);
    }

    /// `OK`.
    pub fn ok(&mut self) {
        self.raw(OK);
    }

    /// A status: short text on one line.
    pub fn simple(&mut self, text: &str) {
        self.line(b'+', text);
    }

    /// An error. `text` begins with its code: `ERR …`, `WRONGTYPE …`.
    pub fn error(&mut self, text: &str) {
        self.line(b'-', text);
    }

    /// An integer.
    pub fn int(&mut self, value: i64) {
        match value {
            0 => self.raw(ZERO),
            1 => self.raw(ONE),
            _ => self.number(b':', value),
        }
    }

    /// Bytes.
    pub fn bulk(&mut self, bytes: &[u8]) {
        push_bulk(self.out, bytes);
    }

    /// No value.
    pub fn null(&mut self) {
        self.raw(self.either(b"$-1\r\n", b"_\r\n"));
    }

    /// No value where an array is expected.
    pub fn null_array(&mut self) {
        self.raw(self.either(b"*-1\r\n", b"_\r\n"));
    }

    /// The header of an array of `len` elements.
    pub fn array(&mut self, len: usize) {
        self.number(b'*', len);
    }

    /// The header of a map of `pairs` pairs, each a key then its value; a flat array of both in RESP2.
    pub fn map(&mut self, pairs: usize) {
        match self.proto {
            Proto::Resp2 => self.array(pairs * 2),
            Proto::Resp3 => self.number(b'%', pairs),
        }
    }

    /// The header of a set of `len` elements; an array in RESP2.
    pub fn set(&mut self, len: usize) {
        self.number(self.either(b'*', b'~'), len);
    }

    /// The header of a push of `len` elements, a message that answers no request; an array in RESP2.
    pub fn push(&mut self, len: usize) {
        self.number(self.either(b'*', b'>'), len);
    }

    /// A boolean; 1 or 0 in RESP2.
    pub fn bool(&mut self, value: bool) {
        match self.proto {
            Proto::Resp2 => self.int(i64::from(value)),
            Proto::Resp3 => self.raw(if value { b"#t\r\n" } else { b"#f\r\n" }),
        }
    }

    /// A floating-point number, in the shortest form that reads back the same; bytes in RESP2.
    pub fn double(&mut self, value: f64) {
        let text = double_text(value);
        match self.proto {
            Proto::Resp2 => self.bulk(text.as_bytes()),
            Proto::Resp3 => self.line(b',', &text),
        }
    }

    /// Text for people, with a three-letter `format` (`txt`, `mkd`); bytes in RESP2.
    pub fn verbatim(&mut self, format: &str, text: &str) {
        debug_assert_eq!(format.len(), 3, "a verbatim format has three letters");
        match self.proto {
            Proto::Resp2 => self.bulk(text.as_bytes()),
            Proto::Resp3 => {
                self.number(b'=', text.len() + 4);
                self.raw(format.as_bytes());
                self.raw(b":");
                self.raw(text.as_bytes());
                self.raw(b"\r\n");
            }
        }
    }

    fn either<T>(&self, resp2: T, resp3: T) -> T {
        match self.proto {
            Proto::Resp2 => resp2,
            Proto::Resp3 => resp3,
        }
    }

    fn number(&mut self, kind: u8, value: impl itoa::Integer) {
        push_number(self.out, kind, value);
    }

    /// `text` on a line of its own. A line end inside it would break the protocol, so it becomes a blank.
    fn line(&mut self, kind: u8, text: &str) {
        self.out.push(kind);
        self.out.extend(text.bytes().map(|byte| if matches!(byte, b'\r' | b'\n') { b' ' } else { byte }));
        self.raw(b"\r\n");
    }
}

fn push_number(out: &mut Vec<u8>, kind: u8, value: impl itoa::Integer) {
    out.push(kind);
    out.extend_from_slice(itoa::Buffer::new().format(value).as_bytes());
    out.extend_from_slice(b"\r\n");
}

fn push_bulk(out: &mut Vec<u8>, bytes: &[u8]) {
    push_number(out, b'$', bytes.len());
    out.extend_from_slice(bytes);
    out.extend_from_slice(b"\r\n");
}

/// `inf`, `-inf` and `nan` as in RESP3, and an exponent if plain digits would be many.
fn double_text(value: f64) -> String {
    let magnitude = value.abs();
    if value.is_nan() {
        "nan".into()
    } else if magnitude == 0.0 || magnitude.is_infinite() || (1e-5..1e17).contains(&magnitude) {
        value.to_string()
    } else {
        format!("{value:e}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn both(write: impl Fn(&mut Reply<'_>)) -> [String; 2] {
        [Proto::Resp2, Proto::Resp3].map(|proto| {
            let mut out = Vec::new();
            write(&mut Reply::new(&mut out, proto));
            String::from_utf8(out).unwrap()
        })
    }

    #[test]
    fn each_reply_has_its_golden_bytes_in_both_dialects() {
        type Case = (fn(&mut Reply<'_>), &'static str, &'static str);
        let cases: &[Case] = &[
            (|r| r.ok(), "+OK\r\n", "+OK\r\n"),
            (|r| r.raw(PONG), "+PONG\r\n", "+PONG\r\n"),
            (|r| r.raw(EMPTY_ARRAY), "*0\r\n", "*0\r\n"),
            (|r| r.simple("Background"), "+Background\r\n", "+Background\r\n"),
            (|r| r.error("ERR no such key"), "-ERR no such key\r\n", "-ERR no such key\r\n"),
            (|r| r.int(0), ":0\r\n", ":0\r\n"),
            (|r| r.int(1), ":1\r\n", ":1\r\n"),
            (|r| r.int(i64::MIN), ":-9223372036854775808\r\n", ":-9223372036854775808\r\n"),
            (|r| r.bulk(b""), "$0\r\n\r\n", "$0\r\n\r\n"),
            (|r| r.bulk(b"a\r\nb"), "$4\r\na\r\nb\r\n", "$4\r\na\r\nb\r\n"),
            (|r| r.null(), "$-1\r\n", "_\r\n"),
            (|r| r.null_array(), "*-1\r\n", "_\r\n"),
            (|r| r.array(3), "*3\r\n", "*3\r\n"),
            (|r| r.map(3), "*6\r\n", "%3\r\n"),
            (|r| r.set(3), "*3\r\n", "~3\r\n"),
            (|r| r.push(3), "*3\r\n", ">3\r\n"),
            (|r| r.bool(true), ":1\r\n", "#t\r\n"),
            (|r| r.bool(false), ":0\r\n", "#f\r\n"),
            (|r| r.double(0.5), "$3\r\n0.5\r\n", ",0.5\r\n"),
            (|r| r.double(-3.0), "$2\r\n-3\r\n", ",-3\r\n"),
            (|r| r.double(1e300), "$5\r\n1e300\r\n", ",1e300\r\n"),
            (|r| r.double(f64::INFINITY), "$3\r\ninf\r\n", ",inf\r\n"),
            (|r| r.double(f64::NEG_INFINITY), "$4\r\n-inf\r\n", ",-inf\r\n"),
            (|r| r.double(f64::NAN), "$3\r\nnan\r\n", ",nan\r\n"),
            (|r| r.verbatim("txt", "hi"), "$2\r\nhi\r\n", "=6\r\ntxt:hi\r\n"),
        ];
        for (write, resp2, resp3) in cases {
            assert_eq!(both(write), [*resp2, *resp3]);
        }
    }

    #[test]
    fn a_line_end_inside_an_error_cannot_forge_a_second_reply() {
        let [bytes, _] = both(|reply| reply.error("ERR unknown command 'a\r\n+OK'"));
        assert_eq!(bytes, "-ERR unknown command 'a  +OK'\r\n");
    }
}
