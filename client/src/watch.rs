//! Watches the keys under some prefixes: a snapshot, then changes.

use std::future::poll_fn;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::SystemTime;

use bytes::Bytes;
use futures_core::Stream;

use crate::pushes::Pushes;
use crate::reply::{self, Unfit};
use crate::resp::Frame;
use crate::values::moment;
use crate::{Client, ClientError, Timestamp};

/// An event of a [`Watch`].
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum WatchEvent {
    /// A complete snapshot follows: discard all earlier entries.
    Reset(ResetReason),
    /// A key of the snapshot.
    Entry(WatchItem),
    /// The snapshot is complete, or the connection was replaced without a gap. Changes follow.
    Live {
        /// The position of the watch: see [`Client::watch_from`].
        cursor: Bytes,
    },
    /// A key has changed, on whichever node it was written.
    Change {
        /// The cause of the change.
        cause: Cause,
        /// The key as it is now.
        item: WatchItem,
        /// The position of the watch.
        cursor: Bytes,
    },
    /// This many changes were left out because the watch reads too slowly; newer changes of the same keys follow.
    Skipped(u64),
}

/// Why a snapshot follows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum ResetReason {
    /// The watch begins.
    Start,
    /// The watch fell too far behind.
    Lagged,
    /// The cursor is of another node, or of an earlier incarnation of this one.
    OtherNode,
    /// The node discarded its keys to rejoin the cluster.
    Discarded,
}

impl ResetReason {
    const ALL: [ResetReason; 4] =
        [ResetReason::Start, ResetReason::Lagged, ResetReason::OtherNode, ResetReason::Discarded];

    /// The name on the wire.
    pub fn name(self) -> &'static str {
        match self {
            ResetReason::Start => "start",
            ResetReason::Lagged => "lagged",
            ResetReason::OtherNode => "other-node",
            ResetReason::Discarded => "discarded",
        }
    }
}

/// The cause of a change.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Cause {
    /// It was set.
    Set,
    /// It was deleted.
    Delete,
    /// Its deadline has passed.
    Expired,
    /// The node deleted it to make room. Other nodes report a delete.
    Evicted,
    /// It was incremented or decremented.
    Counter,
    /// It was given a deadline.
    Expire,
    /// Its deadline was removed.
    Persist,
}

impl Cause {
    const ALL: [Cause; 7] = [
        Cause::Set,
        Cause::Delete,
        Cause::Expired,
        Cause::Evicted,
        Cause::Counter,
        Cause::Expire,
        Cause::Persist,
    ];

    /// The name on the wire.
    pub fn name(self) -> &'static str {
        match self {
            Cause::Set => "set",
            Cause::Delete => "del",
            Cause::Expired => "expired",
            Cause::Evicted => "evicted",
            Cause::Counter => "counter",
            Cause::Expire => "expire",
            Cause::Persist => "persist",
        }
    }
}

/// A key as a [`Watch`] shows it.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct WatchItem {
    /// The key.
    pub key: Bytes,
    /// Its value, a counter's in decimal digits; `None` if the key is gone.
    pub value: Option<Bytes>,
    /// When it expires.
    pub deadline: Option<SystemTime>,
    /// Timestamp of the latest `SET`, `DEL` or increment; `EXPIRE` and `PERSIST` do not change it. For one key it
    /// only rises, until a reset.
    pub timestamp: Timestamp,
}

/// A stream of changes: see [`Client::watch`].
///
/// It resumes over lost connections and on other nodes for as long as it is polled, and is silent while no node can
/// be reached. It ends after an error that a retry cannot fix: a wrong password, or a node without watches.
///
/// ```no_run
/// # async fn example(client: sapwood_client::Client) -> Result<(), sapwood_client::ClientError> {
/// use std::collections::HashMap;
/// use sapwood_client::WatchEvent;
///
/// let mut flags = HashMap::new();
/// let mut watch = client.watch(["flag:"]);
/// while let Some(event) = watch.next().await {
///     match event? {
///         WatchEvent::Reset(_) => flags.clear(),
///         WatchEvent::Entry(item) | WatchEvent::Change { item, .. } => match item.value {
///             Some(value) => drop(flags.insert(item.key, value)),
///             None => drop(flags.remove(&item.key)),
///         },
///         WatchEvent::Live { .. } => println!("{} flags", flags.len()),
///         _ => {}
///     }
/// }
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
pub struct Watch {
    pushes: Pushes,
    prefixes: Vec<Bytes>,
    /// Where to resume; `None` while a snapshot is incomplete.
    cursor: Option<Bytes>,
}

impl Client {
    /// Watches the keys that begin with one of `prefixes`: a snapshot and then every change, on a separate
    /// connection.
    ///
    /// A consumer that is slower than the changes may miss intermediate values of a key, and gets their number, but
    /// always receives the last one. After a lost connection the watch resumes without a gap, or starts again with a
    /// [`WatchEvent::Reset`].
    pub fn watch<P: AsRef<[u8]>>(&self, prefixes: impl IntoIterator<Item = P>) -> Watch {
        self.start(prefixes, None)
    }

