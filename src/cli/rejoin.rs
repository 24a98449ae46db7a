//! `sapwood rejoin`

use std::io::{self, BufRead as _, IsTerminal as _, Write as _};

use super::output::Stream;
use super::target::{Session, Target, unexpected};
use super::{Exit, WrongUsage};
use sapwood::client::resp::Frame;

/// Discard every key of a node, and take those of its peers
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  sapwood rejoin --discard --node 10.0.0.3:7171
  sapwood rejoin --discard --yes        # without a question, for scripts

For a node whose keys are not wanted. It goes on as a new incarnation. What no other node holds is lost for good.")]
pub(crate) struct Args {
    /// Yes, discard every key of this node
    #[arg(long)]
    discard: bool,

    /// Do not ask on a terminal
    #[arg(long, short)]
    yes: bool,

    #[command(flatten)]
    target: Target,
}

pub(crate) async fn run(args: Args) -> anyhow::Result<Exit> {
    if !args.discard {
        return Err(WrongUsage(
            "rejoin discards every key of the node, and takes those of its peers instead; what no peer holds is lost: \
             give --discard if that is what you want",
        )
        .into());
    }
    let mut session = args.target.connect().await?;
    let asked = !args.yes && io::stdin().is_terminal() && Stream::Stderr.is_terminal();
    if asked && !confirmed(&args.target.node, &mut session).await? {
        eprintln!("nothing was discarded");
        return Ok(Exit::Failed);
    }
    session.expect_ok(&[b"SAPWOOD", b"REJOIN", b"DISCARD"]).await?;
    args.target.done(&serde_json::json!({ "rejoined": true }))
}

/// Asks for confirmation on the terminal; only `y` or `yes` confirms.
async fn confirmed(node: &str, session: &mut Session) -> anyhow::Result<bool> {
    let keys = match session.call(&[b"DBSIZE"]).await? {
        Frame::Int(keys) => keys,
        other => return unexpected("a number", &other),
    };
    eprint!("Discard all {keys} keys of {node}, and take those of its peers? [y/N] ");
    io::stderr().flush()?;
    let mut answer = String::new();
    io::stdin().lock().read_line(&mut answer)?;
    Ok(["y", "yes"].contains(&answer.trim().to_lowercase().as_str()))
}
