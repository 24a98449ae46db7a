//! The handshake: how a connection becomes a link.
//!
//! ```text
//!   the one that dialled:    hello -->           judge, welcome -->                        link
//!   the one that accepted:          judge, hello -->               judge the clock, link, welcome -->
//! ```
//!
//! Each side judges the hello of the other; a refusal ends the connection. The one that dialled agrees first. The other
//! then makes the connection its link before it says so, thus a connection that is the link at the dialler is the link
//! at both.

use std::net::SocketAddr;

use bytes::Bytes;
use tokio::time::Instant;

use super::Replica;
use crate::cluster::Direction;
use crate::model::{Incarnation, Time, timestamp};
use crate::replication::codec;
use crate::replication::hello::{
    Exchange, Introduction, Refused, advertised, judge, judge_clock, judge_name,
};
use crate::replication::link_error::LinkError;
use crate::replication::message::{Hello, Message};
use crate::replication::peers::Admitted;

/// The handshake over one connection, as this node sees it.
pub(in crate::replication) struct Handshake {
    stage: Stage,
    greeted: Option<Greeted>,
    /// The node that the certificate of the other side names, if it has one.
    certified: Option<String>,
}

/// The message that is expected next.
enum Stage {
    /// The answer to this node's hello: a hello.
    Dialled(Said),
    /// A hello, which this node answers with its own.
    Accepted,
    /// The decision of the other side about this node; its hello was accepted.
    Accepting(Said, Direction, Introduction),
    /// Nothing: the handshake has ended.
    Over,
}

/// The hello of this node, with the clocks when it was sent.
struct Said {
    incarnation: Incarnation,
    wall: Time,
    at: Instant,
}

/// The node at the other end, as its hello names it, refused or not.
#[derive(Clone, Debug)]
pub(in crate::replication) struct Greeted {
    pub(in crate::replication) name: String,
    pub(in crate::replication) incarnation: Option<Incarnation>,
    /// Where it can be dialled; empty if it cannot.
    pub(in crate::replication) advertised: String,
}

/// What to do after a message of the other side.
pub(in crate::replication) struct Reply {
    /// Frames to send, in this order.
    pub(in crate::replication) send: Vec<Bytes>,
    pub(in crate::replication) verdict: Verdict,
}

/// How far a handshake has come.
pub(in crate::replication) enum Verdict {
    /// The other side's next message decides.
    Open,
    /// Both sides agree: [`Agreed::link`] is next.
    Agreed(Box<Agreed>),
    /// One of the two refused the other: the connection ends once everything is sent.
    Refused(Refused),
}

/// A connection that both sides want as their link.
pub(in crate::replication) struct Agreed {
    pub(in crate::replication) peer: Introduction,
    /// The incarnation as which this node has introduced itself.
    own: Incarnation,
    direction: Direction,
}

impl Handshake {
    /// Begins the handshake over a connection that this node has opened. Returns it, and its hello to send.
    pub(in crate::replication) fn dial(replica: &Replica, wall: Time, now: Instant) -> (Handshake, Bytes) {
        let (said, hello) = Said::hello(replica, wall, now);
        (Handshake { stage: Stage::Dialled(said), greeted: None, certified: None }, hello)
    }

    /// Begins the handshake over a connection that another node has opened. That node speaks first.
    pub(in crate::replication) fn accept() -> Handshake {
        Handshake { stage: Stage::Accepted, greeted: None, certified: None }
    }

    /// Requires that the other side is the node `certified`, if that is given.
    pub(in crate::replication) fn requiring(self, certified: Option<String>) -> Handshake {
        Handshake { certified, ..self }
    }

    /// The node at the other end, once it has sent a hello.
    pub(in crate::replication) fn greeted(&self) -> Option<&Greeted> {
        self.greeted.as_ref()
    }

    /// Handles a message of the other side, whose address is `remote`.
    pub(in crate::replication) fn receive(
        &mut self,
        replica: &Replica,
        message: &[u8],
        remote: SocketAddr,
        wall: Time,
        now: Instant,
    ) -> Result<Reply, LinkError> {
        match std::mem::replace(&mut self.stage, Stage::Over) {
            Stage::Dialled(said) => {
                let hello = codec::decode(message)?;
                let exchange = said.exchange(wall, now);
                let judged = self.judge(replica, &said, &hello, Some(exchange), Direction::Out, remote, wall);
                Ok(self.reply(said, Direction::Out, judged, vec![welcome(wall)], Vec::new()))
            }
            Stage::Accepted => {
                let hello = codec::decode(message)?;
                let (said, own_hello) = Said::hello(replica, wall, now);
                let judged = self.judge(replica, &said, &hello, None, Direction::In, remote, wall);
                Ok(self.reply(said, Direction::In, judged, vec![own_hello.clone()], vec![own_hello]))
            }
            Stage::Accepting(said, direction, peer) => {
                on_answer(replica, &said, direction, peer, &codec::decode(message)?, wall, now)
            }
            Stage::Over => Err(LinkError::OutOfTurn("a message after its refusal")),
        }
    }

