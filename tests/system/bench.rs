//! `sapwood bench` against real nodes, and against a server that stands still.

use std::io::{BufRead as _, BufReader, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::process::{Child, Command, Output, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use serde_json::Value;

use crate::support::node_process::*;

/// A small and short run.
const SHORT: [&str; 5] = ["bench", "--keys=200", "--connections=4", "--warm-up=20ms", "--duration=200ms"];

/// A `sapwood bench` that runs until it is asked to end.
struct Bench(Option<Child>);

impl Bench {
    fn start(node: &NodeProcess, args: &[&str]) -> Bench {
        let mut command = sapwood(["bench", "--duration=1h", "--warm-up=0s", "--connections=2"]);
        command.args(args).arg("--node").arg(node.client.to_string());
        Bench(Some(command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap()))
    }

    /// Sends Ctrl-C and waits for the end.
    fn interrupt(mut self) -> Output {
        let child = self.0.take().unwrap();
        let pid = child.id().to_string();
        assert!(Command::new("kill").args(["-s", "INT", &pid]).status().unwrap().success());
        child.wait_with_output().unwrap()
    }
}

impl Drop for Bench {
    fn drop(&mut self) {
        if let Some(child) = &mut self.0 {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

/// How many `GET`s the node has executed.
fn gets(node: &NodeProcess) -> u64 {
    let stats: String = ask(&mut node.connect(), &["INFO", "commandstats"]);
    let calls = stats.lines().find_map(|line| line.strip_prefix("cmdstat_get:calls=")?.split(',').next());
    calls.map_or(0, |calls| calls.parse().unwrap())
}

/// Waits until the node has executed some `GET`s more.
fn until_more_gets(node: &NodeProcess) {
    let before = gets(node);
    wait("more keys are read", || gets(node) > before + 50);
}

fn said(output: &Output) -> (String, String) {
    let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
    (text(&output.stdout), text(&output.stderr))
}

#[test]
fn a_run_shows_each_command_and_deletes_its_keys() {
    let node = NodeProcess::start("a", &[], &[]);
    node.said(&["set", "bench:mine", "stays"]);
    let shown =
        node.said(&[&SHORT[..], &["--mix=set=2,get=6,incr=1,del=1", "--pipeline=4", "--threads=2"]].concat());
    let words: Vec<_> = shown.lines().filter_map(|line| line.split_whitespace().next()).collect();
    for word in ["COMMAND", "set", "get", "incr", "del", "all", "generator:"] {
        assert!(words.contains(&word), "no {word} in {shown}");
    }
    assert_eq!(node.said(&["keys"]), "bench:mine");

    node.said(&[&SHORT[..], &["--keep", "--prefix=mine:", "--reads=100"]].concat());
    assert_eq!(node.said(&["keys", "mine:key:*"]).lines().count(), 200);
    assert_eq!(node.said(&["bench", "--cleanup", "--prefix=mine:", "--keys=200"]), "200 deleted");
    assert_eq!(node.said(&["keys"]), "bench:mine");
}

#[test]
fn the_open_loop_sends_so_many_requests_at_its_rate_and_reports_them_as_json() {
    let node = NodeProcess::start("a", &[], &[]);
    let args =
        ["--rate=1000", "--requests=150", "--warm-up=10ms", "--distribution=zipf", "--value-size=64..1KiB"];
    let report = node.json(&[&["bench", "--keys=100", "--verify"], &args[..]].concat());
    let settings = &report["settings"];
    assert_eq!(
        (settings["distribution"].as_str(), settings["rate_per_second"].as_u64()),
        (Some("zipf:0.99"), Some(1_000))
    );
    let all = &report["all"];
    assert_eq!((all["requests"].as_u64(), report["requests_failed"].as_u64()), (Some(150), Some(0)));
    // 149 intervals of a millisecond.
    assert!(report["elapsed_seconds"].as_f64().unwrap() >= 0.149, "{report}");
    let of = |command: &str| report["commands"][command]["requests"].as_u64().unwrap();
    assert_eq!(of("set") + of("get"), 150);
    let latency = |name: &str| all["latency_us"][name].as_f64().unwrap();
    let names = ["p50", "p90", "p99", "p99_9", "max"];
    assert!(names.map(latency).is_sorted() && latency("p50") > 0.0, "{report}");
    assert!(report["open_loop"]["send_delay_us"]["max"].as_f64().unwrap() > 0.0, "{report}");
    assert_eq!(
        (report["verified"]["reads_wrong"].as_u64(), report["interrupted"].as_bool()),
        (Some(0), Some(false))
    );
    assert!(report["verified"]["reads"].as_u64().unwrap() >= of("get"));
    assert!(report["generator"]["cpu_percent"].as_f64().unwrap() > 0.0, "{report}");
}

#[test]
fn values_that_are_not_as_they_were_written_are_found_and_end_it_with_1() {
    let node = NodeProcess::start("a", &[], &[]);
    let bench = Bench::start(&node, &["--verify", "--reads=100", "--keys=4", "--json"]);
    until_more_gets(&node);
    let key = |number| format!("bench:key:{number:012}");
    // One value with another byte, one that belongs to another key, one that is lost; the fourth is right.
    let mut damaged = node.get(&key(0)).unwrap();
    damaged.replace_range(99.., "!");
    node.set(&key(0), &damaged);
    node.set(&key(1), &node.get(&key(3)).unwrap());
    node.del(&key(2));
    until_more_gets(&node);

    let output = bench.interrupt();
    let (shown, notes) = said(&output);
    assert_eq!(output.status.code(), Some(1), "{notes}");
    let report: Value = serde_json::from_str(&shown).unwrap();
    let wrong = |reason: &str| report["verified"]["wrong"][reason].as_u64().unwrap();
    for reason in ["damaged", "other_key", "missing"] {
        assert!(wrong(reason) > 0, "no {reason}: {report}");
    }
    assert_eq!((wrong("other_run"), wrong("not_written")), (0, 0));
    assert!(report["verified"]["reads"].as_u64() > report["verified"]["reads_wrong"].as_u64());
    assert!(notes.contains("its checksum does not fit") && notes.contains(&key(0)), "{notes}");
    assert_eq!(node.said(&["keys"]), "");
}

#[test]
fn ctrl_c_shows_what_was_measured_so_far() {
    let node = NodeProcess::start("a", &[], &[]);
    let bench = Bench::start(&node, &["--keys=100"]);
    until_more_gets(&node);
    let output = bench.interrupt();
    let (shown, notes) = said(&output);
    assert_eq!(output.status.code(), Some(0), "{notes}");
    let row = shown.lines().find(|line| line.starts_with("all ")).unwrap_or_else(|| panic!("{shown}"));
    let requests: u64 = row.split_whitespace().nth(1).unwrap().replace(',', "").parse().unwrap();
    assert!(requests >= 50 && notes.contains("interrupted after"), "{shown}{notes}");
    assert_eq!(node.said(&["keys"]), "");
}

#[test]
fn requests_that_fail_are_counted_by_kind_and_end_it_with_1() {
    let node = NodeProcess::start("a", &[], &[]);
    node.set("bench:counter:000000000000", "a word");
    let flags = ["bench", "--mix=incr=1", "--keys=1", "--no-load", "--keep", "--warm-up=0s", "--requests=20"];
    let output = node.cli(&flags);
    let (_, notes) = said(&output);
    assert_eq!(output.status.code(), Some(1));
    assert!(notes.contains("failed: 20 × ERR: ERR value is not an integer"), "{notes}");
}

/// A server of the Redis protocol that stands still for a while before its first reply to a `GET`.
fn server_that_stands_still(pause: Duration) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let stood = Arc::new(AtomicBool::new(false));
    std::thread::spawn(move || {
        for stream in listener.incoming().map_while(Result::ok) {
            let stood = Arc::clone(&stood);
            std::thread::spawn(move || serve(&stream, pause, &stood));
        }
    });
    address
}

#[expect(clippy::disallowed_methods, reason = "the server under test is slow: nothing is awaited")]
fn serve(mut stream: &TcpStream, pause: Duration, stood: &AtomicBool) -> Option<()> {
    let mut lines = BufReader::new(stream.try_clone().ok()?);
    let mut line = || {
        let mut line = String::new();
        lines.read_line(&mut line).ok().filter(|read| *read > 0)?;
        Some(line.trim_end().to_owned())
    };
    loop {
        let words: usize = line()?.strip_prefix('*')?.parse().ok()?;
        let words: Option<Vec<String>> = (0..words).map(|_| line().and_then(|_length| line())).collect();
        let is_get = words?[0] == "GET";
        if is_get && !stood.swap(true, Ordering::Relaxed) {
            std::thread::sleep(pause);
        }
        stream.write_all(if is_get { b"$-1\r\n" } else { b"+PONG\r\n" }).ok()?;
    }
}

/// The goal: the open loop counts the time for which requests wait to be sent, which the closed loop leaves out
/// (coordinated omission). The method: a server stands still for 300 ms, in which 30 of 60 requests are due. In the
/// closed loop this delays one request; in the open loop the tenth that is delayed most was due in its first 60 ms.
#[test]
fn a_server_that_stands_still_delays_all_requests_that_were_due() {
    let pause = Duration::from_millis(300);
    let report = |pace: &[&str]| {
        let address = server_that_stands_still(pause).to_string();
        let flags =
            ["bench", "--no-load", "--keep", "--reads=100", "--connections=1", "--warm-up=0s", "--json"];
        let output = sapwood(flags).args(["--node", &address, "--requests=60"]).args(pace).output().unwrap();
        let report = serde_json::from_slice(&output.stdout);
        report.unwrap_or_else(|error| panic!("{error}: {output:?}"))
    };
    let latency = |report: &Value, name: &str| {
        let micros = report["all"]["latency_us"][name].as_f64().unwrap();
        Duration::from_secs_f64(micros / 1e6)
    };
    let (closed, open) = (report(&[]), report(&["--rate=100"]));
    assert!(latency(&closed, "max") >= pause && latency(&open, "max") >= pause, "{closed} {open}");
    assert!(latency(&closed, "p90") < pause / 10, "{closed}");
    assert!(latency(&open, "p90") > pause / 2, "{open}");
    assert!(open["open_loop"]["requests_due_while_full"].as_u64().unwrap() >= 25, "{open}");
}
