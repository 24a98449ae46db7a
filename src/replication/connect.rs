//! The handshake, from a new connection to an admitted link: hellos, the decisions of both sides, welcomes.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::OwnedSemaphorePermit;
use tokio::time::{Instant, timeout};
use uhlc::NTP64;

use super::Shared;
use super::codec::{self, MAX_FRAME};
use super::faults::{EVERYONE, Traffic};
use super::frames::{FrameReader, FrameWriter};
use super::hello::{Exchange, Introduction, Refused, advertised, judge, judge_clock};
use super::link;
use super::message::{Hello, Message, Refusal};
use super::peers::Link;
use super::session::{HANDSHAKE_LIMIT, LinkError};
use super::wrong_port::OtherProtocol;
use crate::cluster::Direction;
use crate::env::BoxStream;
use crate::model::{Incarnation, Time, timestamp};

/// How long a client at the wrong port may take to read the answer.
const GOODBYE_LIMIT: Duration = Duration::from_secs(1);

/// How a connection to a node ended, for the dialler.
pub(super) enum Ended {
    /// It became a link, which lasted until now.
    Unlinked,
    /// The address leads to this node itself.
    Itself,
    /// The address leads to a node that is linked over another connection.
    LinkedElsewhere(Incarnation),
    /// One of the two refused the other; the refused peer's row says why.
    Refused,
    /// The handshake was not completed, and why.
    Failed(String),
    /// Whatever is at the address, it is hardly a node; and why.
    NotAPeer(String),
}

/// Runs an accepted connection to its end.
pub(super) async fn accepted(
    shared: &Shared,
    stream: BoxStream,
    remote: SocketAddr,
    handshake: OwnedSemaphorePermit,
) {
    if shared.faults.cuts(EVERYONE) {
        return;
    }
    let mut connection = Connection::new(stream, remote, Direction::In);
    let admitted = connection.admit(shared, None).await;
    if let Err(Rejected { error: LinkError::WrongPort(protocol), .. }) = admitted {
        return connection.turn_away(shared, protocol).await;
    }
    drop(handshake);
    match admitted {
        Ok(link) => connection.run(shared, link).await,
        Err(Rejected { error, .. }) => tracing::debug!(%remote, %error, "a connection did not become a link"),
    }
}

/// Runs a connection that this node opened to `target` to its end. Calls `linked` once it is a link.
pub(super) async fn dialled(
    shared: &Shared,
    stream: BoxStream,
    remote: SocketAddr,
    target: &str,
    linked: impl FnOnce(Incarnation) + Send,
) -> Ended {
    let mut connection = Connection::new(stream, remote, Direction::Out);
    let Rejected { error, incarnation } = match connection.admit(shared, Some(target)).await {
        Ok(link) => {
            linked(link.incarnation);
            connection.run(shared, link).await;
            return Ended::Unlinked;
        }
        Err(rejected) => rejected,
    };
    let refused = match error {
        LinkError::Refused(refused) => refused,
        LinkError::WrongPort(_) | LinkError::NoAnswer => return Ended::NotAPeer(error.to_string()),
        _ => return Ended::Failed(error.to_string()),
    };
    match (refused.refusal, incarnation) {
        (Refusal::Itself, _) => Ended::Itself,
        (Refusal::Linked, Some(incarnation)) => Ended::LinkedElsewhere(incarnation),
        _ => Ended::Refused,
    }
}

struct Connection {
    reader: FrameReader,
    writer: FrameWriter,
    remote: SocketAddr,
    direction: Direction,
}

/// The hello of this node, with the clocks when it was sent.
struct Said {
    incarnation: Incarnation,
    wall: Time,
    at: Instant,
}

impl Said {
    /// Returns the exchange of this hello and its answer, which has just been read.
    fn answered(&self, shared: &Shared) -> Exchange {
        Exchange { asked: self.wall, answered: shared.env.wall_clock(), took: self.at.elapsed() }
    }
}

/// A connection that did not become a link, and the node at its other end if it has sent a hello.
struct Rejected {
    error: LinkError,
    incarnation: Option<Incarnation>,
}

impl<E: Into<LinkError>> From<E> for Rejected {
    fn from(error: E) -> Self {
        Rejected { error: error.into(), incarnation: None }
    }
}

