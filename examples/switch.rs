//! A power switch whose state flows to the one who turns it, and back to the one who asked.
//!
//! What it shows: three programs that never call each other. The front end says what somebody wants; a validator lets
//! through what is allowed; a worker makes it so and says what is. Each has a node of its own, watches the keys that concern
//! it, and writes keys that concern others. What flows is state, not messages: who was away sees on its return what is
//! wanted now, needs no queue, and does nothing twice.
//!
//! ```text
//!   front end ── wanted/LAMP ──► validator ── desired/LAMP ──► worker
//!       ▲                            │                            │
//!       ├────── refused/LAMP ────────┘                            │
//!       └────── actual/LAMP ──────────────────────────────────────┘
//! ```
//!
//! Every value is `on` or `off`, a space, and the number of the request; a refusal has its reason in their place.
//!
//! How to run it (it ends by itself):
//!
//! ```sh
//! cargo run --example switch
//! cargo run --example switch -- --self-test        # says nothing but what does not hold
//! ```
//!
//! What to try: `--redis` serves Redis clients at the front end's node and leaves all running until Ctrl-C. Watch the state
//! flow with `redis-cli -p 7171 get actual/kitchen` after `redis-cli -p 7171 set wanted/kitchen 'on 100'`, or ask for a lamp
//! that there is not: `set wanted/reactor 'on 101'`, `get refused/reactor`.

mod shared;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};
use clap::Parser;
use sapwood::{Node, Watch, WatchEvent};
use shared::{any_port, linked, until};
use tokio::task::JoinHandle;
use tokio::time::timeout;

#[derive(Parser)]
#[command(about = "A power switch whose state flows to the one who turns it, and back to the one who asked")]
struct Args {
    /// Say nothing but what does not hold
    #[arg(long)]
    self_test: bool,

    /// Serve Redis clients on 127.0.0.1:7171, and go on until Ctrl-C
    #[arg(long, conflicts_with = "self_test")]
    redis: bool,
}

const LAMPS: [&str; 3] = ["kitchen", "hall", "porch"];

/// How long the front end waits for an answer.
const PATIENCE: Duration = Duration::from_secs(30);

/// Of a key and its value, the lamp and what is said of it. Deletes say nothing.
fn said<'a>(event: &'a WatchEvent, prefix: &str) -> Option<(&'a str, &'a str)> {
    let (WatchEvent::Entry(item) | WatchEvent::Change { item, .. }) = event else { return None };
    let lamp = std::str::from_utf8(item.key()).ok()?.strip_prefix(prefix)?;
    Some((lamp, std::str::from_utf8(item.value()?).ok()?))
}

/// `on 7` as `on` and 7.
fn request(text: &str) -> Option<(&str, u64)> {
    let (state, number) = text.split_once(' ')?;
    Some((state, number.parse().ok()?))
}

/// Lets through what is allowed. It begins with what was wanted while it was away.
async fn validator(node: Arc<Node>) -> Result<()> {
    let mut wanted = node.watch(["wanted/"])?;
    while let Some(event) = wanted.next().await {
        let Some((lamp, text)) = said(&event, "wanted/") else { continue };
        let refusal = match request(text) {
            Some((state, _)) if !["on", "off"].contains(&state) => "a lamp is on or off",
            Some(_) if !LAMPS.contains(&lamp) => "there is no such lamp",
            Some(_) => {
                node.set(format!("desired/{lamp}"), text)?;
                continue;
            }
            None => "the request has no number",
        };
        let number = text.rsplit(' ').next().unwrap_or_default();
        node.set(format!("refused/{lamp}"), format!("{refusal} {number}"))?;
    }
    Ok(())
}

/// Makes it so, and says what is. What it did before it was away it does not do again.
async fn worker(node: Arc<Node>, turned: Arc<parking_lot::Mutex<BTreeMap<String, u32>>>) -> Result<()> {
    let mut desired = node.watch(["desired/"])?;
    while let Some(event) = desired.next().await {
        let Some((lamp, text)) = said(&event, "desired/") else { continue };
        let actual = format!("actual/{lamp}");
        if node.get(&actual).is_some_and(|done| done == text) {
            continue;
        }
        // Here a relay would click.
        *turned.lock().entry(lamp.to_owned()).or_default() += 1;
        node.set(actual, text)?;
    }
    Ok(())
}

/// Whoever presses the buttons.
struct FrontEnd {
    node: Arc<Node>,
    answers: Watch,
    requests: u64,
}

/// What became of a request.
#[derive(Debug, PartialEq, Eq)]
enum Answer {
    /// The lamp is as it was asked for.
    Done,
    Refused(String),
}

impl FrontEnd {
    fn new(node: Arc<Node>) -> Result<FrontEnd> {
        let answers = node.watch(["actual/", "refused/"])?;
        Ok(FrontEnd { node, answers, requests: 0 })
    }

    /// Says what is wanted; returns the number of the request.
    fn want(&mut self, lamp: &str, state: &str) -> Result<u64> {
        self.requests += 1;
        self.node.set(format!("wanted/{lamp}"), format!("{state} {}", self.requests))?;
        Ok(self.requests)
    }