    /// Resumes [`Client::watch`] at the cursor of an earlier watch: with the changes since then, or, if the node no
    /// longer has them, with a [`WatchEvent::Reset`] and a snapshot.
    pub fn watch_from<P: AsRef<[u8]>>(
        &self,
        prefixes: impl IntoIterator<Item = P>,
        cursor: impl AsRef<[u8]>,
    ) -> Watch {
        self.start(prefixes, Some(Bytes::copy_from_slice(cursor.as_ref())))
    }

    fn start<P: AsRef<[u8]>>(&self, prefixes: impl IntoIterator<Item = P>, cursor: Option<Bytes>) -> Watch {
        let prefixes = prefixes.into_iter().map(|prefix| Bytes::copy_from_slice(prefix.as_ref())).collect();
        Watch { pushes: self.pushes(), prefixes, cursor }
    }
}

impl Watch {
    /// The next event; `None` after an error. Cancel-safe.
    pub async fn next(&mut self) -> Option<Result<WatchEvent, ClientError>> {
        poll_fn(|cx| Pin::new(&mut *self).poll_next(cx)).await
    }

    /// The position of the watch; `None` until the first snapshot is complete.
    pub fn cursor(&self) -> Option<&Bytes> {
        self.cursor.as_ref()
    }
}

impl Stream for Watch {
    type Item = Result<WatchEvent, ClientError>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let Watch { pushes, prefixes, cursor } = &mut *self;
        let request = || {
            let mut args = vec![Bytes::from_static(b"SAPWOOD"), Bytes::from_static(b"WATCH")];
            args.extend(prefixes.iter().cloned());
            args.extend(cursor.iter().flat_map(|cursor| [Bytes::from_static(b"FROM"), cursor.clone()]));
            args
        };
        let Some(frame) = ready!(pushes.poll(request, cx)) else { return Poll::Ready(None) };
        let event = frame.and_then(|frame| event(frame).map_err(|unfit| unfit.of("SAPWOOD WATCH")));
        match &event {
            Ok(WatchEvent::Reset(_)) => *cursor = None,
            Ok(WatchEvent::Live { cursor: now }) => *cursor = Some(now.clone()),
            // While a snapshot is incomplete, a change gives no position to resume from.
            Ok(WatchEvent::Change { cursor: now, .. }) if cursor.is_some() => *cursor = Some(now.clone()),
            _ => {}
        }
        Poll::Ready(Some(event))
    }
}

/// Decodes `["watch", kind, …]`.
fn event(frame: Frame) -> Result<WatchEvent, Unfit> {
    let mut words = Words(reply::list(frame)?.into_iter());
    if reply::text(words.next()?)? != "watch" {
        return Err(Unfit(Frame::Push(words.0.collect())));
    }
    let kind = reply::text(words.next()?)?;
    Ok(match &kind[..] {
        "reset" => WatchEvent::Reset(reason(words.next()?)?),
        "entry" => WatchEvent::Entry(words.item()?),
        "live" => WatchEvent::Live { cursor: reply::bytes(words.next()?)? },
        "change" => WatchEvent::Change {
            cause: cause(words.next()?)?,
            item: words.item()?,
            cursor: reply::bytes(words.next()?)?,
        },
        "skipped" => WatchEvent::Skipped(reply::count(words.next()?)?),
        _ => return Err(Unfit(Frame::Simple(kind))),
    })
}

struct Words(std::vec::IntoIter<Frame>);

impl Words {
    fn next(&mut self) -> Result<Frame, Unfit> {
        self.0.next().ok_or_else(|| Unfit(Frame::Simple("a word is missing".into())))
    }

    fn item(&mut self) -> Result<WatchItem, Unfit> {
        Ok(WatchItem {
            key: reply::bytes(self.next()?)?,
            value: reply::value(self.next()?)?,
            deadline: moment(reply::int(self.next()?)?),
            timestamp: Timestamp { time: reply::digits(self.next()?)?, origin: reply::text(self.next()?)? },
        })
    }
}

fn reason(frame: Frame) -> Result<ResetReason, Unfit> {
    let text = reply::text(frame)?;
    let found = ResetReason::ALL.into_iter().find(|reason| reason.name() == text);
    found.ok_or(Unfit(Frame::Simple(text)))
}

