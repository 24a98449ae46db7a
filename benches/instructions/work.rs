//! The operations that are counted: what this program does under valgrind.
//!
//! The node and all its tasks are on the main thread, the only one that is counted.

use std::hint::black_box;
use std::net::{Ipv4Addr, SocketAddr};
use std::ops::Range;
use std::sync::Arc;
use std::sync::mpsc;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use sapwood::Node;
use tokio::runtime::{Builder, Runtime};
use tokio::sync::oneshot;

use crate::options::Figure;
use crate::support::load::{Command, KEY, Load, VALUE, write_key};

/// Keys that exist before the operations that are counted.
const KEYS: u32 = 4_096;

/// Requests that a client sends before it awaits their replies.
const PIPELINE: u32 = 16;

/// Cells of one push.
const PUSH: u32 = 64;

/// Longer than a node gathers writes before it pushes them.
const GATHERED: Duration = Duration::from_millis(5);

/// The longest that a push may take under valgrind, on a machine that does much else.
const PATIENCE: Duration = Duration::from_secs(120);

/// Does so many operations of `figure`.
pub(crate) fn run(figure: Figure, operations: u32) -> Result<()> {
    match figure {
        Figure::Set => requests(Command::Set, operations),
        Figure::Get => requests(Command::Get, operations),
        Figure::NodeSet => calls(operations, |node, key| Ok(node.set(key, [7; VALUE])?)),
        Figure::NodeGet => calls(operations, |node, key| {
            let value = node.get(key).context("a key is missing")?;
            black_box(value.last());
            Ok(())
        }),
        Figure::PushedRegister => pushes(operations, |node, key, n| Ok(node.set(key, value(n))?)),
        Figure::PushedCounter => pushes(operations, |node, key, _| Ok(node.incr(key).map(drop)?)),
    }
}

/// A node that a Redis client sends requests to.
fn requests(command: Command, operations: u32) -> Result<()> {
    runtime()?.block_on(async {
        let node = Node::builder().name("counted").client(any_port()).start().await?;
        let server = node.client_addr().context("the node listens for clients")?;
        let load = Load { command, pipeline: PIPELINE, connections: 1, keys: KEYS };
        elsewhere(move || {
            Load { command: Command::Set, ..load }.each(server)?;
            load.count(server, operations, 1)
        })
        .await?;
        Ok(())
    })
}

/// A node without peers that the program itself uses. None of the node's tasks runs meanwhile.
fn calls(operations: u32, call: impl Fn(&Node, &[u8]) -> Result<()>) -> Result<()> {
    runtime()?.block_on(async {
        let node = Node::builder().name("counted").start().await?;
        for n in 0..KEYS {
            node.set(key(n), [7; VALUE])?;
        }
        for n in 0..operations {
            call(&node, &key(n % KEYS))?;
        }
        Ok(())
    })
}

/// A node that receives what a peer writes.
fn pushes(operations: u32, write: impl Fn(&Node, &[u8], u32) -> Result<()> + Send + 'static) -> Result<()> {
    runtime()?.block_on(async {
        let counted = Arc::new(Node::builder().name("counted").peer(any_port()).start().await?);
        elsewhere(move || runtime()?.block_on(peer(&counted, operations, write))).await
    })
}

/// The peer, on a thread of its own.
async fn peer(
    counted: &Node,
    operations: u32,
    write: impl Fn(&Node, &[u8], u32) -> Result<()>,
) -> Result<()> {
    // Its clock must stand still as well, or it would miss the heartbeats that the counted node does not send.
    let (end, ended) = mpsc::channel::<()>();
    tokio::spawn(elsewhere(move || Ok(ended.recv().is_ok())));
    tokio::task::yield_now().await;
    let peer = Node::builder().name("peer").join(counted.peer_addr()).start().await?;
    peer.joined().await?;
    push(&peer, counted, 0..KEYS, &write).await?;
    push(&peer, counted, KEYS..KEYS + operations, &write).await?;
    drop(end);
    Ok(())
}

/// Writes at `peer`, as many cells at a time as a push is to have, and waits until `counted` has them.
async fn push(
    peer: &Node,
    counted: &Node,
    numbers: Range<u32>,
    write: impl Fn(&Node, &[u8], u32) -> Result<()>,
) -> Result<()> {
    let numbers: Vec<u32> = numbers.collect();
    for numbers in numbers.chunks(PUSH as usize) {
        // Nothing is awaited between the writes, so the task that pushes them finds all.
        for &n in numbers {
            write(peer, &key(n % KEYS), n)?;
        }
        let last = key(numbers[numbers.len() - 1] % KEYS);
        let started = Instant::now();
        let mut advanced = false;
        while peer.get(last) != counted.get(last) {
            ensure!(started.elapsed() < PATIENCE, "the peer's writes do not arrive");
            if !advanced && started.elapsed() > GATHERED {
                // The peer gathers them, because they came fast, until a timer ends that.
                advanced = true;
                tokio::time::advance(GATHERED).await;
            }
            // Not a sleep: the clock stands still.
            std::thread::yield_now();
            tokio::task::yield_now().await;
        }
    }
    Ok(())
}

/// Runs `work` on another thread. The clock of this runtime stands still meanwhile.
async fn elsewhere<T: Send + 'static>(work: impl FnOnce() -> Result<T> + Send + 'static) -> Result<T> {
    let (send, outcome) = oneshot::channel();
    let (end, ended) = mpsc::channel::<()>();
    #[expect(clippy::disallowed_methods, reason = "the node's own thread is counted, the client's is not")]
    tokio::task::spawn_blocking(move || {
        let _ = send.send(work());
        // Else the clock could advance after this has ended and before the runtime notices.
        let _ = ended.recv();
    });
    let outcome = outcome.await.context("the other thread has panicked")?;
    drop(end);
    outcome
}

/// One thread for a node and all its tasks, with tokio's paused clock: it advances only while the runtime has nothing to
/// do, and no work [`elsewhere`].
fn runtime() -> std::io::Result<Runtime> {
    Builder::new_current_thread().enable_all().start_paused(true).build()
}

fn any_port() -> SocketAddr {
    (Ipv4Addr::LOCALHOST, 0).into()
}

fn key(number: u32) -> [u8; KEY] {
    let mut key = [0; KEY];
    write_key(&mut key, number);
    key
}

/// A value of its own for each number.
fn value(number: u32) -> [u8; VALUE] {
    let mut value = [7; VALUE];
    value[..4].copy_from_slice(&number.to_le_bytes());
    value
}
