//! Dials one of the nodes.

use std::sync::Arc;

use tokio::time::sleep;

use crate::backoff::Backoff;
use crate::exchange::Shared;
use crate::{ClientError, ClientOptions, Connection, Options};

/// The nodes, in the order in which they are tried.
#[derive(Clone, Debug)]
pub(crate) struct Dialer {
    addrs: Arc<[Arc<str>]>,
    options: ClientOptions,
    /// The index of the node to try next.
    next: usize,
    backoff: Backoff,
}

impl Dialer {
    pub(crate) fn new(addrs: Arc<[Arc<str>]>, options: ClientOptions) -> Self {
        let backoff = Backoff::new(options.backoff);
        Self { addrs, options, next: 0, backoff }
    }

    /// Makes connections use RESP3, whatever the options say.
    pub(crate) fn resp3(mut self) -> Self {
        self.options.resp3 = true;
        self
    }

    /// Tries each node once, and returns the first connection with its node's address.
    ///
    /// # Errors
    /// The error of the last node tried.
    pub(crate) async fn once(&mut self) -> Result<(Connection, Arc<str>), ClientError> {
        let mut last = ClientError::NoAddress;
        for _ in 0..self.addrs.len() {
            match self.next().await {
                Ok(reached) => return Ok(reached),
                Err(error) => last = error,
            }
        }
        Err(last)
    }

    /// Tries all nodes repeatedly, with a pause after each pass.
    pub(crate) async fn again(&mut self, shared: &Shared) -> (Connection, Arc<str>) {
        loop {
            for _ in 0..self.addrs.len() {
                match self.next().await {
                    Ok(reached) => return reached,
                    Err(error) => shared.queue().disconnected(error),
                }
            }
            self.pause().await;
        }
    }

    pub(crate) async fn pause(&mut self) {
        sleep(self.backoff.pause()).await;
    }

    /// Makes the next attempt try the node that was reached last first.
    pub(crate) fn stay(&mut self) {
        self.next = (self.next + self.addrs.len() - 1) % self.addrs.len();
    }

    /// Resets the pause, because the connection was useful.
    pub(crate) fn succeeded(&mut self) {
        self.backoff.reset();
    }

    async fn next(&mut self) -> Result<(Connection, Arc<str>), ClientError> {
        let addr = &self.addrs[self.next];
        self.next = (self.next + 1) % self.addrs.len();
        let options = Options {
            user: self.options.user.clone(),
            password: self.options.password.clone(),
            timeout: self.options.connect_timeout,
            resp3: self.options.resp3,
        };
        let mut connection = Connection::connect(addr, options).await?;
        // The system accepts connections for a stopped process too: only a reply shows that it runs.
        connection.call(&[b"PING"]).await.map_err(|error| error.while_connecting(addr))?;
        Ok((connection, Arc::clone(addr)))
    }
}
