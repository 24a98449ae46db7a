//! Commands on the bits of a value. Bit 0 is the highest of the first byte.

use super::context::{Context, DONE, Outcome, integer, is};
use super::error::CommandError;
use super::parts::{clip, grow, modify, slice};
use super::several::check_number;
use crate::model::counter::strict_number;
use crate::resp::Args;
use crate::store::{Live, Write};

/// What Redis lets a bit's offset be: a value has at most 512 MiB there.
const MAX_OFFSET: i64 = (512 << 20) * 8;

fn bit_offset(arg: &[u8]) -> Result<usize, CommandError> {
    let offset = strict_number(arg).filter(|offset| (0..MAX_OFFSET).contains(offset));
    let offset = offset.and_then(|offset| usize::try_from(offset).ok());
    offset.ok_or(CommandError::said("ERR bit offset is not an integer or out of range"))
}

fn bit(value: &[u8], at: usize) -> bool {
    value.get(at / 8).is_some_and(|byte| byte & (0x80 >> (at % 8)) != 0)
}

fn length(len: usize) -> i64 {
    i64::try_from(len).unwrap_or(i64::MAX)
}

pub(super) fn getbit(cx: &mut Context<'_>, args: Args<'_>) -> Outcome {
    let at = bit_offset(&args[2])?;
    let is_set = cx.keyspace.read(&args[1], cx.now(), |live| live.is_some_and(|live| bit(live.value(), at)));
    cx.reply().int(i64::from(is_set));
    DONE
}

pub(super) fn setbit(cx: &mut Context<'_>, args: Args<'_>) -> Outcome {
    let at = bit_offset(&args[2])?;
    let new = match &args[3] {
        b"0" => false,
        b"1" => true,
        _ => return Err(CommandError::said("ERR bit is not an integer or out of range")),
    };
    let limit = cx.shared.settings.limits.max_bulk;
    let old = modify(cx, &args[1], |value| {
        let (old, length) = (bit(value, at), value.len());
        grow(value, at / 8 + 1, limit)?;
        let mask = 0x80 >> (at % 8);
        if new {
            value[at / 8] |= mask;
        } else {
            value[at / 8] &= !mask;
        }
        Ok((old, old != new || value.len() > length))
    })?;
    cx.reply().int(i64::from(old));
    DONE
}

/// A part of a value, in bytes or in bits.
#[derive(Clone, Copy)]
struct Part {
    start: i64,
    end: i64,
    in_bits: bool,
}

impl Part {
    /// Parses `start`, `end` (the last by default) and the unit (`BYTE` by default).
    fn parse(start: &[u8], end: Option<&[u8]>, unit: Option<&[u8]>) -> Result<Part, CommandError> {
        let in_bits = match unit {
            None => false,
            Some(unit) if is(unit, "bit") => true,
            Some(unit) if is(unit, "byte") => false,
            Some(_) => return Err(CommandError::Syntax),
        };
        Ok(Part { start: integer(start)?, end: end.map_or(Ok(-1), integer)?, in_bits })
    }

    /// The first bit of the part in a value of so many bytes, and the one behind the last; `None` if it is empty.
    fn bits(
        self,
        bytes: usize,
        cut: fn(i64, i64, usize) -> Option<(usize, usize)>,
    ) -> Option<(usize, usize)> {
        let unit = if self.in_bits { 1 } else { 8 };
        let (start, end) = cut(self.start, self.end, bytes * 8 / unit)?;
        Some((start * unit, (end + 1) * unit))
    }
}

/// Counts the bits that are set from bit `start` to before bit `end`.
fn count(value: &[u8], start: usize, end: usize) -> usize {
    let (first, last) = (start.div_ceil(8), end / 8);
    if first > last {
        return (start..end).filter(|at| bit(value, *at)).count();
    }
    let edges = (start..first * 8).chain(last * 8..end).filter(|at| bit(value, *at)).count();
    edges + value[first..last].iter().map(|byte| byte.count_ones() as usize).sum::<usize>()
}

pub(super) fn bitcount(cx: &mut Context<'_>, args: Args<'_>) -> Outcome {
    let part = match (args.get(2), args.get(3)) {
        (None, None) => Part { start: 0, end: -1, in_bits: false },
        (Some(start), Some(end)) if args.len() <= 5 => Part::parse(start, Some(end), args.get(4))?,
        _ => return Err(CommandError::Syntax),
    };
    let set = cx.keyspace.read(&args[1], cx.now(), |live| {
        let value = live.map(Live::value).unwrap_or_default();
        part.bits(value.len(), slice).map_or(0, |(start, end)| count(value, start, end))
    });
    cx.reply().int(length(set));
    DONE
}

