//! Watches keys for the program that embeds the node.

use std::fmt;
use std::future::poll_fn;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use futures_core::Stream;
use tokio::time::Instant;
use tokio_util::sync::{CancellationToken, ReusableBoxFuture};

use super::Node;
use crate::env::Env;
use crate::model::Database;
use crate::store::{TooDeep, TooManyPrefixes};
use crate::watch::{Cursor, DatabasePrefixes, Page, WatchEvent, Watcher};

/// Watching these prefixes was refused. Nothing was started.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum WatchError {
    /// There are too many prefixes.
    #[error("{}", crate::store::TooManyPrefixes)]
    TooManyPrefixes,
    /// They are nested too deeply in other watched prefixes.
    #[error("{}", crate::store::TooDeep)]
    TooDeep,
}

impl From<TooManyPrefixes> for WatchError {
    fn from(_: TooManyPrefixes) -> Self {
        WatchError::TooManyPrefixes
    }
}

impl From<TooDeep> for WatchError {
    fn from(_: TooDeep) -> Self {
        WatchError::TooDeep
    }
}

impl Node {
    /// Watches the keys of database 0 that begin with one of `prefixes` (the empty prefix matches every key): a snapshot, a marker,
    /// and then every change, on whichever node it was written. A slow reader may miss intermediate values, and gets
    /// their number, but always receives the last one.
    ///
    /// ```
    /// use sapwood::{Node, WatchEvent};
    ///
    /// # tokio::runtime::Runtime::new()?.block_on(async {
    /// let node = Node::builder().name("a").start().await?;
    /// node.set("tree/1", "oak")?;
    /// let mut trees = node.watch(["tree/"])?;
    /// while let Some(event) = trees.next().await {
    ///     match event {
    ///         WatchEvent::Entry(item) => assert_eq!(item.value(), Some(&b"oak"[..])),
    ///         WatchEvent::Live { .. } => { node.delete("tree/1")?; }
    ///         WatchEvent::Change { item, .. } => {
    ///             assert_eq!((item.key(), item.value()), (&b"tree/1"[..], None));
    ///             break;
    ///         }
    ///         _ => {}
    ///     }
    /// }
    /// # Ok::<(), Box<dyn std::error::Error>>(()) }).unwrap();
    /// # Ok::<(), std::io::Error>(())
    /// ```
    ///
    /// # Errors
    /// [`WatchError`].
    pub fn watch<P: AsRef<[u8]>>(&self, prefixes: impl IntoIterator<Item = P>) -> Result<Watch, WatchError> {
        self.begin_watch(prefixes, None)
    }

    /// Resumes where another watch of this node stopped: without a snapshot, if all later changes are still in the
    /// log.
    ///
    /// # Errors
    /// [`WatchError`].
    pub fn watch_from<P: AsRef<[u8]>>(
        &self,
        prefixes: impl IntoIterator<Item = P>,
        cursor: Cursor,
    ) -> Result<Watch, WatchError> {
        self.begin_watch(prefixes, Some(cursor))
    }

    fn begin_watch<P: AsRef<[u8]>>(
        &self,
        prefixes: impl IntoIterator<Item = P>,
        cursor: Option<Cursor>,
    ) -> Result<Watch, WatchError> {
        let prefixes: Vec<P> = prefixes.into_iter().collect();
        let prefixes: Vec<&[u8]> = prefixes.iter().map(AsRef::as_ref).collect();
        let (watches, prefixes) =
            (Arc::clone(&self.watches), DatabasePrefixes::new(Database::ZERO, &prefixes)?);
        let watcher = Watcher::new(watches, &prefixes, cursor)?;
        let turn = Turn { watcher, env: Arc::clone(&self.env), stop: self.stop.clone() };
        Ok(Watch { page: None, delivered: 0, next: ReusableBoxFuture::new(turn.page()) })
    }
}

/// A stream of [`WatchEvent`]s: see [`Node::watch`]. It ends when the node stops.
pub struct Watch {
    /// The current page, and how many of its events were taken.
    page: Option<Arc<Page>>,
    delivered: usize,
    next: ReusableBoxFuture<'static, Option<(Arc<Page>, Turn)>>,
}

/// The watcher while it fetches its next page.
struct Turn {
    watcher: Watcher,
    env: Arc<dyn Env>,
    stop: CancellationToken,
}

impl Turn {
    /// The next page that has events; `None` once the node stops.
    async fn page(mut self) -> Option<(Arc<Page>, Turn)> {
        let stop = self.stop.clone();
        stop.run_until_cancelled(async move {
            loop {
                self.watcher.ready().await;
                let began = Instant::now();
                let page = self.watcher.next(self.env.wall_clock());
                self.watcher.pay(began.elapsed());
                match page {
                    Some(page) if page.events().is_empty() => tokio::task::yield_now().await,
                    Some(page) => return (page, self),
                    None => {}
                }
            }
        })
        .await
    }
}

impl Watch {
    /// The next event; `None` once the node stops. Cancel-safe: nothing is lost.
    pub async fn next(&mut self) -> Option<WatchEvent> {
        poll_fn(|cx| Pin::new(&mut *self).poll_next(cx)).await
    }
}

impl Stream for Watch {
    type Item = WatchEvent;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<WatchEvent>> {
        loop {
            if let Some(event) =
                self.page.as_ref().and_then(|page| page.events().get(self.delivered)).cloned()
            {
                self.delivered += 1;
                return Poll::Ready(Some(event));
            }
            // Released before the wait for the next page, which may be long.
            self.page = None;
            let Poll::Ready(found) = self.next.poll(cx) else { return Poll::Pending };
            let Some((page, turn)) = found else {
                self.next.set(std::future::ready(None));
                return Poll::Ready(None);
            };
            self.next.set(turn.page());
            (self.page, self.delivered) = (Some(page), 0);
        }
    }
}

impl fmt::Debug for Watch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Watch").finish_non_exhaustive()
    }
}
