//! One run of the comparison, from the command line to the report.

use std::net::SocketAddr;
use std::path::Path;
use std::process::Command as Program;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use serde_json::json;
use tokio::runtime::Runtime;
use tokio::task::JoinSet;

use crate::contender::{Connection, Contender};
use crate::options::Options;
use crate::report::{self, Sample};
use crate::support::cores::{self, Cores};
use crate::support::load::{self, Command, Load, Random};
use crate::support::machine::{load_average, machine};
use crate::support::node;
use crate::support::process;

/// Keys that the node holds: enough that they are not always the same, few enough to be in its cache, as it is not
/// what is measured.
const KEYS: u32 = 10_000;
/// Requests a second that `redis-benchmark` is expected to exceed, to choose how many it sends.
const BENCHMARK_RATE: u64 = 300_000;

/// # Errors
/// If the node does not start, or any request fails.
pub(crate) fn run(options: &Options) -> Result<()> {
    let cores = Cores::detect()?;
    let scratch = tempfile::tempdir()?;
    process::end_children_on_signals()?;
    println!(
        "{} tasks on one connection, {KEYS} keys of 16 B, values of 100 B, {} run(s); {}",
        options.tasks,
        options.runs(),
        machine()
    );
    if options.is_quick() {
        println!("  quick: shows that the harness works; the figures mean nothing");
    }
    println!("  load average before: {}", load_average());
    let (node, server) = node::start(scratch.path(), cores.server(), &[])?;
    Load { command: Command::Set, pipeline: 100, connections: 1, keys: KEYS }.each(server)?;

    let benchmark = process::find("redis-benchmark");
    let mut samples = Vec::new();
    cores::on(cores.load(), || {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(options.threads as usize)
            .enable_all()
            .build()?;
        for run in 0..options.runs() {
            for command in [Command::Get, Command::Set] {
                for contender in Contender::ALL {
                    samples.push(measure(options, &runtime, contender, command, server, run)?);
                }
                if let Some(benchmark) = &benchmark {
                    samples.push(redis_benchmark(options, benchmark, command, server)?);
                }
            }
        }
        anyhow::Ok(())
    })??;
    ensure!(node.ended().is_none(), "the node ended by itself; it printed:\n{}", node.last_words());

    println!("\n{}", report::table(&samples));
    println!("load average after: {}", load_average());
    let about = json!({
        "machine": machine(),
        "load_average_after": load_average(),
        "tasks": options.tasks,
        "threads": options.threads,
        "runs": options.runs(),
        "quick": options.is_quick(),
        "seconds": options.duration().as_secs_f64(),
    });
    options.common.write("client", &report::json(&about, &samples))
}

fn measure(
    options: &Options,
    runtime: &Runtime,
    contender: Contender,
    command: Command,
    server: SocketAddr,
    run: u32,
) -> Result<Sample> {
    let connection = runtime.block_on(runtime.spawn(contender.connect(server)))??;
    let seed = u64::from(run) << 32;
    let warm_up = options.duration() / 10;
    runtime.block_on(drive(options.tasks, connection.clone(), command, warm_up, seed))?;
    let before = process::cpu_of(std::process::id())?.used;
    let started = Instant::now();
    let requests =
        runtime.block_on(drive(options.tasks, connection.clone(), command, options.duration(), seed))?;
    let elapsed = started.elapsed();
    let cpu = process::cpu_of(std::process::id())?.used.saturating_sub(before);
    runtime.block_on(connection.close());
    Ok(Sample {
        client: contender.name(),
        command,
        requests_per_second: per(requests, elapsed),
        cpu_micros_per_request: Some(1e6 / per(requests, cpu)),
    })
}

/// Has `tasks` tasks send one request after the other for `duration`; returns how many were answered.
async fn drive(
    tasks: u32,
    connection: Connection,
    command: Command,
    duration: Duration,
    seed: u64,
) -> Result<u64> {
    let started = Instant::now();
    let mut running = JoinSet::new();
    for task in 0..tasks {
        let mut connection = connection.clone();
        running.spawn(async move {
            let mut random = Random::new(seed + u64::from(task));
            let mut key = [0; load::KEY];
            let value = [b'v'; load::VALUE];
            let mut answered = 0;
            while started.elapsed() < duration {
                load::write_key(&mut key, random.below(KEYS));
                match command {
                    Command::Set => connection.set(&key, &value).await?,
                    _ => connection.get(&key).await?,
                }
                answered += 1;
            }
            anyhow::Ok(answered)
        });
    }
    let mut answered = 0;
    while let Some(task) = running.join_next().await {
        answered += task??;
    }
    Ok(answered)
}

fn redis_benchmark(
    options: &Options,
    program: &Path,
    command: Command,
    server: SocketAddr,
) -> Result<Sample> {
    let name = match command {
        Command::Set => "SET",
        _ => "GET",
    };
    let requests = BENCHMARK_RATE * u64::try_from(options.duration().as_millis())? / 1000;
    let output = Program::new(program)
        .args(["-h", "127.0.0.1", "-p", &server.port().to_string(), "-c", "1"])
        .args([
            "-P",
            &options.tasks.to_string(),
            "-n",
            &requests.to_string(),
            "-d",
            "100",
            "--csv",
            "-t",
            name,
        ])
        .output()?;
    // "test","rps",… and then "GET","123456.78",…
    let text = String::from_utf8_lossy(&output.stdout);
    let line = text.lines().find(|line| line.starts_with(&format!("\"{name}\"")));
    let rate = line.and_then(|line| line.split(',').nth(1)?.trim_matches('"').parse().ok());
    Ok(Sample {
        client: "redis-benchmark",
        command,
        requests_per_second: rate.with_context(|| format!("redis-benchmark printed {text:?}"))?,
        cpu_micros_per_request: None,
    })
}

#[expect(clippy::cast_precision_loss, reason = "a count of requests is far below 2^52")]
fn per(requests: u64, time: Duration) -> f64 {
    requests as f64 / time.as_secs_f64()
}
