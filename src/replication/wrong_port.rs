//! Recognises connections of other protocols by their first bytes, and answers them in their own protocol.
//!
//! A hello is at most [`MAX_HELLO_FRAME`] long, so the first byte of a peer's connection is always zero. No
//! text protocol and no TLS record begins with a zero byte.
//!
//! [`MAX_HELLO_FRAME`]: super::codec::MAX_HELLO_FRAME

use std::collections::VecDeque;
use std::net::IpAddr;

use tracing_mutex::parkinglot::Mutex;

use super::codec::HEADER;
use crate::config::DEFAULT_PEER_PORT;

/// The most clients that are recorded as logged; beyond it the oldest is dropped.
const MAX_LOGGED: usize = 64;

/// What a node without TLS says of an address that answers in TLS.
const EXPLAIN_TLS_ANSWER: &str = "it answers in TLS: if it is a node, give this one --peer-tls-cert or --peer-secret-file \
    as it has; --join and --advertise want a peer port, 7172 by default";

/// What a node without TLS says of a connection that begins with TLS.
const EXPLAIN_TLS_REQUEST: &str = "it speaks TLS, but this node has neither --peer-tls-cert nor --peer-secret-file: give all \
    nodes the same";

/// Another protocol that a connection to the peer port uses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum OtherProtocol {
    Redis,
    Http,
    Tls,
    /// Lines of text of another protocol, or a Redis command typed by hand.
    Text,
}

/// What the first bytes of a connection show.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Opening {
    /// Too few bytes have arrived.
    Unclear,
    /// A frame, or bytes that need a check of their header.
    Frame,
    Other(OtherProtocol),
}

impl Opening {
    pub(super) fn of(bytes: &[u8]) -> Opening {
        let is_tls = |second| second == 3 && matches!(bytes[0], 0x15 | 0x16);
        match bytes {
            [] => Opening::Unclear,
            [0, ..] => Opening::Frame,
            [_, second, ..] if is_tls(*second) => Opening::Other(OtherProtocol::Tls),
            _ if bytes.len() < HEADER && !bytes.contains(&b'\n') => Opening::Unclear,
            _ if is_http(bytes) => Opening::Other(OtherProtocol::Http),
            [b'*' | b'$' | b':' | b'%' | b'>', b'0'..=b'9', ..]
            | [b'+' | b'-', b'A'..=b'Z' | b'a'..=b'z', ..] => Opening::Other(OtherProtocol::Redis),
            _ if bytes.iter().take(HEADER).all(|&byte| is_text(byte)) => Opening::Other(OtherProtocol::Text),
            _ => Opening::Frame,
        }
    }
}

fn is_text(byte: u8) -> bool {
    byte.is_ascii_graphic() || byte.is_ascii_whitespace()
}

/// Whether the bytes are an HTTP response or request: a method in capitals and a path, or a first line with the
/// version.
fn is_http(bytes: &[u8]) -> bool {
    let line = bytes.split(|&byte| byte == b'\n').next().unwrap_or_default();
    let method = line.iter().take_while(|byte| byte.is_ascii_uppercase()).count();
    let has_path = method > 0 && line[method..].starts_with(b" /");
    // Some servers answer a malformed request with a page alone.
    let is_page = line.starts_with(b"<!") || line.to_ascii_lowercase().starts_with(b"<html");
    is_page || line.starts_with(b"HTTP/") || has_path || line.windows(6).any(|part| part == b" HTTP/")
}

