//! The http port of real nodes, over TCP: the page, health, metrics, the JSON API and its stream.

use std::net::SocketAddr;

use crate::support::http::{Events, get, json, post, send, token};
use crate::support::{config, linked, until, until_equal};
use sapwood::Node;
use sapwood::config::Config;
use sapwood::internal::model::Database;
use serde_json::{Value, json};

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
    until("the node has joined", || node.state() == sapwood::status::NodeState::Ready).await;
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
    for (path, kind) in
        [("/", "text/html"), ("/page/page.css", "text/css"), ("/page/page.js", "text/javascript")]
    {
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
    assert_eq!(get(http, "/readyz?max_lag=500ms&max_differs=0&min_linked=0").await.status, 200);
    let apart = get(http, "/readyz?min_linked=1").await;
    assert!(
        apart.status == 503 && apart.text().contains("linked to 0 peers, fewer than 1"),
        "{}",
        apart.text()
    );
    for bad in ["max_lag=soon", "max_lag=5", "max_differs=-1", "max_typo=1"] {
        let answer = get(http, &format!("/readyz?{bad}")).await;
        assert_eq!(
            (answer.status, answer.header("content-type")),
            (400, "application/problem+json"),
            "{bad}"
        );
    }
    let (alone, its_http) = start_with("b", &[], |config| {
        config.join = vec!["127.0.0.1:1".into()];
        config.ready_alone_after = std::time::Duration::from_millis(100);
    })
    .await;
    until("it has given up on its peers", || alone.state() == sapwood::status::NodeState::Ready).await;
    assert_eq!(get(its_http, "/readyz").await.status, 200, "it takes writes");

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
    assert!(answer.text().contains("out of memory"), "{}", answer.text());
    node.shutdown().await;
}

