//! `sapwood man`

use std::path::PathBuf;

use anyhow::Context as _;
use clap::CommandFactory as _;

use super::{Cli, Exit, output};

/// Write the manual: one page to stdout, or all pages to a directory
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  sapwood man serve | man -l -
  sapwood man --dir ~/.local/share/man/man1      # sapwood.1, sapwood-serve.1, ...")]
pub(crate) struct Args {
    /// The subcommand whose page to write [default: the page of sapwood itself]
    #[arg(value_name = "COMMAND", conflicts_with = "dir", value_parser = subcommand)]
    command: Option<String>,

    /// Write all pages into this directory, which is made if it is missing
    #[arg(long)]
    dir: Option<PathBuf>,
}

pub(crate) fn run(args: &Args) -> anyhow::Result<Exit> {
    let mut cli = Cli::command().disable_help_subcommand(true);
    // Sets the full names (`sapwood serve`), which are the titles of the pages.
    cli.build();
    if let Some(dir) = &args.dir {
        std::fs::create_dir_all(dir)
            .and_then(|()| clap_mangen::generate_to(cli, dir))
            .with_context(|| format!("cannot write the manual into {}", dir.display()))?;
        return Ok(Exit::Done);
    }
    let command = match &args.command {
        Some(name) => cli.find_subcommand(name).cloned().with_context(|| format!("no command {name}"))?,
        None => cli,
    };
    let mut page = Vec::new();
    clap_mangen::Man::new(command).render(&mut page)?;
    output::raw(&page)?;
    Ok(Exit::Done)
}

fn subcommand(name: &str) -> Result<String, String> {
    let cli = Cli::command();
    let names: Vec<_> = cli.get_subcommands().map(clap::Command::get_name).collect();
    if names.contains(&name) {
        Ok(name.to_owned())
    } else {
        Err(format!("write one of {}", names.join(", ")))
    }
}
