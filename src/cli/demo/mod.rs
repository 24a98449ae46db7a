//! `sapwood demo`: a cluster in one process, to try things or to watch it heal.
//!
//! ```text
//!   page of sapwood::http ---.
//!   view in the terminal ----+--> demo: starts, stops and adds nodes
//!   story (--script heal) ---'
//!     '-- reported by a narrator; the ending checks what every node must show
//! ```

mod ending;
mod narrator;
mod nodes;
mod story;
mod view;

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;

use anyhow::Context as _;
use narrator::Narrator;
use nodes::DemoNodes;
use sapwood::internal::env::{Env, SystemEnv};
use sapwood::internal::http::{self, Host};
use tokio_util::sync::CancellationToken;

use super::address::ListenAddress;
use super::hangup::Hangup;
use super::output::{self, Paint, Stream};
use super::stop::Stop;
use super::{Exit, WrongUsage};

/// The number of nodes of a demo without a script.
const NODES: usize = 3;

/// Run a cluster of three in this process, to play with or to watch it heal
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  Watch a partition heal, without doing anything: exit code 0 only if all nodes end equal:
    sapwood demo --script heal

  The same with a million keys, and left open afterwards:
    sapwood demo --script heal --keys 1000000 --keep

  Three nodes to play with until Ctrl-C, on a page and in the terminal:
    sapwood demo")]
pub(crate) struct Args {
    /// Run a scripted demo
    #[arg(long, value_enum)]
    script: Option<Script>,

    /// Keys that the story loads at its beginning
    #[arg(long, value_name = "N", default_value_t = 100_000, requires = "script")]
    #[arg(value_parser = clap::value_parser!(u64).range(1..=50_000_000))]
    keys: u64,

    /// Leave the nodes running after the story, until Ctrl-C
    #[arg(long, requires = "script")]
    keep: bool,

    /// Where the page is; port 0 lets the system choose
    #[arg(long, value_name = "HOST:PORT", default_value = "127.0.0.1:0")]
    http: ListenAddress,

    /// Write the story as JSON, for machines
    #[arg(long, requires = "script", help_heading = "Output")]
    json: bool,
}

#[derive(Debug, Clone, Copy, clap::ValueEnum)]
enum Script {
    /// Load, join, relay, isolate, diverge, mend, equal
    Heal,
}

pub(crate) fn run(args: &Args) -> anyhow::Result<Exit> {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let exit = runtime.block_on(play(args));
    runtime.shutdown_background();
    exit
}

/// The signals that end a demo at any time.
struct End {
    stop: Stop,
    hangup: Hangup,
}

impl End {
    /// Installs the signal handlers, so that the nodes are stopped in order.
    fn new() -> io::Result<End> {
        Ok(End { stop: Stop::new()?, hangup: Hangup::new()? })
    }

    /// Waits for Ctrl-C or SIGTERM, or until the terminal is closed. Without a terminal SIGHUP does nothing, because
    /// there are no settings to reload.
    async fn asked(&mut self) {
        tokio::select! {
            _ = self.stop.asked() => {}
            () = self.hangup.terminal_closed(|| ()) => {}
        }
    }
}

/// Runs the demo. Ctrl-C ends it at any time, and is no failure once the story has ended.
async fn play(args: &Args) -> anyhow::Result<Exit> {
    let http = args.http.resolve().with_context(|| format!("cannot resolve --http {}", args.http))?;
    if !http.ip().is_loopback() {
        return Err(WrongUsage(
            "--http: the page of a demo lets anybody write: give it an address of loopback",
        )
        .into());
    }
    let mut end = End::new().context("cannot watch for Ctrl-C")?;
    let demo = Arc::new(DemoNodes::new());
    let closed = CancellationToken::new();
    let (page, serving) = serve(http, Arc::clone(&demo), closed.clone()).await?;
    let exit = tokio::select! {
        exit = perform(args, &demo, page) => exit,
        () = end.asked() => Ok(if args.script.is_some() { Exit::Failed } else { Exit::Done }),
    };
    if args.keep && matches!(exit, Ok(Exit::Done)) {
        eprintln!("\nThe page is at http://{page}/ until Ctrl-C.");
        end.asked().await;
    }
    closed.cancel();
    let ending = async {
        demo.end().await;
        serving.await
    };
    // A terminal that closes sends SIGHUP more than once; further ones must not abort the shutdown.
    tokio::select! {
        _ = ending => {}
        _ = end.stop.asked() => {}
    }
    exit
}

/// Serves the page of all nodes until `closed` is cancelled; returns its address.
async fn serve(
    address: SocketAddr,
    demo: Arc<DemoNodes>,
    closed: CancellationToken,
) -> anyhow::Result<(SocketAddr, tokio::task::JoinHandle<()>)> {
    let env: Arc<dyn Env> = Arc::new(SystemEnv);
    let listener = env.listen(address).await.with_context(|| format!("cannot listen at --http {address}"))?;
    let address = listener.local_addr()?;
    let options = http::Options { address, env, connections: 256, writes: true, values: true, faults: true };
    let host: Arc<dyn Host> = demo;
    Ok((address, tokio::spawn(http::serve(listener, host, options, closed))))
}

async fn perform(args: &Args, demo: &DemoNodes, page: SocketAddr) -> anyhow::Result<Exit> {
    match args.script {
        Some(Script::Heal) => run_story(args, demo, page).await,
        None => {
            for _ in 0..NODES {
                demo.admit().await?;
            }
            output::line(&greeting(demo, page)?)?;
            show(demo).await
        }
    }
}

async fn run_story(args: &Args, demo: &DemoNodes, page: SocketAddr) -> anyhow::Result<Exit> {
    if !args.json {
        output::line(&format!("To watch it: http://{page}/\n"))?;
    }
    let mut narrator = Narrator::new(args.json);
    let ending = story::heal(demo, args.keys, &mut narrator).await?;
    if args.json {
        output::json(&ending.json(narrator.steps()))?;
    } else {
        output::line("")?;
        ending.lines(Paint::on(Stream::Stdout)).iter().try_for_each(|line| output::line(line))?;
    }
    Ok(if ending.is_happy() { Exit::Done } else { Exit::Failed })
}

/// The address of the page, and commands to try.
fn greeting(demo: &DemoNodes, page: SocketAddr) -> anyhow::Result<String> {
    let nodes = demo.nodes();
    let first = nodes.first().and_then(|node| node.client).context("there are nodes")?;
    let paint = Paint::on(Stream::Stdout);
    Ok(format!(
        "{}  http://{page}/

Open it, or try in another terminal:
  sapwood set tree oak --node {first}
  sapwood cut '*' --node {first}        # isolate it; write on both sides
  sapwood mend '*' --node {first}
",
        paint.bold("page"),
    ))
}

/// Shows the nodes until the demo ends: continuously on a terminal, else once.
async fn show(demo: &DemoNodes) -> anyhow::Result<Exit> {
    if Stream::Stdout.is_terminal() {
        let never = view::run(demo).await?;
        match never {}
    }
    view::lines(demo, Paint::on(Stream::Stdout)).iter().try_for_each(|line| output::line(line))?;
    std::future::pending().await
}
