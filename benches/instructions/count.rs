//! Runs this program under valgrind and takes the difference of two runs.

use std::fs;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};
use serde_json::json;

use crate::options::{Figure, Options};
use crate::report::Report;
use crate::support::ask::pause;
use crate::support::machine;
use crate::support::process::{self, Process};

/// The longest that one run under valgrind may take beside its operations, on a machine that does much else.
const START: Duration = Duration::from_secs(300);
/// The longest that one operation may take; it is a hundred times the usual.
const OPERATION: Duration = Duration::from_millis(10);

/// Counts every figure as often as asked, shows them and writes them.
pub(crate) fn run(options: &Options) -> Result<()> {
    process::end_children_on_signals()?;
    let valgrind = process::find("valgrind").context(
        "there is no valgrind on the PATH to count with: install it (on Debian: apt install valgrind)",
    )?;
    println!("{}, load average {}", machine::machine(), machine::load_average());
    if options.common.is_quick() {
        println!("  quick: shows that it runs; the figures mean nothing");
    }
    let mut report = Report::new(options)?;
    let scratch = tempfile::tempdir()?;
    for _ in 0..options.runs() {
        for figure in options.figures() {
            let operations = options.operations();
            let once = counted(&valgrind, scratch.path(), figure, operations)?;
            let twice = counted(&valgrind, scratch.path(), figure, 2 * operations)?;
            ensure!(twice > once, "{}: twice the operations took no more instructions", figure.name());
            report.add(figure, (twice - once) as f64 / f64::from(operations));
        }
    }
    let tools = json!({ "valgrind": version(&valgrind), "rustc": version(Path::new("rustc")) });
    report.show_and_write(options, &tools)
}

/// The instructions of the main thread of a process that does so many operations.
fn counted(valgrind: &Path, scratch: &Path, figure: Figure, operations: u32) -> Result<u64> {
    let mut command = Command::new(valgrind);
    command.args(["--tool=callgrind", "--separate-threads=yes", "--dump-line=no"]);
    // Otherwise a thread that waits for another may keep it from running.
    command.arg("--fair-sched=yes");
    command.arg(format!("--callgrind-out-file={}", scratch.join("counts").display()));
    command.arg(std::env::current_exe()?);
    command.args(["--work", &figure.name(), "--operations", &operations.to_string()]);
    let process = Process::start(command, &[], scratch.join("log"))?;
    let deadline = Instant::now() + START + OPERATION * operations;
    let status = loop {
        if let Some(status) = process.ended() {
            break status;
        }
        ensure!(Instant::now() < deadline, "{} took too long:\n{}", figure.name(), process.last_words());
        pause();
    };
    if !status.success() {
        bail!("{} failed under valgrind, {status}:\n{}", figure.name(), process.last_words());
    }
    // Callgrind numbers threads from 01, the main thread.
    let path = scratch.join("counts-01");
    let text = fs::read_to_string(&path).context("valgrind wrote no counts of the main thread")?;
    let totals =
        text.lines().find_map(|line| line.strip_prefix("totals:")).context("no totals in the counts")?;
    // A later run that wrote none must not find these.
    fs::remove_file(&path)?;
    Ok(totals.trim().parse()?)
}

/// What a program says of `--version`.
fn version(program: &Path) -> String {
    let output = Command::new(program).arg("--version").output();
    output.map(|output| String::from_utf8_lossy(&output.stdout).trim().to_owned()).unwrap_or_default()
}
