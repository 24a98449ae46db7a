//! The library `cjson`: JSON as lua-cjson writes and reads it.
//!
//! `serde_json` would not do: values of Redis are bytes, and it refuses strings that are not UTF-8 or have bare control
//! characters, writes numbers with other digits, and knows no limits of a script.

use std::fmt::Write as _;

use mlua::{Lua, LuaString, Table, Value};

use super::limits::{Limits, MAX_DEPTH};
use super::number::{general, of_lua};
use super::value::Guarded;

/// A number's digits, as in lua-cjson.
const DIGITS: usize = 14;
/// A list may have this many times more places than elements, beyond the first ten.
const SPARSE: usize = 2;
const SAFE: usize = 10;

pub(super) fn library(lua: &Lua, limits: &Limits) -> mlua::Result<Table> {
    let library = lua.create_table()?;
    let bounds = limits.clone();
    let encode = move |lua: &Lua, value: Value| -> Guarded {
        let mut encoder = Encoder { out: Vec::new(), limits: &bounds };
        finish(lua, encoder.value(&value, MAX_DEPTH).map(|()| encoder.out), |out| {
            lua.create_string(out).map(Value::String)
        })
    };
    library.raw_set("encode", lua.create_function(encode)?)?;
    let bounds = limits.clone();
    let decode = move |lua: &Lua, text: LuaString| -> Guarded {
        let text = text.as_bytes();
        let mut decoder = Decoder { lua, text: &text, at: 0, limits: &bounds };
        finish(lua, decoder.document(), Ok)
    };
    library.raw_set("decode", lua.create_function(decode)?)?;
    library.raw_set("null", Value::NULL)?;
    Ok(library)
}

/// Why a value was not converted.
enum Failure {
    /// The script's error.
    Said(String),
    /// A limit.
    Ended(mlua::Error),
}

impl From<mlua::Error> for Failure {
    fn from(error: mlua::Error) -> Self {
        Failure::Ended(error)
    }
}

fn finish<T>(
    lua: &Lua,
    outcome: Result<T, Failure>,
    value: impl FnOnce(T) -> mlua::Result<Value>,
) -> Guarded {
    match outcome {
        Ok(done) => Ok((true, value(done)?)),
        Err(Failure::Said(text)) => Ok((false, Value::String(lua.create_string(text)?))),
        Err(Failure::Ended(error)) => Err(error),
    }
}

struct Encoder<'a> {
    out: Vec<u8>,
    limits: &'a Limits,
}

impl Encoder<'_> {
    fn value(&mut self, value: &Value, depth: usize) -> Result<(), Failure> {
        // One table may be in many places of another.
        self.limits.check()?;
        self.limits.check_bytes(self.out.len())?;
        match value {
            Value::Nil | Value::LightUserData(_) => self.out.extend_from_slice(b"null"),
            Value::Boolean(truth) => self.out.extend_from_slice(truth.to_string().as_bytes()),
            Value::Integer(number) => self.out.extend_from_slice(general(of_lua(*number), DIGITS).as_bytes()),
            Value::Number(number) if number.is_finite() => {
                self.out.extend_from_slice(general(*number, DIGITS).as_bytes());
            }
            Value::Number(_) => {
                return Err(Failure::Said("Cannot serialise number: must not be NaN or Inf".into()));
            }
            Value::String(text) => self.string(&text.as_bytes())?,
            Value::Table(table) => return self.table(table, depth),
            other => {
                let kind = other.type_name();
                return Err(Failure::Said(format!("Cannot serialise {kind}: type not supported")));
            }
        }
        Ok(())
    }

    fn string(&mut self, text: &[u8]) -> Result<(), Failure> {
        self.limits.check_bytes(self.out.len() + text.len())?;
        self.out.push(b'"');
        for &byte in text {
            match byte {
                b'"' | b'\\' | b'/' => self.out.extend_from_slice(&[b'\\', byte]),
                8 => self.out.extend_from_slice(b"\\b"),
                b'\t' => self.out.extend_from_slice(b"\\t"),
                b'\n' => self.out.extend_from_slice(b"\\n"),
                12 => self.out.extend_from_slice(b"\\f"),
                b'\r' => self.out.extend_from_slice(b"\\r"),
                0..32 | 127 => self.out.extend_from_slice(format!("\\u{byte:04x}").as_bytes()),
                _ => self.out.push(byte),
            }
        }
        self.out.push(b'"');
        Ok(())
    }

    fn table(&mut self, table: &Table, depth: usize) -> Result<(), Failure> {
        let Some(depth) = depth.checked_sub(1) else {
            return Err(Failure::Said(format!("Cannot serialise, excessive depth ({})", MAX_DEPTH + 1)));
        };
        if let Some(len) = list_len(table)? {
            self.out.push(b'[');
            for at in 1..=len {
                if at > 1 {
                    self.out.push(b',');
                }
                self.value(&table.raw_get(at)?, depth)?;
            }
            self.out.push(b']');
            return Ok(());
        }
        self.out.push(b'{');
        let mut is_first = true;
        for pair in table.pairs::<Value, Value>() {
            let (key, value) = pair?;
            if !std::mem::take(&mut is_first) {
                self.out.push(b',');
            }
            match &key {
                Value::String(text) => self.string(&text.as_bytes())?,
                Value::Integer(number) => self.string(general(of_lua(*number), DIGITS).as_bytes())?,
                Value::Number(number) => self.string(general(*number, DIGITS).as_bytes())?,
                other => {
                    let kind = other.type_name();
                    let text = format!("Cannot serialise {kind}: table key must be a number or string");
                    return Err(Failure::Said(text));
                }
            }
            self.out.push(b':');
            self.value(&value, depth)?;
        }
        self.out.push(b'}');
        Ok(())
    }
}

