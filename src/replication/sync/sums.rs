//! How digests are encoded: whole, or briefly where whole digests verify what looks equal.

/// The encoded size in bytes of a whole sum.
const WHOLE: usize = 8;

/// The encoded size in bytes of a brief sum. Two unequal sums look equal once in 2^16 comparisons, which costs another
/// comparison; larger sums would cost more for every range.
const BRIEF: usize = 2;

/// How the sums of one tree node's children are encoded in one sync.
#[derive(Clone, Copy)]
pub(super) struct Scale {
    /// The encoded size of a sum in bytes.
    width: usize,
    /// An odd factor: the upper bits of its product with the sum are a brief sum.
    factor: u64,
}

impl Scale {
    pub(super) const WHOLE: Scale = Scale { width: WHOLE, factor: 1 };

    /// Which bits are sent depends on the number of the sync, so that not the same sums look equal in the next.
    pub(super) fn brief(sync: u32) -> Self {
        /// 2^64 by the golden ratio: spreads consecutive numbers over all bits.
        const SPREAD: u64 = 0x9e37_79b9_7f4a_7c15;
        Scale { width: BRIEF, factor: u64::from(sync).wrapping_mul(SPREAD) | 1 }
    }

    /// Returns the part of a sum that is compared: zero for a sum of zero, which means no cells, and for no other.
    pub(super) fn reduce(self, sum: u64) -> u64 {
        if sum == 0 || self.width == WHOLE {
            return sum;
        }
        (sum.wrapping_mul(self.factor) >> (64 - 8 * self.width)).max(1)
    }

    pub(super) fn pack(self, sums: impl IntoIterator<Item = u64>) -> Vec<u8> {
        let mut packed = Vec::new();
        for sum in sums {
            packed.extend_from_slice(&self.reduce(sum).to_le_bytes()[..self.width]);
        }
        packed
    }

    /// Decodes what [`pack`](Self::pack) returns, [reduced](Self::reduce); `None` if the length is wrong.
    pub(super) fn unpack(self, packed: &[u8]) -> Option<impl Iterator<Item = u64>> {
        packed.len().is_multiple_of(self.width).then(|| {
            packed.chunks_exact(self.width).map(|bytes| {
                let mut word = [0; WHOLE];
                word[..bytes.len()].copy_from_slice(bytes);
                u64::from_le_bytes(word)
            })
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sums_are_whole_or_brief_and_only_that_of_no_cells_is_zero() {
        let sums = [0, 1, u64::MAX, 1 << 63];
        for (scale, width) in [(Scale::WHOLE, 8), (Scale::brief(5), 2)] {
            let packed = scale.pack(sums);
            assert_eq!(packed.len(), sums.len() * width);
            assert_eq!(scale.unpack(&packed).unwrap().collect::<Vec<_>>(), sums.map(|sum| scale.reduce(sum)));
            assert!(scale.unpack(&packed[1..]).is_none());
            assert!((0..1 << 20).all(|sum| (scale.reduce(sum) == 0) == (sum == 0)));
        }
    }

    #[test]
    fn what_collides_in_one_sync_differs_in_the_next() {
        let look_equal = |sync, sum| Scale::brief(sync).reduce(sum) == Scale::brief(sync).reduce(1 << 40);
        let hidden = (1..1u64 << 20).find(|sum| look_equal(7, *sum)).expect("one of 2^16 looks equal");
        assert!(!(8..10).all(|sync| look_equal(sync, hidden)));
    }
}
