//! The command line: one file for each subcommand, and the code that they share.
//!
//! ```text
//! serve ──────────────► settings ► Config ► Node        check-config prints that Config
//! get set del incr ───► target ► a connection to a node ► output
//! keys watch bench ────┤
//! status peers ────────┤
//! verify lost ─────────┤
//! cut mend forget ────┘
//!
//! certs makes files, and talks to no node
//! ```
//!
//! Results go to stdout, messages to stderr; colours are used only on a terminal.

mod address;
mod bench;
mod certs;
mod check_config;
mod completions;
mod cut;
mod del;
mod demo;
mod fields;
mod forget;
mod get;
mod hangup;
mod in_place;
mod incr;
mod keys;
mod log_filter;
mod logging;
mod lost;
mod man;
#[cfg(unix)]
mod open_files;
mod output;
mod passwd;
mod peers;
mod progress;
mod rejoin;
mod release;
mod reload;
mod serve;
mod set;
mod settings;
mod status;
mod stop;
mod target;
mod variables;
mod verify;
mod watch;

use std::io::Write as _;
use std::process::ExitCode;

use clap::{ArgMatches, CommandFactory as _, FromArgMatches as _};

use self::output::{Paint, Stream};

/// An eventually consistent, fully replicated, in-memory key-value store that any Redis client can talk to.
///
/// Every node holds every key and takes reads and writes at any time, alone if it must; nodes that can reach each
/// other agree.
#[derive(Debug, clap::Parser)]
#[command(name = "sapwood", version, after_help = WHERE_TO_START)]
#[command(subcommand_required = true, arg_required_else_help = true)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

const WHERE_TO_START: &str = "\
Where to start:
  sapwood demo --script heal         # watch three nodes come apart and heal
  sapwood serve                      # a node on this machine; leave it running
  sapwood set hello world            # in another terminal
  sapwood get hello
  redis-cli -p 7171 get hello        # any Redis client will do
  sapwood serve --help               # how to run three nodes, or a cluster

Exit codes: 0 done, 1 failed, 2 wrong usage, 3 not found,
  4 a node has stopped with writes that no other node holds";

#[derive(Debug, clap::Subcommand)]
enum Command {
    Serve(serve::Args),
    Demo(demo::Args),
    Get(get::Args),
    Set(set::Args),
    Del(del::Args),
    Incr(incr::Args),
    Keys(keys::Args),
    Watch(watch::Args),
    Bench(bench::Args),
    Status(status::Args),
    Peers(peers::Args),
    Verify(verify::Args),
    Lost(lost::Args),
    Forget(forget::Args),
    Rejoin(rejoin::Args),
    Cut(cut::Cut),
    Mend(cut::Mend),
    Certs(certs::Args),
    Passwd(passwd::Args),
    CheckConfig(check_config::Args),
    Completions(completions::Args),
    Man(man::Args),
}

/// The exit code of the command.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Exit {
    Done = 0,
    Failed = 1,
    Usage = 2,
    NotFound = 3,
    /// A node has stopped with writes of its clients that no peer holds, although a peer could be expected.
    Lost = 4,
}

/// The arguments are well-formed, but the command refuses to run with them.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
struct WrongUsage(&'static str);

/// Parses the command line and runs the subcommand. Wrong usage ends the process here, with code 2.
pub(crate) fn main() -> ExitCode {
    let matches = Cli::command().get_matches();
    let exit = run(&matches).unwrap_or_else(|error| report(&error));
    ExitCode::from(exit as u8)
}

fn run(matches: &ArgMatches) -> anyhow::Result<Exit> {
    let cli = Cli::from_arg_matches(matches)?;
    match cli.command {
        Command::Serve(args) => serve::run(args),
        Command::Demo(args) => demo::run(&args),
        Command::Get(args) => client(get::run(args)),
        Command::Set(args) => client(set::run(args)),
        Command::Del(args) => client(del::run(args)),
        Command::Incr(args) => client(incr::run(args)),
        Command::Keys(args) => client(keys::run(args)),
        Command::Watch(args) => client(watch::run(args)),
        Command::Bench(args) => client(bench::run(args)),
        Command::Status(args) => client(status::run(args)),
        Command::Peers(args) => client(peers::run(args)),
        Command::Verify(args) => client(verify::run(args)),
        Command::Lost(args) => client(lost::run(args)),
        Command::Forget(args) => client(forget::run(args)),
        Command::Rejoin(args) => client(rejoin::run(args)),
        Command::Cut(args) => client(cut::cut(args)),
        Command::Mend(args) => client(cut::mend(args)),
        Command::Certs(args) => certs::run(args),
        Command::Passwd(args) => passwd::run(&args),
        Command::CheckConfig(args) => check_config::run(args, matches),
        Command::Completions(args) => completions::run(&args),
        Command::Man(args) => man::run(&args),
    }
}

/// Runs a subcommand that only talks to a node, which needs one thread.
fn client(command: impl Future<Output = anyhow::Result<Exit>>) -> anyhow::Result<Exit> {
    tokio::runtime::Builder::new_current_thread().enable_all().build()?.block_on(command)
}

/// Prints an error, and returns the exit code for it.
fn report(error: &anyhow::Error) -> Exit {
    let io = error.downcast_ref::<std::io::Error>();
    if io.is_some_and(|io| io.kind() == std::io::ErrorKind::BrokenPipe) {
        // The reader of stdout, such as `head`, has closed it because it has read enough.
        return Exit::Done;
    }
    let paint = Paint::on(Stream::Stderr);
    // If stderr is closed, as after a closed terminal, only the exit code remains.
    let _ = writeln!(std::io::stderr(), "{} {error:#}", paint.red("error:"));
    if error.is::<settings::LoadError>() || error.is::<target::BadPassword>() || error.is::<WrongUsage>() {
        Exit::Usage
    } else {
        Exit::Failed
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn every_subcommand_shows_examples() {
        for command in Cli::command().get_subcommands() {
            let examples = command.get_after_help().map(ToString::to_string).unwrap_or_default();
            assert!(examples.starts_with("Examples:\n  "), "{} has no examples", command.get_name());
            assert!(examples.contains(&format!("sapwood {}", command.get_name())), "{examples}");
        }
    }
}
