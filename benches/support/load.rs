//! The load generator: cheap enough that one core of it saturates one core of server.
//!
//! One thread, N blocking connections served in turn, each with one batch under way. Requests are encoded once and
//! only their keys overwritten. Replies have one size, so that reading them is counting bytes.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::ops::Range;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use clap::ValueEnum;
use serde::Serialize;

/// Bytes of a key: `key:` and twelve digits.
pub(crate) const KEY: usize = 16;
/// Bytes of a value.
pub(crate) const VALUE: usize = 100;
/// How long a reply may take before the server counts as stuck.
const PATIENCE: Duration = Duration::from_secs(30);

/// What each request does.
#[derive(Clone, Copy, PartialEq, Eq, Debug, ValueEnum, Serialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Command {
    /// Replaces a value
    Set,
    /// Reads a value that exists
    Get,
    /// Deletes
    #[value(skip)]
    Del,
}

/// What is sent.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Load {
    pub(crate) command: Command,
    pub(crate) pipeline: u32,
    pub(crate) connections: u32,
    /// Keys are drawn from `0..keys`.
    pub(crate) keys: u32,
}

/// What came of it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Done {
    pub(crate) requests: u64,
    pub(crate) elapsed: Duration,
}

impl Load {
    /// Sends random keys for `duration`, then awaits every reply. The same `seed` sends the same keys.
    pub(crate) fn run(self, server: SocketAddr, duration: Duration, seed: u64) -> Result<Done> {
        let mut random = Random(seed | 1);
        let started = Instant::now();
        self.drive(server, || random.below(self.keys), || started.elapsed() < duration)
    }

    /// Sends so many random keys, or a few more to fill the last round. The same `seed` sends the same keys.
    pub(crate) fn count(self, server: SocketAddr, requests: u32, seed: u64) -> Result<Done> {
        let mut random = Random(seed | 1);
        let mut rounds = requests.div_ceil(self.pipeline * self.connections);
        let more = || {
            rounds = rounds.saturating_sub(1);
            rounds > 0
        };
        self.drive(server, || random.below(self.keys), more)
    }

    /// Sends every key once, in order (and a few of the last ones again, to fill the last batch).
    pub(crate) fn each(self, server: SocketAddr) -> Result<Done> {
        self.each_of(server, 0..self.keys)
    }

    /// The same for some of the keys.
    pub(crate) fn each_of(self, server: SocketAddr, keys: Range<u32>) -> Result<Done> {
        let batches = u64::from(keys.end - keys.start).div_ceil(u64::from(self.pipeline));
        let rounds = batches.div_ceil(u64::from(self.connections));
        let mut key = keys.start;
        let mut round = 0;
        let next = || {
            let this = key;
            key = (key + 1).min(keys.end - 1);
            this
        };
        self.drive(server, next, || {
            round += 1;
            round < rounds
        })
    }

    /// Sends a first batch on every connection, and another round for as long as `more` says so.
    fn drive(
        self,
        server: SocketAddr,
        mut next: impl FnMut() -> u32,
        mut more: impl FnMut() -> bool,
    ) -> Result<Done> {
        let mut connections: Vec<_> =
            (0..self.connections).map(|_| Connection::open(server, self)).collect::<Result<_>>()?;
        let started = Instant::now();
        let mut batches = 0;
        for connection in &mut connections {
            connection.send(&mut next)?;
        }
        while more() {
            for connection in &mut connections {
                connection.receive()?;
                connection.send(&mut next)?;
            }
            batches += u64::from(self.connections);
        }
        for connection in &mut connections {
            connection.receive()?;
        }
        batches += u64::from(self.connections);
        Ok(Done { requests: batches * u64::from(self.pipeline), elapsed: started.elapsed() })
    }
}

struct Connection {
    stream: TcpStream,
    requests: Vec<u8>,
    /// Bytes of one request, and where in it the key is.
    request: usize,
    key_at: usize,
    replies: Vec<u8>,
    /// What every reply begins with, and its bytes in all.
    prefix: &'static [u8],
    reply: usize,
}

