//! The http port of real nodes, over TCP: the page, health, metrics, the JSON API and its stream.
#![cfg(feature = "daemon")]
#![allow(clippy::unwrap_used, reason = "the lint takes the helpers of a test for production code")]

mod support;

use std::net::SocketAddr;

use sapwood::Node;
use sapwood::config::Config;
use support::http::{get, send};
use support::{config, linked, until, until_equal};

/// A node with an http port, on which anything goes.
async fn start(name: &str, join: &[Option<SocketAddr>]) -> (Node, SocketAddr) {
    start_with(name, join, |config| {
        config.http_writes = true;
        config.http_show_values = true;
        config.enable_faults = true;
    })
    .await
}

async fn start_with(
    name: &str,
    join: &[Option<SocketAddr>],
    change: impl FnOnce(&mut Config),
) -> (Node, SocketAddr) {
    let mut config = Config { http: "127.0.0.1:0".parse().ok(), ..config(name, join) };
    change(&mut config);
    let node = Node::start(config).await.unwrap();
    let http = node.http_addr().unwrap();
    until("the node has joined", || node.state() == sapwood::cluster::NodeState::Ready).await;
    (node, http)
}

/// Two linked nodes.
async fn pair() -> [(Node, SocketAddr); 2] {
    let a = start("a", &[]).await;
    let b = start("b", &[a.0.peer_addr()]).await;
    until("both are linked", || linked(&a.0) == 1 && linked(&b.0) == 1).await;
    [a, b]
}

#[tokio::test]
async fn the_page_comes_whole_from_this_server_and_may_load_nothing_else() {
    let (_node, http) = start("a", &[]).await;
    for (path, kind) in [("/", "text/html"), ("/page.css", "text/css"), ("/page.js", "text/javascript")] {
        let answer = get(http, path).await;
        assert_eq!(answer.status, 200, "{path}");
        assert_eq!(answer.header("content-type"), format!("{kind}; charset=utf-8"));
    }
    for path in ["/", "/healthz", "/metrics", "/nowhere"] {
        let answer = get(http, path).await;
        let policy = answer.header("content-security-policy");
        assert!(policy.starts_with("default-src 'none'; ") && !policy.contains("unsafe"), "{path}: {policy}");
        assert!(policy.contains("frame-ancestors 'none'"));
        assert_eq!(answer.header("x-content-type-options"), "nosniff", "{path}");
        assert_eq!(answer.header("cache-control"), "no-store", "{path}");
        assert_eq!(answer.header("access-control-allow-origin"), "", "{path}");
    }
    assert!(!get(http, "/").await.text().contains("{{token}}"));
}

#[tokio::test]
async fn what_is_not_there_is_a_problem_in_json() {
    let (_node, http) = start("a", &[]).await;
    for (method, path, status) in [("GET", "/nowhere", 404), ("GET", "/page/../../etc/passwd", 404)] {
        let answer = send(http, method, path, &[], "").await;
        assert_eq!(answer.status, status, "{method} {path}");
        assert_eq!(answer.header("content-type"), "application/problem+json");
        let problem = answer.json();
        assert_eq!(problem["status"], status);
        assert!(problem["title"].is_string() && problem["detail"].is_string() && problem["type"].is_string());
    }
}

#[tokio::test]
async fn a_name_that_could_be_anybodys_is_not_answered_on_loopback() {
    let (_node, http) = start("a", &[]).await;
    for (host, status) in
        [("localhost:1", 200), ("[::1]", 200), ("evil.example", 421), ("127.0.0.1.evil.example", 421)]
    {
        for path in ["/", "/healthz", "/metrics"] {
            let answer = send(http, "GET", path, &[("host", host)], "").await;
            assert_eq!(answer.status, status, "{host}{path}");
        }
    }
}