/// The length of a table that is a list: all its keys are positive integers.
fn list_len(table: &Table) -> Result<Option<usize>, Failure> {
    let (mut largest, mut elements) = (0, 0);
    for pair in table.pairs::<Value, Value>() {
        let at = match pair?.0 {
            Value::Integer(at) => usize::try_from(at).ok(),
            Value::Number(at) => super::number::integral(at).and_then(|at| usize::try_from(at).ok()),
            _ => None,
        };
        let Some(at) = at.filter(|at| *at > 0) else { return Ok(None) };
        largest = largest.max(at);
        elements += 1;
    }
    if largest > SAFE && largest > elements * SPARSE {
        return Err(Failure::Said("Cannot serialise table: excessively sparse array".into()));
    }
    Ok(Some(largest).filter(|largest| *largest > 0))
}

struct Decoder<'a> {
    lua: &'a Lua,
    text: &'a [u8],
    at: usize,
    limits: &'a Limits,
}

impl Decoder<'_> {
    fn document(&mut self) -> Result<Value, Failure> {
        let value = self.value(MAX_DEPTH)?;
        if self.peek().is_some() { Err(self.expected("the end")) } else { Ok(value) }
    }

    /// The next byte that is no space.
    fn peek(&mut self) -> Option<u8> {
        let rest = &self.text[self.at..];
        self.at += rest.iter().position(|byte| !b" \t\r\n".contains(byte)).unwrap_or(rest.len());
        self.text.get(self.at).copied()
    }

    fn expected(&mut self, what: &str) -> Failure {
        let found = match self.peek() {
            None => "T_END",
            Some(b'{') => "T_OBJ_BEGIN",
            Some(b'}') => "T_OBJ_END",
            Some(b'[') => "T_ARR_BEGIN",
            Some(b']') => "T_ARR_END",
            Some(b'"') => "T_STRING",
            Some(b'0'..=b'9' | b'-') => "T_NUMBER",
            Some(b':') => "T_COLON",
            Some(b',') => "T_COMMA",
            Some(_) => "invalid token",
        };
        Failure::Said(format!("Expected {what} but found {found} at character {}", self.at + 1))
    }

    fn value(&mut self, depth: usize) -> Result<Value, Failure> {
        self.limits.check()?;
        match self.peek() {
            Some(b'{') => self.object(depth),
            Some(b'[') => self.list(depth),
            Some(b'"') => self.string(),
            Some(b'-' | b'0'..=b'9') => self.number(),
            _ => {
                let words =
                    [("true", Value::Boolean(true)), ("false", Value::Boolean(false)), ("null", Value::NULL)];
                for (word, value) in words {
                    if self.text[self.at..].starts_with(word.as_bytes()) {
                        self.at += word.len();
                        return Ok(value);
                    }
                }
                Err(self.expected("value"))
            }
        }
    }

    fn deeper(&self, depth: usize) -> Result<usize, Failure> {
        depth.checked_sub(1).ok_or_else(|| {
            let at = self.at + 1;
            Failure::Said(format!(
                "Found too many nested data structures ({}) at character {at}",
                MAX_DEPTH + 1
            ))
        })
    }

    fn object(&mut self, depth: usize) -> Result<Value, Failure> {
        let depth = self.deeper(depth)?;
        let object = self.lua.create_table()?;
        self.at += 1;
        if self.peek() == Some(b'}') {
            self.at += 1;
            return Ok(Value::Table(object));
        }
        loop {
            if self.peek() != Some(b'"') {
                return Err(self.expected("object key string"));
            }
            let key = self.string()?;
            if self.peek() != Some(b':') {
                return Err(self.expected("colon"));
            }
            self.at += 1;
            object.raw_set(key, self.value(depth)?)?;
            match self.peek() {
                Some(b',') => self.at += 1,
                Some(b'}') => break,
                _ => return Err(self.expected("comma or object end")),
            }
        }
        self.at += 1;
        Ok(Value::Table(object))
    }

    fn list(&mut self, depth: usize) -> Result<Value, Failure> {
        let depth = self.deeper(depth)?;
        let list = self.lua.create_table()?;
        self.at += 1;
        if self.peek() == Some(b']') {
            self.at += 1;
            return Ok(Value::Table(list));
        }
        for at in 1.. {
            list.raw_set(at, self.value(depth)?)?;
            match self.peek() {
                Some(b',') => self.at += 1,
                Some(b']') => break,
                _ => return Err(self.expected("comma or array end")),
            }
        }
        self.at += 1;
        Ok(Value::Table(list))
    }

    fn number(&mut self) -> Result<Value, Failure> {
        let rest = &self.text[self.at..];
        let is_part = |byte: &u8| byte.is_ascii_digit() || b"+-.eE".contains(byte);
        let len = rest.iter().position(|byte| !is_part(byte)).unwrap_or(rest.len());
        let number = str::from_utf8(&rest[..len]).ok().and_then(|text| text.parse().ok());
        let number = number.ok_or_else(|| self.expected("value"))?;
        self.at += len;
        Ok(Value::Number(number))
    }

    fn string(&mut self) -> Result<Value, Failure> {
        let begin = self.at;
        let mut out = Vec::new();
        self.at += 1;
        loop {
            let rest = &self.text[self.at..];
            let plain = memchr::memchr2(b'"', b'\\', rest).unwrap_or(rest.len());
            out.extend_from_slice(&rest[..plain]);
            self.at += plain;
            match rest.get(plain) {
                Some(b'"') => break,
                Some(_) => self.escape(&mut out)?,
                None => {
                    self.at = begin;
                    let at = self.text.len() + 1;
                    let text = format!("Expected value but found unexpected end of string at character {at}");
                    return Err(Failure::Said(text));
                }
            }
        }
        self.at += 1;
        Ok(Value::String(self.lua.create_string(out)?))
    }

    /// Appends the character of the escape sequence at the backslash.
    fn escape(&mut self, out: &mut Vec<u8>) -> Result<(), Failure> {
        let kind = self.text.get(self.at + 1).copied();
        self.at += 2;
        match kind {
            Some(byte @ (b'"' | b'\\' | b'/')) => out.push(byte),
            Some(b'b') => out.push(8),
            Some(b'f') => out.push(12),
            Some(b'n') => out.push(b'\n'),
            Some(b'r') => out.push(b'\r'),
            Some(b't') => out.push(b'\t'),
            Some(b'u') => {
                let mut unit = self.unit().ok_or_else(|| self.bad_escape())?;
                if (0xD800..0xDC00).contains(&unit) && self.text[self.at..].starts_with(b"\\u") {
                    self.at += 2;
                    let low = self.unit().filter(|low| (0xDC00..0xE000).contains(low));
                    let low = low.ok_or_else(|| self.bad_escape())?;
                    unit = 0x1_0000 + ((unit - 0xD800) << 10) + (low - 0xDC00);
                }
                let character = char::from_u32(unit).ok_or_else(|| self.bad_escape())?;
                out.extend_from_slice(character.encode_utf8(&mut [0; 4]).as_bytes());
            }
            _ => return Err(self.bad_escape()),
        }
        Ok(())
    }

    /// Four hexadecimal digits.
    fn unit(&mut self) -> Option<u32> {
        let digits = self.text.get(self.at..self.at + 4)?;
        let unit =
            digits.iter().try_fold(0, |unit, digit| Some(unit << 4 | char::from(*digit).to_digit(16)?))?;
        self.at += 4;
        Some(unit)
    }

    fn bad_escape(&self) -> Failure {
        let mut text = String::new();
        _ = write!(text, "Expected value but found invalid escape code at character {}", self.at);
        Failure::Said(text)
    }
}
