//! Answers `WAIT` and tokens: which peers hold this node's writes, and whether this node holds those that a
//! token names.

use tokio::time::Instant;

use super::Replication;
use super::members::Standing;
use crate::cluster::{Acknowledgements, Scope, Token, TokenError};
use crate::env::BoxFuture;
use crate::model::timestamp;

impl Acknowledgements for Replication {
    fn acknowledged_by(&self, through: u64) -> Vec<String> {
        let links = self.shared.replica.peers.links();
        let queues = links.iter().map(|link| (&link.peer, &*link.queue));
        self.shared.replica.local.write_acks.holders(through, queues).into_iter().cloned().collect()
    }

    fn more_acknowledged(&self, through: u64) -> BoxFuture<'static, ()> {
        let links = self.shared.replica.peers.links();
        self.shared.replica.local.write_acks.wait_for_holders(through, links.iter().map(|link| &*link.queue))
    }

    fn token(&self) -> Token {
        let local = &self.shared.replica.local;
        let sequence = local.store.feed().sequence();
        let time = local.store.moment(self.shared.env.wall_clock());
        let place = local.members.lock().place();
        Token {
            name: self.shared.replica.peers.own().name.clone(),
            incarnation: place.incarnation,
            generation: place.generation,
            sequence,
            time,
        }
    }

    fn is_ready(&self, token: &Token, scope: Scope) -> Result<bool, TokenError> {
        let local = &self.shared.replica.local;
        let wall = self.shared.env.wall_clock();
        if token.time > local.max_accepted(wall) {
            return Err(TokenError::Future(timestamp::distance(token.time, wall)));
        }
        local.store.observe(token.time);
        let members = local.members.lock();
        let own = members.incarnation();
        if token.incarnation == own {
            let issued = token.sequence <= local.store.feed().sequence();
            return if issued { Ok(true) } else { Err(TokenError::Malformed) };
        }
        let pushed =
            scope == Scope::Writes && local.write_acks.held(own, token.incarnation) >= token.sequence;
        if pushed || members.synced(token.incarnation) >= token.time {
            return Ok(true);
        }
        let known = members.roster().find(|(name, _)| *name == token.name).map(|(_, member)| *member);
        let gone = known.is_some_and(|known| match known.incarnation == token.incarnation {
            true => known.standing == Standing::Gone,
            false => (known.generation, known.incarnation) > (token.generation, token.incarnation),
        });
        if gone { Err(TokenError::Gone(token.name.clone())) } else { Ok(false) }
    }

    fn readiness_changed(&self, token: &Token, scope: Scope) -> BoxFuture<'static, ()> {
        let through = match scope {
            Scope::Writes => token.sequence,
            // No push suffices.
            Scope::State => u64::MAX,
        };
        self.shared.replica.local.write_acks.wait_to_hold(token.incarnation, through)
    }

    fn seek(&self, token: &Token) {
        let links = self.shared.replica.peers.links();
        for link in links.iter().filter(|link| link.incarnation == token.incarnation) {
            link.session.lock().want_sync(Instant::now());
            link.queue.wake();
        }
    }
}
