//! `sapwood incr`

use std::ffi::OsString;

use sapwood::client::resp::Frame;

use super::Exit;
use super::output;
use super::target::{Target, unexpected};

/// Add to a counter
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  sapwood incr visits                   # adds 1; what it counts on this node is printed
  sapwood incr visits 10
  sapwood incr stock -3
  sapwood incr visits --json            # {\"key\":\"visits\",\"value\":8}

What several nodes add at the same time adds up. After an error that leaves it open whether the node has added, \
look before trying again: it would count twice.")]
pub(crate) struct Args {
    /// The counter; it begins at 0
    key: OsString,

    /// How much to add
    #[arg(default_value_t = 1, allow_negative_numbers = true)]
    by: i64,

    #[command(flatten)]
    target: Target,
}

pub(crate) async fn run(args: Args) -> anyhow::Result<Exit> {
    let key = args.key.as_encoded_bytes();
    let by = args.by.to_string();
    let command: [&[u8]; 3] = [b"INCRBY", key, by.as_bytes()];
    let value = match args.target.connect().await?.call(&command).await? {
        Frame::Int(value) => value,
        other => return unexpected("a number", &other),
    };

    if args.target.json {
        let mut object = output::json_bytes("key", key);
        object.insert("value".into(), value.into());
        output::json(&object.into())?;
    } else {
        output::line(&value.to_string())?;
    }
    Ok(Exit::Done)
}
