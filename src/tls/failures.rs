//! Limits on connections that are not authenticated yet, and counts of those that were not.

use std::collections::{BTreeMap, HashMap};
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;
use tracing_mutex::parkinglot::Mutex;

use super::error::HandshakeError;

/// The most handshakes of one address at a time, so that one host cannot take them all. All nodes of a host that start
/// together fit, as a handshake takes milliseconds and who is closed tries again.
const MAX_OF_ADDRESS: usize = 8;

/// How often failures of one address are logged.
const LOG_EVERY: Duration = Duration::from_secs(60);

/// The most addresses whose last log line is remembered. If all are in use, further addresses are counted only.
const MAX_ADDRESSES: usize = 64;

/// The handshakes under way, by address.
#[derive(Clone, Default)]
pub(super) struct Slots(Arc<Mutex<HashMap<IpAddr, usize>>>);

/// Permission for one handshake, given back when it is dropped.
pub(crate) struct Slot {
    slots: Slots,
    address: IpAddr,
}

impl Slots {
    /// Takes a slot, unless the address has all of its own. The number of addresses is bounded by the limit on all
    /// handshakes.
    pub(super) fn take(&self, address: IpAddr) -> Option<Slot> {
        let address = address.to_canonical();
        let mut slots = self.0.lock();
        let taken = slots.entry(address).or_default();
        if *taken >= MAX_OF_ADDRESS {
            return None;
        }
        *taken += 1;
        drop(slots);
        Some(Slot { slots: self.clone(), address })
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        let mut slots = self.slots.0.lock();
        if let Some(taken) = slots.get_mut(&self.address) {
            *taken -= 1;
            if *taken == 0 {
                slots.remove(&self.address);
            }
        }
    }
}

/// Counts of failed handshakes, and what was logged of them.
#[derive(Default)]
pub(super) struct Failures {
    counts: Mutex<BTreeMap<&'static str, u64>>,
    logged: Mutex<HashMap<IpAddr, Logged>>,
}

struct Logged {
    at: Instant,
    left_out: u64,
}

impl Failures {
    pub(super) fn count(&self, error: &HandshakeError) {
        *self.counts.lock().entry(error.reason()).or_default() += 1;
    }

    /// The counts since the start, by reason.
    pub(super) fn counts(&self) -> Vec<(&'static str, u64)> {
        self.counts.lock().iter().map(|(reason, count)| (*reason, *count)).collect()
    }

    /// Decides whether to log a failure of an address: once in [`LOG_EVERY`]. Returns the number left out since the last.
    pub(super) fn note(&self, address: IpAddr, now: Instant) -> Option<u64> {
        let is_recent = |logged: &Logged| now.saturating_duration_since(logged.at) < LOG_EVERY;
        let address = address.to_canonical();
        let mut all = self.logged.lock();
        if let Some(logged) = all.get_mut(&address) {
            if is_recent(logged) {
                logged.left_out += 1;
                return None;
            }
            logged.at = now;
            return Some(std::mem::take(&mut logged.left_out));
        }
        if all.len() >= MAX_ADDRESSES {
            all.retain(|_, logged| is_recent(logged));
        }
        if all.len() >= MAX_ADDRESSES {
            return None;
        }
        all.insert(address, Logged { at: now, left_out: 0 });
        Some(0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(n: u32) -> IpAddr {
        IpAddr::from(std::net::Ipv4Addr::from(n))
    }

    #[test]
    fn one_address_cannot_take_the_slots_of_another_and_gives_its_own_back() {
        let slots = Slots::default();
        let taken: Vec<_> = (0..MAX_OF_ADDRESS).map(|_| slots.take(address(1)).unwrap()).collect();
        assert!(slots.take(address(1)).is_none());
        let mapped = std::net::Ipv4Addr::from(1).to_ipv6_mapped();
        assert!(slots.take(mapped.into()).is_none(), "the same address");
        assert!(slots.take(address(2)).is_some());
        drop(taken);
        assert!(slots.take(address(1)).is_some());
        assert!(slots.0.lock().is_empty(), "what is not in use is not kept");
    }

    #[test]
    fn failures_of_an_address_are_logged_once_a_minute_with_the_number_left_out() {
        let failures = Failures::default();
        let start = Instant::now();
        let logged: Vec<_> = [0, 1, 30, 59, 60, 61, 200]
            .map(|seconds| failures.note(address(1), start + Duration::from_secs(seconds)))
            .into_iter()
            .collect();
        assert_eq!(logged, [Some(0), None, None, None, Some(3), None, Some(1)]);
    }

    #[test]
    fn many_addresses_are_neither_kept_nor_logged_without_bound() {
        let failures = Failures::default();
        let start = Instant::now();
        let lines = (0..10_000).filter(|n| failures.note(address(*n), start).is_some()).count();
        assert_eq!((lines, failures.logged.lock().len()), (MAX_ADDRESSES, MAX_ADDRESSES));
        assert_eq!(failures.note(address(20_000), start + LOG_EVERY), Some(0), "the old ones make room");
    }
}
