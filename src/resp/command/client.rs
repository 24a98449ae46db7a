//! `CLIENT`: this connection and the others.

use std::collections::BTreeSet;
use std::sync::Arc;

use super::context::{Context, DONE, Flow, Long, Outcome, Progress, begin, integer, is};
use super::entry::Table;
use super::error::CommandError;
use super::introspect::explain;
use crate::model::Time;
use crate::resp::Args;
use crate::resp::clients::Client;
use crate::resp::session::Replies;
use crate::time_slice::TimeSlice;

const HELP: &[&str] = &[
    "CLIENT <subcommand> [<arg> [value] [opt] ...]. Subcommands are:",
    "GETNAME",
    "    Return the name of the current connection.",
    "ID",
    "    Return the ID of the current connection.",
    "INFO",
    "    Return information about the current client connection.",
    "CACHING (YES|NO)",
    "    Enable/disable tracking of the keys for next command in OPTIN/OPTOUT modes.",
    "GETREDIR",
    "    Return 0 while this connection tracks keys, -1 otherwise.",
    "KILL <ip:port>",
    "    Kill connection made from <ip:port>.",
    "KILL <option> <value> [<option> <value> [...]]",
    "    Kill connections. Options are:",
    "    * ADDR (<ip:port>|<unixsocket>:0)",
    "      Kill connections made from the specified address",
    "    * LADDR (<ip:port>|<unixsocket>:0)",
    "      Kill connections made to specified local address",
    "    * TYPE (NORMAL|MASTER|REPLICA|PUBSUB)",
    "      Kill connections by type.",
    "    * USER <username>",
    "      Kill connections authenticated by <username>.",
    "    * MAXAGE <maxage>",
    "      Kill connections older than the specified age (in seconds).",
    "    * SKIPME (YES|NO)",
    "      Skip killing current connection (default: yes).",
    "LIST [options ...]",
    "    Return information about client connections. Options:",
    "    * TYPE (NORMAL|MASTER|REPLICA|PUBSUB)",
    "      Return clients of specified type.",
    "    * ID <client-id> [<client-id> [...]]",
    "      Return clients of the specified ids.",
    "REPLY (ON|OFF|SKIP)",
    "    Control the replies sent to the current connection.",
    "SETNAME <name>",
    "    Assign the name <name> to the current connection.",
    "SETINFO <option> <value>",
    "    Set client meta attr. Options are LIB-NAME and LIB-VER.",
    "NO-EVICT (ON|OFF)",
    "    Accepted: no connection is ever evicted here.",
    "NO-TOUCH (ON|OFF)",
    "    Accepted: reading a key changes nothing here.",
    "TRACKING (ON|OFF) [BCAST] [PREFIX prefix [...]] [OPTIN] [OPTOUT]",
    "    Control server assisted client side caching.",
    "TRACKINGINFO",
    "    Report tracking status for the current connection.",
    "HELP",
    "    Print this help.",
];

/// The longest name, library or version that a client may set, in bytes.
const MAX_LABEL: usize = 256;

pub(super) fn help(cx: &mut Context<'_>, _args: Args<'_>) -> Outcome {
    explain(cx, HELP)
}

pub(super) fn id(cx: &mut Context<'_>, _args: Args<'_>) -> Outcome {
    let id = cx.session.client.id;
    cx.reply().int(i64::try_from(id).unwrap_or(i64::MAX));
    DONE
}

pub(super) fn getname(cx: &mut Context<'_>, _args: Args<'_>) -> Outcome {
    let name = cx.session.client.labels().name.clone();
    if name.is_empty() {
        cx.reply().null();
    } else {
        cx.reply().bulk(name.as_bytes());
    }
    DONE
}

pub(super) fn setname(cx: &mut Context<'_>, args: Args<'_>) -> Outcome {
    let name = label(&args[2], "Client names")?;
    cx.session.client.labels().name = name;
    cx.reply().ok();
    DONE
}

pub(super) fn setinfo(cx: &mut Context<'_>, args: Args<'_>) -> Outcome {
    let (option, value) = (&args[2], &args[3]);
    if is(option, "lib-name") {
        let value = label(value, "lib-name")?;
        cx.session.client.labels().lib_name = value;
    } else if is(option, "lib-ver") {
        let value = label(value, "lib-ver")?;
        cx.session.client.labels().lib_version = value;
    } else {
        let option = String::from_utf8_lossy(option);
        return Err(CommandError::said(format!("ERR Unrecognized option '{option}'")));
    }
    cx.reply().ok();
    DONE
}

