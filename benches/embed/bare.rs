//! The same map without a store around it.

use dashmap::{DashMap, SharedValue};
use triomphe::ThinArc;
use xxhash_rust::xxh3::{Xxh3Builder, xxh3_64_with_seed};

/// As many as the store has ranges.
const SHARDS: usize = 16_384;

const SEED: u64 = 7;

/// A cell's header: time, origin, key length.
type Header = (u64, u32, u32);

type Entry = ThinArc<Header, u8>;

/// Keys and values as the store lays them out: a hashed table a range, of pointers to one allocation each.
pub(crate) struct BareMap {
    map: DashMap<Key, (), Xxh3Builder>,
}

struct Key(Entry);

impl Key {
    fn key(&self) -> &[u8] {
        &self.0.slice[..self.0.header.header.2 as usize]
    }
}

impl PartialEq for Key {
    fn eq(&self, other: &Self) -> bool {
        self.key() == other.key()
    }
}

impl Eq for Key {}

impl std::hash::Hash for Key {
    fn hash<H: std::hash::Hasher>(&self, state: &mut H) {
        state.write(self.key());
    }
}

impl BareMap {
    pub(crate) fn new() -> Self {
        BareMap { map: DashMap::with_hasher_and_shard_amount(Xxh3Builder::new(), SHARDS) }
    }

    /// At one go: the map's own hasher, which takes a key in pieces, costs several times as much.
    fn hash(key: &[u8]) -> u64 {
        xxh3_64_with_seed(key, SEED)
    }

    /// Not by the topmost bits: those are the tags within a table, and would all be the same.
    fn shard(&self, hash: u64) -> usize {
        self.map.determine_shard(usize::try_from(hash).expect("the bench runs where an address has 64 bits"))
    }

    pub(crate) fn insert(&self, key: &[u8], value: &[u8]) {
        let length = u32::try_from(key.len()).unwrap_or_default();
        let entry = Key(ThinArc::from_header_and_slice((1, 0, length), &[key, value].concat()));
        let hash = Self::hash(key);
        let rehash = |(key, _): &(Key, SharedValue<()>)| Self::hash(key.key());
        let mut table = self.map.shards()[self.shard(hash)].write();
        table.insert(hash, (entry, SharedValue::new(())), rehash);
    }

    /// The last byte of the value.
    #[inline]
    pub(crate) fn look_up(&self, key: &[u8]) -> Option<u8> {
        let hash = Self::hash(key);
        let table = self.map.shards()[self.shard(hash)].read();
        let (found, _) = table.get(hash, |(other, _)| other.key() == key)?;
        found.0.slice.last().copied()
    }
}
