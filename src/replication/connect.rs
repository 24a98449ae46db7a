//! New connections: carries the messages of the [handshake](super::replica::Handshake) until the connection is a link.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::OwnedSemaphorePermit;
use tokio::time::{Instant, timeout, timeout_at};

use super::Shared;
use super::codec::{self, MAX_FRAME};
use super::faults::{EVERYONE, Traffic};
use super::frames::{FrameReader, FrameWriter};
use super::hello::Refused;
use super::link;
use super::link_error::{HANDSHAKE_LIMIT, LinkError};
use super::message::{Hello, Refusal};
use super::peers::{Admitted, Link};
use super::replica::{Agreed, Handshake, Reply, Verdict};
use super::wrong_port::OtherProtocol;
use crate::cluster::Direction;
use crate::env::BoxStream;
use crate::model::Incarnation;
use crate::tls::{Authenticated, HandshakeError, PeerTls, with_first_bytes};

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
    /// TLS did not authenticate one of the two to the other, and why.
    Untrusted(String),
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
    let authenticated = match &shared.tls {
        None => Authenticated { stream, name: None },
        Some(tls) => match authenticate(shared, tls, stream, remote).await {
            Some(authenticated) => authenticated,
            None => return,
        },
    };
    let mut connection = Connection::new(authenticated, remote, Direction::In);
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

/// Authenticates whoever has connected. Returns nothing if that fails; then the connection is closed and counted.
async fn authenticate(
    shared: &Shared,
    tls: &PeerTls,
    stream: BoxStream,
    remote: SocketAddr,
) -> Option<Authenticated> {
    let error = match tls.admit(remote.ip()) {
        Ok(_slot) => match open_tls(shared, tls, stream, remote).await {
            Ok(authenticated) => return authenticated,
            Err(error) => error,
        },
        Err(error) => error,
    };
    let reason = error.to_string();
    match tls.note_failure(remote.ip(), &error) {
        Some(left_out) => {
            let left_out = Some(left_out).filter(|count| *count > 0);
            tracing::warn!(%remote, reason, left_out, "a peer is not authenticated: connection closed");
        }
        None => tracing::debug!(%remote, reason, "a peer is not authenticated: connection closed"),
    }
    None
}

