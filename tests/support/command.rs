//! The `sapwood` command, and what a command prints.
#![allow(clippy::unwrap_used, reason = "a helper of tests fails as a test does")]
#![allow(dead_code, unreachable_pub, reason = "each test binary uses its own part")]

use std::process::{Command, Output, Stdio};

/// The `sapwood` binary, which is built with the feature `cli`. Not `env!`: test programs that start no process share
/// this file, and build without the feature.
pub fn binary() -> &'static str {
    match option_env!("CARGO_BIN_EXE_sapwood") {
        Some(path) => path,
        None => panic!("this test runs the command: build it with the feature `cli`"),
    }
}

/// The `sapwood` command, in an environment that sets nothing for it.
pub fn sapwood<I: AsRef<std::ffi::OsStr>>(args: impl IntoIterator<Item = I>) -> Command {
    let mut command = plain(Command::new(binary()));
    command.args(args);
    command
}

/// The same of any other command.
pub fn plain(mut command: Command) -> Command {
    for (name, _) in std::env::vars_os() {
        if name.to_string_lossy().starts_with("SAPWOOD_") {
            command.env_remove(name);
        }
    }
    command.stdin(Stdio::null());
    command
}

pub fn stdout(output: &Output) -> String {
    String::from_utf8(output.stdout.clone()).unwrap()
}

pub fn stderr(output: &Output) -> String {
    String::from_utf8(output.stderr.clone()).unwrap()
}
