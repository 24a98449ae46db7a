//! How long one task works before others get a turn.

use std::time::Duration;

use tokio::time::Instant;

/// The length of a slice. A task runs for at most about twice as long, because the step that it is in when the slice ends
/// may take as long again.
const LENGTH: Duration = Duration::from_micros(500);

/// A slice of a worker's time.
pub(crate) struct TimeSlice(Instant);

impl TimeSlice {
    pub(crate) fn begin() -> TimeSlice {
        TimeSlice(Instant::now() + LENGTH)
    }

    pub(crate) fn is_over(&self) -> bool {
        Instant::now() >= self.0
    }

    /// Lets other tasks run once the slice is over, and begins another one then.
    pub(crate) async fn give_way(&mut self) {
        if self.is_over() {
            tokio::task::yield_now().await;
            *self = TimeSlice::begin();
        }
    }
}
