//! One run of the comparison, from the command line to the report.

use anyhow::{Result, ensure};
use serde_json::json;

use crate::measure::Bench;
use crate::options::Options;
use crate::report;
use crate::server::Contender;
use crate::support::cores::Cores;
use crate::support::machine::{load_average, machine};
use crate::support::process;

/// # Errors
/// If a server is missing, ends, does not answer or never agrees with its peers. All of them are ended first.
pub(crate) fn run(options: &Options) -> Result<()> {
    let contenders = contenders(options)?;
    options.generator.check()?;
    let cores = Cores::detect()?;
    let scratch = tempfile::tempdir()?;
    process::end_children_on_signals()?;

    println!("{} keys of 16 B, values of 100 B, {} run(s); {}", options.keys(), options.runs(), machine());
    for contender in &contenders {
        println!("  {:<8} {}", contender.name, contender.version());
    }
    if options.is_quick() {
        println!("  quick: shows that the harness works; the figures mean nothing");
    }
    if !cores.can_separate() {
        println!("  only one core: servers and load share it, so requests per second mean little");
    }
    println!("  load average before: {}", load_average());

    let mut samples = Vec::new();
    for measure in options.measures() {
        for run in 0..options.runs() {
            for contender in &contenders {
                eprintln!("  {measure:?}, run {} of {}: {}", run + 1, options.runs(), contender.name);
                let bench = Bench { options, cores: &cores, scratch: scratch.path(), run, contender };
                samples.extend(bench.take(measure)?);
            }
        }
        println!("\n{}", report::table(&samples, measure));
    }
    println!("ratio: median over that of {}; load average after: {}", report::BASELINE, load_average());

    let about = json!({
        "machine": machine(),
        "load_average_after": load_average(),
        "keys": options.keys(),
        "runs": options.runs(),
        "quick": options.is_quick(),
        "linked_peers": options.linked,
        "seconds": options.duration().as_secs_f64(),
        "servers": contenders.iter().map(|c| json!({ "name": c.name, "version": c.version() })).collect::<Vec<_>>(),
    });
    options.common.write("versus", &report::json(&about, &samples))
}

fn contenders(options: &Options) -> Result<Vec<Contender>> {
    let wanted =
        |name: &str| options.servers.is_empty() || options.servers.iter().any(|server| server == name);
    let mut contenders = Vec::new();
    if wanted(report::BASELINE) {
        contenders.push(Contender::redis()?);
    }
    contenders.push(Contender::sapwood());
    let others = std::env::var("SAPWOOD_BENCH_PEERS").unwrap_or_default();
    for other in others.split(',').filter(|other| !other.is_empty()) {
        contenders.push(Contender::other(other)?);
    }
    contenders.retain(|contender| wanted(&contender.name));
    for name in &options.servers {
        ensure!(contenders.iter().any(|contender| contender.name == *name), "no server is named {name:?}");
    }
    Ok(contenders)
}