/// Performs the TLS handshake with whoever has connected. Returns nothing if it speaks another protocol, in which it has got
/// an answer.
async fn open_tls(
    shared: &Shared,
    tls: &PeerTls,
    stream: BoxStream,
    remote: SocketAddr,
) -> Result<Option<Authenticated>, HandshakeError> {
    let deadline = Instant::now() + HANDSHAKE_LIMIT;
    // Nothing of it is looked at before it is authenticated but these first bytes.
    let (read, write) = tokio::io::split(stream);
    let mut reader = FrameReader::new(read);
    let opening = timeout_at(deadline, reader.other_protocol()).await;
    let (read, first) = reader.into_parts();
    let said_nothing = first.is_empty();
    let stream = with_first_bytes(first, read.unsplit(write));
    match opening {
        Ok(Ok(Some(OtherProtocol::Tls))) => tls.accept(stream, deadline).await.map(Some),
        Ok(Ok(Some(other))) => {
            let unauthenticated = Authenticated { stream, name: None };
            Connection::new(unauthenticated, remote, Direction::In).turn_away(shared, other).await;
            Ok(None)
        }
        Ok(Ok(None)) if said_nothing => Err(HandshakeError::Closed),
        Ok(Ok(None)) => {
            tls.refuse_plaintext(stream).await;
            Err(HandshakeError::Plaintext)
        }
        Ok(Err(error)) => Err(HandshakeError::Connection(error.to_string())),
        Err(_) => Err(HandshakeError::TimedOut),
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
    let authenticated = match &shared.tls {
        None => Authenticated { stream, name: None },
        Some(tls) => match tls.dial(stream, remote).await {
            Ok(authenticated) => authenticated,
            Err(error) if error.is_distrust() => return Ended::Untrusted(error.to_string()),
            Err(error) => return Ended::Failed(error.to_string()),
        },
    };
    let mut connection = Connection::new(authenticated, remote, Direction::Out);
    let Rejected { error, incarnation } = match connection.admit(shared, Some(target)).await {
        Ok(link) => {
            linked(link.incarnation);
            connection.run(shared, link).await;
            return Ended::Unlinked;
        }
        Err(rejected) => rejected,
    };
    let refused = match error.resolve_alert() {
        LinkError::Refused(refused) => refused,
        error @ (LinkError::WrongPort(_) | LinkError::NoAnswer) => return Ended::NotAPeer(error.to_string()),
        LinkError::Untrusted(error) => {
            if let Some(tls) = &shared.tls {
                tls.count_failure(&error);
            }
            return Ended::Untrusted(error.to_string());
        }
        error => return Ended::Failed(error.to_string()),
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
    /// The node that the certificate of the other side names, if it has one.
    certified: Option<String>,
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
    fn new(authenticated: Authenticated, remote: SocketAddr, direction: Direction) -> Self {
        let Authenticated { stream, name: certified } = authenticated;
        let (reader, writer) = tokio::io::split(stream);
        let (reader, writer) = (FrameReader::new(reader), FrameWriter::new(writer));
        Connection { reader, writer, remote, direction, certified }
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

    /// Performs the handshake. If it makes the connection no link, what is known of the other side is recorded.
    async fn admit(&mut self, shared: &Shared, target: Option<&str>) -> Result<Arc<Link>, Rejected> {
        let handshake = match self.direction {
            Direction::In => Handshake::accept(),
            Direction::Out => {
                let (wall, now) = (shared.env.wall_clock(), Instant::now());
                let (handshake, hello) = Handshake::dial(&shared.replica, wall, now);
                self.send(shared, EVERYONE, hello).await?;
                handshake
            }
        };
        let mut handshake = handshake.requiring(self.certified.clone());
        let outcome = self.shake_hands(shared, &mut handshake).await;
        outcome.map_err(|error| {
            let Some(peer) = handshake.greeted() else { return error.into() };
            if let LinkError::Refused(refused) = &error {
                let Some(_held) = shared.faults.passage(&peer.name, Traffic::Handshake) else {
                    return LinkError::Cut.into();
                };
                let advertised = Some(&*peer.advertised).filter(|address| !address.is_empty());
                let address = target.or(advertised).map(str::to_owned);
                let address = address.unwrap_or_else(|| self.remote.to_string());
                shared.refused(&peer.name, peer.incarnation, &address, refused);
            }
            Rejected { error, incarnation: peer.incarnation }
        })
    }

    async fn shake_hands(
        &mut self,
        shared: &Shared,
        handshake: &mut Handshake,
    ) -> Result<Arc<Link>, LinkError> {
        self.await_first_bytes().await?;
        loop {
            let frame = self.receive(shared).await?;
            if handshake.greeted().is_none() && shared.faults.cuts(codec::decode::<Hello<'_>>(&frame)?.name) {
                return Err(LinkError::Cut);
            }
            let (wall, now) = (shared.env.wall_clock(), Instant::now());
            let Reply { send, verdict } =
                handshake.receive(&shared.replica, &frame, self.remote, wall, now)?;
            let name = handshake.greeted().map_or(EVERYONE, |peer| &*peer.name);
            let sending = self.send_all(shared, name, send);
            match verdict {
                Verdict::Open => sending.await?,
                Verdict::Refused(refused) => {
                    let _ = timeout(HANDSHAKE_LIMIT, sending).await;
                    return Err(LinkError::Refused(refused));
                }
                Verdict::Agreed(agreed) => {
                    sending.await?;
                    return self.link(shared, &agreed).await;
                }
            }
        }
    }

    async fn link(&mut self, shared: &Shared, agreed: &Agreed) -> Result<Arc<Link>, LinkError> {
        if shared.draining.is_cancelled() {
            return Err(LinkError::Stopping);
        }
        let peer = &agreed.peer;
        let (admitted, welcome) = match self.take_link(shared, agreed) {
            Ok(linked) => linked,
            Err(error) => {
                if let LinkError::Refused(refused) = &error {
                    self.refuse(shared, &peer.name, refused).await;
                }
                return Err(error);
            }
        };
        shared.announce_link(&admitted);
        let link = admitted.link;
        if let Some(welcome) = welcome
            && let Err(error) = self.send(shared, &peer.name, welcome).await
        {
            shared.unlink(&link, &error);
            return Err(error);
        }
        self.reader.set_max_frame(MAX_FRAME);
        shared.dial(&peer.advertise);
        Ok(link)
    }

    /// Makes the connection the link, unless the peer is cut off.
    fn take_link(&self, shared: &Shared, agreed: &Agreed) -> Result<(Admitted, Option<Bytes>), LinkError> {
        let Some(_held) = shared.faults.passage(&agreed.peer.name, Traffic::Handshake) else {
            return Err(LinkError::Cut);
        };
        agreed.link(&shared.replica, self.remote, shared.env.wall_clock(), Instant::now())
    }

    async fn refuse(&mut self, shared: &Shared, peer: &str, refused: &Refused) {
        let _ = timeout(HANDSHAKE_LIMIT, self.send(shared, peer, refused.frame())).await;
    }

    async fn send_all(&mut self, shared: &Shared, peer: &str, frames: Vec<Bytes>) -> Result<(), LinkError> {
        for frame in frames {
            self.send(shared, peer, frame).await?;
        }
        Ok(())
    }

    /// Sends a frame of the handshake, unless the peer is cut.
    async fn send(&mut self, shared: &Shared, peer: &str, frame: Bytes) -> Result<(), LinkError> {
        let sent = shared.faults.guard(peer, Traffic::Handshake, self.writer.write_one(frame)).await;
        Ok(sent.ok_or(LinkError::Cut)??)
    }

    /// Waits for the first bytes of a frame.
    async fn await_first_bytes(&mut self) -> Result<(), LinkError> {
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
