//! `sapwood passwd`

use std::io::{self, BufRead as _, IsTerminal as _, Read as _};

use anyhow::{Context as _, bail};
use console::Term;
use sapwood::config::Secret;
use sapwood::internal::acl::{MAX_USER_NAME, hash_password};
use sapwood::internal::env::{Env as _, SystemEnv};

use super::{Exit, WrongUsage, output};

/// Hash a password for --users-file
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  sapwood passwd alice                       # asks for the password twice; prints: user alice on $argon2id$...
  openssl rand -base64 24 | tee password | sapwood passwd alice >> users.acl
  sapwood passwd                             # prints the hash alone, for a line that is there already

A user that has a password and nothing else may log in and do nothing. Append its rights to the line:
  ~app:* %R~shared:*   keys that begin with app:, and keys to read that begin with shared:
  &news:*              channels that begin with news:
  +@read +@write       commands, by category; `ACL CAT` of a node lists them")]
pub(crate) struct Args {
    /// The user; without one, only the hash is printed
    user: Option<String>,
}

pub(crate) fn run(args: &Args) -> anyhow::Result<Exit> {
    if let Some(user) = &args.user
        && (user.is_empty()
            || user.len() > MAX_USER_NAME
            || user.contains(|c: char| c.is_control() || c.is_whitespace()))
    {
        return Err(
            WrongUsage("a user's name has 1 to 128 bytes, without blanks and control characters").into()
        );
    }
    let password = if io::stdin().is_terminal() { ask()? } else { read_line()? };
    let mut salt = [0; 16];
    for half in salt.chunks_exact_mut(8) {
        half.copy_from_slice(&SystemEnv.random().to_le_bytes());
    }
    let hash = hash_password(password.expose(), salt).context("the password cannot be hashed")?;
    match &args.user {
        Some(user) => output::line(&format!("user {user} on {hash}"))?,
        None => output::line(&hash)?,
    }
    Ok(Exit::Done)
}

/// Asks for the password twice, without showing it.
fn ask() -> anyhow::Result<Secret> {
    let terminal = Term::stderr();
    let read = |prompt: &str| -> anyhow::Result<Secret> {
        terminal.write_str(prompt)?;
        Ok(Secret::new(terminal.read_secure_line()?.into_bytes())?)
    };
    let password = read("Password: ")?;
    if read("Again: ")? != password {
        bail!("the passwords differ");
    }
    Ok(password)
}

/// Reads one line from stdin.
fn read_line() -> anyhow::Result<Secret> {
    let mut line = Vec::new();
    io::stdin().lock().take(MAX_PASSWORD).read_until(b'\n', &mut line)?;
    let line = line.strip_suffix(b"\n").unwrap_or(&line);
    Secret::new(line.strip_suffix(b"\r").unwrap_or(line)).context("stdin has no password in its first line")
}

/// The longest line that is read, in bytes.
const MAX_PASSWORD: u64 = 64 << 10;
