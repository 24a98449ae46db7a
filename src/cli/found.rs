//! `sapwood found`

use super::Exit;
use super::target::Target;

/// Declare the nodes that have met to be the whole cluster
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  sapwood status                        # who is waited for
  sapwood found

A cluster founds itself once every address of --join was reached. Until then every tombstone is kept, \
and with --join-first writes are refused. Say this only when the missing nodes do not run elsewhere as a \
cluster of their own: two clusters of one name refuse each other.")]
pub(crate) struct Args {
    #[command(flatten)]
    target: Target,
}

pub(crate) async fn run(args: Args) -> anyhow::Result<Exit> {
    args.target.connect().await?.tell(&[b"SAPWOOD", b"FOUND"]).await?;
    args.target.done(&serde_json::json!({ "founded": true }))
}
