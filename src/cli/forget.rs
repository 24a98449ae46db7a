//! `sapwood forget`

use super::Exit;
use super::target::Target;

/// Stop waiting for a node that will not come back
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  sapwood forget db-3
  sapwood forget db-3 --node 10.0.0.2:7171

Say it to one node: the others hear of it. Tombstones are kept until every member has seen them, so one \
that is away for good keeps them all; `sapwood status` shows who is waited for. Should the node come \
back after all, it gives up what it alone held, and lists that with `sapwood lost`.")]
pub(crate) struct Args {
    /// The member's name; it must not be linked
    name: String,

    #[command(flatten)]
    target: Target,
}

pub(crate) async fn run(args: Args) -> anyhow::Result<Exit> {
    args.target.connect().await?.tell(&[b"SAPWOOD", b"FORGET", args.name.as_bytes()]).await?;
    args.target.done(&serde_json::json!({ "forgotten": args.name }))
}