impl Connection {
    fn new(stream: BoxStream, remote: SocketAddr, direction: Direction) -> Self {
        let (reader, writer) = tokio::io::split(stream);
        Connection { reader: FrameReader::new(reader), writer: FrameWriter::new(writer), remote, direction }
    }

    /// Runs an admitted link.
    async fn run(&mut self, shared: &Shared, link: Arc<Link>) {
        let peer = link.peer.clone();
        if let Some(refused) = link::run(shared, link, &mut self.reader, &mut self.writer).await
            && !self.writer.is_in_frame()
        {
            self.refuse(shared, &peer, &refused).await;
        }
        self.writer.close().await;
    }

    /// Performs the handshake: both sides send hello; then the dialler decides and sends a welcome, then the
    /// other side does.
    async fn admit(&mut self, shared: &Shared, target: Option<&str>) -> Result<Arc<Link>, Rejected> {
        let mut said = None;
        if self.direction == Direction::Out {
            said = Some(self.say_hello(shared, EVERYONE).await?);
        }
        self.hear_peer().await?;
        let frame = self.receive(shared).await?;
        let hello: Hello<'_> = codec::decode(&frame).map_err(LinkError::from)?;
        if shared.faults.cuts(hello.name) {
            return Err(LinkError::Cut.into());
        }
        let exchange = said.as_ref().map(|said| said.answered(shared));
        let said = match said {
            Some(said) => said,
            None => self.say_hello(shared, hello.name).await?,
        };
        let own = said.incarnation;
        let judged = judge(shared.peers.own(), own, &hello, shared.env.wall_clock(), exchange, self.remote);
        let judged = judged.and_then(|peer| shared.peers.check(&peer, own, self.direction).map(|()| peer));
        let judged = judged.and_then(|peer| shared.check_place(&peer).map(|()| peer));
        let identity = (hello.name, timestamp::incarnation(hello.incarnation));
        let advertised = Some(advertised(&hello, self.remote)).filter(|address| !address.is_empty());
        let outcome = match judged {
            Ok(peer) => self.welcome(shared, &said, &peer).await,
            Err(refused) => {
                self.refuse(shared, hello.name, &refused).await;
                Err(LinkError::Refused(refused))
            }
        };
        outcome.map_err(|error| {
            let (name, incarnation) = identity;
            if let LinkError::Refused(refused) = &error {
                let Some(_held) = shared.faults.passage(name, Traffic::Handshake) else {
                    return LinkError::Cut.into();
                };
                let address = target.map(str::to_owned).or(advertised);
                let address = address.unwrap_or_else(|| self.remote.to_string());
                shared.peers.refused(name, incarnation, &address, refused);
            }
            Rejected { error, incarnation }
        })
    }