impl Connection {
    fn open(server: SocketAddr, load: Load) -> Result<Connection> {
        let key = [b'0'; KEY];
        let value = value();
        let request = match load.command {
            Command::Set => encode(&[b"SET", &key, &value]),
            Command::Get => encode(&[b"GET", &key]),
            Command::Del => encode(&[b"DEL", &key]),
        };
        let prefix: &[u8] = match load.command {
            Command::Set => b"+OK\r\n",
            Command::Get => b"$100\r\n",
            Command::Del => b":",
        };
        let reply = match load.command {
            Command::Set => prefix.len(),
            Command::Get => prefix.len() + VALUE + 2,
            Command::Del => b":1\r\n".len(),
        };
        let pipeline = load.pipeline as usize;
        let stream = open(server)?;
        Ok(Connection {
            stream,
            requests: request.repeat(pipeline),
            request: request.len(),
            key_at: encode(&[b"GET"]).len() + b"$16\r\n".len(),
            replies: vec![0; reply * pipeline],
            prefix,
            reply,
        })
    }

    fn send(&mut self, mut next: impl FnMut() -> u32) -> Result<()> {
        for request in self.requests.chunks_exact_mut(self.request) {
            write_key(&mut request[self.key_at..self.key_at + KEY], next());
        }
        self.stream.write_all(&self.requests).context("the server closed the connection")
    }

    fn receive(&mut self) -> Result<()> {
        if let Err(error) = self.stream.read_exact(&mut self.replies) {
            let text = String::from_utf8_lossy(&self.replies[..self.reply.min(80)]).into_owned();
            return Err(error).context(format!("not all replies came; the first begins {text:?}"));
        }
        for reply in self.replies.chunks_exact(self.reply) {
            if !reply.starts_with(self.prefix) {
                bail!("unexpected reply {:?}", String::from_utf8_lossy(&reply[..reply.len().min(80)]));
            }
        }
        Ok(())
    }
}

/// A value without repetition: a Redis primary compresses what it sends to a replica.
fn value() -> Vec<u8> {
    let mut random = Random(1);
    (0..VALUE).map(|_| b'0' + u8::try_from(random.below(64)).unwrap_or_default()).collect()
}

/// A blocking connection without Nagle's delay.
pub(crate) fn open(server: SocketAddr) -> Result<TcpStream> {
    let stream = TcpStream::connect(server)?;
    stream.set_nodelay(true)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.set_write_timeout(Some(PATIENCE))?;
    Ok(stream)
}

/// One request.
pub(crate) fn encode(arguments: &[&[u8]]) -> Vec<u8> {
    let mut out = format!("*{}\r\n", arguments.len()).into_bytes();
    for argument in arguments {
        out.extend_from_slice(format!("${}\r\n", argument.len()).as_bytes());
        out.extend_from_slice(argument);
        out.extend_from_slice(b"\r\n");
    }
    out
}

/// Writes the key of this number.
pub(crate) fn write_key(out: &mut [u8], number: u32) {
    out[..4].copy_from_slice(b"key:");
    write_digits(&mut out[4..], number);
}

/// Writes `number` in decimal, with leading zeros.
pub(crate) fn write_digits(out: &mut [u8], mut number: u32) {
    for digit in out.iter_mut().rev() {
        *digit = b'0' + u8::try_from(number % 10).unwrap_or_default();
        number /= 10;
    }
}

/// xorshift64*: a few instructions a number, which is what a load generator can afford.
pub(crate) struct Random(u64);

impl Random {
    /// The same seed gives the same numbers.
    pub(crate) fn new(seed: u64) -> Random {
        // Apart from each other although the seeds are neighbours, and never 0, which the generator would stay at.
        Random(seed.wrapping_add(1).wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1)
    }

    pub(crate) fn below(&mut self, limit: u32) -> u32 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        let high = self.0.wrapping_mul(0x2545_F491_4F6C_DD1D) >> 32;
        u32::try_from((high * u64::from(limit)) >> 32).unwrap_or_default()
    }
}
