//! Publish and subscribe.
//!
//! The confirmations of these commands are messages, not replies: `CLIENT REPLY` does not suppress them.

use std::sync::Arc;

use super::context::{Context, DONE, Flow, Long, Outcome, Progress, begin};
use super::error::CommandError;
use super::introspect::explain;
use super::many::{self, Each};
use crate::resp::glob::MAX_PATTERN;
use crate::resp::hub::{Kind, MAX_CHANNEL, MAX_SUBSCRIPTION_BYTES, MAX_SUBSCRIPTIONS};
use crate::resp::publication::Publication;
use crate::resp::{Args, glob};
use crate::time_slice::TimeSlice;

const HELP: &[&str] = &[
    "PUBSUB <subcommand> [<arg> [value] [opt] ...]. Subcommands are:",
    "CHANNELS [<pattern>]",
    "    Return the currently active channels matching a <pattern> (default: '*').",
    "NUMPAT",
    "    Return number of subscriptions to patterns.",
    "NUMSUB [<channel> ...]",
    "    Return the number of subscribers for the specified channels, excluding",
    "    pattern subscriptions(default: no channels).",
    "HELP",
    "    Print this help.",
];

/// Most bytes of channels in one reply of `PUBSUB CHANNELS`.
const MAX_CHANNELS: usize = 64 << 20;

pub(super) fn subscribe(cx: &mut Context<'_>, args: Args<'_>) -> Outcome {
    join(cx, args, Kind::Channel, b"subscribe")
}

pub(super) fn psubscribe(cx: &mut Context<'_>, args: Args<'_>) -> Outcome {
    join(cx, args, Kind::Pattern, b"psubscribe")
}

fn join(cx: &mut Context<'_>, args: Args<'_>, kind: Kind, word: &'static [u8]) -> Outcome {
    check(cx, args.tail(1), kind)?;
    many::each(cx, args, Join { kind, word })
}

struct Join {
    kind: Kind,
    word: &'static [u8],
}

impl Each for Join {
    fn take(&mut self, cx: &mut Context<'_>, args: Args<'_>, at: usize) -> Result<(), CommandError> {
        let name = &args[at];
        if let Some(name) = cx.session.subscriptions.add(self.kind, name) {
            cx.shared.hub.join(self.kind, &name, &cx.session.client);
        }
        confirm(cx, self.word, Some(name));
        Ok(())
    }

    fn end(&mut self, cx: &mut Context<'_>) {
        cx.session.show_subscriptions(cx.shared);
        cx.keep();
    }
}

/// Checks all names before any is subscribed to: a command is executed as a whole or not at all.
fn check(cx: &Context<'_>, names: Args<'_>, kind: Kind) -> Result<(), CommandError> {
    let longest = names.iter().map(<[u8]>::len).max().unwrap_or(0);
    match kind {
        Kind::Channel => check_channel(longest)?,
        Kind::Pattern if longest > MAX_PATTERN => return Err(CommandError::PatternTooLong(MAX_PATTERN)),
        Kind::Pattern => {}
    }
    let held = &cx.session.subscriptions;
    if held.len() + names.len() > MAX_SUBSCRIPTIONS {
        let text = format!("ERR a connection has at most {MAX_SUBSCRIPTIONS} subscriptions");
        return Err(CommandError::said(text));
    }
    if held.bytes() + names.iter().map(<[u8]>::len).sum::<usize>() > MAX_SUBSCRIPTION_BYTES {
        let text = format!(
            "ERR the names of a connection's subscriptions take at most {MAX_SUBSCRIPTION_BYTES} bytes"
        );
        return Err(CommandError::said(text));
    }
    Ok(())
}

fn check_channel(len: usize) -> Result<(), CommandError> {
    if len > MAX_CHANNEL {
        return Err(CommandError::said(format!("ERR channel is longer than {MAX_CHANNEL} bytes")));
    }
    Ok(())
}

pub(super) fn unsubscribe(cx: &mut Context<'_>, args: Args<'_>) -> Outcome {
    leave(cx, args, Kind::Channel, b"unsubscribe")
}

pub(super) fn punsubscribe(cx: &mut Context<'_>, args: Args<'_>) -> Outcome {
    leave(cx, args, Kind::Pattern, b"punsubscribe")
}