/// Returns `value` as text if it has no characters that would break a line of `CLIENT LIST`.
pub(super) fn label(value: &[u8], what: &str) -> Result<String, CommandError> {
    if value.len() > MAX_LABEL {
        return Err(CommandError::said(format!("ERR {what} cannot be longer than {MAX_LABEL} bytes.")));
    }
    if !value.iter().all(u8::is_ascii_graphic) {
        let text = format!("ERR {what} cannot contain spaces, newlines or special characters.");
        return Err(CommandError::said(text));
    }
    Ok(String::from_utf8_lossy(value).into_owned())
}

/// Does nothing: no connection is ever evicted.
pub(super) fn no_evict(cx: &mut Context<'_>, args: Args<'_>) -> Outcome {
    is_on(&args[2])?;
    cx.reply().ok();
    DONE
}

/// From the next command on.
pub(super) fn no_touch(cx: &mut Context<'_>, args: Args<'_>) -> Outcome {
    cx.session.read_untouched(is_on(&args[2])?);
    cx.reply().ok();
    DONE
}

fn is_on(arg: &[u8]) -> Result<bool, CommandError> {
    let is_on = is(arg, "on");
    if is_on || is(arg, "off") { Ok(is_on) } else { Err(CommandError::Syntax) }
}

pub(super) fn reply(cx: &mut Context<'_>, args: Args<'_>) -> Outcome {
    let mode = &args[2];
    if is(mode, "on") {
        cx.session.replies = Replies::On;
        cx.reply().ok();
    } else if is(mode, "off") {
        cx.session.replies = Replies::Off;
    } else if !is(mode, "skip") {
        return Err(CommandError::Syntax);
    } else if cx.session.replies != Replies::Off {
        cx.session.replies = Replies::SkipNext;
    }
    DONE
}

pub(super) fn info(cx: &mut Context<'_>, _args: Args<'_>, table: &Table) -> Outcome {
    let mut text = String::new();
    cx.session.client.note(cx.now(), cx.session.call);
    describe(cx, &cx.session.client, table, &mut text);
    cx.reply().verbatim("txt", &text);
    DONE
}

pub(super) fn list(cx: &mut Context<'_>, args: Args<'_>, table: &Table) -> Outcome {
    cx.session.client.note(cx.now(), cx.session.call);
    let mut clients = cx.shared.clients.all();
    match args.get(2) {
        None => {}
        Some(word) if is(word, "type") && args.len() == 4 => {
            let kind = kind(&args[3])?;
            clients.retain(|client| kind.holds(client));
        }
        Some(word) if is(word, "id") && args.len() > 3 => {
            let ids = args.tail(3).iter().map(|id| integer(id).ok().and_then(|id| u64::try_from(id).ok()));
            let ids: Option<BTreeSet<u64>> = ids.collect();
            let ids = ids.ok_or(CommandError::said("ERR Invalid client ID"))?;
            clients.retain(|client| ids.contains(&client.id));
        }
        Some(_) => return Err(CommandError::Syntax),
    }
    begin(cx, List { clients: clients.into_iter(), table: *table, text: String::new() })
}

/// `CLIENT LIST`.
struct List {
    /// The clients not yet described.
    clients: std::vec::IntoIter<Arc<Client>>,
    table: Table,
    text: String,
}

impl Long for List {
    fn step(&mut self, cx: &mut Context<'_>) -> Result<Progress, CommandError> {
        let time = TimeSlice::begin();
        for client in self.clients.by_ref() {
            describe(cx, &client, &self.table, &mut self.text);
            if time.is_over() {
                return Ok(Progress::More);
            }
        }
        cx.reply().verbatim("txt", &self.text);
        Ok(Progress::Done)
    }
}

fn describe(cx: &Context<'_>, client: &Client, table: &Table, into: &mut String) {
    client.describe(cx.now(), table.name_of(client.last_call()), into);
}

/// Redis's types of connections.
#[derive(Clone, Copy)]
enum Kind {
    Normal,
    Subscriber,
    /// Connections of Redis replication, which do not exist here.
    Replication,
}

