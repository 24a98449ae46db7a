//! `WAIT`, `SAPWOOD WAITFOR` and `SAPWOOD READY`: wait for write acknowledgements, or for what a token covers.

use std::time::Duration;

use tokio::time::Instant;

use super::context::{Context, DONE, Flow, Outcome, Wait, integer, is};
use super::error::CommandError;
use crate::cluster::{Acknowledgements, Scope, Token, TokenError};
use crate::env::BoxFuture;
use crate::model::counter::strict_number;
use crate::resp::Args;

/// Longer waits count as this one; timers do not reach further than some years.
const LONGEST: Duration = Duration::from_secs(365 * 24 * 3600);

/// Most names in one `SAPWOOD WAITFOR`: more than there can be peers.
const MAX_NAMES: usize = 1024;

/// The time `millis` from now; `None` for no limit.
fn deadline(millis: &[u8]) -> Result<Option<Instant>, CommandError> {
    let millis: i64 =
        strict_number(millis).ok_or(CommandError::said("ERR timeout is not an integer or out of range"))?;
    let millis = u64::try_from(millis).map_err(|_| CommandError::said("ERR timeout is negative"))?;
    let timeout = Duration::from_millis(millis);
    Ok((millis > 0 && timeout < LONGEST).then(|| Instant::now() + timeout))
}

/// `WAIT`.
struct ForSome {
    through: u64,
    wanted: i64,
}

pub(super) fn wait(cx: &mut Context<'_>, args: Args<'_>) -> Outcome {
    let wanted = integer(&args[1])?;
    let deadline = deadline(&args[2])?;
    let through = cx.publish();
    Ok(Flow::Wait(Box::new(ForSome { through, wanted }), deadline))
}

impl Wait for ForSome {
    fn try_reply(&mut self, cx: &mut Context<'_>, last: bool) -> Result<bool, CommandError> {
        let held = i64::try_from(cx.shared.cluster.acknowledged_by(self.through).len()).unwrap_or(i64::MAX);
        let replies = last || self.through == 0 || held >= self.wanted;
        if replies {
            cx.reply().int(held);
        }
        Ok(replies)
    }

    fn changed(&self, cluster: &dyn Acknowledgements) -> BoxFuture<'static, ()> {
        cluster.more_acknowledged(self.through)
    }
}

/// `SAPWOOD WAITFOR`.
struct ForNames {
    through: u64,
    names: Vec<String>,
    /// This node's own name, which counts at once: it holds its own writes.
    own: String,
}

pub(super) fn waitfor(cx: &mut Context<'_>, args: Args<'_>) -> Outcome {
    let deadline = deadline(&args[3])?;
    let own = cx.shared.settings.name.clone();
    let peers = cx.shared.cluster.peers();
    let mut names = Vec::new();
    for name in args[2].split(|&byte| byte == b',').take(MAX_NAMES) {
        let name = String::from_utf8_lossy(name).into_owned();
        if name != own && !peers.iter().any(|peer| peer.name == name) {
            return Err(CommandError::said(format!("ERR no member is named {name:?}: see SAPWOOD PEERS")));
        }
        if !names.contains(&name) {
            names.push(name);
        }
    }
    let through = cx.publish();
    Ok(Flow::Wait(Box::new(ForNames { through, names, own }), deadline))
}

impl Wait for ForNames {
    fn try_reply(&mut self, cx: &mut Context<'_>, last: bool) -> Result<bool, CommandError> {
        let peers = cx.shared.cluster.acknowledged_by(self.through);
        let holding = self.names.iter().filter(|name| **name == self.own || peers.contains(name));
        let count = holding.clone().count();
        let replies = last || self.through == 0 || count == self.names.len();
        if replies {
            let mut reply = cx.reply();
            reply.array(count);
            holding.for_each(|name| reply.bulk(name.as_bytes()));
        }
        Ok(replies)
    }

    fn changed(&self, cluster: &dyn Acknowledgements) -> BoxFuture<'static, ()> {
        cluster.more_acknowledged(self.through)
    }
}

pub(super) fn token(cx: &mut Context<'_>, _args: Args<'_>) -> Outcome {
    cx.publish();
    let token = cx.shared.cluster.token();
    cx.reply().bulk(token.to_string().as_bytes());
    DONE
}

/// `SAPWOOD READY`.
struct ForToken {
    token: Token,
    scope: Scope,
}

pub(super) fn ready(cx: &mut Context<'_>, args: Args<'_>) -> Outcome {
    let token = str::from_utf8(&args[2]).map_err(|_| TokenError::Malformed).and_then(str::parse);
    let token: Token = token.map_err(|error| refused(&error))?;
    let deadline = deadline(&args[3])?;
    let scope = match args.get(4) {
        None => Scope::Writes,
        Some(word) if args.len() == 5 && is(word, "STATE") => Scope::State,
        Some(_) => return Err(CommandError::Syntax),
    };
    let cluster = &cx.shared.cluster;
    if scope == Scope::State && !cluster.is_ready(&token, scope).map_err(|error| refused(&error))? {
        cluster.seek(&token);
    }
    Ok(Flow::Wait(Box::new(ForToken { token, scope }), deadline))
}

fn refused(error: &TokenError) -> CommandError {
    CommandError::said(format!("ERR {error}"))
}

impl Wait for ForToken {
    fn try_reply(&mut self, cx: &mut Context<'_>, last: bool) -> Result<bool, CommandError> {
        let ready = cx.shared.cluster.is_ready(&self.token, self.scope).map_err(|error| refused(&error))?;
        let replies = last || ready;
        if replies {
            cx.reply().int(i64::from(ready));
        }
        Ok(replies)
    }

    fn changed(&self, cluster: &dyn Acknowledgements) -> BoxFuture<'static, ()> {
        cluster.readiness_changed(&self.token, self.scope)
    }
}
