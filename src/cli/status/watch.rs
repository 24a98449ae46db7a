//! `sapwood status --watch`

use std::io;

use anyhow::Context as _;
use tokio::time::{MissedTickBehavior, interval};

use super::{Args, Status, screen};
use crate::cli::Exit;
use crate::cli::in_place::InPlace;
use crate::cli::output::{self, Paint, Stream};
use crate::cli::stop::Stop;
use crate::cli::target::{Session, Target};

/// Asks repeatedly until Ctrl-C or SIGTERM. A node that stops answering is asked again; one that has never answered
/// is an error.
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
            // Dropping a request half-way makes its connection unusable, but it is not needed any more.
            _ = stop.asked() => return Ok(Exit::Done),
            status = looked => display.show(status)?,
        }
    }
}

struct Look<'a> {
    target: &'a Target,
    /// Reused for the next request while it works.
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

/// How the replies are shown.
enum Display {
    /// One object per line.
    Json,
    /// One block after the other, with an empty line between them.
    Blocks { first: bool },
    /// Each replaces the one before.
    InPlace(InPlace),
}

impl Display {
    fn new(json: bool) -> Self {
        match (json, Stream::Stdout.is_terminal()) {
            (true, _) => Display::Json,
            (false, true) => Display::InPlace(InPlace::new()),
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
