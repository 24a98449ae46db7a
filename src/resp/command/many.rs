//! Commands with any number of keys: a few are handled at once, more in steps.

use super::context::{Context, DONE, Long, Outcome, Progress, begin};
use super::error::CommandError;
use super::room;
use crate::resp::Args;
use crate::resp::args::OwnedArgs;
use crate::time_slice::TimeSlice;

/// Most arguments that are handled at once, which takes less than one step's time.
pub(super) const AT_ONCE: usize = 256;

/// The work of such a command for each argument.
pub(super) trait Each: Send + 'static {
    /// The index of the first argument to handle.
    const FIRST: usize = 1;
    /// How many arguments form one item.
    const WIDTH: usize = 1;
    /// Whether each item is a key that is read.
    const READS: bool = false;

    /// Handles the item at index `at`.
    fn take(&mut self, cx: &mut Context<'_>, args: Args<'_>, at: usize) -> Result<(), CommandError>;

    /// Writes the end of the reply.
    fn end(&mut self, cx: &mut Context<'_>);
}

/// Handles all items with `each`.
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
            // If there are few arguments, all keys are checked before the first is handled.
            if E::READS && cx.session.may_lack && cx.is_absent(&args[self.at]) {
                return Err(CommandError::Loading);
            }
            match self.each.take(cx, args, self.at) {
                // There is room for it in the next step, or nothing left to evict.
                Err(error) if room::can_retry(cx, &error) => {
                    cx.shared.store.evict_for(cx.batch, cx.batch.refused());
                    return Ok(Progress::More);
                }
                taken => taken?,
            }
            self.at += E::WIDTH;
        }
        self.each.end(cx);
        Ok(Progress::Done)
    }
}
