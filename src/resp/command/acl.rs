//! `ACL`: the users and their rights. They come from a file; nothing here changes them.

use std::fmt::Write as _;
use std::sync::Arc;

use tracing_mutex::parkinglot::Mutex;

use super::categories::{CATEGORIES, is_in};
use super::context::{Context, DONE, Flow, Outcome, Wait, integer, is};
use super::entry::{Table, resolve};
use super::error::CommandError;
use super::introspect::explain;
use super::rights::{Denied, missing};
use super::table::WHOLE;
use crate::acl::Password;
use crate::cluster::Acknowledgements;
use crate::env::BoxFuture;
use crate::resp::call::Call;
use crate::resp::users::{Users, UsersError, off_workers};
use crate::resp::{Args, EMPTY_ARRAY};

/// The bits of a password of `ACL GENPASS`, and the most that can be asked for, as in Redis.
const PASSWORD_BITS: usize = 256;
const MAX_PASSWORD_BITS: usize = 4096;

pub(super) fn help(cx: &mut Context<'_>, _args: Args<'_>) -> Outcome {
    explain(
        cx,
        &[
            "ACL <subcommand> [<arg> [value] [opt] ...]. Subcommands are:",
            "CAT [<category>]",
            "    List all commands that belong to <category>, or all command categories",
            "    when no category is specified.",
            "DRYRUN <username> <command> [<arg> ...]",
            "    Returns whether the user can execute the given command without executing the command.",
            "GENPASS [<bits>]",
            "    Generate a secure 256-bit user password. The optional `bits` argument can",
            "    be used to specify a different size.",
            "GETUSER <username>",
            "    Get the user's details.",
            "LIST",
            "    Show users details in config file format.",
            "LOAD",
            "    Reload users from the file of --users-file.",
            "LOG [<count> | RESET]",
            "    Return an empty list: failed attempts are in the node's log.",
            "USERS",
            "    List all the registered usernames.",
            "WHOAMI",
            "    Return the current connection username.",
            "HELP",
            "    Prints this help.",
        ],
    )
}

pub(super) fn whoami(cx: &mut Context<'_>, _args: Args<'_>) -> Outcome {
    let name = Arc::clone(&cx.session.user().name);
    cx.reply().bulk(name.as_bytes());
    DONE
}

pub(super) fn users(cx: &mut Context<'_>, _args: Args<'_>) -> Outcome {
    let users = cx.shared.users.current().users;
    let mut reply = cx.reply();
    reply.array(users.users().len());
    users.users().for_each(|user| reply.bulk(user.name.as_bytes()));
    DONE
}

pub(super) fn list(cx: &mut Context<'_>, _args: Args<'_>) -> Outcome {
    let users = cx.shared.users.current().users;
    let mut reply = cx.reply();
    reply.array(users.users().len());
    users.users().for_each(|user| reply.bulk(user.line().as_bytes()));
    DONE
}

pub(super) fn getuser(cx: &mut Context<'_>, args: Args<'_>) -> Outcome {
    let users = cx.shared.users.current().users;
    let mut reply = cx.reply();
    let Some(user) = users.user(&args[2]) else {
        reply.null();
        return DONE;
    };
    reply.map(6);
    reply.bulk(b"flags");
    let flags = [Some(if user.is_on { "on" } else { "off" }), user.needs_no_password.then_some("nopass")];
    reply.set(flags.iter().flatten().count());
    flags.iter().flatten().for_each(|flag| reply.bulk(flag.as_bytes()));
    reply.bulk(b"passwords");
    let passwords: Vec<String> = user.passwords.iter().filter_map(Password::rule).collect();
    reply.array(passwords.len());
    // As in Redis, a SHA-256 is shown without the `#` that it has in a rule.
    passwords.iter().for_each(|hash| reply.bulk(hash.trim_start_matches('#').as_bytes()));
    for (name, value) in [("commands", user.commands()), ("keys", user.keys()), ("channels", user.channels())]
    {
        reply.bulk(name.as_bytes());
        reply.bulk(value.as_bytes());
    }
    reply.bulk(b"selectors");
    reply.raw(EMPTY_ARRAY);
    DONE
}

pub(super) fn log(cx: &mut Context<'_>, args: Args<'_>) -> Outcome {
    match args.get(2) {
        _ if args.len() > 3 => return Err(CommandError::Arity("acl|log")),
        Some(word) if is(word, "reset") => cx.reply().ok(),
        _ => cx.reply().raw(EMPTY_ARRAY),
    }
    DONE
}

