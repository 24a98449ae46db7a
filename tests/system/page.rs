//! What it costs a busy node that somebody looks at its page. Figures are printed: run with `--nocapture` to see them.

use std::io::{Read as _, Write as _};
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::time::{Duration, Instant};

use crate::support::http::Events;
use crate::support::node_process::*;

/// The keys that are there, and are written.
const KEYS: u32 = 1_000_000;
/// Written a millisecond, over so many connections.
const BATCH: u32 = 100;
const CONNECTIONS: usize = 10;
/// How long the node is measured at a time, and how often in each way, in turns.
const WINDOW: Duration = Duration::from_secs(1);
const TURNS: usize = 24;
/// What a reader may cost of the node's CPU time. It is 1 or 2 in a hundred; on a busy machine the median of so many turns
/// is off by some more. To look through all keys, or at every change, would be far beyond.
const MOST: f64 = 0.15;

#[test]
#[ignore = "takes a minute, and measures: in release"]
fn a_reader_of_the_page_costs_little_beside_a_hundred_thousand_writes_a_second() {
    let a = NodeProcess::start("a", &[], &[]);
    let b = NodeProcess::start("b", &[&a], &[]);
    load(&mut a.connect(), 0..KEYS, &[b'v'; 100]);
    until_equal_within(Duration::from_secs(120), &[&a, &b]);
    let writers = Writers::start(&a);
    let page = a.page();
    let (mut ratios, mut bytes) = (Vec::new(), 0);
    for turn in 0..=TURNS {
        let alone = writers.measure(&a);
        let reader = Reader::start(page);
        let read = writers.measure(&a);
        bytes += reader.end();
        // The first turn warms up.
        if turn > 0 {
            ratios.push(read / alone - 1.0);
        }
    }
    let rate = writers.end();
    ratios.sort_by(f64::total_cmp);
    let [low, cost, high] = [1, 2, 3].map(|quarter| ratios[quarter * ratios.len() / 4]);
    eprintln!(
        "{rate:.0} writes a second; with a reader of the page the node takes {:+.1}% CPU time for one (half of all turns \
         {:+.1}% to {:+.1}%), and sends it {} bytes in {WINDOW:?}",
        cost * 100.0,
        low * 100.0,
        high * 100.0,
        bytes / (TURNS + 1),
    );
    assert!(rate > 80_000.0, "{rate} writes a second");
    assert!(bytes > 0);
    assert!(cost < MOST, "{cost}");
}

#[expect(clippy::disallowed_methods, reason = "a rate and a window are made of time")]
fn pause(time: Duration) {
    std::thread::sleep(time);
}

/// Nanoseconds of CPU time of all threads of a process.
fn cpu(node: &NodeProcess) -> u64 {
    let tasks = std::fs::read_dir(format!("/proc/{}/task", node.pid())).unwrap();
    let threads = tasks.map(|task| std::fs::read_to_string(task.unwrap().path().join("schedstat")).unwrap());
    threads.map(|stat| stat.split(' ').next().unwrap().parse::<u64>().unwrap()).sum()
}

/// Clients that write at a fixed rate.
struct Writers {
    written: Arc<AtomicU64>,
    stop: Arc<AtomicBool>,
    thread: std::thread::JoinHandle<f64>,
}

impl Writers {
    fn start(node: &NodeProcess) -> Writers {
        let mut connections: Vec<_> = (0..CONNECTIONS).map(|_| node.stream()).collect();
        let (written, stop) = <(Arc<AtomicU64>, Arc<AtomicBool>)>::default();
        let (count, stopped) = (Arc::clone(&written), Arc::clone(&stop));
        let thread = std::thread::spawn(move || {
            let began = Instant::now();
            let mut key = 0_u32;
            while !stopped.load(Relaxed) {
                let of_each = BATCH as usize / CONNECTIONS;
                for connection in &mut connections {
                    let mut requests = Vec::new();
                    for _ in 0..of_each {
                        key = key.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                        let key = format!("key:{}", (key >> 8) % KEYS);
                        requests.extend(request(&[b"SET", key.as_bytes(), &[b'w'; 100]]));
                    }
                    connection.write_all(&requests).unwrap();
                }
                for connection in &mut connections {
                    let mut replies = vec![0; of_each * b"+OK\r\n".len()];
                    connection.read_exact(&mut replies).unwrap();
                }
                let batches = count.fetch_add(u64::from(BATCH), Relaxed) / u64::from(BATCH) + 1;
                let due = began + Duration::from_millis(batches);
                pause(due.saturating_duration_since(Instant::now()));
            }
            count.load(Relaxed) as f64 / began.elapsed().as_secs_f64()
        });
        Writers { written, stop, thread }
    }

    /// Nanoseconds of the node's CPU time a write.
    fn measure(&self, node: &NodeProcess) -> f64 {
        let before = (self.written.load(Relaxed), cpu(node));
        pause(WINDOW);
        let after = (self.written.load(Relaxed), cpu(node));
        (after.1 - before.1) as f64 / (after.0 - before.0) as f64
    }

    /// Returns how many were written a second.
    fn end(self) -> f64 {
        self.stop.store(true, Relaxed);
        self.thread.join().unwrap()
    }
}

/// Somebody who looks at the page with a list of keys, one of them open, and the map of a link.
struct Reader {
    stop: tokio::sync::oneshot::Sender<()>,
    thread: std::thread::JoinHandle<usize>,
}

impl Reader {
    fn start(page: SocketAddr) -> Reader {
        let (stop, mut stopped) = tokio::sync::oneshot::channel();
        let thread = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(async {
                let path = "/api/stream?prefix=key:&key=key:1&map=a,b";
                let mut events = Events::open(page, path, &[]).await;
                let mut bytes = 0;
                loop {
                    tokio::select! {
                        event = events.next() => bytes += event.expect("the stream stands").data.len(),
                        _ = &mut stopped => return bytes,
                    }
                }
            })
        });
        Reader { stop, thread }
    }

    /// Returns the bytes that it received.
    fn end(self) -> usize {
        self.stop.send(()).unwrap();
        self.thread.join().unwrap()
    }
}
