//! `sapwood keys`

use std::ffi::OsString;
use std::io::{self, BufWriter, Write as _};

use sapwood::client::resp::Frame;

use super::Exit;
use super::output::{self, Stream};
use super::target::{Target, bytes, unexpected};

/// Keys per request: few round trips, and no request keeps the node busy for long.
const BATCH: &[u8] = b"1000";

/// List keys, in no order
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  sapwood keys
  sapwood keys 'user:*' --limit 10      # the quotes keep the pattern from the shell
  sapwood keys 'user:*' | wc -l
  sapwood keys --json                   # one object a line; \"key_base64\" if it is no text

What does not print is escaped on a terminal, and written as it is elsewhere.
Keys written meanwhile may be missing or come twice.")]
pub(crate) struct Args {
    /// Which keys: * is any text, ? any character, [abc] one of these
    #[arg(default_value = "*")]
    pattern: OsString,

    /// Stop after this many keys
    #[arg(long, value_name = "N")]
    limit: Option<usize>,

    #[command(flatten)]
    target: Target,
}

pub(crate) async fn run(args: Args) -> anyhow::Result<Exit> {
    let pattern = args.pattern.as_encoded_bytes();
    let mut left = args.limit.unwrap_or(usize::MAX);
    let mut session = args.target.connect().await?;
    let mut cursor = b"0".to_vec();
    while left > 0 {
        let reply = session.call(&[b"SCAN", &cursor, b"MATCH", pattern, b"COUNT", BATCH]).await?;
        let (next, keys) = page(&reply)?;
        write_keys(&keys[..keys.len().min(left)], args.target.json)?;
        left = left.saturating_sub(keys.len());
        if next == b"0" {
            break;
        }
        cursor = next.to_vec();
    }
    Ok(Exit::Done)
}

/// The next cursor and the keys of one reply to `SCAN`.
fn page(reply: &Frame) -> anyhow::Result<(&[u8], Vec<&[u8]>)> {
    match reply {
        Frame::Array(parts) => match &parts[..] {
            [cursor, Frame::Array(keys)] => {
                Ok((bytes(cursor)?, keys.iter().map(bytes).collect::<Result<_, _>>()?))
            }
            _ => unexpected("a cursor and keys", reply),
        },
        _ => unexpected("a cursor and keys", reply),
    }
}

fn write_keys(keys: &[&[u8]], json: bool) -> io::Result<()> {
    let terminal = Stream::Stdout.is_terminal();
    let mut out = BufWriter::new(io::stdout().lock());
    for key in keys {
        if json {
            writeln!(out, "{}", serde_json::Value::from(output::json_bytes("key", key)))?;
        } else if terminal {
            writeln!(out, "{}", output::printable(key))?;
        } else {
            out.write_all(key)?;
            out.write_all(b"\n")?;
        }
    }
    out.flush()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bulk(text: &'static str) -> Frame {
        Frame::Bulk(text.into())
    }

    #[test]
    fn a_page_is_a_cursor_and_keys() {
        let reply = Frame::Array(vec![bulk("17"), Frame::Array(vec![bulk("a"), bulk("b")])]);
        assert_eq!(page(&reply).unwrap(), (&b"17"[..], vec![&b"a"[..], b"b"]));
    }

    #[test]
    fn any_other_reply_is_an_error() {
        for reply in [Frame::Null, Frame::Array(vec![]), Frame::Array(vec![bulk("0"), Frame::Int(1)])] {
            assert!(page(&reply).unwrap_err().to_string().contains("is it Sapwood?"));
        }
    }
}
