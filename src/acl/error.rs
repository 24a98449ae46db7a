//! What is wrong with a file of users.

use super::file::{MAX_FILE, MAX_USERS};
use super::password::{MAX_ARGON2_HASHES, MAX_MEMORY_KIB, MAX_PASSES, MAX_PASSWORDS, MAX_THREADS};
use super::rules::{MAX_PATTERN, MAX_PATTERNS, MAX_RULES};
use super::user::MAX_NAME;

/// A line of a file of users cannot be used. Nothing of the file is.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("line {line}: {problem}")]
pub struct AclError {
    /// The number of the line, from 1 on.
    pub line: usize,
    /// What is wrong with it.
    pub problem: Problem,
}

/// What is wrong with a line of a file of users. The text never contains what may be a password.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Problem {
    /// The file is not UTF-8.
    #[error("it is no UTF-8 text")]
    NotText,
    /// The file is too long.
    #[error("a file of users has at most {MAX_FILE} bytes")]
    FileTooLong,
    /// There are too many users.
    #[error("a file has at most {MAX_USERS} users")]
    TooManyUsers,
    /// The line is neither a user, a comment nor empty.
    #[error("a line begins with `user NAME`, or with # if it is a comment")]
    NoUser,
    /// The name is not usable.
    #[error("a user's name has 1 to {MAX_NAME} bytes, without control characters")]
    Name,
    /// Two lines have the same name.
    #[error("the user {0:?} is there twice: write all of its rules on one line")]
    Duplicate(String),
    /// The password of `default` comes from elsewhere too.
    #[error("the user default has its password from --client-password-file: remove that, or this line")]
    DefaultTwice,
    /// The user has too many rules.
    #[error("a user has at most {MAX_RULES} rules")]
    TooManyRules,
    /// A password in plain text.
    #[error(
        "passwords in plain text (>…, <…) are not accepted: `sapwood passwd` prints the hash to write instead"
    )]
    PlainPassword,
    /// `!` of Redis.
    #[error("!… removes a hash that an earlier rule has added: leave out both")]
    RemovedHash,
    /// `#` without the 64 digits of a SHA-256.
    #[error("# takes the 64 hexadecimal digits of a SHA-256; `sapwood passwd` prints a better hash")]
    Sha256,
    /// Not a hash of argon2id in PHC format.
    #[error(
        "this is no hash of argon2id such as $argon2id$v=19$m=19456,t=2,p=1$SALT$HASH: `sapwood passwd` prints one"
    )]
    Argon2,
    /// The hash would take too long, since anyone can send a password.
    #[error(
        "the hash takes more than m={MAX_MEMORY_KIB}, t={MAX_PASSES} or p={MAX_THREADS}, which anyone could ask of the \
         node: `sapwood passwd` prints one that takes less"
    )]
    Argon2Cost,
    /// The user has too many passwords.
    #[error(
        "a user has at most {MAX_PASSWORDS} passwords, and at most {MAX_ARGON2_HASHES} of them by argon2id"
    )]
    TooManyPasswords,
    /// Selectors of Redis.
    #[error(
        "selectors in parentheses are not supported: write the rules without, or give them to another user"
    )]
    Selector,
    /// A glob that is no prefix.
    #[error(
        "{0:?} is neither an exact name nor a prefix with one * at its end: only these are matched in bounded time"
    )]
    Glob(String),
    /// A pattern is too long.
    #[error("a pattern has at most {MAX_PATTERN} bytes")]
    PatternTooLong,
    /// There are too many patterns.
    #[error("a user has at most {MAX_PATTERNS} patterns of keys, and as many of channels")]
    TooManyPatterns,
    /// A pattern after `~*` or `&*`.
    #[error(
        "{0:?} comes after a rule that allows all of its kind, and would have no effect: remove one of them"
    )]
    UselessPattern(String),
    /// `%` without a permission.
    #[error("{0:?} is no rule: write %R~PATTERN to read, %W~PATTERN to write or %RW~PATTERN for both")]
    Permission(String),
    /// There is no such command.
    #[error("{0:?} names no command: see docs/commands.md")]
    UnknownCommand(String),
    /// There is no such category.
    #[error("{0:?} names no category: `ACL CAT` lists them")]
    UnknownCategory(String),
    /// The word is no rule. It is not repeated: it may be a password.
    #[error("rule {0} of the user is none that is known: see docs/users.md")]
    UnknownRule(usize),
}
