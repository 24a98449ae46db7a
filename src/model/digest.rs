//! Digests: order-independent sums of cell hashes, and the placement of keys in ranges.
//!
//! A range's digest is the sum modulo 2^64 of its cells' hashes, so a write moves it by one subtraction and one
//! addition (an incremental multiset hash: Clarke et al., 2003). Hashes are seeded by the cluster's name and
//! equal on every node of it. They guard against mistakes, not against a peer that lies on purpose.

use std::fmt;

use xxhash_rust::xxh3::{xxh3_64, xxh3_64_with_seed};

use super::counter::{Expiry, Slot};
use super::register::Register;
use super::timestamp::{Incarnation, Time};

/// A digest of keys with their timestamps: nodes that hold the same show the same. As text, 16 hexadecimal digits.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Digest(pub(crate) u64);

impl Digest {
    /// The digest as a number.
    pub fn get(self) -> u64 {
        self.0
    }
}

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", self.0)
    }
}

/// The seed of a cluster's hashes: derived from its name, so all its nodes use the same one.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct HashSeed(u64);

impl HashSeed {
    /// The seed of the cluster with this name.
    pub fn of_cluster(name: &str) -> Self {
        HashSeed(xxh3_64(name.as_bytes()))
    }

    /// The raw seed.
    pub fn get(self) -> u64 {
        self.0
    }

    /// The hash that places `key` in a range: the same on every node of the cluster.
    pub fn key_hash(self, key: &[u8]) -> u64 {
        xxh3_64_with_seed(key, self.0)
    }
}

/// The hash of the identity of a register: its key, its timestamps and whether it is a tombstone.
///
/// Timestamps identify content, so the value is not hashed: dropping an expired value leaves the digest as it was.
///
/// The hash of a cell is the sum of the hashes of its parts: its register, its [slots](slot_hash) and its counter's
/// [deadline](expiry_hash). So a digest can leave out a part that is dead at a stable time.
pub fn register_hash(seed: HashSeed, key_hash: u64, register: &Register<'_>) -> u64 {
    let written = register.timestamp;
    if !register.has_deadline_timestamp() {
        return written_hash(seed, key_hash, written.time(), written.incarnation(), register.is_tombstone());
    }
    let mut identity = [0u8; 57];
    identity[..32].copy_from_slice(&write_identity(key_hash, written.time(), written.incarnation()));
    identity[32..40].copy_from_slice(&register.deadline_timestamp.time().0.to_le_bytes());
    identity[40..56].copy_from_slice(&register.deadline_timestamp.incarnation().to_le_bytes());
    xxh3_64_with_seed(&identity[..56 + usize::from(register.is_tombstone())], seed.0)
}

/// The [`register_hash`] of a register whose deadline, if it has one, was set by the write of its value.
#[inline]
pub fn written_hash(
    seed: HashSeed,
    key_hash: u64,
    time: Time,
    incarnation: Incarnation,
    is_tombstone: bool,
) -> u64 {
    let identity = write_identity(key_hash, time, incarnation);
    // Every kind of part has lengths of its own: 32 and 56 bytes for registers, one more for a tombstone, because a
    // retracted register keeps its timestamps; 64 for a slot, 41 for a counter's deadline.
    if !is_tombstone {
        return xxh3_64_with_seed(&identity, seed.0);
    }
    let mut longer = [0u8; 33];
    longer[..32].copy_from_slice(&identity);
    xxh3_64_with_seed(&longer, seed.0)
}

/// The bytes that identify a write of a key.
#[inline(always)]
fn write_identity(key_hash: u64, time: Time, incarnation: Incarnation) -> [u8; 32] {
    let mut identity = [0u8; 32];
    identity[..8].copy_from_slice(&key_hash.to_le_bytes());
    identity[8..16].copy_from_slice(&time.0.to_le_bytes());
    identity[16..].copy_from_slice(&incarnation.to_le_bytes());
    identity
}

/// The hash of a register's identity and its value, to detect values that differ at equal timestamps.
pub fn deep_register_hash(seed: HashSeed, key_hash: u64, register: &Register<'_>) -> u64 {
    let identity = register_hash(seed, key_hash, register);
    register.value.map_or(identity, |value| xxh3_64_with_seed(value, identity))
}

/// The hash of the identity of one owner's slot; its life, last increment and reset identify its totals.
pub fn slot_hash(seed: HashSeed, key_hash: u64, owner: Incarnation, slot: &Slot) -> u64 {
    let mut identity = [0u8; 64];
    identity[..8].copy_from_slice(&key_hash.to_le_bytes());
    identity[8..24].copy_from_slice(&owner.to_le_bytes());
    let times = [slot.start, slot.last, slot.reset.mark, slot.reset.at];
    for (word, time) in identity[24..].chunks_exact_mut(8).zip(times) {
        word.copy_from_slice(&time.0.to_le_bytes());
    }
    xxh3_64_with_seed(&identity, seed.0)
}

/// The hash of the identity of one owner's slot, and of its totals.
pub fn deep_slot_hash(seed: HashSeed, key_hash: u64, owner: Incarnation, slot: &Slot) -> u64 {
    xxh3_64_with_seed(&slot.net().to_le_bytes(), slot_hash(seed, key_hash, owner, slot))
}

