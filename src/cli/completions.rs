//! `sapwood completions`

use clap::CommandFactory as _;

use super::{Cli, Exit, output};

/// Write the completions for a shell to stdout
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  sapwood completions bash > ~/.local/share/bash-completion/completions/sapwood
  sapwood completions zsh > ~/.zfunc/_sapwood
  sapwood completions fish > ~/.config/fish/completions/sapwood.fish")]
pub(crate) struct Args {
    /// The shell to complete in
    shell: clap_complete::Shell,
}

pub(crate) fn run(args: &Args) -> anyhow::Result<Exit> {
    // Into memory first, because clap_complete panics if a write fails.
    let mut script = Vec::new();
    clap_complete::generate(args.shell, &mut Cli::command(), "sapwood", &mut script);
    output::raw(&script)?;
    Ok(Exit::Done)
}
