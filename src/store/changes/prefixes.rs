//! Sets of key prefixes, and a map that finds all prefixes of a key.

/// The most prefixes of one follower: each change that is read is compared with all of them.
pub const MAX_PREFIXES: usize = 64;

/// The most bytes of one follower's prefixes: as many as the longest key has by default.
const MAX_BYTES: usize = 64 << 10;

/// The error of more than [`MAX_PREFIXES`] prefixes, or more than 64 KiB of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("more than {MAX_PREFIXES} prefixes, or {MAX_BYTES} bytes of them")]
pub struct TooManyPrefixes;

/// The keys to follow: those that begin with one of these prefixes.
///
/// The prefixes are sorted, and none is the beginning of another.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Prefixes(Box<[Box<[u8]>]>);

impl Prefixes {
    /// The keys that begin with one of `prefixes`; the empty prefix is every key.
    ///
    /// # Errors
    /// [`TooManyPrefixes`]; prefixes that others cover count too.
    pub fn new(prefixes: &[&[u8]]) -> Result<Prefixes, TooManyPrefixes> {
        if prefixes.len() > MAX_PREFIXES
            || prefixes.iter().map(|prefix| prefix.len()).sum::<usize>() > MAX_BYTES
        {
            return Err(TooManyPrefixes);
        }
        let mut sorted = prefixes.to_vec();
        sorted.sort_unstable();
        // The prefixes that another one covers follow directly after it.
        sorted.dedup_by(|next, kept| next.starts_with(kept));
        Ok(Prefixes(sorted.into_iter().map(Box::from).collect()))
    }

    /// Every key.
    pub fn all() -> Prefixes {
        Prefixes([Box::default()].into())
    }

    /// Whether the key begins with one of them.
    pub fn cover(&self, key: &[u8]) -> bool {
        let after = self.0.partition_point(|prefix| &**prefix <= key);
        after > 0 && key.starts_with(&self.0[after - 1])
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &[u8]> {
        self.0.iter().map(|prefix| &**prefix)
    }
}

/// A map from prefixes to values that finds the values of all prefixes of a key in one search.
pub(super) struct PrefixMap<T> {
    /// Sorted by prefix.
    entries: Vec<Entry<T>>,
}

struct Entry<T> {
    prefix: Box<[u8]>,
    /// The index of the longest other prefix that this one begins with.
    parent: Option<usize>,
    value: T,
}

impl<T> Default for PrefixMap<T> {
    fn default() -> Self {
        PrefixMap { entries: Vec::new() }
    }
}

impl<T> PrefixMap<T> {
    pub(super) fn entry(&mut self, prefix: &[u8], fresh: impl FnOnce() -> T) -> &mut T {
        let at = match self.place(prefix) {
            Ok(at) => at,
            Err(at) => {
                self.entries.insert(at, Entry { prefix: prefix.into(), parent: None, value: fresh() });
                self.relate();
                at
            }
        };
        &mut self.entries[at].value
    }

    pub(super) fn get(&self, prefix: &[u8]) -> Option<&T> {
        self.place(prefix).ok().map(|at| &self.entries[at].value)
    }

    pub(super) fn at(&mut self, prefix: &[u8]) -> Option<&mut T> {
        self.place(prefix).ok().map(|at| &mut self.entries[at].value)
    }

    pub(super) fn len(&self) -> usize {
        self.entries.len()
    }

    pub(super) fn remove(&mut self, prefix: &[u8]) {
        if let Ok(at) = self.place(prefix) {
            self.entries.remove(at);
            self.relate();
        }
    }

    /// Calls `visit` with the values of all prefixes of `key`.
    pub(super) fn visit(&mut self, key: &[u8], mut visit: impl FnMut(&mut T)) {
        // The last prefix that does not sort after `key`, and its parents, include every prefix of `key`: whatever
        // sorts between a prefix of `key` and `key` has that prefix too.
        let mut at = self.entries.partition_point(|entry| &*entry.prefix <= key).checked_sub(1);
        while let Some(place) = at {
            let entry = &mut self.entries[place];
            if key.starts_with(&entry.prefix) {
                visit(&mut entry.value);
            }
            at = entry.parent;
        }
    }

