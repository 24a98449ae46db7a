//! Messages published to channels.

use std::future::poll_fn;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use futures_core::Stream;

use super::pushes::Pushes;
use super::reply::{self, Unfit};
use super::{Client, ClientError};
use crate::resp::Frame;

/// A message of a [`Subscription`].
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Message {
    /// The channel it was published to.
    pub channel: Bytes,
    /// The pattern that the channel matched, of a subscription to patterns.
    pub pattern: Option<Bytes>,
    /// What was published.
    pub payload: Bytes,
}

/// A stream of messages: see [`Client::subscribe`].
///
/// It goes on over lost connections and other daemons for as long as it is polled; what is published meanwhile does not
/// reach it. It ends after an error.
#[derive(Debug)]
pub struct Subscription {
    pushes: Pushes,
    request: Vec<Bytes>,
}

impl Client {
    /// The messages that any daemon's clients publish to these channels, best effort, on a connection of its own.
    pub fn subscribe<C: AsRef<[u8]>>(&self, channels: impl IntoIterator<Item = C>) -> Subscription {
        self.listen(b"SUBSCRIBE", channels)
    }

    /// [`Client::subscribe`] to all channels that match one of these patterns.
    pub fn subscribe_matching<P: AsRef<[u8]>>(&self, patterns: impl IntoIterator<Item = P>) -> Subscription {
        self.listen(b"PSUBSCRIBE", patterns)
    }

    fn listen<C: AsRef<[u8]>>(
        &self,
        command: &'static [u8],
        names: impl IntoIterator<Item = C>,
    ) -> Subscription {
        let mut request = vec![Bytes::from_static(command)];
        request.extend(names.into_iter().map(|name| Bytes::copy_from_slice(name.as_ref())));
        Subscription { pushes: self.pushes(), request }
    }
}

impl Subscription {
    /// The next message; nothing after an error. Cancel-safe.
    pub async fn next(&mut self) -> Option<Result<Message, ClientError>> {
        poll_fn(|cx| Pin::new(&mut *self).poll_next(cx)).await
    }
}

impl Stream for Subscription {
    type Item = Result<Message, ClientError>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let Subscription { pushes, request } = &mut *self;
        loop {
            let Some(frame) = ready!(pushes.poll(|| request.clone(), cx)) else { return Poll::Ready(None) };
            match frame.and_then(|frame| message(frame).map_err(|unfit| unfit.of("SUBSCRIBE"))) {
                Ok(None) => {}
                Ok(Some(message)) => return Poll::Ready(Some(Ok(message))),
                Err(error) => return Poll::Ready(Some(Err(error))),
            }
        }
    }
}

/// Reads what is pushed to a subscriber; confirmations are nothing.
fn message(frame: Frame) -> Result<Option<Message>, Unfit> {
    let mut words = reply::list(frame)?;
    let is = |kind: &str| matches!(words.first(), Some(Frame::Bulk(first)) if first == kind);
    let with_pattern = match words.len() {
        3 if is("subscribe") || is("psubscribe") => return Ok(None),
        3 if is("message") => false,
        4 if is("pmessage") => true,
        _ => return Err(Unfit(Frame::Push(words))),
    };
    let mut words = words.drain(1..).map(reply::bytes);
    let mut word = || words.next().unwrap_or_else(|| Err(Unfit(Frame::Null)));
    let pattern = if with_pattern { Some(word()?) } else { None };
    Ok(Some(Message { pattern, channel: word()?, payload: word()? }))
}

#[cfg(test)]
mod tests {
    use super::super::fake::daemon;
    use super::*;

    #[tokio::test]
    async fn messages_come_without_the_confirmations() {
        let addr = daemon(|number, mut client| async move {
            if number > 0 {
                client.expect(&["HELLO", "3"]).await;
                client.say("%0\r\n").await;
            }
            client.welcome().await;
            if number > 0 {
                client.expect(&["PSUBSCRIBE", "c*"]).await;
                client.say(">3\r\n$10\r\npsubscribe\r\n$2\r\nc*\r\n:1\r\n").await;
                client.say(">4\r\n$8\r\npmessage\r\n$2\r\nc*\r\n$2\r\nc1\r\n$2\r\nhi\r\n").await;
            }
            client.drain().await;
        })
        .await;
        let client = Client::connect([addr]).await.unwrap();
        let mut subscription = client.subscribe_matching(["c*"]);
        let message = subscription.next().await.unwrap().unwrap();
        let expected = Message { channel: "c1".into(), pattern: Some("c*".into()), payload: "hi".into() };
        assert_eq!(message, expected);
    }
}
