//! The checks of a user's rights: before a request is executed or queued, and of connections after a reload.

use std::sync::atomic::{Ordering, fence};

use super::context::{Context, Dispatch, Flow, Long, Outcome, Progress, begin};
use super::entry::{Command, NO_AUTH, resolve};
use super::error::CommandError;
use super::table::{TABLE, WHOLE, slot};
use super::{specs, watch};
use crate::acl::{KeyUse, User};
use crate::resp::Args;
use crate::resp::args::OwnedArgs;
use crate::resp::call::Call;
use crate::resp::clients::Client;
use crate::resp::session::Session;
use crate::resp::shared::Shared;
use crate::resp::users::Table as UserTable;
use crate::time_slice::TimeSlice;

/// Most arguments that are checked at once, which takes less than one step's time.
pub(super) const AT_ONCE: usize = 2048;

/// What a user lacks for a request.
pub(super) enum Denied<'a> {
    Command,
    Key(&'a [u8]),
    Channel(&'a [u8]),
}

/// Checks a request of a session whose rights are limited.
#[cold]
#[inline(never)]
pub(super) fn check(
    cx: &Context<'_>,
    args: Args<'_>,
    command: &Command,
    call: Call,
) -> Result<(), CommandError> {
    check_command(cx, command, call)?;
    if cx.session.are_rights_checked {
        return Ok(());
    }
    match names(command, args).find_map(|name| name.denied(cx.session.user())) {
        None => Ok(()),
        Some(denied) => Err(refuse(cx, &denied, command)),
    }
}

fn check_command(cx: &Context<'_>, command: &Command, call: Call) -> Result<(), CommandError> {
    if command.flags.has(NO_AUTH) {
        return Ok(());
    }
    if !cx.session.is_authenticated() {
        return Err(CommandError::NoAuth);
    }
    if !cx.session.user().rights.may_run(slot(call)) {
        return Err(refuse(cx, &Denied::Command, command));
    }
    Ok(())
}

/// Counts a refusal, and returns its error.
fn refuse(cx: &Context<'_>, denied: &Denied<'_>, command: &Command) -> CommandError {
    let counters = &cx.shared.stats.denied;
    let (counter, text) = match denied {
        Denied::Command => {
            let user = &cx.session.user().name;
            let text = format!("NOPERM User {user} has no permissions to run the '{}' command", command.name);
            (&counters.commands, text)
        }
        Denied::Key(_) => (&counters.keys, "NOPERM No permissions to access a key".into()),
        Denied::Channel(_) => (&counters.channels, "NOPERM No permissions to access a channel".into()),
    };
    counter.fetch_add(1, Ordering::Relaxed);
    CommandError::said(text)
}

/// What a user lacks for a request, if anything: for `ACL DRYRUN`.
pub(super) fn missing<'a>(user: &User, command: &Command, call: Call, args: Args<'a>) -> Option<Denied<'a>> {
    if !command.flags.has(NO_AUTH) && !user.rights.may_run(slot(call)) {
        return Some(Denied::Command);
    }
    names(command, args).find_map(|name| name.denied(user))
}

/// A key or channel of a request.
enum Name<'a> {
    Key(&'a [u8], KeyUse),
    Prefix(&'a [u8]),
    Channel(&'a [u8]),
    ChannelPattern(&'a [u8]),
}

impl<'a> Name<'a> {
    fn denied(self, user: &User) -> Option<Denied<'a>> {
        let rights = &user.rights;
        match self {
            Name::Key(key, key_use) => (!rights.may_use(key, key_use)).then_some(Denied::Key(key)),
            Name::Prefix(prefix) => (!rights.may_read_all_under(prefix)).then_some(Denied::Key(prefix)),
            Name::Channel(channel) => (!rights.may_use_channel(channel)).then_some(Denied::Channel(channel)),
            Name::ChannelPattern(pattern) => {
                (!rights.may_use_channel_pattern(pattern)).then_some(Denied::Channel(pattern))
            }
        }
    }
}

/// The keys and channels of a request, from the `skip`th on.
fn names_after<'a>(command: &Command, args: Args<'a>, skip: usize) -> impl Iterator<Item = Name<'a>> {
    let uses = specs::key_uses(command, args);
    let keys = command.keys.places(args).enumerate().skip(skip);
    let keys = keys.filter_map(move |(n, place)| Some(Name::Key(args.get(place)?, uses[n.min(1)])));
    let channels = match command.name {
        "publish" => args.tail(1).head(1),
        "subscribe" | "psubscribe" => args.tail(1),
        _ => args.tail(args.len()),
    };
    let are_patterns = command.name == "psubscribe";
    let channels = channels.into_iter().skip(skip).map(move |channel| {
        if are_patterns { Name::ChannelPattern(channel) } else { Name::Channel(channel) }
    });
    let prefixes = if command.name == "sapwood|watch" { watch::prefixes(args) } else { Vec::new() };
    keys.chain(channels).chain(prefixes.into_iter().skip(skip).map(Name::Prefix))
}

fn names<'a>(command: &Command, args: Args<'a>) -> impl Iterator<Item = Name<'a>> {
    names_after(command, args, 0)
}

