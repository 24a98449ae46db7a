//! The options that all benches have.

use std::path::PathBuf;

use anyhow::{Context as _, Result};
use clap::Args;

use super::figures::write_json;
use super::machine::beside_target;

/// The options of every bench.
#[derive(Args, Debug)]
pub(crate) struct Common {
    /// Small and short, one run: shows that it runs, measures nothing
    #[arg(long)]
    quick: bool,

    /// Where the figures are written [default: target/bench/BENCH.json]
    #[arg(long, value_name = "PATH")]
    json: Option<PathBuf>,

    /// Passed by cargo
    #[arg(long, hide = true)]
    bench: bool,
}

impl Common {
    /// Whether this only shows that it runs.
    pub(crate) fn is_quick(&self) -> bool {
        self.quick || !self.bench
    }

    /// Writes the figures of the bench `name`, and where they are.
    ///
    /// # Errors
    /// If the file cannot be written.
    pub(crate) fn write(&self, name: &str, figures: &serde_json::Value) -> Result<()> {
        let path = self.json.clone().unwrap_or_else(|| beside_target(&format!("bench/{name}.json")));
        write_json(&path, figures).with_context(|| format!("could not write {}", path.display()))?;
        println!("written to {}", path.display());
        Ok(())
    }
}
