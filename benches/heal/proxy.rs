//! A proxy before a node's peer port that counts what passes. It holds nothing up: two threads a connection copy in
//! large pieces, and look only at the heads of frames.

use std::io::{self, Read as _, Write as _};
use std::net::{Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::thread::{self, JoinHandle};

use anyhow::Result;

use crate::frames::Frames;
use crate::tally::{Pair, Tally, pair};

/// How much is copied at once.
const PIECE: usize = 256 << 10;

/// A running proxy; ends when dropped, with the connections through it.
pub(crate) struct Proxy {
    /// Where the other nodes dial.
    pub(crate) address: SocketAddr,
    stopped: Arc<AtomicBool>,
    streams: Arc<Mutex<Vec<TcpStream>>>,
    accepting: Option<JoinHandle<()>>,
}

impl Proxy {
    /// Passes on to `target`, where the node called `name` listens.
    pub(crate) fn start(name: &str, target: SocketAddr, tally: &Tally) -> Result<Proxy> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
        let address = listener.local_addr()?;
        let stopped = Arc::new(AtomicBool::new(false));
        let streams = Arc::new(Mutex::new(Vec::new()));
        let route =
            Route { name: name.to_owned(), target, tally: tally.clone(), streams: Arc::clone(&streams) };
        let stop = Arc::clone(&stopped);
        let accepting = thread::Builder::new().name(format!("proxy-{name}")).spawn(move || {
            while let Ok((stream, _)) = listener.accept() {
                if stop.load(Ordering::Relaxed) {
                    return;
                }
                // A node that does not listen yet: the one who dialled tries again.
                let _ = route.connect(stream);
            }
        })?;
        Ok(Proxy { address, stopped, streams, accepting: Some(accepting) })
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.stopped.store(true, Ordering::Relaxed);
        // Wakes the one who accepts.
        let _ = TcpStream::connect(self.address);
        if let Some(accepting) = self.accepting.take() {
            let _ = accepting.join();
        }
        for stream in self.streams.lock().unwrap_or_else(PoisonError::into_inner).drain(..) {
            let _ = stream.shutdown(Shutdown::Both);
        }
    }
}

struct Route {
    name: String,
    target: SocketAddr,
    tally: Tally,
    streams: Arc<Mutex<Vec<TcpStream>>>,
}

impl Route {
    fn connect(&self, from: TcpStream) -> io::Result<()> {
        static CONNECTIONS: AtomicU64 = AtomicU64::new(0);
        let number = CONNECTIONS.fetch_add(1, Ordering::Relaxed);
        let to = TcpStream::connect(self.target)?;
        from.set_nodelay(true)?;
        to.set_nodelay(true)?;
        self.streams
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .extend([from.try_clone()?, to.try_clone()?]);
        // The dialler's hello, which comes first, names the pair.
        let known = Arc::new(OnceLock::new());
        for (from, to) in [(from.try_clone()?, to.try_clone()?), (to, from)] {
            let (tally, name, known) = (self.tally.clone(), self.name.clone(), Arc::clone(&known));
            thread::Builder::new().name("proxy".into()).spawn(move || {
                // An error is an end too: the other side is to see it.
                let _ = pump(&from, &to, number, &name, &known, &tally);
                tally.close(number);
                let _ = from.shutdown(Shutdown::Both);
                let _ = to.shutdown(Shutdown::Both);
            })?;
        }
        Ok(())
    }
}

fn pump(
    mut from: &TcpStream,
    mut to: &TcpStream,
    connection: u64,
    name: &str,
    known: &OnceLock<Pair>,
    tally: &Tally,
) -> io::Result<()> {
    let mut piece = vec![0; PIECE];
    let mut frames = Frames::default();
    loop {
        let read = from.read(&mut piece)?;
        if read == 0 {
            return Ok(());
        }
        // Counted before it is passed on: whoever sees its effect finds it in the tally.
        frames.feed(&piece[..read], |frame| {
            if let Some(other) = &frame.name {
                known.get_or_init(|| pair(name, other));
            }
            if let Some(pair) = known.get() {
                tally.count(pair, connection, &frame);
            }
        });
        to.write_all(&piece[..read])?;
    }
}