fn cause(frame: Frame) -> Result<Cause, Unfit> {
    let text = reply::text(frame)?;
    let found = Cause::ALL.into_iter().find(|cause| cause.name() == text);
    found.ok_or(Unfit(Frame::Simple(text)))
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::fake::node;
    use crate::{Client, ClientOptions};

    const START: &str = ">3\r\n$5\r\nwatch\r\n$5\r\nreset\r\n$5\r\nstart\r\n";
    const LIVE: &str = ">3\r\n$5\r\nwatch\r\n$4\r\nlive\r\n$4\r\nab-1\r\n";
    const CHANGE: &str = ">8\r\n$5\r\nwatch\r\n$6\r\nchange\r\n$3\r\ndel\r\n$3\r\np:k\r\n_\r\n:-1\r\n\
                          $10\r\n4294967296\r\n$2\r\nab\r\n";

    fn options() -> ClientOptions {
        let millis = Duration::from_millis;
        ClientOptions { backoff: (millis(1), millis(20)), ..ClientOptions::default() }
    }

    async fn next(watch: &mut Watch) -> WatchEvent {
        watch.next().await.unwrap().unwrap()
    }

    #[tokio::test]
    async fn a_watch_goes_on_from_its_cursor_on_a_new_connection() {
        let addr = node(|number, mut client| async move {
            if number == 0 {
                client.welcome().await;
                client.drain().await;
                return;
            }
            client.answer(&["HELLO", "3"], "%0\r\n").await;
            client.welcome().await;
            match number {
                1 => {
                    client.expect(&["SAPWOOD", "WATCH", "p:"]).await;
                    client.say(START).await;
                }
                2 => {
                    // The snapshot was cut short, so there is no position to resume from.
                    client.expect(&["SAPWOOD", "WATCH", "p:"]).await;
                    client.say(START).await;
                    client.say(LIVE).await;
                    client.say(&CHANGE.replace(">8", ">9")).await;
                    client.say("$4\r\nab-2\r\n").await;
                }
                _ => {
                    client.answer(&["SAPWOOD", "WATCH", "p:", "FROM", "ab-2"], "-ERR no more\r\n").await;
                    client.drain().await;
                }
            }
        })
        .await;
        let client = Client::connect_with([&addr], options()).await.unwrap();
        let mut watch = client.watch(["p:"]);
        drop(client);
        assert_eq!(next(&mut watch).await, WatchEvent::Reset(ResetReason::Start));
        assert_eq!(next(&mut watch).await, WatchEvent::Reset(ResetReason::Start));
        assert_eq!(watch.cursor(), None);
        assert_eq!(next(&mut watch).await, WatchEvent::Live { cursor: "ab-1".into() });
        let timestamp = Timestamp { time: 1 << 32, origin: "ab".into() };
        let item = WatchItem { key: "p:k".into(), value: None, deadline: None, timestamp };
        let change = WatchEvent::Change { cause: Cause::Delete, item, cursor: "ab-2".into() };
        assert_eq!(next(&mut watch).await, change);
        let error = watch.next().await.unwrap().unwrap_err();
        assert_eq!(error.to_string(), "ERR no more");
        assert!(watch.next().await.is_none());
    }

    /// A cursor is valid only on the node that issued it.
    #[tokio::test]
    async fn the_node_that_knows_the_cursor_is_asked_before_the_next() {
        let first = node(|number, mut client| async move {
            if number > 0 {
                client.answer(&["HELLO", "3"], "%0\r\n").await;
            }
            client.welcome().await;
            if number == 1 {
                client.expect(&["SAPWOOD", "WATCH", "p:"]).await;
                client.say(LIVE).await;
                return;
            } else if number > 1 {
                client.expect(&["SAPWOOD", "WATCH", "p:", "FROM", "ab-1"]).await;
                client.say(LIVE).await;
            }
            client.drain().await;
        })
        .await;
        let second = node(|_, mut client| async move {
            client.answer(&["HELLO", "3"], "%0\r\n").await;
            client.welcome().await;
            client.say(START).await;
            client.drain().await;
        })
        .await;
        let client = Client::connect_with([first, second], options()).await.unwrap();
        let mut watch = client.watch(["p:"]);
        assert_eq!(next(&mut watch).await, WatchEvent::Live { cursor: "ab-1".into() });
        assert_eq!(next(&mut watch).await, WatchEvent::Live { cursor: "ab-1".into() });
    }

    #[tokio::test]
    async fn a_silent_node_is_asked_and_then_given_up() {
        let addr = node(|number, mut client| async move {
            if number > 0 {
                client.answer(&["HELLO", "3"], "%0\r\n").await;
                client.welcome().await;
                client.expect(&["SAPWOOD", "WATCH", ""]).await;
                if number == 1 {
                    client.welcome().await;
                    client.expect(&["PING"]).await;
                } else {
                    client.say(START).await;
                }
            } else {
                client.welcome().await;
            }
            client.drain().await;
        })
        .await;
        let quick = ClientOptions { request_timeout: Duration::from_millis(100), ..options() };
        let client = Client::connect_with([&addr], quick).await.unwrap();
        assert_eq!(next(&mut client.watch([""])).await, WatchEvent::Reset(ResetReason::Start));
    }

    #[test]
    fn what_is_no_event_is_an_error() {
        for frame in [
            Frame::Int(1),
            Frame::Push(vec![]),
            Frame::Push(vec![Frame::Bulk("message".into())]),
            Frame::Push(vec![Frame::Bulk("watch".into()), Frame::Bulk("what".into())]),
            Frame::Push(vec![Frame::Bulk("watch".into()), Frame::Bulk("reset".into()), Frame::Int(1)]),
        ] {
            assert!(event(frame.clone()).is_err(), "{frame:?}");
        }
    }
}
