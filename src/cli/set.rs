//! `sapwood set`

use std::ffi::OsString;
use std::io::Read as _;

use anyhow::Context as _;
use sapwood::client::resp::Frame;
use sapwood::config::Span;

use super::Exit;
use super::output::{self, Stream};
use super::target::{Target, unexpected};

/// Write a value to a key
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  sapwood set hello world
  sapwood set session:42 alice --ttl 30m      # gone after half an hour
  sapwood set logo.png - < logo.png           # the value from stdin, as it is
  sapwood set leader \"$HOSTNAME\" --nx         # only if there is none; this node decides alone")]
pub(crate) struct Args {
    /// The key to write
    key: OsString,

    /// Its value, or `-` to read the value from stdin
    #[arg(allow_hyphen_values = true)]
    value: OsString,

    /// Delete the key after this time
    #[arg(long, value_name = "TIME", value_parser = time_to_live)]
    #[arg(allow_hyphen_values = true)]
    ttl: Option<Span>,

    /// Only if there is no such key (exit code 1 if there is)
    #[arg(long, conflicts_with = "xx")]
    nx: bool,

    /// Only if there is such a key (exit code 3 if there is not)
    #[arg(long)]
    xx: bool,

    #[command(flatten)]
    target: Target,
}

pub(crate) async fn run(args: Args) -> anyhow::Result<Exit> {
    let key = args.key.as_encoded_bytes();
    let value = match args.value.as_encoded_bytes() {
        b"-" => stdin().context("cannot read the value from stdin")?,
        value => value.to_vec(),
    };
    let millis = args.ttl.map(|ttl| ttl.0.as_millis().to_string());
    let mut command: Vec<&[u8]> = vec![b"SET", key, &value];
    if let Some(millis) = &millis {
        command.extend([b"PX", millis.as_bytes()]);
    }
    if args.nx {
        command.push(b"NX");
    }
    if args.xx {
        command.push(b"XX");
    }

    let set = match args.target.connect().await?.call(&command).await? {
        Frame::Simple(_) => true,
        Frame::Null => false,
        other => return unexpected("OK", &other),
    };
    if args.target.json {
        let mut object = output::json_bytes("key", key);
        object.insert("set".into(), set.into());
        output::json(&object.into())?;
    } else if !set {
        eprintln!("not set: {}", if args.nx { "the key exists" } else { "no such key" });
    } else if Stream::Stdout.is_terminal() {
        output::line("OK")?;
    }
    Ok(match (set, args.xx) {
        (true, _) => Exit::Done,
        (false, true) => Exit::NotFound,
        (false, false) => Exit::Failed,
    })
}

fn stdin() -> std::io::Result<Vec<u8>> {
    let mut value = Vec::new();
    std::io::stdin().lock().read_to_end(&mut value)?;
    Ok(value)
}

fn time_to_live(text: &str) -> Result<Span, String> {
    match text.parse::<Span>().map_err(|error| error.to_string())? {
        Span(time) if time.is_zero() => Err("a key must live for some time: write 1ms or more".into()),
        span => Ok(span),
    }
}
