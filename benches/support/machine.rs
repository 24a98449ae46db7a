//! What the figures were measured on.

use std::fs;
use std::path::PathBuf;

/// Cores, processor and kernel, in a line.
pub(crate) fn machine() -> String {
    let model = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let model = model.lines().find_map(|line| line.strip_prefix("model name")?.split_once(": "));
    let kernel = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    let cores = std::thread::available_parallelism().map_or(0, usize::from);
    let model = model.map_or("unknown processor", |(_, name)| name);
    format!("{cores} cores of {model}, Linux {}", kernel.trim())
}

/// Of one, five and fifteen minutes.
pub(crate) fn load_average() -> String {
    let text = fs::read_to_string("/proc/loadavg").unwrap_or_default();
    text.split_ascii_whitespace().take(3).collect::<Vec<_>>().join(" ")
}

/// A path beside what cargo builds, wherever that is.
pub(crate) fn beside_target(path: &str) -> PathBuf {
    // target/release/sapwood
    let target = PathBuf::from(env!("CARGO_BIN_EXE_sapwood"));
    target.ancestors().nth(2).unwrap_or(&target).join(path)
}
