//! `SAPWOOD WATCH` and `UNWATCH`. The connection sends the watched changes as messages: see `resp::watch`.

use std::sync::Arc;

use super::context::{Context, DONE, Outcome, is};
use super::error::CommandError;
use crate::resp::Args;
use crate::store::MAX_PREFIXES;
use crate::watch::{Cursor, DatabasePrefixes, Watcher};

pub(super) fn watch(cx: &mut Context<'_>, args: Args<'_>) -> Outcome {
    if cx.session.watcher.is_some() {
        return Err(CommandError::said("ERR this connection watches already: SAPWOOD UNWATCH ends it"));
    }
    let (prefixes, cursor) = request(args)?;
    prefixes.iter().try_for_each(|prefix| cx.shared.store.check_lengths(prefix, b""))?;
    let refused = |reason: &dyn std::fmt::Display| CommandError::said(format!("ERR {reason}"));
    let database = cx.keyspace.database;
    let prefixes = DatabasePrefixes::new(database, &prefixes).map_err(|error| refused(&error))?;
    let watcher = Watcher::new(Arc::clone(&cx.shared.watches), &prefixes, cursor);
    cx.session.watch(Some(watcher.map_err(|error| refused(&error))?));
    DONE
}

/// The prefixes of a request.
pub(super) fn prefixes(args: Args<'_>) -> Vec<&[u8]> {
    request(args)
        .map_or_else(|_| args.tail(2).iter().take(MAX_PREFIXES + 1).collect(), |(prefixes, _)| prefixes)
}

/// Parses the prefixes, and the cursor if there is one.
fn request(args: Args<'_>) -> Result<(Vec<&[u8]>, Option<Cursor>), CommandError> {
    let words = args.tail(2);
    let last = words.len() - 1;
    // The first word is always a prefix, even if it is `FROM`.
    let (prefixes, cursor) = match words.get(last) {
        Some(cursor) if last > 1 && is(&words[last - 1], "from") => (last - 1, Some(cursor)),
        _ => (words.len(), None),
    };
    let cursor = cursor.map(|cursor| {
        let text = std::str::from_utf8(cursor).unwrap_or_default();
        text.parse().map_err(|error| CommandError::said(format!("ERR {error}")))
    });
    // A request may have a million prefixes: one above the limit is enough for it to be refused.
    Ok((words.iter().take(prefixes.min(MAX_PREFIXES + 1)).collect(), cursor.transpose()?))
}

pub(super) fn unwatch(cx: &mut Context<'_>, _args: Args<'_>) -> Outcome {
    cx.session.watch(None);
    cx.reply().ok();
    DONE
}