fn leave(cx: &mut Context<'_>, args: Args<'_>, kind: Kind, word: &'static [u8]) -> Outcome {
    let leave = Leave { kind, word };
    if args.len() > 1 {
        return many::each(cx, args, leave);
    }
    if cx.session.subscriptions.first(kind).is_none() {
        confirm(cx, word, None);
    }
    begin(cx, LeaveAll(leave))
}

/// `UNSUBSCRIBE` and `PUNSUBSCRIBE` with names: ends one subscription after the other.
struct Leave {
    kind: Kind,
    word: &'static [u8],
}

impl Leave {
    fn one(&self, cx: &mut Context<'_>, name: &[u8]) {
        cx.shared.hub.leave(self.kind, name, &cx.session.client);
        // No message may follow the confirmation that the subscription has ended.
        cx.take_pushes();
        cx.session.subscriptions.remove(self.kind, name);
        confirm(cx, self.word, Some(name));
    }
}

impl Each for Leave {
    fn take(&mut self, cx: &mut Context<'_>, args: Args<'_>, at: usize) -> Result<(), CommandError> {
        self.one(cx, &args[at]);
        Ok(())
    }

    fn end(&mut self, cx: &mut Context<'_>) {
        cx.session.show_subscriptions(cx.shared);
        cx.keep();
    }
}

/// `UNSUBSCRIBE` and `PUNSUBSCRIBE` without names: ends all subscriptions of a kind.
struct LeaveAll(Leave);

impl Long for LeaveAll {
    fn step(&mut self, cx: &mut Context<'_>) -> Result<Progress, CommandError> {
        let time = TimeSlice::begin();
        while let Some(name) = cx.session.subscriptions.first(self.0.kind).cloned() {
            if time.is_over() {
                return Ok(Progress::More);
            }
            self.0.one(cx, &name);
        }
        self.0.end(cx);
        Ok(Progress::Done)
    }
}

fn confirm(cx: &mut Context<'_>, word: &[u8], name: Option<&[u8]>) {
    let count = number(cx.session.subscriptions.len());
    let mut reply = cx.reply();
    reply.push(3);
    reply.bulk(word);
    match name {
        Some(name) => reply.bulk(name),
        None => reply.null(),
    }
    reply.int(count);
}

pub(super) fn publish(cx: &mut Context<'_>, args: Args<'_>) -> Outcome {
    let (channel, message) = (&args[1], &args[2]);
    check_channel(channel.len())?;
    if cx.keyspace.is_buffered() {
        // In a script: it is sent once the script has ended, unless nothing of that is applied.
        let listeners = cx.shared.hub.listeners(channel);
        cx.session.deferred.push([channel.into(), message.into()]);
        cx.reply().int(number(listeners));
        return DONE;
    }
    send_to_peers(cx, channel, message);
    if !cx.shared.hub.has_listeners() {
        cx.reply().int(0);
        return DONE;
    }
    let mut publication = Publication::new(channel, message);
    match publication.step(&cx.shared.hub, &TimeSlice::begin()) {
        Some(delivered) => {
            published(cx, delivered);
            DONE
        }
        None => Ok(Flow::Long(Box::new(publication.into_owned()))),
    }
}

impl Long for Publication<Box<[u8]>> {
    fn step(&mut self, cx: &mut Context<'_>) -> Result<Progress, CommandError> {
        let delivered = Publication::step(self, &cx.shared.hub, &TimeSlice::begin());
        Ok(delivered.map_or(Progress::More, |delivered| {
            published(cx, delivered);
            Progress::Done
        }))
    }
}

/// What scripts have published, to be sent now that no keys are locked. Then a script that failed replies with its error.
#[derive(Default)]
pub(super) struct Deferred {
    messages: std::vec::IntoIter<[Box<[u8]>; 2]>,
    publication: Option<Publication<Box<[u8]>>>,
    failure: Option<CommandError>,
}

impl Deferred {
    pub(super) fn take(cx: &mut Context<'_>, failure: Option<CommandError>) -> Deferred {
        let messages = std::mem::take(&mut cx.session.deferred).into_iter();
        Deferred { messages, publication: None, failure }
    }
}

