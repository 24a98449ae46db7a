//! The limits of one request, and the errors for exceeding them.

use thiserror::Error;

/// The limits of one request. A request over a limit is skipped and gets an error; the connection stays open.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Most arguments, the command's name included. Default: 1,048,576, Redis's limit.
    pub max_args: usize,
    /// Longest argument in bytes, hence the longest key or value. Default: 16 MiB.
    pub max_bulk: usize,
    /// Longest request in bytes, framing included. Default: 64 MiB. At most `u32::MAX`.
    pub max_command: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self { max_args: 1 << 20, max_bulk: 16 << 20, max_command: 64 << 20 }
    }
}

impl Limits {
    /// The limit that a request exceeds, given its longest argument and its length, if any.
    pub(super) fn exceeded_by(&self, bulk: usize, command: usize) -> Option<TooLarge> {
        if bulk > self.max_bulk {
            Some(TooLarge::Bulk(self.max_bulk))
        } else if command > self.max_command {
            Some(TooLarge::Command(self.max_command))
        } else {
            None
        }
    }
}

/// The limit that a skipped request exceeds. Displays as the error reply, without its leading `-`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum TooLarge {
    /// An argument is longer than [`Limits::max_bulk`].
    #[error("ERR value is larger than {0} bytes (--max-value)")]
    Bulk(usize),
    /// The request is longer than [`Limits::max_command`].
    #[error("ERR request is larger than {0} bytes")]
    Command(usize),
    /// The request has more arguments than [`Limits::max_args`].
    #[error("ERR request has more than {0} arguments")]
    Args(usize),
}
