//! Commands on parts of a value.
//!
//! Those that change one read the whole value, change it, and write it whole, in one step on this node. So of two that
//! nodes make at the same time the later one's whole value wins.

use super::context::{Context, DONE, Outcome, integer};
use super::error::CommandError;
use crate::resp::Args;
use crate::store::{Live, Write, WriteError};

/// Replaces the value of `key` by what `change` makes of it, and keeps the deadline. An absent key has the empty value.
/// `change` says whether it has changed anything; if not, nothing is written.
///
/// # Errors
/// That of `change`, or that the new value is refused. Nothing was changed.
pub(super) fn modify<T>(
    cx: &mut Context<'_>,
    key: &[u8],
    change: impl FnOnce(&mut Vec<u8>) -> Result<(T, bool), CommandError>,
) -> Result<T, CommandError> {
    let mut space = Vec::new();
    let value = &mut space;
    cx.keyspace.write(cx.batch, key, move |live| {
        value.extend_from_slice(live.map(Live::value).unwrap_or_default());
        let deadline = live.and_then(Live::deadline);
        match change(value) {
            Ok((outcome, true)) => (Write::Set { value, deadline }, Ok(outcome)),
            Ok((outcome, false)) => (Write::Keep, Ok(outcome)),
            Err(error) => (Write::Keep, Err(error)),
        }
    })?
}

/// Extends a value with zero bytes, unless it is so long already.
///
/// # Errors
/// If it would exceed `--max-value`.
pub(super) fn grow(value: &mut Vec<u8>, length: usize, limit: usize) -> Result<(), CommandError> {
    if length > limit {
        return Err(WriteError::ValueTooLong { bytes: length, limit }.into());
    }
    if value.len() < length {
        value.resize(length, 0);
    }
    Ok(())
}

/// The indexes from `start` to `end`, both included, of something so long; negative ones count from its end. `None` if
/// there are none.
pub(super) fn slice(start: i64, end: i64, length: usize) -> Option<(usize, usize)> {
    let is_reversed = start < 0 && end < 0 && start > end;
    if is_reversed { None } else { clip(start, end, length) }
}

/// As [`slice`], but indexes before the first count as the first even if `end` is before `start`: so `BITPOS` does.
pub(super) fn clip(start: i64, end: i64, length: usize) -> Option<(usize, usize)> {
    let signed = i64::try_from(length).unwrap_or(i64::MAX);
    let from_end = |index: i64| if index < 0 { signed.saturating_add(index).max(0) } else { index };
    let (start, end) = (from_end(start), from_end(end).min(signed - 1));
    let (start, end) = (usize::try_from(start).ok()?, usize::try_from(end).ok()?);
    (start <= end).then_some((start, end))
}

pub(super) fn getrange(cx: &mut Context<'_>, args: Args<'_>) -> Outcome {
    let (start, end) = (integer(&args[2])?, integer(&args[3])?);
    let mut reply = crate::resp::Reply::new(cx.out, cx.session.proto);
    cx.keyspace.read(&args[1], cx.batch.now(), |live| {
        let value = live.map(Live::value).unwrap_or_default();
        reply.bulk(slice(start, end, value.len()).map_or(&[], |(start, end)| &value[start..=end]));
    });
    DONE
}

pub(super) fn append(cx: &mut Context<'_>, args: Args<'_>) -> Outcome {
    let (limit, more) = (cx.shared.settings.limits.max_bulk, &args[2]);
    let length = modify(cx, &args[1], |value| {
        let old = value.len();
        grow(value, old.saturating_add(more.len()), limit)?;
        value[old..].copy_from_slice(more);
        Ok((value.len(), true))
    })?;
    cx.reply().int(i64::try_from(length).unwrap_or(i64::MAX));
    DONE
}

pub(super) fn setrange(cx: &mut Context<'_>, args: Args<'_>) -> Outcome {
    let (limit, part) = (cx.shared.settings.limits.max_bulk, &args[3]);
    let offset = usize::try_from(integer(&args[2])?);
    let offset = offset.map_err(|_| CommandError::said("ERR offset is out of range"))?;
    let length = if part.is_empty() {
        cx.keyspace.read(&args[1], cx.now(), |live| live.map_or(0, |live| live.value().len()))
    } else {
        modify(cx, &args[1], |value| {
            let end = offset.saturating_add(part.len());
            grow(value, end, limit)?;
            value[offset..end].copy_from_slice(part);
            Ok((value.len(), true))
        })?
    };
    cx.reply().int(i64::try_from(length).unwrap_or(i64::MAX));
    DONE
}

#[cfg(test)]
mod tests {
    use super::slice;

    #[test]
    fn indexes_count_from_both_ends_and_are_cut_to_what_there_is() {
        for ((start, end, length), expected) in [
            ((0, -1, 5), Some((0, 4))),
            ((0, 0, 5), Some((0, 0))),
            ((-3, -2, 5), Some((2, 3))),
            ((-100, 100, 5), Some((0, 4))),
            ((1, i64::MAX, 5), Some((1, 4))),
            ((i64::MIN, i64::MIN, 5), Some((0, 0))),
            ((-2, -3, 5), None),
            ((3, 2, 5), None),
            ((5, 9, 5), None),
            ((0, -1, 0), None),
        ] {
            assert_eq!(slice(start, end, length), expected, "{start} {end} {length}");
        }
    }
}
