//! Accepts connections, and rests after an error.

use std::net::SocketAddr;
use std::time::Duration;

use tokio::time::{Instant, sleep_until};

use crate::env::{BoxStream, Listener};
use crate::log_limit::LogLimit;

/// Pause of accepting after an error, such as too many open files, which other connections' ends resolve.
const PAUSE: Duration = Duration::from_millis(100);

/// Accepts the connections of one listener.
pub(crate) struct Acceptor {
    listener: Box<dyn Listener>,
    /// The log line for an error.
    fault: &'static str,
    faults: LogLimit,
    /// When to accept again after an error.
    resumes: Option<Instant>,
}

impl Acceptor {
    /// Creates an acceptor that logs errors with the text `fault`.
    pub(crate) fn new(listener: Box<dyn Listener>, fault: &'static str) -> Self {
        Acceptor { listener, fault, faults: LogLimit::new(LogLimit::ONE), resumes: None }
    }

    /// Waits for the next connection and returns it with its peer's address. Cancel-safe: a dropped future loses no
    /// connection, and the next call waits for the rest of a pause.
    pub(crate) async fn next(&mut self) -> (BoxStream, SocketAddr) {
        loop {
            if let Some(resumes) = self.resumes {
                sleep_until(resumes).await;
                self.resumes = None;
            }
            match self.listener.accept().await {
                Ok(accepted) => return accepted,
                Err(error) => {
                    let (now, fault) = (Instant::now(), self.fault);
                    self.faults.write(now, |left_out| tracing::warn!(%error, left_out, "{fault}"));
                    self.resumes = Some(now + PAUSE);
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io;
    use std::sync::Arc;
    use std::sync::atomic::{AtomicU32, Ordering::Relaxed};

    use tokio::time::timeout;

    use super::*;
    use crate::env::BoxFuture;

    /// Fails a number of times, then accepts.
    struct Failing {
        left: u32,
        calls: Arc<AtomicU32>,
    }

    impl Listener for Failing {
        fn local_addr(&self) -> io::Result<SocketAddr> {
            Ok(SocketAddr::from(([127, 0, 0, 1], 1)))
        }

        fn accept(&mut self) -> BoxFuture<'_, io::Result<(BoxStream, SocketAddr)>> {
            self.calls.fetch_add(1, Relaxed);
            let fails = self.left > 0;
            self.left = self.left.saturating_sub(1);
            Box::pin(async move {
                if fails {
                    return Err(io::Error::other("too many open files"));
                }
                Ok((Box::new(tokio::io::empty()) as BoxStream, SocketAddr::from(([127, 0, 0, 1], 2))))
            })
        }
    }

    #[tokio::test(start_paused = true)]
    async fn it_rests_after_each_error_even_if_the_caller_stops_waiting_in_between() {
        let calls = Arc::new(AtomicU32::new(0));
        let listener = Failing { left: 2, calls: Arc::clone(&calls) };
        let mut acceptor = Acceptor::new(Box::new(listener), "cannot accept");
        let start = Instant::now();
        for _ in 0..5 {
            assert!(timeout(PAUSE / 10, acceptor.next()).await.is_err());
        }
        assert_eq!(calls.load(Relaxed), 1, "dropped waits do not shorten the pause");
        let (_, from) = acceptor.next().await;
        assert_eq!((from.port(), calls.load(Relaxed)), (2, 3));
        assert_eq!(start.elapsed(), PAUSE * 2);
    }
}
