//! A short-link service of several instances that share nothing but what their nodes replicate.
//!
//! What it shows: every instance can create links, redirect and count, alone if it must. A link that one instance creates
//! is followed on all of them; clicks are counted where they happen, and every count is the sum of all of them, also after
//! instances were cut off from each other and went on counting.
//!
//! ```text
//!    POST /links            GET /{code}           GET /aggregates/{code}
//!         |                      |                       |
//!   +-----v------+        +------v-----+          +------v-----+
//!   |   axum     |        |   axum     |          |   axum     |      get, set, incr: in memory, no waiting
//!   |  node: s1  |<======>|  node: s2  |<========>|  node: s3  |
//!   +------------+        +------------+          +------------+
//! ```
//!
//! | key | value |
//! |---|---|
//! | `link/CODE` | where the link leads |
//! | `clicks/CODE` | a counter |
//! | `clicks/CODE/INSTANCE` | a counter of those that this instance has served |
//!
//! How to run it:
//!
//! ```sh
//! cargo run --example shortlink                   # a tour of three instances, which then stay up for you to try
//! cargo run --example shortlink -- --self-test    # the tour, in silence; ends with 1 if something does not hold
//! ```
//!
//! What to try: create a link with `curl` on one instance, follow it on another, and look at its aggregates on the third.
//! Then run instances as processes of their own, kill one, and start it again: its counts come back from the others.
//!
//! ```sh
//! cargo run --example shortlink -- serve s1 --http 127.0.0.1:8081 --peer 127.0.0.1:9081
//! cargo run --example shortlink -- serve s2 --http 127.0.0.1:8082 --peer 127.0.0.1:9082 --join 127.0.0.1:9081
//! ```

mod shared;

use std::net::SocketAddr;
use std::sync::Arc;

use anyhow::{Context as _, Result, bail, ensure};
use axum::Router;
use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Json, Redirect, Response};
use axum::routing::{get, post};
use clap::{Parser, Subcommand};
use rand::Rng as _;
use sapwood::status::Way;
use sapwood::{Node, NodeError};
use serde_json::{Value, json};
use shared::{any_port, linked, until};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;

#[derive(Parser)]
#[command(about = "A short-link service of several instances")]
struct Args {
    /// Say nothing but what does not hold, and end
    #[arg(long)]
    self_test: bool,

    #[command(subcommand)]
    command: Option<Command>,
}

#[derive(Subcommand)]
enum Command {
    /// Run one instance until Ctrl-C
    Serve {
        /// Name of the instance, unlike any other
        name: String,
        /// Where browsers connect
        #[arg(long, default_value = "127.0.0.1:8081")]
        http: SocketAddr,
        /// Where the other instances connect
        #[arg(long, default_value = "127.0.0.1:9081")]
        peer: SocketAddr,
        /// Other instances
        #[arg(long, value_delimiter = ',')]
        join: Vec<String>,
    },
}

/// Characters of a code: 62^7 of them, drawn at random, need nobody to agree on who has which.
const CODE: usize = 7;

/// One instance of the service.
struct Instance {
    node: Arc<Node>,
    http: SocketAddr,
    serving: JoinHandle<()>,
}

impl Instance {
    async fn start(name: &str, http: SocketAddr, peer: SocketAddr, join: &[String]) -> Result<Instance> {
        let builder = Node::builder().name(name).cluster("shortlink").peer(peer).join(join);
        // Only so that the tour can cut instances off.
        let node = Arc::new(builder.configure(|config| config.enable_faults = true).start().await?);
        // From here on every link that the others know leads somewhere.
        node.joined().await?;
        let listener = TcpListener::bind(http).await.with_context(|| format!("cannot listen on {http}"))?;
        let http = listener.local_addr()?;
        let service = service(Arc::clone(&node));
        let serving = tokio::spawn(async move {
            if let Err(error) = axum::serve(listener, service).await {
                eprintln!("{error}");
            }
        });
        Ok(Instance { node, http, serving })
    }

    async fn stop(self) {
        self.serving.abort();
        self.node.shutdown().await;
    }

