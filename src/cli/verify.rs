//! `sapwood verify`

use std::time::Duration;

use sapwood::config::Span;
use tokio::time::{Instant, sleep};

use super::Exit;
use super::fields::{self, Fields};
use super::output::{self, Paint, Stream, Table, grouped, rough_time};
use super::progress::Progress;
use super::target::Target;

/// How often the node is asked for the progress.
const ASK_EVERY: Duration = Duration::from_millis(200);

/// Compare every key and value of a node with its peers, and heal what differs
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  sapwood verify && echo all the same     # exit code 1: something differed, or was not compared
  sapwood verify --within 1h --json

Reads and writes go on meanwhile. Nodes compare digests of their keys all the time; this compares the \
values themselves too, with every linked peer. What differed has been made equal when it ends.")]
pub(crate) struct Args {
    /// Give up waiting after this time; the node goes on
    #[arg(long, value_name = "TIME", default_value = "10m")]
    #[arg(allow_hyphen_values = true)]
    within: Span,

    #[command(flatten)]
    target: Target,
}

pub(crate) async fn run(args: Args) -> anyhow::Result<Exit> {
    let mut session = args.target.connect().await?;
    session.expect_ok(&[b"SAPWOOD", b"VERIFY"]).await?;
    let (started, mut progress) = (Instant::now(), Progress::default());
    let rows = loop {
        let rows = fields::rows(&session.call(&[b"SAPWOOD", b"VERIFIED"]).await?)?;
        let finished = rows.iter().filter(|row| is_finished(row)).count();
        if finished == rows.len() || started.elapsed() >= args.within.0 {
            break rows;
        }
        let time = rough_time(u64::try_from(started.elapsed().as_millis()).unwrap_or(u64::MAX));
        progress.show(&format!("comparing: {finished} of {} peers done after {time}", rows.len()))?;
        sleep(ASK_EVERY).await;
    };
    drop(progress);

    let verdict = Verdict::of(&rows);
    if args.target.json {
        output::json(&fields::json(rows))?;
    } else if verdict == Verdict::Equal {
        let cells = rows.iter().map(|row| row.count("cells")).max().unwrap_or(0);
        output::line(&format!("equal: {} keys and deletes, with {} peers", grouped(cells), rows.len()))?;
    } else if !rows.is_empty() {
        output::table(&table(&rows), Paint::on(Stream::Stdout), Some(1))?;
    }
    match verdict {
        Verdict::Equal => return Ok(Exit::Done),
        Verdict::Alone => eprintln!("no peer is linked: there was nothing to compare with"),
        Verdict::Differed => eprintln!("what differed has been made equal"),
        Verdict::Failed => eprintln!("not every peer could be compared with"),
        Verdict::Unfinished => {
            eprintln!("not done within {}: the node goes on (--within waits longer)", args.within);
        }
    }
    Ok(Exit::Failed)
}

/// The result of all comparisons, from the best to the worst.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Verdict {
    Equal,
    /// There was no peer, so nothing was verified.
    Alone,
    Differed,
    Unfinished,
    Failed,
}

impl Verdict {
    fn of(rows: &[Fields]) -> Verdict {
        let one = |row: &Fields| match row.text("state").as_str() {
            "failed" => Verdict::Failed,
            "done" if row.count("ranges_differing") > 0 || row.count("cells_healed") > 0 => Verdict::Differed,
            "done" => Verdict::Equal,
            _ => Verdict::Unfinished,
        };
        rows.iter().map(one).max().unwrap_or(Verdict::Alone)
    }
}

fn is_finished(row: &Fields) -> bool {
    ["done", "failed"].contains(&row.text("state").as_str())
}

fn table(rows: &[Fields]) -> Table {
    let mut table = Table::default();
    table.row(["PEER", "STATE", "TOOK", "CELLS", "RANGES DIFFERING", "CELLS HEALED", "REASON"]);
    for row in rows {
        table.row([
            row.text("peer"),
            row.text("state"),
            rough_time(row.count("took_ms")),
            grouped(row.count("cells")),
            grouped(row.count("ranges_differing")),
            grouped(row.count("cells_healed")),
            row.text("reason"),
        ]);
    }
    table
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn row(state: &str, ranges: u64, cells: u64) -> Fields {
        let row = json!({"peer": "b", "state": state, "ranges_differing": ranges, "cells_healed": cells});
        Fields(row.as_object().unwrap().clone())
    }

    #[test]
    fn only_what_was_compared_and_never_differed_is_equal() {
        let verdict = |rows: &[Fields]| Verdict::of(rows);
        assert_eq!(verdict(&[]), Verdict::Alone);
        assert_eq!(verdict(&[row("done", 0, 0), row("done", 0, 0)]), Verdict::Equal);
        assert_eq!(verdict(&[row("done", 1, 0), row("done", 0, 0)]), Verdict::Differed);
        assert_eq!(verdict(&[row("done", 0, 0), row("done", 0, 1)]), Verdict::Differed);
        assert_eq!(verdict(&[row("waiting", 0, 0), row("done", 1, 1)]), Verdict::Unfinished);
        assert_eq!(verdict(&[row("failed", 0, 0), row("running", 0, 0)]), Verdict::Failed);
    }
}
