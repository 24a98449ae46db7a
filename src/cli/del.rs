//! `sapwood del`

use std::ffi::OsString;

use sapwood::client::resp::Frame;

use super::Exit;
use super::output::{self, Stream};
use super::target::{Target, unexpected};

/// Delete keys
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  sapwood del hello
  sapwood del a b c                              # how many there were is printed
  sapwood keys 'session:*' | xargs sapwood del   # keys without spaces and quotes")]
pub(crate) struct Args {
    /// The keys to delete; exit code 3 if there was none of them
    #[arg(required = true)]
    keys: Vec<OsString>,

    #[command(flatten)]
    target: Target,
}

pub(crate) async fn run(args: Args) -> anyhow::Result<Exit> {
    let mut command: Vec<&[u8]> = vec![b"DEL"];
    command.extend(args.keys.iter().map(|key| key.as_encoded_bytes()));
    let deleted = match args.target.connect().await?.call(&command).await? {
        Frame::Int(deleted) => deleted,
        other => return unexpected("a number", &other),
    };

    if args.target.json {
        output::json(&serde_json::json!({ "deleted": deleted }))?;
    } else if Stream::Stdout.is_terminal() {
        output::line(&format!("{deleted} deleted"))?;
    } else {
        output::line(&deleted.to_string())?;
    }
    Ok(if deleted > 0 { Exit::Done } else { Exit::NotFound })
}
