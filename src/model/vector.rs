//! A summary vector: up to which time a node has incorporated the writes of each member.

use std::collections::BTreeMap;

use super::timestamp::{Incarnation, Time, ZERO};

/// For each incarnation, the time up to which its whole state is incorporated (a version vector: Parker et al., 1983).
///
/// `vector[c] = t` means: everything that `c` held at `t`, whoever wrote it, is incorporated here. Only a completed
/// sync proves that. A push does not, because an earlier push may have been lost.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Vector(BTreeMap<Incarnation, Time>);

impl Vector {
    /// The time up to which everything of `incarnation` is incorporated; [`ZERO`] if it has no entry.
    pub fn time_of(&self, incarnation: Incarnation) -> Time {
        self.0.get(&incarnation).copied().unwrap_or(ZERO)
    }

    /// Raises the entry of `incarnation` to `time`; returns whether it rose.
    pub fn raise(&mut self, incarnation: Incarnation, time: Time) -> bool {
        let known = self.0.entry(incarnation).or_insert(ZERO);
        let news = time > *known;
        *known = time.max(*known);
        news
    }

    /// Raises every entry to that of `other`, if that is later; returns whether any rose.
    pub fn join(&mut self, other: &Vector) -> bool {
        other.iter().fold(false, |news, (incarnation, time)| self.raise(incarnation, time) || news)
    }

    /// Every entry, by incarnation.
    pub fn iter(&self) -> impl Iterator<Item = (Incarnation, Time)> {
        self.0.iter().map(|(&incarnation, &time)| (incarnation, time))
    }

    /// Keeps only the entries of the incarnations for which `keep` returns true.
    pub fn retain(&mut self, keep: impl Fn(Incarnation) -> bool) {
        self.0.retain(|&incarnation, _| keep(incarnation));
    }
}

impl FromIterator<(Incarnation, Time)> for Vector {
    fn from_iter<T: IntoIterator<Item = (Incarnation, Time)>>(entries: T) -> Self {
        let mut vector = Vector::default();
        for (incarnation, time) in entries {
            vector.raise(incarnation, time);
        }
        vector
    }
}

#[cfg(test)]
mod tests {
    use super::super::timestamp::incarnation;
    use super::*;
    use crate::model::Time;

    #[test]
    fn joining_takes_the_later_time_of_each() {
        let id = |n| incarnation(n).unwrap();
        let mut ours = Vector::from_iter([(id(1), Time(5)), (id(2), Time(9))]);
        let theirs = Vector::from_iter([(id(1), Time(7)), (id(2), Time(3)), (id(3), Time(1))]);
        assert!(ours.join(&theirs));
        assert!(!ours.join(&theirs));
        let expected = [(id(1), Time(7)), (id(2), Time(9)), (id(3), Time(1))];
        assert_eq!(ours.iter().collect::<Vec<_>>(), expected);
        assert_eq!(ours.time_of(id(4)), ZERO);
    }
}
