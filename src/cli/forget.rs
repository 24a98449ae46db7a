//! `sapwood forget`

use super::Exit;
use super::target::Target;

/// Stop waiting for a node until it is heard again
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  sapwood forget db-3
  sapwood forget db-3 --node 10.0.0.2:7171

Say it to one node: the others learn it from that node. Tombstones are kept until every member holds them, so a node \
that is away keeps them all; `sapwood status` shows who is waited for. Once the node is heard again it is \
a member as before, with its data: its writes spread, and what the others deleted meanwhile goes.")]
pub(crate) struct Args {
    /// The member's name; it must not be linked
    name: String,

    #[command(flatten)]
    target: Target,
}

pub(crate) async fn run(args: Args) -> anyhow::Result<Exit> {
    args.target.connect().await?.expect_ok(&[b"SAPWOOD", b"FORGET", args.name.as_bytes()]).await?;
    args.target.done(&serde_json::json!({ "forgotten": args.name }))
}
