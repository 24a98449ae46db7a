//! Reads and writes for the program that embeds the node: the keys of database 0. No call waits for a peer or for the
//! network.

use std::sync::atomic::Ordering;
use std::time::Duration;

use super::{Node, NodeError};
use crate::model::{Database, Deadline, Time};
use crate::store::{Batch, Live, Value, Write, increment};

impl Node {
    /// The value of `key`, if it is there. Costs a lookup in memory and copies nothing; see [`Value`].
    ///
    /// ```
    /// # tokio::runtime::Runtime::new()?.block_on(async {
    /// let node = sapwood::Node::builder().name("a").start().await?;
    /// node.set("tree", "oak")?;
    /// let tree = node.get("tree");
    /// assert_eq!(tree.as_deref(), Some(&b"oak"[..]));
    /// # Ok::<(), Box<dyn std::error::Error>>(()) }).unwrap();
    /// # Ok::<(), std::io::Error>(())
    /// ```
    #[inline]
    pub fn get(&self, key: impl AsRef<[u8]>) -> Option<Value> {
        self.store.get(&Database::ZERO.stored(key.as_ref()), || self.env.wall_clock())
    }

    /// Sets `key` to `value`, without a deadline.
    ///
    /// # Errors
    /// [`NodeError`]; nothing was changed.
    pub fn set(&self, key: impl AsRef<[u8]>, value: impl AsRef<[u8]>) -> Result<(), NodeError> {
        self.put(key.as_ref(), value.as_ref(), None)
    }

    /// Sets `key` to `value`; it expires after `ttl`.
    ///
    /// # Errors
    /// [`NodeError`]; nothing was changed.
    pub fn set_with(
        &self,
        key: impl AsRef<[u8]>,
        value: impl AsRef<[u8]>,
        ttl: Duration,
    ) -> Result<(), NodeError> {
        self.put(key.as_ref(), value.as_ref(), Some(ttl))
    }

    /// Deletes `key`; returns whether it was there.
    ///
    /// # Errors
    /// [`NodeError`]; nothing was changed.
    pub fn delete(&self, key: impl AsRef<[u8]>) -> Result<bool, NodeError> {
        self.write(key.as_ref(), |_, live| (Write::Delete, live.is_some()))
    }

    /// Adds one to the counter `key`; returns its value on this node. See [`incr_by`](Self::incr_by).
    ///
    /// # Errors
    /// [`NodeError`]; nothing was changed.
    pub fn incr(&self, key: impl AsRef<[u8]>) -> Result<i64, NodeError> {
        self.incr_by(key, 1)
    }

    /// Adds `by`, which may be negative, to the counter `key`; returns its value on this node. An absent key counts
    /// from 0, an integer value from that. Increments made on other nodes at the same time, or during a partition,
    /// each count once.
    ///
    /// # Errors
    /// [`NodeError`]; nothing was changed.
    pub fn incr_by(&self, key: impl AsRef<[u8]>, by: i64) -> Result<i64, NodeError> {
        Ok(self.write(key.as_ref(), |_, live| increment(live, by))??)
    }

    /// Sets the deadline of `key` to `ttl` from now; returns whether the key was there.
    ///
    /// # Errors
    /// [`NodeError`]; nothing was changed.
    pub fn expire(&self, key: impl AsRef<[u8]>, ttl: Duration) -> Result<bool, NodeError> {
        self.write(key.as_ref(), |now, live| {
            (Write::Deadline(Some(Deadline::after(now, ttl))), live.is_some())
        })
    }

    /// Removes the deadline of `key`; returns whether it had one.
    ///
    /// # Errors
    /// [`NodeError`]; nothing was changed.
    pub fn persist(&self, key: impl AsRef<[u8]>) -> Result<bool, NodeError> {
        self.write(key.as_ref(), |_, live| match live.and_then(Live::deadline) {
            Some(_) => (Write::Deadline(None), true),
            None => (Write::Keep, false),
        })
    }

    fn put(&self, key: &[u8], value: &[u8], ttl: Option<Duration>) -> Result<(), NodeError> {
        self.write(key, |now, _| {
            (Write::Set { value, deadline: ttl.map(|ttl| Deadline::after(now, ttl)) }, ())
        })
    }

    /// Applies the write that `decide` returns for the present time and the cell, and passes it to the peers.
    fn write<'v, T>(
        &self,
        key: &[u8],
        decide: impl FnOnce(Time, Option<Live<'_>>) -> (Write<'v>, T),
    ) -> Result<T, NodeError> {
        if self.closed.load(Ordering::Relaxed) {
            return Err(NodeError::Stopped);
        }
        let mut batch = Batch::default();
        self.store.begin(&mut batch, self.env.wall_clock());
        let now = batch.now();
        let key = Database::ZERO.stored(key);
        let outcome = self.store.write(&mut batch, &key, |live| decide(now, live))?;
        self.store.publish(&mut batch);
        Ok(outcome)
    }
}
