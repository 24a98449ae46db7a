//! Clients that count in pipelines, and keep account of what must have been counted and what may have been.

use std::collections::BTreeMap;
use std::io::{BufRead as _, BufReader, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use redis::Connection;

use super::node_process::{NodeProcess, PATIENCE, ask, request, wait};

/// What some increments add up to. An increment whose reply never came may have been made or not.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    /// How many were acknowledged.
    pub sure: u64,
    /// How many were sent, and their replies never came.
    pub unsure: u64,
    /// The least that the sum can be.
    pub least: i128,
    /// The most that it can be.
    pub most: i128,
}

impl Tally {
    fn acknowledged(&mut self, by: i64) {
        self.sure += 1;
        self.least += i128::from(by);
        self.most += i128::from(by);
    }

    fn unacknowledged(&mut self, by: i64) {
        self.unsure += 1;
        self.least += i128::from(by.min(0));
        self.most += i128::from(by.max(0));
    }

    pub fn allows(&self, sum: i128) -> bool {
        (self.least..=self.most).contains(&sum)
    }
}

/// Tallies by key.
#[derive(Clone, Debug, Default)]
pub struct Tallies(pub BTreeMap<String, Tally>);

impl Tallies {
    pub fn of(&self, key: &str) -> Tally {
        self.0.get(key).copied().unwrap_or_default()
    }

    pub fn total(&self) -> Tally {
        let mut total = Tallies::default();
        self.0.values().for_each(|tally| total.add("", *tally));
        total.of("")
    }

    pub fn extend(&mut self, other: &Tallies) {
        other.0.iter().for_each(|(key, tally)| self.add(key, *tally));
    }

    fn add(&mut self, key: &str, tally: Tally) {
        let sum = self.0.entry(key.to_owned()).or_default();
        sum.sure += tally.sure;
        sum.unsure += tally.unsure;
        sum.least += tally.least;
        sum.most += tally.most;
    }
}

/// One client after another at one address: a connection that ends is replaced by the next.
pub struct Counter {
    address: SocketAddr,
    stream: Option<BufReader<TcpStream>>,
    pub tallies: Tallies,
}

impl Counter {
    pub fn new(node: &NodeProcess) -> Counter {
        Counter { address: node.client, stream: None, tallies: Tallies::default() }
    }

    /// The client's own address, which is what `CLIENT KILL ADDR` takes. Connects if need be.
    pub fn here(&mut self) -> SocketAddr {
        self.connected().get_ref().local_addr().unwrap()
    }

    /// Adds these to a key in one pipeline; the number of them that were acknowledged. If there is a limit, the
    /// connection is closed once that many were.
    ///
    /// # Panics
    /// If the node refuses one; if nothing but what is above 0 is added and what the key counts does not rise by it.
    pub fn add(&mut self, key: &str, amounts: &[i64], limit: Option<usize>) -> usize {
        let mut bytes = Vec::new();
        for by in amounts {
            bytes.extend(match by {
                1 => request(&[b"INCR", key.as_bytes()]),
                -1 => request(&[b"DECR", key.as_bytes()]),
                by => request(&[b"INCRBY", key.as_bytes(), by.to_string().as_bytes()]),
            });
        }
        let rises = amounts.iter().all(|by| *by > 0);
        let stream = self.connected();
        let sent = stream.get_mut().write_all(&bytes);
        let mut acknowledged = 0;
        let mut last = None;
        let mut line = String::new();
        // What could be sent may have been answered even if not all of it could.
        while acknowledged < limit.unwrap_or(amounts.len()).min(amounts.len()) {
            line.clear();
            if !stream.read_line(&mut line).is_ok_and(|_| line.ends_with("\r\n")) {
                break;
            }
            let value = line.strip_prefix(':').and_then(|digits| digits.trim_end().parse::<i64>().ok());
            let value = value.unwrap_or_else(|| panic!("{key}: {line}"));
            let by = amounts[acknowledged];
            let steady = !rises || last.is_none_or(|last| value - last >= by);
            assert!(steady, "{key}: {value} after {last:?} and {by} more");
            last = Some(value);
            acknowledged += 1;
        }
        if sent.is_err() || acknowledged < amounts.len() {
            self.stream = None;
        }
        let tally = self.tallies.0.entry(key.to_owned()).or_default();
        amounts[..acknowledged].iter().for_each(|by| tally.acknowledged(*by));
        amounts[acknowledged..].iter().for_each(|by| tally.unacknowledged(*by));
        acknowledged
    }

    /// The connection, which has been answered: nothing is counted on one that a stopping node never takes.
    fn connected(&mut self) -> &mut BufReader<TcpStream> {
        let address = self.address;
        if self.stream.is_none() {
            wait(&format!("{address} answers"), || {
                self.stream = greeted(address).ok();
                self.stream.is_some()
            });
        }
        self.stream.as_mut().unwrap()
    }
}

fn greeted(address: SocketAddr) -> std::io::Result<BufReader<TcpStream>> {
    let mut stream = BufReader::new(TcpStream::connect_timeout(&address, Duration::from_secs(1))?);
    stream.get_ref().set_nodelay(true)?;
    stream.get_ref().set_read_timeout(Some(PATIENCE))?;
    stream.get_ref().set_write_timeout(Some(PATIENCE))?;
    stream.get_mut().write_all(b"PING\r\n")?;
    let mut line = String::new();
    stream.read_line(&mut line)?;
    if line == "+PONG\r\n" { Ok(stream) } else { Err(std::io::ErrorKind::ConnectionReset.into()) }
}

/// What a key counts on a node. `SAPWOOD COUNTER` must show parts that add up to what `GET` shows.
pub fn counted(connection: &mut Connection, key: &str) -> i128 {
    let shown: Option<String> = ask(connection, &["GET", key]);
    let shown = shown.map_or(0, |digits| digits.parse().unwrap());
    let parts: Vec<redis::Value> = ask(connection, &["SAPWOOD", "COUNTER", key]);
    let [_, value, _, base, _, redis::Value::Array(slots)] = &parts[..] else { panic!("{key}: {parts:?}") };
    let digits = |value: &redis::Value| match value {
        redis::Value::BulkString(digits) => String::from_utf8_lossy(digits).parse::<i128>().unwrap(),
        other => panic!("{key}: {other:?}"),
    };
    let nets = slots.iter().map(|slot| match slot {
        redis::Value::Array(slot) => digits(&slot[5]) - digits(&slot[7]),
        other => panic!("{key}: {other:?}"),
    });
    assert_eq!(digits(base) + nets.sum::<i128>(), shown, "{key}: {parts:?}");
    assert_eq!(digits(value), shown, "{key}: {parts:?}");
    shown
}

/// Every key that was counted is, on each of these, what its tally allows, and the same.
pub fn assert_counted(nodes: &[&NodeProcess], tallies: &Tallies) {
    let mut connections: Vec<_> = nodes.iter().map(|node| node.connect()).collect();
    for (key, tally) in &tallies.0 {
        let values: Vec<_> = connections.iter_mut().map(|connection| counted(connection, key)).collect();
        assert!(values.iter().all(|value| *value == values[0]), "{key}: {values:?}, {tally:?}");
        assert!(tally.allows(values[0]), "{key}: {values:?}, {tally:?}");
    }
}
