//! Counts what a link has carried, by kind and by second.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use super::message;
use crate::cluster::{Traffic, TrafficKind};

/// The counters of one link.
#[derive(Default)]
pub(super) struct Carried {
    received: [AtomicU64; TrafficKind::ALL.len()],
    sent: [AtomicU64; TrafficKind::ALL.len()],
    received_rate: Rate,
    sent_rate: Rate,
}

/// Rates in bytes per second.
#[derive(Default)]
struct Rate {
    before: AtomicU64,
    present: AtomicU64,
}

impl Rate {
    fn sample(&self, total: u64, after: Duration) {
        let more = total.saturating_sub(self.before.swap(total, Relaxed));
        let millis = u64::try_from(after.as_millis()).unwrap_or(u64::MAX).max(1);
        self.present.store(more.saturating_mul(1000) / millis, Relaxed);
    }
}

impl Carried {
    /// Counts a received message, without its header.
    pub(super) fn receive(&self, frame: &[u8]) {
        self.received[message::kind(frame) as usize].fetch_add(frame.len() as u64, Relaxed);
    }

    /// Counts a sent frame, with its header.
    pub(super) fn send(&self, frame: &[u8]) {
        let kind = message::kind(frame.get(super::codec::HEADER..).unwrap_or_default());
        self.sent[kind as usize].fetch_add(frame.len() as u64, Relaxed);
    }

    /// Computes the rates since the last call, which was `after` ago.
    pub(super) fn sample(&self, after: Duration) {
        self.received_rate.sample(sum(&self.received), after);
        self.sent_rate.sample(sum(&self.sent), after);
    }

    pub(super) fn totals(&self) -> Traffic {
        Traffic {
            received: self.received.each_ref().map(|count| count.load(Relaxed)),
            sent: self.sent.each_ref().map(|count| count.load(Relaxed)),
            received_per_second: self.received_rate.present.load(Relaxed),
            sent_per_second: self.sent_rate.present.load(Relaxed),
        }
    }
}

fn sum(counts: &[AtomicU64]) -> u64 {
    counts.iter().map(|count| count.load(Relaxed)).sum()
}

#[cfg(test)]
mod tests {
    use super::super::codec;
    use super::super::message::Message;
    use super::*;

    #[test]
    fn every_message_is_counted_under_what_it_is_for() {
        let carried = Carried::default();
        let frames = [
            codec::frame(&Message::Gap),
            codec::frame(&Message::Done { sync: 1 }),
            codec::frame(&Message::Goodbye),
            codec::frame(&Message::Publish { channel: b"c", message: b"m" }),
        ];
        for frame in &frames {
            carried.send(frame);
            carried.receive(codec::open(frame).unwrap());
        }
        carried.receive(&[]);
        carried.receive(&[255; 9]);
        carried.sample(Duration::from_millis(500));
        let totals = carried.totals();
        assert_eq!(totals.sent, frames.each_ref().map(|frame| frame.len() as u64));
        assert_eq!(totals.received, [1, 2, 1, 5 + 9]);
        assert_eq!(totals.received_per_second, 2 * (1 + 2 + 1 + 14));
        carried.sample(Duration::from_secs(1));
        assert_eq!(carried.totals().received_per_second, 0);
    }
}
