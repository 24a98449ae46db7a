//! `sapwood status`

use anyhow::bail;
use serde_json::{Map, Value};

use super::Exit;
use super::output::{self, Paint, Stream, Table};
use super::target::{Target, bytes};

/// The section of `INFO` that is Sapwood's own.
const SECTION: &str = "Sapwood";

/// Fields of Redis's own sections that complete the picture, where the node has them.
const TOTALS: [&str; 5] = [
    "uptime_in_seconds",
    "connected_clients",
    "used_memory_human",
    "total_commands_processed",
    "expired_keys",
];

/// Fields that are text in JSON even when they happen to look like a number.
const TEXTS: [&str; 5] = ["name", "cluster", "state", "digest", "incarnation"];

/// Show how a node is: its state, digest, keys and links
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  sapwood status
  sapwood status --node 10.0.0.2:7171
  sapwood status --json | jq -r .digest      # equal digests: the same keys and values")]
pub(crate) struct Args {
    #[command(flatten)]
    target: Target,
}

pub(crate) async fn run(args: Args) -> anyhow::Result<Exit> {
    let reply = args.target.connect().await?.call(&[b"INFO"]).await?;
    let info = String::from_utf8_lossy(bytes(&reply)?);
    let fields = fields(&info);
    if fields.is_empty() {
        bail!("{} has no `# {SECTION}` section in its INFO: is it Sapwood?", args.target.node);
    }

    if args.target.json {
        output::json(&Value::Object(fields.into_iter().map(json_field).collect::<Map<_, _>>()))?;
        return Ok(Exit::Done);
    }
    let paint = Paint::on(Stream::Stdout);
    let mut table = Table::default();
    for (name, value) in fields {
        table.row([name.replace('_', " "), output::printable(value.as_bytes())]);
    }
    let lines = table.lines(|_, column, cell| if column == 0 { paint.bold(cell) } else { cell.to_owned() });
    for line in lines {
        output::line(&line)?;
    }
    Ok(Exit::Done)
}

/// Name and value of all of [`SECTION`], and of [`TOTALS`] from the sections around it.
fn fields(info: &str) -> Vec<(&str, &str)> {
    let (mut own, mut totals) = (Vec::new(), Vec::new());
    let mut section = "";
    for line in info.lines() {
        if let Some(title) = line.strip_prefix("# ") {
            section = title.trim();
        } else if let Some((name, value)) = line.split_once(':') {
            if section == SECTION {
                own.push((name, value));
            } else if TOTALS.contains(&name) {
                totals.push((name, value));
            }
        }
    }
    if !own.is_empty() {
        own.append(&mut totals);
    }
    own
}

fn json_field((name, value): (&str, &str)) -> (String, Value) {
    let value = match value.parse::<i64>() {
        Ok(number) if !TEXTS.contains(&name) => number.into(),
        _ => value.into(),
    };
    (name.to_owned(), value)
}

#[cfg(test)]
mod tests {
    use super::*;

    const INFO: &str = "# Server\r\nredis_version:7.4.0\r\nuptime_in_seconds:61\r\n\r\n# Sapwood\r\nname:a:1\r\n\
                        state:ready\r\ndigest:0042\r\nkeys:3\r\n\r\n# Clients\r\nconnected_clients:1\r\n";

    #[test]
    fn our_section_comes_first_then_the_totals() {
        assert_eq!(
            fields(INFO),
            [
                ("name", "a:1"),
                ("state", "ready"),
                ("digest", "0042"),
                ("keys", "3"),
                ("uptime_in_seconds", "61"),
                ("connected_clients", "1")
            ]
        );
    }

    #[test]
    fn another_server_has_no_status() {
        assert_eq!(fields("# Server\r\nredis_version:7.4.0\r\nuptime_in_seconds:61\r\n"), []);
    }

    #[test]
    fn numbers_are_numbers_in_json_but_a_digest_never_is() {
        assert_eq!(json_field(("keys", "3")).1, Value::from(3));
        assert_eq!(json_field(("digest", "0042")).1, Value::from("0042"));
    }
}
