//! The handshake, from a new connection to a link: hellos, the decisions of both sides, welcomes.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;

use uhlc::NTP64;

use super::network::{Frame, Said, Stage};
use super::node::{Address, Link, Process};
use super::world::{Due, World};
use crate::model::Incarnation;
use crate::replication::codec;
use crate::replication::hello::{Exchange, Introduction, judge, judge_clock};
use crate::replication::message::{Hello, Message, Refusal};
use crate::replication::queue::Queue;
use crate::replication::session::Session;

const REMOTE: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::LOCALHOST), 1);

impl World {
    pub(super) fn say_hello(&mut self, connection: u64, side: usize) {
        let Some(wire) = self.network.connections.get(&connection) else { return };
        let node = wire.ends[side];
        let wall = self.wall(node);
        let Some(process) = &self.nodes[node].process else { return };
        let hlc = process.local.store.now(wall);
        let place = process.local.members.lock().place();
        let hello = codec::frame(&self.nodes[node].identity.hello(place, wall, hlc));
        if let Some(wire) = self.network.connections.get_mut(&connection) {
            wire.said[side] = Some(Said { incarnation: place.incarnation, wall, at: self.now });
        }
        self.send(connection, 1 - side, Frame::Bytes(hello));
    }

    /// Handles a frame at an end that is not part of a link yet.
    pub(super) fn shake_hands(&mut self, connection: u64, side: usize, frame: &[u8]) {
        let Some(wire) = self.network.connections.get_mut(&connection) else { return };
        let node = wire.ends[side];
        if self.nodes[node].process.as_ref().is_none_or(|process| process.leaving.is_some()) {
            return self.close(connection, side);
        }
        let message = codec::open(frame).expect("the simulated network damages nothing");
        match std::mem::replace(&mut wire.stages[side], Stage::Hello) {
            Stage::Hello => self.take_hello(connection, side, message),
            Stage::Welcome(peer) => match codec::decode::<Message<'_>>(message) {
                Ok(Message::Welcome { wall }) if side == 1 => {
                    let (own, peer_node) = (&self.nodes[node].identity, wire.ends[1 - side]);
                    let refused = self
                        .exchange(connection, side)
                        .is_some_and(|exchange| judge_clock(own, &peer.name, NTP64(wall), exchange).is_err());
                    if refused {
                        return self.refuse(connection, side, peer_node, Refusal::Skewed);
                    }
                    self.admit(connection, side, &peer);
                }
                Ok(Message::Welcome { .. }) => self.admit(connection, side, &peer),
                Ok(Message::Refuse { refusal, text }) => {
                    self.checker.on_refusal(refusal, text, self.now);
                    self.close(connection, side);
                }
                other => {
                    self.checker.fail(format!("n{node} expects a welcome and gets {other:?}"));
                }
            },
            stage => wire.stages[side] = stage,
        }
    }

    /// Returns the exchange of an end's hello and its answer, which arrives now.
    fn exchange(&self, connection: u64, side: usize) -> Option<Exchange> {
        let wire = self.network.connections.get(&connection)?;
        let said = wire.said[side].as_ref()?;
        let answered = self.wall(wire.ends[side]);
        Some(Exchange { asked: said.wall, answered, took: self.now - said.at })
    }

    fn take_hello(&mut self, connection: u64, side: usize, frame: &[u8]) {
        // The end that was dialled has sent no hello yet.
        let exchange = self.exchange(connection, side);
        if side == 1 {
            self.say_hello(connection, side);
        }
        let wire = &self.network.connections[&connection];
        let (node, peer_node) = (wire.ends[side], wire.ends[1 - side]);
        let wall = self.wall(node);
        let Some(process) = &self.nodes[node].process else { return };
        if let Ok(Message::Refuse { refusal, text }) = codec::decode::<Message<'_>>(frame) {
            self.checker.on_refusal(refusal, text, self.now);
            return self.close(connection, side);
        }
        let hello: Hello<'_> = codec::decode(frame).expect("both speak the same protocol");
        let own = process.incarnation();
        let judged = judge(&self.nodes[node].identity, own, &hello, wall, exchange, REMOTE);
        let judged = judged.map_err(|refused| refused.refusal).and_then(|peer| {
            let members = process.local.members.lock();
            if let Some(refusal) = self.refusal_of_link(node, own, side, &peer) {
                Err(refusal)
            } else if members.has_live_namesake(&peer.name, peer.incarnation) {
                Err(Refusal::Duplicate)
            } else {
                Ok(peer)
            }
        });
        let peer = match judged {
            Ok(peer) => peer,
            Err(refusal) => return self.refuse(connection, side, peer_node, refusal),
        };
        if side == 0 {
            self.send(connection, 1, Frame::Bytes(codec::frame(&Message::Welcome { wall: wall.0 })));
        }
        if let Some(wire) = self.network.connections.get_mut(&connection) {
            wire.stages[side] = Stage::Welcome(Box::new(peer));
        }
    }

    fn refuse(&mut self, connection: u64, side: usize, peer: usize, refusal: Refusal) {
        let node = self.network.connections[&connection].ends[side];
        let text = format!("n{node} refuses n{peer}");
        self.checker.on_refusal(refusal, &text, self.now);
        let frame = codec::frame(&Message::Refuse { refusal, text: &text });
        self.send(connection, 1 - side, Frame::Bytes(frame));
        self.close(connection, side);
    }

    /// Decides on a second connection between two nodes as the table of peers does.
    fn refusal_of_link(
        &self,
        node: usize,
        own: Incarnation,
        side: usize,
        peer: &Introduction,
    ) -> Option<Refusal> {
        let process = self.nodes[node].process.as_ref()?;
        let link = process.links.get(&Address::parse(&peer.advertise)?.node)?;
        if link.incarnation != peer.incarnation {
            return Some(Refusal::Duplicate);
        }
        let stays = match (link.side, side) {
            (0, 0) => true,
            (1, 1) => false,
            (0, _) => own > peer.incarnation,
            _ => own < peer.incarnation,
        };
        stays.then_some(Refusal::Linked)
    }

    /// Makes a connection the link to a peer. From here on it receives pushes.
    fn admit(&mut self, connection: u64, side: usize, peer: &Introduction) {
        let wire = &self.network.connections[&connection];
        let (node, peer_node) = (wire.ends[side], wire.ends[1 - side]);
        let Some(own) = self.nodes[node].process.as_ref().map(Process::incarnation) else { return };
        let said = self.network.connections[&connection].said[side].as_ref();
        if said.is_none_or(|said| said.incarnation != own) {
            return self.close(connection, side);
        }
        if let Some(refusal) = self.refusal_of_link(node, own, side, peer) {
            return self.refuse(connection, side, peer_node, refusal);
        }
        let Some(address) = Address::parse(&peer.advertise) else { return };
        let (wall, instant, now) = (self.wall(node), self.instant(), self.now);
        let limit = self.plan.queue_limit;
        let Some(process) = &mut self.nodes[node].process else { return };
        process.local.store.observe(peer.hlc);
        let queue = Arc::new(Queue::new(limit));
        let session = Session::new(own, peer.incarnation, &peer.name, Arc::clone(&queue), instant);
        let incarnation = peer.incarnation;
        let link = Link { connection, side, incarnation, address, queue, session, heard: now, wake_at: None };
        let earlier = process.links.insert(peer_node, link);
        let hlc = process.local.store.now(wall);
        process.local.members.lock().on_link(&peer.name, incarnation, peer.place.generation, hlc);
        process.targets.insert(address);
        self.checker.note(now, None, || format!("n{node} links n{peer_node} as {incarnation}"));
        let earlier = earlier.map(|mut earlier| {
            earlier.session.end(&process.local);
            (earlier.connection, earlier.side)
        });
        if let Some((connection, side)) = earlier {
            self.close(connection, side);
        }
        if let Some(wire) = self.network.connections.get_mut(&connection) {
            wire.stages[side] = Stage::Up;
        }
        if side == 1 {
            self.send(connection, 0, Frame::Bytes(codec::frame(&Message::Welcome { wall: wall.0 })));
        }
        // The heartbeat task starts beside the sending task.
        let soon = self.millis(0..5);
        self.after(soon, Due::Heartbeat(node, connection));
        self.after(soon / 2, Due::Wake(node, connection));
    }

    /// Ends a connection whose handshake has taken too long.
    pub(super) fn end_handshake(&mut self, connection: u64) {
        for side in [0, 1] {
            let stage = self.network.connections.get(&connection).map(|wire| &wire.stages[side]);
            if matches!(stage, Some(Stage::Hello | Stage::Welcome(_))) {
                self.close(connection, side);
            }
        }
    }
}
