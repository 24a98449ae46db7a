//! The machine that runs one script.

use std::cell::Cell;
use std::sync::LazyLock;

use mlua::chunk::{ChunkMode, Compiler};
use mlua::{Function, Lua, LuaOptions, MultiValue, StdLib, Table, Value, VmState};

use super::call::Caller;
use super::limits::{Limit, Limits, MAX_MEMORY};
use super::{bits, json, redis, value};
use crate::resp::scripts::Script;
use crate::resp::{Args, Proto};

/// A script to run.
pub(super) struct Job<'a> {
    pub(super) script: &'a Script,
    pub(super) keys: Args<'a>,
    pub(super) argv: Args<'a>,
    /// The protocol version of the client.
    pub(super) client: Proto,
    pub(super) limits: &'a Limits,
}

/// How a script ended that was not ended by a limit.
pub(super) enum Ended {
    /// Its reply, encoded.
    Reply(Vec<u8>),
    /// The text of an error.
    Failed(String),
}

static PRELUDE: LazyLock<Result<Vec<u8>, String>> = LazyLock::new(|| {
    let compiler = Compiler::new().set_optimization_level(1).set_debug_level(1);
    compiler.compile(include_str!("prelude.lua")).map_err(|error| error.to_string())
});

/// Runs a script to its end.
///
/// # Errors
/// The limit that ended it.
pub(super) fn run(job: &Job<'_>, caller: &mut Caller<'_, '_>) -> Result<Ended, Limit> {
    let outcome = begin(job.limits).and_then(|lua| execute(&lua, job, caller));
    match (job.limits.exceeded(), outcome) {
        (Some(limit), _) => Err(limit),
        (None, Ok(ended)) => Ok(ended),
        (None, Err(error)) if is_memory(&error) => Err(Limit::Memory),
        (None, Err(error)) => Ok(Ended::Failed(format!("ERR {}", text_of(&error)))),
    }
}

fn begin(limits: &Limits) -> mlua::Result<Lua> {
    let libraries =
        StdLib::MATH | StdLib::STRING | StdLib::TABLE | StdLib::COROUTINE | StdLib::OS | StdLib::DEBUG;
    let lua = Lua::new_with(libraries, LuaOptions::new())?;
    lua.set_memory_limit(lua.used_memory() + MAX_MEMORY)?;
    let limits = limits.clone();
    lua.set_interrupt(move |_| limits.check().map(|()| VmState::Continue));
    Ok(lua)
}

fn execute(lua: &Lua, job: &Job<'_>, caller: &mut Caller<'_, '_>) -> mlua::Result<Ended> {
    let Job { script, keys, argv, client, limits } = *job;
    let proto = Cell::new(Proto::Resp2);
    lua.scope(|scope| {
        let host = lua.create_table()?;
        host.raw_set("keys", list(lua, keys, limits)?)?;
        host.raw_set("argv", list(lua, argv, limits)?)?;
        host.raw_set("bit", bits::library(lua)?)?;
        host.raw_set("cjson", json::library(lua, limits)?)?;
        redis::add(lua, &host)?;
        let setresp = scope.create_function(|_, version: u8| {
            proto.set(if version == 3 { Proto::Resp3 } else { Proto::Resp2 });
            Ok(())
        })?;
        host.raw_set("setresp", setresp)?;
        let call = scope.create_function_mut(|lua, args: MultiValue| caller.call(lua, &args, proto.get()))?;
        host.raw_set("call", call)?;
        let prelude = PRELUDE.as_ref().map_err(mlua::Error::runtime)?;
        let prelude = lua.load(prelude.as_slice()).set_name("=prelude").set_mode(ChunkMode::Binary);
        let (env, run): (Table, Function) = prelude.into_function()?.call(host)?;
        let chunk = lua.load(script.bytecode.as_slice()).set_name("@user_script").set_mode(ChunkMode::Binary);
        let function = chunk.set_environment(env).into_function()?;
        let (is_done, outcome): (bool, Value) = run.call(function)?;
        limits.check()?;
        if is_done {
            // So that an error that the script returns counts as one.
            if let Value::Table(table) = &outcome
                && let Value::String(text) = table.raw_get("err")?
            {
                return Ok(Ended::Failed(text.to_string_lossy()));
            }
            let mut out = Vec::new();
            value::encode(&mut out, &outcome, client, proto.get(), limits)?;
            return Ok(Ended::Reply(out));
        }
        failure(&outcome, script)
    })
}

/// A list of these arguments.
fn list(lua: &Lua, args: Args<'_>, limits: &Limits) -> mlua::Result<Table> {
    let list = lua.create_table_with_capacity(args.len(), 0)?;
    for (n, arg) in args.iter().enumerate() {
        if n.is_multiple_of(64) {
            limits.check()?;
        }
        list.raw_push(lua.create_string(arg)?)?;
    }
    Ok(list)
}

/// The reply for an error that the script has not caught, as in Redis.
fn failure(outcome: &Value, script: &Script) -> mlua::Result<Ended> {
    let (cause, line) = match outcome {
        Value::Table(table) => (table.raw_get("failure")?, table.raw_get("line")?),
        other => (other.clone(), 0),
    };
    let text = match &cause {
        Value::Table(table) => match table.raw_get("err")? {
            Value::String(text) => text.to_string_lossy(),
            _ => format!("ERR {}", cause.type_name()),
        },
        Value::String(text) if text.as_bytes() == b"not enough memory" => {
            return Err(mlua::Error::MemoryError("of the script".into()));
        }
        Value::String(text) => format!("ERR {}", text.to_string_lossy()),
        Value::Error(error) if is_memory(error) => {
            return Err(mlua::Error::MemoryError("of the script".into()));
        }
        Value::Error(error) => format!("ERR {}", text_of(error)),
        other => format!("ERR {}", other.to_string().unwrap_or_else(|_| other.type_name().into())),
    };
    Ok(Ended::Failed(format!("{text} script: {}, on @user_script:{line}.", script.sha)))
}

fn is_memory(error: &mlua::Error) -> bool {
    match error {
        mlua::Error::MemoryError(_) => true,
        mlua::Error::CallbackError { cause, .. } => is_memory(cause),
        _ => false,
    }
}

/// The first line of an error: the others are a trace.
fn text_of(error: &mlua::Error) -> String {
    let text = match error {
        mlua::Error::CallbackError { cause, .. } => return text_of(cause),
        mlua::Error::RuntimeError(text) => text.clone(),
        other => other.to_string(),
    };
    text.lines().next().unwrap_or_default().to_owned()
}
