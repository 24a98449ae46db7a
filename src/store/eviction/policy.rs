//! Which keys a full node deletes to make room.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, de::Error as _};

/// Which keys a node deletes when clients' writes would grow the cells beyond 95 % of `--max-memory`, by the names that
/// Redis has for them (`maxmemory-policy`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum EvictionPolicy {
    /// None: such writes are refused at 100 %.
    #[default]
    NoEviction,
    /// Of those with a deadline, the one whose deadline is the nearest.
    VolatileTtl,
    /// The one that was not accessed for the longest time.
    AllKeysLru,
    /// The one that was accessed least often of late.
    AllKeysLfu,
}

/// An error: no policy has this name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("write noeviction, volatile-ttl, allkeys-lru or allkeys-lfu")]
pub struct UnknownPolicy;

impl EvictionPolicy {
    /// All policies.
    pub const ALL: [EvictionPolicy; 4] = [
        EvictionPolicy::NoEviction,
        EvictionPolicy::VolatileTtl,
        EvictionPolicy::AllKeysLru,
        EvictionPolicy::AllKeysLfu,
    ];

    /// Its name.
    pub const fn as_str(self) -> &'static str {
        match self {
            EvictionPolicy::NoEviction => "noeviction",
            EvictionPolicy::VolatileTtl => "volatile-ttl",
            EvictionPolicy::AllKeysLru => "allkeys-lru",
            EvictionPolicy::AllKeysLfu => "allkeys-lfu",
        }
    }

    /// Whether it deletes any key.
    pub(crate) fn evicts(self) -> bool {
        self != EvictionPolicy::NoEviction
    }
}

impl FromStr for EvictionPolicy {
    type Err = UnknownPolicy;

    fn from_str(text: &str) -> Result<Self, UnknownPolicy> {
        EvictionPolicy::ALL.into_iter().find(|policy| policy.as_str() == text).ok_or(UnknownPolicy)
    }
}

impl fmt::Display for EvictionPolicy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

impl<'de> Deserialize<'de> for EvictionPolicy {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        String::deserialize(from)?.parse().map_err(D::Error::custom)
    }
}
