//! Messages published to channels.

use std::collections::VecDeque;
use std::future::poll_fn;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use futures_core::Stream;
use tokio::time::timeout;

use crate::connection::into_result;
use crate::dial::Dialer;
use crate::pushes::{Pushes, is_lasting};
use crate::reply::{self, Unfit};
use crate::resp::Frame;
use crate::{Client, ClientError, Connection};

/// A message of a [`Subscription`].
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Message {
    /// The channel it was published to.
    pub channel: Bytes,
    /// The pattern that the channel matched; set if the subscription is to patterns.
    pub pattern: Option<Bytes>,
    /// What was published.
    pub payload: Bytes,
}

/// A stream of messages: see [`Client::subscribe`].
///
/// It resumes over lost connections and on other nodes for as long as it is polled; messages published meanwhile are
/// lost. It ends after an error.
#[derive(Debug)]
pub struct Subscription {
    pushes: Pushes,
    request: Vec<Bytes>,
    /// Messages that came before all channels were confirmed.
    early: VecDeque<Message>,
}

impl Client {
    /// Subscribes to channels: the messages that any node's clients publish there, best effort, on a separate
    /// connection.
    ///
    /// Returns once the node has confirmed all channels; messages published to them from then on arrive. It
    /// tries the nodes in turn for the [request time-out](crate::ClientOptions::request_timeout).
    ///
    /// # Errors
    /// Why no node has confirmed in time, or what the node refused.
    pub async fn subscribe<C: AsRef<[u8]>>(
        &self,
        channels: impl IntoIterator<Item = C>,
    ) -> Result<Subscription, ClientError> {
        self.listen(request(b"SUBSCRIBE", channels)).await
    }

    /// [`Client::subscribe`] to all channels that match one of these patterns.
    ///
    /// # Errors
    /// As [`Client::subscribe`].
    pub async fn subscribe_matching<P: AsRef<[u8]>>(
        &self,
        patterns: impl IntoIterator<Item = P>,
    ) -> Result<Subscription, ClientError> {
        self.listen(request(b"PSUBSCRIBE", patterns)).await
    }

    async fn listen(&self, request: Vec<Bytes>) -> Result<Subscription, ClientError> {
        let (mut dialer, limit) = (self.push_dialer(), self.options().request_timeout);
        let mut last = None;
        let attempts = async {
            loop {
                match confirmed(&mut dialer, &request).await {
                    Err(error) if !is_final(&error) => last = Some(error),
                    outcome => break outcome,
                }
                dialer.pause().await;
            }
        };
        let (connection, early) = match timeout(limit, attempts).await {
            Ok(outcome) => outcome?,
            Err(_) => return Err(last.unwrap_or(ClientError::Timeout { after: limit })),
        };
        dialer.succeeded();
        Ok(Subscription { pushes: Pushes::opened(dialer, connection, limit), request, early })
    }
}

fn request<N: AsRef<[u8]>>(command: &'static [u8], names: impl IntoIterator<Item = N>) -> Vec<Bytes> {
    let mut request = vec![Bytes::from_static(command)];
    request.extend(names.into_iter().map(|name| Bytes::copy_from_slice(name.as_ref())));
    request
}

/// Sends the request to the next reachable node. Returns the connection once every name is confirmed, and the
/// messages that came before.
async fn confirmed(
    dialer: &mut Dialer,
    request: &[Bytes],
) -> Result<(Connection, VecDeque<Message>), ClientError> {
    let args: Vec<&[u8]> = request.iter().map(|arg| &arg[..]).collect();
    let (mut connection, _) = dialer.once().await?;
    connection.stream(&args).await?;
    let mut early = VecDeque::new();
    // A request without names gets one reply too: an error.
    let mut missing = (request.len() - 1).max(1);
    while missing > 0 {
        let frame = into_result(connection.receive().await?)?;
        match message(frame).map_err(|unfit| unfit.of("SUBSCRIBE"))? {
            None => missing -= 1,
            Some(message) => early.push_back(message),
        }
    }
    Ok((connection, early))
}

/// Whether a retry cannot succeed after this error.
fn is_final(error: &ClientError) -> bool {
    use ClientError::{NoAddress, Server, Unexpected};
    matches!(error, NoAddress | Server { .. } | Unexpected { .. }) || is_lasting(error)
}

