//! `sapwood watch`

use std::ffi::OsString;
use std::future::ready;
use std::io::{self, BufWriter, Stdout, Write as _};
use std::time::{SystemTime, UNIX_EPOCH};

use anyhow::Context as _;
use sapwood::client::{ResetReason, WatchEvent, WatchItem};
use sapwood::internal::env::{Env as _, SystemEnv};
use sapwood::internal::model::timestamp;
use serde_json::{Map, Value};

use super::Exit;
use super::output::{self, Stream};
use super::stop::Stop;
use super::target::{Target, explain};

/// Most characters of a value on a terminal.
const MAX_SHOWN: usize = 200;

/// Show keys as they are, then every change of them, wherever it is written
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  sapwood watch user:                   # all keys that begin with user: until Ctrl-C
  sapwood watch flag: session:
  sapwood watch ''                      # every key
  sapwood watch user: --json            # one object a line; the last \"cursor\" is for --from
  sapwood watch user: --from CURSOR     # what has changed since, if the node still knows; else all anew

A lost connection is made again, and the watch goes on where it was. When changes come faster than they are \
taken, only the last one of each key is shown; how many were left out is said.")]
pub(crate) struct Args {
    /// What the keys begin with
    #[arg(required = true, value_name = "PREFIX")]
    prefixes: Vec<OsString>,

    /// Go on where an earlier watch of the same prefixes was
    #[arg(long, value_name = "CURSOR")]
    from: Option<String>,

    #[command(flatten)]
    target: Target,
}

pub(crate) async fn run(args: Args) -> anyhow::Result<Exit> {
    let mut stop = Stop::new().context("cannot watch for Ctrl-C")?;
    let prefixes = args.prefixes.iter().map(|prefix| prefix.as_encoded_bytes());
    let client = args.target.client().await?;
    let mut watch = match &args.from {
        Some(cursor) => client.watch_from(prefixes, cursor),
        None => client.watch(prefixes),
    };
    // The watch uses a separate connection.
    drop(client);
    let mut display = Display::new(args.target.json);
    loop {
        // Cancel-safe: an event that is not returned is kept, and a signal stays pending.
        let event = tokio::select! {
            biased;
            _ = stop.asked() => break,
            event = watch.next() => event,
            () = ready(()), if display.holds_back => {
                display.flush()?;
                continue;
            }
        };
        match event {
            Some(event) => display.show(&event.map_err(|error| explain(&error))?)?,
            None => break,
        }
    }
    display.flush()?;
    Ok(Exit::Done)
}

/// Writes the events: buffered while many arrive, at once if there are few.
struct Display {
    out: BufWriter<Stdout>,
    /// Whether there is output that is not written yet.
    holds_back: bool,
    json: bool,
    /// The number of keys of the incoming snapshot; `None` outside a snapshot.
    entries: Option<u64>,
}

impl Display {
    fn new(json: bool) -> Self {
        Display { out: BufWriter::new(io::stdout()), holds_back: false, json, entries: None }
    }

