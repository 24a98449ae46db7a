//! Frameworks that keep caches, sessions, limits and locks in Redis.
//!
//! Each script in `frameworks/` does what an application does, on one node, checks the values, and continues on another
//! node of the same cluster. So that a framework that hides errors and does nothing cannot pass, each script reports how many
//! checks it has made, and `INFO commandstats` of both nodes which commands were executed. Both are in the rows of
//! `docs/compatibility.md`, which must be those of this run. To write them anew:
//! `SAPWOOD_COMPATIBILITY=write cargo test --features scripts --test system frameworks -- --ignored`.

use std::collections::{BTreeMap, BTreeSet};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::support::node_process::*;

const FOLDER: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/system/frameworks");
const DOCUMENT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/docs/compatibility.md");

/// The lines around the rows in the document.
const BEGIN: &str = "<!-- The rows of tests/system/frameworks.rs: -->\n";
const END: &str = "<!-- The end of those rows. -->\n";

/// In the order of the document.
const SCRIPTS: &[&str] = &[
    "redis_py_app.py",
    "django_cache.py",
    "django_redis_cache.py",
    "flask_caching_app.py",
    "flask_session_app.py",
    "fastapi_cache_app.py",
    "aiocache_app.py",
    "cashews_app.py",
    "dogpile_app.py",
    "limits_app.py",
    "walrus_app.py",
    "laravel_cache.php",
    "symfony_cache.php",
    "php_sessions.php",
    "rails_cache.rb",
];

/// How long one script may take beside all others, in a debug build. Alone it takes about a second.
const LIMIT: Duration = Duration::from_secs(240);

/// Commands that say nothing about what a framework needs, and those of the scripts' own.
const OF_CONNECTIONS: &[&str] = &["auth", "client", "hello", "info", "ping", "sapwood"];

/// What a framework needs, by the commands that it sends.
const NEEDS: &[(&str, &[&str])] = &[
    ("[scripts](commands.md#scripts)", &["eval", "evalsha", "script|load"]),
    ("[transactions](commands.md#transactions)", &["multi", "watch"]),
    ("[databases](commands.md#databases)", &["select"]),
    ("`--enable-flush`", &["flushdb", "flushall"]),
];

#[test]
#[ignore = "needs the feature `scripts`, the Python packages of frameworks/requirements.txt, phpredis, and Laravel's and Rails' cache (Debian)"]
fn frameworks_work_on_one_node_and_go_on_with_another() {
    let started = Instant::now();
    let rows: Vec<String> = std::thread::scope(|scope| {
        let running: Vec<_> = SCRIPTS.iter().map(|script| scope.spawn(|| run(script))).collect();
        running.into_iter().map(|row| row.join().unwrap()).collect()
    });
    eprintln!("{} scripts in {:.1} s", SCRIPTS.len(), started.elapsed().as_secs_f64());

    let document = std::fs::read_to_string(DOCUMENT).unwrap();
    let (before, rest) = document.split_once(BEGIN).expect("the document has a place for the rows");
    let (head_and_rows, after) = rest.split_once(END).expect("the rows end");
    let head: String = head_and_rows.lines().take(2).map(|line| format!("{line}\n")).collect();
    let found: String = rows.iter().map(|row| format!("{row}\n")).collect();
    if std::env::var("SAPWOOD_COMPATIBILITY").is_ok_and(|word| word == "write") {
        std::fs::write(DOCUMENT, format!("{before}{BEGIN}{head}{found}{END}{after}")).unwrap();
        return;
    }
    for (written, found) in head_and_rows.lines().skip(2).zip(&rows) {
        assert_eq!(comparable(written), comparable(found), "a row of docs/compatibility.md");
    }
    assert_eq!(head_and_rows.lines().count() - 2, rows.len(), "rows in docs/compatibility.md");
}

/// A row without the versions of what Debian packages: they depend on the Debian.
fn comparable(row: &str) -> String {
    if row.contains("| redis-py ") {
        return row.to_owned();
    }
    row.chars().filter(|character| !character.is_ascii_digit()).collect()
}

