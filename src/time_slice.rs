//! How long one task works before others get a turn.

use std::time::Duration;

use tokio::time::Instant;

/// Half of what no task may exceed: the last thing begun may take as long again.
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
}
