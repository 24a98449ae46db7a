//! `sapwood peers`

use sapwood::resp::Frame;
use serde_json::{Map, Value};

use super::Exit;
use super::output::{self, Paint, Stream, Table, rough_size, rough_time};
use super::target::{Target, bytes, unexpected};

/// Show the peers of a node, and how each link is
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  sapwood peers
  sapwood peers --node 10.0.0.2:7171
  sapwood peers --json | jq '.[] | select(.state != \"linked\")'")]
pub(crate) struct Args {
    #[command(flatten)]
    target: Target,
}

pub(crate) async fn run(args: Args) -> anyhow::Result<Exit> {
    let reply = args.target.connect().await?.call(&[b"SAPWOOD", b"PEERS"]).await?;
    let Frame::Array(peers) = &reply else { return unexpected("a list of peers", &reply) };
    let peers: Vec<_> = peers.iter().map(fields).collect::<Result<_, _>>()?;

    if args.target.json {
        output::json(&Value::Array(peers.into_iter().map(Value::Object).collect()))?;
    } else if peers.is_empty() {
        eprintln!("no peers: {} is alone (give `sapwood serve` a peer with --join)", args.target.node);
    } else {
        let paint = Paint::on(Stream::Stdout);
        let lines = table(&peers).lines(|row, column, cell| match (row, column) {
            (0, _) => paint.bold(cell),
            (_, 1) => paint.state(cell),
            _ => cell.to_owned(),
        });
        for line in lines {
            output::line(&line)?;
        }
    }
    Ok(Exit::Done)
}

/// The fields of one peer: a map, or in RESP2 an array of names and values in turn.
fn fields(peer: &Frame) -> anyhow::Result<Map<String, Value>> {
    let pairs: Vec<(&Frame, &Frame)> = match peer {
        Frame::Map(pairs) => pairs.iter().map(|(name, value)| (name, value)).collect(),
        Frame::Array(flat) => flat.chunks_exact(2).map(|pair| (&pair[0], &pair[1])).collect(),
        other => return unexpected("a peer's fields", other),
    };
    let text = |frame| bytes(frame).map(|bytes| String::from_utf8_lossy(bytes).into_owned());
    pairs
        .into_iter()
        .map(|(name, value)| {
            let value = match value {
                Frame::Int(number) => Value::from(*number),
                Frame::Null => Value::Null,
                value => text(value)?.into(),
            };
            Ok((text(name)?, value))
        })
        .collect()
}

fn table(peers: &[Map<String, Value>]) -> Table {
    let mut table = Table::default();
    table.row(["NAME", "STATE", "FOR", "ADDRESS", "DIRECTION", "LAG", "QUEUED", "REASON"]);
    for peer in peers {
        let text = |name: &str| {
            let text = peer.get(name).and_then(Value::as_str).unwrap_or_default();
            output::printable(text.as_bytes())
        };
        let number = |name: &str, format: fn(u64) -> String| {
            peer.get(name).and_then(Value::as_u64).map(format).unwrap_or_default()
        };
        table.row([
            text("name"),
            text("state"),
            number("since_ms", rough_time),
            text("address"),
            text("direction"),
            number("lag_ms", |millis| format!("{millis}ms")),
            number("queued_bytes", rough_size),
            text("reason"),
        ]);
    }
    table
}

#[cfg(test)]
mod tests {
    use super::*;

    fn peer() -> Vec<(Frame, Frame)> {
        let text = |text: &'static str| Frame::Bulk(text.into());
        vec![
            (text("name"), text("b")),
            (text("state"), text("linked")),
            (text("address"), text("10.0.0.2:7172")),
            (text("direction"), text("out")),
            (text("lag_ms"), Frame::Int(3)),
            (text("queued_bytes"), Frame::Int(12_400)),
            (text("since_ms"), Frame::Int(61_000)),
            (text("reason"), text("")),
        ]
    }

    #[test]
    fn a_peer_reads_the_same_in_resp2_and_resp3() {
        let flat = peer().into_iter().flat_map(|(name, value)| [name, value]).collect();
        assert_eq!(fields(&Frame::Map(peer())).unwrap(), fields(&Frame::Array(flat)).unwrap());
    }

    #[test]
    fn a_peer_is_a_row() {
        let peers = [fields(&Frame::Map(peer())).unwrap()];
        assert_eq!(
            table(&peers).lines(|_, _, cell| cell.to_owned()),
            [
                "NAME  STATE   FOR  ADDRESS        DIRECTION  LAG  QUEUED   REASON",
                "b     linked  1m   10.0.0.2:7172  out        3ms  12.1KiB"
            ]
        );
    }
}
