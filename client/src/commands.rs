//! The commands that a client has methods for.

use std::time::Duration;

use bytes::Bytes;

use crate::handle::Effect;
use crate::reply::{self, Unfit};
use crate::resp::Frame;
use crate::scan::Scan;
use crate::values::millis;
use crate::{Client, ClientError, Meta, SetOptions, Ttl};

/// Added to the limit of [`Client::wait`] and [`Client::ready`], for the way of the request and its reply.
const TRAVEL: Duration = Duration::from_secs(1);

/// Milliseconds to wait: at least 1, because 0 means for ever to the node, and at most what fits an `i64`.
fn within(limit: Duration) -> u64 {
    millis(limit).clamp(1, i64::MAX as u64)
}

/// Each method says if a request without a reply is sent again: see
/// [When a connection fails](Client#when-a-connection-fails).
impl Client {
    /// The value of a key. Sent again.
    pub async fn get(&self, key: impl AsRef<[u8]>) -> Result<Option<Bytes>, ClientError> {
        self.ask(Effect::Read, &[b"GET", key.as_ref()], reply::value).await
    }

    /// The value of a key that is text. Sent again.
    ///
    /// # Errors
    /// [`ClientError::Value`] if it is no UTF-8.
    pub async fn get_string(&self, key: impl AsRef<[u8]>) -> Result<Option<String>, ClientError> {
        let Some(value) = self.get(key).await? else { return Ok(None) };
        let text = String::from_utf8(value.into());
        text.map(Some).map_err(|error| ClientError::Value(error.to_string()))
    }

    /// Sets a key and removes its deadline. Sent again.
    pub async fn set(&self, key: impl AsRef<[u8]>, value: impl AsRef<[u8]>) -> Result<(), ClientError> {
        self.ask(Effect::Repeatable, &[b"SET", key.as_ref(), value.as_ref()], reply::ok).await
    }

    /// Sets a key with options; returns whether it was set. Sent again unless it has a condition: the first attempt
    /// may have changed what the condition depends on.
    pub async fn set_with(
        &self,
        key: impl AsRef<[u8]>,
        value: impl AsRef<[u8]>,
        options: SetOptions,
    ) -> Result<bool, ClientError> {
        let mut words = options.words();
        let mut args: Vec<&[u8]> = vec![b"SET", key.as_ref(), value.as_ref()];
        words.append(&mut args);
        let effect = if options.is_conditional() { Effect::Once } else { Effect::Repeatable };
        self.ask(effect, &args, reply::done).await
    }

    /// Deletes a key; returns whether it was there. Sent again: if the first attempt deleted the key, the reply to
    /// the second is `false`.
    pub async fn delete(&self, key: impl AsRef<[u8]>) -> Result<bool, ClientError> {
        self.ask(Effect::Repeatable, &[b"DEL", key.as_ref()], reply::truth).await
    }

    /// Deletes keys, one after the other; returns how many were there. Sent again, as [`Client::delete`].
    pub async fn delete_all<K: AsRef<[u8]>>(
        &self,
        keys: impl IntoIterator<Item = K>,
    ) -> Result<u64, ClientError> {
        self.ask_many(Effect::Repeatable, b"DEL", keys, reply::count).await.map(|n| n.unwrap_or(0))
    }

    /// Whether a key is there. Sent again.
    pub async fn exists(&self, key: impl AsRef<[u8]>) -> Result<bool, ClientError> {
        self.ask(Effect::Read, &[b"EXISTS", key.as_ref()], reply::truth).await
    }

    /// Sets the deadline of a key to `ttl` from now, in milliseconds; returns whether the key was there. Sent again:
    /// the time then counts from the second attempt.
    pub async fn expire(&self, key: impl AsRef<[u8]>, ttl: Duration) -> Result<bool, ClientError> {
        let mut number = itoa::Buffer::new();
        let ttl = number.format(millis(ttl)).as_bytes();
        self.ask(Effect::Repeatable, &[b"PEXPIRE", key.as_ref(), ttl], reply::truth).await
    }

