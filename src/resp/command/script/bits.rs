//! The library `bit`: operations on 32-bit integers, as LuaBitOp has them.

use mlua::{Lua, Table, Value, Variadic};

use super::value::Guarded;

type Named<F> = (&'static str, F);
type One = fn(i32) -> i32;
type Many = fn(i32, i32) -> i32;
type Shifts = fn(i32, u32) -> i32;

/// The functions by name; `prelude.lua` turns their errors into those of Lua.
pub(super) fn library(lua: &Lua) -> mlua::Result<Table> {
    let library = lua.create_table()?;
    let one: [Named<One>; 3] = [("tobit", |bits| bits), ("bnot", |bits| !bits), ("bswap", i32::swap_bytes)];
    for (name, apply) in one {
        add(lua, &library, name, move |args| Ok(apply(bits(name, args, 1)?).into()))?;
    }
    let many: [Named<Many>; 3] = [("band", |a, b| a & b), ("bor", |a, b| a | b), ("bxor", |a, b| a ^ b)];
    for (name, apply) in many {
        add(lua, &library, name, move |args| {
            let first = bits(name, args, 1)?;
            let joined =
                (2..=args.len()).try_fold(first, |all, at| bits(name, args, at).map(|next| apply(all, next)));
            Ok(joined?.into())
        })?;
    }
    let shifts: [Named<Shifts>; 5] = [
        ("lshift", |bits, by| bits.wrapping_shl(by)),
        ("rshift", |bits, by| bits.cast_unsigned().wrapping_shr(by).cast_signed()),
        ("arshift", |bits, by| bits.wrapping_shr(by)),
        ("rol", |bits, by| bits.rotate_left(by & 31)),
        ("ror", |bits, by| bits.rotate_right(by & 31)),
    ];
    for (name, apply) in shifts {
        add(lua, &library, name, move |args| {
            Ok(apply(bits(name, args, 1)?, bits(name, args, 2)?.cast_unsigned()).into())
        })?;
    }
    let hex = lua.create_function(|lua, args: Variadic<Value>| {
        let text = tohex(&args);
        Ok(match text {
            Ok(text) => (true, Value::String(lua.create_string(text)?)),
            Err(text) => (false, Value::String(lua.create_string(text)?)),
        })
    })?;
    library.raw_set("tohex", hex)?;
    Ok(library)
}

fn add(
    lua: &Lua,
    library: &Table,
    name: &'static str,
    apply: impl Fn(&[Value]) -> Result<f64, String> + 'static,
) -> mlua::Result<()> {
    let function = lua.create_function(move |lua, args: Variadic<Value>| -> Guarded {
        Ok(match apply(&args) {
            Ok(bits) => (true, Value::Number(bits)),
            Err(text) => (false, Value::String(lua.create_string(text)?)),
        })
    })?;
    library.raw_set(name, function)
}

fn tohex(args: &[Value]) -> Result<String, String> {
    let value = bits("tohex", args, 1)?.cast_unsigned();
    let digits = if args.len() < 2 { 8 } else { bits("tohex", args, 2)? };
    let shown = digits.unsigned_abs().min(8) as usize;
    let text = format!("{value:08x}");
    let text = &text[8 - shown..];
    Ok(if digits < 0 { text.to_ascii_uppercase() } else { text.to_owned() })
}

/// Argument `at` (from 1 on) as 32 bits: rounded to the nearest integer, half to even, then modulo 2^32.
fn bits(name: &str, args: &[Value], at: usize) -> Result<i32, String> {
    let value = args.get(at - 1);
    let number = match value {
        Some(Value::Number(number)) => Some(*number),
        #[expect(clippy::cast_precision_loss, reason = "a machine of Luau holds numbers as floats")]
        Some(Value::Integer(number)) => Some(*number as f64),
        Some(Value::String(text)) => text.to_str().ok().and_then(|text| text.trim().parse().ok()),
        _ => None,
    };
    let number = number.ok_or_else(|| {
        let kind = value.map_or("no value", Value::type_name);
        format!("bad argument #{at} to '{name}' (number expected, got {kind})")
    })?;
    let modulus = 4_294_967_296.0;
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "it is below 2^32")]
    let bits = number.round_ties_even().rem_euclid(modulus) as u32;
    Ok(bits.cast_signed())
}
