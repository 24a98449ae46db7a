//! Commands on as many keys as a client names: a few at once, more in steps.

use super::context::{Context, DONE, Long, Outcome, Progress, begin};
use super::error::CommandError;
use crate::resp::Args;
use crate::resp::args::OwnedArgs;
use crate::time_slice::TimeSlice;

/// Up to so many arguments are handled at once: they take less than a step's time.
pub(super) const AT_ONCE: usize = 256;

/// What such a command does.
pub(super) trait Each: Send + 'static {
    /// The first argument that it is for.
    const FIRST: usize = 1;
    /// How many arguments belong together.
    const WIDTH: usize = 1;
    /// Whether each is a key that is read.
    const READS: bool = false;

    /// Handles the arguments at `at`.
    fn take(&mut self, cx: &mut Context<'_>, args: Args<'_>, at: usize) -> Result<(), CommandError>;

    /// Adds what follows the last of them.
    fn end(&mut self, cx: &mut Context<'_>);
}

/// Hands the arguments to `each`.
pub(super) fn each<E: Each>(cx: &mut Context<'_>, args: Args<'_>, mut each: E) -> Outcome {
    if args.len() > AT_ONCE {
        return begin(cx, Many { args: args.to_owned(), at: E::FIRST, each });
    }
    for at in (E::FIRST..args.len()).step_by(E::WIDTH) {
        each.take(cx, args, at)?;
    }
    each.end(cx);
    DONE
}

struct Many<E> {
    args: OwnedArgs,
    at: usize,
    each: E,
}

impl<E: Each> Long for Many<E> {
    fn step(&mut self, cx: &mut Context<'_>) -> Result<Progress, CommandError> {
        let time = TimeSlice::begin();
        let args = self.args.as_args();
        while self.at < args.len() {
            if time.is_over() {
                return Ok(Progress::More);
            }
            // Of few arguments all keys are looked at before the first is taken.
            if E::READS && cx.session.may_lack && cx.is_absent(&args[self.at]) {
                return Err(CommandError::Loading);
            }
            self.each.take(cx, args, self.at)?;
            self.at += E::WIDTH;
        }
        self.each.end(cx);
        Ok(Progress::Done)
    }
}
