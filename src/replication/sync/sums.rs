//! How digests are encoded: in full down to the ranges, in six bytes below.
//!
//! Most of the bytes of a sync with many differences are sums of parts of ranges, so six bytes instead of eight
//! save a quarter of them. Two unequal sums look equal in 48 bits once in 2^48 comparisons. The choice of bits
//! depends on the number of the sync, so the next sync finds such a pair.

use crate::model::{RangeCount, TreeNode};

/// The encoded size in bytes of a sum below a range.
const BRIEF: usize = 6;

/// How the sums of one tree node's children are encoded in one sync.
#[derive(Clone, Copy)]
pub(super) struct Scale {
    /// An odd factor: the upper bits of its product with the sum are sent. `None` for whole sums.
    factor: Option<u64>,
}

impl Scale {
    pub(super) fn new(count: RangeCount, tree_node: TreeNode, sync: u32) -> Self {
        /// 2^64 by the golden ratio: spreads consecutive numbers over all bits.
        const SPREAD: u64 = 0x9e37_79b9_7f4a_7c15;
        let below_a_range = tree_node.ranges(count).len() == 1;
        Scale { factor: below_a_range.then(|| u64::from(sync).wrapping_mul(SPREAD) | 1) }
    }

    /// Returns the part of a sum that is compared: zero for a sum of zero.
    pub(super) fn reduce(self, sum: u64) -> u64 {
        self.factor.map_or(sum, |factor| sum.wrapping_mul(factor) >> (64 - 8 * BRIEF))
    }

    fn width(self) -> usize {
        if self.factor.is_some() { BRIEF } else { 8 }
    }

    pub(super) fn pack(self, sums: impl IntoIterator<Item = u64>) -> Vec<u8> {
        let mut packed = Vec::new();
        for sum in sums {
            packed.extend_from_slice(&self.reduce(sum).to_le_bytes()[..self.width()]);
        }
        packed
    }

    /// Decodes what [`pack`](Self::pack) returns, [reduced](Self::reduce); `None` if the length is wrong.
    pub(super) fn unpack(self, packed: &[u8]) -> Option<impl Iterator<Item = u64>> {
        let whole = packed.len().is_multiple_of(self.width());
        whole.then(|| {
            packed.chunks_exact(self.width()).map(|bytes| {
                let mut word = [0; 8];
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
    fn sums_are_whole_for_ranges_and_brief_below_and_empty_stays_zero() {
        let count = RangeCount::FULL;
        let group = TreeNode::groups(count).next().unwrap();
        let range = TreeNode::of_range(count, 3);
        let sums = [0, 1, u64::MAX, 1 << 63];
        for (tree_node, width) in [(group, 8), (range, 6)] {
            let scale = Scale::new(count, tree_node, 5);
            let packed = scale.pack(sums);
            assert_eq!(packed.len(), sums.len() * width);
            assert_eq!(scale.unpack(&packed).unwrap().collect::<Vec<_>>(), sums.map(|sum| scale.reduce(sum)));
            assert_eq!(scale.reduce(0), 0);
            assert!(scale.unpack(&packed[1..]).is_none());
        }
    }

    #[test]
    fn what_collides_in_one_sync_differs_in_the_next() {
        let range = TreeNode::of_range(RangeCount::FULL, 3);
        let scale = |sync| Scale::new(RangeCount::FULL, range, sync);
        // Finds a difference that one factor maps to zero in the bits that are sent.
        let hidden = (1..1u64 << 20).find(|sum| scale(7).reduce(*sum) == 0);
        assert!(hidden.is_none_or(|sum| (8..40).any(|sync| scale(sync).reduce(sum) != 0)));
    }
}
