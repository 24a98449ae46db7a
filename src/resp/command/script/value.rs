//! Converts replies to values of Lua and back, as Redis 7 does.

use mlua::{Lua, Table, Value};
use sapwood_client::resp::Frame;

use super::limits::{Limits, MAX_DEPTH};
use super::number::integral;
use crate::resp::{Proto, Reply};

/// What a function returns to `prelude.lua`: whether it has succeeded, and its value or the error's text.
pub(super) type Guarded = mlua::Result<(bool, Value)>;

/// The value of a reply that a script receives.
pub(super) fn decode(lua: &Lua, frame: Frame, proto: Proto) -> mlua::Result<Value> {
    let text = |text: &[u8]| lua.create_string(text).map(Value::String);
    let wrap = |name: &str, value: Value| -> mlua::Result<Value> {
        let table = lua.create_table()?;
        table.raw_set(name, value)?;
        Ok(Value::Table(table))
    };
    Ok(match frame {
        Frame::Simple(status) => return wrap("ok", text(status.as_bytes())?),
        Frame::Error(error) => return wrap("err", text(error.as_bytes())?),
        #[expect(clippy::cast_precision_loss, reason = "a number of Lua is a float")]
        Frame::Int(number) => Value::Number(number as f64),
        Frame::Bulk(bytes) => text(&bytes)?,
        Frame::Null if proto == Proto::Resp2 => Value::Boolean(false),
        Frame::Null => Value::Nil,
        Frame::Bool(truth) => Value::Boolean(truth),
        Frame::Double(number) => return wrap("double", Value::Number(number)),
        Frame::Big(digits) => return wrap("big_number", text(digits.as_bytes())?),
        Frame::Verbatim { format, text: content } => {
            let table = lua.create_table()?;
            table.raw_set("string", text(&content)?)?;
            table.raw_set("format", text(format.as_bytes())?)?;
            return wrap("verbatim_string", Value::Table(table));
        }
        Frame::Array(items) | Frame::Push(items) => {
            let list = lua.create_table_with_capacity(items.len(), 0)?;
            for (at, item) in (1..).zip(items) {
                list.raw_set(at, decode(lua, item, proto)?)?;
            }
            Value::Table(list)
        }
        Frame::Map(pairs) => {
            let map = lua.create_table()?;
            for (key, value) in pairs {
                put(&map, decode(lua, key, proto)?, decode(lua, value, proto)?)?;
            }
            return wrap("map", Value::Table(map));
        }
        Frame::Set(items) => {
            let set = lua.create_table()?;
            for item in items {
                put(&set, decode(lua, item, proto)?, Value::Boolean(true))?;
            }
            return wrap("set", Value::Table(set));
        }
    })
}

/// Sets an element, unless its key cannot be one.
fn put(table: &Table, key: Value, value: Value) -> mlua::Result<()> {
    if key.is_nil() { Ok(()) } else { table.raw_set(key, value) }
}

/// Appends the reply that a script returns, for a client that speaks `client`. `own` is what `redis.setresp` has chosen:
/// without it, booleans are as in RESP2.
pub(super) fn encode(
    out: &mut Vec<u8>,
    value: &Value,
    client: Proto,
    own: Proto,
    limits: &Limits,
) -> mlua::Result<()> {
    Encoder { out, client, own, limits }.value(value, MAX_DEPTH)
}

struct Encoder<'a> {
    out: &'a mut Vec<u8>,
    client: Proto,
    own: Proto,
    limits: &'a Limits,
}

impl Encoder<'_> {
    fn reply(&mut self) -> Reply<'_> {
        Reply::new(self.out, self.client)
    }

    /// `depth` is how many tables may still be nested.
    fn value(&mut self, value: &Value, depth: usize) -> mlua::Result<()> {
        // One table may be in many places of another.
        self.limits.check()?;
        match value {
            Value::String(text) => {
                self.limits.check_bytes(self.out.len() + text.as_bytes().len())?;
                self.reply().bulk(&text.as_bytes());
            }
            Value::Integer(number) => self.reply().int(*number),
            Value::Number(number) => self.reply().int(truncated(*number)),
            Value::Boolean(truth) if self.own == Proto::Resp3 => self.reply().bool(*truth),
            Value::Boolean(true) => self.reply().int(1),
            Value::Table(table) => return self.table(table, depth),
            _ => self.reply().null(),
        }
        self.limits.check_bytes(self.out.len())
    }

    fn table(&mut self, table: &Table, depth: usize) -> mlua::Result<()> {
        let Some(depth) = depth.checked_sub(1) else {
            self.reply().error("ERR reached lua stack limit");
            return Ok(());
        };
        if let Value::String(text) = table.raw_get("err")? {
            self.reply().error(&text.to_string_lossy());
        } else if let Value::String(text) = table.raw_get("ok")? {
            self.reply().simple(&text.to_string_lossy());
        } else if let Some(number) = float(&table.raw_get("double")?) {
            self.reply().double(number);
        } else if let Value::Table(map) = table.raw_get("map")? {
            self.elements(&map, depth, true)?;
        } else if let Value::Table(set) = table.raw_get("set")? {
            self.elements(&set, depth, false)?;
        } else {
            self.list(table, depth)?;
        }
        Ok(())
    }

    /// A list ends before the first nil.
    fn list(&mut self, table: &Table, depth: usize) -> mlua::Result<()> {
        let mut items = Vec::new();
        loop {
            if items.len().is_multiple_of(1024) {
                self.limits.check()?;
            }
            match table.raw_get(items.len() + 1)? {
                Value::Nil => break,
                item => items.push(item),
            }
        }
        self.reply().array(items.len());
        items.iter().try_for_each(|item| self.value(item, depth))
    }

    fn elements(&mut self, table: &Table, depth: usize, is_map: bool) -> mlua::Result<()> {
        let pairs: Vec<(Value, Value)> = table.pairs().collect::<mlua::Result<_>>()?;
        if is_map {
            self.reply().map(pairs.len());
        } else {
            self.reply().set(pairs.len());
        }
        for (key, value) in &pairs {
            self.value(key, depth)?;
            if is_map {
                self.value(value, depth)?;
            }
        }
        Ok(())
    }
}

fn float(value: &Value) -> Option<f64> {
    match value {
        Value::Number(number) => Some(*number),
        #[expect(clippy::cast_precision_loss, reason = "a number of Lua is a float")]
        Value::Integer(number) => Some(*number as f64),
        _ => None,
    }
}

/// The integer part; what has none becomes the least integer, as in C.
fn truncated(number: f64) -> i64 {
    #[expect(clippy::cast_possible_truncation, reason = "beyond its range it is the least integer")]
    let integer = number as i64;
    let is_within = number.is_finite() && number.abs() < 9_223_372_036_854_775_808.0;
    integral(number).unwrap_or(if is_within { integer } else { i64::MIN })
}