    /// Removes the deadline of a key; returns whether it had one. Sent once.
    pub async fn persist(&self, key: impl AsRef<[u8]>) -> Result<bool, ClientError> {
        self.ask(Effect::Once, &[b"PERSIST", key.as_ref()], reply::truth).await
    }

    /// The remaining time to live of a key. Sent again.
    pub async fn ttl(&self, key: impl AsRef<[u8]>) -> Result<Ttl, ClientError> {
        let ttl = |frame| match reply::int(frame)? {
            -2 => Ok(Ttl::Missing),
            -1 => Ok(Ttl::Forever),
            other => match u64::try_from(other) {
                Ok(millis) => Ok(Ttl::Left(Duration::from_millis(millis))),
                Err(_) => Err(Unfit(Frame::Int(other))),
            },
        };
        self.ask(Effect::Read, &[b"PTTL", key.as_ref()], ttl).await
    }

    /// Adds one to a counter; returns its value on the connected node. Sent once: after an error that [may be
    /// applied](ClientError::may_be_applied), only the caller can decide whether to risk counting twice or not at
    /// all.
    pub async fn incr(&self, key: impl AsRef<[u8]>) -> Result<i64, ClientError> {
        self.ask(Effect::Once, &[b"INCR", key.as_ref()], reply::int).await
    }

    /// Adds `by` to a counter. Sent once, as [`Client::incr`].
    pub async fn incr_by(&self, key: impl AsRef<[u8]>, by: i64) -> Result<i64, ClientError> {
        let mut number = itoa::Buffer::new();
        let by = number.format(by).as_bytes();
        self.ask(Effect::Once, &[b"INCRBY", key.as_ref(), by], reply::int).await
    }

    /// Subtracts one from a counter. Sent once, as [`Client::incr`].
    pub async fn decr(&self, key: impl AsRef<[u8]>) -> Result<i64, ClientError> {
        self.ask(Effect::Once, &[b"DECR", key.as_ref()], reply::int).await
    }

    /// Subtracts `by` from a counter. Sent once, as [`Client::incr`].
    pub async fn decr_by(&self, key: impl AsRef<[u8]>, by: i64) -> Result<i64, ClientError> {
        let mut number = itoa::Buffer::new();
        let by = number.format(by).as_bytes();
        self.ask(Effect::Once, &[b"DECRBY", key.as_ref(), by], reply::int).await
    }

    /// The values of many keys, in their order. Each is read at its own time. Sent again.
    pub async fn mget<K: AsRef<[u8]>>(
        &self,
        keys: impl IntoIterator<Item = K>,
    ) -> Result<Vec<Option<Bytes>>, ClientError> {
        let values = |frame| reply::list(frame)?.into_iter().map(reply::value).collect();
        self.ask_many(Effect::Read, b"MGET", keys, values).await.map(Option::unwrap_or_default)
    }

    /// Sets many keys, one after the other, not atomically; after an error reply some may have been set. Sent again.
    pub async fn mset<K: AsRef<[u8]>, V: AsRef<[u8]>>(
        &self,
        pairs: impl IntoIterator<Item = (K, V)>,
    ) -> Result<(), ClientError> {
        let pairs: Vec<(K, V)> = pairs.into_iter().collect();
        if pairs.is_empty() {
            return Ok(());
        }
        let mut args: Vec<&[u8]> = Vec::with_capacity(1 + 2 * pairs.len());
        args.push(b"MSET");
        args.extend(pairs.iter().flat_map(|(key, value)| [key.as_ref(), value.as_ref()]));
        self.ask(Effect::Repeatable, &args, reply::ok).await
    }

    /// The keys that match a pattern such as `user:*`, in no order. A key that exists throughout is returned exactly
    /// once, even if the node fails meanwhile and the client continues on another.
    pub fn scan(&self, pattern: impl AsRef<[u8]>) -> Scan {
        Scan::new(self.clone(), pattern.as_ref())
    }

    /// Timestamps, deadline and size of a key, even of a deleted one; `None` if the node holds nothing of it. Sent
    /// again.
    pub async fn meta(&self, key: impl AsRef<[u8]>) -> Result<Option<Meta>, ClientError> {
        let meta = |frame| match frame {
            Frame::Null => Ok(None),
            frame => Meta::read(frame).map(Some),
        };
        self.ask(Effect::Read, &[b"SAPWOOD", b"META", key.as_ref()], meta).await
    }

