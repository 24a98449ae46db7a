//! Commands about the connection itself.

use std::sync::atomic::Ordering::Relaxed;

use super::client::label;
use super::context::{Context, DONE, Flow, Long, Outcome, Progress, Wait, begin, integer, is};
use super::error::CommandError;
use super::info::REDIS_VERSION;
use crate::acl::DEFAULT_USER;
use crate::cluster::Acknowledgements;
use crate::env::BoxFuture;
use crate::model::Database;
use crate::resp::session::Replies;
use crate::resp::users::{Check, Login};
use crate::resp::{Args, EMPTY_ARRAY, PONG, Proto};
use crate::time_slice::TimeSlice;

pub(super) fn ping(cx: &mut Context<'_>, args: Args<'_>) -> Outcome {
    match args.get(1) {
        Some(_) if args.len() > 2 => return Err(CommandError::Arity("ping")),
        text if cx.session.is_subscribed() => {
            let mut reply = cx.reply();
            reply.array(2);
            reply.bulk(b"pong");
            reply.bulk(text.unwrap_or_default());
        }
        None => cx.reply().raw(PONG),
        Some(text) => cx.reply().bulk(text),
    }
    DONE
}

pub(super) fn echo(cx: &mut Context<'_>, args: Args<'_>) -> Outcome {
    cx.reply().bulk(&args[1]);
    DONE
}

pub(super) fn quit(cx: &mut Context<'_>, _args: Args<'_>) -> Outcome {
    cx.reply().ok();
    Ok(Flow::Close)
}

pub(super) fn select(cx: &mut Context<'_>, args: Args<'_>) -> Outcome {
    let database = cx.database(&args[1])?;
    cx.select(database);
    cx.reply().ok();
    DONE
}

pub(super) fn auth(cx: &mut Context<'_>, args: Args<'_>) -> Outcome {
    cx.session.has_read_password = true;
    match args.len() {
        2 if cx.shared.users.current().users.default_user().needs_no_password => {
            const TEXT: &str = "ERR AUTH <password> called without any password configured for the default \
                                user. Are you sure your configuration is correct?";
            Err(CommandError::said(TEXT))
        }
        2 => authenticate(cx, DEFAULT_USER.as_bytes(), &args[1], Then::Auth),
        3 => authenticate(cx, &args[1], &args[2], Then::Auth),
        _ => Err(CommandError::Syntax),
    }
}

/// What is done once a login has been right.
enum Then {
    Auth,
    Hello { proto: Proto, name: Option<String> },
}

impl Then {
    fn reply(&mut self, cx: &mut Context<'_>) {
        match self {
            Then::Auth => cx.reply().ok(),
            Then::Hello { proto, name } => greet(cx, *proto, name.take()),
        }
    }
}

/// Logs a client in, at once or after a slow hash was computed.
fn authenticate(cx: &mut Context<'_>, user: &[u8], password: &[u8], mut then: Then) -> Outcome {
    match cx.shared.users.check(user, password) {
        Check::Right(user, generation) => {
            cx.session.log_in(user, generation);
            then.reply(cx);
            DONE
        }
        Check::Wrong => Err(wrong_password(cx)),
        Check::Busy => Err(CommandError::said(
            "ERR too many logins are being checked: try again in a second, or keep connections open",
        )),
        Check::Started(login) => Ok(Flow::Wait(Box::new(LoggingIn { login, then }), None)),
    }
}

fn wrong_password(cx: &Context<'_>) -> CommandError {
    cx.shared.stats.denied.logins.fetch_add(1, Relaxed);
    cx.shared.audit.failed_auth(&cx.session.client);
    CommandError::WrongPassword
}

/// `AUTH` or `HELLO` that waits for a slow hash.
struct LoggingIn {
    login: Login,
    then: Then,
}

impl Wait for LoggingIn {
    fn try_reply(&mut self, cx: &mut Context<'_>, last: bool) -> Result<bool, CommandError> {
        match self.login.outcome() {
            Some(Some((user, generation))) => {
                cx.session.log_in(user, generation);
                self.then.reply(cx);
                Ok(true)
            }
            Some(None) => Err(wrong_password(cx)),
            None if last => Err(CommandError::said("ERR the node stops: log in at another one")),
            None => Ok(false),
        }
    }