/// Runs a script against a cluster of its own; returns its row.
fn run(script: &str) -> String {
    // A script has all the time it needs, also on a machine that is busy with thirty others.
    let flags = ["--enable-scripts", "--script-time-limit=5s", "--enable-flush", "--enable-faults"];
    let a = NodeProcess::start("a", &[], &flags);
    let b = NodeProcess::start("b", &[&a], &flags);
    until_linked(&[&a, &b]);

    let report = execute(script, [&a, &b]);
    let text = |name: &str| report[name].as_str().unwrap().to_owned();
    let checks: Vec<u64> = report["checks"].as_array().unwrap().iter().map(|n| n.as_u64().unwrap()).collect();
    let refused: Vec<_> = report["refused"].as_array().unwrap().iter().map(|f| f.as_str().unwrap()).collect();

    let mut all = BTreeSet::new();
    for (node, checks) in [&a, &b].into_iter().zip(&checks) {
        let executed = executed(node);
        let calls: u64 = executed.values().sum();
        assert!(*checks > 0 && calls >= *checks, "{script}: {checks} checks, {calls} commands: {executed:?}");
        all.extend(executed.into_keys());
    }
    until_equal(&[&a, &b]);

    let needs = NEEDS.iter().filter(|(_, commands)| commands.iter().any(|name| all.contains(*name)));
    let needs: Vec<_> = needs.map(|(need, _)| *need).collect();
    let commands: Vec<_> =
        all.iter().map(|name| format!("`{}`", name.to_uppercase().replace('|', " "))).collect();
    let or_none = |list: Vec<&str>| if list.is_empty() { "–".to_owned() } else { list.join(", ") };
    format!(
        "| [{}](../tests/system/frameworks/{script}) {} | {} | {} | {} | {} + {} | {} |",
        text("framework"),
        text("version"),
        text("client"),
        or_none(needs),
        commands.join(" "),
        checks[0],
        checks[1],
        or_none(refused),
    )
}

/// Runs a script to its end; returns what it reports.
fn execute(script: &str, nodes: [&NodeProcess; 2]) -> Value {
    let interpreter = match script.rsplit_once('.').unwrap().1 {
        "py" => std::env::var("SAPWOOD_TEST_PYTHON").unwrap_or_else(|_| "python3".into()),
        "rb" => "ruby".into(),
        other => other.to_owned(),
    };
    let mut command = Command::new("timeout");
    command.arg(LIMIT.as_secs().to_string()).arg(interpreter).arg(format!("{FOLDER}/{script}"));
    command.args(nodes.map(|node| node.client.port().to_string()));
    command.env("PYTHONDONTWRITEBYTECODE", "1").stdin(Stdio::null());
    let output = command.output().expect("coreutils is missing");
    let (out, err) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{script}: {:?}\n{out}\n{err}", output.status);
    let last = out.lines().last().unwrap_or_default();
    serde_json::from_str(last).unwrap_or_else(|error| panic!("{script}: {error}\n{out}\n{err}"))
}

/// The commands that a node has executed without an error and how often, except those of connections.
fn executed(node: &NodeProcess) -> BTreeMap<String, u64> {
    let stats: String = ask(&mut node.connect(), &["INFO", "commandstats"]);
    let lines = stats.lines().filter_map(|line| line.strip_prefix("cmdstat_")?.split_once(':'));
    let counts = lines.map(|(name, fields)| {
        let field = |wanted: &str| -> u64 {
            let field = fields.split(',').find_map(|field| field.strip_prefix(wanted)?.strip_prefix('='));
            field.unwrap().parse().unwrap()
        };
        (name.to_owned(), field("calls") - field("failed_calls"))
    });
    let is_of_connection = |name: &str| OF_CONNECTIONS.contains(&name.split('|').next().unwrap());
    counts.filter(|(name, calls)| *calls > 0 && !is_of_connection(name)).collect()
}
