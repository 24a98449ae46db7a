//! Questions to a server, and waiting for the answer that is hoped for.

use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::thread;
use std::time::Duration;

use anyhow::{Context as _, Result};
use redis::FromRedisValue;

/// A connection for questions, not for load.
pub(crate) fn control(server: SocketAddr, patience: Duration) -> Result<redis::Connection> {
    let client = redis::Client::open(format!("redis://{server}"))?;
    let connection = client.get_connection_with_timeout(patience)?;
    connection.set_read_timeout(Some(patience))?;
    Ok(connection)
}

/// The answer to one command.
pub(crate) fn ask<T: FromRedisValue>(connection: &mut redis::Connection, words: &[&str]) -> Result<T> {
    let mut command = redis::cmd(words[0]);
    for word in &words[1..] {
        command.arg(word);
    }
    command.query(connection).with_context(|| format!("{} failed", words.join(" ")))
}

/// The step of a wait for a condition.
#[expect(clippy::disallowed_methods, reason = "only ever called by a wait for a condition with a deadline")]
pub(crate) fn pause() {
    thread::sleep(Duration::from_millis(2));
}

/// So many addresses that were free a moment ago.
pub(crate) fn free_ports<const N: usize>() -> Result<[SocketAddr; N]> {
    // Held together until all are chosen, so that they differ.
    let listeners = [(); N].map(|()| TcpListener::bind((Ipv4Addr::LOCALHOST, 0)));
    let mut ports = [SocketAddr::from((Ipv4Addr::LOCALHOST, 0)); N];
    for (port, listener) in ports.iter_mut().zip(&listeners) {
        *port = listener.as_ref().map_err(|error| anyhow::anyhow!("no free port: {error}"))?.local_addr()?;
    }
    Ok(ports)
}
