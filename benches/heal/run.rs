//! One run, from the command line to the report.

use anyhow::Result;
use serde_json::json;

use crate::measure::Bench;
use crate::options::Options;
use crate::report::Report;
use crate::support::machine::{load_average, machine};
use crate::support::process;

/// Returns whether every promise was kept, noise allowed for.
///
/// # Errors
/// If a node ends, does not answer or does not heal. All of them are ended first.
pub(crate) fn run(options: &Options) -> Result<bool> {
    let scratch = tempfile::tempdir()?;
    process::end_children_on_signals()?;
    println!("{} keys of 16 B, values of 100 B, {} run(s); {}", options.keys(), options.repeat(), machine());
    if options.is_quick() {
        println!("  quick: shows that everything heals; the figures mean nothing");
    }
    let before = load_average();
    println!("  load average before: {before}");

    let mut bench = Bench { options, scratch: scratch.path(), report: Report::default() };
    for measure in options.measures() {
        eprintln!("  {measure:?}");
        bench.take(measure)?;
        println!("\n{measure:?}\n{}", bench.report.table(measure));
    }
    println!("load average after: {}", load_average());

    let about = json!({
        "machine": machine(),
        "load_average_before": before,
        "load_average_after": load_average(),
        "keys": options.keys(),
        "runs": options.repeat(),
        "quick": options.is_quick(),
    });
    options.common.write("heal", &bench.report.json(&about))?;
    let missed = bench.report.missed();
    for missed in &missed {
        println!("missed: {missed}");
    }
    Ok(missed.is_empty() || options.is_quick())
}
