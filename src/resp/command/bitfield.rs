//! `BITFIELD`: integers of any number of bits within a value.

use super::context::{Context, DONE, Outcome, integer, is};
use super::error::CommandError;
use super::parts::{grow, modify};
use crate::model::counter::strict_number;
use crate::resp::Args;
use crate::store::Live;

/// What a value has at most in Redis, in bits.
const MAX_BITS: i64 = (512 << 20) * 8;

/// The type and the place of an integer.
#[derive(Clone, Copy)]
struct Field {
    is_signed: bool,
    bits: u32,
    /// The offset of its highest bit.
    at: usize,
}

/// What happens if a result does not fit.
#[derive(Clone, Copy)]
enum Overflow {
    Wrap,
    Saturate,
    Fail,
}

#[derive(Clone, Copy)]
enum Action {
    Get,
    Set(i64),
    Add(i64),
}

struct Step {
    field: Field,
    action: Action,
    overflow: Overflow,
}

impl Field {
    fn parse(kind: &[u8], offset: &[u8]) -> Result<Field, CommandError> {
        const TYPE: &str = "ERR Invalid bitfield type. Use something like i16 u8. Note that u64 is not supported but i64 is.";
        let (is_signed, most) = match kind.first() {
            Some(b'i') => (true, 64),
            Some(b'u') => (false, 63),
            _ => return Err(CommandError::said(TYPE)),
        };
        let bits = strict_number(&kind[1..]).and_then(|bits| u32::try_from(bits).ok());
        let bits = bits.filter(|bits| (1..=most).contains(bits)).ok_or(CommandError::said(TYPE))?;
        let (offset, unit) = match offset.strip_prefix(b"#") {
            Some(index) => (index, i64::from(bits)),
            None => (offset, 1),
        };
        let at = strict_number(offset).and_then(|offset| offset.checked_mul(unit));
        let at = at.filter(|at| *at >= 0 && at.saturating_add(bits.into()) <= MAX_BITS);
        let at = at.and_then(|at| usize::try_from(at).ok());
        let at = at.ok_or(CommandError::said("ERR bit offset is not an integer or out of range"))?;
        Ok(Field { is_signed, bits, at })
    }

    /// How many bytes a value has at least that has all of it.
    fn bytes(self) -> usize {
        (self.at + self.bits as usize).div_ceil(8)
    }

    fn get(self, value: &[u8]) -> i128 {
        let bit = |at: usize| value.get(at / 8).map_or(0, |byte| byte >> (7 - at % 8) & 1);
        let raw = (self.at..self.at + self.bits as usize).fold(0, |raw, at| raw << 1 | i128::from(bit(at)));
        self.wrap(raw)
    }

    fn set(self, value: &mut [u8], number: i128) {
        for n in 0..self.bits as usize {
            let at = self.at + n;
            let mask = 0x80 >> (at % 8);
            if number >> (self.bits as usize - 1 - n) & 1 == 1 {
                value[at / 8] |= mask;
            } else {
                value[at / 8] &= !mask;
            }
        }
    }

    fn range(self) -> (i128, i128) {
        if self.is_signed {
            (-(1 << (self.bits - 1)), (1 << (self.bits - 1)) - 1)
        } else {
            (0, (1 << self.bits) - 1)
        }
    }

    /// The number of this type that has the same lowest bits.
    fn wrap(self, number: i128) -> i128 {
        let low = number & ((1 << self.bits) - 1);
        if self.is_signed && low >> (self.bits - 1) == 1 { low - (1 << self.bits) } else { low }
    }

    /// What is stored instead of `number`; `None` for nothing.
    fn fit(self, number: i128, overflow: Overflow) -> Option<i128> {
        let (least, most) = self.range();
        match overflow {
            _ if (least..=most).contains(&number) => Some(number),
            Overflow::Wrap => Some(self.wrap(number)),
            Overflow::Saturate => Some(number.clamp(least, most)),
            Overflow::Fail => None,
        }
    }
}

