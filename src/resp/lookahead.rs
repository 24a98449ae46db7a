//! Requests that have been parsed ahead of their execution, so that their keys can be prefetched together.

use super::args::{Args, Span};
use super::limits::Limits;
use super::plain;
use crate::store::PREFETCH_AHEAD;

/// The plain requests at the front of the input that are parsed and not yet executed.
#[derive(Debug, Default)]
pub(super) struct Lookahead {
    /// The arguments of all of them, relative to the first byte of their request.
    spans: Vec<Span>,
    requests: [Parsed; PREFETCH_AHEAD],
    /// The requests from `next` to `end` are left.
    next: usize,
    end: usize,
}

/// A request that has been parsed.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Parsed {
    /// Where its arguments begin and end in the spans.
    first: usize,
    last: usize,
    /// Its length in bytes.
    pub(super) length: usize,
}

impl Lookahead {
    /// Parses the plain requests at the start of `input`, up to [`PREFETCH_AHEAD`], if all that were parsed before have been
    /// taken.
    #[inline]
    pub(super) fn fill(&mut self, input: &[u8], limits: &Limits) {
        if self.next < self.end {
            return;
        }
        self.discard();
        let mut rest = input;
        for parsed in &mut self.requests {
            let first = self.spans.len();
            let Some(length) = plain::request(rest, limits, &mut self.spans) else { break };
            *parsed = Parsed { first, last: self.spans.len(), length };
            rest = &rest[length..];
            self.end += 1;
        }
    }

    /// Forgets what was parsed. The input still has it.
    pub(super) fn discard(&mut self) {
        self.spans.clear();
        (self.next, self.end) = (0, 0);
    }

    /// Takes the next request.
    #[inline]
    pub(super) fn take(&mut self) -> Option<Parsed> {
        let request = self.requests[self.next..self.end].first().copied()?;
        self.next += 1;
        Some(request)
    }

    /// The arguments of a request that begins at the first byte of `input`.
    #[inline]
    pub(super) fn args<'a>(&'a self, request: Parsed, input: &'a [u8]) -> Args<'a> {
        Args::new(input, &self.spans[request.first..request.last])
    }

    /// Collects the second argument, which usually is the key, of the requests that are left and begin at the start of
    /// `input`; returns how many have one.
    pub(super) fn keys<'a>(&self, input: &'a [u8], keys: &mut [&'a [u8]; PREFETCH_AHEAD]) -> usize {
        let (mut found, mut rest) = (0, input);
        for request in &self.requests[self.next..self.end] {
            if let Some(key) = self.spans[request.first..request.last].get(1) {
                keys[found] = key.of(rest);
                found += 1;
            }
            rest = &rest[request.length..];
        }
        found
    }

    /// The number of requests that are left.
    pub(super) fn len(&self) -> usize {
        self.end - self.next
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const GET: &[u8] = b"*2\r\n$3\r\nGET\r\n$1\r\na\r\n";

    fn filled(input: &[u8]) -> Lookahead {
        let mut ahead = Lookahead::default();
        ahead.fill(input, &Limits::default());
        ahead
    }

    fn keys(input: &[u8]) -> Vec<&[u8]> {
        let mut space = [&b""[..]; PREFETCH_AHEAD];
        let found = filled(input).keys(input, &mut space);
        space[..found].to_vec()
    }

    #[test]
    fn keys_of_whole_requests_are_found_up_to_the_space_for_them() {
        let set = b"*3\r\n$3\r\nSET\r\n$2\r\nbb\r\n$0\r\n\r\n";
        let ping = b"*1\r\n$4\r\nPING\r\n";
        assert_eq!(keys(&[GET, set, ping, GET].concat()), [&b"a"[..], b"bb", b"a"]);
        assert_eq!(keys(&GET.repeat(2 * PREFETCH_AHEAD)).len(), PREFETCH_AHEAD);
    }

    #[test]
    fn requests_are_taken_in_order_and_parsed_once() {
        let set = b"*3\r\n$3\r\nSET\r\n$2\r\nbb\r\n$0\r\n\r\n";
        let input = [GET, set].concat();
        let mut ahead = filled(&input);
        assert_eq!(ahead.len(), 2);
        let mut at = 0;
        for (name, request) in [(b"GET", GET), (b"SET", &set[..])] {
            let parsed = ahead.take().unwrap();
            assert_eq!(&ahead.args(parsed, &input[at..])[0], name);
            assert_eq!(parsed.length, request.len());
            at += parsed.length;
            if at < input.len() {
                ahead.fill(b"not parsed while a request is left", &Limits::default());
            }
        }
        assert!(ahead.take().is_none());
    }

    #[test]
    fn parsing_ahead_ends_at_whatever_is_not_plain() {
        let odd: [&[u8]; 7] = [
            b"",
            b"PING\r\n",
            b"*2\r\n$3\r\nGET\r\n$1\r\n",
            b"*-1\r\n",
            b"*\r\n",
            b"*99999999999\r\n",
            b"$1\r\n",
        ];
        for odd in odd {
            assert_eq!(keys(&[GET, odd].concat()), [b"a"], "{:?}", odd.escape_ascii().to_string());
        }
    }
}
