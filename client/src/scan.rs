//! The keys of a node, page by page.

use std::collections::VecDeque;
use std::fmt;
use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use futures_core::Stream;

use crate::handle::Effect;
use crate::reply::{self, Unfit};
use crate::resp::Frame;
use crate::{Client, ClientError};

/// Keys per page: a round trip costs far less, and the node is not busy for long.
const PAGE: &[u8] = b"1000";

type Page = Result<(Bytes, Vec<Frame>), ClientError>;

/// A stream of keys: see [`Client::scan`].
///
/// After an error it may be polled again, and continues where it was.
///
/// ```no_run
/// # async fn example(client: sapwood_client::Client) -> Result<(), sapwood_client::ClientError> {
/// let mut keys = client.scan("user:*");
/// while let Some(key) = keys.next().await {
///     println!("{}", key?.escape_ascii());
/// }
/// # Ok(())
/// # }
/// ```
pub struct Scan {
    client: Client,
    pattern: Bytes,
    /// The position in the key space, which is the same on every node; `None` at the end.
    cursor: Option<Bytes>,
    keys: VecDeque<Frame>,
    /// The request for the next page.
    page: Option<Pin<Box<dyn Future<Output = Page> + Send>>>,
}

impl Scan {
    pub(crate) fn new(client: Client, pattern: &[u8]) -> Self {
        Self {
            client,
            pattern: Bytes::copy_from_slice(pattern),
            cursor: Some(Bytes::from_static(b"0")),
            keys: VecDeque::new(),
            page: None,
        }
    }

    /// The next key; `None` after the last. Cancel-safe.
    pub async fn next(&mut self) -> Option<Result<Bytes, ClientError>> {
        poll_fn(|cx| Pin::new(&mut *self).poll_next(cx)).await
    }
}

impl Stream for Scan {
    type Item = Result<Bytes, ClientError>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        loop {
            if let Some(key) = self.keys.pop_front() {
                return Poll::Ready(Some(reply::bytes(key).map_err(|unfit| unfit.of("SCAN"))));
            }
            let Some(cursor) = self.cursor.clone() else { return Poll::Ready(None) };
            let mut under_way = match self.page.take() {
                Some(page) => page,
                None => Box::pin(page(self.client.clone(), cursor, self.pattern.clone())),
            };
            let Poll::Ready(page) = under_way.as_mut().poll(cx) else {
                self.page = Some(under_way);
                return Poll::Pending;
            };
            match page {
                Ok((cursor, keys)) => {
                    self.cursor = Some(cursor).filter(|cursor| cursor != "0");
                    self.keys = keys.into();
                }
                Err(error) => return Poll::Ready(Some(Err(error))),
            }
        }
    }
}

async fn page(client: Client, cursor: Bytes, pattern: Bytes) -> Page {
    let args: &[&[u8]] = &[b"SCAN", &cursor, b"MATCH", &pattern, b"COUNT", PAGE];
    let frame = client.request(Effect::Read, args).await?;
    let parts = reply::list(frame).and_then(|parts| match <[Frame; 2]>::try_from(parts) {
        Ok([cursor, keys]) => Ok((reply::bytes(cursor)?, reply::list(keys)?)),
        Err(parts) => Err(Unfit(Frame::Array(parts))),
    });
    parts.map_err(|unfit| unfit.of("SCAN"))
}

impl fmt::Debug for Scan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Scan")
            .field("pattern", &self.pattern)
            .field("cursor", &self.cursor)
            .finish_non_exhaustive()
    }
}
