//! `sapwood status --watch`

use std::io;

use anyhow::Context as _;
use console::Term;
use tokio::time::{MissedTickBehavior, interval};

use super::{Args, Status, screen};
use crate::cli::Exit;
use crate::cli::output::{self, Paint, Stream};
use crate::cli::stop::Stop;
use crate::cli::target::{Session, Target};

/// Looks again and again until Ctrl-C or SIGTERM. A node that is away for a while is asked again; one that was never
/// there is an error.
pub(super) async fn run(args: &Args) -> anyhow::Result<Exit> {
    let mut stop = Stop::new().context("cannot watch for Ctrl-C")?;
    let mut look = Look { target: &args.target, session: Some(args.target.connect().await?) };
    let mut display = Display::new(args.target.json);
    let mut ticks = interval(args.interval.0);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        let looked = async {
            ticks.tick().await;
            look.again().await
        };
        tokio::select! {
            // Dropping a look half-way loses its connection, which is not needed any more.
            _ = stop.asked() => return Ok(Exit::Done),
            status = looked => display.show(status)?,
        }
    }
}

struct Look<'a> {
    target: &'a Target,
    /// Kept from look to look while it works.
    session: Option<Session>,
}

impl Look<'_> {
    async fn again(&mut self) -> anyhow::Result<Status> {
        let mut session = match self.session.take() {
            Some(session) => session,
            None => self.target.connect().await?,
        };
        let status = Status::of(self.target, &mut session).await?;
        self.session = Some(session);
        Ok(status)
    }
}

/// Where the looks go.
enum Display {
    /// One object a line.
    Json,
    /// One block after the other, with an empty line between.
    Blocks { first: bool },
    /// Each in the place of the one before.
    InPlace(InPlace),
}

impl Display {
    fn new(json: bool) -> Self {
        match (json, Stream::Stdout.is_terminal()) {
            (true, _) => Display::Json,
            (false, true) => Display::InPlace(InPlace::new(Term::buffered_stdout())),
            (false, false) => Display::Blocks { first: true },
        }
    }

    fn show(&mut self, status: anyhow::Result<Status>) -> io::Result<()> {
        let paint = Paint::on(Stream::Stdout);
        match (self, status) {
            (Display::InPlace(place), Ok(status)) => place.draw(&screen::lines(&status, paint)),
            (Display::InPlace(place), Err(error)) => {
                place.draw(&[format!("{} {error:#}: trying again", paint.red("error:"))])
            }
            (_, Err(error)) => {
                eprintln!("{} {error:#}: trying again", Paint::on(Stream::Stderr).red("error:"));
                Ok(())
            }
            (Display::Json, Ok(status)) => output::json(&status.json()),
            (Display::Blocks { first }, Ok(status)) => {
                if !std::mem::replace(first, false) {
                    output::line("")?;
                }
                screen::lines(&status, paint).iter().try_for_each(|line| output::line(line))
            }
        }
    }
}

/// A block of lines at the end of a terminal that is written over. What was there before stays, and so does the last block
/// in the end.
struct InPlace {
    term: Term,
    /// Lines of the block, all of them still on the screen.
    drawn: usize,
}

impl InPlace {
    fn new(term: Term) -> Self {
        // A terminal that keeps its cursor is not worth ending for.
        let _ = term.hide_cursor().and_then(|()| term.flush());
        InPlace { term, drawn: 0 }
    }

    fn draw(&mut self, lines: &[String]) -> io::Result<()> {
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

/// What of `lines` fits the terminal: a line that were wrapped, or scrolled away, could not be written over.
fn fitted(lines: &[String], height: usize, width: usize) -> Vec<String> {
    // The cursor stands on the line below the block.
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