    fn changed(&self, _cluster: &dyn Acknowledgements) -> BoxFuture<'static, ()> {
        Box::pin(self.login.run())
    }
}

pub(super) fn hello(cx: &mut Context<'_>, args: Args<'_>) -> Outcome {
    let proto = match args.get(1) {
        None => cx.session.proto,
        Some(version) => match integer(version) {
            Ok(2) => Proto::Resp2,
            Ok(3) => Proto::Resp3,
            Ok(_) => return Err(CommandError::said("NOPROTO unsupported protocol version")),
            Err(_) => {
                return Err(CommandError::said("ERR Protocol version is not an integer or out of range"));
            }
        },
    };
    let (mut credentials, mut name, mut at) = (None, None, 2);
    while let Some(word) = args.get(at) {
        match (args.get(at + 1), args.get(at + 2)) {
            (Some(user), Some(password)) if is(word, "auth") => {
                credentials = Some((user, password));
                at += 3;
            }
            (Some(value), _) if is(word, "setname") => {
                name = Some(label(value, "Client names")?);
                at += 2;
            }
            _ => {
                let word = String::from_utf8_lossy(word);
                return Err(CommandError::said(format!("ERR Syntax error in HELLO option '{word}'")));
            }
        }
    }
    if let Some((user, password)) = credentials {
        cx.session.has_read_password = true;
        return authenticate(cx, user, password, Then::Hello { proto, name });
    }
    if !cx.session.is_authenticated() {
        const TEXT: &str = "NOAUTH HELLO must be called with the client already authenticated, otherwise the \
                            HELLO <proto> AUTH <user> <pass> option can be used to authenticate the client \
                            and select the RESP protocol version at the same time";
        return Err(CommandError::said(TEXT));
    }
    greet(cx, proto, name);
    DONE
}

/// Applies the arguments of `HELLO`, and replies with what the node is.
fn greet(cx: &mut Context<'_>, proto: Proto, name: Option<String>) {
    if let Some(name) = name {
        cx.session.client.labels().name = name;
    }
    set_proto(cx, proto);
    let id = cx.session.client.id;
    let mut reply = cx.reply();
    reply.map(7);
    // The Redis whose commands are meant: redis-py refuses its cache to servers of other names.
    for (key, value) in [("server", "redis"), ("version", REDIS_VERSION)] {
        reply.bulk(key.as_bytes());
        reply.bulk(value.as_bytes());
    }
    reply.bulk(b"proto");
    reply.int(if proto == Proto::Resp3 { 3 } else { 2 });
    reply.bulk(b"id");
    reply.int(i64::try_from(id).unwrap_or(i64::MAX));
    for (key, value) in [("mode", "standalone"), ("role", "master")] {
        reply.bulk(key.as_bytes());
        reply.bulk(value.as_bytes());
    }
    reply.bulk(b"modules");
    reply.raw(EMPTY_ARRAY);
}

fn set_proto(cx: &mut Context<'_>, proto: Proto) {
    cx.session.client.outbox.switch(proto, cx.out);
    cx.keep();
    cx.session.proto = proto;
    cx.session.client.resp3.store(proto == Proto::Resp3, Relaxed);
}

pub(super) fn reset(cx: &mut Context<'_>, _args: Args<'_>) -> Outcome {
    begin(cx, Reset)
}

/// `RESET`: first ends the subscriptions, of which there may be many.
struct Reset;

impl Long for Reset {
    fn step(&mut self, cx: &mut Context<'_>) -> Result<Progress, CommandError> {
        if !cx.session.unsubscribe(cx.shared, &TimeSlice::begin()) {
            return Ok(Progress::More);
        }
        cx.session.stop_monitoring(cx.shared);
        cx.session.stop_events(cx.shared);
        cx.session.stop_tracking(cx.shared);
        cx.session.watch(None);
        cx.session.end_transaction();
        cx.select(Database::ZERO);
        set_proto(cx, Proto::Resp2);
        cx.session.replies = Replies::On;
        cx.session.read_untouched(false);
        cx.session.begin_anonymous(&cx.shared.users.current());
        cx.session.client.labels().name.clear();
        cx.reply().simple("RESET");
        Ok(Progress::Done)
    }
}
