//! `sapwood status`: one screen of a node and its peers, once or repeatedly.

mod screen;
mod watch;

use std::time::Duration;

use anyhow::bail;
use sapwood::config::Span;
use sapwood::status::NodeState;
use serde_json::{Map, Value};

use super::Exit;
use super::fields::{self, Fields};
use super::output::{self, Paint, Stream};
use super::target::{Session, Target, bytes};

/// The section of `INFO` that Sapwood adds.
const SECTION: &str = "Sapwood";

/// Fields of Redis's own sections that are shown too, if the node has them.
const TOTALS: [&str; 8] = [
    "uptime_in_seconds",
    "connected_clients",
    "instantaneous_ops_per_sec",
    "used_memory_human",
    "used_memory_tombstones_human",
    "total_commands_processed",
    "expired_keys",
    "evicted_keys",
];

/// Fields that are text in JSON even if they look like a number.
const TEXTS: [&str; 10] = [
    "name",
    "cluster",
    "state",
    "state_reason",
    "digest",
    "incarnation",
    "waits_for",
    "users_file_error",
    "peer_security",
    "peer_security_error",
];

/// The shortest `--interval`: a person cannot read faster, and the requests cost the node time.
const MIN_INTERVAL: Duration = Duration::from_millis(100);

/// Show how a node is, and how far it heals with its peers
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  sapwood status
  sapwood status --watch                     # again every second, in place; Ctrl-C ends it
  sapwood status --ready                     # exit code 0 only if the node is ready
  sapwood status --json | jq -r .digest      # equal digests: the same keys and values
  sapwood status --json | jq '.peers[] | select(.ranges_differing > 0) | .name'
  sapwood status --json --watch --interval 10s >> status.jsonl")]
pub(crate) struct Args {
    /// Go on until Ctrl-C: redraw on a terminal, else write one after the other
    #[arg(long)]
    watch: bool,

    /// End with code 1 unless the node is ready: it has joined, and does not shut down
    #[arg(long, conflicts_with = "watch")]
    ready: bool,

    /// The time between two looks of --watch
    #[arg(long, value_name = "TIME", default_value = "1s", value_parser = interval, requires = "watch")]
    #[arg(allow_hyphen_values = true)]
    interval: Span,

    #[command(flatten)]
    target: Target,
}

pub(crate) async fn run(args: Args) -> anyhow::Result<Exit> {
    if args.watch {
        return watch::run(&args).await;
    }
    let status = Status::of(&args.target, &mut args.target.connect().await?).await?;
    let is_ready = status.own.text("state") == NodeState::Ready.as_str();
    if args.target.json {
        output::json(&status.json())?;
    } else {
        screen::lines(&status, Paint::on(Stream::Stdout)).iter().try_for_each(|line| output::line(line))?;
    }
    Ok(if is_ready || !args.ready { Exit::Done } else { Exit::Failed })
}

fn interval(text: &str) -> Result<Span, String> {
    match text.parse::<Span>().map_err(|error| error.to_string())? {
        Span(time) if time < MIN_INTERVAL => Err(format!("write {} or more", Span(MIN_INTERVAL))),
        span => Ok(span),
    }
}

/// The replies of a node about itself.
#[derive(Debug, Clone, PartialEq)]
struct Status {
    /// The address that was asked.
    asked: String,
    /// The fields of its `INFO` that [`info_fields`] selects.
    own: Fields,
    /// `SAPWOOD HEALING`
    healing: Fields,
    /// `SAPWOOD PEERS`
    peers: Vec<Fields>,
}

impl Status {
    async fn of(target: &Target, session: &mut Session) -> anyhow::Result<Status> {
        let reply = session.call(&[b"INFO"]).await?;
        let info = String::from_utf8_lossy(bytes(&reply)?);
        let own: Map<_, _> = info_fields(&info).into_iter().map(json_field).collect();
        if own.is_empty() {
            bail!("{} has no `# {SECTION}` section in its INFO: is it Sapwood?", target.node);
        }
        let healing = Fields::from_frame(&session.call(&[b"SAPWOOD", b"HEALING"]).await?)?;
        let peers = fields::rows(&session.call(&[b"SAPWOOD", b"PEERS"]).await?)?;
        Ok(Status { asked: target.node.clone(), own: Fields(own), healing, peers })
    }

    /// The node's own fields at the top level, and the rest below.
    fn json(self) -> Value {
        let mut object = self.own.0;
        object.insert("node".into(), self.asked.into());
        object.insert("healing".into(), Value::Object(self.healing.0));
        object.insert("peers".into(), fields::json(self.peers));
        Value::Object(object)
    }
}

/// Name and value of all fields of [`SECTION`], and of the [`TOTALS`] in other sections.
fn info_fields(info: &str) -> Vec<(&str, &str)> {
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
            info_fields(INFO),
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
        assert_eq!(info_fields("# Server\r\nredis_version:7.4.0\r\nuptime_in_seconds:61\r\n"), []);
    }

    #[test]
    fn numbers_are_numbers_in_json_but_a_digest_never_is() {
        assert_eq!(json_field(("keys", "3")).1, Value::from(3));
        assert_eq!(json_field(("digest", "0042")).1, Value::from("0042"));
        assert_eq!(json_field(("waits_for", "7")).1, Value::from("7"));
    }

    #[test]
    fn a_status_in_json_has_the_nodes_own_fields_at_the_top() {
        let fields = |value: Value| Fields(value.as_object().unwrap().clone());
        let status = Status {
            asked: "127.0.0.1:7171".into(),
            own: fields(serde_json::json!({"name": "a", "digest": "0042"})),
            healing: fields(serde_json::json!({"members": 2})),
            peers: vec![fields(serde_json::json!({"name": "b"}))],
        };
        assert_eq!(
            status.json(),
            serde_json::json!({
                "name": "a", "digest": "0042", "node": "127.0.0.1:7171",
                "healing": {"members": 2}, "peers": [{"name": "b"}],
            })
        );
    }

    #[test]
    fn nobody_looks_more_often_than_makes_sense() {
        assert_eq!(interval("100ms"), Ok(Span(MIN_INTERVAL)));
        assert!(interval("99ms").unwrap_err().contains("100ms or more"));
    }
}
