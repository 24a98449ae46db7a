//! The errors of commands.

use std::borrow::Cow;

use thiserror::Error;

use crate::resp::Args;
use crate::store::WriteError;

/// Most bytes of an unknown name that an error repeats, as in Redis.
const MAX_ECHO: usize = 128;

/// Why a command was not executed, in Redis's words. Nothing was changed, unless a variant says otherwise.
#[derive(Debug, Error)]
pub(in crate::resp) enum CommandError {
    #[error("ERR syntax error")]
    Syntax,
    #[error("ERR value is not an integer or out of range")]
    NotAnInteger,
    #[error("ERR wrong number of arguments for '{0}' command")]
    Arity(&'static str),
    #[error("ERR invalid expire time in '{0}' command")]
    ExpireTime(&'static str),
    #[error("NOAUTH Authentication required.")]
    NoAuth,
    #[error("LOADING the state of the peers is being fetched, and the key may be with them: try again")]
    Loading,
    #[error("WRONGPASS invalid username-password pair or user is disabled.")]
    WrongPassword,
    #[error(
        "ERR Can't execute '{0}': only (P|S)SUBSCRIBE / (P|S)UNSUBSCRIBE / PING / QUIT / RESET are allowed in this \
         context"
    )]
    Subscribed(&'static str),
    #[error("ERR pattern is longer than {0} bytes")]
    PatternTooLong(usize),
    #[error("ERR the reply would be larger than {0} bytes: ask for fewer keys at once")]
    ReplyTooLarge(usize),
    /// If the command has many keys, those before the refused one were written.
    #[error("{}", in_words_of_redis(*.0))]
    Write(#[from] WriteError),
    /// An error that only one place raises.
    #[error("{0}")]
    Said(Cow<'static, str>),
}

fn in_words_of_redis(error: WriteError) -> Cow<'static, str> {
    Cow::Borrowed(match error {
        WriteError::KeyTooLong { limit, .. } => {
            return format!("ERR key is larger than {limit} bytes (--max-key)").into();
        }
        WriteError::ValueTooLong { limit, .. } => {
            return format!("ERR value is larger than {limit} bytes (--max-value)").into();
        }
        WriteError::OutOfMemory => "OOM command not allowed when used memory > 'maxmemory'.",
        WriteError::Overflow => "ERR increment or decrement would overflow",
        WriteError::NotAnInteger => "ERR value is not an integer or out of range",
        WriteError::TooManySlots => return format!("ERR {error}").into(),
    })
}

/// The name of a command as people write it, from that of its row.
pub(super) fn shown_name(name: &str) -> String {
    name.replace('|', " ").to_ascii_uppercase()
}

impl CommandError {
    pub(super) fn said(text: impl Into<Cow<'static, str>>) -> Self {
        Self::Said(text.into())
    }

    #[cfg(feature = "scripts")]
    /// The error of a script's command that its user may not execute.
    pub(super) fn in_script(self) -> Self {
        let text = self.to_string();
        match text.strip_prefix("NOPERM ") {
            Some(reason) => Self::said(format!("NOPERM ACL failure in script: {reason}")),
            None => self,
        }
    }

    /// The error of what Redis has and this store does not: `what` is a command with the arguments that matter, `why`
    /// the reason, `instead` the way out.
    pub(super) fn unsupported(what: &str, why: &str, instead: &str) -> Self {
        Self::said(format!("UNSUPPORTED {what}: {why}. {instead}"))
    }

    pub(super) fn unknown_subcommand(command: &str, name: &[u8]) -> Self {
        let name = String::from_utf8_lossy(&name[..name.len().min(MAX_ECHO)]);
        let parent = command.to_ascii_uppercase();
        Self::said(format!("ERR unknown subcommand '{name}'. Try {parent} HELP."))
    }

    pub(super) fn unknown_command(args: Args<'_>) -> Self {
        let cut = |arg: &[u8], len: usize| String::from_utf8_lossy(&arg[..arg.len().min(len)]).into_owned();
        let mut beginning = String::new();
        for arg in args.tail(1) {
            let Some(room) = MAX_ECHO.checked_sub(beginning.len()).filter(|room| *room > 0) else { break };
            beginning += &format!("'{}' ", cut(arg, room));
        }
        let name = cut(&args[0], MAX_ECHO);
        Self::said(format!("ERR unknown command '{name}', with args beginning with: {beginning}"))
    }
}