/// The hash of the identity of a counter's deadline.
pub fn expiry_hash(seed: HashSeed, key_hash: u64, writer: Incarnation, expiry: &Expiry) -> u64 {
    let mut identity = [0u8; 41];
    identity[..8].copy_from_slice(&key_hash.to_le_bytes());
    identity[8..24].copy_from_slice(&writer.to_le_bytes());
    identity[24..32].copy_from_slice(&expiry.set_at.0.to_le_bytes());
    identity[32..40].copy_from_slice(&expiry.deadline.unwrap_or_default().0.to_le_bytes());
    identity[40] = u8::from(expiry.deadline.is_some());
    xxh3_64_with_seed(&identity, seed.0)
}

/// The number of ranges that the hash space is divided into: a power of two from 4 to 16,384.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct RangeCount {
    bits: u32,
}

impl RangeCount {
    /// The number that every node uses: 16,384 ranges.
    pub const FULL: RangeCount = RangeCount { bits: 14 };

    /// A count of 2^`bits` ranges; simulations use few, so that many keys share a range.
    ///
    /// # Panics
    /// Unless `bits` is within 2 to 14.
    pub fn power_of_two(bits: u32) -> Self {
        assert!((2..=Self::FULL.bits).contains(&bits), "a range count has 2 to 14 bits, not {bits}");
        RangeCount { bits }
    }

    /// The number of ranges.
    pub fn get(self) -> usize {
        1 << self.bits
    }

    /// The number of groups of ranges, as a power of two: as many as the ranges of each group, or half as many.
    pub(super) fn group_bits(self) -> u32 {
        self.bits / 2
    }

    pub(super) fn bits(self) -> u32 {
        self.bits
    }

    /// The range of a key with this hash, from the hash bits just below the top seven.
    ///
    /// The hash table inside a range uses the top seven bits as tags.
    pub fn range_of(self, key_hash: u64) -> usize {
        #[expect(clippy::cast_possible_truncation, reason = "at most 14 bits are left")]
        let range = ((key_hash << 7) >> (64 - self.bits)) as usize;
        range
    }
}

#[cfg(test)]
mod tests {
    use super::super::timestamp::{Timestamp, incarnation};
    use super::*;
    use crate::model::{Deadline, Time};

    fn timestamp(time: u64, id: u128) -> Timestamp {
        Timestamp::new(Time(time), incarnation(id).unwrap())
    }

    #[test]
    fn golden_hashes_pin_what_nodes_of_different_builds_must_agree_on() {
        let seed = HashSeed::of_cluster("sapwood");
        let key = seed.key_hash(b"hello");
        let register = Register::live(timestamp(1 << 32, 7), b"world", None);
        let qualified = Register { deadline_timestamp: timestamp(2 << 32, 8), ..register };
        assert_eq!(seed.get(), 17_822_394_163_718_312_897);
        assert_eq!(key, 6_754_784_997_396_515_761);
        assert_eq!(register_hash(seed, key, &register), 3_704_836_861_296_010_460);
        assert_eq!(register_hash(seed, key, &qualified), 2_490_437_990_085_366_424);
        let slot = Slot { last: Time(3 << 32), ..Slot::begin(Time(1 << 32)) };
        assert_eq!(slot_hash(seed, key, incarnation(7).unwrap(), &slot), 9_391_353_630_768_811_334);
        let expiry = Expiry { deadline: Some(Deadline(9_000)), set_at: Time(1 << 32) };
        assert_eq!(expiry_hash(seed, key, incarnation(7).unwrap(), &expiry), 3_101_973_910_276_962_781);
        assert_eq!(register_hash(seed, key, &register.retracted()), 2_615_291_585_194_101_724);
        assert_eq!(RangeCount::FULL.range_of(key), ((key << 7) >> 50) as usize);
    }

    #[test]
    fn a_register_hash_depends_on_timestamps_and_not_on_the_value() {
        let seed = HashSeed::of_cluster("sapwood");
        let one = Register::live(timestamp(1, 1), b"a", None);
        let expiring = Register { deadline: Some(Deadline(9)), ..one };
        let swept = Register { value: None, ..expiring };
        assert_eq!(register_hash(seed, 9, &one), register_hash(seed, 9, &expiring));
        assert_eq!(register_hash(seed, 9, &expiring), register_hash(seed, 9, &swept));
        assert_ne!(register_hash(seed, 9, &one), register_hash(seed, 9, &one.retracted()));
        assert_ne!(register_hash(seed, 9, &one), register_hash(seed, 8, &one));
        assert_ne!(
            register_hash(seed, 9, &one),
            register_hash(seed, 9, &Register::live(timestamp(1, 2), b"a", None))
        );
        assert_ne!(
            register_hash(seed, 9, &one),
            register_hash(seed, 9, &Register { deadline_timestamp: timestamp(2, 1), ..one })
        );
    }

    #[test]
    fn ranges_fill_evenly() {
        let seed = HashSeed::of_cluster("sapwood");
        let ranges = RangeCount::power_of_two(4);
        let mut counts = vec![0u32; ranges.get()];
        for key in 0..16_000u32 {
            counts[ranges.range_of(seed.key_hash(&key.to_le_bytes()))] += 1;
        }
        assert!(counts.iter().all(|&n| (800..1200).contains(&n)), "{counts:?}");
    }
}