    /// Asks this instance as a browser would.
    async fn ask(&self, method: &str, path: &str, body: &str) -> Result<Answer> {
        let mut stream = TcpStream::connect(self.http).await?;
        let length = body.len();
        let request = format!(
            "{method} {path} HTTP/1.1\r\nhost: {}\r\nconnection: close\r\ncontent-length: {length}\r\n\r\n{body}",
            self.http
        );
        stream.write_all(request.as_bytes()).await?;
        let mut text = String::new();
        stream.read_to_string(&mut text).await?;
        let (head, body) = text.split_once("\r\n\r\n").context("an answer has a head and a body")?;
        let status = head.split(' ').nth(1).context("an answer has a status")?.parse()?;
        let location = head.lines().find_map(|line| line.strip_prefix("location: ")).map(str::to_owned);
        Ok(Answer { status, location, body: body.to_owned() })
    }

    async fn click(&self, code: &str) -> Result<Answer> {
        self.ask("GET", &format!("/{code}"), "").await
    }

    async fn aggregates(&self, code: &str) -> Result<Value> {
        let answer = self.ask("GET", &format!("/aggregates/{code}"), "").await?;
        Ok(serde_json::from_str(&answer.body)?)
    }

    fn clicks(&self, code: &str) -> u64 {
        count(&self.node, &clicks_key(code))
    }
}

#[derive(Debug)]
struct Answer {
    status: u16,
    location: Option<String>,
    body: String,
}

/// The whole service: three routes over one node.
fn service(node: Arc<Node>) -> Router {
    Router::new()
        .route("/links", post(create))
        .route("/{code}", get(follow))
        .route("/aggregates/{code}", get(aggregates))
        .with_state(node)
}

/// `POST /links` with the target as the body: answers the code.
async fn create(State(node): State<Arc<Node>>, target: String) -> Result<Response, Refused> {
    let target = target.trim();
    if !target.starts_with("http://") && !target.starts_with("https://") {
        return Ok((StatusCode::BAD_REQUEST, "the body is not an http address\n").into_response());
    }
    let mut random = rand::rng();
    let code: String = (0..CODE).map(|_| char::from(random.sample(rand::distr::Alphanumeric))).collect();
    node.set(link_key(&code), target)?;
    Ok((StatusCode::CREATED, format!("{code}\n")).into_response())
}

/// `GET /{code}`: counts, and leads on.
async fn follow(State(node): State<Arc<Node>>, Path(code): Path<String>) -> Result<Response, Refused> {
    let Some(target) = node.get(link_key(&code)) else {
        return Ok((StatusCode::NOT_FOUND, "no such link\n").into_response());
    };
    node.incr(clicks_key(&code))?;
    node.incr(clicks_at_key(&code, node.name()))?;
    Ok(Redirect::temporary(&String::from_utf8_lossy(&target)).into_response())
}

/// `GET /aggregates/{code}`: what all instances together have counted, as far as this one knows.
async fn aggregates(State(node): State<Arc<Node>>, Path(code): Path<String>) -> Response {
    let Some(target) = node.get(link_key(&code)) else {
        return (StatusCode::NOT_FOUND, "no such link\n").into_response();
    };
    let peers = node.peers();
    let instances = peers.iter().map(|peer| peer.name.as_str()).chain([node.name()]);
    let by_instance: serde_json::Map<String, Value> = instances
        .filter(|name| !name.is_empty())
        .map(|name| (name.to_owned(), count(&node, &clicks_at_key(&code, name)).into()))
        .collect();
    let target = String::from_utf8_lossy(&target);
    let clicks = count(&node, &clicks_key(&code));
    Json(json!({ "code": code, "target": target, "clicks": clicks, "by_instance": by_instance }))
        .into_response()
}

/// The node refused a write.
struct Refused(NodeError);

impl From<NodeError> for Refused {
    fn from(error: NodeError) -> Self {
        Refused(error)
    }
}

impl IntoResponse for Refused {
    fn into_response(self) -> Response {
        (StatusCode::SERVICE_UNAVAILABLE, format!("{}\n", self.0)).into_response()
    }
}

fn link_key(code: &str) -> String {
    format!("link/{code}")
}

fn clicks_key(code: &str) -> String {
    format!("clicks/{code}")
}

fn clicks_at_key(code: &str, instance: &str) -> String {
    format!("clicks/{code}/{instance}")
}

fn count(node: &Node, key: &str) -> u64 {
    node.get(key).and_then(|digits| digits.as_str().ok()?.parse().ok()).unwrap_or(0)
}

