//! Gives freed memory back to the system.
//!
//! The C library's allocator keeps freed memory for later use, without a limit: after a mass delete a node would take
//! as much memory as before. Of the allocators tried (mimalloc, jemalloc with its background thread, the C library's
//! with the release here), the last takes the least memory for the same keys, full or emptied, at the same speed.

use std::convert::Infallible;
use std::time::Duration;

use sapwood::Node;
use sapwood::internal::Internals as _;
use sapwood::internal::process::resident_bytes;
use tokio::time::{MissedTickBehavior, interval};

/// How often the memory of the process is checked.
const INTERVAL: Duration = Duration::from_secs(5);

/// Bytes that a node may take beyond its cells, in addition to 30% of the cells, before a release is worthwhile.
const SLACK: u64 = 16 << 20;

/// Releases free memory whenever the allocator keeps much of it.
pub(crate) async fn release_memory(node: &Node) -> Infallible {
    let mut last = Figures::NONE;
    let mut ticks = interval(INTERVAL);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        let Some(now) = Figures::of(node) else { continue };
        if !now.is_release_due(last) {
            continue;
        }
        // The allocator's locks are held for milliseconds, so this must not run on a thread that serves clients.
        #[expect(clippy::disallowed_methods, reason = "only the command runs this, never a simulated node")]
        let released = tokio::task::spawn_blocking(release_free_memory).await;
        if !released.unwrap_or(false) {
            tracing::trace!("the allocator had nothing to release");
        }
        last = Figures::of(node).unwrap_or(now);
        tracing::debug!(before = now.resident, after = last.resident, "released free memory");
    }
}

/// Bytes of memory at one time.
#[derive(Clone, Copy)]
struct Figures {
    /// The memory of the process.
    resident: u64,
    /// The memory of the cells, tombstones included.
    cells: u64,
}

impl Figures {
    /// Stands for the last release before there was one.
    const NONE: Figures = Figures { resident: 0, cells: u64::MAX };

    fn of(node: &Node) -> Option<Figures> {
        let cells = node.store().memory() + node.store().tombstone_memory();
        Some(Figures { resident: resident_bytes()?, cells })
    }

    /// Whether the process takes much more than its cells, and has changed since the release that left `last`. Memory
    /// that this release could not return is in use, or shares pages with memory in use.
    fn is_release_due(self, last: Figures) -> bool {
        let is_large = self.resident > self.cells + self.cells / 10 * 3 + SLACK;
        let has_changed =
            self.resident > last.resident + last.resident / 10 || self.cells < last.cells - last.cells / 10;
        is_large && has_changed
    }
}

/// Returns the allocator's free pages to the system; returns whether that released any.
///
/// Threads that allocate may wait meanwhile: about 0.1 s for each GiB of small values, if most were freed at random.
fn release_free_memory() -> bool {
    #[cfg(all(target_os = "linux", target_env = "gnu"))]
    // SAFETY: the function has no precondition; it locks what it changes.
    #[expect(unsafe_code, reason = "the C library's function has no safe wrapper")]
    unsafe {
        libc::malloc_trim(0) == 1
    }
    #[cfg(not(all(target_os = "linux", target_env = "gnu")))]
    false
}

#[cfg(test)]
mod tests {
    use super::*;

    const MIB: u64 = 1 << 20;

    fn figures(resident: u64, cells: u64) -> Figures {
        Figures { resident: resident * MIB, cells: cells * MIB }
    }

    #[test]
    fn an_empty_node_and_a_full_one_have_nothing_to_release() {
        assert!(!figures(12, 0).is_release_due(Figures::NONE));
        assert!(!figures(1100, 1000).is_release_due(Figures::NONE));
    }

    #[test]
    fn a_mass_delete_makes_a_release_due() {
        assert!(figures(1000, 0).is_release_due(Figures::NONE));
        assert!(figures(1000, 500).is_release_due(Figures::NONE));
    }

    #[test]
    fn what_a_release_could_not_return_is_not_tried_again_until_something_changes() {
        let left = figures(300, 50);
        assert!(!left.is_release_due(left));
        assert!(!figures(320, 50).is_release_due(left));
        assert!(figures(340, 50).is_release_due(left), "more is kept");
        assert!(figures(300, 40).is_release_due(left), "more was freed");
    }
}
