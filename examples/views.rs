//! Counting views of videos on many nodes at once, and watching the counts agree.
//!
//! What it shows: every node counts the views that it is asked for, at the speed of its own memory, and shows what it knows
//! of the total. While views come in, the nodes know of a little less than all. One node is cut off for a while: it goes on
//! counting, falls behind in what it knows of the others and the others in what they know of it, and when the cut is mended
//! every count on every node is exact. Nothing is counted twice and nothing is lost.
//!
//! | key | value |
//! |---|---|
//! | `video/N` | a counter of the views of a video, counted by all nodes |
//! | `node/NAME` | a counter of the views that one node was asked for |
//!
//! How to run it (it ends by itself):
//!
//! ```sh
//! cargo run --example views
//! cargo run --example views -- --nodes 8 --views 100000
//! cargo run --example views -- --self-test       # no bars; ends with 1 if a count is off
//! ```
//!
//! What to try: `--no-cut`, and see how close all bars stay; `--seconds 0` for as many views a second as the machine makes.

mod shared;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use anyhow::{Result, ensure};
use clap::Parser;
use indicatif::{MultiProgress, ProgressBar, ProgressDrawTarget, ProgressStyle};
use rand::rngs::StdRng;
use rand::{Rng as _, SeedableRng as _};
use sapwood::Node;
use sapwood::status::Way;
use shared::{any_port, until};
use tokio::task::JoinSet;
use tokio::time::{Instant, interval, sleep};

#[derive(Parser)]
#[command(about = "Count views of videos on many nodes at once, and watch the counts agree")]
struct Args {
    /// How many nodes
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u32).range(2..=32))]
    nodes: u32,

    /// How many views, all together
    #[arg(long, default_value_t = 20_000)]
    views: u64,

    /// Over how many seconds they are spread
    #[arg(long, default_value_t = 8)]
    seconds: u64,

    /// Cut no node off
    #[arg(long)]
    no_cut: bool,

    /// No bars and no waiting: say only what does not hold
    #[arg(long)]
    self_test: bool,
}

const VIDEOS: u32 = 12;

/// How often what the nodes know is drawn.
const FRAME: Duration = Duration::from_millis(50);

#[tokio::main]
async fn main() -> Result<()> {
    let mut args = Args::parse();
    if args.self_test {
        args.seconds = 0;
    }
    let nodes = cluster(args.nodes).await?;
    let bars = Bars::new(&nodes, &args);

    let done = Arc::new(AtomicBool::new(false));
    let drawing = tokio::spawn({
        let (nodes, bars, done) = (nodes.clone(), bars.clone(), Arc::clone(&done));
        async move {
            let mut frames = interval(FRAME);
            while !done.load(Ordering::Relaxed) {
                frames.tick().await;
                bars.draw(&nodes);
            }
        }
    });

    let mut viewers = JoinSet::new();
    for (node, views) in nodes.iter().zip(shares(args.views, args.nodes)) {
        viewers.spawn(view(Arc::clone(node), views, Duration::from_secs(args.seconds)));
    }
    let last = nodes.len() - 1;
    if !args.no_cut {
        sleep(Duration::from_secs(args.seconds) / 4).await;
        nodes[last].cut("*", Way::Both)?;
        bars.say(last, "cut off");
        sleep(Duration::from_secs(args.seconds) / 3).await;
    }
    while let Some(viewed) = viewers.join_next().await {
        viewed??;
    }
    if !args.no_cut {
        bars.say(last, "mended");
        nodes[last].mend("*", Way::Both)?;
    }
    let stopped = Instant::now();
    for node in &nodes {
        // A view counts under its video and then under its node.
        let by_node = || nodes.iter().map(|maker| count(node, &node_key(maker.name()))).sum::<u64>();
        until("every node knows of every view", || total(node) == args.views && by_node() == args.views)
            .await?;
    }
    let took = stopped.elapsed();
    done.store(true, Ordering::Relaxed);
    drawing.await?;
    bars.finish(&nodes);

    check(&nodes, &args)?;
    if !args.self_test {
        println!(
            "\nEvery node knows of all {} views, {took:.1?} after the last one. Where they were made:",
            args.views
        );
        for name in nodes.iter().map(|node| node.name()) {
            println!("  {name:<4} {:>8}", count(&nodes[0], &node_key(name)));
        }
    }
    for node in &nodes {
        node.shutdown().await;
    }
    Ok(())
}

