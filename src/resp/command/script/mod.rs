//! Scripts: `EVAL` and the commands around it.
//!
//! A script runs as a transaction does: with the ranges of all its declared keys locked, so that other clients of this
//! node see all that it has written, or nothing. Keys that it has not declared in `KEYS` are not locked, so it does
//! not reach them.
//!
//! ```text
//!   EVAL ──► compile (cached) ──► lock the ranges of KEYS ──► a fresh Luau machine runs it:
//!      redis.call ──► dispatch, as for a client ──► the keyspace, which buffers what is written
//!      ──► reply ──► apply what is buffered, unless a limit ended the script ──► unlock
//! ```
//!
//! **Why a buffer.** A script that ends by an error keeps what it wrote before, as in Redis. One that is ended by a
//! limit must leave nothing. An undo log would have to take back what peers, watchers and the sums of the ranges have
//! seen; a buffer drops cells that nobody has seen. See `store/buffered.rs`.
//!
//! **Why a fresh machine.** Nothing that one script does to its environment can reach another, and its limit on memory
//! is its own. Luau alone begins in 50 to 100 µs.
//!
//! **Hostile scripts.** Luau calls an interrupt at each jump back, call and return, and while it matches patterns;
//! there the limits are checked. Functions of its library that could run long without an interrupt are left out or
//! replaced (`prelude.lua`). A script never supplies bytecode: it is always compiled here, from text.
//!
//! Without the cargo feature `scripts`, or without `--enable-scripts`, the commands say so.

#[cfg(not(feature = "scripts"))]
mod absent;
#[cfg(feature = "scripts")]
mod bits;
#[cfg(feature = "scripts")]
mod call;
#[cfg(feature = "scripts")]
mod eval;
#[cfg(feature = "scripts")]
mod json;
#[cfg(feature = "scripts")]
mod limits;
#[cfg(feature = "scripts")]
mod machine;
#[cfg(feature = "scripts")]
mod number;
#[cfg(feature = "scripts")]
mod redis;
#[cfg(feature = "scripts")]
mod value;

#[cfg(not(feature = "scripts"))]
pub(super) use absent::*;
#[cfg(feature = "scripts")]
pub(super) use eval::*;

use super::context::{Context, Outcome};
use super::error::{CommandError, shown_name};
use super::introspect::explain;
use crate::resp::Args;

const HELP: &[&str] = &[
    "SCRIPT <subcommand> [<arg> [value] [opt] ...]. Subcommands are:",
    "EXISTS <sha1> [<sha1> ...]",
    "    Return information about the existence of the scripts in the script cache.",
    "FLUSH [ASYNC|SYNC]",
    "    Flush the Lua scripts cache of this node.",
    "KILL",
    "    Kill the currently executing Lua scripts.",
    "LOAD <script>",
    "    Load a script into the scripts cache without executing it.",
    "SHOW <sha1>",
    "    Return the text of a script in the script cache.",
    "HELP",
    "    Prints this help.",
];

pub(super) fn help(cx: &mut Context<'_>, _args: Args<'_>) -> Outcome {
    explain(cx, HELP)
}

/// Checks that this node executes scripts.
pub(super) fn check(cx: &Context<'_>, command: &str) -> Result<(), CommandError> {
    if cfg!(feature = "scripts") && cx.shared.settings.enable_scripts {
        return Ok(());
    }
    let name = shown_name(command);
    let way = if cfg!(feature = "scripts") {
        "start the node with --enable-scripts"
    } else {
        "this build has none: build it with `--features scripts`, and start the node with --enable-scripts"
    };
    Err(CommandError::said(format!("UNSUPPORTED {name}: scripts are off: {way}")))
}