    fn show(&mut self, event: &WatchEvent) -> io::Result<()> {
        self.holds_back = true;
        match event {
            WatchEvent::Reset(_) => self.entries = Some(0),
            WatchEvent::Entry(_) => self.entries = self.entries.map(|entries| entries + 1),
            _ => {}
        }
        if self.json {
            writeln!(self.out, "{}", json(event))
        } else {
            let most = if Stream::Stdout.is_terminal() { MAX_SHOWN } else { usize::MAX };
            let entries = self.entries.take_if(|_| matches!(event, WatchEvent::Live { .. }));
            let now = timestamp::unix_millis(SystemEnv.wall_clock());
            let line = line(event, entries, i64::try_from(now).unwrap_or(i64::MAX), most);
            writeln!(self.out, "{line}")
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        self.holds_back = false;
        self.out.flush()
    }
}

/// An event as text, at the Unix time `now` in milliseconds; `entries` is the number of keys of the snapshot that it
/// completes.
fn line(event: &WatchEvent, entries: Option<u64>, now: i64, most: usize) -> String {
    let (word, rest) = match event {
        WatchEvent::Reset(reason) => ("reset", explain_reset(*reason).to_owned()),
        WatchEvent::Entry(item) => ("entry", described(item, now, most)),
        WatchEvent::Live { .. } => (
            "live",
            match entries {
                Some(1) => "1 key; changes follow".into(),
                Some(entries) => format!("{} keys; changes follow", output::grouped(entries)),
                None => "nothing was missed; changes follow".into(),
            },
        ),
        WatchEvent::Change { cause, item, .. } => (cause.name(), described(item, now, most)),
        WatchEvent::Skipped(changes) => (
            "skipped",
            format!("{} changes or more: later ones of the same keys follow", output::grouped(*changes)),
        ),
        other => ("?", format!("{other:?}")),
    };
    format!("{word:<8} {rest}")
}

/// A key and its value, made safe for a terminal.
fn described(item: &WatchItem, now: i64, most: usize) -> String {
    let key = output::printable(&item.key);
    let Some(value) = &item.value else { return key };
    let text = output::printable(&value[..value.len().min(most)]);
    let more = match value.len().saturating_sub(most) {
        0 => String::new(),
        more => format!("… ({} bytes more)", output::grouped(more as u64)),
    };
    let until = item.deadline.map_or_else(String::new, |deadline| {
        let left = millis(deadline).saturating_sub(now);
        format!(" ({} left)", output::rough_time(u64::try_from(left).unwrap_or(0)))
    });
    format!("{key} = {text}{more}{until}")
}

fn explain_reset(reason: ResetReason) -> &'static str {
    match reason {
        ResetReason::Start => "the keys as they are now",
        ResetReason::Lagged => "too much has changed meanwhile; the keys as they are now",
        ResetReason::OtherNode => "another node, or one that was started again; the keys as they are there",
        ResetReason::Discarded => "the node has discarded its keys; those that it has now",
        _ => "the keys as they are now, for a reason that this version does not know",
    }
}

/// An event as JSON.
fn json(event: &WatchEvent) -> Value {
    let text = |bytes: &[u8]| Value::from(String::from_utf8_lossy(bytes));
    let mut object = Map::new();
    let mut put = |name: &str, value: Value| _ = object.insert(name.into(), value);
    match event {
        WatchEvent::Reset(reason) => {
            put("event", "reset".into());
            put("reason", reason.name().into());
        }
        WatchEvent::Entry(item) => {
            put("event", "entry".into());
            object.extend(fields(item));
        }
        WatchEvent::Live { cursor } => {
            put("event", "live".into());
            put("cursor", text(cursor));
        }
        WatchEvent::Change { cause, item, cursor } => {
            put("event", "change".into());
            put("cause", cause.name().into());
            put("cursor", text(cursor));
            object.extend(fields(item));
        }
        WatchEvent::Skipped(changes) => {
            put("event", "skipped".into());
            put("changes", (*changes).into());
        }
        other => put("event", format!("{other:?}").into()),
    }
    object.into()
}

fn fields(item: &WatchItem) -> Map<String, Value> {
    let mut object = output::json_bytes("key", &item.key);
    match &item.value {
        Some(value) => object.extend(output::json_bytes("value", value)),
        None => _ = object.insert("value".into(), Value::Null),
    }
    object.insert("deadline_ms".into(), item.deadline.map_or(-1, millis).into());
    object.insert("time".into(), item.timestamp.time.to_string().into());
    object.insert("origin".into(), item.timestamp.origin.clone().into());
    object
}

fn millis(moment: SystemTime) -> i64 {
    let since_epoch = moment.duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since_epoch.as_millis()).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_key_has_its_line_and_its_object() {
        let cursor = || "a-7".into();
        let cases = [
            (WatchEvent::Reset(ResetReason::Start), None, "reset    the keys as they are now"),
            (WatchEvent::Live { cursor: cursor() }, Some(1200), "live     1,200 keys; changes follow"),
            (WatchEvent::Live { cursor: cursor() }, Some(1), "live     1 key; changes follow"),
            (WatchEvent::Live { cursor: cursor() }, None, "live     nothing was missed; changes follow"),
            (WatchEvent::Skipped(9), None, "skipped  9 changes or more: later ones of the same keys follow"),
        ];
        for (event, entries, shown) in cases {
            assert_eq!(line(&event, entries, 0, MAX_SHOWN), shown);
        }
        let object = json(&WatchEvent::Live { cursor: cursor() });
        assert_eq!(object, serde_json::json!({ "event": "live", "cursor": "a-7" }));
        let object = json(&WatchEvent::Reset(ResetReason::OtherNode));
        assert_eq!(object, serde_json::json!({ "event": "reset", "reason": "other-node" }));
        assert_eq!(json(&WatchEvent::Skipped(9)), serde_json::json!({ "event": "skipped", "changes": 9 }));
    }
}