/// Checks a request of many arguments in steps, and then executes it by `then`.
pub(super) fn check_in_steps(cx: &mut Context<'_>, args: Args<'_>, index: usize, then: Dispatch) -> Outcome {
    let resolved = resolve(&TABLE[index], Call::of(index), args);
    let checked = resolved.and_then(|(command, call)| check_command(cx, command, call).map(|()| command));
    let command = checked.inspect_err(|_| break_off(cx))?;
    let generation = cx.session.generation();
    begin(cx, Checking { args: args.to_owned(), command, index, generation, at: 0, then, running: None })
}

/// Has `EXEC` fail, if this is a transaction.
fn break_off(cx: &mut Context<'_>) {
    if let Some(queue) = &mut cx.session.queue {
        queue.break_off();
    }
}

/// A request whose rights are being checked.
struct Checking {
    args: OwnedArgs,
    command: &'static Command,
    index: usize,
    /// The users that its rights are checked with.
    generation: u64,
    /// How many names are checked.
    at: usize,
    then: Dispatch,
    /// The rest of the request, once it has begun.
    running: Option<Box<dyn Long>>,
}

impl Long for Checking {
    fn step(&mut self, cx: &mut Context<'_>) -> Result<Progress, CommandError> {
        const AT_ONCE: usize = 256;
        if let Some(running) = &mut self.running {
            return running.step(cx);
        }
        if self.generation != cx.session.generation() {
            (self.generation, self.at) = (cx.session.generation(), 0);
        }
        let (time, args) = (TimeSlice::begin(), self.args.as_args());
        loop {
            let mut checked = 0;
            for name in names_after(self.command, args, self.at).take(AT_ONCE) {
                checked += 1;
                if let Some(denied) = name.denied(cx.session.user()) {
                    let error = refuse(cx, &denied, self.command);
                    break_off(cx);
                    return Err(error);
                }
            }
            self.at += checked;
            if checked < AT_ONCE {
                break;
            }
            if time.is_over() {
                return Ok(Progress::More);
            }
        }
        let were_checked = std::mem::replace(&mut cx.session.are_rights_checked, true);
        let outcome = (self.then)(cx, args, self.index);
        cx.session.are_rights_checked = were_checked;
        match outcome? {
            Flow::Continue | Flow::Close => Ok(Progress::Done),
            Flow::Wait(mut wait, _) => wait.try_reply(cx, true).map(|_| Progress::Done),
            Flow::Long(long) => {
                self.running = Some(long);
                Ok(Progress::More)
            }
        }
    }
}

/// Gives a session the rights of its user anew if users were reloaded; ends its connection if it may not stay. The
/// session has no rights then.
pub(in crate::resp) fn renew(session: &mut Session, shared: &Shared) {
    if session.generation() == shared.users.generation() {
        return;
    }
    let table = shared.users.current();
    let login = session.client.login();
    if session.is_authenticated() && !may_stay(&session.client, &table) {
        session.log_out(&table);
        session.client.kill.cancel();
        return;
    }
    match table.users.user(login.user.name.as_bytes()) {
        Some(user) if session.is_authenticated() && !login.is_anonymous => {
            session.log_in(user.clone(), table.generation);
        }
        _ => session.begin_anonymous(&table),
    }
}

/// As [`renew`], for a session whose client may receive something while it sends no requests. A reload looks for such
/// clients after it has raised the generation, so one of both finds the other.
pub(in crate::resp) fn renew_listener(session: &mut Session, shared: &Shared) {
    fence(Ordering::SeqCst);
    renew(session, shared);
}

/// Closes the connections that may not stay after a reload, also those that send no requests.
pub(in crate::resp) fn close_unwelcome(shared: &Shared) {
    fence(Ordering::SeqCst);
    let table = shared.users.current();
    let unwelcome = shared
        .clients
        .all()
        .into_iter()
        .filter(|client| client.login().is_authenticated && !may_stay(client, &table));
    let closed = unwelcome.map(|client| client.kill.cancel()).count();
    if closed > 0 {
        tracing::info!(connections = closed, "connections were closed: their users have changed");
    }
}

/// Whether the user of an authenticated client is there still, and may receive what the client listens to.
fn may_stay(client: &Client, users: &UserTable) -> bool {
    let login = client.login();
    let Some(user) = users.users.user(login.user.name.as_bytes()) else { return false };
    let (before, now) = (&login.user.rights, &user.rights);
    let may_run = |name: &str| {
        let number = WHOLE.all().position(|command| command.name == name);
        number.is_some_and(|number| now.may_run(number))
    };
    let is_set = |flag: &std::sync::atomic::AtomicBool| flag.load(Ordering::Relaxed);
    user.is_on
        && (!login.is_anonymous || user.is_open())
        && (!client.is_subscriber() || now.keep_channels_of(before))
        && (!is_set(&client.watches) || may_run("sapwood|watch") && now.keep_keys_of(before))
        && (!is_set(&client.monitors) || may_run("monitor"))
        && (!is_set(&client.reads_events) || may_run("sapwood|events"))
}
