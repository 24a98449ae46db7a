//! Pauses between attempts.

use std::hash::{BuildHasher as _, RandomState};
use std::time::Duration;

/// Pauses that double from the shortest to the longest. Each is cut by a random part of up to half, so that many
/// clients of one node do not reconnect at once.
#[derive(Clone, Debug)]
pub(crate) struct Backoff {
    shortest: Duration,
    longest: Duration,
    next: Duration,
}

impl Backoff {
    pub(crate) fn new((shortest, longest): (Duration, Duration)) -> Self {
        Self { shortest, longest, next: shortest }
    }

    /// The next pause.
    pub(crate) fn pause(&mut self) -> Duration {
        let whole = self.next.min(self.longest);
        self.next = whole.saturating_mul(2);
        // The random keys of the standard library's hash maps: random enough, without a dependency.
        let random = RandomState::new().hash_one(0_u8) >> 32;
        let part = u32::try_from(random).unwrap_or(u32::MAX);
        whole - whole / 2 * (part >> 16) / (1 << 16)
    }

    /// Starts again with the shortest pause, after a success.
    pub(crate) fn reset(&mut self) {
        self.next = self.shortest;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_double_to_the_longest_and_are_cut_by_at_most_half() {
        let millis = Duration::from_millis;
        let mut backoff = Backoff::new((millis(100), millis(350)));
        for _ in 0..50 {
            for whole in [100, 200, 350, 350] {
                let pause = backoff.pause();
                assert!(pause >= millis(whole / 2) && pause <= millis(whole), "{pause:?} of {whole}");
            }
            backoff.reset();
        }
    }
}
