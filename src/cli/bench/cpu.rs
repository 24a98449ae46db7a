//! The processor time of a thread, to see whether the generator was the bottleneck.

use std::time::Duration;

/// The time of one thread so far.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct CpuTime {
    /// Spent on a core.
    pub(super) used: Duration,
    /// Ready to run, while others had the core. 0 if the system does not report it.
    pub(super) waited: Duration,
}

impl CpuTime {
    /// The time of the calling thread; `None` if the system does not report it.
    pub(super) fn of_thread() -> Option<CpuTime> {
        #[cfg(unix)]
        {
            let used = rustix::time::clock_gettime(rustix::time::ClockId::ThreadCPUTime);
            let used = Duration::new(used.tv_sec.try_into().ok()?, used.tv_nsec.try_into().ok()?);
            Some(CpuTime { used, waited: waited().unwrap_or_default() })
        }
        #[cfg(not(unix))]
        None
    }

    pub(super) fn since(self, earlier: CpuTime) -> CpuTime {
        CpuTime {
            used: self.used.saturating_sub(earlier.used),
            waited: self.waited.saturating_sub(earlier.waited),
        }
    }
}

/// The second field of Linux's `schedstat`.
#[cfg(unix)]
fn waited() -> Option<Duration> {
    let text = std::fs::read_to_string("/proc/thread-self/schedstat").ok()?;
    text.split_ascii_whitespace().nth(1)?.parse().ok().map(Duration::from_nanos)
}
