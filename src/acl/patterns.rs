//! Names and prefixes that are looked up in logarithmic time.

/// A set of exact names and of prefixes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Patterns {
    /// Sorted.
    exact: Vec<Box<[u8]>>,
    /// Sorted, and none is a prefix of another: so only the last one that is not after a name can match it.
    prefixes: Vec<Box<[u8]>>,
}

/// One pattern as a rule gives it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Pattern<'a> {
    Exact(&'a [u8]),
    Prefix(&'a [u8]),
}

impl<'a> Pattern<'a> {
    /// Parses a name, or a prefix that ends in `*`; `None` if it is another glob.
    pub(super) fn parse(text: &'a str) -> Option<Self> {
        let (body, is_prefix) = text.strip_suffix('*').map_or((text, false), |body| (body, true));
        if body.contains(['*', '?', '[', ']', '\\']) {
            return None;
        }
        Some(if is_prefix { Pattern::Prefix(body.as_bytes()) } else { Pattern::Exact(body.as_bytes()) })
    }
}

impl<'a> FromIterator<Pattern<'a>> for Patterns {
    fn from_iter<I: IntoIterator<Item = Pattern<'a>>>(patterns: I) -> Self {
        let (mut exact, mut all): (Vec<Box<[u8]>>, Vec<&[u8]>) = (Vec::new(), Vec::new());
        for pattern in patterns {
            match pattern {
                Pattern::Exact(name) => exact.push(name.into()),
                Pattern::Prefix(prefix) => all.push(prefix),
            }
        }
        exact.sort_unstable();
        exact.dedup();
        all.sort_unstable();
        let mut prefixes: Vec<Box<[u8]>> = Vec::new();
        for prefix in all {
            if prefixes.last().is_none_or(|last| !prefix.starts_with(last)) {
                prefixes.push(prefix.into());
            }
        }
        Patterns { exact, prefixes }
    }
}

impl Patterns {
    /// Whether a pattern matches the name.
    pub(super) fn matches(&self, name: &[u8]) -> bool {
        self.match_all_under(name) || self.exact.binary_search_by(|exact| (**exact).cmp(name)).is_ok()
    }

    /// Whether every name that begins with `prefix` matches.
    pub(super) fn match_all_under(&self, prefix: &[u8]) -> bool {
        let after = self.prefixes.partition_point(|other| **other <= *prefix);
        after.checked_sub(1).is_some_and(|last| prefix.starts_with(&self.prefixes[last]))
    }
}
