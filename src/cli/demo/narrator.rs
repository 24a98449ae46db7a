//! Reports the story: one line for each step on stdout, progress bars on stderr.

use std::time::Duration;

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use serde_json::{Value, json};

use crate::cli::output::{self, Paint, Stream};

/// Characters of the longest step name.
const NAME: usize = 8;

/// Prints the steps as they complete, and keeps them for `--json`.
pub(super) struct Narrator {
    steps: Vec<Value>,
    json: bool,
}

impl Narrator {
    pub(super) fn new(json: bool) -> Narrator {
        Narrator { steps: Vec::new(), json }
    }

    /// Shows a progress bar for a step. It is visible only on a terminal, and removed when dropped.
    pub(super) fn bar(&self, step: &str, length: u64) -> Bar {
        let shown = !self.json && Stream::Stderr.is_terminal();
        let target = if shown { ProgressDrawTarget::stderr() } else { ProgressDrawTarget::hidden() };
        let style = ProgressStyle::with_template("{prefix:<8}  [{bar:30}] {pos} of {len} {msg}")
            .expect("the template is well-formed")
            .progress_chars("#>-");
        let bar = ProgressBar::with_draw_target(Some(length), target).with_style(style);
        Bar(bar.with_prefix(step.to_owned()))
    }

    /// Prints a completed step: what happened, and how long it took, if given.
    pub(super) fn report(&mut self, step: &str, text: &str, took: Option<Duration>) -> anyhow::Result<()> {
        self.steps
            .push(json!({ "step": step, "text": text, "ms": took.map(|took| took.as_secs_f64() * 1e3) }));
        if !self.json {
            output::line(&format!("{}{text}", Paint::on(Stream::Stdout).bold(&format!("{step:<NAME$}  "))))?;
        }
        Ok(())
    }

    /// The completed steps, for `--json`.
    pub(super) fn steps(&self) -> &[Value] {
        &self.steps
    }
}

/// A progress bar, which is removed when dropped.
pub(super) struct Bar(ProgressBar);

impl Bar {
    pub(super) fn at(&self, position: u64) {
        self.0.set_position(position);
    }

    pub(super) fn of(&self, length: u64) {
        self.0.set_length(length);
    }

    pub(super) fn say(&self, text: String) {
        self.0.set_message(text);
    }
}

impl Drop for Bar {
    fn drop(&mut self) {
        self.0.finish_and_clear();
    }
}