#[tokio::test]
async fn a_node_that_is_behind_its_goals_is_not_ready_and_says_why() {
    let [(a, http), (b, _)] = pair().await;
    b.cut("a", sapwood::status::Way::In).unwrap();
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
    b.mend("a", sapwood::status::Way::Both).unwrap();
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
    assert!(at("sapwood_peer_received_bytes_total", &["peer=\"b\"", "kind=\"heartbeats\""]) > 0.0);
    assert!(at("sapwood_syncs_total", &["outcome=\"finished\""]) >= 1.0);
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

#[tokio::test]
async fn status_has_both_nodes_and_the_link_as_each_sees_it() {
    let [(a, http), (b, _)] = pair().await;
    let c = start("c", &[a.peer_addr()]).await;
    for node in [&a, &b, &c.0] {
        until("all are linked", || linked(node) == 2).await;
    }
    a.set("tree", "oak").unwrap();
    until_equal(&[&a, &b, &c.0]).await;
    let mut stream = Events::open(http, "/api/stream", &[]).await;
    let status = stream
        .until("status", |status| {
            let nodes = status["nodes"].as_array().unwrap();
            let reporting = nodes.iter().filter(|node| node["keys"] == 1 && node["state"] == "ready").count();
            let digests: std::collections::BTreeSet<_> =
                nodes.iter().map(|node| node["digest"].to_string()).collect();
            let reported = status["links"].as_array().unwrap().iter().any(|link| {
                link["from"] == "b"
                    && link["to"] == "c"
                    && link["reported"] == true
                    && link["state"] == "linked"
            });
            reporting == 3 && digests.len() == 1 && reported
        })
        .await;
    assert_eq!(
        (&status["demo"], &status["writes"], &status["faults"], &status["values"]),
        (&false.into(), &true.into(), &true.into(), &true.into())
    );
    let names: Vec<_> =
        status["nodes"].as_array().unwrap().iter().map(|node| node["name"].as_str().unwrap()).collect();
    assert_eq!(names, ["a", "b", "c"]);
    assert_eq!((&status["nodes"][0]["local"], &status["nodes"][1]["local"]), (&true.into(), &false.into()));
    assert_eq!(status["nodes"][0]["http"], http.to_string());
    for node in status["nodes"].as_array().unwrap() {
        for field in [
            "memory_bytes",
            "tombstones",
            "tombstone_bytes",
            "ops_per_second",
            "bytes_in_per_second",
            "uptime_ms",
            "retractions",
        ] {
            assert!(node[field].is_u64(), "{field} of {node}");
        }
    }
    let link = status["links"]
        .as_array()
        .unwrap()
        .iter()
        .find(|link| link["from"] == "a" && link["to"] == "b")
        .unwrap();
    assert_eq!((&link["state"], &link["reported"]), (&"linked".into(), &false.into()));
    for field in [
        "lag_ms",
        "queued_bytes",
        "received_bytes",
        "sent_bytes",
        "ranges_differing",
        "verified_ms",
        "since_ms",
    ] {
        assert!(link[field].is_u64(), "{field} of {link}");
    }
    assert_eq!(json(http, "/api/status").await["version"], env!("CARGO_PKG_VERSION"));
}

#[tokio::test]
async fn what_the_page_writes_is_written_like_any_clients() {
    let [(a, http), (b, _)] = pair().await;
    let answer = post(http, "/api/write", &json!({"key": "tree", "value": {"text": "oak"}})).await;
    assert_eq!((answer.status, answer.text()), (204, ""));
    assert_eq!(post(http, "/api/incr", &json!({"key": "n", "by": 5})).await.json(), json!({"value": "5"}));
    assert_eq!(post(http, "/api/incr", &json!({"key": "n", "set": 40})).await.json(), json!({"value": "40"}));
    assert_eq!(post(http, "/api/incr", &json!({"key": "n", "by": 2})).await.json(), json!({"value": "42"}));
    until("b has it all", || b.get("tree").is_some() && b.get("n").is_some_and(|n| n == "42")).await;
    assert_eq!(
        post(http, "/api/delete", &json!({"key": {"base64": "dHJlZQ=="}})).await.json(),
        json!({"deleted": true})
    );
    assert_eq!(post(http, "/api/delete", &json!({"key": "tree"})).await.json(), json!({"deleted": false}));
    assert!(a.get("tree").is_none());
    assert_eq!(
        post(http, "/api/write", &json!({"key": "brief", "value": "x", "ttl_ms": 1})).await.status,
        204
    );
    until("it has expired", || a.get("brief").is_none()).await;
    let lasting = json!({"key": "lasting", "value": "x", "ttl_ms": 9_000_000_000_000_000_u64});
    assert_eq!(post(http, "/api/write", &lasting).await.status, 204);
    let listed = json(http, "/api/keys?prefix=lasting").await;
    assert_eq!(listed["keys"][0]["deadline"], "9999-12-31T23:59:59.999Z");
    let added = post(http, "/api/random-incr", &json!({"key": "m", "times": 100})).await.json();
    assert_eq!(a.get("m").unwrap(), added["added"]["a"].to_string());

    let cases = [
        ("/api/write", json!({"key": "k"}), 400),
        ("/api/write", json!({"key": "k", "value": "v", "typo": 1}), 400),
        ("/api/write", json!({"node": "nobody", "key": "k", "value": "v"}), 404),
        ("/api/write", json!({"key": "x".repeat(70_000), "value": "v"}), 400),
        ("/api/write", json!({"key": {"base64": "%"}, "value": "v"}), 400),
        ("/api/write", json!({"key": "k", "value": "x".repeat(1 << 20)}), 413),
        ("/api/incr", json!({"key": "k"}), 400),
        ("/api/incr", json!({"key": "k", "by": 1, "set": 1}), 400),
        ("/api/incr", json!({"key": "k", "by": "1"}), 400),
        ("/api/random-incr", json!({"key": "k", "times": 1_000_000_000}), 400),
        ("/api/cut", json!({"peer": "nobody"}), 404),
        ("/api/cut", json!({"peer": "b", "way": "up"}), 400),
        ("/api/demo/stop", json!({"node": "a"}), 404),
        ("/api/demo/add", json!({}), 404),
    ];
    for (path, body, status) in cases {
        let answer = post(http, path, &body).await;
        let shown = body.to_string();
        assert_eq!(answer.status, status, "{path} {}: {}", &shown[..shown.len().min(80)], answer.text());
        assert_eq!(answer.header("content-type"), "application/problem+json", "{path}");
    }
    a.set("word", "tree").unwrap();
    assert_eq!(post(http, "/api/incr", &json!({"key": "word", "by": 1})).await.status, 409);
    a.set("most", i64::MAX.to_string()).unwrap();
    assert_eq!(post(http, "/api/incr", &json!({"key": "most", "by": 1})).await.status, 409);
}

#[tokio::test]
async fn only_the_servers_own_page_may_write_and_only_where_that_is_allowed() {
    let (node, http) = start("a", &[]).await;
    let (closed, its_http) = start_with("b", &[], |_| {}).await;
    let token = token(http).await;
    let own = format!("http://{http}");
    let body = json!({"key": "k", "value": "v"}).to_string();
    let (token, its_token) = (token.as_str(), crate::support::http::token(its_http).await);
    for (what, headers) in [
        ("no token", vec![]),
        ("a wrong token", vec![("x-sapwood-token", "0123456789abcdef0123456789abcdef")]),
        ("another server's token", vec![("x-sapwood-token", its_token.as_str())]),
        ("another origin", vec![("x-sapwood-token", token), ("origin", "http://evil.example")]),
        ("an opaque origin", vec![("x-sapwood-token", token), ("origin", "null")]),
        ("the origin of another port", vec![("x-sapwood-token", token), ("origin", "http://127.0.0.1:1")]),
    ] {
        for path in [
            "/api/write",
            "/api/delete",
            "/api/incr",
            "/api/random-incr",
            "/api/cut",
            "/api/mend",
            "/api/demo/add",
            "/nowhere",
        ] {
            let answer = send(http, "POST", path, &headers, &body).await;
            assert_eq!(
                (answer.status, answer.header("content-type")),
                (403, "application/problem+json"),
                "{path}: {what}"
            );
        }
    }
    assert!(node.get("k").is_none());
    let answer =
        send(http, "POST", "/api/write", &[("x-sapwood-token", token), ("origin", &own)], &body).await;
    assert_eq!(answer.status, 204, "{}", answer.text());
    for path in ["/api/write", "/api/cut", "/api/demo/add"] {
        let answer = post(its_http, path, &json!({"key": "k", "value": "v"})).await;
        assert_eq!(answer.status, 403);
        assert!(answer.text().contains("--http-writes"), "{}", answer.text());
    }
    assert!(closed.get("k").is_none());
    let (_c, without_faults) = start_with("c", &[], |config| config.http_writes = true).await;
    let answer = post(without_faults, "/api/cut", &json!({"peer": "*"})).await;
    assert_eq!(answer.status, 403);
    assert!(answer.text().contains("--enable-faults"), "{}", answer.text());
    assert_eq!(send(http, "PUT", "/api/write", &[("x-sapwood-token", token)], "").await.status, 405);
}

#[tokio::test]
async fn keys_come_a_page_at_a_time_each_once() {
    let (node, http) = start("a", &[]).await;
    for n in 0..300 {
        node.set(format!("tree/{n}"), "x").unwrap();
        node.set(format!("rock/{n}"), "x").unwrap();
    }
    node.delete("tree/7").unwrap();
    let mut found = std::collections::BTreeSet::new();
    let mut next = String::new();
    loop {
        let page = json(http, &format!("/api/keys?prefix=tree/&limit=20{next}")).await;
        let keys = page["keys"].as_array().unwrap();
        assert!(keys.len() <= 20);
        for row in keys {
            assert!(found.insert(row["key"]["text"].as_str().unwrap().to_owned()), "{row} came twice");
        }
        let Some(cursor) = page["next"].as_str() else { break };
        next = format!("&after={cursor}");
    }
    assert_eq!(found.len(), 299);
    assert!(found.iter().all(|key| key.starts_with("tree/") && key != "tree/7"));
    let one = json(http, "/api/keys?prefix64=dHJlZS8yOTk").await;
    let row = &one["keys"][0];
    assert_eq!(
        (&row["key"], &row["kind"], &row["value"]),
        (&json!({"text": "tree/299"}), &"string".into(), &json!({"text": "x"}))
    );
    assert_eq!(
        (&row["value_bytes"], &row["origin"], &row["deadline"]),
        (&1.into(), &"a".into(), &Value::Null)
    );
    assert!(row["time"].as_str().unwrap().ends_with('Z') && row["timestamp"].as_str().unwrap().len() == 16);
    for bad in ["limit=0", "limit=501", "after=x", "prefix=a&prefix64=YQ", "node=b", "typo=1"] {
        assert!([400, 404].contains(&get(http, &format!("/api/keys?{bad}")).await.status), "{bad}");
    }
}

#[tokio::test]
async fn a_key_of_database_0_may_begin_with_any_byte_and_others_are_not_shown() {
    let [(a, http), (b, _)] = pair().await;
    let mut copies = Events::open(http, "/api/stream?key64=_w", &[]).await;
    let mut pages = Events::open(http, "/api/stream?prefix64=_w", &[]).await;
    let answer = post(http, "/api/write", &json!({"key": {"base64": "_w"}, "value": "v"})).await;
    assert_eq!(answer.status, 204);
    until("b has it", || b.get(b"\xff").is_some()).await;
    assert_eq!(a.get(b"\xff").unwrap(), "v");
    crate::support::set(&a, &Database::new(5).stored(b"other"), b"v");
    assert_eq!(json(http, "/api/keys").await["keys"].as_array().unwrap().len(), 1);
    let view = json(http, "/api/key?key64=_w").await;
    for node in 0..2 {
        assert_eq!(view["copies"][node]["state"], "live", "{view}");
    }
    copies.until("key", |view| view["copies"][0]["state"] == "live").await;
    pages.until("keys", |page| page["keys"][0]["key"]["base64"] == "/w==").await;
}

#[tokio::test]
async fn values_are_not_shown_unless_that_was_asked_for() {
    let (node, http) = start_with("a", &[], |config| config.http_writes = true).await;
    node.set("k", "a very secret value").unwrap();
    node.incr_by("n", 77_777_777).unwrap();
    for path in ["/api/keys", "/api/key?key=k", "/api/key?key=n", "/api/status", "/api/events", "/metrics"] {
        let text = get(http, path).await.text().to_owned();
        assert!(!text.contains("very secret") && !text.contains("77777777"), "{path}: {text}");
    }
    let mut stream = Events::open(http, "/api/stream?key=k&prefix=", &[]).await;
    let key = stream.until("key", |_| true).await;
    assert_eq!((&key["copies"][0]["value"], &key["copies"][0]["value_bytes"]), (&Value::Null, &19.into()));
}

#[tokio::test]
async fn hostile_keys_and_values_come_out_as_json_and_cut() {
    let (node, http) = start("a", &[]).await;
    let keys: [&[u8]; 4] = [b"<script>alert(1)</script>", b"\0\r\n\x1b[31m", b"\xff\xfe", &[b'x'; 64 << 10]];
    for key in keys {
        node.set(key, key).unwrap();
    }
    let answer = get(http, "/api/keys").await;
    assert_eq!(
        (answer.header("content-type"), answer.header("x-content-type-options")),
        ("application/json", "nosniff")
    );
    assert!(answer.body.len() < 16 << 10 && !answer.body.iter().any(|byte| byte.is_ascii_control()));
    let page = answer.json();
    let find = |fits: &dyn Fn(&Value) -> bool| {
        let rows = page["keys"].as_array().unwrap();
        rows.iter().find(|row| fits(&row["key"])).unwrap_or_else(|| panic!("{page}")).clone()
    };
    find(&|key| key["text"] == "<script>alert(1)</script>");
    find(&|key| key["base64"] == "AA0KG1szMW0=");
    find(&|key| key["base64"] == "//4=");
    let long = find(&|key| key["cut"] == true);
    assert_eq!(long["key"]["bytes"], 64 << 10);
    assert_eq!(long["value"]["text"].as_str().unwrap().len(), 1 << 10);
    assert_eq!((&long["value"]["bytes"], &long["value_bytes"]), (&(64 << 10).into(), &(64 << 10).into()));
    let answer = get(http, "/api/key?key=%3Cscript%3Ealert(1)%3C/script%3E").await;
    assert_eq!(answer.json()["copies"][0]["state"], "live");
    assert_eq!(get(http, "/api/key?key64=__4").await.json()["copies"][0]["state"], "live");
}

#[tokio::test(start_paused = true)]
async fn a_key_is_shown_side_by_side_and_the_larger_timestamp_wins() {
    let [(a, http), (b, _)] = pair().await;
    a.set("tree", "oak").unwrap();
    a.incr_by("visits", 3).unwrap();
    b.incr_by("visits", 4).unwrap();
    until_equal(&[&a, &b]).await;
    until("b has counted both", || a.get("visits").is_some_and(|visits| visits == "7")).await;
    let tree = json(http, "/api/key?key=tree").await;
    assert_eq!(tree["winner"], "a, b");
    for copy in tree["copies"].as_array().unwrap() {
        assert_eq!(
            (&copy["answered"], &copy["state"], &copy["value"]),
            (&true.into(), &"live".into(), &json!({"text": "oak"}))
        );
        assert_eq!((&copy["origin"], &copy["counter"]), (&"a".into(), &Value::Null));
    }
    let visits = json(http, "/api/key?key=visits").await;
    for copy in visits["copies"].as_array().unwrap() {
        let counter = &copy["counter"];
        assert_eq!(
            (&copy["kind"], &counter["total"], &counter["base"]),
            (&"counter".into(), &"7".into(), &Value::Null)
        );
        let slots = counter["slots"].as_array().unwrap();
        let sum = |name: &str| slots.iter().find(|slot| slot["name"] == name).unwrap()["sum"].clone();
        assert_eq!((sum("a"), sum("b")), ("3".into(), "4".into()));
    }

    a.cut("*", sapwood::status::Way::Both).unwrap();
    until("the link has ended", || linked(&b) == 0).await;
    a.set("tree", "elm").unwrap();
    let cut = json(http, "/api/key?key=tree").await;
    let copy = |name: &str| {
        cut["copies"].as_array().unwrap().iter().find(|copy| copy["node"] == name).unwrap().clone()
    };
    assert_eq!((&copy("a")["value"], &copy("b")["answered"]), (&json!({"text": "elm"}), &false.into()));
    a.mend("*", sapwood::status::Way::Both).unwrap();
    let mut stream = Events::open(http, "/api/stream?key=tree", &[]).await;
    let healed = stream.until("key", |key| key["winner"] == "a, b").await;
    assert_eq!(healed["copies"][1]["value"], json!({"text": "elm"}));
    assert_eq!(json(http, "/api/key?key=nope").await["winner"], Value::Null);
    assert_eq!(get(http, "/api/key").await.status, 400);
}

#[tokio::test]
async fn ranges_of_a_linked_pair_are_a_bit_each() {
    let [(a, http), (b, _)] = pair().await;
    a.set("tree", "oak").unwrap();
    until_equal(&[&a, &b]).await;
    for pair in ["from=a&to=b", "from=b&to=a"] {
        let map = json(http, &format!("/api/ranges?{pair}")).await;
        assert_eq!(map["known"], "sync");
        // 2,048 bytes in base64.
        assert_eq!(map["bits"].as_str().unwrap().len(), 2732);
    }
    for unknown in ["from=a&to=nobody", "from=x&to=y"] {
        assert_eq!(get(http, &format!("/api/ranges?{unknown}")).await.status, 404, "{unknown}");
    }
    assert_eq!(get(http, "/api/ranges?from=a").await.status, 400);
}

#[tokio::test(start_paused = true)]
async fn a_stream_sends_what_changes_and_continues_where_another_was() {
    let [(a, http), (b, _)] = pair().await;
    let mut stream = Events::open(http, "/api/stream?key=k&prefix=tree/&map=a,b", &[]).await;
    let up = stream.until("event", |event| event["kind"] == "up" && event["peer"] == "b").await;
    assert_eq!(up["node"], "a");
    assert!(up["time"].as_str().unwrap().ends_with('Z'));
    stream.until("keys", |keys| keys["keys"].as_array().unwrap().is_empty()).await;
    stream.until("ranges", |map| map["from"] == "a" && map["to"] == "b").await;
    stream.until("key", |key| key["copies"][0]["state"] == "absent").await;
    b.set("k", "v").unwrap();
    b.set("tree/1", "oak").unwrap();
    let mut seen = (false, false);
    while seen != (true, true) {
        let event = stream.next().await.unwrap();
        seen.0 |= event.name == "key" && event.json()["copies"][0]["value"] == json!({"text": "v"});
        seen.1 |= event.name == "keys" && event.json()["keys"][0]["key"] == json!({"text": "tree/1"});
    }
    drop(stream);

    let events = json(http, "/api/events").await;
    let events = events["events"].as_array().unwrap();
    let ids: Vec<_> = events.iter().map(|event| event["id"].as_u64().unwrap()).collect();
    assert!(ids.is_sorted() && ids.len() >= 2);
    let last = ids[ids.len() - 2].to_string();
    for (path, headers) in [
        ("/api/stream".to_owned(), vec![("last-event-id", last.as_str())]),
        (format!("/api/stream?after={last}"), vec![]),
    ] {
        let mut stream = Events::open(http, &path, &headers).await;
        let first = loop {
            let event = stream.next().await.unwrap();
            if event.name == "event" {
                break event;
            }
        };
        assert_eq!(
            (first.id.parse().unwrap(), &first.json()["id"]),
            (ids[ids.len() - 1], &ids[ids.len() - 1].into())
        );
    }
    let mut stream = Events::open(http, "/api/stream", &[]).await;
    b.cut("a", sapwood::status::Way::Both).unwrap();
    stream.until("event", |event| event["kind"] == "down").await;
    b.mend("a", sapwood::status::Way::Both).unwrap();
    stream.until("event", |event| event["kind"] == "up" && event["id"].as_u64() > ids.last().copied()).await;
    a.shutdown().await;
    while stream.next().await.is_some() {}
    for bad in ["map=a", "typo=1", "key64=%25"] {
        let answer = get(b.http_addr().unwrap(), &format!("/api/stream?{bad}")).await;
        assert_eq!(answer.status, 400, "{bad}");
    }
}

#[tokio::test]
async fn the_description_for_programs_has_every_path_and_no_other() {
    let (_node, http) = start("a", &[]).await;
    let described = json(http, "/api/openapi.json").await;
    for (path, methods) in described["paths"].as_object().unwrap() {
        let answer = match methods.get("post") {
            Some(_) => post(http, path, &Value::Null).await,
            None => send(http, "HEAD", path, &[], "").await,
        };
        // Nothing but the stage of a demonstration is missing in a node.
        let is_there = answer.status != 404 && answer.status != 405;
        assert!(is_there || path.starts_with("/api/demo/"), "{path}: {}", answer.status);
    }
    let docs = include_str!("../../docs/http.md");
    for path in described["paths"].as_object().unwrap().keys().filter(|path| !path.starts_with("/api/demo/"))
    {
        assert!(docs.contains(path.as_str()), "docs/http.md says nothing of {path}");
    }
}

/// Names in the text that begin as metrics do.
fn names(text: &str) -> std::collections::BTreeSet<&str> {
    let words = text.split(|c: char| !c.is_ascii_lowercase() && !c.is_ascii_digit() && c != '_');
    words.filter(|word| word.starts_with("sapwood_")).collect()
}

#[tokio::test]
async fn every_metric_of_the_alerts_the_dashboard_and_the_documentation_exists() {
    let [(a, http), (_b, _)] = pair().await;
    let client = sapwood::client::Client::connect([a.client_addr().unwrap().to_string()]).await.unwrap();
    client.set("k", "v").await.unwrap();
    let answer = get(http, "/metrics").await;
    let described = answer.text().lines().filter_map(|line| line.strip_prefix("# TYPE "));
    let mut known = std::collections::BTreeSet::new();
    for (name, kind) in described.filter_map(|line| line.split_once(' ')) {
        match kind {
            "counter" => known.extend([format!("{name}_total")]),
            "histogram" => {
                known.extend(["", "_bucket", "_sum", "_count"].map(|suffix| format!("{name}{suffix}")));
            }
            _ => known.extend([name.to_owned()]),
        }
    }
    let alerts = include_str!("../../deploy/prometheus/sapwood.rules.yml");
    let dashboard = include_str!("../../deploy/grafana/sapwood.json");
    let docs = include_str!("../../docs/http.md");
    serde_json::from_str::<Value>(dashboard).unwrap();
    for (file, text) in [("alerts", alerts), ("dashboard", dashboard), ("docs", docs)] {
        let unknown: Vec<_> = names(text).into_iter().filter(|name| !known.contains(*name)).collect();
        assert!(unknown.is_empty() && names(text).len() > 10, "{file}: {unknown:?}");
    }
    let documented = names(docs);
    let short = ["refused_total", "cut_off_total"].map(|end| format!("sapwood_client_connections_{end}"));
    let untold: Vec<_> = known
        .iter()
        .filter(|name| !documented.contains(name.as_str()) && !short.contains(name))
        .filter(|name| !["_bucket", "_sum", "_count"].iter().any(|suffix| name.ends_with(suffix)))
        .collect();
    assert!(untold.is_empty(), "docs/http.md says nothing of {untold:?}");
}