impl Subscription {
    /// The next message; `None` after an error. Cancel-safe.
    pub async fn next(&mut self) -> Option<Result<Message, ClientError>> {
        poll_fn(|cx| Pin::new(&mut *self).poll_next(cx)).await
    }
}

impl Stream for Subscription {
    type Item = Result<Message, ClientError>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let Subscription { pushes, request, early } = &mut *self;
        if let Some(message) = early.pop_front() {
            return Poll::Ready(Some(Ok(message)));
        }
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

/// Decodes a push to a subscriber; `None` for a confirmation.
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
    use std::time::Duration;

    use tokio::sync::watch;

    use super::*;
    use crate::ClientOptions;
    use crate::fake::node;

    #[tokio::test]
    async fn messages_come_without_the_confirmations() {
        let addr = node(|number, mut client| async move {
            if number > 0 {
                client.answer(&["HELLO", "3"], "%0\r\n").await;
            }
            client.welcome().await;
            if number > 0 {
                client.answer(&["PSUBSCRIBE", "c*"], ">3\r\n$10\r\npsubscribe\r\n$2\r\nc*\r\n:1\r\n").await;
                client.say(">4\r\n$8\r\npmessage\r\n$2\r\nc*\r\n$2\r\nc1\r\n$2\r\nhi\r\n").await;
            }
            client.drain().await;
        })
        .await;
        let client = Client::connect([addr]).await.unwrap();
        let mut subscription = client.subscribe_matching(["c*"]).await.unwrap();
        let message = subscription.next().await.unwrap().unwrap();
        let expected = Message { channel: "c1".into(), pattern: Some("c*".into()), payload: "hi".into() };
        assert_eq!(message, expected);
    }

    #[tokio::test]
    async fn subscribing_takes_until_every_channel_is_confirmed() {
        let (confirm, confirmed) = watch::channel(false);
        let (half, mut half_confirmed) = watch::channel(false);
        let addr = node(move |number, mut client| {
            let (mut confirmed, half) = (confirmed.clone(), half.clone());
            async move {
                if number > 0 {
                    client.answer(&["HELLO", "3"], "%0\r\n").await;
                }
                client.welcome().await;
                // The first connection is that of requests; one ends before the confirmation.
                if number > 0 {
                    client.expect(&["SUBSCRIBE", "a", "b"]).await;
                }
                if number > 1 {
                    client.say(">3\r\n$9\r\nsubscribe\r\n$1\r\na\r\n:1\r\n").await;
                    client.say(">3\r\n$7\r\nmessage\r\n$1\r\na\r\n$5\r\nearly\r\n").await;
                    half.send_replace(true);
                    confirmed.wait_for(|confirmed| *confirmed).await.unwrap();
                    client.say(">3\r\n$9\r\nsubscribe\r\n$1\r\nb\r\n:2\r\n").await;
                }
                if number != 1 {
                    client.drain().await;
                }
            }
        })
        .await;
        let client = Client::connect([addr]).await.unwrap();
        let subscribing = client.subscribe(["a", "b"]);
        tokio::pin!(subscribing);
        tokio::select! {
            subscription = &mut subscribing => panic!("one channel is not confirmed: {subscription:?}"),
            half = half_confirmed.wait_for(|half| *half) => drop(half.unwrap()),
        }
        confirm.send(true).unwrap();
        let mut subscription = subscribing.await.unwrap();
        assert_eq!(subscription.next().await.unwrap().unwrap().payload, "early");
    }

    #[tokio::test]
    async fn what_no_node_confirms_is_an_error() {
        let addr = node(|number, mut client| async move {
            if number > 0 {
                client.answer(&["HELLO", "3"], "%0\r\n").await;
            }
            client.welcome().await;
            if number == 1 {
                client
                    .answer(&["SUBSCRIBE"], "-ERR wrong number of arguments for 'subscribe' command\r\n")
                    .await;
            }
            client.drain().await;
        })
        .await;
        let options = ClientOptions { request_timeout: Duration::from_millis(100), ..Default::default() };
        let client = Client::connect_with([addr], options).await.unwrap();
        let error = client.subscribe::<&str>([]).await.unwrap_err();
        assert!(matches!(error, ClientError::Server { .. }), "{error}");
        let error = client.subscribe(["c"]).await.unwrap_err();
        assert!(matches!(error, ClientError::Timeout { .. }), "{error}");
    }
}
