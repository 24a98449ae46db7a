//! The nodes of the digest tree, along which two nodes compare their cells.
//!
//! ```text
//!   key hash   7 tag bits | group | range in group | 4 bits | 4 bits | ...
//!   tree node                 <----- bits of path -------------->
//! ```
//!
//! Keys are hashed, so the tree is balanced and needs no upkeep beyond the sums of the ranges: a fixed-radix hash tree
//! (Merkle, 1987) that stores only one level.

use super::digest::RangeCount;

/// The leading hash bits that the tables inside a range use as tags; they do not place a key.
const TAG_BITS: u32 = 7;

/// The number of hash bits that the tree descends along.
const PATH_BITS: u32 = u64::BITS - TAG_BITS;

/// A range, and each tree node below it, has 2^4 children.
const CHILD_BITS: u32 = 4;

/// The keys whose hash begins, after the tag bits, with `path`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TreeNode {
    bits: u32,
    path: u64,
}

impl TreeNode {
    /// All groups of ranges: the first level that is compared.
    pub fn groups(count: RangeCount) -> impl Iterator<Item = TreeNode> {
        let bits = count.group_bits();
        (0..1 << bits).map(move |path| TreeNode { bits, path })
    }

    /// The tree node of a range.
    pub fn of_range(count: RangeCount, range: usize) -> TreeNode {
        TreeNode { bits: count.bits(), path: range as u64 }
    }

    /// A received tree node; `None` if the tree has no such node.
    pub fn new(count: RangeCount, bits: u32, path: u64) -> Option<TreeNode> {
        let below_ranges = bits >= count.bits() && (bits - count.bits()).is_multiple_of(CHILD_BITS);
        let exists = bits == count.group_bits() || (below_ranges && bits <= PATH_BITS);
        (exists && path >> bits == 0).then_some(TreeNode { bits, path })
    }

    /// How many leading bits the tree node fixes.
    pub fn bits(self) -> u32 {
        self.bits
    }

    /// The leading bits that the tree node fixes.
    pub fn path(self) -> u64 {
        self.path
    }

    /// Whether a key with this hash is below the tree node.
    pub fn contains(self, key_hash: u64) -> bool {
        (key_hash << TAG_BITS) >> (u64::BITS - self.bits) == self.path
    }

    /// Whether the tree node consists of whole ranges: it is a group or a range.
    pub fn is_of_ranges(self, count: RangeCount) -> bool {
        self.bits <= count.bits()
    }

    /// The ranges that hold the tree node's keys: all ranges of a group, or the one that the tree node lies in.
    pub fn ranges(self, count: RangeCount) -> std::ops::Range<usize> {
        let place = |path: u64| usize::try_from(path).expect("a range count fits the address space");
        if self.bits < count.bits() {
            let below = count.bits() - self.bits;
            place(self.path << below)..place((self.path + 1) << below)
        } else {
            let range = place(self.path >> (self.bits - count.bits()));
            range..range + 1
        }
    }

    /// The 32 bits of a key's hash that follow those that a group fixes: the first are those of its range.
    pub fn brief_hash(self, key_hash: u64) -> u32 {
        ((key_hash << (TAG_BITS + self.bits)) >> 32) as u32
    }

    /// The index of the range of a group that contains the keys with this [brief hash](Self::brief_hash).
    pub fn child_of_brief(self, count: RangeCount, brief: u32) -> usize {
        (u64::from(brief) << self.child_bits(count).unwrap_or(0) >> 32) as usize
    }

    /// How many bits a child fixes beyond its parent; `None` at the bottom of the tree.
    fn child_bits(self, count: RangeCount) -> Option<u32> {
        if self.bits < count.bits() {
            return Some(count.bits() - self.bits);
        }
        (self.bits + CHILD_BITS <= PATH_BITS).then_some(CHILD_BITS)
    }

    /// The number of children; 0 at the bottom of the tree.
    pub fn fan_out(self, count: RangeCount) -> usize {
        self.child_bits(count).map_or(0, |bits| 1 << bits)
    }

    /// The child with this index; `None` if the tree node has no such child.
    pub fn child(self, count: RangeCount, index: usize) -> Option<TreeNode> {
        let more = self.child_bits(count)?;
        let (bits, index) = (self.bits + more, index as u64);
        (index >> more == 0).then_some(TreeNode { bits, path: (self.path << more) | index })
    }

    /// The index of the child that contains a key below this tree node; 0 at the bottom.
    pub fn child_of(self, count: RangeCount, key_hash: u64) -> usize {
        let Some(more) = self.child_bits(count) else { return 0 };
        let bits = (key_hash << TAG_BITS) >> (u64::BITS - self.bits - more);
        usize::try_from(bits & ((1 << more) - 1)).expect("an index of a child is small")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn every_key_lies_in_exactly_one_child_of_each_prefix_above_it(hash: u64, bits in 2..=14u32) {
            let count = RangeCount::power_of_two(bits);
            let mut tree_node = TreeNode::groups(count).find(|group| group.contains(hash)).unwrap();
            loop {
                prop_assert!(tree_node.ranges(count).contains(&count.range_of(hash)));
                prop_assert_eq!(TreeNode::new(count, tree_node.bits(), tree_node.path()), Some(tree_node));
                let children = (0..tree_node.fan_out(count)).map(|n| tree_node.child(count, n).unwrap());
                let mut holding = children.enumerate().filter(|(_, child)| child.contains(hash));
                let Some((index, child)) = holding.next() else { break };
                prop_assert_eq!(index, tree_node.child_of(count, hash));
                if tree_node.bits() < bits {
                    prop_assert_eq!(index, tree_node.child_of_brief(count, tree_node.brief_hash(hash)));
                }
                prop_assert!(holding.next().is_none());
                tree_node = child;
            }
            prop_assert!(tree_node.bits() > PATH_BITS - CHILD_BITS);
        }
    }

    #[test]
    fn the_full_tree_has_128_groups_of_128_ranges_of_16_children() {
        let count = RangeCount::FULL;
        let group = TreeNode::groups(count).last().unwrap();
        assert_eq!((group.path(), group.fan_out(count)), (127, 128));
        let range = group.child(count, 5).unwrap();
        assert_eq!(range, TreeNode::of_range(count, 127 * 128 + 5));
        assert_eq!((range.fan_out(count), range.ranges(count).len()), (16, 1));
        assert_eq!(group.ranges(count), 127 * 128..128 * 128);
    }

    #[test]
    fn what_is_no_node_of_the_tree_is_none() {
        let count = RangeCount::FULL;
        assert!(TreeNode::new(count, 7, 128).is_none());
        assert!(TreeNode::new(count, 15, 0).is_none());
        assert!(TreeNode::new(count, 58, 0).is_none());
        assert!(TreeNode::new(count, 64, 0).is_none());
        assert!(TreeNode::new(count, u32::MAX, 0).is_none());
        assert!(TreeNode::new(count, 18, 1 << 18).is_none());
    }
}
