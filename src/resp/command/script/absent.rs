//! The commands of a build that executes no scripts.

use super::super::context::{Context, Dispatch, Outcome};
use super::super::entry::Table;
use super::super::error::CommandError;
use super::check;
use crate::resp::Args;

macro_rules! absent {
    ($($name:ident $text:literal)*) => {$(
        pub(in super::super) fn $name(cx: &mut Context<'_>, _args: Args<'_>) -> Outcome {
            Err(check(cx, $text).err().unwrap_or(CommandError::Syntax))
        }
    )*};
}

absent! {
    exists "script|exists" flush "script|flush" kill "script|kill" load "script|load" show "script|show"
}

pub(in super::super) fn eval(
    cx: &mut Context<'_>,
    _args: Args<'_>,
    _dispatch: Dispatch,
    table: &Table,
) -> Outcome {
    Err(check(cx, table.name_of(cx.session.call)).err().unwrap_or(CommandError::Syntax))
}

pub(in super::super) use eval as evalsha;
