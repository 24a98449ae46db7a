//! `sapwood get`

use std::ffi::OsString;

use sapwood::client::resp::Frame;

use super::Exit;
use super::output::{self, Stream};
use super::target::{Target, bytes};

/// Write the value of a key
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  sapwood get hello
  sapwood get logo.png > logo.png       # the bytes as they are
  sapwood get hello --json              # {\"found\":true,\"key\":\"hello\",\"value\":\"world\"}
  sapwood get hello || echo missing     # exit code 3 if there is no such key")]
pub(crate) struct Args {
    /// The key to read
    key: OsString,

    #[command(flatten)]
    target: Target,
}

pub(crate) async fn run(args: Args) -> anyhow::Result<Exit> {
    let key = args.key.as_encoded_bytes();
    let reply = args.target.connect().await?.call(&[b"GET", key]).await?;
    let value = match &reply {
        Frame::Null => None,
        reply => Some(bytes(reply)?),
    };

    if args.target.json {
        let mut object = output::json_bytes("key", key);
        object.insert("found".into(), value.is_some().into());
        object.extend(value.map(|value| output::json_bytes("value", value)).into_iter().flatten());
        output::json(&object.into())?;
    } else if let Some(value) = value {
        output::raw(value)?;
        if Stream::Stdout.is_terminal() {
            output::raw(b"\n")?;
        }
    } else if Stream::Stderr.is_terminal() {
        eprintln!("no such key");
    }
    Ok(if value.is_some() { Exit::Done } else { Exit::NotFound })
}