#[tokio::test]
async fn a_node_is_ready_once_it_has_joined_and_while_it_takes_writes() {
    let (node, http) = start("a", &[]).await;
    assert_eq!(get(http, "/healthz").await.text(), "ok\n");
    assert_eq!(get(http, "/readyz").await.text(), "ready\n");
    assert_eq!(get(http, "/readyz?max_lag=500ms&max_differs=0").await.status, 200);
    for bad in ["max_lag=soon", "max_lag=5", "max_differs=-1", "max_typo=1"] {
        let answer = get(http, &format!("/readyz?{bad}")).await;
        assert_eq!(
            (answer.status, answer.header("content-type")),
            (400, "application/problem+json"),
            "{bad}"
        );
    }
    let (waiting, its_http) = {
        let unreachable = Config {
            join: vec!["127.0.0.1:1".into()],
            join_first: true,
            http: "127.0.0.1:0".parse().ok(),
            ..config("b", &[])
        };
        let node = Node::start(unreachable).await.unwrap();
        let http = node.http_addr().unwrap();
        (node, http)
    };
    until("it has given up on its peers", || waiting.state() == sapwood::cluster::NodeState::Ready).await;
    let answer = get(its_http, "/readyz").await;
    assert_eq!(answer.status, 503);
    assert!(answer.json()["detail"].as_str().unwrap().contains("UNFOUNDED"), "{}", answer.text());
    assert_eq!(get(its_http, "/healthz").await.status, 200);

    let (small, its_http) = start_with("c", &[], |config| {
        config.max_key = 1 << 10;
        config.max_value = 1 << 10;
        config.max_memory = Some(2 << 10);
    })
    .await;
    assert_eq!(get(its_http, "/readyz").await.status, 200);
    small.set("one", "x".repeat(1000)).unwrap();
    small.set("two", "x".repeat(700)).unwrap();
    let answer = get(its_http, "/readyz").await;
    assert_eq!(answer.status, 503);
    assert!(answer.text().contains("OOM"), "{}", answer.text());
    node.shutdown().await;
}

#[tokio::test]
async fn a_node_that_is_behind_its_goals_is_not_ready_and_says_why() {
    let [(a, http), (b, _)] = pair().await;
    b.cluster().cut("a", sapwood::cluster::Way::In).unwrap();
    a.set("k", "v").unwrap();
    until("b has not acknowledged it", || {
        a.peers().iter().any(|peer| peer.lag > std::time::Duration::from_millis(20))
    })
    .await;
    // The link ends after five seconds of silence, and no link has no lag: that is for alerts to see.
    let answer = get(http, "/readyz?max_lag=10ms").await;
    assert_eq!(answer.status, 503, "{}", answer.text());
    assert!(answer.json()["detail"].as_str().unwrap().starts_with("b lags by "), "{}", answer.text());
    assert_eq!(get(http, "/readyz?max_lag=1h").await.status, 200);
    b.cluster().mend("a", sapwood::cluster::Way::Both).unwrap();
    until_equal(&[&a, &b]).await;
}

/// Name, labels and value of every sample, with the grammar checked on the way.
fn samples(text: &str) -> Vec<(String, String, f64)> {
    let mut samples = Vec::new();
    let (mut described, mut family) = (std::collections::BTreeSet::new(), String::new());
    assert!(text.ends_with("# EOF\n"), "{text}");
    for line in text.lines().filter(|line| *line != "# EOF") {
        if let Some(rest) = line.strip_prefix("# ") {
            let [word, name, rest] = rest.splitn(3, ' ').collect::<Vec<_>>()[..] else { panic!("{line}") };
            match word {
                "HELP" => assert!(rest.ends_with('.'), "{line}"),
                "TYPE" => {
                    assert!(["gauge", "counter", "histogram"].contains(&rest), "{line}");
                }
                "UNIT" => assert!(name.ends_with(&format!("_{rest}")), "{line}"),
                _ => panic!("{line}"),
            }
            if name != family {
                assert!(described.insert(name.to_owned()), "{name} is described twice");
                family = name.to_owned();
            }
            continue;
        }
        let (name, rest) = line.split_at(line.find(['{', ' ']).unwrap());
        let letters = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_';
        assert!(name.starts_with(&family) && name.chars().all(letters), "{line} of {family}");
        let (labels, value) = rest.rsplit_once(' ').unwrap();
        let value: f64 = value.parse().unwrap_or_else(|_| panic!("{line}"));
        assert!(labels.is_empty() || labels.starts_with('{') && labels.ends_with('}'), "{line}");
        samples.push((name.to_owned(), labels.to_owned(), value));
    }
    samples
}