impl Kind {
    fn holds(self, client: &Client) -> bool {
        match self {
            Kind::Normal => !client.is_subscriber(),
            Kind::Subscriber => client.is_subscriber(),
            Kind::Replication => false,
        }
    }
}

fn kind(word: &[u8]) -> Result<Kind, CommandError> {
    if is(word, "normal") {
        return Ok(Kind::Normal);
    }
    if is(word, "pubsub") {
        return Ok(Kind::Subscriber);
    }
    if ["master", "replica", "slave"].iter().any(|other| is(word, other)) {
        return Ok(Kind::Replication);
    }
    let word = String::from_utf8_lossy(word);
    Err(CommandError::said(format!("ERR Unknown client type '{word}'")))
}

/// Selects the connections that `CLIENT KILL` ends.
#[derive(Default)]
struct Filter<'a> {
    id: Option<u64>,
    peer: Option<&'a [u8]>,
    local: Option<&'a [u8]>,
    kind: Option<Kind>,
    user: Option<&'a [u8]>,
    skip_me: bool,
    /// Only connections that are at least so many seconds old.
    min_age: u64,
}

impl<'a> Filter<'a> {
    fn parse(cx: &Context<'_>, args: Args<'a>) -> Result<Self, CommandError> {
        let mut filter = Filter { skip_me: true, ..Filter::default() };
        let mut at = 0;
        while let Some(word) = args.get(at) {
            let value = args.get(at + 1).ok_or(CommandError::Syntax)?;
            if is(word, "id") {
                let id = integer(value).ok().and_then(|id| u64::try_from(id).ok()).filter(|id| *id > 0);
                filter.id = Some(id.ok_or(CommandError::said("ERR client-id should be greater than 0"))?);
            } else if is(word, "addr") {
                filter.peer = Some(value);
            } else if is(word, "laddr") {
                filter.local = Some(value);
            } else if is(word, "type") {
                filter.kind = Some(kind(value)?);
            } else if is(word, "user") {
                if cx.shared.users.current().users.user(value).is_none() {
                    let user = String::from_utf8_lossy(&value[..value.len().min(128)]);
                    return Err(CommandError::said(format!("ERR No such user '{user}'")));
                }
                filter.user = Some(value);
            } else if is(word, "maxage") {
                let age = u64::try_from(integer(value)?).ok().filter(|age| *age > 0);
                filter.min_age = age.ok_or(CommandError::said("ERR maxage should be greater than 0"))?;
            } else if is(word, "skipme") && (is(value, "yes") || is(value, "no")) {
                filter.skip_me = is(value, "yes");
            } else {
                return Err(CommandError::Syntax);
            }
            at += 2;
        }
        Ok(filter)
    }

    fn holds(&self, client: &Client, now: Time) -> bool {
        let is_at = |wanted: Option<&[u8]>, address: std::net::SocketAddr| {
            wanted.is_none_or(|wanted| wanted == address.to_string().as_bytes())
        };
        self.kind.is_none_or(|kind| kind.holds(client))
            && client.age(now) >= self.min_age
            && self.user.is_none_or(|user| client.login().user.name.as_bytes() == user)
            && self.id.is_none_or(|id| id == client.id)
            && is_at(self.peer, client.peer)
            && is_at(self.local, client.local)
    }
}

pub(super) fn kill(cx: &mut Context<'_>, args: Args<'_>) -> Outcome {
    let old_form = args.len() == 3;
    let filter = if old_form {
        Filter { peer: args.get(2), ..Filter::default() }
    } else {
        Filter::parse(cx, args.tail(2))?
    };
    let mut clients = cx.shared.clients.all();
    let (own, now) = (cx.session.client.id, cx.now());
    clients.retain(|client| filter.holds(client, now) && !(filter.skip_me && client.id == own));
    let (mine, others): (Vec<Arc<Client>>, _) = clients.iter().cloned().partition(|client| client.id == own);
    others.iter().for_each(|client| client.kill.cancel());
    cx.audit("CLIENT KILL", Some(&format!("{} closed", clients.len())));
    match (old_form, clients.len()) {
        (true, 0) => return Err(CommandError::said("ERR No such client")),
        (true, _) => cx.reply().ok(),
        (false, killed) => cx.reply().int(i64::try_from(killed).unwrap_or(i64::MAX)),
    }
    Ok(if mine.is_empty() { Flow::Continue } else { Flow::Close })
}
