//! Redraws lines at the end of a terminal in place.

use std::io;

use console::Term;

/// A block of lines at the end of a terminal that is redrawn. Earlier output stays, and so does the last block at the
/// end.
pub(crate) struct InPlace {
    term: Term,
    /// The number of lines of the block on the screen.
    drawn: usize,
}

impl InPlace {
    /// Draws to stdout, which must be a terminal.
    pub(crate) fn new() -> Self {
        let term = Term::buffered_stdout();
        // A terminal that cannot hide its cursor is no reason to fail.
        let _ = term.hide_cursor().and_then(|()| term.flush());
        InPlace { term, drawn: 0 }
    }

    /// Replaces the previous lines by these.
    pub(crate) fn draw(&mut self, lines: &[String]) -> io::Result<()> {
        let (height, width) = self.term.size();
        let lines = fitted(lines, height.into(), width.into());
        if self.drawn > 0 {
            self.term.move_cursor_up(self.drawn)?;
        }
        for line in &lines {
            self.term.clear_line()?;
            self.term.write_line(line)?;
        }
        self.term.clear_to_end_of_screen()?;
        self.term.flush()?;
        self.drawn = lines.len();
        Ok(())
    }
}

impl Drop for InPlace {
    fn drop(&mut self) {
        let _ = self.term.show_cursor().and_then(|()| self.term.flush());
    }
}

/// The part of `lines` that fits the terminal: a line that wraps or scrolls away could not be overwritten.
fn fitted(lines: &[String], height: usize, width: usize) -> Vec<String> {
    // The cursor is on the line below the block.
    let room = height.saturating_sub(1).max(1);
    let cut = |line: &String| console::truncate_str(line, width.saturating_sub(1), "…").into_owned();
    if lines.len() <= room {
        return lines.iter().map(cut).collect();
    }
    let hidden = lines.len() - (room - 1);
    lines[..room - 1].iter().map(cut).chain([format!("… {hidden} more lines")]).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_line_is_wrapped_or_scrolled_away() {
        let lines = ["one", "\x1b[1mtwo and more\x1b[0m", "three", "four"].map(String::from);
        assert_eq!(fitted(&lines, 5, 80), lines);
        assert_eq!(fitted(&lines, 4, 80), ["one", &lines[1], "… 2 more lines"]);
        assert_eq!(fitted(&lines, 0, 80), ["… 4 more lines"]);
        assert_eq!(fitted(&lines, 9, 6)[1..3], ["\x1b[1mtwo …\x1b[0m", "three"]);
    }
}
