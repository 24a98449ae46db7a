//! A line on stderr that shows how far a command has come.

use std::io;
use std::time::{Duration, Instant};

use console::Term;

use super::output::Stream;

/// The shortest time between two lines: more of them cannot be read, and slow terminals would delay the command.
const PAUSE: Duration = Duration::from_millis(50);

/// A progress line on a terminal, removed at the end. Without a terminal there is none.
pub(crate) struct Progress {
    term: Option<Term>,
    shown: Option<Instant>,
}

impl Default for Progress {
    fn default() -> Self {
        Progress { term: Stream::Stderr.is_terminal().then(Term::stderr), shown: None }
    }
}

impl Progress {
    /// Replaces the line by `text`, unless it has just been replaced.
    pub(crate) fn show(&mut self, text: &str) -> io::Result<()> {
        let Some(term) = &self.term else { return Ok(()) };
        if self.shown.is_some_and(|shown| shown.elapsed() < PAUSE) {
            return Ok(());
        }
        self.shown = Some(Instant::now());
        let width = usize::from(term.size().1).saturating_sub(1);
        term.clear_line()?;
        term.write_str(&console::truncate_str(text, width, "…"))
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        if let Some(term) = &self.term {
            // A line that cannot be removed does no harm.
            let _ = term.clear_line();
        }
    }
}