    async fn welcome(
        &mut self,
        shared: &Shared,
        said: &Said,
        peer: &Introduction,
    ) -> Result<Arc<Link>, LinkError> {
        let own = said.incarnation;
        if self.direction == Direction::Out {
            self.say_welcome(shared, peer).await?;
        }
        let frame = self.receive(shared).await?;
        match codec::decode::<Message<'_>>(&frame)? {
            Message::Welcome { wall } if self.direction == Direction::In => {
                // The peer's hello may have waited to be accepted; its welcome answers the hello of this node.
                let exchange = said.answered(shared);
                if let Err(refused) = judge_clock(shared.peers.own(), &peer.name, NTP64(wall), exchange) {
                    self.refuse(shared, &peer.name, &refused).await;
                    return Err(LinkError::Refused(refused));
                }
            }
            Message::Welcome { .. } => {}
            Message::Refuse { refusal, text } => {
                return Err(LinkError::Refused(Refused { refusal, text: text.to_owned() }));
            }
            _ => return Err(LinkError::OutOfTurn("a message before its welcome")),
        }
        if shared.draining.is_cancelled() {
            return Err(LinkError::Stopping);
        }
        if shared.local.members.lock().incarnation() != own {
            return Err(LinkError::Renewed);
        }
        let link = match self.take_link(shared, own, peer)? {
            Ok(link) => link,
            Err(refused) => {
                self.refuse(shared, &peer.name, &refused).await;
                return Err(LinkError::Refused(refused));
            }
        };
        if self.direction == Direction::In
            && let Err(error) = self.say_welcome(shared, peer).await
        {
            shared.unlink(&link, &error);
            return Err(error);
        }
        self.reader.set_max_frame(MAX_FRAME);
        shared.dial(&peer.advertise);
        Ok(link)
    }

    /// Makes the connection a link. Both sides have agreed: from here on the peer has an effect on this node.
    fn take_link(
        &self,
        shared: &Shared,
        own: Incarnation,
        peer: &Introduction,
    ) -> Result<Result<Arc<Link>, Refused>, LinkError> {
        let Some(_held) = shared.faults.passage(&peer.name, Traffic::Handshake) else {
            return Err(LinkError::Cut);
        };
        // Before this node accepts another write, its clock moves past all that the peer has seen.
        shared.local.store.observe(peer.hlc);
        Ok(shared.admit(peer, own, self.direction, self.remote))
    }

    /// Sends this node's hello to `peer`, or to [`EVERYONE`] if its name is not known yet.
    async fn say_hello(&mut self, shared: &Shared, peer: &str) -> Result<Said, LinkError> {
        let (at, wall) = (Instant::now(), shared.env.wall_clock());
        let hlc = shared.local.store.now(wall);
        let place = shared.local.members.lock().place();
        let hello = shared.peers.own().hello(place, wall, hlc);
        let frame = codec::frame(&hello);
        self.send(shared, peer, frame).await?;
        Ok(Said { incarnation: place.incarnation, wall, at })
    }

    async fn say_welcome(&mut self, shared: &Shared, peer: &Introduction) -> Result<(), LinkError> {
        let wall = shared.env.wall_clock().0;
        self.send(shared, &peer.name, codec::frame(&Message::Welcome { wall })).await
    }

    async fn refuse(&mut self, shared: &Shared, peer: &str, refused: &Refused) {
        let message = Message::Refuse { refusal: refused.refusal, text: &refused.text };
        let _ = timeout(HANDSHAKE_LIMIT, self.send(shared, peer, codec::frame(&message))).await;
    }

    /// Sends a frame of the handshake, unless the peer is cut.
    async fn send(&mut self, shared: &Shared, peer: &str, frame: Bytes) -> Result<(), LinkError> {
        let sent = shared.faults.guard(peer, Traffic::Handshake, self.writer.write_one(frame)).await;
        Ok(sent.ok_or(LinkError::Cut)??)
    }

    /// Waits for the first bytes of a frame.
    async fn hear_peer(&mut self) -> Result<(), LinkError> {
        match timeout(HANDSHAKE_LIMIT, self.reader.other_protocol()).await {
            Ok(other) => other?.map_or(Ok(()), |protocol| Err(LinkError::WrongPort(protocol))),
            Err(_) if self.direction == Direction::Out => Err(LinkError::NoAnswer),
            Err(_) => Err(LinkError::Silent),
        }
    }

    /// Answers a client of another protocol that this is the peer port, and closes.
    async fn turn_away(&mut self, shared: &Shared, protocol: OtherProtocol) {
        let (remote, reason) = (self.remote, protocol.explain_request(shared.client_port));
        if shared.wrong_clients.note(remote.ip(), protocol) {
            tracing::warn!(%remote, reason, "not a peer: connection closed");
        } else {
            tracing::debug!(%remote, reason, "not a peer: connection closed");
        }
        let answering = async {
            if let Some(answer) = protocol.answer(shared.client_port) {
                let _ = self.writer.write_one(answer.into()).await;
            }
            self.writer.close().await;
            // Closing while bytes arrive would reset the connection, and the client would lose the answer.
            self.reader.discard().await;
        };
        let _ = timeout(GOODBYE_LIMIT, answering).await;
    }

    async fn receive(&mut self, shared: &Shared) -> Result<bytes::BytesMut, LinkError> {
        match timeout(HANDSHAKE_LIMIT, self.reader.next(|_| ())).await {
            Ok(frame) => frame.inspect_err(|error| shared.count_damage(error))?.ok_or(LinkError::Closed),
            Err(_) => Err(LinkError::Silent),
        }
    }
}