impl OtherProtocol {
    fn as_str(self) -> &'static str {
        match self {
            OtherProtocol::Redis => "the Redis protocol",
            OtherProtocol::Http => "HTTP",
            OtherProtocol::Tls => "TLS",
            OtherProtocol::Text => "a text protocol",
        }
    }

    /// Explains to people why a dialled address is not a peer's.
    pub(super) fn explain_answer(self) -> String {
        let whose = match self {
            OtherProtocol::Redis => ", as a client port does",
            OtherProtocol::Http => ", as an http port does",
            OtherProtocol::Tls => return EXPLAIN_TLS_ANSWER.into(),
            OtherProtocol::Text => "",
        };
        format!(
            "it answers in {}{whose}: --join and --advertise want a peer port, {DEFAULT_PEER_PORT} by default",
            self.as_str()
        )
    }

    /// Explains to people why a connection to the peer port is closed. `client_port` is where this node serves
    /// clients, if it does.
    pub(super) fn explain_request(self, client_port: Option<u16>) -> String {
        if self == OtherProtocol::Tls {
            return EXPLAIN_TLS_REQUEST.into();
        }
        let ports = match client_port {
            Some(port) => format!("clients use the client port, {port}"),
            None => "this node has no client port".into(),
        };
        format!("it speaks {}, but this is the peer port: {ports}", self.as_str())
    }

    /// Returns what the peer port sends before it closes the connection.
    pub(super) fn answer(self, client_port: Option<u16>) -> Option<String> {
        let ports = match client_port {
            Some(port) => format!("clients use its client port, {port}"),
            None => "it has no client port".into(),
        };
        let text = format!("this is the peer port of a Sapwood node: {ports}");
        match self {
            OtherProtocol::Redis | OtherProtocol::Text => Some(format!("-ERR {text}\r\n")),
            OtherProtocol::Http => Some(format!(
                "HTTP/1.1 400 Bad Request\r\ncontent-type: text/plain; charset=utf-8\r\ncontent-length: {}\r\n\
                 connection: close\r\n\r\n{text}\n",
                text.len() + 1
            )),
            OtherProtocol::Tls => None,
        }
    }
}

/// Clients that have used another protocol at the peer port: a client that keeps trying is logged once.
#[derive(Default)]
pub(super) struct LoggedClients(Mutex<VecDeque<(IpAddr, OtherProtocol)>>);

impl LoggedClients {
    /// Records a client. Returns whether it is new.
    pub(super) fn note(&self, client: IpAddr, protocol: OtherProtocol) -> bool {
        let mut logged = self.0.lock();
        if logged.contains(&(client, protocol)) {
            return false;
        }
        if logged.len() == MAX_LOGGED {
            logged.pop_front();
        }
        logged.push_back((client, protocol));
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn other_protocols_are_recognised_by_their_first_bytes() {
        use OtherProtocol::{Http, Redis, Text, Tls};
        for (bytes, protocol) in [
            (&b"*1\r\n$4\r\nPING\r\n"[..], Redis),
            (b"-ERR unknown command\r\n", Redis),
            (b"-NOAUTH Authentication required.\r\n", Redis),
            (b"+OK\r\n", Redis),
            (b"%7\r\n$6\r\nserver\r\n", Redis),
            (b"GET / HTTP/1.1\r\n", Http),
            (b"OPTIONS * HTTP/1.1\r\n", Http),
            (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", Http),
            (b"HTTP/1.1 400 Bad Request\r\n", Http),
            (b"HTTP/1.0 400\n", Http),
            (b"<!DOCTYPE HTML>\n<html>", Http),
            (b"\x16\x03\x01\x02\x00\x01", Tls),
            (b"\x15\x03\x01\x00\x02\x02\x46", Tls),
            (b"PING\r\n", Text),
            (b"SSH-2.0-OpenSSH_9.2\r\n", Text),
        ] {
            assert_eq!(Opening::of(bytes), Opening::Other(protocol), "{}", bytes.escape_ascii());
            for end in 0..bytes.len() {
                let part = Opening::of(&bytes[..end]);
                assert_ne!(part, Opening::Frame, "{}", bytes[..end].escape_ascii());
            }
        }
    }

    #[test]
    fn a_hello_and_a_damaged_one_are_left_to_their_checksums() {
        let hello = super::super::codec::frame(&"a hello that is a little longer than the header");
        assert_eq!(Opening::of(&hello), Opening::Frame);
        for bit in 0..8 * HEADER {
            let mut damaged = hello.to_vec();
            damaged[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(Opening::of(&damaged), Opening::Frame, "bit {bit}");
        }
    }

    #[test]
    fn a_client_that_keeps_trying_is_logged_once_and_what_is_kept_is_bounded() {
        let logged = LoggedClients::default();
        let client = |n: u32| IpAddr::from(std::net::Ipv4Addr::from(n));
        assert!(logged.note(client(1), OtherProtocol::Http));
        assert!(!logged.note(client(1), OtherProtocol::Http));
        assert!(logged.note(client(1), OtherProtocol::Redis));
        (0..1000).for_each(|n| _ = logged.note(client(n), OtherProtocol::Tls));
        assert_eq!(logged.0.lock().len(), MAX_LOGGED);
    }
}