/// Nodes that all know the first.
async fn cluster(size: u32) -> Result<Vec<Arc<Node>>> {
    let mut nodes: Vec<Arc<Node>> = Vec::new();
    for n in 1..=size {
        let first = nodes.first().and_then(|node| node.peer_addr());
        let builder = Node::builder().name(format!("n{n}")).cluster("views").peer(any_port()).join(first);
        // Only so that one can be cut off.
        let node = builder.configure(|config| config.enable_faults = true).start().await?;
        node.joined().await?;
        nodes.push(Arc::new(node));
    }
    Ok(nodes)
}

/// Uneven, as life is: the first node is asked most.
fn shares(views: u64, nodes: u32) -> Vec<u64> {
    let weights: u64 = (1..=u64::from(nodes)).sum();
    let mut shares: Vec<u64> = (1..=u64::from(nodes)).rev().map(|weight| views * weight / weights).collect();
    shares[0] += views - shares.iter().sum::<u64>();
    shares
}

/// Views that one node is asked for: random videos, spread over a time.
async fn view(node: Arc<Node>, views: u64, spread: Duration) -> Result<()> {
    /// Views between two pauses.
    const BURST: u64 = 10;
    let mut random = StdRng::seed_from_u64(views);
    let bursts = u32::try_from(views.div_ceil(BURST)).unwrap_or(u32::MAX).max(1);
    let mut ticks = interval((spread / bursts).max(Duration::from_micros(1)));
    for n in 0..views {
        if n % BURST == 0 {
            ticks.tick().await;
        }
        node.incr(video_key(random.random_range(0..VIDEOS)))?;
        node.incr(node_key(node.name()))?;
    }
    Ok(())
}

/// Every count on every node, against every other.
fn check(nodes: &[Arc<Node>], args: &Args) -> Result<()> {
    let shares = shares(args.views, args.nodes);
    for node in nodes {
        for (maker, made) in nodes.iter().zip(&shares) {
            let known = count(node, &node_key(maker.name()));
            ensure!(
                known == *made,
                "{} made {made} views, and {} knows of {known}",
                maker.name(),
                node.name()
            );
        }
        for video in 0..VIDEOS {
            let (here, first) = (count(node, &video_key(video)), count(&nodes[0], &video_key(video)));
            ensure!(here == first, "video {video} has {first} views on n1 and {here} on {}", node.name());
        }
    }
    Ok(())
}

fn video_key(video: u32) -> String {
    format!("video/{video}")
}

fn node_key(name: &str) -> String {
    format!("node/{name}")
}

fn count(node: &Node, key: &str) -> u64 {
    node.get(key).and_then(|digits| digits.as_str().ok()?.parse().ok()).unwrap_or(0)
}

/// The views of all videos that a node knows of.
fn total(node: &Node) -> u64 {
    (0..VIDEOS).map(|video| count(node, &video_key(video))).sum()
}

/// A bar a node: of all views, those that the node knows of.
#[derive(Clone)]
struct Bars(Vec<ProgressBar>);

impl Bars {
    fn new(nodes: &[Arc<Node>], args: &Args) -> Bars {
        let target = if args.self_test { ProgressDrawTarget::hidden() } else { ProgressDrawTarget::stderr() };
        let all = MultiProgress::with_draw_target(target);
        let style = ProgressStyle::with_template(
            "{prefix:>4} [{bar:40}] knows of {pos:>7} of {len} views, made {msg}",
        )
        .unwrap_or_else(|_| ProgressStyle::default_bar());
        let bar = |node: &Arc<Node>| {
            let bar = all.add(ProgressBar::new(args.views)).with_style(style.clone());
            bar.with_prefix(node.name().to_owned())
        };
        Bars(nodes.iter().map(bar).collect())
    }

    fn draw(&self, nodes: &[Arc<Node>]) {
        for (bar, node) in self.0.iter().zip(nodes) {
            bar.set_position(total(node));
            bar.set_message(count(node, &node_key(node.name())).to_string());
        }
    }

    fn say(&self, node: usize, what: &str) {
        let bar = &self.0[node];
        bar.set_prefix(format!("{} ({what})", bar.prefix().split(' ').next().unwrap_or_default()));
    }

    fn finish(&self, nodes: &[Arc<Node>]) {
        self.draw(nodes);
        self.0.iter().for_each(ProgressBar::abandon);
    }
}
