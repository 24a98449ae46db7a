//! `sapwood peers`

use super::Exit;
use super::fields::{self, Fields};
use super::output::{self, Paint, Stream, Table, grouped, rough_size, rough_time};
use super::target::Target;

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
    let peers = fields::rows(&reply)?;
    if args.target.json {
        output::json(&fields::json(peers))?;
    } else if peers.is_empty() {
        eprintln!("no peers: {} is alone (give `sapwood serve` a peer with --join)", args.target.node);
    } else {
        output::table(&table(&peers), Paint::on(Stream::Stdout), Some(1))?;
    }
    Ok(Exit::Done)
}

fn table(peers: &[Fields]) -> Table {
    let mut table = Table::default();
    table.row([
        "NAME",
        "STATE",
        "FOR",
        "ADDRESS",
        "DIRECTION",
        "LAG",
        "QUEUED",
        "DIFFERING",
        "VERIFIED",
        "REASON",
    ]);
    for peer in peers {
        table.row([
            peer.text("name"),
            peer.text("state"),
            rough_time(peer.count("since_ms")),
            peer.text("address"),
            peer.text("direction"),
            lag(peer),
            rough_size(peer.count("queued_bytes")),
            grouped(peer.count("ranges_differing")),
            verified(peer),
            peer.text("reason"),
        ]);
    }
    table
}

/// The age of the oldest write that the peer has not acknowledged.
pub(super) fn lag(peer: &Fields) -> String {
    format!("{}ms", peer.count("lag_ms"))
}

/// Time since the peer was last verified to hold the same.
pub(super) fn verified(peer: &Fields) -> String {
    peer.number("verified_ms").map_or_else(|| "never".into(), |millis| format!("{} ago", rough_time(millis)))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_peer_is_a_row() {
        let b = json!({
            "name": "b", "state": "linked", "address": "10.0.0.2:7172", "direction": "out", "lag_ms": 3,
            "queued_bytes": 12_400, "since_ms": 61_000, "ranges_differing": 0, "verified_ms": 3_000, "reason": "",
        });
        let c = json!({"name": "c", "state": "cut", "ranges_differing": 1_200, "verified_ms": -1, "reason": "in"});
        let peers = [b, c].map(|peer| Fields(peer.as_object().unwrap().clone()));
        assert_eq!(
            table(&peers).lines(|_, _, cell| cell.to_owned()),
            [
                "NAME  STATE   FOR  ADDRESS        DIRECTION  LAG  QUEUED   DIFFERING  VERIFIED  REASON",
                "b     linked  1m   10.0.0.2:7172  out        3ms  12.1KiB  0          3s ago",
                "c     cut     0ms                            0ms  0B       1,200      never     in"
            ]
        );
    }
}