    /// Waits at most `limit` until `peers` other nodes hold the earlier writes of this clone of the client; returns
    /// how many do. They hold them in memory.
    ///
    /// Each write is covered by the first later `wait` or `token` that returns. If that returns an error, write
    /// again, or accept that nobody can say how far the write got. A `wait` without new writes since the last one
    /// covers the same writes again. A new clone has no writes; writes of other clones are not covered.
    ///
    /// Requests of other tasks queue behind it on the connection: use a separate client if that matters.
    ///
    /// # Errors
    /// [`ClientError::Replaced`] if one of the covered writes went over a connection that has been replaced since.
    pub async fn wait(&self, peers: u64, limit: Duration) -> Result<u64, ClientError> {
        let (mut a, mut b) = (itoa::Buffer::new(), itoa::Buffer::new());
        let args: &[&[u8]] = &[b"WAIT", a.format(peers).as_bytes(), b.format(within(limit)).as_bytes()];
        let frame = self.ask_of_writes(self.beyond(limit), args).await?;
        reply::count(frame).map_err(|unfit| unfit.of("WAIT"))
    }

    /// A token for everything that the connected node holds now, this clone's writes included. A client of another
    /// node can call [`Client::ready`] with it, to find out when that node holds the same.
    ///
    /// # Errors
    /// [`ClientError::Replaced`] as for [`Client::wait`].
    pub async fn token(&self) -> Result<Bytes, ClientError> {
        let frame = self.ask_of_writes(self.options().request_timeout, &[b"SAPWOOD", b"TOKEN"]).await?;
        reply::bytes(frame).map_err(|unfit| unfit.of("SAPWOOD TOKEN"))
    }

    /// Waits at most `limit` until the connected node holds everything that a token covers; returns whether it does.
    /// Other requests queue behind it, as for [`Client::wait`].
    pub async fn ready(&self, token: impl AsRef<[u8]>, limit: Duration) -> Result<bool, ClientError> {
        let mut number = itoa::Buffer::new();
        let args: &[&[u8]] = &[b"SAPWOOD", b"READY", token.as_ref(), number.format(within(limit)).as_bytes()];
        let frame = self.request_within(self.beyond(limit), Effect::Read, args).await?;
        reply::truth(frame).map_err(|unfit| unfit.of("SAPWOOD READY"))
    }

    /// Publishes a message to the subscribers of every node, best effort; returns the number of this node's
    /// subscribers. Sent once.
    pub async fn publish(
        &self,
        channel: impl AsRef<[u8]>,
        message: impl AsRef<[u8]>,
    ) -> Result<u64, ClientError> {
        self.ask(Effect::Message, &[b"PUBLISH", channel.as_ref(), message.as_ref()], reply::count).await
    }

    fn beyond(&self, limit: Duration) -> Duration {
        limit.saturating_add(self.options().request_timeout.max(TRAVEL))
    }

    async fn ask<T>(
        &self,
        effect: Effect,
        args: &[&[u8]],
        read: impl FnOnce(Frame) -> Result<T, Unfit>,
    ) -> Result<T, ClientError> {
        let frame = self.request(effect, args).await?;
        read(frame).map_err(|unfit| unfit.of(&String::from_utf8_lossy(args[0])))
    }

    /// Sends a request with many keys, unless there are none, which Redis calls an error.
    async fn ask_many<K: AsRef<[u8]>, T>(
        &self,
        effect: Effect,
        command: &[u8],
        keys: impl IntoIterator<Item = K>,
        read: impl FnOnce(Frame) -> Result<T, Unfit>,
    ) -> Result<Option<T>, ClientError> {
        let keys: Vec<K> = keys.into_iter().collect();
        if keys.is_empty() {
            return Ok(None);
        }
        let mut args = Vec::with_capacity(1 + keys.len());
        args.push(command);
        args.extend(keys.iter().map(AsRef::as_ref));
        self.ask(effect, &args, read).await.map(Some)
    }
}