#[tokio::main]
async fn main() -> Result<()> {
    let args = Args::parse();
    if let Some(Command::Serve { name, http, peer, join }) = args.command {
        let instance = Instance::start(&name, http, peer, &join).await?;
        println!("{name} serves http://{}; instances join at {peer}; Ctrl-C ends", instance.http);
        tokio::signal::ctrl_c().await?;
        instance.stop().await;
        return Ok(());
    }
    let say = |line: &str| {
        if !args.self_test {
            println!("{line}");
        }
    };

    let mut instances = vec![Instance::start("s1", any_port(), any_port(), &[]).await?];
    let first = instances[0].node.peer_addr().context("s1 listens for peers")?.to_string();
    for name in ["s2", "s3"] {
        instances.push(Instance::start(name, any_port(), any_port(), std::slice::from_ref(&first)).await?);
    }
    let outcome = tour(&instances, &say).await;
    if outcome.is_ok() && !args.self_test {
        invite(&instances);
        tokio::signal::ctrl_c().await?;
    }
    for instance in instances {
        instance.stop().await;
    }
    outcome
}

async fn tour(instances: &[Instance], say: &impl Fn(&str)) -> Result<()> {
    let [s1, s2, s3] = instances else { bail!("the tour is one of three instances") };
    say("Three instances of a short-link service run, each with a node inside:");
    for instance in instances {
        until("every two instances are linked", || linked(&instance.node) == 2).await?;
        say(&format!("  {} at http://{}", instance.node.name(), instance.http));
    }

    let target = "https://www.rust-lang.org/learn";
    let answer = s1.ask("POST", "/links", target).await?;
    ensure!(answer.status == 201, "s1 does not create a link: {answer:?}");
    let code = answer.body.trim();
    say(&format!("\ns1 creates a link to {target}: {code}"));
    for instance in instances {
        until("the link is everywhere", || instance.node.get(link_key(code)).is_some()).await?;
    }
    for (instance, clicks) in instances.iter().zip([3, 2, 1]) {
        for _ in 0..clicks {
            let answer = instance.click(code).await?;
            ensure!(answer.status == 307 && answer.location.as_deref() == Some(target), "{answer:?}");
        }
        say(&format!("  {} redirects {clicks} times", instance.node.name()));
    }
    agree(instances, code, [3, 2, 1], say).await?;

    say("\ns3 is cut off from the others, as by a broken network:");
    s3.node.cut("*", Way::Both)?;
    for instance in [s1, s2, s3] {
        for _ in 0..10 {
            ensure!(instance.click(code).await?.status == 307, "an instance that is cut off still redirects");
        }
    }
    say("  10 more clicks on each. What each of them counts now:");
    until("s1 and s2 agree", || s1.clicks(code) == 26 && s2.clicks(code) == 26).await?;
    ensure!(s3.clicks(code) == 16, "s3 counts {} clicks while it is cut off", s3.clicks(code));
    for instance in instances {
        say(&format!("  {} {}", instance.node.name(), instance.clicks(code)));
    }

    say("\nThe network is mended:");
    s3.node.mend("*", Way::Both)?;
    agree(instances, code, [13, 12, 11], say).await?;
    Ok(())
}

/// Waits until every instance shows the same aggregates.
async fn agree(instances: &[Instance], code: &str, by_instance: [u64; 3], say: &impl Fn(&str)) -> Result<()> {
    let total: u64 = by_instance.iter().sum();
    let [one, two, three] = by_instance;
    for instance in instances {
        let node = &instance.node;
        let served = |n: usize| count(node, &clicks_at_key(code, instances[n].node.name()));
        until("all clicks are counted everywhere", || {
            instance.clicks(code) == total && [served(0), served(1), served(2)] == by_instance
        })
        .await?;
        let aggregates = instance.aggregates(code).await?;
        ensure!(aggregates["clicks"] == total, "{aggregates}");
        ensure!(aggregates["by_instance"] == json!({ "s1": one, "s2": two, "s3": three }), "{aggregates}");
    }
    say(&format!("  all three agree: {total} clicks, {one} on s1, {two} on s2, {three} on s3"));
    Ok(())
}

fn invite(instances: &[Instance]) {
    let at = |n: usize| format!("http://{}", instances[n].http);
    println!("\nYour turn; Ctrl-C ends.");
    println!("  CODE=$(curl -s -d https://example.org {}/links)", at(0));
    println!("  curl -i {}/$CODE", at(1));
    println!("  curl {}/aggregates/$CODE", at(2));
}