    /// Waits until the request, or a later one of the same lamp, has led to something.
    async fn confirm(&mut self, lamp: &str, number: u64) -> Result<Answer> {
        let answered = async {
            while let Some(event) = self.answers.next().await {
                if let Some((of, text)) = said(&event, "actual/")
                    && of == lamp
                    && request(text).is_some_and(|(_, done)| done >= number)
                {
                    return Ok(Answer::Done);
                }
                if let Some((of, text)) = said(&event, "refused/")
                    && of == lamp
                    && let Some((reason, of)) = text.rsplit_once(' ')
                    && of == number.to_string()
                {
                    return Ok(Answer::Refused(reason.to_owned()));
                }
            }
            bail!("the node has stopped")
        };
        timeout(PATIENCE, answered).await.with_context(|| format!("nothing became of request {number}"))?
    }
}

/// A node, and what works on it.
struct Program {
    node: Arc<Node>,
    task: JoinHandle<Result<()>>,
}

impl Program {
    async fn stop(self) -> Result<()> {
        self.node.shutdown().await;
        self.task.await?
    }
}

/// A node of its own that joins the front end's, and is linked with so many others.
async fn member(name: &str, of: &Node, others: usize) -> Result<Arc<Node>> {
    let builder = Node::builder().name(name).cluster("switch").peer(any_port()).join(of.peer_addr());
    let node = builder.start().await?;
    until("it is linked with every other", || linked(&node) == others).await?;
    Ok(Arc::new(node))
}

#[tokio::main]
async fn main() -> Result<()> {
    let args = Args::parse();
    let say = |line: &str| {
        if !args.self_test {
            println!("{line}");
        }
    };

    let mut builder = Node::builder().name("front-end").cluster("switch").peer(any_port());
    if args.redis {
        builder = builder.client(([127, 0, 0, 1], 7171).into());
    }
    let mut front = FrontEnd::new(Arc::new(builder.start().await?))?;
    let turned = Arc::default();
    let node = member("validator", &front.node, 1).await?;
    let validator = Program { task: tokio::spawn(validator(Arc::clone(&node))), node };
    let start_worker = async |front: &FrontEnd| -> Result<Program> {
        let node = member("worker", &front.node, 2).await?;
        Ok(Program { task: tokio::spawn(worker(Arc::clone(&node), Arc::clone(&turned))), node })
    };
    let working = start_worker(&front).await?;
    say("Three programs, each with a node inside: a front end, a validator, a worker. None calls another.\n");

    for (lamp, state) in [("kitchen", "on"), ("hall", "on"), ("kitchen", "off")] {
        let asked = Instant::now();
        let number = front.want(lamp, state)?;
        let answer = front.confirm(lamp, number).await?;
        ensure!(answer == Answer::Done, "{lamp} {state}: {answer:?}");
        say(&format!("front end: {lamp:<8} {state:<4} confirmed after {:.1?}", asked.elapsed()));
    }
    for (lamp, state) in [("reactor", "on"), ("porch", "dim")] {
        let number = front.want(lamp, state)?;
        let Answer::Refused(reason) = front.confirm(lamp, number).await? else { bail!("{lamp} is {state}") };
        say(&format!("front end: {lamp:<8} {state:<4} refused: {reason}"));
    }

    say("\nThe worker is away. Meanwhile somebody plays with the switch of the porch, five times:");
    working.stop().await?;
    let mut last = 0;
    for state in ["on", "off", "on", "off", "on"] {
        last = front.want("porch", state)?;
    }
    say("  on, off, on, off, on");
    let working = start_worker(&front).await?;
    ensure!(front.confirm("porch", last).await? == Answer::Done, "the last wish was not granted");
    let clicks = |lamp: &str| turned.lock().get(lamp).copied().unwrap_or(0);
    say(&format!(
        "The worker is back, and sees what is wanted now. It turned the porch's lamp {} time(s);",
        clicks("porch")
    ));
    say(&format!("the kitchen's and the hall's, as before: {} and {}.", clicks("kitchen"), clicks("hall")));
    ensure!((clicks("kitchen"), clicks("hall")) == (2, 1), "a lamp was turned again: {:?}", turned.lock());
    ensure!((1..=5).contains(&clicks("porch")), "{:?}", turned.lock());

    for (lamp, state) in [("kitchen", "off"), ("hall", "on"), ("porch", "on")] {
        let actual = front.node.get(format!("actual/{lamp}")).context("every lamp was turned")?;
        ensure!(request(actual.as_str()?).is_some_and(|(is, _)| is == state), "{lamp} is {actual:?}");
    }
    if args.redis {
        say("\nYour turn: redis-cli -p 7171 set wanted/kitchen 'on 100'; Ctrl-C ends.");
        tokio::signal::ctrl_c().await?;
    }
    working.stop().await?;
    validator.stop().await?;
    front.node.shutdown().await;
    say("\nAll of it held.");
    Ok(())
}
