//! `sapwood cut` and `sapwood mend`, which take the same arguments.

use super::Exit;
use super::target::Target;

/// Keep a node apart from a peer, as a broken network would: for tests
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  sapwood cut b
  sapwood cut '*'                       # from all peers; the quotes keep the star from the shell
  sapwood cut b --direction in          # what b sends no longer arrives; the rest does
  sapwood mend '*'                      # as if nothing had been

The link stays open and carries nothing. The node must have been started with --enable-faults.")]
pub(crate) struct Cut {
    #[command(flatten)]
    fault: Fault,
}

/// Undo `sapwood cut`
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  sapwood mend b
  sapwood mend b --direction in
  sapwood mend '*'                      # undoes every cut of this node")]
pub(crate) struct Mend {
    #[command(flatten)]
    fault: Fault,
}

#[derive(Debug, clap::Args)]
struct Fault {
    /// The peer's name, or * for all of them
    peer: String,

    /// Which way: what the peer sends (in), what this node sends (out), or both
    #[arg(long, value_parser = ["in", "out", "both"], default_value = "both")]
    direction: String,

    #[command(flatten)]
    target: Target,
}

pub(crate) async fn cut(args: Cut) -> anyhow::Result<Exit> {
    args.fault.run("CUT").await
}

pub(crate) async fn mend(args: Mend) -> anyhow::Result<Exit> {
    args.fault.run("MEND").await
}

impl Fault {
    async fn run(self, what: &str) -> anyhow::Result<Exit> {
        let command = [b"SAPWOOD", what.as_bytes(), self.peer.as_bytes(), self.direction.as_bytes()];
        let outcome = serde_json::json!({ what.to_lowercase(): self.peer, "direction": self.direction });
        self.target.connect().await?.expect_ok(&command).await?;
        self.target.done(&outcome)
    }
}