    #[expect(clippy::too_many_arguments, reason = "what a decision about a hello depends on")]
    fn judge(
        &mut self,
        replica: &Replica,
        said: &Said,
        hello: &Hello<'_>,
        exchange: Option<Exchange>,
        direction: Direction,
        remote: SocketAddr,
        wall: Time,
    ) -> Result<Introduction, Refused> {
        self.greeted = Some(Greeted {
            name: hello.name.to_owned(),
            incarnation: timestamp::incarnation(hello.incarnation),
            advertised: advertised(hello, remote),
        });
        if let Some(certified) = &self.certified {
            judge_name(certified, hello.name)?;
        }
        let peer = judge(replica.peers.own(), said.incarnation, hello, wall, exchange, remote)?;
        replica.check(&peer, said.incarnation, direction)?;
        Ok(peer)
    }

    /// Answers a hello: with `accepted`, or with `refused` and the refusal.
    fn reply(
        &mut self,
        said: Said,
        direction: Direction,
        judged: Result<Introduction, Refused>,
        accepted: Vec<Bytes>,
        refused: Vec<Bytes>,
    ) -> Reply {
        match judged {
            Ok(peer) => {
                self.stage = Stage::Accepting(said, direction, peer);
                Reply { send: accepted, verdict: Verdict::Open }
            }
            Err(why) => Reply::refuse(refused, why),
        }
    }
}

/// Handles the other side's decision about this node, whose own decision about `peer` was to accept it.
fn on_answer(
    replica: &Replica,
    said: &Said,
    direction: Direction,
    peer: Introduction,
    answer: &Message<'_>,
    wall: Time,
    now: Instant,
) -> Result<Reply, LinkError> {
    match *answer {
        Message::Welcome { wall: theirs } => {
            // The peer's hello may have waited to be accepted; its welcome answers the hello of this node.
            if direction == Direction::In
                && let Err(refused) =
                    judge_clock(replica.peers.own(), &peer.name, Time(theirs), said.exchange(wall, now))
            {
                return Ok(Reply::refuse(Vec::new(), refused));
            }
            let agreed = Agreed { peer, own: said.incarnation, direction };
            Ok(Reply { send: Vec::new(), verdict: Verdict::Agreed(Box::new(agreed)) })
        }
        Message::Refuse { refusal, text } => {
            let refused = Refused { refusal, text: text.to_owned() };
            Ok(Reply { send: Vec::new(), verdict: Verdict::Refused(refused) })
        }
        _ => Err(LinkError::OutOfTurn("a message before its welcome")),
    }
}

impl Agreed {
    /// Makes the connection the link. Returns it, and the welcome to send if the other side waits for one.
    pub(in crate::replication) fn link(
        &self,
        replica: &Replica,
        remote: SocketAddr,
        wall: Time,
        now: Instant,
    ) -> Result<(Admitted, Option<Bytes>), LinkError> {
        let admitted = replica.admit(&self.peer, self.own, self.direction, remote, wall, now)?;
        Ok((admitted, (self.direction == Direction::In).then(|| welcome(wall))))
    }
}

impl Said {
    /// Returns this node's hello, and what it said.
    fn hello(replica: &Replica, wall: Time, now: Instant) -> (Said, Bytes) {
        let hlc = replica.local.store.now(wall);
        let place = replica.local.members.lock().place();
        let hello = codec::frame(&replica.peers.own().hello(place, wall, hlc));
        (Said { incarnation: place.incarnation, wall, at: now }, hello)
    }

    /// Returns the exchange of this hello and its answer, which arrives now.
    fn exchange(&self, wall: Time, now: Instant) -> Exchange {
        Exchange { asked: self.wall, answered: wall, took: now.saturating_duration_since(self.at) }
    }
}

impl Reply {
    fn refuse(mut send: Vec<Bytes>, refused: Refused) -> Reply {
        send.push(refused.frame());
        Reply { send, verdict: Verdict::Refused(refused) }
    }
}

impl Refused {
    /// Returns the message that tells the other side.
    pub(in crate::replication) fn frame(&self) -> Bytes {
        codec::frame(&Message::Refuse { refusal: self.refusal, text: &self.text })
    }
}

fn welcome(wall: Time) -> Bytes {
    codec::frame(&Message::Welcome { wall: wall.0 })
}
