//! `sapwood lost`

use sapwood::internal::env::{Env as _, SystemEnv};
use sapwood::internal::model::timestamp;

use super::Exit;
use super::fields::{self, Fields};
use super::output::{self, Paint, Stream, Table, rough_size, rough_time};
use super::target::Target;

/// Most characters of a value in the table.
const VALUE_SHOWN: usize = 40;

/// List the writes that a node alone held and had to give up when it came back
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  sapwood lost
  sapwood lost --json | jq -r '.[] | [.key, .value] | @tsv'      # \"key_base64\" if it is no text

Almost always empty. A node that was away for longer than --forget-after keeps its writes and brings them \
along, except those made just before it went away that reached none of the others though later ones did. \
--lost-file keeps the list over a restart.")]
pub(crate) struct Args {
    #[command(flatten)]
    target: Target,
}

pub(crate) async fn run(args: Args) -> anyhow::Result<Exit> {
    let reply = args.target.connect().await?.call(&[b"SAPWOOD", b"LOST"]).await?;
    let lost = fields::rows(&reply)?;
    if args.target.json {
        output::json(&fields::json(lost))?;
    } else if lost.is_empty() {
        eprintln!("nothing was lost");
    } else {
        output::table(
            &table(&lost, timestamp::unix_millis(SystemEnv.wall_clock())),
            Paint::on(Stream::Stdout),
            None,
        )?;
    }
    Ok(Exit::Done)
}

fn table(lost: &[Fields], now: u64) -> Table {
    let mut table = Table::default();
    table.row(["DB", "KEY", "WRITTEN", "SIZE", "PEER", "VALUE"]);
    for cell in lost {
        table.row([
            cell.number("database").map_or_else(String::new, |number| number.to_string()),
            text(cell, "key"),
            format!("{} ago", rough_time(now.saturating_sub(cell.count("timestamp_ms")))),
            rough_size(cell.count("value_bytes")),
            cell.text("peer"),
            shortened(text(cell, "value")),
        ]);
    }
    table
}

/// A field's text, or its base64 if the bytes are not UTF-8.
fn text(cell: &Fields, name: &str) -> String {
    let base64 = format!("{name}_base64");
    if cell.0.contains_key(&base64) { format!("base64:{}", cell.text(&base64)) } else { cell.text(name) }
}

fn shortened(text: String) -> String {
    match text.char_indices().nth(VALUE_SHOWN) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_cell_is_a_row() {
        let fields = |value: serde_json::Value| Fields(value.as_object().unwrap().clone());
        let lost = [
            fields(
                json!({"database": 0, "key": "k", "value": "x".repeat(41), "value_bytes": 41, "timestamp_ms": 1_000, "peer": "b"}),
            ),
            fields(
                json!({"database": 15, "key_base64": "//4=", "value": null, "value_bytes": 9_000_000, "timestamp_ms": 0, "peer": "b"}),
            ),
        ];
        assert_eq!(
            table(&lost, 61_000).lines(|_, _, cell| cell.to_owned()),
            [
                "DB  KEY          WRITTEN  SIZE    PEER  VALUE",
                &format!("0   k            1m ago   41B     b     {}…", "x".repeat(40)),
                "15  base64://4=  1m ago   8.5MiB  b",
            ]
        );
    }
}
