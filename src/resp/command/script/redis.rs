//! Functions of the library `redis` that need nothing of the node, and `find`.

use mlua::{Lua, LuaString, Table};

/// The longest text of one line of a script in the log, and how many lines of one script there are.
const MAX_LOGGED: usize = 1024;
const MAX_LINES: u32 = 16;

pub(super) fn add(lua: &Lua, host: &Table) -> mlua::Result<()> {
    let sha1hex = |lua: &Lua, text: LuaString| {
        lua.create_string(sha1_smol::Sha1::from(&*text.as_bytes()).digest().to_string())
    };
    host.raw_set("sha1hex", lua.create_function(sha1hex)?)?;
    let mut lines = 0;
    let log = move |_: &Lua, (level, text): (f64, LuaString)| {
        lines += 1;
        if lines <= MAX_LINES {
            let text = text.as_bytes();
            let text = String::from_utf8_lossy(&text[..text.len().min(MAX_LOGGED)]);
            let text = text.escape_debug();
            match level {
                level if level >= 3.0 => tracing::warn!(%text, "a script says"),
                level if level >= 2.0 => tracing::info!(%text, "a script says"),
                _ => tracing::debug!(%text, "a script says"),
            }
        }
        Ok(())
    };
    host.raw_set("log", lua.create_function_mut(log)?)?;
    host.raw_set("find", lua.create_function(find)?)
}

/// Where a plain text is in another, from `init` on; as `string.find` returns it.
fn find(
    _: &Lua,
    (text, plain, init): (LuaString, LuaString, Option<i64>),
) -> mlua::Result<(Option<usize>, Option<usize>)> {
    let (text, plain) = (text.as_bytes(), plain.as_bytes());
    let len = i64::try_from(text.len()).unwrap_or(i64::MAX);
    let from = match init.unwrap_or(1) {
        from if from > 0 => from - 1,
        0 => 0,
        from => from.saturating_add(len).max(0),
    };
    let from = usize::try_from(from).unwrap_or(usize::MAX);
    let found = text.get(from..).and_then(|rest| memchr::memmem::find(rest, &plain));
    Ok(found.map_or((None, None), |at| (Some(from + at + 1), Some(from + at + plain.len()))))
}