fn parse(args: Args<'_>, reads_only: bool) -> Result<Vec<Step>, CommandError> {
    let (mut steps, mut overflow, mut at) = (Vec::new(), Overflow::Wrap, 2);
    while let Some(word) = args.get(at) {
        let arg = |n: usize| args.get(at + n).ok_or(CommandError::Syntax);
        let (action, taken): (fn(i64) -> Action, usize) = match word {
            word if is(word, "get") => (|_| Action::Get, 3),
            word if is(word, "set") => (Action::Set, 4),
            word if is(word, "incrby") => (Action::Add, 4),
            word if is(word, "overflow") => {
                overflow = match arg(1)? {
                    word if is(word, "wrap") => Overflow::Wrap,
                    word if is(word, "sat") => Overflow::Saturate,
                    word if is(word, "fail") => Overflow::Fail,
                    _ => return Err(CommandError::said("ERR Invalid OVERFLOW type specified")),
                };
                at += 2;
                continue;
            }
            _ => return Err(CommandError::Syntax),
        };
        let (kind, offset) = (arg(1)?, arg(2)?);
        let number = if taken == 4 { Some(arg(3)?) } else { None };
        let field = Field::parse(kind, offset)?;
        if number.is_some() && reads_only {
            return Err(CommandError::said("ERR BITFIELD_RO only supports the GET subcommand"));
        }
        steps.push(Step { field, action: action(number.map_or(Ok(0), integer)?), overflow });
        at += taken;
    }
    Ok(steps)
}

/// Makes a step; returns the reply to it, which is `None` if it overflows, and whether it has changed the value.
fn perform(step: &Step, value: &mut [u8]) -> (Option<i128>, bool) {
    let field = step.field;
    let old = field.get(value);
    let wanted = match step.action {
        Action::Get => return (Some(old), false),
        // A negative number for an unsigned field is the largest there is, as in Redis.
        #[expect(clippy::cast_sign_loss, reason = "the bits are meant")]
        Action::Set(number) if !field.is_signed => i128::from(number as u64),
        Action::Set(number) => number.into(),
        Action::Add(by) => old + i128::from(by),
    };
    let Some(new) = field.fit(wanted, step.overflow) else { return (None, false) };
    field.set(value, new);
    let reply = if matches!(step.action, Action::Add(_)) { new } else { old };
    (Some(reply), new != old)
}

pub(super) fn bitfield(cx: &mut Context<'_>, args: Args<'_>) -> Outcome {
    run(cx, args, false)
}

pub(super) fn bitfield_ro(cx: &mut Context<'_>, args: Args<'_>) -> Outcome {
    run(cx, args, true)
}

fn run(cx: &mut Context<'_>, args: Args<'_>, reads_only: bool) -> Outcome {
    let steps = parse(args, reads_only)?;
    let limit = cx.shared.settings.limits.max_bulk;
    let written =
        steps.iter().filter(|step| !matches!(step.action, Action::Get)).map(|step| step.field.bytes());
    let replies: Vec<Option<i128>> = match written.max() {
        None => cx.keyspace.read(&args[1], cx.now(), |live| {
            let value = live.map(Live::value).unwrap_or_default();
            steps.iter().map(|step| Some(step.field.get(value))).collect()
        }),
        Some(length) => modify(cx, &args[1], |value| {
            let before = value.len();
            grow(value, length, limit)?;
            let mut is_changed = value.len() > before;
            let replies = steps.iter().map(|step| {
                let (reply, changes) = perform(step, value);
                is_changed |= changes;
                reply
            });
            Ok((replies.collect(), is_changed))
        })?,
    };
    let mut reply = cx.reply();
    reply.array(replies.len());
    for number in replies {
        match number.and_then(|number| i64::try_from(number).ok()) {
            Some(number) => reply.int(number),
            None => reply.null(),
        }
    }
    DONE
}