    pub(super) fn values_mut(&mut self) -> impl Iterator<Item = &mut T> {
        self.entries.iter_mut().map(|entry| &mut entry.value)
    }

    /// The length of the longest chain of nested prefixes through `prefix`, if that were inserted.
    pub(super) fn depth_with(&self, prefix: &[u8]) -> usize {
        let above =
            self.entries.iter().filter(|entry| *entry.prefix != *prefix && prefix.starts_with(&entry.prefix));
        above.count() + 1 + self.deepest_below(prefix)
    }

    fn deepest_below(&self, prefix: &[u8]) -> usize {
        let start = self.entries.partition_point(|entry| *entry.prefix <= *prefix);
        let mut open: Vec<&[u8]> = Vec::new();
        let mut deepest = 0;
        for entry in self.entries[start..].iter().take_while(|entry| entry.prefix.starts_with(prefix)) {
            while open.last().is_some_and(|above| !entry.prefix.starts_with(above)) {
                open.pop();
            }
            open.push(&entry.prefix);
            deepest = deepest.max(open.len());
        }
        deepest
    }

    fn place(&self, prefix: &[u8]) -> Result<usize, usize> {
        self.entries.binary_search_by(|entry| (*entry.prefix).cmp(prefix))
    }

    fn relate(&mut self) {
        let mut open: Vec<usize> = Vec::new();
        for at in 0..self.entries.len() {
            while open
                .last()
                .is_some_and(|&above| !self.entries[at].prefix.starts_with(&self.entries[above].prefix))
            {
                open.pop();
            }
            self.entries[at].parent = open.last().copied();
            open.push(at);
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn word() -> impl Strategy<Value = Vec<u8>> {
        proptest::collection::vec(prop_oneof![Just(b'a'), Just(b'b'), Just(0xff)], 0..5)
    }

    proptest! {
        #[test]
        fn a_set_covers_what_one_of_its_prefixes_covers(
            words in proptest::collection::vec(word(), 0..6),
            key in word(),
        ) {
            let words: Vec<&[u8]> = words.iter().map(Vec::as_slice).collect();
            let set = Prefixes::new(&words).unwrap();
            prop_assert_eq!(set.cover(&key), words.iter().any(|word| key.starts_with(word)));
            let kept: Vec<&[u8]> = set.iter().collect();
            for (n, one) in kept.iter().enumerate() {
                prop_assert!(kept.iter().enumerate().all(|(m, other)| n == m || !other.starts_with(one)));
            }
        }

        #[test]
        fn a_key_finds_all_its_prefixes(
            words in proptest::collection::vec(word(), 0..12),
            removed in proptest::collection::vec(word(), 0..4),
            key in word(),
        ) {
            let mut map = PrefixMap::default();
            for word in &words {
                map.entry(word, || word.clone());
            }
            for word in &removed {
                map.remove(word);
            }
            let mut found = Vec::new();
            map.visit(&key, |word| found.push(word.clone()));
            found.sort();
            let mut expected: Vec<_> =
                words.into_iter().filter(|word| key.starts_with(word) && !removed.contains(word)).collect();
            expected.sort();
            expected.dedup();
            prop_assert_eq!(found, expected);
        }
    }

    #[test]
    fn the_depth_is_that_of_the_longest_chain() {
        let mut map = PrefixMap::default();
        for word in ["", "a", "ab", "abc", "ac", "b"] {
            map.entry(word.as_bytes(), || ());
        }
        for (word, depth) in
            [("", 4), ("a", 4), ("abc", 4), ("abcd", 5), ("ac", 3), ("aa", 3), ("b", 2), ("c", 2)]
        {
            assert_eq!(map.depth_with(word.as_bytes()), depth, "{word}");
        }
    }

    #[test]
    fn more_prefixes_than_the_limit_are_refused() {
        let prefix: &[u8] = b"p";
        assert_eq!(Prefixes::new(&[prefix; MAX_PREFIXES]).unwrap().iter().count(), 1);
        assert_eq!(Prefixes::new(&[prefix; MAX_PREFIXES + 1]), Err(TooManyPrefixes));
        assert_eq!(Prefixes::new(&[&[0; MAX_BYTES], prefix]), Err(TooManyPrefixes));
    }
}
