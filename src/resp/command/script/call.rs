//! `redis.call`: executes a command for a script.

use std::collections::HashSet;

use mlua::{Lua, MultiValue, Value};
use sapwood_client::resp::{Decoded, FrameDecoder, FrameLimits};

use super::super::context::{Context, Dispatch, Flow, Progress};
use super::super::entry::{
    ADMIN, CROSSES, Command, NO_MULTI, NO_SCRIPT, PUBSUB, SELECTS, Table, UNQUEUED, WRITE, resolve,
};
use super::super::error::CommandError;
use super::super::refused;
use super::super::rights;
use super::super::several::other_database;
use super::limits::{Limit, Limits, MAX_BYTES};
use super::{number, value};
use crate::resp::args::{OwnedArgs, Span};
use crate::resp::call::Call;
use crate::resp::{Args, Proto};

/// Commands without keys that scripts may execute: they neither wait nor take long. `PUBLISH` is completed after the
/// script.
const WITHOUT_KEYS: &[&str] = &["echo", "ping", "publish", "time"];

/// Executes the commands of one script.
pub(super) struct Caller<'a, 'c> {
    pub(super) cx: &'a mut Context<'c>,
    pub(super) dispatch: Dispatch,
    pub(super) table: &'a Table,
    /// The keys that the script may reach. Their ranges are locked.
    pub(super) declared: HashSet<&'a [u8]>,
    pub(super) only_reads: bool,
    pub(super) limits: &'a Limits,
    /// The bytes of what the script has published.
    pub(super) published: usize,
}

impl Caller<'_, '_> {
    /// Executes a command; returns its reply, or its error as a table with the field `err`.
    ///
    /// # Errors
    /// If a limit is exceeded.
    pub(super) fn call(&mut self, lua: &Lua, args: &MultiValue, proto: Proto) -> mlua::Result<Value> {
        self.limits.check()?;
        let args = match self.request(args)? {
            Ok(args) => args,
            Err(text) => return error(lua, text),
        };
        let start = self.cx.out.len();
        let before = std::mem::replace(&mut self.cx.session.proto, proto);
        let outcome = self.execute(args.as_args(), start);
        self.cx.session.proto = before;
        let reply = self.cx.out.split_off(start.min(self.cx.out.len()));
        if let Err(failure) = outcome? {
            return error(lua, &failure.to_string());
        }
        self.limits.check_bytes(self.cx.keyspace.buffered_bytes() + self.published)?;
        match FrameDecoder::new(FrameLimits { max_bytes: MAX_BYTES, ..FrameLimits::default() }).next(&reply) {
            Ok(Decoded::Frame { frame, .. }) => value::decode(lua, frame, proto),
            Ok(Decoded::Incomplete { .. }) => error(lua, "ERR the command has not replied"),
            Err(_) => Err(self.limits.exceed(Limit::Bytes)),
        }
    }

    /// The request that these values make, or what is wrong with it.
    fn request(&self, values: &MultiValue) -> mlua::Result<Result<OwnedArgs, &'static str>> {
        if values.is_empty() {
            return Ok(Err("ERR Please specify at least one argument for this redis lib call"));
        }
        let (mut bytes, mut spans) = (Vec::new(), Vec::with_capacity(values.len()));
        for value in values {
            let start = bytes.len();
            match value {
                Value::String(text) => {
                    self.limits.check_bytes(bytes.len() + text.as_bytes().len())?;
                    bytes.extend_from_slice(&text.as_bytes());
                }
                Value::Integer(number) => {
                    bytes.extend_from_slice(number::argument(number::of_lua(*number)).as_bytes());
                }
                Value::Number(number) => bytes.extend_from_slice(number::argument(*number).as_bytes()),
                _ => return Ok(Err("ERR Lua redis lib command arguments must be strings or integers")),
            }
            spans.push(Span::new(start, bytes.len() - start));
        }
        Ok(Ok(Args::new(&bytes, &spans).to_owned()))
    }

    /// Executes a request to its end; the reply begins at `start` in the output.
    fn execute(&mut self, args: Args<'_>, start: usize) -> mlua::Result<Result<(), CommandError>> {
        let index = match self.admit(args) {
            Ok(index) => index,
            Err(error) => return Ok(Err(error)),
        };
        if self.table.commands[index].flags.has(PUBSUB) {
            self.published += args.bytes();
        }
        let mut long = match (self.dispatch)(self.cx, args, index) {
            Ok(Flow::Continue) => return Ok(Ok(())),
            Ok(Flow::Long(long)) => long,
            Ok(Flow::Close | Flow::Wait(..)) => return Ok(Err(not_allowed())),
            Err(error) => return Ok(Err(error)),
        };
        loop {
            self.limits.check()?;
            self.limits.check_bytes(self.cx.out.len() - start)?;
            match long.step(self.cx) {
                Ok(Progress::More) => {}
                Ok(Progress::Done) => return Ok(Ok(())),
                Err(error) => return Ok(Err(error)),
            }
        }
    }

    /// The index of the request's command, if the script may execute it.
    fn admit(&mut self, args: Args<'_>) -> Result<usize, CommandError> {
        let Some(index) = (self.table.find)(&args[0]) else {
            let why = refused::explain(args).to_string();
            let is_unknown = why.starts_with("ERR unknown command");
            return Err(CommandError::said(if is_unknown {
                "ERR Unknown Redis command called from script".to_owned()
            } else {
                why
            }));
        };
        let (command, called) =
            resolve(&self.table.commands[index], Call::of(index), args).map_err(|error| match error {
                CommandError::Arity(_) => {
                    CommandError::said("ERR Wrong number of args calling Redis command from script")
                }
                other => other,
            })?;
        // Only the declared keys of the selected database are locked.
        if command.flags.has(SELECTS) {
            return Err(CommandError::said(
                "ERR This Redis command is not allowed from script: only keys of the selected database are locked. \
                 SELECT the other one before EVAL",
            ));
        }
        let crosses = command.flags.has(CROSSES) && other_database(self.cx, args).is_some();
        if crosses || !is_allowed(command) {
            return Err(not_allowed());
        }
        if self.only_reads && (command.flags.has(WRITE) || command.flags.has(PUBSUB)) {
            return Err(CommandError::said("ERR Write commands are not allowed from read-only scripts."));
        }
        // As in Redis, a script may do what its client may do.
        if self.cx.session.is_limited() {
            let checked = std::mem::replace(&mut self.cx.session.are_rights_checked, false);
            let denied = rights::check(self.cx, args, command, called);
            self.cx.session.are_rights_checked = checked;
            denied.map_err(CommandError::in_script)?;
        }
        let mut keys = command.keys.places(args).filter_map(|place| args.get(place));
        match keys.find(|key| !self.declared.contains(key)) {
            None => Ok(index),
            Some(key) => Err(CommandError::said(format!(
                "ERR Script tried accessing undeclared key '{}': a script must be given all its keys in KEYS, since \
                 only those are locked",
                key[..key.len().min(128)].escape_ascii()
            ))),
        }
    }
}

fn not_allowed() -> CommandError {
    CommandError::said("ERR This Redis command is not allowed from script")
}

fn is_allowed(command: &Command) -> bool {
    let is_barred = [NO_SCRIPT, NO_MULTI, UNQUEUED, ADMIN].into_iter().any(|flag| command.flags.has(flag));
    !is_barred && (command.keys.may_be() || WITHOUT_KEYS.contains(&command.name))
}

fn error(lua: &Lua, text: &str) -> mlua::Result<Value> {
    let table = lua.create_table()?;
    table.raw_set("err", text)?;
    Ok(Value::Table(table))
}
