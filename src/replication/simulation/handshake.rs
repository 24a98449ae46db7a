//! Carries the messages of a [handshake](Handshake) between two simulated nodes until a connection is a link.

use std::net::{Ipv4Addr, SocketAddr};

use super::network::{Frame, Stage};
use super::node::LinkEnd;
use super::world::{Due, HANDSHAKE_LIMIT, World};
use crate::replication::codec;
use crate::replication::hello::Refused;
use crate::replication::link_error::LinkError;
use crate::replication::replica::{Agreed, Handshake, Reply, Verdict};

/// The address that all nodes see of each other.
const REMOTE: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::LOCALHOST), 1);

impl World {
    /// Opens a connection to another node, and says hello.
    pub(super) fn open(&mut self, node: usize, to: usize) {
        let slow = if rand::Rng::random_bool(&mut self.rng, 0.1) { 400 } else { 30 };
        let latencies = [self.millis(1..slow), self.millis(1..slow)];
        let (wall, instant) = (self.wall(node), self.instant());
        let Some(process) = &self.nodes[node].process else { return };
        let (handshake, hello) = Handshake::dial(&process.replica, wall, instant);
        let connection = self.network.open(node, to, latencies, handshake);
        self.after(HANDSHAKE_LIMIT, Due::Handshake(connection));
        self.send(connection, 1, Frame::Bytes(hello));
    }

    /// Handles a message of the handshake.
    pub(super) fn shake_hands(
        &mut self,
        connection: u64,
        side: usize,
        mut handshake: Box<Handshake>,
        frame: &[u8],
    ) {
        let Some(wire) = self.network.connections.get(&connection) else { return };
        let node = wire.ends[side];
        let (wall, instant) = (self.wall(node), self.instant());
        let Some(process) = self.nodes[node].process.as_ref().filter(|process| process.is_open()) else {
            return self.close(connection, side);
        };
        let message = codec::open(frame).expect("the simulated network damages nothing");
        let reply = handshake.receive(&process.replica, message, REMOTE, wall, instant);
        let Reply { send, verdict } = match reply {
            Ok(reply) => reply,
            Err(error) => return self.checker.fail(format!("n{node} cannot shake hands: {error}")),
        };
        for frame in send {
            self.send(connection, 1 - side, Frame::Bytes(frame));
        }
        match verdict {
            Verdict::Open => self.set_stage(connection, side, Stage::New(handshake)),
            Verdict::Agreed(agreed) => self.link(connection, side, &agreed),
            Verdict::Refused(refused) => self.refuse(connection, side, &refused),
        }
    }

    fn set_stage(&mut self, connection: u64, side: usize, stage: Stage) {
        if let Some(wire) = self.network.connections.get_mut(&connection) {
            wire.stages[side] = stage;
        }
    }

    fn refuse(&mut self, connection: u64, side: usize, refused: &Refused) {
        let ends = self.network.connections[&connection].ends;
        let text = format!("n{} and n{}: {}", ends[side], ends[1 - side], refused.text);
        self.checker.on_refusal(refused.refusal, &text, self.now);
        self.close(connection, side);
    }

    /// Makes a connection the link to a peer. From here on it receives pushes.
    fn link(&mut self, connection: u64, side: usize, agreed: &Agreed) {
        let wire = &self.network.connections[&connection];
        let (node, peer_node) = (wire.ends[side], wire.ends[1 - side]);
        let (wall, instant, now) = (self.wall(node), self.instant(), self.now);
        let Some(process) = &mut self.nodes[node].process else { return };
        let (admitted, welcome) = match agreed.link(&process.replica, REMOTE, wall, instant) {
            Ok(linked) => linked,
            Err(LinkError::Refused(refused)) => {
                self.send(connection, 1 - side, Frame::Bytes(refused.frame()));
                return self.refuse(connection, side, &refused);
            }
            Err(_) => return self.close(connection, side),
        };
        process.replica.add_target(&agreed.peer.advertise, instant);
        let incarnation = agreed.peer.incarnation;
        let end = LinkEnd { connection, side, link: admitted.link, last_received: instant, wake_at: None };
        let earlier = process.links.insert(peer_node, end);
        self.checker.note(now, None, || format!("n{node} links n{peer_node} as {incarnation}"));
        self.set_stage(connection, side, Stage::Up);
        if let Some(earlier) = earlier {
            self.end_link_over(node, &earlier.link, &LinkError::Superseded);
            self.close(earlier.connection, earlier.side);
        }
        if let Some(welcome) = welcome {
            self.send(connection, 1 - side, Frame::Bytes(welcome));
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
            if matches!(stage, Some(Stage::New(_))) {
                self.close(connection, side);
            }
        }
    }
}
