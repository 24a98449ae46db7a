//! Programs that were written for Redis: `redis-cli`, `redis-benchmark`, redis-py. Each test fails where its program is
//! missing.

use std::process::{Command, Stdio};

use crate::support::node_process::*;

fn program(name: &str) -> Command {
    let found = Command::new(name).arg("--version").stdout(Stdio::null()).stderr(Stdio::null()).status();
    assert!(found.is_ok_and(|status| status.success()), "{name} is missing: install Debian's redis-tools");
    let mut command = Command::new(name);
    command.stdin(Stdio::null());
    command
}

/// What a command prints that succeeds without a word about errors.
fn said(command: &mut Command) -> String {
    let output = command.output().unwrap();
    let (out, err) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{command:?}: {:?}\n{out}\n{err}", output.status);
    for text in [&out, &err] {
        // The name of a field of `INFO`, such as `users_file_error`, is one word.
        let lower = text.to_lowercase();
        let mut words = lower.split(|c: char| !c.is_alphanumeric() && c != '_');
        let is_bad = |word: &str| word.starts_with("err") || word == "warning";
        assert!(!words.any(is_bad), "{command:?}:\n{out}\n{err}");
    }
    out.trim_end().to_owned()
}

fn cli(node: &NodeProcess, args: &[&str]) -> String {
    said(program("redis-cli").args(["-h", "127.0.0.1", "-p", &node.client.port().to_string()]).args(args))
}

#[test]
#[ignore = "needs redis-cli (Debian redis-tools)"]
fn redis_cli_works_in_both_dialects_and_inline() {
    let nodes = three_nodes(&[]);
    let [a, b, c] = &nodes;
    assert_eq!(cli(a, &["PING"]), "PONG");
    assert_eq!(cli(a, &["SET", "hello", "world", "EX", "100"]), "OK");
    wait("replicated", || cli(b, &["GET", "hello"]) == "world");
    assert_eq!(cli(b, &["-3", "GET", "hello"]), "world");
    let ttl: u32 = cli(b, &["-3", "TTL", "hello"]).parse().unwrap();
    assert!((80..=100).contains(&ttl), "{ttl}");
    assert!(cli(b, &["-3", "HELLO"]).starts_with("server "));
    assert!(cli(b, &["-3", "SAPWOOD", "PEERS"]).contains("linked"));
    assert!(cli(b, &["INFO", "sapwood"]).contains("linked_peers:2"));

    for n in 0..25 {
        cli(c, &["SET", &format!("scan:{n:02}"), "x"]);
    }
    until_equal(&[a, b, c]);
    let mut keys: Vec<_> = cli(a, &["--scan", "--pattern", "scan:*"]).lines().map(String::from).collect();
    keys.sort();
    assert_eq!(keys, (0..25).map(|n| format!("scan:{n:02}")).collect::<Vec<_>>());
    assert_eq!(cli(a, &["DBSIZE"]), "26");
    assert_eq!(cli(c, &["DEL", "hello"]), "1");
    wait("deleted", || cli(a, &["EXISTS", "hello"]) == "0");

    // Commands from stdin, and a whole protocol stream.
    let piped = |flags: &[&str], input: &[u8]| {
        let mut child = program("redis-cli")
            .args(["-p", &a.client.port().to_string()])
            .args(flags)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        std::io::Write::write_all(&mut child.stdin.take().unwrap(), input).unwrap();
        let output = child.wait_with_output().unwrap();
        assert!(output.status.success(), "{output:?}");
        String::from_utf8(output.stdout).unwrap()
    };
    assert_eq!(piped(&[], b"SET in line\nGET in\n"), "OK\nline\n");
    let mut stream = Vec::new();
    for n in 0..5000 {
        stream.extend(request(&[b"SET", format!("pipe:{n}").as_bytes(), b"x"]));
    }
    let piped = piped(&["--pipe"], &stream);
    assert!(piped.contains("errors: 0, replies: 5000"), "{piped}");

    // `redis-cli --bigkeys` and `--latency` walk more of the commands that tools ask.
    for option in ["--bigkeys", "--memkeys"] {
        let big = cli(a, &[option]);
        assert!(big.contains("strings with"), "{big}");
    }
    let lfu =
        NodeProcess::start("lfu", &[], &["--max-memory", "32MiB", "--max-memory-policy", "allkeys-lfu"]);
    cli(&lfu, &["SET", "in:use", "v"]);
    for _ in 0..50 {
        cli(&lfu, &["GET", "in:use"]);
    }
    let hot = cli(&lfu, &["--hotkeys"]);
    assert!(hot.contains("hot key found with counter:") && hot.contains("in:use"), "{hot}");
    let refused = program("redis-cli")
        .args(["-p", &a.client.port().to_string(), "-e", "RPUSH", "list", "x"])
        .output()
        .unwrap();
    assert_eq!(refused.status.code(), Some(1), "{refused:?}");
}

#[test]
#[ignore = "needs redis-benchmark (Debian redis-tools)"]
fn redis_benchmark_runs_without_an_error() {
    let nodes = three_nodes(&[]);
    let port = nodes[0].client.port().to_string();
    for pipeline in ["1", "16"] {
        let table = said(
            program("redis-benchmark")
                .args(["-p", &port, "-t", "ping,set,get,mset"])
                .args(["-P", pipeline, "-n", "20000", "-c", "20", "-r", "10000", "--csv"]),
        );
        let lines: Vec<_> = table.lines().collect();
        assert_eq!(lines[0].split(',').next(), Some("\"test\""), "{table}");
        let tests: Vec<_> = lines[1..].iter().map(|line| line.split('"').nth(1).unwrap()).collect();
        assert_eq!(tests, ["PING_INLINE", "PING_MBULK", "SET", "GET", "MSET (10 keys)"]);
        for line in &lines[1..] {
            let rate: f64 = line.split('"').nth(3).unwrap().parse().unwrap();
            assert!(rate > 0.0, "{line}");
            eprintln!("-P {pipeline}: {line}");
        }
    }
    let quiet = said(program("redis-benchmark").args(["-p", &port, "-t", "set,get", "-n", "20000", "-q"]));
    assert!(quiet.contains("SET:") && quiet.contains("GET:"), "{quiet}");
    until_equal(&nodes.each_ref());
}

/// The interpreter is `$SAPWOOD_TEST_PYTHON`, or `python3`.
#[test]
#[ignore = "needs Python with the package redis (PyPI)"]
fn redis_py_works_against_three_nodes() {
    let python = std::env::var("SAPWOOD_TEST_PYTHON").unwrap_or_else(|_| "python3".into());
    let nodes = three_nodes(&[]);
    let output = Command::new(python)
        .arg(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/clients/redis_py.py"))
        .args(nodes.iter().map(|node| node.client.port().to_string()))
        .stdin(Stdio::null())
        .output()
        .expect("Python is missing");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    assert_eq!(String::from_utf8_lossy(&output.stdout).trim_end(), "redis-py: ok in RESP2 and RESP3");
    until_equal(&nodes.each_ref());
}