pub(super) fn cat(cx: &mut Context<'_>, args: Args<'_>) -> Outcome {
    let names: Vec<&str> = match args.get(2) {
        _ if args.len() > 3 => return Err(CommandError::Arity("acl|cat")),
        None => CATEGORIES.to_vec(),
        Some(wanted) => {
            let Some(category) = CATEGORIES.iter().find(|category| is(wanted, category)) else {
                let wanted = shown(wanted);
                return Err(CommandError::said(format!("ERR Unknown category '{wanted}'")));
            };
            WHOLE.all().filter(|command| is_in(command, category)).map(|command| command.name).collect()
        }
    };
    let mut reply = cx.reply();
    reply.array(names.len());
    names.iter().for_each(|name| reply.bulk(name.as_bytes()));
    DONE
}

pub(super) fn dryrun(cx: &mut Context<'_>, args: Args<'_>, table: &Table) -> Outcome {
    let users = cx.shared.users.current().users;
    let (name, request) = (&args[2], args.tail(3));
    let user = users
        .user(name)
        .ok_or_else(|| CommandError::said(format!("ERR User '{}' not found", shown(name))))?;
    let index = (table.find)(&request[0])
        .ok_or_else(|| CommandError::said(format!("ERR Command '{}' not found", shown(&request[0]))))?;
    let (command, call) = resolve(&table.commands[index], Call::of(index), request)?;
    let user_name = &user.name;
    let text = match missing(user, command, call, request) {
        None => {
            cx.reply().ok();
            return DONE;
        }
        Some(Denied::Command) => {
            format!("User {user_name} has no permissions to run the '{}' command", command.name)
        }
        Some(Denied::Key(key)) => {
            format!("User {user_name} has no permissions to access the '{}' key", shown(key))
        }
        Some(Denied::Channel(channel)) => {
            format!("User {user_name} has no permissions to access the '{}' channel", shown(channel))
        }
    };
    cx.reply().bulk(text.as_bytes());
    DONE
}

/// An argument for an error, shortened.
fn shown(arg: &[u8]) -> String {
    String::from_utf8_lossy(&arg[..arg.len().min(128)]).into_owned()
}

pub(super) fn genpass(cx: &mut Context<'_>, args: Args<'_>) -> Outcome {
    let bits = match args.get(2) {
        _ if args.len() > 3 => return Err(CommandError::Arity("acl|genpass")),
        None => Some(PASSWORD_BITS),
        Some(bits) => usize::try_from(integer(bits)?).ok(),
    };
    let bits = bits.filter(|bits| (1..=MAX_PASSWORD_BITS).contains(bits)).ok_or_else(|| {
        CommandError::said(format!(
            "ERR ACL GENPASS argument must be the number of bits for the output password, a positive number up to \
             {MAX_PASSWORD_BITS}"
        ))
    })?;
    let digits = bits.div_ceil(4);
    let mut password = String::with_capacity(digits + 16);
    while password.len() < digits {
        write!(password, "{:016x}", cx.shared.env.random()).expect("a string takes all that is written");
    }
    cx.reply().bulk(&password.as_bytes()[..digits]);
    DONE
}

/// `ACL LOAD`: replies once the file was read.
pub(super) fn load(cx: &mut Context<'_>, _args: Args<'_>) -> Outcome {
    if cx.shared.users.path().is_none() {
        return Err(CommandError::said(format!("ERR {}", UsersError::NoFile)));
    }
    cx.audit("ACL LOAD", None);
    let users = Arc::clone(&cx.shared.users);
    Ok(Flow::Wait(Box::new(Loading { users, outcome: Arc::default() }), None))
}

struct Loading {
    users: Arc<Users>,
    outcome: Arc<Mutex<Option<Result<usize, UsersError>>>>,
}

impl Wait for Loading {
    fn try_reply(&mut self, cx: &mut Context<'_>, last: bool) -> Result<bool, CommandError> {
        match self.outcome.lock().take() {
            Some(Ok(_)) => {
                cx.reply().ok();
                Ok(true)
            }
            Some(Err(error)) => {
                Err(CommandError::said(format!("ERR the users stay as they are: {error}").replace('\n', " ")))
            }
            None if last => Err(CommandError::said("ERR the node stops")),
            None => Ok(false),
        }
    }

    fn changed(&self, _cluster: &dyn Acknowledgements) -> BoxFuture<'static, ()> {
        let (users, outcome) = (Arc::clone(&self.users), Arc::clone(&self.outcome));
        Box::pin(async move {
            off_workers(move || *outcome.lock() = Some(users.reload())).await;
        })
    }
}
