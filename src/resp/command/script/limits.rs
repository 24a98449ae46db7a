//! What a script may take.

use std::cell::Cell;
use std::fmt;
use std::rc::Rc;
use std::time::{Duration, Instant};

use crate::resp::scripts::Kill;

/// Most bytes that a script's machine takes, beside what it takes when it begins.
pub(super) const MAX_MEMORY: usize = 16 << 20;
/// Most bytes of one reply, of one request by a script, and of what a script writes.
pub(super) const MAX_BYTES: usize = 64 << 20;
/// Most nested tables of a reply or of JSON.
pub(super) const MAX_DEPTH: usize = 128;

/// How many times its limit a script may take by the clock, if its thread did not get to work.
const STRETCH: u32 = 10;

/// How long this thread has worked.
fn worked() -> Duration {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::ThreadCPUTime);
    Duration::try_from(time).unwrap_or_default()
}

/// The limit that ended a script.
#[derive(Clone, Copy, Debug)]
pub(super) enum Limit {
    Time(Duration),
    Memory,
    Bytes,
    Killed,
}

impl fmt::Display for Limit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ABORTED the script was ended, and nothing of it is applied: ")?;
        match self {
            Limit::Time(limit) => {
                write!(f, "it ran for more than {} ms (--script-time-limit)", limit.as_millis())
            }
            Limit::Memory => write!(f, "it took more than {} MiB of memory", MAX_MEMORY >> 20),
            Limit::Bytes => {
                write!(f, "a request, the reply, or what it wrote has more than {} MiB", MAX_BYTES >> 20)
            }
            Limit::Killed => f.write_str("SCRIPT KILL"),
        }
    }
}

/// The limits of a script that runs, and which of them it has exceeded.
#[derive(Clone)]
pub(super) struct Limits {
    began: Instant,
    /// What its thread had worked when it began.
    worked: Duration,
    time: Duration,
    exceeded: Rc<Cell<Option<Limit>>>,
    kill: Kill,
    /// Whether another worker was [woken](wake_another_worker).
    has_woken: Rc<Cell<bool>>,
}

/// How long a script may run before another worker is woken.
const ALONE: Duration = Duration::from_millis(1);

/// Lets another worker of the runtime wait for I/O. The worker that runs the script may have been the only one that did:
/// then nobody else would be served, not even a `SCRIPT KILL`, although other workers are idle.
fn wake_another_worker() {
    if let Ok(runtime) = tokio::runtime::Handle::try_current() {
        // A worker keeps the task that it has spawned last for itself; the one before wakes another to take it.
        for _ in 0..2 {
            runtime.spawn(async {});
        }
    }
}

impl Limits {
    pub(super) fn begin(time: Duration, kill: Kill) -> Limits {
        Limits {
            began: Instant::now(),
            worked: worked(),
            time,
            exceeded: Rc::default(),
            kill,
            has_woken: Rc::default(),
        }
    }

    /// Ends the script.
    pub(super) fn exceed(&self, limit: Limit) -> mlua::Error {
        if self.exceeded.get().is_none() {
            self.exceeded.set(Some(limit));
        }
        mlua::Error::runtime("the script is ended")
    }

    pub(super) fn exceeded(&self) -> Option<Limit> {
        self.exceeded.get()
    }

    /// # Errors
    /// If the script has exceeded a limit, or its time is over.
    pub(super) fn check(&self) -> mlua::Result<()> {
        if let Some(limit) = self.exceeded.get() {
            return Err(self.exceed(limit));
        }
        // A machine that is busy with others does not end a script that has hardly run.
        let elapsed = self.began.elapsed();
        if elapsed >= ALONE && !self.has_woken.replace(true) {
            wake_another_worker();
        }
        if elapsed >= self.time
            && (elapsed >= self.time * STRETCH || worked().saturating_sub(self.worked) >= self.time)
        {
            return Err(self.exceed(Limit::Time(self.time)));
        }
        if self.kill.is_asked() {
            return Err(self.exceed(Limit::Killed));
        }
        Ok(())
    }

    /// # Errors
    /// If the script would have exceeded [`MAX_BYTES`] with this many.
    pub(super) fn check_bytes(&self, bytes: usize) -> mlua::Result<()> {
        if bytes > MAX_BYTES { Err(self.exceed(Limit::Bytes)) } else { Ok(()) }
    }
}
