//! Limits how often one kind of log line is written, so that repeated lines do not fill a disk.

use std::time::Duration;

use tokio::time::Instant;
use tracing_mutex::parkinglot::Mutex;

/// The span in which lines are counted.
const WINDOW: Duration = Duration::from_secs(1);

/// Writes at most a given number of lines of one kind a second, and reports in the next line how many were left out.
pub(crate) struct LogLimit {
    most: u32,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    began: Option<Instant>,
    written: u32,
    left_out: u64,
}

impl LogLimit {
    /// At most one line a second: for faults, whose lines are alike.
    pub(crate) const ONE: u32 = 1;

    /// A limit of `most` lines a second.
    pub(crate) fn new(most: u32) -> Self {
        LogLimit { most, state: Mutex::default() }
    }

    /// Calls `line` unless the limit is reached, with the number of lines left out since the last one if it is not
    /// zero.
    pub(crate) fn write(&self, now: Instant, line: impl FnOnce(Option<u64>)) {
        let left_out = {
            let state = &mut *self.state.lock();
            if state.began.is_none_or(|began| now.saturating_duration_since(began) >= WINDOW) {
                (state.began, state.written) = (Some(now), 0);
            }
            if state.written >= self.most {
                state.left_out += 1;
                return;
            }
            state.written += 1;
            std::mem::take(&mut state.left_out)
        };
        line((left_out > 0).then_some(left_out));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_beyond_the_limit_are_left_out_and_counted_in_the_next() {
        let limit = LogLimit::new(2);
        let start = Instant::now();
        let mut written = Vec::new();
        for millis in [0, 1, 2, 999, 1000, 1001, 1002, 5000] {
            limit.write(start + Duration::from_millis(millis), |left_out| written.push((millis, left_out)));
        }
        assert_eq!(written, [(0, None), (1, None), (1000, Some(2)), (1001, None), (5000, Some(1))]);
    }

    #[test]
    fn a_fault_twenty_times_a_second_is_one_line_a_second() {
        let limit = LogLimit::new(LogLimit::ONE);
        let start = Instant::now();
        let mut lines = 0;
        for n in 0..200 {
            limit.write(start + Duration::from_millis(n * 50), |_| lines += 1);
        }
        assert_eq!(lines, 10);
    }
}