fn value(samples: &[(String, String, f64)], name: &str, labels: &[&str]) -> f64 {
    let fits = |(n, l, _): &&(String, String, f64)| n == name && labels.iter().all(|label| l.contains(label));
    let found: Vec<_> = samples.iter().filter(fits).collect();
    let [(_, _, value)] = found[..] else { panic!("{name} {labels:?}: {found:?}") };
    *value
}

#[tokio::test]
async fn metrics_say_what_has_happened_in_the_format_that_prometheus_reads() {
    let [(a, http), (b, _)] = pair().await;
    let client = sapwood::client::Client::connect([a.client_addr().unwrap().to_string()]).await.unwrap();
    client.set("k", "v").await.unwrap();
    client.get("k").await.unwrap();
    client.get("nope").await.unwrap();
    client.incr("k").await.unwrap_err();
    until_equal(&[&a, &b]).await;
    let answer = get(http, "/metrics").await;
    assert!(answer.header("content-type").starts_with("application/openmetrics-text; version=1.0.0"));
    let samples = samples(answer.text());
    let at = |name, labels: &[&str]| value(&samples, name, labels);
    assert_eq!(at("sapwood_build_info", &["version=\"0.1.0\"", "cluster=\"sapwood\"", "node=\"a\""]), 1.0);
    assert_eq!(at("sapwood_ready", &[]), 1.0);
    assert_eq!(at("sapwood_state", &["state=\"ready\""]), 1.0);
    assert_eq!(at("sapwood_keys", &[]), 1.0);
    assert_eq!(at("sapwood_commands_total", &["command=\"get\"", "result=\"ok\""]), 2.0);
    assert_eq!(at("sapwood_commands_total", &["command=\"incr\"", "result=\"error\""]), 1.0);
    assert_eq!(at("sapwood_key_misses_total", &[]), 1.0);
    assert_eq!(at("sapwood_client_connections", &[]), 1.0);
    assert_eq!(at("sapwood_peer_linked", &["peer=\"b\""]), 1.0);
    assert_eq!(at("sapwood_peer_state", &["peer=\"b\"", "state=\"linked\""]), 1.0);
    assert!(at("sapwood_peer_sent_bytes_total", &["peer=\"b\"", "kind=\"pushes\""]) > 0.0);
    assert!(at("sapwood_peer_received_bytes_total", &["peer=\"b\"", "kind=\"beats\""]) > 0.0);
    assert!(at("sapwood_rounds_total", &["outcome=\"finished\""]) >= 1.0);
    assert!(at("sapwood_command_batch_duration_seconds_count", &[]) >= 1.0);
    let buckets: Vec<_> = samples.iter().filter(|(name, ..)| name.ends_with("_bucket")).collect();
    assert!(buckets.windows(2).all(|pair| pair[0].2 <= pair[1].2), "buckets add up");
    assert!(buckets.last().unwrap().1.contains("le=\"+Inf\""));
}

#[tokio::test]
async fn a_node_that_stops_ends_its_http_port() {
    let (node, http) = start("a", &[]).await;
    let _idle = tokio::net::TcpStream::connect(http).await.unwrap();
    node.shutdown().await;
    assert!(tokio::net::TcpStream::connect(http).await.is_err());
}