impl Long for Deferred {
    fn step(&mut self, cx: &mut Context<'_>) -> Result<Progress, CommandError> {
        let time = TimeSlice::begin();
        loop {
            if let Some(publication) = &mut self.publication {
                if publication.step(&cx.shared.hub, &time).is_none() {
                    return Ok(Progress::More);
                }
                self.publication = None;
            }
            if time.is_over() {
                return Ok(Progress::More);
            }
            let Some([channel, message]) = self.messages.next() else { break };
            send_to_peers(cx, &channel, &message);
            self.publication = cx.shared.hub.has_listeners().then(|| Publication::new(channel, message));
        }
        self.failure.take().map_or(Ok(Progress::Done), Err)
    }
}

/// Sends a message to the peers, behind this connection's writes.
fn send_to_peers(cx: &mut Context<'_>, channel: &[u8], message: &[u8]) {
    cx.session.publish(&cx.shared.store, cx.batch);
    cx.shared.cluster.publish(channel, message);
}

fn published(cx: &mut Context<'_>, delivered: usize) {
    // A publisher that is a subscriber itself gets the message before the reply, as in Redis.
    if cx.session.listens() {
        cx.take_pushes();
    }
    cx.reply().int(number(delivered));
}

pub(super) fn help(cx: &mut Context<'_>, _args: Args<'_>) -> Outcome {
    explain(cx, HELP)
}

pub(super) fn channels(cx: &mut Context<'_>, args: Args<'_>) -> Outcome {
    let pattern = args.get(2);
    if args.len() > 3 {
        let word = String::from_utf8_lossy(&args[1]);
        return Err(CommandError::said(format!(
            "ERR unknown subcommand or wrong number of arguments for '{word}'. Try PUBSUB HELP."
        )));
    }
    if pattern.is_some_and(|pattern| pattern.len() > MAX_PATTERN) {
        return Err(CommandError::PatternTooLong(MAX_PATTERN));
    }
    let pattern = pattern.map(Box::from);
    begin(cx, Channels { pattern, last: None, found: Vec::new(), bytes: 0 })
}

/// `PUBSUB CHANNELS`.
struct Channels {
    pattern: Option<Box<[u8]>>,
    /// The last channel that was visited.
    last: Option<Arc<[u8]>>,
    found: Vec<Arc<[u8]>>,
    bytes: usize,
}

impl Long for Channels {
    fn step(&mut self, cx: &mut Context<'_>) -> Result<Progress, CommandError> {
        const AT_ONCE: usize = 64;
        let time = TimeSlice::begin();
        while !time.is_over() {
            let channels = cx.shared.hub.channels_after(self.last.as_deref(), AT_ONCE);
            if channels.is_empty() {
                let mut reply = cx.reply();
                reply.array(self.found.len());
                self.found.iter().for_each(|channel| reply.bulk(channel));
                return Ok(Progress::Done);
            }
            for channel in channels {
                if self.pattern.as_ref().is_none_or(|pattern| glob::matches(pattern, &channel)) {
                    self.bytes += channel.len();
                    self.found.push(channel.clone());
                }
                self.last = Some(channel);
                if time.is_over() {
                    break;
                }
            }
            if self.bytes > MAX_CHANNELS {
                return Err(CommandError::said(format!(
                    "ERR the reply would be larger than {MAX_CHANNELS} bytes: give a narrower pattern"
                )));
            }
        }
        Ok(Progress::More)
    }
}

pub(super) fn numsub(cx: &mut Context<'_>, args: Args<'_>) -> Outcome {
    cx.reply().array(args.tail(2).len() * 2);
    many::each(cx, args, Listeners)
}

/// `PUBSUB NUMSUB`: adds the number of subscribers of each channel.
struct Listeners;

impl Each for Listeners {
    const FIRST: usize = 2;

    fn take(&mut self, cx: &mut Context<'_>, args: Args<'_>, at: usize) -> Result<(), CommandError> {
        let listeners = cx.shared.hub.listeners(&args[at]);
        let mut reply = cx.reply();
        reply.bulk(&args[at]);
        reply.int(number(listeners));
        Ok(())
    }

    fn end(&mut self, _cx: &mut Context<'_>) {}
}

pub(super) fn numpat(cx: &mut Context<'_>, _args: Args<'_>) -> Outcome {
    let (_, patterns) = cx.shared.hub.totals();
    cx.reply().int(number(patterns));
    DONE
}

fn number(count: usize) -> i64 {
    i64::try_from(count).unwrap_or(i64::MAX)
}