/// The first bit from `start` to before `end` that is `wanted`.
fn position(value: &[u8], wanted: bool, start: usize, end: usize) -> Option<usize> {
    let skipped = if wanted { 0 } else { 0xFF };
    let mut at = start;
    while at < end {
        if at.is_multiple_of(8) && end - at >= 8 && value[at / 8] == skipped {
            at += 8;
        } else if bit(value, at) == wanted {
            return Some(at);
        } else {
            at += 1;
        }
    }
    None
}

pub(super) fn bitpos(cx: &mut Context<'_>, args: Args<'_>) -> Outcome {
    let wanted = match integer(&args[2])? {
        0 => false,
        1 => true,
        _ => return Err(CommandError::said("ERR The bit argument must be 1 or 0.")),
    };
    if args.len() > 6 {
        return Err(CommandError::Syntax);
    }
    let start = args.get(3).unwrap_or(b"0");
    let part = Part::parse(start, args.get(4), args.get(5))?;
    // Without an end, zeros follow the value without end.
    let is_open = args.len() < 5;
    let found = cx.keyspace.read(&args[1], cx.now(), |live| {
        let Some(value) = live.map(Live::value) else { return if wanted { -1 } else { 0 } };
        let Some((start, end)) = part.bits(value.len(), clip) else { return -1 };
        match position(value, wanted, start, end) {
            Some(at) => length(at),
            None if !wanted && is_open => length(value.len() * 8),
            None => -1,
        }
    });
    cx.reply().int(found);
    DONE
}

/// Most bytes that one `BITOP` reads, as it locks its keys.
const MAX_READ: usize = 64 << 20;

pub(super) fn bitop(cx: &mut Context<'_>, args: Args<'_>) -> Outcome {
    let combine: fn(u8, u8) -> u8 = match &args[1] {
        word if is(word, "and") => |a, b| a & b,
        word if is(word, "or") => |a, b| a | b,
        word if is(word, "xor") => |a, b| a ^ b,
        // The result of one key alone is its value.
        word if is(word, "not") && args.len() == 4 => |a, _| a,
        word if is(word, "not") => {
            return Err(CommandError::said("ERR BITOP NOT must be called with a single source key."));
        }
        _ => return Err(CommandError::Syntax),
    };
    check_number("BITOP", args.len())?;
    let result = cx.together(args.tail(2).iter(), |cx| {
        let (mut result, mut read) = (None, 0);
        for key in args.tail(3) {
            read += cx.keyspace.read(key, cx.now(), |live| {
                let value = live.map(Live::value).unwrap_or_default();
                match &mut result {
                    None => result = Some(value.to_vec()),
                    Some(result) => fold(result, value, combine),
                }
                value.len()
            });
            if read > MAX_READ {
                return Err(CommandError::said(format!("ERR BITOP reads at most {MAX_READ} bytes at once")));
            }
        }
        let mut result = result.unwrap_or_default();
        if is(&args[1], "not") {
            result.iter_mut().for_each(|byte| *byte = !*byte);
        }
        let write = match &result[..] {
            [] => Write::Delete,
            value => Write::Set { value, deadline: None },
        };
        cx.keyspace.write(cx.batch, &args[2], |_| (write, ()))?;
        Ok(result.len())
    })?;
    cx.reply().int(length(result));
    DONE
}

/// Combines `value` with what others have given. The shorter one ends with zeros.
fn fold(result: &mut Vec<u8>, value: &[u8], combine: fn(u8, u8) -> u8) {
    if result.len() < value.len() {
        result.resize(value.len(), 0);
    }
    let (both, rest) = result.split_at_mut(value.len());
    both.iter_mut().zip(value).for_each(|(byte, other)| *byte = combine(*byte, *other));
    rest.iter_mut().for_each(|byte| *byte = combine(*byte, 0));
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn bits_are_counted_and_found_as_one_by_one(
            value in proptest::collection::vec(prop_oneof![Just(0u8), Just(0xFF), any::<u8>()], 1..12),
            a in 0usize..96,
            b in 0usize..96,
            wanted: bool,
        ) {
            let (start, end) = (a.min(b).min(value.len() * 8), a.max(b).min(value.len() * 8));
            prop_assert_eq!(count(&value, start, end), (start..end).filter(|at| bit(&value, *at)).count());
            prop_assert_eq!(position(&value, wanted, start, end), (start..end).find(|at| bit(&value, *at) == wanted));
        }
    }
}
